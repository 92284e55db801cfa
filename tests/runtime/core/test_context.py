"""What an actor asks of its context: watching, timers, stash, become, tasks, children, later replies."""

from __future__ import annotations

import contextlib
import math
from functools import partial
from typing import Any

import pytest
import trio

from actors import (
    Actor,
    ActorFailed,
    ActorStopped,
    AskCycle,
    Backoff,
    ChildSpec,
    MailboxFull,
    MailboxSpec,
    Redelivery,
    StopReason,
    Supervision,
    Terminated,
    UsageError,
)
from actors.words import repr_of
from tests.runtime.cast import (
    AT_ONCE,
    PATIENT,
    TEMPORARY,
    TRANSIENT,
    Boom,
    Does,
    Echo,
    Recorder,
    Script,
    child,
    fail,
    names,
    settled,
    stage,
)


def does(call, *args, **options):
    """A message that makes a :class:`Script` call that method of its context."""

    async def run(actor):
        return getattr(actor.context, call)(*args, **options)

    return run


# --- watching ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("end", "reason", "error"),
    [
        ("finish", StopReason.FINISHED, None),
        ("fail", StopReason.FAILED, "Boom()"),
        ("stop", StopReason.STOPPED, None),
    ],
)
async def test_PK_W01_a_watcher_hears_of_the_end_exactly_once(end, reason, error, virtual_clock, log):
    async with stage() as runtime:
        watched = await runtime.spawn(Recorder, [], restart=TEMPORARY)
        watcher = await runtime.spawn(Script, log)
        for _ in range(3):
            await watcher.ask(does("watch", watched))

        if end == "stop":
            await runtime.stop(watched)
        else:
            watched.tell_nowait(("stop",) if end == "finish" else ("raise", Boom()))
        await settled()

    ((_, heard),) = log
    assert isinstance(heard, Terminated)
    assert (heard.ref, heard.reason, repr(heard.error) if heard.error else None) == (watched, reason, error)


async def test_PK_W01_watching_one_that_is_gone_is_answered_at_once(virtual_clock, log):
    async with stage() as runtime:
        watched = await runtime.spawn(Echo)
        await runtime.stop(watched)
        watcher = await runtime.spawn(Script, log)

        await watcher.ask(does("watch", watched))
        await settled()

    assert [(heard.ref, heard.reason) for _, heard in log] == [(watched, StopReason.STOPPED)]


async def test_PK_S01_a_restart_is_not_the_end(virtual_clock, log):
    async with stage(supervision=PATIENT) as runtime:
        watched = await runtime.spawn(Echo)
        watcher = await runtime.spawn(Script, log)
        await watcher.ask(does("watch", watched))

        watched.tell_nowait(Boom())
        await settled()

        assert watched.statistics().restarts == 1
    assert log == []


async def test_the_news_of_an_end_overtakes_the_messages_that_wait(virtual_clock, log):
    async with stage() as runtime:
        watched = await runtime.spawn(Echo)
        watcher = await runtime.spawn(Script, log, mailbox=MailboxSpec(capacity=2))
        await watcher.ask(does("watch", watched))

        async def sleep(actor):
            await trio.sleep(1)

        watcher.tell_nowait(sleep)
        await settled()
        watcher.tell_nowait(1)
        watcher.tell_nowait(2)
        await runtime.stop(watched)
        await trio.sleep(2)

    assert [type(message).__name__ for _, message in log] == ["Terminated", "int", "int"]


async def test_unwatch_takes_back_news_that_are_queued(virtual_clock, log):
    async with stage() as runtime:
        watched = await runtime.spawn(Echo)
        watcher = await runtime.spawn(Script, log)
        await watcher.ask(does("watch", watched))

        async def stop_and_unwatch(actor):
            await runtime.stop(watched)
            actor.context.unwatch(watched)

        await watcher.ask(stop_and_unwatch)
        await settled()

    assert log == []


async def test_a_watch_ends_with_the_incarnation(virtual_clock, log):
    async with stage(supervision=PATIENT) as runtime:
        watched = await runtime.spawn(Echo)
        watcher = await runtime.spawn(Script, log)
        await watcher.ask(does("watch", watched))
        watcher.tell_nowait(fail)
        await settled()

        await runtime.stop(watched)
        await settled()

    assert log == []


async def test_PK_W05_a_new_actor_of_the_same_name_is_another_one(virtual_clock, log):
    async with stage() as runtime:
        first = await runtime.spawn(Echo, name="a")
        watcher = await runtime.spawn(Script, log)
        await watcher.ask(does("watch", first))
        await runtime.stop(first)
        second = await runtime.spawn(Echo, name="a")
        await runtime.stop(second)
        await settled()

    assert first != second
    assert [heard.ref for _, heard in log] == [first]


async def test_a_supervisor_can_be_watched(virtual_clock, log):
    async with stage() as runtime:
        supervisor = await runtime.supervise([child("a", [])], name="s")
        watcher = await runtime.spawn(Script, log)
        await watcher.ask(does("watch", supervisor))
        await runtime.stop(supervisor)
        await settled()

    assert [(heard.ref, heard.reason) for _, heard in log] == [(supervisor, StopReason.STOPPED)]


# --- timers -----------------------------------------------------------------------------------------------------------


async def test_PK_K01_timers_fire_at_their_exact_times(virtual_clock, log):
    async with stage() as runtime:
        ref = await runtime.spawn(Script, log)
        await ref.ask(does("schedule_once", 2.5, "once"))
        await ref.ask(does("schedule_every", 1, "tick", "ticks"))
        await trio.sleep(3.5)
        assert await ref.ask(does("cancel", "ticks"))
        await trio.sleep(10)

    assert log == [(1.0, "tick"), (2.0, "tick"), (2.5, "once"), (3.0, "tick")]


async def test_PK_T02_a_timer_dies_with_its_incarnation_even_if_its_message_is_queued(virtual_clock, log):
    async with stage(supervision=PATIENT) as runtime:
        ref = await runtime.spawn(Script, log)

        async def set_timers_and_fail_late(actor):
            actor.context.schedule_once(1, "queued when it failed")
            actor.context.schedule_once(5, "later")
            actor.context.schedule_every(0.5, "tick")
            await trio.sleep(2)
            raise Boom

        ref.tell_nowait(set_timers_and_fail_late)
        await trio.sleep(20)

    assert log == []


async def test_PK_T02_a_cancelled_timer_is_not_received_even_if_its_message_is_queued(virtual_clock, log):
    async with stage() as runtime:
        ref = await runtime.spawn(Script, log)

        async def cancel_late(actor):
            actor.context.schedule_once(1, "never", "key")
            await trio.sleep(2)
            assert actor.context.cancel("key") is True
            assert actor.context.cancel("key") is False

        await ref.ask(cancel_late)
        await settled()

    assert log == []


async def test_a_timer_of_the_same_key_is_replaced(virtual_clock, log):
    async with stage() as runtime:
        ref = await runtime.spawn(Script, log)
        await ref.ask(does("schedule_once", 1, "old", "key"))
        await ref.ask(does("schedule_once", 2, "new", "key"))
        await trio.sleep(5)

    assert log == [(2.0, "new")]


async def test_PK_T03_a_fixed_rate_timer_does_not_pile_up_behind_a_slow_handler(virtual_clock, log):
    async with stage() as runtime:
        ref = await runtime.spawn(Script, log)

        async def sleep(actor):
            await trio.sleep(4.5)

        await ref.ask(does("schedule_every", 1, "tick"))
        ref.tell_nowait(sleep)
        await trio.sleep(6.2)

    assert log == [(4.5, "tick"), (5.0, "tick"), (6.0, "tick")]


HUGE = 10**400


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (("schedule_once", -1, "x"), "schedule_once(-1): expected seconds >= 0.\n  Fix: a delay of 0 or more."),
        (("schedule_every", 0, "x"), "schedule_every(0): expected seconds > 0.\n  Fix: an interval above 0."),
        (("schedule_every", math.nan, "x"), "schedule_every(nan): expected seconds > 0.\n  Fix: an interval above 0."),
        (("schedule_once", "a", "x"), "schedule_once('a'): expected seconds >= 0.\n  Fix: a delay of 0 or more."),
        (("schedule_every", None, "x"), "schedule_every(None): expected seconds > 0.\n  Fix: an interval above 0."),
        (
            ("schedule_once", 10**400, "x"),
            f"schedule_once({repr_of(10**400)}): expected seconds >= 0.\n  Fix: a delay of 0 or more.",
        ),
    ],
)
async def test_impossible_timers_are_refused(call, words, virtual_clock, log):
    async with stage(supervision=PATIENT) as runtime:
        ref = await runtime.spawn(Script, log)

        with pytest.raises(ActorFailed) as caught:
            await ref.ask(does(*call))

    assert str(caught.value.__cause__) == words


async def test_a_context_that_has_ended_does_nothing_more(virtual_clock, log):
    async with stage(supervision=PATIENT) as runtime:
        ref = await runtime.spawn(Script, log, name="a")
        contexts = []

        async def leak(actor):
            contexts.append(actor.context)
            raise Boom

        ref.tell_nowait(leak)
        await settled()
        with pytest.raises(UsageError) as caught:
            contexts[0].schedule_once(1, "never")

    assert str(caught.value) == (
        "incarnation 1 of 'a' has ended, so it sets no timers.\n  Fix: keep no context beyond the actor's lifespan."
    )


# --- stash and become -------------------------------------------------------------------------------------------------


class Locker(Recorder):
    """Stashes everything until it is opened."""

    async def receive(self, message):
        if message == "open":
            self.context.become(self.opened)
            self.context.unstash_all()
        elif message == "fail":
            raise Boom
        else:
            self.context.stash()

    async def opened(self, message):
        self.note(message)
        return message


async def test_stashed_messages_come_back_in_order_before_what_waits(virtual_clock, log):
    async with stage() as runtime:
        ref = await runtime.spawn(Locker, log)
        for message in (1, 2, 3, "open", 4):
            ref.tell_nowait(message)
        await settled()

        assert ref.statistics().handled == 5

    assert names(log) == "+ 1 2 3 4 -"


async def test_the_asker_of_a_stashed_message_waits_and_may_withdraw_it(virtual_clock, log):
    answers = []

    async def ask(ref, message):
        answers.append(await ref.ask(message))

    async with stage() as runtime:
        ref = await runtime.spawn(Locker, log)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, ref, "kept")
            with trio.move_on_after(1):
                await ref.ask("withdrawn")
            await ref.tell("open")

    assert answers == ["kept"]
    assert names(log) == "+ kept -"


async def test_PK_M07_the_stash_is_bounded(virtual_clock, log):
    async with stage(supervision=PATIENT) as runtime:
        ref = await runtime.spawn(Locker, log, name="locker", mailbox=MailboxSpec(capacity=2))
        await ref.tell(1)
        await ref.tell(2)

        with pytest.raises(ActorFailed) as caught:
            await ref.ask(3)

    assert isinstance(caught.value.__cause__, MailboxFull)
    assert str(caught.value.__cause__) == (
        "'locker' cannot stash another message: 2 of 2 are stashed.\n"
        "  Fix: unstash_all() earlier, or a larger mailbox: the stash holds as many messages as the mailbox."
    )


async def test_PK_M08_stashing_twice_is_an_error_and_the_stash_survives_a_restart(virtual_clock, log):
    class Twice(Locker):
        async def receive(self, message):
            await super().receive(message)
            if message == "twice":
                self.context.stash()

    async with stage(supervision=PATIENT) as runtime:
        ref = await runtime.spawn(Twice, log, name="locker")
        ref.tell_nowait(1)
        with pytest.raises(ActorFailed) as caught:
            await ref.ask("twice")
        ref.tell_nowait("open")
        await settled()

    assert str(caught.value.__cause__) == (
        "'locker' called stash(), and has no current message that is not stashed or promised a reply already.\n"
        "  Fix: call stash() once, in the handler of the message."
    )
    assert names(log) == "+ - + 1 -"


async def test_PK_ST3_what_is_stashed_at_the_stop_are_dead_letters(virtual_clock, log):
    async with stage() as runtime:
        ref = await runtime.spawn(Locker, log)
        for message in (1, 2):
            ref.tell_nowait(message)
        await settled()
        await runtime.stop(ref)

        assert [(letter.message, letter.reason.value) for letter in runtime.dead_letters] == [(1, "stopped"), (2, "stopped")]


async def test_become_lasts_for_one_incarnation(virtual_clock, log):
    async with stage(supervision=PATIENT) as runtime:
        ref = await runtime.spawn(Locker, log)
        ref.tell_nowait("open")
        await ref.ask("fails not any more")

        async def give_up(_):
            raise Boom

        ref.cell.become(give_up)
        with pytest.raises(ActorFailed):
            await ref.ask("crash")
        ref.tell_nowait("stashed again")
        await settled()
        await runtime.stop(ref)

    assert names(log) == "+ fails not any more - + -"


# --- tasks of its own -------------------------------------------------------------------------------------------------


async def test_a_failing_task_crashes_its_actor_and_none_outlives_it(virtual_clock, log):
    async def tick(actor, name, seconds, error):
        try:
            await trio.sleep(seconds)
            if error is not None:
                raise error
        finally:
            actor.note(name)

    class Busy(Recorder):
        async def receive(self, message):
            for name, seconds, error in (("x", 5, None), ("y", 2, Boom()), ("z", 1, None)):
                self.context.nursery.start_soon(tick, self, name, seconds, error)

    async with stage(supervision=PATIENT) as runtime:
        ref = await runtime.spawn(Busy, log)
        await ref.tell("go")
        await trio.sleep(10)

        assert ref.statistics().restarts == 1
    assert log == [(0, "+"), (1, "z"), (2, "y"), (2, "x"), (2, "-"), (2, "+"), (10, "-")]


async def test_a_failing_task_fails_the_message_in_hand_with_its_error(virtual_clock):
    async def fail_soon():
        await trio.sleep(1)
        raise Boom("beside")

    async def start_and_wait(actor, message):
        actor.context.nursery.start_soon(fail_soon)
        await trio.sleep(10)

    async with stage(supervision=PATIENT) as runtime:
        ref = await runtime.spawn(Does, start_and_wait)
        with pytest.raises(ActorFailed) as caught:
            await ref.ask("go")

    assert repr(caught.value.__cause__) == "Boom('beside')"


async def test_a_crash_beside_a_handler_that_swallows_it_reaches_no_other_message(virtual_clock):
    handled = []

    async def fail_soon():
        raise Boom

    async def handle(actor, message):
        handled.append((actor.context.incarnation, message))
        if message == "deaf":
            actor.context.nursery.start_soon(fail_soon)
            with contextlib.suppress(trio.Cancelled):
                await trio.sleep(10)

    async with stage(supervision=PATIENT) as runtime:
        ref = await runtime.spawn(Does, handle)
        ref.tell_nowait("deaf")
        ref.tell_nowait("next")
        await settled()

    assert handled == [(1, "deaf"), (2, "next")]


async def test_asks_made_in_a_task_of_its_own_do_not_hold_the_actor_up(virtual_clock):
    answers = []

    async def ask(ref, message):
        answers.append(await ref.ask(message))

    async def handle(actor, message):
        if message == "go":
            actor.context.nursery.start_soon(ask, actor.context.ref, "from my own task")
        return message

    async with stage() as runtime:
        ref = await runtime.spawn(Does, handle)
        await ref.ask("go")
        await settled()

    assert answers == ["from my own task"]


async def test_a_child_spawned_from_such_a_task_is_held_up_by_its_own_asks(virtual_clock):
    spawned: list[Any] = []

    async def ask_oneself(actor, message):
        await actor.context.ref.ask("?")

    async def spawn(context):
        spawned.append(await context.spawn(Does, ask_oneself))

    async def start(actor):
        actor.context.nursery.start_soon(spawn, actor.context)

    async with stage() as runtime:
        script = await runtime.spawn(Script, [])
        await script.ask(start)
        await settled()
        with pytest.raises(ActorFailed) as caught, trio.fail_after(5):
            await spawned[0].ask("go")

    assert isinstance(caught.value.__cause__, AskCycle)


async def test_an_interrupt_out_of_a_task_ends_the_tree(virtual_clock):
    async def interrupt():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):  # noqa: PT012 - it comes out of the end of the block
        async with stage() as runtime:
            ref = await runtime.spawn(Script, [])

            async def start(actor):
                actor.context.nursery.start_soon(interrupt)

            await ref.ask(start)
            await trio.sleep_forever()


# --- replies for later ------------------------------------------------------------------------------------------------


class Later(Actor):
    """Keeps the right to reply until it is told ``("answer", value)`` or ``("refuse", error)``."""

    def __init__(self):
        self.replies = []

    async def receive(self, message):
        match message:
            case ("answer", value):
                self.replies.pop(0).send(value)
            case ("refuse", error):
                self.replies.pop(0).fail(error)
            case "fail":
                raise Boom
            case "stop":
                self.context.stop()
            case _:
                self.replies.append(self.context.reply_later())
        return "not this"


async def test_OTP_086_a_reply_can_come_later_and_others_are_served_meanwhile(virtual_clock):
    answers = []

    async def ask(ref, message):
        answers.append(await ref.ask(message))

    async with stage() as runtime:
        ref = await runtime.spawn(Later)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, ref, "question")
            await settled()
            assert await ref.ask(("answer", 42)) == "not this"

    assert answers == [42]


@pytest.mark.parametrize(
    ("end", "kind", "words"),
    [
        (("refuse", Boom("no")), ActorFailed, "'a' failed while it handled a str message: Boom: no"),
        ("fail", ActorFailed, "'a' failed while it handled a str message: Boom: "),
        ("stop", ActorStopped, "'a' was stopped while it handled a str message."),
    ],
)
async def test_an_ask_whose_reply_was_promised_still_ends(end, kind, words, virtual_clock):
    ends = []

    async def ask(ref):
        with pytest.raises(kind) as caught:
            await ref.ask("question")
        ends.append(str(caught.value).splitlines()[0])

    async with stage(supervision=PATIENT) as runtime:
        ref = await runtime.spawn(Later, name="a")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, ref)
            await settled()
            ref.tell_nowait(end)

    assert ends == [words]


async def test_a_late_reply_is_a_dead_letter_and_a_second_one_an_error(virtual_clock):
    async with stage(supervision=PATIENT) as runtime:
        ref = await runtime.spawn(Later)
        with trio.move_on_after(1):
            await ref.ask("question")

        await ref.ask(("answer", 42))
        assert [(letter.message, letter.reason.value) for letter in runtime.dead_letters] == [(42, "late_reply")]

        reply: Any = None

        async def keep(actor):
            nonlocal reply
            reply = actor.context.reply_later()
            reply.send(1)

        script = await runtime.spawn(Script, [])
        assert await script.ask(keep) == 1
        with pytest.raises(UsageError, match=r"^this reply was sent already; an ask has one answer\."):
            reply.send(2)


async def test_a_promised_reply_breaks_a_ring_of_asks(virtual_clock):
    async with stage() as runtime:
        back: list[Any] = []

        async def forward(actor, message):
            if message == "question":
                reply = actor.context.reply_later()
                actor.context.nursery.start_soon(answer, actor, reply)
                return None
            return f"helped with {message}"

        async def answer(actor, reply):
            reply.send(await back[0].ask("detail"))

        async def relay(actor, message):
            if message == "detail":
                return await forwarder.ask("part")
            return None

        forwarder = await runtime.spawn(Does, forward)
        back.append(await runtime.spawn(Does, relay))

        assert await forwarder.ask("question") == "helped with part"


# --- children ---------------------------------------------------------------------------------------------------------


class Parent(Recorder):
    async def receive(self, message):
        if message == "spawn":
            return await self.context.spawn(Recorder, self.log, "child", name="child")
        if message == "fail":
            raise Boom
        return await super().receive(message)


async def test_PK_S11_children_stop_before_the_next_incarnation_and_before_the_lifespan_is_left(virtual_clock, log):
    async with stage(supervision=PATIENT) as runtime:
        ref = await runtime.spawn(Parent, log, name="parent")
        grandchild = await ref.ask("spawn")
        assert grandchild.address == "parent/child"
        assert runtime.whereis("parent/child") is grandchild

        ref.tell_nowait("fail")
        await settled()
        assert runtime.whereis("parent/child") is None
        await ref.ask("spawn")

    assert names(log) == "+ child+ child- - + child+ child- -"


async def test_children_that_exhaust_their_budget_fail_their_parent(virtual_clock, log):
    async with stage(supervision=PATIENT) as runtime:
        ref = await runtime.spawn(Parent, log, restart=TRANSIENT)
        offspring = await ref.ask("spawn")
        for _ in range(4):
            offspring.tell_nowait(("raise", Boom()))
        await trio.sleep(5)

        assert ref.statistics().restarts == 1


async def test_two_children_spawned_at_once(virtual_clock, log):
    async def spawn_both(actor):
        async with trio.open_nursery() as nursery:
            for name in "ab":
                nursery.start_soon(partial(actor.context.spawn, Echo, name=name))

    async with stage() as runtime:
        ref = await runtime.spawn(Script, log, name="p")
        await ref.ask(spawn_both)

        assert sorted(runtime.statistics().actors) == ["p", "p/a", "p/b"]


async def test_the_time_of_the_children_is_their_parents(virtual_clock, log):
    async with stage() as runtime:
        ref = await runtime.spawn(Parent, log, shutdown_s=2)
        offspring = await ref.ask("spawn")
        offspring.tell_nowait(("sleep", 1000))
        await settled()
        await runtime.stop(ref)

    assert log[-2:] == [(2.0, "child-"), (2.0, "-")]


async def test_parent_names_what_supervises_the_actor(virtual_clock, log):
    async def parent(actor, message):
        return actor.context.parent

    async def spawn(actor):
        return await actor.context.spawn(Does, parent)

    async with stage() as runtime:
        supervisor = await runtime.supervise([], name="s")
        script = await runtime.spawn(Script, log)

        assert await (await runtime.spawn(Does, parent)).ask("?") is None
        assert await (await script.ask(spawn)).ask("?") is script
        assert await (await supervisor.start_child(ChildSpec("a", Does, (parent,)))).ask("?") is supervisor


async def test_stopping_oneself_is_a_normal_end_and_stopping_another_is_for_good(virtual_clock, log):
    async with stage(supervision=Supervision(backoff=AT_ONCE)) as runtime:
        ref = await runtime.spawn(Recorder, log, name="a")
        ref.tell_nowait(("stop",))
        ref.tell_nowait("handled by the next one")
        await settled()
        assert ref.statistics().incarnation == 2

        script = await runtime.spawn(Script, [])
        await script.ask(does("stop", ref))
        await settled()
        assert runtime.whereis("a") is None

    assert names(log) == "+ - + handled by the next one -"


async def test_a_redelivered_message_waits_its_own_backoff_while_its_actor_is_up(virtual_clock, log):
    attempts = []

    async def handle(actor, message):
        attempts.append((trio.current_time(), actor.context.incarnation))
        raise Boom

    supervision = Supervision(max_restarts=math.inf, backoff=Backoff(first_s=1, jitter=0))
    async with stage(supervision=supervision) as runtime:
        ref = await runtime.spawn(Does, handle, redelivery=Redelivery(3, Backoff(first_s=10, jitter=0)))
        with pytest.raises(ActorFailed):
            await ref.ask("work")

    assert attempts == [(0, 1), (10, 2), (30, 3)]
