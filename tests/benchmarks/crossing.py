"""``python -m tests.benchmarks.crossing``: what it costs to call the runtime from outside of trio, beside calling it inside.

The same work four ways: in a trio program; from asyncio coroutines in guest mode, on asyncio's own loop and on uvloop; from
threads through a portal. One call after another shows the cost of crossing, a crowd of 50 callers what of it is left under load.
"""

from __future__ import annotations

import argparse
import asyncio
import platform
import sys
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from time import perf_counter

import attrs
import trio

from actors import Actor, Graph
from runtime import Runtime, open_runtime
from runtime.embed.asyncio import AsyncioRuntime, open_runtime_asyncio
from runtime.embed.portal import PortalRuntime, open_runtime_portal
from tests.benchmarks.measuring import Measured, measure, table
from tests.benchmarks.works import Peer, Work

CALLERS = 50
"""Tasks or threads in a crowd."""

WORKS = (
    Work("ask", 1_000, "ask, one after another"),
    Work("ask-crowd", 4_000, f"ask, {CALLERS} callers at once"),
    Work("run", 500, "run of one node, one after another"),
    Work("run-crowd", 1_500, f"run of one node, {CALLERS} callers at once"),
)


@attrs.frozen
class Question:
    number: int


@attrs.frozen
class Answer:
    number: int


graph = Graph("crossing", input=Question, output=Answer)


@graph.node
async def answer(question: Question) -> Answer:
    return Answer(question.number)


class Echo(Actor):
    async def receive(self, message: Question) -> Question:
        return message


Once = Callable[[], Awaitable[object]]


async def once_of(runtime: Runtime | AsyncioRuntime, work: str) -> Once:
    """What one caller repeats."""
    if work.startswith("run"):
        return partial(runtime.run, graph, Question(1))
    return partial((await runtime.spawn(Echo)).ask, Question(1))


async def repeat(once: Once, times: int) -> None:
    for _ in range(times):
        await once()


def on_trio(work: str, size: int) -> float:
    async def main() -> float:
        async with open_runtime() as runtime:
            once = await once_of(runtime, work)
            await repeat(once, 20)
            begin = perf_counter()
            async with trio.open_nursery() as nursery:
                for share in shares(work, size):
                    nursery.start_soon(repeat, once, share)
            return perf_counter() - begin

    return trio.run(main)


def on_asyncio(loop: Callable[[], asyncio.AbstractEventLoop] | None, work: str, size: int) -> float:
    async def main() -> float:
        async with open_runtime_asyncio() as runtime:
            once = await once_of(runtime, work)
            await repeat(once, 20)
            begin = perf_counter()
            await asyncio.gather(*(repeat(once, share) for share in shares(work, size)))
            return perf_counter() - begin

    with asyncio.Runner(loop_factory=loop) as runner:
        return runner.run(main())


def in_threads(work: str, size: int) -> float:
    def repeat_once(once: Callable[[], object], times: int) -> None:
        for _ in range(times):
            once()

    with open_runtime_portal() as runtime:
        once = portal_once(runtime, work)
        repeat_once(once, 20)
        with ThreadPoolExecutor(len(shares(work, size))) as pool:
            begin = perf_counter()
            for done in [pool.submit(repeat_once, once, share) for share in shares(work, size)]:
                done.result()
            return perf_counter() - begin


def portal_once(runtime: PortalRuntime, work: str) -> Callable[[], object]:
    if work.startswith("run"):
        return partial(runtime.run, graph, Question(1))
    return partial(runtime.spawn(Echo).ask, Question(1))


def shares(work: str, size: int) -> list[int]:
    """How often each caller calls."""
    return [size] if not work.endswith("-crowd") else [max(1, size // CALLERS)] * CALLERS


def peers() -> dict[str, Peer]:
    """The four ways; without uvloop, three."""
    ways: dict[str, Callable[[str, int], float]] = {"trio": on_trio, "guest on asyncio": partial(on_asyncio, None)}
    try:
        import uvloop
    except ImportError:
        pass
    else:
        ways["guest on uvloop"] = partial(on_asyncio, uvloop.new_event_loop)
    ways["portal"] = in_threads
    return {name: Peer(name, {work.name: partial(way, work.name) for work in WORKS}) for name, way in ways.items()}


def compare(work: Work, rounds: int, scale: float = 1.0) -> list[Measured]:
    """All ways of one work."""
    return measure(work, peers(), rounds, scale)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.crossing", description="Calls from outside of trio.")
    parser.add_argument("--rounds", type=int, default=5, help="how often each way does each work (default: 5)")
    parser.add_argument("--scale", type=float, default=1.0, help="0.1: a tenth of the operations (default: 1)")
    options = parser.parse_args(arguments)
    sys.stdout.write(
        f"Python {platform.python_version()}, trio {trio.__version__}, medians of {options.rounds} rounds in turns\n\n"
    )
    for work in WORKS:
        sys.stdout.write(f"{table(work, compare(work, options.rounds, options.scale))}\n\n")
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
