"""Hosts that are cut off, or lost in the middle of much work: what the runtime gives up, the host has left before."""

from __future__ import annotations

import collections
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import attrs
import pytest
import trio

from actors import Actor, ActorFailed, Backoff, Gather, Graph, HostLost, Redelivery, Supervision
from runtime import open_runtime
from runtime.placement import HostLost as HostLostEvent
from runtime.placement import HostStarted
from runtime.testing.loopback_hosts import LoopbackHosts

QUICK = Backoff(first_s=0.05)
calls: collections.Counter[int] = collections.Counter()
lives: list[Any] = []


@pytest.fixture(autouse=True)
def clear() -> None:
    calls.clear()
    lives.clear()


@attrs.frozen
class Pile:
    items: int
    nap_s: float = 0.1


@attrs.frozen
class Item:
    number: int
    nap_s: float


@attrs.frozen
class Mark:
    number: int


@attrs.frozen
class Marks:
    numbers: tuple[int, ...]


graph = Graph("piles", input=Pile, output=Marks)


@graph.node
async def split(pile: Pile) -> AsyncIterator[Item]:
    for number in range(pile.items):
        yield Item(number, pile.nap_s)


@graph.node(place="cpu", concurrency=200, redelivery=Redelivery(max_attempts=3, backoff=QUICK))
async def mark(item: Item) -> Mark:
    calls[item.number] += 1
    await trio.sleep(item.nap_s)
    return Mark(item.number)


@graph.node
async def gather(marks: Annotated[list[Mark], Gather()]) -> Marks:
    return Marks(tuple(each.number for each in marks))


async def fan_out(items: int) -> None:
    events: list[Any] = []
    place = LoopbackHosts(4, by_name=True, dead_after_s=2.0, window=50)
    async with open_runtime(places={"cpu": place}, instruments=[events.append]) as runtime:
        await runtime.deploy(graph)
        handle = await runtime.start(graph, Pile(items))
        await trio.sleep(0.15)
        place.kill("host-1")
        place.freeze("host-2")
        marks = await handle.result()
        out = items * 0.1 / 200

        assert marks.numbers == tuple(range(items))
        assert trio.current_time() <= 2.0 + 4 * out + 1.0  # what was on the frozen one is done again when it is given up
    lost = {event.host: event for event in events if isinstance(event, HostLostEvent)}
    assert lost.keys() == {"host-1", "host-2"}
    assert max(calls.values()) <= 2
    assert sum(calls.values()) <= items + 100  # only what was out there


async def test_a_fan_out_over_four_hosts_is_complete_when_one_is_killed_and_one_is_frozen(autojump_clock):
    await fan_out(250)


@pytest.mark.chaos
async def test_a_thousand_items_over_four_hosts_of_which_one_is_killed_and_one_is_frozen(autojump_clock):
    await fan_out(1000)


class Witness(Actor[int]):
    """Notes when it lives, and what it answers."""

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        lives.append(("begins", self.context.fence, trio.current_time()))
        try:
            yield
        finally:
            lives.append(("ends", self.context.fence, trio.current_time()))

    async def receive(self, message: int) -> tuple[int, int]:
        await trio.sleep(message)
        lives.append(("answers", self.context.fence, trio.current_time()))
        return message, self.context.fence


@pytest.mark.parametrize("nap_s", [1, 4, 30])
async def test_a_host_that_is_cut_off_has_ended_before_the_runtime_gives_it_up(nap_s, autojump_clock):
    """And there are never two answers to one ask, whether the first was on its way when the link was cut or not."""
    place, events = LoopbackHosts(2, by_name=True, dead_after_s=10.0), list[Any]()
    async with open_runtime(places={"cpu": place}, instruments=[events.append]) as runtime:
        redelivery = Redelivery(max_attempts=2, backoff=QUICK)
        ref = await runtime.spawn(Witness, name="w", place="cpu", redelivery=redelivery)
        ((_, fence, _),) = lives
        cut_at = trio.current_time()
        place.freeze(runtime.inspect(ref)["host"])
        answer = await ref.ask(nap_s)

        assert answer[0] == nap_s
        assert answer[1] != fence
    (lost,) = [event for event in events if isinstance(event, HostLostEvent)]
    assert lost.at_s - cut_at == pytest.approx(10.0, abs=0.1)
    ended = next(at for what, whose, at in lives if (what, whose) == ("ends", fence))
    begun = next(at for what, whose, at in lives if what == "begins" and whose != fence)
    assert ended - cut_at <= 0.6 * 10.0 + 0.1
    assert ended < lost.at_s <= begun
    assert len([each for each in lives if each[0] == "answers" and each[1] != fence]) == 1


async def test_without_redelivery_the_ask_of_a_host_that_is_cut_off_ends_once_with_its_loss(autojump_clock):
    place = LoopbackHosts(2, by_name=True, dead_after_s=10.0)
    async with open_runtime(places={"cpu": place}) as runtime:
        ref = await runtime.spawn(Witness, name="w", place="cpu")
        place.freeze(runtime.inspect(ref)["host"])
        with pytest.raises(ActorFailed) as failure:
            await ref.ask(4)
    assert isinstance(failure.value.__cause__, HostLost)


@pytest.mark.chaos
async def test_in_an_hour_of_handlers_that_are_always_busy_no_host_is_lost(autojump_clock):
    events: list[Any] = []
    place = LoopbackHosts(2, by_name=True, dead_after_s=10.0, stuck_after_s=20.0, delay_s=0.01)
    async with open_runtime(places={"cpu": place}, instruments=[events.append]) as runtime:
        refs = [await runtime.spawn(Witness, name=f"w{number}", place="cpu") for number in range(8)]

        async def work(ref: Any) -> None:
            while trio.current_time() < 3600:
                await ref.ask(5)

        async with trio.open_nursery() as nursery:
            for ref in refs:
                nursery.start_soon(work, ref)
    assert len([each for each in lives if each[0] == "answers"]) > 8 * 700
    assert not [event for event in events if isinstance(event, HostLostEvent)]
    assert len([event for event in events if isinstance(event, HostStarted)]) == 2


@pytest.mark.chaos
@pytest.mark.parametrize("attempts", [1, 3])
async def test_a_hundred_losses_at_random_instants(attempts, autojump_clock):
    """Each time: no ask is left, one message of an actor in doubt at most, and all live on when both hosts do."""
    place = LoopbackHosts(2, by_name=True, seed=attempts, delay_s=0.001)
    supervision = Supervision(max_restarts=float("inf"), backoff=QUICK)
    async with open_runtime(places={"cpu": place}, seed=attempts, supervision=supervision) as runtime:
        redelivery = Redelivery(max_attempts=attempts, backoff=QUICK)
        refs = [await runtime.spawn(Counting, name=f"w{number}", place="cpu", redelivery=redelivery) for number in range(20)]
        for repetition in range(50):
            calls.clear()
            ends: collections.Counter[str] = collections.Counter()

            async def ask(number: int, ends: collections.Counter[str] = ends) -> None:
                try:
                    assert await refs[number % 20].ask(number) == number
                    ends["reply"] += 1
                except ActorFailed as error:
                    ends["failed" if isinstance(error.__cause__, HostLost) else "wrong"] += 1

            async with trio.open_nursery() as nursery:
                for number in range(200):
                    nursery.start_soon(ask, number)
                await trio.sleep(runtime._services.rng.uniform(0.0, 0.1))
                place.kill(f"host-{1 + repetition % 2}")
            twice = sum(count > 1 for count in calls.values())
            assert ends["reply"] + ends["failed"] == 200
            assert (ends["failed"] <= 20, twice) == (True, 0) if attempts == 1 else (ends["failed"] == 0, twice <= 20)
            await trio.sleep(10)


class Counting(Actor[int]):
    async def receive(self, message: int) -> int:
        calls[message] += 1
        await trio.sleep(0.01)
        return message
