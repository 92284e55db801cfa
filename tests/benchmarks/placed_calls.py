"""``python -m tests.benchmarks.placed_calls``: calls to hosts that Ray places, beside calls of Ray's own, in turns.

Ray's own calls are made by a process of their own, since the runtime's imports no ray: a synchronous actor that gives back what
it gets, one call after another, and 256 at a time. Ours are asks of a placed actor that does the same, one after another; 256 at
a time to one such actor, which has one message out; to 64 on two hosts; and calls of a placed node, 256 at a time. TLS is on, as
it is by default. `make bench-ray` has what it needs.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import trio

from actors import MailboxSpec
from runtime import open_runtime
from runtime.placement import Processes
from runtime.placement.ray import RayHosts
from tests.benchmarks.placed_works import CROWD, Many, PlacedEcho, Question, Sum, graph
from tests.placement_ray.conftest import started_cluster

ACTORS = 64


# --- Ray's own ------------------------------------------------------------------------------------------------------------


class RawEcho:
    """An actor of Ray's."""

    def ask(self, message: Question) -> Question:
        return message


def raw(address: str) -> None:
    """A process of its own: measure as often as it is told, in lines."""
    import ray  # type: ignore[import-not-found, unused-ignore]

    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    ray.init(address=address, logging_level="error", log_to_driver=False)
    actor = ray.remote(RawEcho).remote()
    ray.get([actor.ask.remote(Question(0)) for _ in range(CROWD)])
    for line in sys.stdin:
        size = int(line)
        began = perf_counter()
        for number in range(size):
            ray.get(actor.ask.remote(Question(number)))
        middle = perf_counter()
        for _ in range(max(1, 4 * size // CROWD)):
            ray.get([actor.ask.remote(Question(number)) for number in range(CROWD)])
        ended = perf_counter()
        calls = CROWD * max(1, 4 * size // CROWD)
        print(json.dumps([(middle - began) / size, (ended - middle) / calls]), file=out, flush=True)


# --- ours -----------------------------------------------------------------------------------------------------------------


async def one_after_another(ask: Callable[[Question], Awaitable[object]], size: int) -> float:
    began = perf_counter()
    for number in range(size):
        await ask(Question(number))
    return (perf_counter() - began) / size


async def crowd(asks: Sequence[Callable[[Question], Awaitable[object]]], size: int) -> float:
    """256 tasks, each asking one after another."""
    each = max(1, size // CROWD)

    async def caller(ask: Callable[[Question], Awaitable[object]]) -> None:
        for number in range(each):
            await ask(Question(number))

    began = perf_counter()
    async with trio.open_nursery() as nursery:
        for number in range(CROWD):
            nursery.start_soon(caller, asks[number % len(asks)])
    return (perf_counter() - began) / (each * CROWD)


async def ours(address: str, rounds: int, size: int, raw_round: Callable[[], tuple[float, float]]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    mailbox = MailboxSpec(capacity=CROWD)
    places: dict[str, Any] = {"far": RayHosts(2, address=address, num_cpus=1), "near": Processes(1)}
    async with open_runtime(places=places) as runtime:
        await runtime.deploy(graph)
        one = (await runtime.spawn(PlacedEcho, name="one", place="far", mailbox=mailbox)).ask
        near = (await runtime.spawn(PlacedEcho, name="near", place="near", mailbox=mailbox)).ask
        home = (await runtime.spawn(PlacedEcho, name="home", mailbox=mailbox)).ask
        many = [(await runtime.spawn(PlacedEcho, name=f"e{n}", place="far", mailbox=mailbox)).ask for n in range(ACTORS)]
        await crowd(many, CROWD)
        for _ in range(rounds):
            taken = {
                "ask": await one_after_another(one, size),
                "ask in a process": await one_after_another(near, size),
                "ask at home": await one_after_another(home, size),
                "256 asks, 1 actor": await crowd([one], 4 * size),
                f"256 asks, {ACTORS} actors": await crowd(many, 4 * size),
                "256 calls of a node": await of_nodes(partial(runtime.run, graph), size),
            }
            taken["Ray's call"], taken["256 of Ray's calls"] = await trio.to_thread.run_sync(raw_round)
            for name, seconds in taken.items():
                found.setdefault(name, []).append(seconds)
    return found


async def of_nodes(run: Callable[[Many], Awaitable[Sum]], size: int) -> float:
    began = perf_counter()
    assert await run(Many(size)) == Sum(size * (size - 1) // 2)
    return (perf_counter() - began) / size


def main(arguments: list[str] | None = None) -> int:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", type=int, default=2000)
    parser.add_argument("--raw", help=argparse.SUPPRESS)
    told = parser.parse_args(arguments)
    if told.raw:
        raw(told.raw)
        return 0
    os.environ["RAY_AUTH_MODE"] = "disabled"  # on the loopback
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    with started_cluster({"RAY_AUTH_MODE": "disabled"}) as cluster:
        command = [sys.executable, "-m", "tests.benchmarks.placed_calls", "--raw", cluster.address]
        root = Path(__file__).resolve().parents[2]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root) as process:
            assert process.stdin is not None
            assert process.stdout is not None

            def raw_round() -> tuple[float, float]:
                assert process.stdin is not None
                assert process.stdout is not None
                process.stdin.write(f"{told.size // 2}\n")
                process.stdin.flush()
                alone, together = json.loads(process.stdout.readline())
                return alone, together

            found = trio.run(ours, cluster.address, told.rounds, told.size, raw_round)
            process.stdin.close()
    show(found)
    return 0


def show(found: dict[str, list[float]]) -> None:
    middle = {name: statistics.median(values) for name, values in found.items()}
    lines: list[str] = []
    for name, seconds in middle.items():
        between = f"{min(found[name]) * 1e6:,.0f} to {max(found[name]) * 1e6:,.0f}"
        lines.append(f"{name:<24}{seconds * 1e6:>9,.0f} µs  ({between})  {1 / seconds:>9,.0f}/s")
    lines.append(f"placed ask / Ray's call: {middle['ask'] / middle[RAW]:.2f}")
    crowds = [name for name in middle if name.startswith("256 ") and name != RAW_CROWD]
    lines += [f"{name} / 256 of Ray's calls, in calls a second: {middle[RAW_CROWD] / middle[name]:.1f}" for name in crowds]
    sys.stdout.write("\n".join(lines) + "\n")


RAW, RAW_CROWD = "Ray's call", "256 of Ray's calls"

if __name__ == "__main__":
    sys.exit(main())
