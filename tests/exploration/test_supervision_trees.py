"""Trees of supervisors that exploration grows, and crashes that it plants in them: what is promised of every one of them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import attrs
import trio

from actors import (
    Actor,
    Backoff,
    ChildSpec,
    Exhausted,
    Redelivery,
    Request,
    RestartType,
    Strategy,
    Supervision,
    supervisor_spec,
)
from actors.supervision import SupervisorSpec
from runtime import Runtime
from runtime.testing import Simulation, explore, no_orphans

PATIENT = Supervision(max_restarts=1000, backoff=Backoff(first_s=0.1, cap_s=1.0, jitter=0.5))
Spec = ChildSpec | SupervisorSpec


@attrs.frozen
class Ping(Request[str]):
    pass


@attrs.frozen
class Crash:
    pass


@attrs.define(eq=False)
class Lives:
    """What every incarnation of a tree does, and what it is to do wrong."""

    log: list[tuple[str, str]] = attrs.field(factory=list[tuple[str, str]])
    bad_starts: dict[str, int] = attrs.field(factory=dict[str, int])
    bad_stops: dict[str, int] = attrs.field(factory=dict[str, int])

    def fails(self, left: dict[str, int], address: str) -> None:
        if left.get(address, 0):
            left[address] -= 1
            raise RuntimeError("planned")

    def alive(self) -> list[str]:
        """Who is in, by the order in which they came; nobody comes in twice or leaves twice."""
        present: list[str] = []
        for event, address in self.log:
            assert (address in present) == (event == "out"), f"{address} {event} once too often: {self.log}"
            present.append(address) if event == "in" else present.remove(address)
        return present

    def since(self, mark: int, event: str) -> list[str]:
        return [address for each, address in self.log[mark:] if each == event]


class Leaf(Actor):
    def __init__(self, lives: Lives, address: str) -> None:
        self.lives = lives
        self.address = address

    @asynccontextmanager
    async def lifespan(self) -> AsyncGenerator[None]:
        await trio.lowlevel.checkpoint()
        self.lives.fails(self.lives.bad_starts, self.address)
        self.lives.log.append(("in", self.address))
        try:
            yield
        finally:
            self.lives.log.append(("out", self.address))
            self.lives.fails(self.lives.bad_stops, self.address)

    async def receive(self, message: Ping | Crash) -> str | None:
        await trio.lowlevel.checkpoint()
        if isinstance(message, Crash):
            raise RuntimeError("crash")
        return self.address


@attrs.frozen
class Gardener:
    """Grows trees; what it chooses is recorded and made simple with the schedule."""

    sim: Simulation
    lives: Lives
    mixed: bool = False
    """Whether budgets are small, and restart types differ."""

    def tree(self, address: str, depth: int = 2) -> list[Spec]:
        return [self._child(f"{address}/{name}", depth) for name in "abc"[: 2 + self.sim.choose(2)]]

    def supervision(self) -> Supervision:
        strategy = list(Strategy)[self.sim.choose(3)]
        if not self.mixed:
            return attrs.evolve(PATIENT, strategy=strategy)
        exhausted = list(Exhausted)[self.sim.choose(2)]
        return attrs.evolve(PATIENT, strategy=strategy, max_restarts=self.sim.choose(3), exhausted=exhausted)

    def _child(self, address: str, depth: int) -> Spec:
        name, restart = address.rpartition("/")[2], RestartType.PERMANENT
        if self.mixed:
            restart = (RestartType.PERMANENT, RestartType.TRANSIENT, RestartType.TEMPORARY)[self.sim.choose(3)]
        if depth and self.sim.choose(2):
            return supervisor_spec(name, self.tree(address, depth - 1), self.supervision(), restart=restart)
        once = Redelivery(max_attempts=1)
        return ChildSpec(name, Leaf, args=(self.lives, address), restart=restart, redelivery=once)


def leaves(children: Sequence[Spec], address: str, *, permanent: bool = False) -> Iterator[str]:
    """The addresses of the actors in the order of their start; if asked, those alone that always come back."""
    for child in children:
        if permanent and child.restart is not RestartType.PERMANENT:
            continue
        below = f"{address}/{child.id}"
        if isinstance(child, SupervisorSpec):
            yield from leaves(child.children, below, permanent=permanent)
        else:
            yield below


def restarted_with(leaf: str, children: Sequence[Spec], supervision: Supervision, address: str) -> list[str]:
    """Who is restarted when `leaf` crashes, in the order of start."""
    at, child = next((at, each) for at, each in enumerate(children) if f"{leaf}/".startswith(f"{address}/{each.id}/"))
    if isinstance(child, SupervisorSpec):
        return restarted_with(leaf, child.children, child.supervision, f"{address}/{child.id}")
    group = {
        Strategy.ONE_FOR_ONE: [child],
        Strategy.ONE_FOR_ALL: children,
        Strategy.REST_FOR_ONE: children[at:],
    }[supervision.strategy]
    return list(leaves(group, address))


async def crash(runtime: Runtime, address: str) -> None:
    ref: Any = runtime.whereis(address)
    if ref is not None:
        ref.tell_nowait(Crash())


@explore(runs=100)
async def test_a_crash_restarts_those_that_the_strategy_of_its_supervisor_says_in_order(sim: Simulation) -> None:
    lives = Lives()
    gardener = Gardener(sim, lives)
    children, supervision = gardener.tree("top"), gardener.supervision()
    everybody = list(leaves(children, "top"))
    async with sim.open_runtime(supervision=PATIENT) as runtime:
        await runtime.supervise(children, supervision, name="top")
        assert lives.alive() == everybody
        for _ in range(3):
            leaf, mark = everybody[sim.choose(len(everybody))], len(lives.log)
            await crash(runtime, leaf)
            await trio.sleep(100)

            group = restarted_with(leaf, children, supervision, "top")
            assert lives.since(mark, "in") == group
            assert lives.since(mark, "out") == [leaf, *(each for each in reversed(group) if each != leaf)]
        mark = len(lives.log)
    assert not lives.alive()
    assert lives.since(mark, "out") == everybody[::-1]


@explore(runs=200)
async def test_whatever_crashes_at_once_everybody_is_there_in_the_end_and_never_twice(sim: Simulation) -> None:
    lives = Lives()
    gardener = Gardener(sim, lives)
    children, supervision = gardener.tree("top"), gardener.supervision()
    everybody = list(leaves(children, "top"))
    with no_orphans():
        async with sim.open_runtime(supervision=PATIENT) as runtime:
            await runtime.supervise(children, supervision, name="top")
            for kind in (lives.bad_starts, lives.bad_stops):
                kind[everybody[sim.choose(len(everybody))]] = sim.choose(3)
            for _ in range(1 + sim.choose(6)):
                await crash(runtime, everybody[sim.choose(len(everybody))])
                await trio.sleep(0.06 * sim.choose(4))
            sim.calm()
            await trio.sleep(1000)

            assert sorted(lives.alive()) == sorted(everybody)
            for address in everybody:
                ref: Any = runtime.whereis(address)
                assert await ref.ask(Ping()) == address
            lives.bad_stops.clear()
            mark = len(lives.log)
    assert not lives.alive()
    assert lives.since(mark, "out") == everybody[::-1]


@explore(runs=200)
async def test_a_spent_budget_takes_down_no_more_than_comes_back(sim: Simulation) -> None:
    lives = Lives()
    gardener = Gardener(sim, lives, mixed=True)
    children, supervision = gardener.tree("top"), attrs.evolve(gardener.supervision(), max_restarts=1000)
    everybody, permanent = list(leaves(children, "top")), set(leaves(children, "top", permanent=True))
    with no_orphans():
        async with sim.open_runtime(supervision=PATIENT) as runtime:
            await runtime.supervise(children, supervision, name="top")
            lives.bad_starts[everybody[sim.choose(len(everybody))]] = sim.choose(4)
            for _ in range(1 + sim.choose(8)):
                await crash(runtime, everybody[sim.choose(len(everybody))])
                await trio.sleep(0.06 * sim.choose(4))
            sim.calm()
            await trio.sleep(1000)

            assert permanent <= set(lives.alive()) <= set(everybody)
            for address in lives.alive():
                ref: Any = runtime.whereis(address)
                assert await ref.ask(Ping()) == address
    assert not lives.alive()
