"""Who holds the event loop of a host is told by the runtime, with its stack, as who holds the runtime's own."""

from __future__ import annotations

import os
import time
from typing import Any

import pytest
import trio

from actors import Actor
from runtime import LoopBlocked, open_runtime
from runtime.placement import Processes
from runtime.testing.loopback_hosts import LoopbackHosts
from tests.runtime.placement import parts
from tests.runtime.placement.parts import Paper
from tests.runtime.placement.test_processes import PATIENCE_S, until


class Sleeper(Actor[float]):
    async def receive(self, message: float) -> None:
        time.sleep(message)  # noqa: ASYNC251 - that is the fault


def blocked(events: list[Any], address: str) -> list[LoopBlocked]:
    return [event for event in events if isinstance(event, LoopBlocked) and event.address == address]


def stacks(events: list[Any], address: str) -> str:
    """A busy machine may hold a loop at other lines, too."""
    return "\n".join(event.stack for event in blocked(events, address))


async def test_an_actor_that_holds_the_loop_of_its_host_is_named(autojump_clock):
    events: list[Any] = []
    place = LoopbackHosts(1, by_name=True)
    async with open_runtime(places={"cpu": place}, instruments=[events.append], watchdog_s=0.02) as runtime:
        sleeper = await runtime.spawn(Sleeper, name="sleeper", place="cpu")
        await sleeper.ask(0.06)
        await trio.sleep(1.0)
    assert max(event.held_s for event in blocked(events, "sleeper")) >= 0.06


async def test_without_a_watchdog_no_one_looks(autojump_clock):
    events: list[Any] = []
    async with open_runtime(places={"cpu": LoopbackHosts(1, by_name=True)}, instruments=[events.append]) as runtime:
        sleeper = await runtime.spawn(Sleeper, name="sleeper", place="cpu")
        await sleeper.ask(0.06)
        await trio.sleep(1.0)
    assert not [event for event in events if isinstance(event, LoopBlocked)]


@pytest.mark.chaos
@pytest.mark.skipif(os.name != "posix", reason="hosts are started on POSIX systems")
async def test_in_a_process_the_stack_tells_the_line():
    events: list[Any] = []
    place = Processes(1, dead_after_s=PATIENCE_S, start_timeout_s=PATIENCE_S)
    async with open_runtime(places={"cpu": place}, instruments=[events.append], watchdog_s=0.25) as runtime:
        busy = await runtime.spawn(parts.Busy, name="busy", place="cpu")
        await busy.ask("asleep")
        await until(lambda: "time.sleep(2.0)" in stacks(events, "busy"))

        handle = await runtime.start(parts.napping, Paper(1, nap_s=1.0))
        await handle.result()
        await until(lambda: "time.sleep(paper.nap_s)" in stacks(events, "places/cpu/host-1"))
