"""Placed actors on loopback hosts: the same as at home, their mailbox with the runtime, and one message at a time away."""

from __future__ import annotations

import contextlib
import enum
from typing import Any

import attrs
import pytest
import trio
import trio.lowlevel

from actors import (
    Actor,
    ActorFailed,
    ActorIdle,
    ActorRef,
    ActorStartFailed,
    AskCycle,
    ChildSpec,
    Directive,
    Failure,
    NotPortable,
    RemoteError,
    Request,
    RestartType,
    Supervision,
    Terminated,
    Unhandled,
    UsageError,
)
from runtime import open_runtime
from runtime.placement import Here
from runtime.testing.loopback_hosts import LoopbackHosts

log: list[Any] = []


@pytest.fixture(autouse=True)
def clear() -> None:
    log.clear()


@attrs.frozen
class Add(Request[int]):
    n: int


@attrs.frozen
class Send:
    """Have the actor ask another one."""

    to: ActorRef[Any]
    message: Any


class Colour(enum.Enum):
    RED = 1


class Odd(Exception):
    pass


class Sum(Actor[Add | Send | str]):
    def __init__(self, start: int = 0) -> None:
        self.total = start

    @contextlib.asynccontextmanager
    async def lifespan(self):
        log.append(("open", self.context.ref.address, self.context.incarnation, self.context.fence))
        try:
            yield
        except BaseException as error:
            log.append(("failed", type(error).__name__))
            raise
        finally:
            log.append(("close", self.context.ref.address))

    async def receive(self, message):
        match message:
            case Add(n):
                self.total += n
                return self.total
            case Send(to, inner):
                return await to.ask(inner)
            case "odd":
                raise Odd("odd")
            case "wrong":
                raise ValueError("wrong")
            case "failure":
                return Failure(Odd("no"))
            case "fail":
                self.context.fail(Odd("not now"))
                log.append("went on")
            case "nap":
                try:
                    await trio.sleep(100)
                finally:
                    log.append("woke")
            case "object":
                return object()
            case _:
                return await super().receive(message)


class Echo(Actor):
    async def receive(self, message):
        return message


async def test_an_actor_lives_on_a_host_and_answers_as_at_home(autojump_clock):
    seen: list[Any] = []
    for place in (Here(), LoopbackHosts(2, by_name=True), LoopbackHosts(2, delay_s=0.1, seed=3)):
        log.clear()
        async with open_runtime(places={"cpu": place}) as runtime:
            ref = await runtime.spawn(Sum, 5, name="sum", place="cpu")
            await ref.tell(Add(1))
            answers: list[Any] = [await ref.ask(Add(2))]
            for bad in ("odd", "wrong", "failure", "fail"):
                with pytest.raises(ActorFailed) as failure:
                    await ref.ask(bad)
                answers.append(str(failure.value).partition(":")[0])
                answers.append(getattr(failure.value.__cause__, "text", str(failure.value.__cause__)))
            with pytest.raises(Unhandled):
                await ref.ask("what?")
            answers += [await ref.ask(Add(1)), ref.statistics().restarts]
        seen.append((answers, [each if each == "went on" else each[:3] for each in log]))

    assert seen[0][0][0] == 8
    assert seen[0][0][-2:] == [6, 2]
    assert ("failed", "Odd") in seen[0][1]
    assert seen[1] == seen[0]
    assert seen[2] == seen[0]


async def test_an_error_tells_its_class_and_where_it_was_raised(autojump_clock):
    async with open_runtime(places={"cpu": LoopbackHosts(by_name=True)}) as runtime:
        ref = await runtime.spawn(Sum, name="sum", place="cpu")
        with pytest.raises(ActorFailed) as failure:
            await ref.ask("odd")

    cause = failure.value.__cause__
    assert isinstance(cause, RemoteError)
    assert (cause.kind, cause.text) == ("tests.runtime.placement.test_placed_actors:Odd", "odd")
    assert 'raise Odd("odd")' in cause.trace


@pytest.mark.parametrize(
    "value",
    ["text", 3, 2.5, True, [1, {"a": None}], ("tuple", 1), b"\x00\xff", Colour.RED, Add(4), [Add(1), Add(2)], {"a": Add(1)}],
)
async def test_plain_data_and_the_messages_of_its_module_travel_both_ways(value, autojump_clock):
    async with open_runtime(places={"cpu": LoopbackHosts(by_name=True)}) as runtime:
        ref = await runtime.spawn(Echo, name="echo", place="cpu")
        got = await ref.ask(value)

    assert (type(got), got) == (type(value), value)


async def test_what_cannot_travel_fails_its_sender_and_not_the_actor(autojump_clock):
    async with open_runtime(places={"cpu": LoopbackHosts(by_name=True)}) as runtime:
        ref: Any = await runtime.spawn(Sum, name="sum", place="cpu")
        with pytest.raises(NotPortable, match=r"a message to 'sum' cannot go to another process"):
            await ref.ask(object())
        await ref.tell(object())
        with pytest.raises(ActorFailed) as failure:
            await ref.ask("object")
        assert isinstance(failure.value.__cause__, NotPortable)

        assert await ref.ask(Add(1)) == 1
        assert ref.statistics().restarts == 0
        assert runtime.dead_letters.total == 2


async def test_all_that_keeps_an_actor_from_its_place_is_told_together(autojump_clock):
    class Local(Actor):
        def __init__(self, *args: object) -> None: ...

        async def receive(self, message): ...

    async with open_runtime(places={"cpu": LoopbackHosts(by_name=True)}) as runtime:
        with pytest.raises(NotPortable) as failure:
            await runtime.spawn(Local, object(), name="a", place="cpu")
        with pytest.raises(NotPortable) as arguments:
            await runtime.spawn(Sum, object(), name="b", place="cpu")
        assert runtime.whereis("a") is None
    words = str(failure.value)
    assert words.startswith("'a' has place='cpu', and cannot live in another process:\n")
    assert "Local is defined within test_all_that_keeps_an_actor" in words
    assert "argument 1 of 'b' cannot go to another process" in str(arguments.value)
    assert words.count("Fix: ") == 1


async def test_a_start_that_fails_there_fails_here(autojump_clock):
    class Broken(Actor):
        @contextlib.asynccontextmanager
        async def lifespan(self):
            await trio.lowlevel.checkpoint()
            if self.context.incarnation:
                raise OSError("no disk")
            yield

        async def receive(self, message): ...

    async with open_runtime(places={"cpu": LoopbackHosts()}) as runtime:
        with pytest.raises(ActorStartFailed) as failure:
            await runtime.spawn(Broken, name="a", place="cpu")
        assert runtime.whereis("a") is None
    assert isinstance(failure.value.__cause__, OSError)


async def test_cancelling_an_ask_ends_the_handler_over_there_before_it_returns(autojump_clock):
    async with open_runtime(places={"cpu": LoopbackHosts()}) as runtime:
        ref = await runtime.spawn(Sum, name="sum", place="cpu")
        with trio.move_on_after(3):
            await ref.ask("nap")
        assert await ref.ask(Add(1)) == 1
        assert "woke" in log
        assert (ref.statistics().restarts, trio.current_time()) == (0, 3)


async def test_one_message_is_there_and_the_others_wait_here(autojump_clock):
    async with open_runtime(places={"cpu": LoopbackHosts()}) as runtime, trio.open_nursery() as nursery:
        ref = await runtime.spawn(Sum, name="sum", place="cpu")
        nursery.start_soon(ref.ask, "nap")
        await trio.sleep(1)
        for _ in range(5):
            await ref.tell(Add(1))
        await trio.sleep(1)
        assert ref.statistics().mailbox.depth == 5
        nursery.cancel_scope.cancel()
    assert log[-2:] == ["woke", ("close", "sum")]


async def test_resume_is_decided_by_the_supervisor_here(autojump_clock):
    async with open_runtime(places={"cpu": LoopbackHosts()}) as runtime:
        supervision = Supervision(on_error={ValueError: Directive.RESUME, Odd: Directive.STOP})
        await runtime.supervise([ChildSpec("sum", Sum, (7,), place="cpu")], supervision, name="s")
        ref: Any = runtime.whereis("s/sum")
        with pytest.raises(ActorFailed):
            await ref.ask("wrong")
        assert await ref.ask(Add(1)) == 8
        with pytest.raises(ActorFailed):
            await ref.ask("odd")
        assert (await ref.ended()).reason == "failed"
    assert [each[0] for each in log] == ["open", "failed", "close"]


async def test_actors_on_two_hosts_ask_each_other_and_a_ring_of_them_is_named(autojump_clock):
    async with open_runtime(places={"cpu": LoopbackHosts(2)}) as runtime:
        a = await runtime.spawn(Sum, 1, name="a", place="cpu")
        b = await runtime.spawn(Sum, 2, name="b", place="cpu")
        assert await a.ask(Send(b, Add(5))) == 7
        assert runtime.inspect(a)["host"] != runtime.inspect(b)["host"]

        with pytest.raises(ActorFailed) as failure:
            await a.ask(Send(b, Send(a, Add(1))))
        with pytest.raises(ActorFailed) as itself:
            await a.ask(Send(a, Add(1)))

    cause: Any = failure.value.__cause__
    while not isinstance(cause, AskCycle):
        cause = cause.__cause__
    assert cause.cycle == ("b", "a", "b")
    assert isinstance(itself.value.__cause__, AskCycle)


class Busy(Actor):
    """Uses its context."""

    def __init__(self, other: ActorRef[Any] | None = None) -> None:
        self.other = other
        self.promises: list[Any] = []

    async def receive(self, message):
        context = self.context
        match message:
            case "once":
                context.schedule_once(2, "tick", key="t")
            case "every":
                context.schedule_every(2, ("tock", trio.current_time()), key="t")
            case "cancel":
                return context.cancel("t")
            case "tick" | ("tock", _):
                log.append((message, trio.current_time()))
            case "later":
                self.promises.append(context.reply_later())
            case "answer":
                self.promises.pop().send("answered")
            case "refuse":
                self.promises.pop().fail(Odd("no"))
            case "stash":
                context.stash()
            case "become":
                context.become(self.other_way)
            case "child":
                child = await context.spawn(Echo, name="child")
                context.watch(child)
                return await child.ask("from my child")
            case "stop child":
                context.stop(await context.spawn(Echo, name="short"))
            case "ask in a task":
                context.nursery.start_soon(self.ask_beside)
            case "crash in a task":
                context.nursery.start_soon(self.raise_beside)
            case "watch":
                context.watch(self.other)
            case Terminated(ref, reason):
                log.append((ref.address, reason.value))
            case "stop":
                context.stop()
            case "beat":
                for _ in range(4):
                    await trio.sleep(2)
                    context.heartbeat()
                return "well"
            case "hang":
                await trio.sleep(20)
            case "self":
                await context.ref.tell("tick")
            case "publish":
                context.runtime.publish(Add(3))
            case "subscribe":
                context.runtime.subscribe(Add, context.ref)
            case "whereis":
                return await context.runtime.whereis("echo").ask("found")
            case Add(n):
                log.append(n)
            case _:
                return message

    async def other_way(self, message):
        return f"other {message}"

    async def ask_beside(self):
        assert self.other is not None
        log.append(await self.other.ask("beside"))

    async def raise_beside(self):
        raise ValueError("beside")


async def test_timers_are_kept_here_and_their_messages_come_as_at_home(autojump_clock):
    seen: list[Any] = []
    for place in (Here(), LoopbackHosts()):
        log.clear()
        began = trio.current_time()
        async with open_runtime(places={"cpu": place}) as runtime:
            ref = await runtime.spawn(Busy, name="busy", place="cpu")
            await ref.ask("once")
            await trio.sleep(3)
            cancelled = [await ref.ask("cancel")]
            await ref.ask("once")
            await ref.ask("once")
            await trio.sleep(1)
            cancelled.append(await ref.ask("cancel"))
            await ref.ask("every")
            await trio.sleep(5)
            cancelled.append(await ref.ask("cancel"))
            await trio.sleep(5)
        seen.append((cancelled, [at - began for _, at in log]))
    assert seen[0] == ([False, True, True], [2, 6, 8])
    assert seen[1] == seen[0]


async def test_an_answer_can_be_given_later_and_ends_with_the_incarnation(autojump_clock):
    async with open_runtime(places={"cpu": LoopbackHosts()}) as runtime:
        ref = await runtime.spawn(Busy, name="busy", place="cpu")
        ends: list[Any] = []

        async def wait() -> None:
            try:
                ends.append(await ref.ask("later"))
            except ActorFailed as error:
                ends.append(error.__cause__)

        async with trio.open_nursery() as nursery:
            for then in ("answer", "refuse", "stash"):
                nursery.start_soon(wait)
                await trio.sleep(1)
                with contextlib.suppress(ActorFailed):
                    await ref.ask(then)
    assert ends[0] == "answered"
    assert isinstance(ends[1], RemoteError)
    assert isinstance(ends[2], UsageError)
    assert "messages cannot be stashed" in str(ends[2])


async def test_children_tasks_watches_and_behaviour_work_over_there(autojump_clock):
    async with open_runtime(places={"cpu": LoopbackHosts(2)}) as runtime:
        echo = await runtime.spawn(Echo, name="echo", place="cpu")
        ref = await runtime.spawn(Busy, echo, name="busy", place="cpu")
        assert await ref.ask("child") == "from my child"
        assert await ref.ask("whereis") == "found"
        await ref.ask("self")
        await ref.ask("ask in a task")
        await ref.ask("subscribe")
        await ref.ask("publish")
        await ref.ask("watch")
        await trio.sleep(1)
        await runtime.stop(echo)
        await trio.sleep(1)
        assert log == [("tick", 0), "beside", 3, ("echo", "stopped")]
        await ref.ask("become")
        assert await ref.ask("x") == "other x"
        assert ref.statistics().restarts == 0


async def test_what_ends_it_over_there_ends_it_here(autojump_clock):
    async with open_runtime(places={"cpu": LoopbackHosts()}) as runtime:
        ref = await runtime.spawn(Busy, name="busy", place="cpu", restart=RestartType.TRANSIENT)
        await ref.tell("crash in a task")
        await trio.sleep(1)
        assert ref.statistics().restarts == 1
        await ref.ask("stop")
        assert (await ref.ended()).reason == "finished"


async def test_the_idle_timeout_is_kept_here_and_heartbeats_reach_it(autojump_clock):
    async with open_runtime(places={"cpu": LoopbackHosts()}) as runtime:
        ref = await runtime.spawn(Busy, name="busy", place="cpu", idle_timeout_s=3)
        assert await ref.ask("beat") == "well"
        with pytest.raises(ActorFailed) as failure:
            await ref.ask("hang")
        assert isinstance(failure.value.__cause__, ActorIdle)


async def test_deadlines_travel_as_the_seconds_that_are_left(autojump_clock):
    class Asked(Actor):
        async def receive(self, message):
            return str(trio.current_effective_deadline()) if message == "when?" else await trio.sleep(100)

    async with open_runtime(places={"cpu": LoopbackHosts()}) as runtime:
        ref = await runtime.spawn(Asked, name="a", place="cpu")
        with trio.fail_after(7):
            assert await ref.ask("when?") == "7.0"
        for _ in range(3):
            with trio.move_on_after(2):
                await ref.ask("wait")
        assert await ref.ask("when?") == "inf"
        assert (ref.statistics().restarts, trio.current_time()) == (0, 6.0)
