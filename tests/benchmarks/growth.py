"""``python -m tests.benchmarks.growth``: what one of many costs, 1 to 10,000 runs, nodes, branches, actors, streams and readers.

Each figure is processor time for one unit, in a process of its own: of that process, for readers that of the server. The best of
a few rounds counts, since whatever else the machine does only adds. ``--draw`` writes the picture of the documentation.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import resource
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from time import process_time
from typing import Final

import trio

from runtime import Runtime, open_runtime
from runtime.lm import LMClient
from runtime.testing.models.process import loopback_process
from tests.benchmarks.growth_picture import draw
from tests.benchmarks.lm_works import MESSAGES, MODEL, MODELS
from tests.benchmarks.peers.ours import Pong
from tests.benchmarks.peers.ours_graph import Width, row, wide
from tests.benchmarks.resident import resident_bytes
from tests.benchmarks.service_calls import event_cost_us, hosting

SIZES: Final = (1, 10, 100, 1_000, 10_000)
ROUNDS: Final = 3
FEWEST: Final = 300
"""Units in one round: small sizes are repeated until there are as many."""
STEPS: Final = 20
"""Steps whose events each reader follows, at most or so."""
MANY_EVENTS: Final = 50_000
"""Steps of a run times its readers: so many are enough."""
NODES_OF_A_RUN: Final = 5
PICTURE: Final = Path(__file__).resolve().parents[2] / "docs" / "_static" / "growth.svg"
MANY_RUNS: Final = 100_000
AT_ONCE: Final = 1_000

Work = Callable[[int], Awaitable[float]]


async def best_us(once: Callable[[], Awaitable[object]], units: int) -> float:
    """Processor time for one unit, in µs: `once` does so many of them."""
    await once()
    found = math.inf
    for _ in range(ROUNDS):
        times = max(1, FEWEST // units)
        gc.collect()
        before_s = process_time()
        for _ in range(times):
            await once()
        found = min(found, (process_time() - before_s) / (times * units))
    return found * 1e6


async def together(call: Callable[[], Awaitable[object]], count: int) -> None:
    """Call it so many times, concurrently."""

    async def one() -> None:
        await call()

    async with trio.open_nursery() as nursery:
        for _ in range(count):
            nursery.start_soon(one)


async def runs(count: int) -> float:
    """Concurrent runs of a chain of five nodes."""
    graph, first = row(NODES_OF_A_RUN)
    async with open_runtime(seed=1) as runtime:
        await runtime.deploy(graph)
        return await best_us(lambda: together(lambda: runtime.run(graph, first), count), count)


async def nodes(count: int) -> float:
    """Nodes in a row, in one run."""
    graph, first = row(count)
    async with open_runtime(seed=1) as runtime:
        await runtime.deploy(graph)
        return await best_us(lambda: runtime.run(graph, first, max_steps=count + 1), count)


async def branches(count: int) -> float:
    """Branches of a fan-out that sleep together, and their fan-in."""
    graph = wide(count)
    async with open_runtime(seed=1) as runtime:
        await runtime.deploy(graph)
        return await best_us(lambda: runtime.run(graph, Width(count), max_steps=count + 10), count)


async def checks(count: int) -> float:
    """Nodes in a row that are checked; a graph is checked once, so each time it is another."""
    graphs = [row(count)[0] for _ in range(1 + ROUNDS * max(1, FEWEST // count))]

    async def once() -> None:
        assert graphs.pop().check() == []

    return await best_us(once, count)


async def actors(count: int) -> float:
    """Actors that are spawned, asked once and stopped."""

    async def all_of_them(runtime: Runtime) -> None:
        refs = [await runtime.spawn(Pong) for _ in range(count)]
        for ref in refs:
            await ref.ask(1)

    async def once() -> None:
        async with open_runtime(seed=1) as runtime:
            await all_of_them(runtime)

    return await best_us(once, count)


async def streams(count: int) -> float:
    """Concurrent answers of a language model that come in pieces, from a provider in another process."""
    with loopback_process(MODELS, latency_s=0.05) as provider:
        async with LMClient(f"openai/{MODEL}", api_key="k", api_base=provider.api_base, max_connections=count) as lm:

            async def call() -> None:
                async with lm.stream(MESSAGES) as answer:
                    async for _ in answer:
                        pass

            return await best_us(lambda: together(call, count), count)


async def readers(count: int) -> float:
    """Readers of the events of one run over SSE; for one event to one of them, of the server."""
    async with hosting("understudy", "service") as host:
        steps = max(FEWEST // count, min(STEPS, MANY_EVENTS // count))
        await event_cost_us(host, min(count, 10), STEPS)
        return min([await event_cost_us(host, count, steps) for _ in range(ROUNDS if count < MANY_EVENTS // STEPS else 1)])


WORKS: Final[Mapping[str, Work]] = {
    "runs": runs,
    "nodes": nodes,
    "branches": branches,
    "checks": checks,
    "actors": actors,
    "streams": streams,
    "readers": readers,
}
UNITS: Final[Mapping[str, str]] = {
    "runs": "a run of five nodes, of so many concurrent ones",
    "nodes": "a step, in a run through so many nodes",
    "branches": "a branch, of so many that sleep together",
    "checks": "a node, in the check of a graph of so many",
    "actors": "an actor, spawned, asked and stopped",
    "streams": "a streamed answer, of so many concurrent ones",
    "readers": "an event to one of so many readers (SSE)",
}


async def memory(say: Callable[[str], None]) -> None:
    """Runs by the thousand, and what the process holds after each fifth of them."""
    graph, first = row(NODES_OF_A_RUN)
    async with open_runtime(seed=1) as runtime:
        await runtime.deploy(graph)
        for done in range(AT_ONCE, MANY_RUNS + 1, AT_ONCE):
            await together(lambda: runtime.run(graph, first), AT_ONCE)
            if done % (MANY_RUNS // 5) == 0:
                say(f"after {done:>7,} runs: {resident_bytes() / 1e6:.0f} MB")


def apart(work: str, size: int) -> float | None:
    """One figure, from a process for it alone; None where that has failed, for example for want of file descriptors."""
    command = [sys.executable, "-m", "tests.benchmarks.growth", "--one", work, "--sizes", str(size)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        print_line(f"{work} {size}: {done.stderr.strip().splitlines()[-1:]}")
        return None
    return float(json.loads(done.stdout))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.growth", description="What one of many costs.")
    parser.add_argument("works", nargs="*", help=f"which ones: {', '.join(WORKS)}, memory (default: all)")
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)), help="how many units, with commas (default: %(default)s)")
    parser.add_argument("--draw", action="store_true", help=f"write {PICTURE.name} into docs/_static")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    unknown = set(options.works) - {*WORKS, "memory"}
    if unknown:
        parser.error(f"no such work: {', '.join(sorted(unknown))}; there are {', '.join(WORKS)}, memory")
    sizes = [int(size) for size in options.sizes.split(",")]
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if options.one:
        print_line(json.dumps(trio.run(WORKS[options.one], sizes[0])))
        return
    chosen = options.works or [*WORKS, "memory"]
    found: dict[str, dict[int, float]] = {}
    for name in WORKS:
        if name in chosen:
            costs = {size: apart(name, size) for size in sizes}
            found[name] = {size: cost for size, cost in costs.items() if cost is not None}
            print_line(f"{name:9} " + "  ".join(f"{size:>6,}: {cost:8.1f} µs" for size, cost in found[name].items()))
    if "memory" in chosen:
        trio.run(memory, print_line)
    if options.draw:
        PICTURE.write_text(draw({UNITS[name]: costs for name, costs in found.items()}), encoding="utf-8")


def print_line(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
