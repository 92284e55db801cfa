"""Supervision trees that are administered from several tasks at once while their actors start, crash and stop.

What is promised whatever happens: every call ends; no address has two lives at a time; what a supervisor lists is what runs;
and the runtime closes in time, with nothing left alive.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import attrs
import trio

from actors import (
    Actor,
    ActorError,
    Backoff,
    ChildInfo,
    ChildSpec,
    ChildState,
    Exhausted,
    Request,
    RestartType,
    Strategy,
    Supervision,
    SupervisionError,
    SupervisorRef,
    UsageError,
    supervisor_spec,
)
from actors.supervision import SupervisorSpec
from runtime import Runtime
from runtime.testing import Simulation, explore, no_orphans
from tests.exploration.test_supervision_trees import PATIENT, Lives

NAMES = "abc"
KID = "kid"
PAUSES_S = (0.0, 0.1, 0.2)
"""Few, so that much happens at the same instant, and its order is the schedule's."""
EVER_S = 5000.0
"""Longer than all starts, backoffs and stops of a program together: what takes longer never ends."""


@attrs.frozen
class Ping(Request[str]):
    pass


@attrs.frozen
class Crash:
    pass


@attrs.frozen
class Leave:
    pass


@attrs.frozen
class Grow:
    """Spawn a child of one's own."""


class Worker(Actor):
    """Takes its time to start and to stop, as long as its garden says."""

    def __init__(self, garden: Garden, address: str) -> None:
        self.garden = garden
        self.address = address

    @asynccontextmanager
    async def lifespan(self) -> AsyncGenerator[None]:
        await trio.sleep(self.garden.pause())
        self.garden.lives.fails(self.garden.lives.bad_starts, self.address)
        self.garden.lives.log.append(("in", self.address))
        self.garden.lives.alive()
        try:
            yield
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(self.garden.pause())
            self.garden.lives.log.append(("out", self.address))
            self.garden.lives.fails(self.garden.lives.bad_stops, self.address)

    async def receive(self, message: Ping | Crash | Leave | Grow) -> str | None:
        if isinstance(message, Crash):
            raise RuntimeError("crash")
        if isinstance(message, Grow):
            with suppress(SupervisionError):
                await self.context.spawn(Worker, self.garden, f"{self.address}/{KID}", name=KID)
        if isinstance(message, Leave):
            self.context.stop()
        await trio.sleep(self.garden.pause())
        return self.address


@attrs.define(eq=False)
class Garden:
    """One program: its tree, and what is done to it. All that it chooses is recorded and made simple with the schedule."""

    sim: Simulation
    lives: Lives = attrs.field(factory=Lives)
    hurried: bool = True
    busy: str = "a"
    """The child that most of it is about: calls race for what they have in common."""

    def pick(self, values: Any) -> Any:
        return values[self.sim.choose(len(values))]

    def pause(self) -> float:
        return float(self.pick(PAUSES_S)) if self.hurried else 0.0

    def supervision(self) -> Supervision:
        return Supervision(
            self.pick(list(Strategy)),
            max_restarts=self.pick((1000, 0, 1, 3)),
            backoff=Backoff(first_s=self.pick((0.1, 0.0)), cap_s=1.0, jitter=0),
            exhausted=self.pick(list(Exhausted)),
        )

    def spec(self, address: str, depth: int) -> ChildSpec | SupervisorSpec:
        name, restart = address.rpartition("/")[2], self.pick(list(RestartType))
        if depth and self.sim.choose(2):
            children = [self.spec(f"{address}/{each}", depth - 1) for each in NAMES[: self.sim.choose(4)]]
            return supervisor_spec(name, children, self.supervision(), restart=restart)
        return ChildSpec(name, Worker, (self, address), restart=restart, shutdown_s=self.pick((5.0, 0.0, 0.1)))

    async def disturb(self, runtime: Runtime) -> None:
        """One thing that somebody does."""
        supervisors = [
            each for each in ("top", *(f"top/{name}" for name in NAMES)) if isinstance(runtime.whereis(each), SupervisorRef)
        ]
        if not supervisors:
            return
        address, child = self.pick(("top", *supervisors)), self.pick((self.busy, self.busy, self.busy, *NAMES))
        supervisor: Any = runtime.whereis(address)
        below: Any = runtime.whereis(f"{address}/{child}")
        calls: list[tuple[str, Callable[[], Awaitable[object]]]] = [
            ("start", lambda: supervisor.start_child(self.spec(f"{address}/{child}", depth=address.count("/") == 0))),
            ("terminate", lambda: supervisor.terminate_child(child)),
            ("restart", lambda: supervisor.restart_child(child)),
            ("delete", lambda: supervisor.delete_child(child)),
        ] * 2
        calls += [("which", supervisor.which_children), ("count", supervisor.count_children)]
        if below is not None and not isinstance(below, SupervisorRef):
            calls += [("crash", lambda: below.tell(Crash())), ("leave", lambda: below.tell(Leave()))]
            calls += [("ping", lambda: below.ask(Ping())), ("stop", lambda: runtime.stop(below))]
            calls += [("grow", lambda: below.tell(Grow()))]
        if below is not None:
            calls += [("stop and see", lambda: self.see_out(runtime, below))]
        what, call = self.pick(calls)
        self.sim.note(f"{what} {address} {child}")
        patience_s = self.pick((EVER_S, EVER_S, 0.1, 0.0))
        with trio.move_on_after(patience_s) as scope, suppress(SupervisionError, ActorError, UsageError):
            await call()
        assert not (patience_s == EVER_S and scope.cancelled_caught), f"{what} {address} {child} has never ended"
        self.sim.note(f"{what} {address} {child} is over")

    async def see_out(self, runtime: Runtime, ref: Any) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(runtime.stop, ref)
            await ref.ended()

    async def somebody(self, runtime: Runtime) -> None:
        for _ in range(1 + self.sim.choose(4)):
            await self.disturb(runtime)
            await trio.sleep(self.pause())


async def check_roster(runtime: Runtime, supervisor: SupervisorRef, running: set[str]) -> None:
    """What `supervisor` lists is what can be found and answers; adds the actors below it that run to `running`."""
    children, counts = await supervisor.which_children(), await supervisor.count_children()
    active = [child for child in children if child.state is ChildState.RUNNING]
    assert (counts.specs, counts.active) == (len(children), len(active))
    for child in children:
        await check_child(runtime, supervisor.address, child, running)


async def check_child(runtime: Runtime, above: str, child: ChildInfo, running: set[str]) -> None:
    address = f"{above}/{child.id}"
    assert child.ref.address == address
    assert child.state is not ChildState.RESTARTING, f"{address} is being restarted for ever"
    if child.state is ChildState.STOPPED:
        assert runtime.whereis(address) is None
        return
    assert runtime.whereis(address) is child.ref
    if isinstance(child.ref, SupervisorRef):
        await check_roster(runtime, child.ref, running)
    else:
        running.add(address)
        assert await child.ref.ask(Ping()) == address


@explore(runs=300)
async def test_a_tree_that_is_administered_from_all_sides_keeps_its_promises(sim: Simulation) -> None:
    garden = Garden(sim, busy=NAMES[sim.choose(3)])
    with no_orphans(), trio.fail_after(4 * EVER_S):
        async with sim.open_runtime(supervision=PATIENT) as runtime:
            children = [garden.spec(f"top/{name}", depth=1) for name in NAMES[: sim.choose(5)]]
            top = await runtime.supervise(children, attrs.evolve(garden.supervision(), max_restarts=1000), name="top")
            for kind in (garden.lives.bad_starts, garden.lives.bad_stops):
                kind[f"top/{garden.pick(NAMES)}"] = sim.choose(3)
            async with trio.open_nursery() as nursery:
                for _ in range(2 + sim.choose(3)):
                    nursery.start_soon(garden.somebody, runtime)
            if sim.choose(3) == 2:  # closed in the middle of it
                garden.hurried = False
            else:
                sim.calm()
                garden.hurried = False
                garden.lives.bad_starts.clear()
                await trio.sleep(EVER_S)
                running: set[str] = set()
                await check_roster(runtime, top, running)
                kids = [address for address in garden.lives.alive() if address.endswith(KID)]
                assert {address.removesuffix(f"/{KID}") for address in kids} <= running
                assert sorted({*garden.lives.alive()} - {*kids}) == sorted(running)
            garden.lives.bad_stops.clear()
        assert not garden.lives.alive()
