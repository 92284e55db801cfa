"""Tells and asks: order, every way in which an ask ends, and what becomes of work that nobody wants any more."""

from __future__ import annotations

import contextlib
import math
import pickle
import re
from typing import Any

import pytest
import trio
import trio.testing

from actors import (
    ActorFailed,
    ActorStopped,
    AskCycle,
    Backoff,
    MailboxFull,
    MailboxSpec,
    Overflow,
    Redelivery,
    RestartType,
    Supervision,
)
from runtime import DeadReason
from tests.runtime.cast import AT_ONCE, PATIENT, Boom, Does, Echo, Recorder, names, stage


async def test_messages_of_one_sender_arrive_in_order(virtual_clock, log):
    async with stage() as runtime:
        ref = await runtime.spawn(Recorder, log, mailbox=MailboxSpec(capacity=3))

        for number in range(10):
            await ref.tell(number)
        await ref.ask("last")

    assert names(log) == "+ 0 1 2 3 4 5 6 7 8 9 last -"


async def test_an_ask_returns_what_the_handler_returns(virtual_clock):
    async with stage() as runtime:
        ref = await runtime.spawn(Echo)

        assert await ref.ask("hello") == "hello"


async def test_an_exception_can_be_a_reply_value(virtual_clock):
    async def answer(actor, message):
        return ValueError("a value, not a failure")

    async with stage() as runtime:
        ref = await runtime.spawn(Does, answer)

        assert repr(await ref.ask("?")) == "ValueError('a value, not a failure')"


async def test_an_actor_that_raises_fails_the_ask_with_its_error_as_cause(virtual_clock):
    async with stage(supervision=PATIENT) as runtime:
        ref = await runtime.spawn(Echo, name="echo")

        with pytest.raises(
            ActorFailed, match=r"^'echo' failed while it handled a Boom message: Boom: it broke\n  at .*:\d+ in receive$"
        ) as caught:
            await ref.ask(Boom("it broke"))

        assert repr(caught.value.__cause__) == "Boom('it broke')"
        assert caught.value.address == "echo"
        assert await ref.ask("again") == "again"


async def test_the_error_reaches_the_asker_before_the_clean_up_of_the_actor(virtual_clock):
    class Slow(Echo):
        @contextlib.asynccontextmanager
        async def lifespan(self):
            try:
                yield
            finally:
                await trio.sleep(3)

    async with stage(supervision=PATIENT) as runtime:
        ref = await runtime.spawn(Slow, name="slow")

        with pytest.raises(ActorFailed):
            await ref.ask(Boom())

        assert trio.current_time() == 0


@pytest.mark.parametrize("ending", ["stopped", "queued", "in hand", "killed", "gone"])
async def test_an_ask_ends_in_the_same_instant_as_the_actor(ending, virtual_clock):
    outcomes = []

    async def ask(ref):
        with pytest.raises(ActorStopped) as caught:
            await ref.ask("second")
        outcomes.append((trio.current_time(), str(caught.value).splitlines()[0]))

    async with stage() as runtime:
        shutdown_s = 0 if ending == "killed" else 5
        ref = await runtime.spawn(Does, sleeps(2), name="a", shutdown_s=shutdown_s)
        async with trio.open_nursery() as nursery:
            if ending == "gone":
                await runtime.stop(ref)
            elif ending in ("queued", "stopped"):
                await ref.tell("first")
            nursery.start_soon(ask, ref)
            await trio.testing.wait_all_tasks_blocked()
            if ending == "in hand":
                # It is the message in hand, and it outlasts the time that a stop allows it.
                ref.cell.shutdown_s = 1
            await runtime.stop(ref)

    was_begun = "'a' was stopped while it handled a str message."
    never_begun = "'a' has stopped; a str message was not handled."
    assert outcomes == [
        {
            "stopped": (2.0, never_begun),
            "queued": (2.0, never_begun),
            "gone": (0.0, never_begun),
            "in hand": (1.0, was_begun),
            "killed": (0.0, was_begun),
        }[ending]
    ]


def sleeps(seconds):
    async def handle(actor, message):
        await trio.sleep(seconds)
        return "done"

    return handle


@pytest.mark.parametrize("restart", list(RestartType))
async def test_an_ask_ends_whatever_becomes_of_the_actor(restart, virtual_clock):
    async with stage(supervision=PATIENT) as runtime:
        ref = await runtime.spawn(Echo, restart=restart)

        with pytest.raises(ActorFailed):
            await ref.ask(Boom())


async def test_an_ask_waits_through_a_backoff_and_is_answered_by_the_next_incarnation(virtual_clock):
    async with stage(supervision=slowly(4)) as runtime:
        ref = await runtime.spawn(Echo)
        ref.tell_nowait(Boom())
        await trio.testing.wait_all_tasks_blocked()

        assert await ref.ask("hello") == "hello"

        assert trio.current_time() == 4


def slowly(delay_s, **options):
    return Supervision(backoff=Backoff(first_s=delay_s, jitter=0), max_restarts=math.inf, **options)


async def test_cancelling_an_ask_withdraws_its_queued_message(virtual_clock, log):
    async with stage() as runtime:
        ref = await runtime.spawn(Recorder, log)
        ref.tell_nowait(("sleep", 2))

        with trio.move_on_after(1):
            await ref.ask("unwanted")
        await ref.ask("wanted")

    assert names(log) == "+ wanted -"
    assert ref.statistics().handled == 2


async def test_cancelling_an_ask_cancels_its_handling_and_that_is_no_crash(virtual_clock):
    cancelled_at = []

    async def handle(actor, message):
        if message == "incarnation":
            return actor.context.incarnation
        try:
            await trio.sleep(10)
        finally:
            cancelled_at.append(trio.current_time())

    async with stage() as runtime:
        ref = await runtime.spawn(Does, handle)
        with trio.move_on_after(1):
            await ref.ask("work")

        assert await ref.ask("incarnation") == 1

    assert cancelled_at == [1.0]


async def test_a_cancelled_ask_that_blocks_on_a_full_mailbox_was_never_sent(virtual_clock, log):
    async with stage() as runtime:
        ref = await runtime.spawn(Recorder, log, mailbox=MailboxSpec(capacity=1))
        ref.tell_nowait(("sleep", 2))
        await trio.testing.wait_all_tasks_blocked()
        ref.tell_nowait("queued")

        with trio.move_on_after(1):
            await ref.ask("blocked")
        await ref.ask("last")

    assert names(log) == "+ queued last -"


async def test_cancelling_an_ask_withdraws_its_message_from_the_wait_for_redelivery(virtual_clock):
    seen = []

    async def handle(actor, message):
        seen.append((trio.current_time(), message))
        raise Boom

    async with stage(supervision=PATIENT) as runtime:
        ref = await runtime.spawn(Does, handle, redelivery=Redelivery(5, Backoff(first_s=10, jitter=0)))
        with trio.move_on_after(1):
            await ref.ask("work")
        await trio.sleep(100)

    assert seen == [(0.0, "work")]
    assert list(runtime.dead_letters) == []


async def test_a_handler_that_swallows_its_cancellation_harms_nobody(virtual_clock):
    async def handle(actor, message):
        try:
            await trio.sleep(10 if message == "work" else 0)
        except trio.Cancelled:
            return "too late"
        return message

    async with stage() as runtime:
        ref = await runtime.spawn(Does, handle, name="deaf")
        with trio.move_on_after(1):
            await ref.ask("work")

        assert await ref.ask("next") == "next"

        letter = runtime.dead_letters[-1]
        assert (letter.recipient, letter.reason, letter.message) == ("(asker)", DeadReason.LATE_REPLY, "too late")


async def test_detach_keeps_the_work_going_and_the_late_reply_is_a_dead_letter(virtual_clock):
    async with stage() as runtime:
        ref = await runtime.spawn(Does, sleeps(5), name="slow")
        with trio.move_on_after(1):
            await ref.ask("work", detach=True)
        await trio.sleep(10)

        assert ref.statistics().handled == 1
        assert [(letter.reason.value, letter.message) for letter in runtime.dead_letters] == [("late_reply", "done")]


async def test_deadlines_travel_with_the_message(virtual_clock):
    async def handle(actor, message):
        return trio.current_effective_deadline()

    async with stage() as runtime:
        outer = await runtime.spawn(Does, handle)

        async def relay(actor, message):
            return await outer.ask("inner")

        inner = await runtime.spawn(Does, relay)
        with trio.fail_after(7):
            assert await inner.ask("outer") == 7.0
        assert await outer.ask("none") == math.inf
        with trio.fail_after(7):
            assert await outer.ask("none", detach=True) == math.inf


async def test_an_ask_whose_deadline_was_moved_after_the_sending_still_ends(virtual_clock):
    async with stage() as runtime:
        ref = await runtime.spawn(Does, sleeps(5), name="slow")
        scope = trio.CancelScope(deadline=1)

        async def move():
            await trio.sleep(0.5)
            scope.deadline = 10

        async with trio.open_nursery() as nursery:
            nursery.start_soon(move)
            with scope, pytest.raises(ActorFailed, match=r"^'slow' did not answer a str message by the deadline"):
                await ref.ask("work")

    assert not scope.cancelled_caught


async def test_an_ask_that_is_too_late_displaces_nobody(virtual_clock, log):
    async with stage() as runtime:
        ref = await runtime.spawn(Recorder, log, mailbox=MailboxSpec(capacity=1, overflow=Overflow.DROP_OLDEST))
        ref.tell_nowait("kept")

        with trio.CancelScope() as scope:
            scope.cancel()
            await ref.ask("late")
        await trio.testing.wait_all_tasks_blocked()

    assert names(log) == "+ kept -"


@pytest.mark.parametrize("length", [1, 2, 3])
async def test_an_ask_that_closes_a_ring_is_refused_and_names_it(length, virtual_clock):
    async with stage() as runtime:
        refs: list[Any] = []

        async def handle(actor, hops):
            following = refs[(refs.index(actor.context.ref) + 1) % length]
            return await following.ask(hops + 1)

        refs += [await runtime.spawn(Does, handle, name=f"a{number}") for number in range(length)]
        with pytest.raises(ActorFailed) as caught:
            await refs[0].ask(1)

    error: Any = caught.value
    while not isinstance(error, AskCycle):
        error = error.__cause__
    assert error.cycle == {1: ("a0", "a0"), 2: ("a1", "a0", "a1"), 3: ("a2", "a0", "a1", "a2")}[length]
    first = {
        1: "'a0' asks itself: it handles one message at a time, so the answer could never come.",
        2: "this ask closes a cycle of actors that wait for each other: a1 -> a0 -> a1.",
        3: "this ask closes a cycle of actors that wait for each other: a2 -> a0 -> a1 -> a2.",
    }[length]
    assert re.sub(r"\n.*", "", str(error), flags=re.DOTALL) == first


async def test_asks_one_after_another_are_no_cycle(virtual_clock):
    async with stage() as runtime:
        a = await runtime.spawn(Echo)

        async def relay(actor, message):
            return [await a.ask(1), await a.ask(2)]

        b = await runtime.spawn(Does, relay)

        assert await b.ask("go") == [1, 2]


async def test_a_message_to_an_actor_that_has_stopped_is_a_dead_letter(virtual_clock):
    async with stage() as runtime:
        ref = await runtime.spawn(Echo, name="gone")
        await runtime.stop(ref)

        await ref.tell("hello")
        ref.tell_nowait("again")

        assert [(d.recipient, d.reason.value, d.message, d.sender) for d in runtime.dead_letters] == [
            ("gone", "stopped", "hello", None),
            ("gone", "stopped", "again", None),
        ]


@pytest.mark.parametrize("policy", [Overflow.REJECT, Overflow.DROP_NEWEST])
async def test_an_ask_that_finds_no_room_ends_with_mailbox_full(policy, virtual_clock):
    async with stage() as runtime:
        ref = await runtime.spawn(Does, sleeps(5), name="busy", mailbox=MailboxSpec(capacity=1, overflow=policy))
        ref.tell_nowait("in hand")
        await trio.testing.wait_all_tasks_blocked()
        ref.tell_nowait("queued")

        with pytest.raises(MailboxFull) as caught:
            await ref.ask("too many")

    assert str(caught.value) == (
        f"'busy' rejected a str message: 1 of 1 messages wait, overflow={policy.name}.\n"
        "  Cause: messages come faster than the actor handles them.\n"
        "  Fix: MailboxSpec(capacity=4), or overflow=Overflow.BLOCK with tell(), or send more slowly."
    )


async def test_an_ask_that_drop_oldest_drops_ends_with_mailbox_full(virtual_clock):
    outcomes = []

    async def ask(ref):
        with pytest.raises(MailboxFull):
            await ref.ask("dropped")
        outcomes.append(trio.current_time())

    async with stage() as runtime:
        spec = MailboxSpec(capacity=1, overflow=Overflow.DROP_OLDEST)
        ref = await runtime.spawn(Does, sleeps(5), name="busy", mailbox=spec)
        ref.tell_nowait("in hand")
        await trio.testing.wait_all_tasks_blocked()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, ref)
            await trio.testing.wait_all_tasks_blocked()
            ref.tell_nowait("newer")

        assert outcomes == [0.0]
        assert [(d.reason.value, d.message) for d in runtime.dead_letters] == [("overflow", "dropped")]


async def test_a_ref_cannot_be_pickled_and_says_what_to_send(virtual_clock):
    async with stage() as runtime:
        ref = await runtime.spawn(Echo, name="here")

        with pytest.raises(TypeError) as caught:
            pickle.dumps(ref)

    assert str(caught.value) == (
        "the ref to 'here' is bound to a running runtime and cannot be pickled.\n"
        "  Fix: send its address, and look it up there with runtime.whereis(address)."
    )


async def test_a_redelivered_ask_is_answered_by_a_later_attempt(virtual_clock):
    attempts = []

    async def handle(actor, message):
        attempts.append(trio.current_time())
        if len(attempts) < 3:
            raise Boom
        return "at last"

    async with stage(supervision=PATIENT) as runtime:
        ref = await runtime.spawn(Does, handle, redelivery=Redelivery(3, Backoff(first_s=1, jitter=0)))

        assert await ref.ask("work") == "at last"

    assert attempts == [0.0, 1.0, 3.0]


async def test_a_message_out_of_attempts_is_a_dead_letter_with_its_last_error(virtual_clock):
    async with stage(supervision=PATIENT) as runtime:
        ref = await runtime.spawn(Echo, name="echo", redelivery=Redelivery(3, AT_ONCE))

        with pytest.raises(ActorFailed) as caught:
            await ref.ask(Boom("always"))

        text, _, place = str(caught.value).partition("\n  at ")
        assert text == "'echo' failed while it handled a Boom message (attempt 3 of 3): Boom: always"
        assert place.endswith(" in receive")
        (letter,) = runtime.dead_letters
        assert (letter.reason.value, letter.attempts, repr(letter.error)) == ("failed", 3, "Boom('always')")


async def test_a_poison_message_does_not_starve_the_actor_it_poisons(virtual_clock):
    handled = []

    async def handle(actor, message):
        if message == "poison":
            raise Boom
        handled.append((trio.current_time(), message))

    async with stage(supervision=PATIENT) as runtime:
        ref = await runtime.spawn(Does, handle, redelivery=Redelivery(100, Backoff(first_s=5, factor=1, jitter=0)))
        ref.tell_nowait("poison")
        for number in range(3):
            ref.tell_nowait(number)
        await trio.sleep(1)

    assert handled == [(0.0, 0), (0.0, 1), (0.0, 2)]


@pytest.mark.parametrize("kind", [ValueError, TypeError, KeyError, AssertionError])
async def test_programming_errors_are_not_redelivered(kind, virtual_clock):
    async with stage(supervision=PATIENT) as runtime:
        ref = await runtime.spawn(Echo, redelivery=Redelivery(5))

        with pytest.raises(ActorFailed):
            await ref.ask(kind("bug"))

        assert runtime.dead_letters[-1].attempts == 1


async def test_messages_sent_during_a_backoff_are_kept_under_the_same_bound(virtual_clock, log):
    async with stage(supervision=slowly(10)) as runtime:
        spec = MailboxSpec(capacity=2, overflow=Overflow.DROP_NEWEST)
        ref = await runtime.spawn(Recorder, log, mailbox=spec)
        ref.tell_nowait(("raise", Boom()))
        await trio.testing.wait_all_tasks_blocked()

        for number in range(4):
            ref.tell_nowait(number)
        await trio.sleep(20)

        assert [letter.message for letter in runtime.dead_letters][1:] == [2, 3]
    assert log == [(0.0, "+"), (0.0, "-"), (10.0, "+"), (10.0, "0"), (10.0, "1"), (20.0, "-")]


async def test_a_told_value_that_is_returned_goes_nowhere(virtual_clock):
    async with stage() as runtime:
        ref = await runtime.spawn(Echo)
        await ref.tell("hello")
        await trio.testing.wait_all_tasks_blocked()

        assert runtime.statistics().dead_letters == 0
