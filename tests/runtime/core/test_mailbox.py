"""The mailbox by itself: bound, policies, blocked senders, withdrawn messages, receivers."""

from __future__ import annotations

import math
from typing import Any

import pytest
import trio
import trio.testing

from actors import ActorFailed, ActorStopped, MailboxFull, MailboxSpec, Overflow
from runtime.core.envelope import Envelope, OneShot
from runtime.core.mailbox import Mailbox


class DeadLetterSink:
    def __init__(self):
        self.letters = []

    def add(self, recipient, reason, envelope, error=None):
        self.letters.append((recipient, reason.value, envelope.message))


@pytest.fixture
def dead_letters():
    return DeadLetterSink()


def mailbox_of(dead_letters: Any, capacity: float = 2, overflow: Overflow = Overflow.BLOCK) -> Any:
    return Mailbox("box", MailboxSpec(capacity, overflow), dead_letters)


def envelope(message, slot=None):
    return Envelope(message, "sender", slot, trio.current_time())


def drain(mailbox):
    found = []
    while (taken := mailbox.take_nowait()) is not None:
        found.append(taken.message)
    return found


async def test_messages_come_out_in_the_order_in_which_they_went_in(virtual_clock, dead_letters):
    mailbox = mailbox_of(dead_letters, math.inf)
    for number in range(1000):
        mailbox.put_nowait(envelope(number))

    assert len(mailbox) == 1000
    assert drain(mailbox) == list(range(1000))
    assert len(mailbox) == 0


@pytest.mark.parametrize(
    ("policy", "kept", "dropped"),
    [(Overflow.DROP_NEWEST, [0, 1], [2, 3]), (Overflow.DROP_OLDEST, [2, 3], [0, 1])],
)
async def test_the_dropping_policies(policy, kept, dropped, virtual_clock, dead_letters):
    mailbox = mailbox_of(dead_letters, 2, policy)
    for number in range(4):
        mailbox.put_nowait(envelope(number))

    assert dead_letters.letters == [("box", "overflow", number) for number in dropped]
    assert mailbox.statistics().dropped == 2
    assert drain(mailbox) == kept


@pytest.mark.parametrize("policy", [Overflow.REJECT, Overflow.BLOCK])
async def test_the_refusing_policies(policy, virtual_clock, dead_letters):
    mailbox = mailbox_of(dead_letters, 2, policy)
    for number in range(2):
        mailbox.put_nowait(envelope(number))

    with pytest.raises(MailboxFull, match=rf"^'box' rejected an int message from 'sender': 2 of 2 .* overflow={policy.name}\."):
        mailbox.put_nowait(envelope(3))

    assert (drain(mailbox), dead_letters.letters) == ([0, 1], [])


async def test_reject_refuses_a_waiting_put_as_well(virtual_clock, dead_letters):
    mailbox = mailbox_of(dead_letters, 1, Overflow.REJECT)
    await mailbox.put(envelope(1))

    with pytest.raises(MailboxFull):
        await mailbox.put(envelope(2))


async def test_blocked_senders_are_let_in_in_their_order_and_a_cancelled_one_was_not_sent(virtual_clock, dead_letters):
    mailbox = mailbox_of(dead_letters, 1)
    mailbox.put_nowait(envelope("first"))
    scopes = {name: trio.CancelScope() for name in "abc"}

    async def send(name):
        with scopes[name]:
            await mailbox.put(envelope(name))

    async with trio.open_nursery() as nursery:
        for name in "abc":
            nursery.start_soon(send, name)
            await trio.testing.wait_all_tasks_blocked()
        assert mailbox.statistics().blocked_senders == 3
        scopes["b"].cancel()
        await trio.testing.wait_all_tasks_blocked()

        assert drain(mailbox) == ["first", "a", "c"]
    assert dead_letters.letters == []


async def test_nobody_overtakes_a_blocked_sender(virtual_clock, dead_letters):
    mailbox = mailbox_of(dead_letters, 1)
    mailbox.put_nowait(envelope("first"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(mailbox.put, envelope("blocked"))
        await trio.testing.wait_all_tasks_blocked()
        assert mailbox.take_nowait().message == "first"

        with pytest.raises(MailboxFull):
            mailbox.put_nowait(envelope("overtaking"))

        assert drain(mailbox) == ["blocked"]


async def test_a_withdrawn_message_makes_room_at_once(virtual_clock, dead_letters):
    mailbox = mailbox_of(dead_letters, 1)
    withdrawn = envelope("withdrawn", OneShot())
    mailbox.put_nowait(withdrawn)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(mailbox.put, envelope("blocked"))
        await trio.testing.wait_all_tasks_blocked()

        withdrawn.withdraw()

    assert (len(mailbox), drain(mailbox)) == (1, ["blocked"])


async def test_withdrawn_messages_do_not_pile_up(virtual_clock, dead_letters):
    mailbox = mailbox_of(dead_letters, 10)
    for number in range(10_000):
        late = envelope(number)
        mailbox.put_nowait(late)
        late.withdraw()

    assert len(mailbox._queue) < 50
    assert len(mailbox) == 0


async def test_signals_overtake_and_are_never_dropped(virtual_clock, dead_letters):
    mailbox = mailbox_of(dead_letters, 1, Overflow.DROP_OLDEST)
    mailbox.put_nowait(envelope("old"))
    mailbox.put_urgent(envelope("signal"))
    mailbox.put_nowait(envelope("new"))

    assert drain(mailbox) == ["signal", "new"]


async def test_what_goes_beyond_the_capacity_does_not_count_against_it_twice(virtual_clock, dead_letters):
    mailbox = mailbox_of(dead_letters, 1)
    mailbox.put_nowait(envelope(1))
    mailbox.put_beyond(envelope(2))
    mailbox.put_beyond(envelope(0), first=True)

    assert mailbox.statistics().high_water == 3
    assert drain(mailbox) == [0, 1, 2]


async def test_closing_turns_everything_away(virtual_clock, dead_letters):
    mailbox = mailbox_of(dead_letters, 1)
    slot = OneShot()
    mailbox.put_nowait(envelope("queued", slot))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(mailbox.put, envelope("blocked"))
        await trio.testing.wait_all_tasks_blocked()
        mailbox.close()
    mailbox.put_nowait(envelope("late"))
    await mailbox.put(envelope("later"))

    assert [message for _, _, message in dead_letters.letters] == ["queued", "blocked", "late", "later"]
    with pytest.raises(ActorStopped) as caught:
        await slot.wait()
    assert str(caught.value) == (
        "'box' has stopped; a str message was not handled.\n"
        "  Fix: send it before the stop; or start the actor again, with spawn() or with restart_child() of its supervisor."
    )


@pytest.mark.parametrize("seed", range(5))
async def test_PK_M03_several_receivers_lose_and_double_nothing(seed, virtual_clock, dead_letters):
    mailbox = mailbox_of(dead_letters, 7)
    received: list[Any] = []

    async def receive():
        while len(received) < 2000:
            taken = mailbox.take_nowait()
            if taken is None:
                await mailbox.wait()
            else:
                received.append(taken.message)
                await trio.lowlevel.checkpoint()
        mailbox.wake()

    async def send(start):
        for number in range(start, start + 500):
            await mailbox.put(envelope(number))

    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(receive)
        for start in range(0, 2000, 500):
            nursery.start_soon(send, start)

    assert sorted(received) == list(range(2000))


async def test_a_receiver_that_ends_hands_its_wake_up_over(virtual_clock, dead_letters):
    mailbox = mailbox_of(dead_letters)
    received: list[Any] = []

    async def receive():
        while (taken := mailbox.take_nowait()) is None:
            await mailbox.wait()
        received.append(taken.message)

    async def end_when_woken():
        await mailbox.wait()
        mailbox.hand_over()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(end_when_woken)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(receive)
        await trio.testing.wait_all_tasks_blocked()
        mailbox.put_nowait(envelope("message"))

    assert received == ["message"]


async def test_a_message_that_nobody_attends_is_announced(virtual_clock, dead_letters):
    mailbox = mailbox_of(dead_letters)
    unattended = []
    mailbox.on_unattended = lambda: unattended.append(len(mailbox))

    mailbox.put_nowait(envelope(1))
    mailbox.put_nowait(envelope(2))

    assert unattended == [1, 2]


async def test_statistics_tell_depth_and_age(virtual_clock, dead_letters):
    mailbox = mailbox_of(dead_letters, 5)
    mailbox.put_nowait(envelope(1))
    await trio.sleep(3)
    mailbox.put_nowait(envelope(2))

    found = mailbox.statistics()

    assert (found.depth, found.capacity, found.high_water, found.oldest_age_s, found.taken) == (2, 5, 2, 3.0, 0)


async def test_a_one_shot_takes_one_outcome(virtual_clock):
    slot = OneShot()
    slot.succeed(1)
    slot.succeed(2)
    slot.fail(ActorFailed("late"))

    assert await slot.wait() == 1


async def test_a_one_shot_that_was_abandoned_says_so_in_the_same_instant(virtual_clock):
    slot = OneShot()
    abandoned = []
    with trio.move_on_after(1):
        await slot.wait(lambda: abandoned.append(slot.abandoned))

    assert abandoned == [True]
    slot.succeed("nobody hears it")
