"""More of Pekko's expectations: backoff, mailboxes, asks, watches, stash, groups, reliable delivery.

Each test bears the name of its case. Where this runtime deviates by design the docstring says how.
"""

from __future__ import annotations

import contextlib
import math
import traceback
from typing import Any

import attrs
import pytest
import trio

from actors import (
    Actor,
    ActorFailed,
    ActorStopped,
    AutoShutdown,
    Backoff,
    ChildSpec,
    DeclarationError,
    Directive,
    Exhausted,
    MailboxFull,
    MailboxSpec,
    Overflow,
    Redelivery,
    StopReason,
    Supervision,
    Terminated,
    supervisor_spec,
)
from runtime import ActorRestarting, Pool, SupervisorParked
from runtime.core.dead_letters import DeadLetters
from runtime.core.envelope import Envelope
from runtime.core.events import EventBus
from runtime.core.mailbox import Mailbox
from tests.runtime.cast import (
    AT_ONCE,
    EXACT,
    PATIENT,
    TRANSIENT,
    Boom,
    Does,
    Echo,
    Fault,
    Fragile,
    Recorder,
    Script,
    child,
    crash,
    fail,
    names,
    settled,
    stage,
)


def restarting(found):
    """An instrument that notes the restarts: address, delay, and how many there have been."""

    def instrument(event):
        if isinstance(event, ActorRestarting):
            found.append((event.address, event.delay_s, event.restarts))

    return instrument


# --- supervision ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [KeyboardInterrupt, GeneratorExit])
async def test_PK_S06_no_directive_can_be_given_for_what_must_not_be_survived(kind, virtual_clock):
    with pytest.raises(DeclarationError, match=r"expected a mapping from exception types to Directive"):
        Supervision(on_error={kind: Directive.RESTART})

    with pytest.raises(kind):  # noqa: PT012 - it comes out of the end of the block
        async with stage(supervision=Supervision(on_error={Exception: Directive.RESUME})) as runtime:
            (await runtime.spawn(Echo)).tell_nowait(kind())
            await trio.sleep_forever()


async def test_PK_S13_children_stopped_because_of_a_restart_are_no_news(virtual_clock, log):
    async def spawn_and_watch(actor):
        actor.context.watch(await actor.context.spawn(Echo))

    async with stage(supervision=PATIENT) as runtime:
        ref = await runtime.spawn(Script, log)
        await ref.ask(spawn_and_watch)
        ref.tell_nowait(fail)
        await settled()

        assert ref.statistics().incarnation == 2
    assert log == []


class Unstashes(Recorder):
    """Sets everything aside until it is told to go, and has a child in each incarnation."""

    @contextlib.asynccontextmanager
    async def lifespan(self):
        await self.context.spawn(Recorder, self.log, "child", name="child")
        self.going = self.context.incarnation > 2
        async with super().lifespan():
            yield

    async def receive(self, message):
        if message == "go":
            self.going = True
            self.context.unstash_all()
        elif self.going:
            return await super().receive(message)
        else:
            self.context.stash()


async def test_PK_S14_a_failure_while_unstashing_restarts_and_takes_the_children_along(virtual_clock, log):
    async with stage(supervision=PATIENT) as runtime:
        ref = await runtime.spawn(Unstashes, log)
        for message in (("raise", Boom()), ("raise", Boom()), "last", "go", "go"):
            ref.tell_nowait(message)
        await settled()

    assert names(log) == "child+ + child- - child+ + child- - child+ + last child- -"


async def test_PK_S18_PK_S25_the_delays_grow_and_reports_say_how_often(virtual_clock, log):
    """The severity of a report is its reader's: each restart comes with its number, so a reader can be alarmed by the third."""
    found: list[Any] = []
    alarms: list[float] = []

    def alarm(event):
        if isinstance(event, ActorRestarting) and event.restarts >= 3:
            alarms.append(event.at_s)

    backoff = Backoff(first_s=1, factor=2, cap_s=10, jitter=0)
    supervision = Supervision(max_restarts=math.inf, backoff=backoff)
    async with stage(supervision=supervision, instruments=[restarting(found), alarm]) as runtime:
        ref = await runtime.spawn(Recorder, log, name="a")
        for _ in range(3):
            await crash(ref)
            await trio.sleep(10)

    assert found == [("a", 1.0, 1), ("a", 2.0, 2), ("a", 4.0, 3)]
    assert alarms == [pytest.approx(20, abs=0.1)]


async def test_PK_S21_nested_backoffs_for_different_errors_count_apart(virtual_clock, log):
    found: list[Any] = []
    quick = Supervision(
        max_restarts=math.inf, backoff=Backoff(1, 2, 30, 0, reset_after_s=9), on_error={Fault: Directive.ESCALATE}
    )
    outer = Supervision(max_restarts=math.inf, backoff=Backoff(5, 2, 30, 0, reset_after_s=100))
    async with stage(instruments=[restarting(found)]) as runtime:
        await runtime.supervise([supervisor_spec("in", [child("a", log)], quick)], outer, name="s")
        ref = runtime.whereis("s/in/a")
        for error, pause_s in ((Boom(), 2), (Boom(), 3), (Fault(), 20), (Boom(), 2), (Fault(), 20)):
            await crash(ref, error)
            await trio.sleep(pause_s)

    assert [(address, delay_s) for address, delay_s, _ in found] == [
        ("s/in/a", 1.0),
        ("s/in/a", 2.0),
        ("s/in", 5.0),
        ("s/in/a", 1.0),  # it had been quiet for more than 9 s
        ("s/in", 10.0),  # it had not been for 100 s
    ]


async def test_PK_S23_replacing_a_handler_many_times_wraps_nothing(virtual_clock):
    depths: list[int] = []

    class Becomes(Actor):
        async def receive(self, message):
            depths.append(len(traceback.extract_stack()))
            if message == "fail":
                raise Boom
            self.context.become(self.receive)

    async with stage(supervision=PATIENT) as runtime:
        ref = await runtime.spawn(Becomes)
        for _ in range(100):
            for message in ("become", "become", "fail"):
                ref.tell_nowait(message)
            await settled()

    assert (len(depths), set(depths)) == (300, {depths[0]})


async def test_PK_S24_PK_W03_who_raises_at_the_news_of_an_end_is_supervised_like_any_other(virtual_clock):
    """Nobody dies of another's end by default: linking two actors is raising when the news comes."""

    class Linked(Actor):
        async def receive(self, message):
            if isinstance(message, Terminated):
                raise Boom(f"{message.ref.address} has ended")
            self.context.watch(message)

    found: list[Any] = []
    async with stage(supervision=PATIENT, instruments=[restarting(found)]) as runtime:
        linked = await runtime.spawn(Linked, name="linked")
        other = await runtime.spawn(Echo, name="other")
        await linked.ask(other)
        await runtime.stop(other)
        await settled()

        assert found == [("linked", 0.0, 1)]
        assert repr(runtime.dead_letters[-1].error) == "Boom('other has ended')"


async def test_PK_S27_the_window_of_the_limit_is_measured_on_the_clock_of_the_loop(virtual_clock, log):
    async with stage(supervision=Supervision(max_restarts=2, within_s=86_400, backoff=AT_ONCE)) as runtime:
        ref = await runtime.spawn(Recorder, log)
        for _ in range(6):
            await crash(ref)
            await trio.sleep(43_201)

        assert ref.statistics().incarnation == 7


async def test_PK_S28_an_error_of_a_handler_that_was_put_in_place_is_supervised_too(virtual_clock, log):
    """There are no message adapters; what stands between the mailbox and ``receive`` is the handler given to ``become``."""

    async def adapter(message):
        raise Boom

    async def adapt(actor):
        actor.context.become(adapter)

    async with stage(supervision=PATIENT) as runtime:
        ref = await runtime.spawn(Script, log)
        await ref.ask(adapt)
        with pytest.raises(ActorFailed):
            await ref.ask("through the adapter")

        assert await ref.ask("plain again") == "plain again"


async def test_PK_S29_what_comes_during_a_backoff_is_bounded_by_the_mailbox(virtual_clock, log):
    """There is no second buffer for it: 64 messages by default, whether the actor is up or down."""
    async with stage(supervision=Supervision(backoff=EXACT)) as runtime:
        ref = await runtime.spawn(Recorder, log)
        await crash(ref)
        for number in range(64):
            ref.tell_nowait(number)

        with pytest.raises(MailboxFull, match=r"64 of 64 messages wait, overflow=BLOCK\."):
            ref.tell_nowait("one too many")
        await trio.sleep(2)
        assert [what for _, what in log[3:]] == [str(number) for number in range(64)]


# --- backoff ----------------------------------------------------------------------------------------------------------


async def test_PK_B02_the_ref_reaches_the_child_and_its_parent_hears_from_it(virtual_clock, log):
    """Nothing forwards: the ref of the child outlives its restarts, and ``context.parent`` is its parent's."""

    async def answer_upwards(actor, message):
        if isinstance(message, Exception):
            raise message
        actor.context.parent.tell_nowait(f"child heard {message}")

    async def spawn(actor):
        return await actor.context.spawn(Does, answer_upwards)

    async with stage(supervision=PATIENT) as runtime:
        parent = await runtime.spawn(Script, log)
        ref = await parent.ask(spawn)
        ref.tell_nowait("x")
        ref.tell_nowait(Boom())
        ref.tell_nowait("y")
        await trio.sleep(1)

    assert [what for _, what in log] == ["child heard x", "child heard y"]


async def test_PK_B03_errors_are_decided_by_their_class(virtual_clock, log):
    decider = Supervision(max_restarts=math.inf, backoff=EXACT, on_error={Fault: Directive.STOP})
    async with stage() as runtime:
        await runtime.supervise([child("a", log)], decider, name="s")
        ref = runtime.whereis("s/a")

        await crash(ref)
        assert ref.statistics().backoff_left_s == pytest.approx(1, abs=0.01)
        await trio.sleep(1)
        await crash(ref, Fault())

        assert (ref.statistics().state, ref.statistics().restarts) == ("stopped", 1)


async def test_PK_B05_asks_of_a_child_that_is_down_wait_or_are_refused_as_its_mailbox_says(virtual_clock, log):
    """No canned reply stands in for the child; who does not want to wait gives a deadline or a mailbox that drops."""
    async with stage(supervision=Supervision(backoff=EXACT)) as runtime:
        ref = await runtime.spawn(Recorder, log, name="a", mailbox=MailboxSpec(1, Overflow.DROP_NEWEST))
        await crash(ref)
        with trio.move_on_after(0.5) as impatient:
            await ref.ask("too impatient")
        ref.tell_nowait("waits")

        with pytest.raises(MailboxFull, match=r"^'a' rejected a str message"):
            await ref.ask("no room")
        await trio.sleep(1)

        assert impatient.cancelled_caught
        assert names(log) == "+ - + waits"
        assert [letter.message for letter in list(runtime.dead_letters)[1:]] == ["no room"]


@pytest.mark.parametrize("end", [("raise", Boom()), ("stop",)])
async def test_PK_B07_the_third_failure_or_stop_ends_the_supervisor(end, virtual_clock, log):
    async with stage() as runtime:
        supervision = Supervision(max_restarts=2, within_s=3600, backoff=EXACT)
        await runtime.supervise([child("a", log)], supervision, name="s", restart=TRANSIENT)
        for pause_s in (1, 2, 1):
            runtime.whereis("s/a").tell_nowait(end)
            await trio.sleep(pause_s + 0.1)

        assert names(log) == "a+ a- a+ a- a+ a-"
        assert [runtime.whereis("s"), runtime.whereis("s/a")] == [None, None]


@pytest.mark.parametrize("down", [False, True])
async def test_PK_B08_PK_B10_a_message_that_stops_the_child_stops_its_supervisor(down, virtual_clock, log):
    """Written with what there is: a transient, significant child. Sent while it is down, the message waits for it."""
    until_done = Supervision(backoff=EXACT, auto_shutdown=AutoShutdown.ANY_SIGNIFICANT)
    async with stage() as runtime:
        spec = child("a", log, restart=TRANSIENT, significant=True)
        await runtime.supervise([spec, child("b", log)], until_done, name="s", restart=TRANSIENT)
        ref = runtime.whereis("s/a")
        if down:
            await crash(ref)
        ref.tell_nowait(("stop",))
        await trio.sleep(2)

        assert names(log) == ("a+ b+ a- a+ a- b-" if down else "a+ b+ a- b-")
        assert [runtime.whereis("s"), runtime.whereis("s/b")] == [None, None]


async def test_PK_B10_the_stop_directive_for_a_significant_child_stops_its_supervisor(virtual_clock, log):
    stop = Supervision(auto_shutdown=AutoShutdown.ANY_SIGNIFICANT, on_error={Boom: Directive.STOP})
    async with stage() as runtime:
        spec = child("a", log, restart=TRANSIENT, significant=True)
        await runtime.supervise([spec], stop, name="s", restart=TRANSIENT)
        await crash(runtime.whereis("s/a"))

        assert runtime.whereis("s") is None


class LeavesSlowly(Recorder):
    @contextlib.asynccontextmanager
    async def lifespan(self):
        async with super().lifespan():
            try:
                yield
            finally:
                await trio.sleep(3)


async def test_PK_B11_commands_while_the_old_child_still_terminates(virtual_clock, log):
    async with stage() as runtime:
        supervisor = await runtime.supervise([ChildSpec("a", LeavesSlowly, (log, "a"))], Supervision(backoff=EXACT), name="s")
        ref = runtime.whereis("s/a")
        await crash(ref)
        await trio.sleep(1)

        ref.tell_nowait("meanwhile")
        (info,) = await supervisor.which_children()
        assert (info.ref, info.state, ref.statistics().restarts) == (ref, "running", 0)

        await trio.sleep(4)
        assert log == [(0.0, "a+"), (pytest.approx(3, abs=0.01), "a-")] + [
            (pytest.approx(4, abs=0.01), w) for w in ("a+", "ameanwhile")
        ]


# --- strategies -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [-1, 1.5, True, None])
def test_PK_C01_unlimited_is_written_out(number):
    """No number stands for "unlimited": ``math.inf`` does, and what is no count is refused."""
    assert Supervision(max_restarts=math.inf).max_restarts == math.inf

    with pytest.raises(DeclarationError, match=r"expected a whole number >= 0 or math\.inf"):
        Supervision(max_restarts=number)


async def test_PK_C02_a_window_of_thirty_days(virtual_clock, log):
    day_s = 86_400
    async with stage() as runtime:
        supervision = Supervision(max_restarts=2, within_s=30 * day_s, backoff=AT_ONCE)
        await runtime.supervise([child("a", log)], supervision, name="s", restart=TRANSIENT)
        for _ in range(2):
            await crash(runtime.whereis("s/a"))
            await trio.sleep(14 * day_s)
        assert runtime.whereis("s/a").statistics().incarnation == 3

        await crash(runtime.whereis("s/a"))
        assert runtime.whereis("s") is None


async def test_PK_C03_a_restart_whose_start_fails_is_tried_again(virtual_clock, log):
    failures: list[BaseException] = []
    async with stage(supervision=PATIENT) as runtime:
        ref = await runtime.spawn(Fragile, log, failures)
        failures.append(Boom("on restart"))

        await crash(ref)

        assert names(log) == "+ - ! +"
        assert ref.statistics().incarnation == 3


@pytest.mark.parametrize("wait_s", [0.0, 0.5])
async def test_PK_C06_a_stop_during_a_restart_is_not_lost(wait_s, virtual_clock, log):
    heard: list[Any] = []

    async def watch(actor, message):
        if isinstance(message, Terminated):
            heard.append((trio.current_time(), message.reason))
        else:
            actor.context.watch(message)

    async with stage(supervision=Supervision(backoff=EXACT)) as runtime:
        ref = await runtime.spawn(Recorder, log)
        watcher = await runtime.spawn(Does, watch)
        await watcher.ask(ref)
        ref.tell_nowait(("raise", Boom()))
        await trio.sleep(wait_s)
        await runtime.stop(ref)
        await trio.sleep(100)

    assert heard == [(wait_s, StopReason.STOPPED)]
    assert names(log) == "+ -"


# --- mailboxes --------------------------------------------------------------------------------------------------------


def envelope(message):
    return Envelope(message, None, None, trio.current_time())


async def test_PK_M01_an_unbounded_mailbox_keeps_order_and_count(virtual_clock):
    mailbox = Mailbox("a", MailboxSpec(math.inf), DeadLetters(EventBus()))

    for number in range(1000):
        mailbox.put_nowait(envelope(number))
        assert len(mailbox) == number + 1
    taken = [mailbox.take_nowait() for _ in range(1000)]

    assert [letter.message for letter in taken if letter is not None] == list(range(1000))
    assert (len(mailbox), mailbox.take_nowait()) == (0, None)


async def test_PK_M05_PK_M06_signals_overtake_messages_and_each_keep_their_order(virtual_clock):
    """There are two priorities, no more: the runtime's own signals, and messages. Within each it is first come, first served."""
    mailbox = Mailbox("a", MailboxSpec(), DeadLetters(EventBus()))

    for number in range(4):
        mailbox.put_nowait(envelope(f"message {number}"))
        mailbox.put_urgent(envelope(f"signal {number}"))
    taken = [mailbox.take_nowait() for _ in range(8)]

    kinds = [f"{kind} {number}" for kind in ("signal", "message") for number in range(4)]
    assert [letter.message for letter in taken if letter is not None] == kinds


async def test_PK_M09_a_mailbox_is_bounded_unless_it_says_otherwise(virtual_clock, log):
    """The default holds 64 messages, where Pekko's is unbounded; the spec of an actor chooses another."""
    assert MailboxSpec() == MailboxSpec(capacity=64, overflow=Overflow.BLOCK)

    async with stage() as runtime:
        ref = await runtime.spawn(Recorder, log, name="a", mailbox=MailboxSpec(2, Overflow.DROP_NEWEST))
        for number in range(3):
            ref.tell_nowait(number)

        assert [(letter.recipient, letter.message, letter.reason.value) for letter in runtime.dead_letters] == [
            ("a", 2, "overflow")
        ]


# --- asks -------------------------------------------------------------------------------------------------------------


async def test_PK_A01_an_ask_of_an_actor_that_has_ended_fails_at_once_and_leaves_a_dead_letter(virtual_clock):
    async with stage() as runtime:
        ref = await runtime.spawn(Echo, name="a")
        await runtime.stop(ref)

        with pytest.raises(ActorStopped, match=r"^'a' has stopped; a str message was not handled\."), trio.fail_after(10):
            await ref.ask("?")

        assert trio.current_time() == 0
        assert [(letter.recipient, letter.message) for letter in runtime.dead_letters] == [("a", "?")]


async def test_PK_A02_a_deadline_is_the_callers_own_and_takes_the_message_back(virtual_clock, log):
    """The error is the caller's ``trio.TooSlowError``, raised where its scope is; no text of the runtime's comes with it."""
    async with stage() as runtime:
        ref = await runtime.spawn(Recorder, log)
        ref.tell_nowait(("sleep", 5))
        await settled()
        begun = trio.current_time()

        with pytest.raises(trio.TooSlowError), trio.fail_after(0.01):
            await ref.ask("too late")

        assert trio.current_time() - begun == pytest.approx(0.01)
        assert ref.statistics().mailbox.depth == 0


class Collects(Actor):
    """Asks another beside its handler, and tells itself the mapped answers."""

    def __init__(self, other, change):
        self.other = other
        self.change = change
        self.answers: list[Any] = []

    async def ask_and_map(self, number):
        answer = await self.other.ask(number)
        self.context.ref.tell_nowait(("mapped", self.change(answer)))

    async def receive(self, message):
        match message:
            case ("ask", number):
                self.context.nursery.start_soon(self.ask_and_map, number)
            case ("mapped", answer):
                self.answers.append(answer)
            case _:
                return (self.context.incarnation, self.answers)


async def test_PK_A04_a_hundred_asks_beside_the_handler_are_mapped_in_order(virtual_clock):
    async def slow_echo(actor, number):
        await trio.sleep(0.1)
        return number

    async with stage(supervision=PATIENT) as runtime:
        other = await runtime.spawn(Does, slow_echo, mailbox=MailboxSpec(100))
        ref = await runtime.spawn(Collects, other, lambda answer: answer * 2, mailbox=MailboxSpec(100))
        for number in range(100):
            ref.tell_nowait(("ask", number))
            await settled()
        await trio.sleep(11)

        assert await ref.ask("result") == (1, [number * 2 for number in range(100)])


async def test_PK_A04_a_mapping_that_raises_fails_the_asking_actor(virtual_clock):
    async with stage(supervision=PATIENT) as runtime:
        ref = await runtime.spawn(Collects, await runtime.spawn(Echo), lambda answer: 1 // answer)
        ref.tell_nowait(("ask", 0))
        await settled()

        assert await ref.ask("result") == (2, [])


async def test_PK_A05_an_answer_can_be_a_value_an_error_as_a_value_or_a_failure(virtual_clock):
    async def answer(actor, message):
        reply = actor.context.reply_later()
        if message == "fail":
            reply.fail(Boom("the text"))
        else:
            reply.send(message)

    async with stage() as runtime:
        ref = await runtime.spawn(Does, answer, name="a")
        error = Boom("as a value")

        assert await ref.ask("value") == "value"
        assert await ref.ask(error) is error
        with pytest.raises(ActorFailed, match=r"^'a' failed while it handled a str message: Boom: the text$") as caught:
            await ref.ask("fail")

        assert repr(caught.value.__cause__) == "Boom('the text')"
        assert ref.statistics().incarnation == 1


# --- watches and the stash --------------------------------------------------------------------------------------------


async def test_PK_W04_watching_twice_is_watching_once_and_unwatch_undoes_both(virtual_clock, log):
    """The news is always a ``Terminated``; there is no message of one's own choice that could contradict an earlier one."""

    def does(call, ref):
        async def run(actor):
            getattr(actor.context, call)(ref)

        return run

    async with stage() as runtime:
        first, second = await runtime.spawn(Echo), await runtime.spawn(Echo)
        watcher = await runtime.spawn(Script, log)
        for call, ref in (("watch", first), ("watch", first), ("watch", second), ("watch", second), ("unwatch", second)):
            await watcher.ask(does(call, ref))
        await runtime.stop(first)
        await runtime.stop(second)
        await settled()

    assert [news.ref for _, news in log] == [first]


class Restashes(Actor):
    """Sets every number aside; ``"unstash"`` puts all back, and from then on each is noted, even ones after one more turn."""

    def __init__(self, log):
        self.log = log
        self.seen: set[int] = set()
        self.open = False

    async def receive(self, message):
        if message == "unstash":
            self.open = True
            self.context.unstash_all()
        elif self.open and (message % 2 or message in self.seen):
            self.log.append(message)
        else:
            self.seen.update([message] if self.open else [])
            self.context.stash()


async def test_PK_ST1_unstashing_puts_back_what_was_there_and_stashing_goes_on(virtual_clock, log):
    async with stage() as runtime:
        ref = await runtime.spawn(Restashes, log)
        for message in (1, 2, 3, 4, "unstash", 5):
            ref.tell_nowait(message)
        await settled()
        assert log == [1, 3, 5]

        ref.tell_nowait("unstash")
        await settled()
        assert log == [1, 3, 5, 2, 4]


@pytest.mark.parametrize("directive", [Directive.RESUME, Directive.RESTART])
async def test_PK_ST2_after_a_failure_while_unstashing_the_rest_comes_all_the_same(directive, virtual_clock, log):
    """A restart loses no stashed message either: only the one that failed is gone."""

    class Opens(Actor):
        async def receive(self, message):
            if message == "open":
                self.context.become(self.opened)
                self.context.unstash_all()
            elif self.context.incarnation == 1:
                self.context.stash()
            else:
                await self.opened(message)

        async def opened(self, message):
            if isinstance(message, Exception):
                raise message
            log.append(message)

    supervision = Supervision(max_restarts=math.inf, backoff=AT_ONCE, on_error={Boom: directive})
    async with stage(supervision=supervision) as runtime:
        ref = await runtime.spawn(Opens, name="a")
        for message in (Boom("first"), 2, 3, "open"):
            ref.tell_nowait(message)
        await settled()

        assert log == [2, 3]
        assert [repr(letter.message) for letter in runtime.dead_letters] == ["Boom('first')"]


# --- groups, delivery, outages ----------------------------------------------------------------------------------------


@attrs.frozen
class News:
    text: str


async def test_PK_R02_a_group_follows_who_is_there(virtual_clock, log):
    """The group of those that want a message is its type's subscribers; with nobody there it reaches none, and says so."""
    async with stage() as runtime:
        assert runtime.publish(News("nobody")) == 0
        refs = [await runtime.spawn(Recorder, log, name) for name in ("a", "b")]
        for ref in refs:
            runtime.subscribe(News, ref)
        assert runtime.publish(News("both")) == 2
        await settled()

        await runtime.stop(refs[0])
        assert runtime.publish(News("one")) == 1
        await settled()
        await runtime.stop(refs[1])
        assert runtime.publish(News("none")) == 0

    assert sorted(what for _, what in log[2:4]) == ["aNews(text='both')", "bNews(text='both')"]
    assert [what for _, what in log[4:]] == ["a-", "bNews(text='one')", "b-"]
    assert list(runtime.dead_letters) == []


async def test_PK_D01_a_producer_waits_for_demand_and_what_crashed_its_worker_comes_again(virtual_clock):
    """A pool of bounded mailboxes pulls the work: nothing is lost, one crash costs one more attempt, no more than fits waits."""
    done: list[int] = []
    attempts: list[int] = []

    async def work(actor, number):
        attempts.append(number)
        await trio.sleep(1)
        if attempts.count(3) == 1 and number == 3:
            raise OSError("the line broke")
        done.append(number)

    one = MailboxSpec(1)
    again = Redelivery(2, AT_ONCE)
    async with stage(supervision=PATIENT) as runtime:
        worker = ChildSpec("w", Does, (work,), mailbox=one, redelivery=again)
        pool = await runtime.spawn(Pool(worker, 2), mailbox=one)
        most = 0
        for number in range(12):
            await pool.tell(number)
            most = max(most, number + 1 - len(done))
        await trio.sleep(20)

    assert sorted(done) == list(range(12))
    assert (attempts.count(3), len(attempts)) == (2, 13)
    assert most <= 7  # two in hand, two that wait for them, one the pool holds, one that waits for it, one just told


async def test_PK_X01_an_outage_opens_the_circuit_and_the_first_success_closes_it(virtual_clock, log):
    """The breaker for actors is ``Exhausted.PARK``: closed while the budget lasts, open for the longest delay, then tried."""
    parked: list[float] = []

    def instrument(event):
        if isinstance(event, SupervisorParked):
            parked.append(event.at_s)

    backoff = Backoff(first_s=1, factor=1, cap_s=60, jitter=0)
    supervision = Supervision(max_restarts=2, within_s=10, backoff=backoff, exhausted=Exhausted.PARK)
    failures: list[BaseException] = []
    async with stage(supervision=supervision, instruments=[instrument]) as runtime:
        ref = await runtime.spawn(Fragile, log, failures)
        failures.extend(Boom() for _ in range(2))
        ref.tell_nowait(("raise", Boom()))
        ref.tell_nowait("kept over the outage")
        await trio.sleep(100)

    assert parked == [2.0]
    assert log[:6] == [(0.0, "+"), (0.0, "-"), (1.0, "!"), (2.0, "!"), (62.0, "+"), (62.0, "kept over the outage")]


@pytest.mark.parametrize(("work_s", "stopped_at_s", "letters"), [(2, 2.0, 0), (100, 5.0, 1)])
async def test_PK_X01_a_graceful_stop_lets_the_message_in_hand_finish_within_its_time(
    work_s, stopped_at_s, letters, virtual_clock, log
):
    async with stage() as runtime:
        ref = await runtime.spawn(Recorder, log, shutdown_s=5)
        ref.tell_nowait(("sleep", work_s))
        await settled()
        await runtime.stop(ref)

        assert log[-1] == (pytest.approx(stopped_at_s, abs=0.01), "-")
        assert len(runtime.dead_letters) == letters
