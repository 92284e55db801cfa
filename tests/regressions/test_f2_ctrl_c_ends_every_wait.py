"""Ctrl-C while the main task waits, for whatever: all ends in order within a second, and the interrupt comes out as it is."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import attrs
import pytest
import trio
import trio.testing

from actors import Actor, ChildSpec, Graph, MailboxSpec
from runtime import Runtime, open_runtime


@attrs.frozen
class In:
    v: int


@attrs.frozen
class Out:
    v: int


class Slow(Actor):
    """Takes a minute to start if it is told to, and for each message."""

    def __init__(self, log: list[str], starts: list[float]) -> None:
        self.log = log
        self.starts = starts

    @contextlib.asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        await trio.sleep(self.starts.pop(0) if self.starts else 0)
        self.log.append("entered")
        try:
            yield
        finally:
            self.log.append("left")

    async def receive(self, message: object) -> None:
        await trio.sleep(60)


class Slower(Slow):
    """Finishes what it does although it is cancelled: a moment of clean-up."""

    async def receive(self, message: object) -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep(0.5)


class Starter(Actor):
    """Has a child whose start takes long."""

    async def receive(self, message: list[str]) -> None:
        await self.context.spawn(Slow, message, [60])


graph = Graph("slow", input=In, output=Out)


@graph.node
async def work(given: In) -> Out:
    await trio.sleep(60)
    return Out(given.v)


Log = list[str]
Wait = Callable[[Runtime, Log], Awaitable[object]]


async def spawn(runtime: Runtime, log: Log) -> None:
    await runtime.spawn(Slow, log, [60])


async def supervise(runtime: Runtime, log: Log) -> None:
    await runtime.supervise([ChildSpec("a", Slow, (log, [])), ChildSpec("b", Slow, (log, [60]))])


async def start_child(runtime: Runtime, log: Log) -> None:
    supervisor = await runtime.supervise([])
    await supervisor.start_child(ChildSpec("a", Slow, (log, [60])))


async def restart_child(runtime: Runtime, log: Log) -> None:
    supervisor = await runtime.supervise([ChildSpec("a", Slow, (log, [0, 60]))])
    await supervisor.terminate_child("a")
    await supervisor.restart_child("a")


async def terminate_child(runtime: Runtime, log: Log) -> None:
    supervisor = await runtime.supervise([ChildSpec("a", Slow, (log, []), shutdown_s=60)], name="s")
    found: Any = runtime.whereis("s/a")
    await found.tell("work")
    await trio.lowlevel.checkpoint()
    await supervisor.terminate_child("a")


async def spawn_below(runtime: Runtime, log: Log) -> None:
    await (await runtime.spawn(Starter)).ask(log)


async def stop(runtime: Runtime, log: Log) -> None:
    ref = await runtime.spawn(Slow, log, [], shutdown_s=60)
    await ref.tell("work")
    await trio.lowlevel.checkpoint()
    await runtime.stop(ref)


async def ask(runtime: Runtime, log: Log) -> None:
    await (await runtime.spawn(Slow, log, [])).ask("work")


async def ask_what_cleans_up(runtime: Runtime, log: Log) -> None:
    await (await runtime.spawn(Slower, log, [])).ask("work")


async def tell(runtime: Runtime, log: Log) -> None:
    ref = await runtime.spawn(Slow, log, [], mailbox=MailboxSpec(capacity=1))
    for _ in range(5):
        await ref.tell("work")


async def run(runtime: Runtime, log: Log) -> None:
    await runtime.run(graph, In(1))


async def start(runtime: Runtime, log: Log) -> None:
    await runtime.deploy(graph, max_runs=1)
    for _ in range(2):
        await runtime.start(graph, In(1))


async def result(runtime: Runtime, log: Log) -> None:
    await (await runtime.start(graph, In(1))).result()


async def stream(runtime: Runtime, log: Log) -> None:
    async with runtime.stream(graph, In(1)) as events:
        async for _ in events:
            pass


async def drain(runtime: Runtime, log: Log) -> None:
    await runtime.start(graph, In(1))
    await runtime.drain(60)


async def events(runtime: Runtime, log: Log) -> None:
    async with runtime.events() as stream:
        async for _ in stream:
            pass


async def sleep(runtime: Runtime, log: Log) -> None:
    await runtime.spawn(Slow, log, [])


WAITS: list[Wait] = [
    spawn,
    supervise,
    start_child,
    restart_child,
    terminate_child,
    spawn_below,
    stop,
    ask,
    ask_what_cleans_up,
    tell,
    run,
    start,
    result,
    stream,
    drain,
    events,
    sleep,
]


async def ctrl_c() -> None:
    """As the terminal sends it: while the event loop waits, and once."""
    await trio.testing.wait_all_tasks_blocked()
    signal.raise_signal(signal.SIGINT)
    await trio.sleep(30)
    raise AssertionError("nothing ended")


def interrupted(main: Callable[[], Awaitable[object]]) -> float:
    """How long `main` took to end with the interrupt, in seconds of virtual time."""
    clock = trio.testing.MockClock(autojump_threshold=0)
    ended_at = 0.0

    async def timed() -> None:
        nonlocal ended_at
        try:
            await main()
        finally:
            ended_at = trio.current_time()

    with pytest.raises(KeyboardInterrupt):
        trio.run(timed, clock=clock)
    return ended_at


@pytest.mark.parametrize("wait", WAITS, ids=lambda wait: wait.__name__)
def test_f2_ctrl_c_ends_each_wait_of_the_main_task_in_order_within_a_second(wait):
    log: Log = []

    async def main():
        async with open_runtime() as runtime:
            trio.lowlevel.spawn_system_task(ctrl_c)
            await wait(runtime, log)
            await trio.sleep_forever()

    assert interrupted(main) <= 1
    assert log.count("entered") == log.count("left")


def test_f2_ctrl_c_ends_the_closing_of_a_runtime():
    log: Log = []

    async def main():
        async with open_runtime() as runtime:
            ref = await runtime.spawn(Slow, log, [], shutdown_s=60)
            await ref.tell("work")
            await trio.lowlevel.checkpoint()
            trio.lowlevel.spawn_system_task(ctrl_c)

    assert interrupted(main) <= 1
    assert log == ["entered", "left"]


def test_f2_ctrl_c_in_a_handler_that_never_waits_ends_it():
    async def main():
        class Busy(Slow):
            async def receive(self, message):
                signal.raise_signal(signal.SIGINT)  # what runs is this code
                while True:
                    pass

        async with open_runtime() as runtime:
            await (await runtime.spawn(Busy, [], [])).ask("work")

    assert interrupted(main) == 0
