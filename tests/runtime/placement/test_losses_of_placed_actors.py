"""Placed actors whose host is lost: one message of each is in doubt, the others are handled elsewhere, and every ask ends."""

from __future__ import annotations

import collections
import contextlib
from typing import Any

import pytest
import trio

from actors import (
    Actor,
    ActorFailed,
    ActorStartFailed,
    ActorStopped,
    Backoff,
    ChildSpec,
    HostLost,
    MailboxSpec,
    Overflow,
    PlaceUnavailable,
    Redelivery,
    RestartsExhausted,
    Supervision,
    Terminated,
)
from runtime import ActorCrashed, Pool, Routing, open_runtime
from runtime.placement import HostLost as HostLostEvent
from runtime.placement import HostPending
from runtime.testing.loopback_hosts import LoopbackHosts

QUICK = Backoff(first_s=0.05, jitter=0)
handled: collections.Counter[int] = collections.Counter()


@pytest.fixture(autouse=True)
def clear() -> None:
    handled.clear()


class Worker(Actor):
    """Counts what it has begun, takes its time, and tells on which host it lives."""

    def __init__(self, nap_s: float = 1.0) -> None:
        self.nap_s = nap_s
        self.seen: list[int] = []

    async def receive(self, message):
        handled[message] += 1
        self.seen.append(message)
        await trio.sleep(self.nap_s)
        return message, self.context.fence, list(self.seen)


async def test_the_message_that_was_there_is_in_doubt_and_the_others_are_handled_elsewhere_in_order(autojump_clock):
    place, ends = LoopbackHosts(2), list[Any]()
    async with open_runtime(places={"cpu": place}) as runtime, trio.open_nursery() as nursery:
        ref = await runtime.spawn(Worker, name="w", place="cpu")
        terminated = await runtime.spawn(Watcher, ref, name="watcher")

        async def ask(number: int) -> None:
            try:
                ends.append((await ref.ask(number))[::2])
            except ActorFailed as error:
                ends.append((number, type(error.__cause__)))

        for number in range(5):
            nursery.start_soon(ask, number)
            await trio.sleep(0.01)
        await trio.sleep(1.5)
        lost = runtime.inspect(ref)["host"]
        place.hold_back(lost)
        place.kill(lost)
        await trio.sleep(10)
        assert runtime.inspect(ref)["host"] != lost
        assert await terminated.ask("seen") == []

    assert ends == [(0, [0]), (1, HostLost), (2, [2]), (3, [2, 3]), (4, [2, 3, 4])]
    assert set(handled.values()) == {1}


class Watcher(Actor):
    def __init__(self, watched) -> None:
        self.watched = watched
        self.seen: list[Terminated] = []

    @contextlib.asynccontextmanager
    async def lifespan(self):
        self.context.watch(self.watched)
        yield

    async def receive(self, message):
        if isinstance(message, Terminated):
            self.seen.append(message)
        return self.seen


async def test_with_redelivery_the_message_in_doubt_is_handled_again(autojump_clock):
    place = LoopbackHosts(2)
    async with open_runtime(places={"cpu": place}) as runtime, trio.open_nursery() as nursery:
        ref = await runtime.spawn(Worker, name="w", place="cpu", redelivery=Redelivery(max_attempts=2, backoff=QUICK))
        nursery.start_soon(kill_in, place, "host-1", 0.5)
        assert (await ref.ask(1))[::2] == (1, [1])
    assert handled == {1: 2}


async def kill_in(place: LoopbackHosts, host: str, seconds: float) -> None:
    await trio.sleep(seconds)
    place.kill(host)


async def test_an_idle_actor_moves_the_instant_its_host_is_lost(autojump_clock):
    place, events = LoopbackHosts(2), list[Any]()
    async with open_runtime(places={"cpu": place}, instruments=[events.append]) as runtime:
        ref = await runtime.spawn(Worker, 0.0, name="w", place="cpu")
        place.hold_back("host-1")
        place.kill("host-1")
        await trio.sleep(0.001)
        assert (await ref.ask(1))[0] == 1
        assert runtime.inspect(ref)["host"] == "host-2"
        assert ref.statistics().failed == 0
    restarts = [event for event in events if isinstance(event, ActorCrashed) and event.address == "w"]
    assert [type(event.error) for event in restarts] == [HostLost]


async def test_a_message_that_was_taken_and_had_not_left_goes_back_uncounted(autojump_clock):
    place = LoopbackHosts(2)
    async with open_runtime(places={"cpu": place}) as runtime, trio.open_nursery() as nursery:
        ref = await runtime.spawn(Worker, 0.0, name="w", place="cpu")
        answers: list[Any] = []

        async def ask() -> None:
            answers.append(await ref.ask(1))

        link = ref.cell._actor._host.link  # type: ignore[attr-defined]
        link.peer.take_outgoing = bytes  # nothing leaves any more
        nursery.start_soon(ask)
        await trio.sleep(0.01)
        link.end(link.lose("it is unplugged", 0.0))
    assert [answer[0] for answer in answers] == [1]
    assert ref.statistics().failed == 0
    assert handled == {1: 1}


@pytest.mark.parametrize("attempts", [1, 3])
async def test_many_asks_over_the_loss_of_one_of_two_hosts(attempts: int, autojump_clock):
    await asks_over_a_loss(100, attempts, attempts)


@pytest.mark.chaos
@pytest.mark.parametrize("attempts", [1, 3])
@pytest.mark.parametrize("seed", range(10))
async def test_a_thousand_asks_over_the_loss_of_one_of_two_hosts(attempts: int, seed: int, autojump_clock):
    await asks_over_a_loss(1000, attempts, seed)


async def asks_over_a_loss(asks: int, attempts: int, seed: int) -> None:
    handled.clear()
    place = LoopbackHosts(2, seed=seed, delay_s=0.001)
    ends: collections.Counter[str] = collections.Counter()
    supervision = Supervision(max_restarts=3, within_s=10, backoff=QUICK)
    async with open_runtime(places={"cpu": place}, seed=seed, supervision=supervision) as runtime:
        redelivery = Redelivery(max_attempts=attempts, backoff=QUICK)
        mailbox = MailboxSpec(capacity=1000)
        refs = [
            await runtime.spawn(Worker, 0.01, name=f"w{number}", place="cpu", redelivery=redelivery, mailbox=mailbox)
            for number in range(20)
        ]
        before = collections.Counter(runtime.inspect(ref)["host"] for ref in refs)

        async def ask(number: int) -> None:
            try:
                assert (await refs[number % 20].ask(number))[0] == number
                ends["reply"] += 1
            except ActorFailed as error:
                ends["failed" if isinstance(error.__cause__, HostLost) else "wrong"] += 1

        async with trio.open_nursery() as nursery:
            for number in range(asks):
                nursery.start_soon(ask, number)
            await trio.sleep(0.02 + seed * 0.0371 * (asks / 1000))
            place.kill("host-1")
        after = collections.Counter(runtime.inspect(ref)["host"] for ref in refs)

    twice = sum(count > 1 for count in handled.values())
    assert before == {"host-1": 10, "host-2": 10}
    assert after["host-2"] >= 10
    assert ends["reply"] + ends["failed"] == asks
    assert (ends["failed"] <= 10, twice) == (True, 0) if attempts == 1 else (ends["failed"] == 0, twice <= 10)


async def test_five_placed_actors_on_a_lost_host_spend_one_restart(autojump_clock):
    place = LoopbackHosts(1)
    async with open_runtime(places={"cpu": place}) as runtime:
        children = [ChildSpec(f"w{number}", Worker, place="cpu") for number in range(5)]
        above = await runtime.supervise(children, Supervision(max_restarts=1, within_s=60, backoff=QUICK), name="s")
        place.kill("host-1")
        await trio.sleep(5)
        assert (await above.count_children()).active == 5
        found = next(each for each in runtime.tree().children if each.address == "s")
        assert found.incarnation == 1


async def test_a_producer_that_never_waits_meets_the_mailbox_here_and_one_message_there(autojump_clock):
    async with open_runtime(places={"cpu": LoopbackHosts(1)}) as runtime:
        ref: Any = await runtime.spawn(Worker, 0.01, name="w", place="cpu", mailbox=MailboxSpec(capacity=16))
        peer = ref.cell._actor._host.link.peer
        most_out = most_waiting = 0
        for number in range(100):
            await ref.tell(number)
            most_out = max(most_out, peer.calls_out)
            most_waiting = max(most_waiting, ref.statistics().mailbox.depth)
        assert (most_out, most_waiting) == (1, 16)
        assert len(peer._queued) <= 1


@pytest.mark.parametrize(("fault", "after_s"), [("freeze", 10.0), ("stop", 20.0)])
async def test_a_silent_host_ends_the_ask_when_it_is_given_up(fault, after_s, autojump_clock):
    place = LoopbackHosts(2, stuck_after_s=20.0, dead_after_s=10.0)
    async with open_runtime(places={"cpu": place}) as runtime:
        ref = await runtime.spawn(Worker, name="w", place="cpu")
        await trio.sleep(0.5)
        getattr(place, fault)("host-1")
        began = trio.current_time()
        with pytest.raises(ActorFailed) as failure:
            await ref.ask(1)
        assert isinstance(failure.value.__cause__, HostLost)
        assert trio.current_time() - began == pytest.approx(after_s, abs=1.1)
        assert (await ref.ask(2))[::2] == (2, [2])


async def test_while_a_place_has_no_host_messages_wait_within_their_deadline(autojump_clock):
    place, events = LoopbackHosts(1, start_timeout_s=60.0), list[Any]()
    async with open_runtime(places={"cpu": place}, instruments=[events.append]) as runtime:
        mailbox = MailboxSpec(capacity=2, overflow=Overflow.BLOCK)
        ref = await runtime.spawn(Worker, 0.0, name="w", place="cpu", mailbox=mailbox)
        place.hold_back("host-1")
        place.kill("host-1")
        await trio.sleep(1)
        with trio.move_on_after(5) as scope:
            await ref.ask(1)
        assert scope.cancelled_caught
        await ref.tell(2)
        await ref.tell(3)
        with trio.move_on_after(5) as blocked:
            await ref.tell(4)
        assert blocked.cancelled_caught
        place.let_start()
        assert (await ref.ask(5))[2] == [2, 3, 5]
    (pending,) = [event for event in events if isinstance(event, HostPending)]
    assert (pending.place, pending.host, pending.needs) == ("cpu", "host-1", "a place to start")


async def test_no_host_in_time_is_a_failed_start_and_spends_the_budget(autojump_clock):
    place = LoopbackHosts(1, start_timeout_s=9.0)
    async with open_runtime(places={"cpu": place}) as runtime:
        supervision = Supervision(max_restarts=2, within_s=60, backoff=QUICK)
        await runtime.supervise([ChildSpec("s", Worker, place="cpu")], supervision, name="one")
        ref: Any = runtime.whereis("one/s")
        place.hold_back("host-1")
        place.kill("host-1")
        ended = await ref.ended()
        assert isinstance(ended.error, PlaceUnavailable | RestartsExhausted)
        with pytest.raises(ActorStopped):
            await ref.ask(1)
        with pytest.raises(ActorStartFailed) as failure:
            await runtime.spawn(Worker, name="other", place="cpu")
        assert isinstance(failure.value.__cause__, PlaceUnavailable)
        place.let_start()
        await trio.sleep(60)
        assert (await (await runtime.spawn(Worker, name="third", place="cpu")).ask(7))[0] == 7


async def test_a_pool_is_spread_over_the_hosts_and_routes_around_a_loss(autojump_clock):
    place = LoopbackHosts(4)
    async with open_runtime(places={"cpu": place}) as runtime:
        spec = ChildSpec("w", Worker, place="cpu", redelivery=Redelivery(max_attempts=3, backoff=QUICK))
        pool = await runtime.spawn(Pool(spec, 8, routing=Routing.LEAST_BUSY), name="pool")
        refs: list[Any] = [runtime.whereis(f"pool/w-{number}") for number in range(1, 9)]
        assert collections.Counter(runtime.inspect(ref)["host"] for ref in refs) == dict.fromkeys(
            ("host-1", "host-2", "host-3", "host-4"), 2
        )
        began, answers = trio.current_time(), list[int]()

        async def ask(number: int) -> None:
            answers.append((await pool.ask(number))[0])

        async with trio.open_nursery() as nursery:
            for number in range(80):
                nursery.start_soon(ask, number)
            await trio.sleep(2.5)
            place.kill("host-3")
        assert sorted(answers) == list(range(80))
        assert trio.current_time() - began < 13


@pytest.mark.parametrize("seed", range(6))
async def test_over_any_loss_each_ask_ends_once_and_order_holds(seed: int, autojump_clock):
    """Seeded losses and delays, on hosts that come back: no message is handled twice, and none overtakes another."""
    place, events = LoopbackHosts(2, seed=seed, delay_s=0.02), list[Any]()
    supervision = Supervision(max_restarts=float("inf"), backoff=QUICK)
    async with open_runtime(places={"cpu": place}, seed=seed, supervision=supervision, instruments=[events.append]) as runtime:
        refs = [
            await runtime.spawn(Worker, 0.05, name=f"w{number}", place="cpu", mailbox=MailboxSpec(capacity=100))
            for number in range(4)
        ]
        place.losses = 0.01
        seen: dict[int, list[Any]] = {number: [] for number in range(4)}

        async def send(which: int) -> None:
            for number in range(8):
                try:
                    seen[which].append((await refs[which].ask(1000 * which + number))[2])
                except ActorFailed as error:
                    seen[which].append(None if isinstance(error.__cause__, HostLost) else [error])

        async with trio.open_nursery() as nursery:
            for which in range(4):
                nursery.start_soon(send, which)
    for each in seen.values():
        assert len(each) == 8
        assert all(found == sorted(found) for found in each if found is not None)
    assert max(handled.values()) == 1
    assert len(handled) >= 32 - sum(isinstance(event, HostLostEvent) for event in events) * 4
