"""Answers that are errors, asks that nobody handles, waits for an end, one-shot tasks, topics, limits and looks inside."""

from __future__ import annotations

import contextlib
import gc
import math
import weakref
from typing import Any

import attrs
import pytest
import trio

from actors import (
    Actor,
    ActorFailed,
    ActorStopped,
    AskCycle,
    ChildSpec,
    DeclarationError,
    Failure,
    Redelivery,
    Request,
    RestartType,
    StopReason,
    Supervision,
    SupervisionError,
    TooManyChildren,
    Unhandled,
    UsageError,
    supervisor_spec,
)
from runtime import ActorCrashed, DeadReason
from runtime.testing import Simulation, explore, find_failure, no_orphans
from runtime.testing.schedules.search import Exploration
from tests.runtime.cast import AT_ONCE, PATIENT, Boom, Does, Echo, Recorder, settled, stage

# --- an answer that is an error ---------------------------------------------------------------------------------------


class Breaker(Actor):
    """Opens after two failures; its state lives on, because a failure is an answer."""

    def __init__(self, how: str) -> None:
        self.how = how
        self.failures = 0

    async def receive(self, message: Any) -> Any:
        if self.failures >= 2:
            return "open"
        self.failures += 1
        error = Boom(f"failure {self.failures}")
        if self.how == "return":
            return Failure(error)
        if self.how == "fail":
            self.context.fail(error)
            return "not sent"
        self.context.reply_later().send(Failure(error))
        return None


@pytest.mark.parametrize("how", ["return", "fail", "reply"])
async def test_f7_a_failure_is_an_answer_and_the_actor_keeps_its_state(how, autojump_clock):
    events: list[Any] = []
    async with stage(instruments=[events.append]) as runtime:
        breaker = await runtime.spawn(Breaker, how)

        for number in (1, 2):
            with pytest.raises(ActorFailed, match=f"Boom: failure {number}") as caught:
                await breaker.ask("call")
            assert repr(caught.value.__cause__) == f"Boom('failure {number}')"
        assert await breaker.ask("call") == "open"
        assert breaker.statistics().restarts == 0
        assert list(runtime.dead_letters) == []
    assert not any(isinstance(event, ActorCrashed) for event in events)


@pytest.mark.parametrize("how", ["return", "fail", "reply"])
async def test_f7_a_failure_that_nobody_waits_for_is_a_dead_letter(how, autojump_clock):
    async with stage() as runtime:
        breaker = await runtime.spawn(Breaker, how)
        await breaker.tell("call")
        await settled()

        [letter] = runtime.dead_letters
        assert (letter.reason, letter.message, repr(letter.error)) == (DeadReason.FAILED, "call", "Boom('failure 1')")


async def test_f7_a_failure_is_not_tried_again(autojump_clock):
    seen: list[Any] = []

    async def answer(actor: Actor, message: Any) -> Any:
        seen.append(message)
        return Failure(OSError("down"))

    async with stage(supervision=PATIENT) as runtime:
        ref = await runtime.spawn(Does, answer, redelivery=Redelivery(max_attempts=5))
        with pytest.raises(ActorFailed):
            await ref.ask("once")

    assert seen == ["once"]


async def test_f7_only_an_exception_can_be_a_failure(autojump_clock):
    with pytest.raises(DeclarationError, match=r"^Failure\(error='no'\): expected an Exception"):
        Failure("no")  # type: ignore[arg-type]

    async def handle(actor: Actor, message: Any) -> Any:
        actor.context.fail(message)

    async with stage() as runtime:
        ref = await runtime.spawn(Does, handle)
        with pytest.raises(ActorFailed) as caught:
            await ref.ask("no error")
    assert isinstance(caught.value.__cause__, DeclarationError)


async def test_f7_fail_needs_a_message_in_hand_and_answers_once(autojump_clock):
    heard: list[Any] = []

    async def handle(actor: Actor, message: Any) -> Any:
        actor.context.fail(Boom("first"))
        for call in (lambda: actor.context.fail(Boom("second")), lambda: actor.context.unhandled(message)):
            try:
                call()
            except UsageError as error:
                heard.append(str(error).splitlines()[0])

    async with stage() as runtime:
        ref = await runtime.spawn(Does, handle, name="a")
        with pytest.raises(ActorFailed, match="first"):
            await ref.ask("x")
    assert heard == [
        f"'a' called {call}(), and has no current message that is not stashed or promised a reply already."
        for call in ("fail", "unhandled")
    ]


# --- whether the asker still waits ------------------------------------------------------------------------------------


class Clerk(Actor):
    def __init__(self, replies: list[Any]) -> None:
        self.replies = replies

    async def receive(self, message: Any) -> None:
        self.replies.append(self.context.reply_later())


@pytest.mark.parametrize("detach", [False, True])
async def test_f7_a_reply_is_wanted_while_its_asker_waits(detach, autojump_clock):
    replies: list[Any] = []
    async with stage() as runtime:
        clerk = await runtime.spawn(Clerk, replies)
        with trio.move_on_after(1):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(lambda: clerk.ask("?", detach=detach))
                await settled()
                assert replies[0].wanted
                await trio.sleep_forever()
        assert not replies[0].wanted


async def test_f7_a_reply_is_not_wanted_once_it_was_sent_or_for_a_tell(autojump_clock):
    replies: list[Any] = []
    async with stage() as runtime:
        clerk = await runtime.spawn(Clerk, replies)
        await clerk.tell("told")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(clerk.ask, "asked")
            await settled()
            assert [reply.wanted for reply in replies] == [False, True]
            replies[1].send("answer")
            assert not replies[1].wanted


# --- waiting for an end -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("end", "reason", "error"),
    [("stop", StopReason.STOPPED, "None"), ("finish", StopReason.FINISHED, "None"), ("fail", StopReason.FAILED, "Boom()")],
)
async def test_f7_a_host_waits_for_the_end_of_an_actor_and_hears_why(end, reason, error, autojump_clock):
    async with stage() as runtime:
        restart = RestartType.TEMPORARY
        ref = await runtime.spawn(Recorder, [], restart=restart)
        heard: list[Any] = []

        async def wait() -> None:
            heard.append(await ref.ended())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            nursery.start_soon(wait)
            await settled()
            assert heard == []
            if end == "stop":
                await runtime.stop(ref)
            else:
                ref.tell_nowait(("stop",) if end == "finish" else ("raise", Boom()))
        heard.append(await ref.ended())

        assert [(each.ref is ref, each.reason, repr(each.error)) for each in heard] == [(True, reason, error)] * 3


async def test_f7_a_restart_is_not_the_end_and_a_cancelled_wait_leaves_nothing(autojump_clock):
    async with stage() as runtime:
        ref = await runtime.spawn(Recorder, [])
        with trio.move_on_after(10) as scope:
            ref.tell_nowait(("raise", Boom()))
            await ref.ended()

        assert scope.cancelled_caught
        assert ref.statistics().restarts == 1
        assert not ref.cell._watchers


async def test_f7_a_host_waits_for_the_end_of_a_supervisor(autojump_clock):
    async with stage() as runtime:
        supervisor = await runtime.supervise([ChildSpec("a", Echo)], name="s")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(runtime.stop, supervisor)
            ended = await supervisor.ended()

        assert (ended.ref, ended.reason) == (supervisor, StopReason.STOPPED)


async def test_f7_an_actor_cannot_wait_for_its_own_end_or_that_of_what_it_lives_in(autojump_clock):
    async def handle(actor: Actor, message: Any) -> Any:
        await message.ended()

    async with stage(supervision=PATIENT) as runtime:
        supervisor = await runtime.supervise([ChildSpec("a", Does, (handle,))], PATIENT, name="s")
        ref = runtime.whereis("s/a")
        for whose in (ref, supervisor):
            with pytest.raises(ActorFailed) as caught:
                await ref.ask(whose)
            assert isinstance(caught.value.__cause__, UsageError)
            assert "with which it ends itself" in str(caught.value.__cause__)


async def test_f7_a_ring_through_a_wait_for_an_end_is_named(autojump_clock):
    """a waits for the end of b in its handler, and b asks a."""

    async def wait(actor: Actor, message: Any) -> Any:
        return await message.ended() if hasattr(message, "ended") else message

    async def ask(actor: Actor, message: Any) -> Any:
        await trio.sleep(1)
        return await message.ask("are you there?")

    async with stage(supervision=PATIENT) as runtime:
        a = await runtime.spawn(Does, wait, name="a")
        b = await runtime.spawn(Does, ask, name="b")
        a.tell_nowait(b)
        with pytest.raises(ActorFailed) as caught:
            await b.ask(a)

        assert isinstance(caught.value.__cause__, AskCycle)
        assert caught.value.__cause__.cycle == ("b", "a", "b")


def test_f7_a_report_of_a_deadlock_names_whose_end_is_waited_for():
    async def stuck(sim: Simulation) -> None:
        async with sim.open_runtime() as runtime:
            await (await runtime.spawn(Echo, name="immortal")).ended()

    found = find_failure(stuck, Exploration(runs=1, shrink_attempts=0))

    assert found is not None
    assert "waits for the end of 'immortal'" in str(found.error)


# --- messages that nobody handles -------------------------------------------------------------------------------------


@attrs.frozen
class Price(Request[float]):
    item: str


@attrs.frozen
class Note(Request[None]):
    text: str


@attrs.frozen
class Find(Request[str | None]):
    key: str


class Shop(Actor):
    def __init__(self, last: str) -> None:
        self.last = last

    async def receive(self, message: Any) -> Any:
        match message:
            case "how many":
                return 3
            case _ if self.last == "unhandled":
                self.context.unhandled(message)
            case _ if self.last == "super":
                return await super().receive(message)
            case _:
                pass


@pytest.mark.parametrize("last", ["unhandled", "super", "nothing"])
async def test_f7_an_ask_that_an_actor_does_not_know_is_told_and_filed(last, autojump_clock):
    async with stage() as runtime:
        shop = await runtime.spawn(Shop, last, name="shop")
        with pytest.raises(Unhandled, match=r"^'shop' .* a Price message") as caught:
            await shop.ask(Price("tea"))

        [letter] = runtime.dead_letters
        assert (letter.recipient, letter.reason, letter.message) == ("shop", DeadReason.UNHANDLED, Price("tea"))
        assert isinstance(letter.error, Unhandled)
        assert isinstance(caught.value, ActorFailed)
        assert await shop.ask("how many") == 3
        assert shop.statistics().incarnation == 1


@pytest.mark.parametrize("last", ["unhandled", "super"])
async def test_f7_a_told_message_that_an_actor_does_not_know_is_filed(last, autojump_clock):
    async with stage() as runtime:
        shop = await runtime.spawn(Shop, last)
        await shop.tell("what?")
        await settled()

        [letter] = runtime.dead_letters
        assert (letter.reason, letter.message) == (DeadReason.UNHANDLED, "what?")


@pytest.mark.parametrize("message", [Note("x"), Find("x"), "plain"])
async def test_f7_none_is_an_answer_to_what_may_be_answered_with_it(message, autojump_clock):
    async with stage() as runtime:
        shop = await runtime.spawn(Shop, "nothing")

        assert await shop.ask(message) is None
        assert list(runtime.dead_letters) == []


async def test_f7_an_actor_still_has_to_have_a_receive(autojump_clock):
    class Silent(Actor):
        pass

    async with stage() as runtime:
        with pytest.raises(DeclarationError, match="receive"):
            await runtime.spawn(Silent)


# --- one-shot tasks ---------------------------------------------------------------------------------------------------


async def double(number: int) -> int:
    await trio.sleep(1)
    return 2 * number


async def explode() -> None:
    raise Boom("task")


async def test_f7_a_task_runs_once_beside_its_caller_and_has_a_result(autojump_clock):
    async with stage() as runtime:
        handle = await runtime.task(double, 21)
        assert trio.current_time() < 1
        assert runtime.whereis("double-1") is handle.ref

        assert [await handle.result(), await handle.result()] == [42, 42]
        assert (await handle.ended()).reason is StopReason.FINISHED
        assert runtime.whereis("double-1") is None
        assert await runtime.supervise([]) is not None


async def test_f7_many_tasks_that_wait_for_one_result_all_get_it(autojump_clock):
    found: list[Any] = []
    async with stage() as runtime:
        handle = await runtime.task(double, 1)

        async def wait() -> None:
            found.append(await handle.result())

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(wait)
            with trio.move_on_after(0.5):
                await handle.result()

    assert found == [2, 2, 2]


async def test_f7_a_task_that_fails_is_not_restarted_and_ends_nothing_else(autojump_clock):
    async with stage(supervision=Supervision(max_restarts=0)) as runtime:
        handle = await runtime.task(explode, name="bad")
        with pytest.raises(ActorFailed, match="Boom: task") as caught:
            await handle.result()
        ended = await handle.ended()

        assert isinstance(caught.value.__cause__, Boom)
        assert (ended.reason, repr(ended.error)) == (StopReason.FAILED, "Boom('task')")
        assert [(letter.recipient, letter.message.function) for letter in runtime.dead_letters] == [("bad", "explode")]
        assert await (await runtime.spawn(Echo)).ask(1) == 1


async def test_f7_a_task_is_cancelled_by_its_handle_and_stopped_with_its_time(autojump_clock):
    async with stage() as runtime:
        handle = await runtime.task(trio.sleep_forever)
        await handle.cancel()
        await handle.cancel()
        with pytest.raises(ActorStopped):
            await handle.result()
        assert trio.current_time() < 0.1

        patient = await runtime.task(double, 4, shutdown_s=10)
        await runtime.stop(patient.ref)
        assert await patient.result() == 8


async def test_f7_a_task_ends_with_the_runtime(autojump_clock):
    async with stage() as runtime:
        quick = await runtime.task(double, 2)
        slow = await runtime.task(trio.sleep_forever, shutdown_s=3)

    assert await quick.result() == 4
    with pytest.raises(ActorStopped):
        await slow.result()
    assert trio.current_time() < 5


def not_async() -> int:
    return 1


async def test_f7_what_is_no_async_function_is_refused_with_what_to_write(autojump_clock):
    async with stage() as runtime:
        with pytest.raises(UsageError, match="pass it, do not call it"):
            await runtime.task(double(1))
        handle = await runtime.task(not_async)
        with pytest.raises(ActorFailed) as caught:
            await handle.result()
        assert "task(not_async): it returned int, expected" in str(caught.value.__cause__)


async def test_f7_a_task_cannot_wait_for_itself(autojump_clock):
    handles: list[Any] = []
    errors: list[Exception] = []

    async def wait() -> None:
        await trio.sleep(1)
        for call in (handles[0].result, handles[0].cancel, handles[0].ended):
            try:
                await call()
            except UsageError as error:
                errors.append(error)

    async with stage() as runtime:
        handles.append(await runtime.task(wait))
        await handles[0].result()

    assert [type(error) for error in errors] == [AskCycle, UsageError, UsageError]


async def test_f7_what_a_task_was_given_dies_with_it(autojump_clock):
    class Heavy:
        pass

    async def use(heavy: Any) -> None:
        raise Boom

    async with stage() as runtime:
        heavy = Heavy()
        alive = weakref.ref(heavy)
        handle = await runtime.task(use, heavy)
        await handle.ended()
        await settled()
        del heavy, handle
        gc.collect()

        assert alive() is None


@explore(runs=200)
async def test_f7_a_task_whose_start_is_cancelled_leaves_nothing(sim: Simulation) -> None:
    begun: list[str] = []

    async def work() -> None:
        begun.append("begun")
        await trio.sleep_forever()

    with no_orphans():
        async with sim.open_runtime() as runtime:
            handles: list[Any] = []
            scope = trio.CancelScope()

            async def start() -> None:
                with scope:
                    handles.append(await runtime.task(work, name="work"))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(start)
                for _ in range(sim.choose(6)):
                    await trio.lowlevel.checkpoint()
                scope.cancel()

            for handle in handles:
                assert begun == ["begun"]
                await handle.cancel()
            assert runtime.whereis("work") is None
            again = await runtime.task(double, 1, name="work")
            assert await again.result() == 2


@explore(runs=200)
async def test_f7_a_failure_answers_or_is_filed_whenever_the_asker_goes_away(sim: Simulation) -> None:
    async def answer(actor: Actor, message: Any) -> Any:
        await trio.lowlevel.checkpoint()
        if message == "return":
            return Failure(Boom("answer"))
        actor.context.fail(Boom("answer"))
        return await trio.lowlevel.checkpoint()

    async with sim.open_runtime() as runtime:
        ref = await runtime.spawn(Does, answer)
        ends: list[str] = []
        scope = trio.CancelScope()
        how, detach = ("return", "fail")[sim.choose(2)], bool(sim.choose(2))

        async def ask() -> None:
            with scope:
                try:
                    await ref.ask(how, detach=detach)
                except ActorFailed:
                    ends.append("failed")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            for _ in range(sim.choose(8)):
                await trio.lowlevel.checkpoint()
            scope.cancel()
        await trio.sleep(1)

        assert len(ends) + len(runtime.dead_letters) <= 1
        assert ends or runtime.dead_letters or scope.cancelled_caught
        assert ref.statistics().incarnation == 1


# --- topics -----------------------------------------------------------------------------------------------------------


async def test_f7_a_topic_narrows_what_is_received(autojump_clock):
    async with stage() as runtime:
        logs: dict[str, list[Any]] = {name: [] for name in ("sport", "all", "texts")}
        refs = {name: await runtime.spawn(Recorder, log, name=name) for name, log in logs.items()}
        runtime.subscribe(str, refs["sport"], topic="sport")
        runtime.subscribe(object, refs["all"], topic=("news", 1))
        runtime.subscribe(str, refs["texts"])

        counts = [
            runtime.publish("goal", topic="sport"),
            runtime.publish("plain"),
            runtime.publish(7, topic=("news", 1)),
            runtime.publish("headline", topic=("news", 1)),
            runtime.publish(7, topic="sport"),
        ]
        await settled()

        heard = {name: [text for _, text in log if text != "+"] for name, log in logs.items()}
        assert counts == [2, 1, 1, 2, 0]
        assert heard == {"sport": ["goal"], "all": ["7", "headline"], "texts": ["goal", "plain", "headline"]}


async def test_f7_who_subscribed_twice_to_what_is_published_gets_it_once(autojump_clock):
    async with stage() as runtime:
        heard: list[Any] = []
        ref = await runtime.spawn(Recorder, heard)
        for kind, topic in ((str, None), (object, "t"), (str, "t")):
            runtime.subscribe(kind, ref, topic=topic)
        assert runtime.publish("x", topic="t") == 1

        runtime.unsubscribe(str, ref)
        runtime.unsubscribe(object, ref, topic="t")
        assert [runtime.publish("x", topic="t"), runtime.publish("x")] == [1, 0]
        await runtime.stop(ref)
        assert runtime.publish("x", topic="t") == 0
        assert not runtime._bus._by_key


async def test_f7_a_topic_in_the_place_of_a_type_is_refused_with_what_to_write(autojump_clock):
    async with stage() as runtime:
        ref = await runtime.spawn(Echo)
        with pytest.raises(UsageError, match=r"subscribe\(object, ref, topic='sport'\)"):
            runtime.subscribe("sport", ref)


# --- a limit of children ----------------------------------------------------------------------------------------------


async def test_f7_a_supervisor_refuses_more_children_than_its_limit(autojump_clock):
    async with stage() as runtime:
        limited = Supervision(max_children=2, backoff=attrs.evolve(AT_ONCE, first_s=30))
        supervisor = await runtime.supervise([ChildSpec("a", Recorder, ([],))], limited, name="s")
        await supervisor.start_child(ChildSpec("t", Recorder, ([],), restart=RestartType.TEMPORARY))
        runtime.whereis("s/a").tell_nowait(("raise", Boom()))
        await settled()
        with pytest.raises(TooManyChildren, match="max_children is 2, so it does not start 'b'") as caught:
            await supervisor.start_child(ChildSpec("b", Echo))
        assert isinstance(caught.value, SupervisionError)
        assert caught.value.child_id == "b"

        await runtime.whereis("s/t").tell(("stop",))
        await settled()
        await supervisor.start_child(ChildSpec("b", Echo))
        await supervisor.terminate_child("b")
        with pytest.raises(TooManyChildren, match="1 of them stopped"):
            await supervisor.start_child(ChildSpec("c", Echo))
        await supervisor.restart_child("b")


@pytest.mark.parametrize("limit", [0, math.inf])
async def test_f7_a_limit_of_0_and_none_at_all(limit, autojump_clock):
    async with stage() as runtime:
        supervisor = await runtime.supervise([], Supervision(max_children=limit))
        with contextlib.suppress(TooManyChildren):
            await supervisor.start_child(ChildSpec("a", Echo))

        assert (await supervisor.count_children()).specs == (0 if limit == 0 else 1)


async def test_f7_a_limit_is_checked_where_it_is_declared():
    with pytest.raises(DeclarationError, match="2 are given, and max_children is 1"):
        supervisor_spec("s", [ChildSpec("a", Echo), ChildSpec("b", Echo)], Supervision(max_children=1))
    with pytest.raises(DeclarationError, match="max_children"):
        Supervision(max_children=-1)


# --- a look inside ----------------------------------------------------------------------------------------------------


class Counter(Actor):
    def __init__(self) -> None:
        self.count = 0

    async def receive(self, message: Any) -> Any:
        self.count += 1
        await trio.sleep(message)

    def describe(self) -> dict[str, int]:
        return {"count": self.count}


async def test_f7_inspect_shows_what_an_actor_says_of_itself_also_while_it_is_busy(autojump_clock):
    async with stage() as runtime:
        counter = await runtime.spawn(Counter)
        await counter.ask(0)
        await counter.tell(1000)
        await settled()

        assert runtime.inspect(counter) == {"count": 2}
        assert counter.statistics().handled == 1
        assert runtime.inspect(await runtime.spawn(Echo)) is None
        await runtime.stop(counter)
        assert runtime.inspect(counter) is None


async def test_f7_inspect_shows_nothing_during_a_backoff(autojump_clock):
    async with stage() as runtime:
        counter = await runtime.spawn(Counter)
        counter.tell_nowait("no number")
        await settled()
        assert runtime.inspect(counter) is None
        await trio.sleep(10)
        assert runtime.inspect(counter) == {"count": 0}


async def test_f7_a_describe_that_raises_or_waits_fails_the_look_alone(autojump_clock):
    class Unsayable(Exception):
        def __str__(self) -> str:
            raise AttributeError("cod")

    class Odd(Echo):
        def describe(self) -> Any:
            raise Unsayable

    class Waits(Echo):
        async def describe(self) -> Any:
            return {}

    async with stage() as runtime:
        odd, waits = await runtime.spawn(Odd, name="odd"), await runtime.spawn(Waits)
        with pytest.raises(ActorFailed, match=r"^'odd' could not describe itself: its describe\(\) raised Unsayable\."):
            runtime.inspect(odd)
        with pytest.raises(UsageError, match="def describe"):
            runtime.inspect(waits)
        with pytest.raises(UsageError, match="isn't a ref to an actor"):
            runtime.inspect("odd")
        assert await odd.ask(1) == 1
