"""Runs of graphs and groups of actors while faults strike at moments that the exploration chooses."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import attrs
import trio

from actors import Actor, ActorRef, Backoff, Graph, MailboxSpec, Redelivery, Request, Supervision
from actors.errors import ActorError, RunError
from runtime.testing import FaultPlan, Simulation, explore, no_orphans

PATIENT = Supervision(max_restarts=1000, backoff=Backoff(first_s=0.1, jitter=0.5))
RETRY = Redelivery(max_attempts=2, backoff=Backoff(first_s=1.0, jitter=0.5))


@attrs.frozen
class Batch:
    size: int


@attrs.frozen
class Item:
    number: int


@attrs.frozen
class Checked:
    number: int


@attrs.frozen
class Report:
    numbers: tuple[int, ...]


busy: list[int] = []
graph = Graph("batch", input=Batch, output=Report)


@graph.node
async def split(batch: Batch) -> list[Item]:
    await trio.lowlevel.checkpoint()
    return [Item(number) for number in range(batch.size)]


@graph.node(concurrency=2, mailbox=MailboxSpec(capacity=1), redelivery=RETRY, timeout_s=30)
async def check(item: Item) -> Checked:
    busy.append(item.number)
    try:
        await trio.sleep(0.1 * (item.number % 2))
    finally:
        busy.remove(item.number)
    return Checked(item.number)


@graph.node
async def report(checked: list[Checked]) -> Report:
    return Report(tuple(each.number for each in checked))


@explore(runs=100)
async def test_a_run_ends_with_its_output_or_its_error_whatever_strikes_its_nodes(sim: Simulation) -> None:
    with no_orphans():
        async with sim.open_runtime(supervision=PATIENT) as runtime:
            FaultPlan.drawn(sim, ["batch/split", "batch/check", "batch/check#2", "batch/report"], faults=2).install(runtime)
            ends: list[object] = []

            async def run(size: int) -> None:
                with trio.move_on_after(300), suppress(RunError):
                    ends.append(await runtime.run(graph, Batch(size)))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(run, 3)
                nursery.start_soon(run, 4)

    for end in ends:
        assert isinstance(end, Report)
        assert list(end.numbers) == sorted(set(end.numbers))


@explore(runs=100)
async def test_a_run_that_is_cancelled_at_any_moment_takes_all_its_work_with_it(sim: Simulation) -> None:
    busy.clear()
    async with sim.open_runtime(supervision=PATIENT) as runtime:
        await runtime.deploy(graph)
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(runtime.run, graph, Batch(4))
                for _ in range(sim.choose(30)):
                    await trio.lowlevel.checkpoint()
                scope.cancel()

        assert not busy
        assert all(not actor.mailbox.depth for actor in runtime.statistics().actors.values())
        assert (await runtime.run(graph, Batch(3))).numbers == (0, 1, 2)


@attrs.frozen
class Forward(Request[int]):
    hops: int


class Hop(Actor):
    """Asks the next one, which asks the one after it."""

    def __init__(self, others: list[ActorRef[Any]]) -> None:
        self.others = others

    async def receive(self, message: Forward) -> int:
        await trio.lowlevel.checkpoint()
        if not message.hops:
            return 0
        answer: int = await self.others[message.hops - 1].ask(Forward(message.hops - 1))
        return 1 + answer


@explore(runs=100)
async def test_a_chain_of_asks_always_ends_under_faults_stops_and_cancellations(sim: Simulation) -> None:
    ends = 0
    with no_orphans():
        async with sim.open_runtime(supervision=PATIENT) as runtime:
            FaultPlan.drawn(sim, ["hop-0", "hop-1", "hop-2"], faults=2, messages=3).install(runtime)
            hops: list[ActorRef[Any]] = []
            for number in range(3):
                hops.append(await runtime.spawn(Hop, hops, name=f"hop-{number}", mailbox=MailboxSpec(capacity=1)))

            async def ask() -> None:
                nonlocal ends
                with trio.move_on_after(20 * sim.rng.random()), suppress(ActorError, TypeError):
                    assert await hops[2].ask(Forward(2)) in (2, None)
                ends += 1

            async with trio.open_nursery() as nursery:
                for _ in range(3):
                    nursery.start_soon(ask)
                if sim.choose(2):
                    await trio.sleep(0.1 * sim.choose(3))
                    await runtime.stop(hops[sim.choose(3)])

    assert ends == 3
