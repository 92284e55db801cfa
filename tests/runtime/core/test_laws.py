"""What holds whatever happens: order, conservation of messages, ends of asks; under random failures, stops and overflow."""

from __future__ import annotations

import math
from collections import Counter

import hypothesis
import trio
from hypothesis import strategies as st

from actors import Actor, ActorError, Backoff, MailboxFull, MailboxSpec, Overflow, Redelivery, RestartType, Supervision
from runtime.core.restarts import RestartBudget
from runtime.testing import run_in_virtual_time
from tests.runtime.cast import Boom, stage

# What a sender does next: how it sends, what its message makes of the actor, and how long it pauses then.
ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["tell", "tell_nowait", "ask", "impatient ask", "detached ask"]),
        st.sampled_from(["work", "work", "slow work", "fail", "fail once", "finish"]),
        st.sampled_from([0, 0, 0.3, 1.0]),
    ),
    max_size=12,
)
LONG_S = 1000.0
"""By then everything that can be handled was."""
SPECS = st.builds(MailboxSpec, capacity=st.sampled_from([1, 2, 5, math.inf]), overflow=st.sampled_from(Overflow))


class Worker(Actor):
    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger

    async def receive(self, message):
        sender, number, work = message
        self.ledger.begun.append((sender, number))
        if work == "slow work":
            await trio.sleep(0.5)
        if work == "fail" or (work == "fail once" and self.ledger.begun.count((sender, number)) == 1):
            raise Boom
        if work == "finish":
            self.context.stop()
        self.ledger.handled[sender, number] += 1
        return number


class Ledger:
    """What the senders and the actor know about every message."""

    def __init__(self) -> None:
        self.begun: list[tuple[int, int]] = []
        self.handled: Counter[tuple[int, int]] = Counter()
        self.accepted: list[tuple[int, int]] = []
        self.refused: list[tuple[int, int]] = []
        self.withdrawn: list[tuple[int, int]] = []
        self.ends: Counter[tuple[int, int]] = Counter()


async def send_all(ref, sender, actions, ledger):
    for number, (how, work, pause_s) in enumerate(actions):
        key, message = (sender, number), (sender, number, work)
        try:
            if how == "tell":
                await ref.tell(message)
            elif how == "tell_nowait":
                ref.tell_nowait(message)
            else:
                await ask(ref, how, message, key, ledger)
            ledger.accepted.append(key)
        except MailboxFull:
            ledger.refused.append(key)
        await trio.sleep(pause_s)


async def ask(ref, how, message, key, ledger):
    with trio.move_on_after(0.2 if how != "ask" else math.inf) as scope:
        try:
            assert await ref.ask(message, detach=how == "detached ask") == message[1]
        except ActorError as error:
            ledger.ends[key] += 1
            if isinstance(error, MailboxFull):
                raise
        else:
            ledger.ends[key] += 1
    if scope.cancelled_caught:
        ledger.ends[key] += 1
        ledger.withdrawn.append(key)


@hypothesis.given(
    plans=st.lists(ACTIONS, min_size=1, max_size=3),
    spec=SPECS,
    restart=st.sampled_from(RestartType),
    attempts=st.sampled_from([1, 2]),
    stop_after_s=st.sampled_from([0.0, 0.7, LONG_S]),
    seed=st.integers(0, 3),
)
@hypothesis.settings(max_examples=150)
def test_every_message_is_accounted_for_and_every_ask_ends_once(plans, spec, restart, attempts, stop_after_s, seed):
    ledger = Ledger()
    supervision = Supervision(max_restarts=math.inf, backoff=Backoff(first_s=0.2, cap_s=1, jitter=0.5))
    redelivery = Redelivery(attempts, Backoff(first_s=0.1, cap_s=1, jitter=0.5))

    async def main():
        async with stage(seed=seed, supervision=supervision) as runtime:
            ref = await runtime.spawn(Worker, ledger, restart=restart, mailbox=spec, redelivery=redelivery, shutdown_s=1)
            async with trio.open_nursery() as nursery:
                for sender, actions in enumerate(plans):
                    nursery.start_soon(send_all, ref, sender, actions, ledger)
                await trio.sleep(stop_after_s)
                await runtime.stop(ref)
            assert ref.statistics().mailbox.depth == 0
            assert ref.statistics().mailbox.blocked_senders == 0
            return [(letter.message[:2], letter.reason.value) for letter in runtime.dead_letters if letter.reason != "late_reply"]

    dead = run_in_virtual_time(main)
    conserved(plans, ledger, dead)
    if restart is RestartType.PERMANENT and stop_after_s == LONG_S:
        assert not [key for key, reason in dead if reason == "stopped"], "somebody waited although there was nothing to wait for"
    in_order(ledger, attempts)


def conserved(plans, ledger, dead):
    """Each message was handled, or is one dead letter, or was refused or withdrawn by its sender; never two of them."""
    sent = {(sender, number): how for sender, actions in enumerate(plans) for number, (how, _, _) in enumerate(actions)}
    fates = Counter(key for key, _ in dead) + Counter(ledger.handled.keys())
    for key, how in sent.items():
        assert ledger.handled[key] <= 1
        overflowed = sum(1 for found, reason in dead if found == key and reason == "overflow")
        if key in ledger.withdrawn:
            assert fates[key] <= 1
        elif key in ledger.refused:
            assert fates[key] == overflowed
        else:
            assert fates[key] == 1, (key, how)
        if "ask" in how:
            assert ledger.ends[key] == 1


def in_order(ledger, attempts):
    """What one sender sent began in that order; a redelivery comes later than its place, so only first attempts count."""
    firsts = list(dict.fromkeys(ledger.begun))
    for sender in {sender for sender, _ in firsts}:
        numbers = [number for who, number in firsts if who == sender]
        assert numbers == sorted(numbers)


@hypothesis.given(
    gaps=st.lists(st.sampled_from([0.0, 0.5, 1.0, 2.5, 5.0, 7.0]), max_size=40),
    limit=st.integers(0, 5),
    within_s=st.sampled_from([1.0, 2.5, 5.0]),
)
def test_the_restart_budget_agrees_with_counting_by_hand(gaps, limit, within_s):
    budget = RestartBudget(Supervision(max_restarts=limit, within_s=within_s))
    attempts: list[float] = []
    now = 0.0
    for gap in gaps:
        now += gap
        attempts.append(now)

        allowed = budget.record(now)

        assert allowed == (sum(now - within_s <= at <= now for at in attempts) <= limit)
        assert budget.count == sum(now - within_s <= at for at in attempts)
