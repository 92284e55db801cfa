"""``python -m tests.benchmarks.placement_costs``: what it costs to let actors and nodes work in other processes.

Everything is measured in this process and its hosts, in turns, and the best of the rounds counts: what else the machine does only
ever adds. Calls of raw Ray, beside those of hosts that Ray places, are measured by ``placed_calls``, where Ray is installed.
"""

from __future__ import annotations

import argparse
import gc
import os
import platform
import sys
from collections.abc import Callable, Mapping
from time import perf_counter, process_time
from typing import Any, Final

import attrs
import trio

from runtime import open_runtime
from runtime.placement import Here, Processes, Sharded
from runtime.placement.frames import HEADER_BYTES
from tests.benchmarks.hosted_works import Echo, Keyed, Napper, Pile, Ping, piles, raw_stream
from tests.benchmarks.measuring import judged

ASK_BYTES: Final = HEADER_BYTES + 110
"""About what an ask of a number is in a frame, there; on its way back it is less."""
CROWD: Final = 256
BUSY_S: Final = 0.005
NAP_S: Final = 0.1
WINDOW: Final = 50


@attrs.frozen
class Target:
    """A ratio of two rows, or a row itself, and what it is held to."""

    text: str
    value: Callable[[Mapping[str, float]], float]
    limit: float
    is_least: bool = False
    """Whether the limit is the least, and not the most."""

    def verdict(self, rows: Mapping[str, float]) -> str:
        """A line."""
        value = self.value(rows)
        met = value >= self.limit if self.is_least else value <= self.limit
        words = "at least" if self.is_least else "at most"
        return judged(f"{self.text}: {value:.2f}, {words} {self.limit:g}", met)


TARGETS: Final = (
    Target("placed ask / ping-pong over a raw trio stream", lambda row: row["placed ask"] / row["raw stream"], 2),
    Target("placed ask / ask in the process", lambda row: row["placed ask"] / row["ask"], 14),
    Target("CPU of the owner, placed item / item at home", lambda row: row["placed item"] / row["item"], 3),
    Target("two hosts / one, 5 ms of CPU an item", lambda row: row["one host"] / row["two hosts"], 1.8, is_least=True),
    Target("eight hosts, naps of 0.1 s: ideal / measured", lambda row: row["naps ideal"] / row["naps"], 0.8, is_least=True),
    Target("cancel, until the handler on the host has ended, ms", lambda row: row["cancel"] / 1000, 10),
    Target("activations of sharded actors a second", lambda row: 1e6 / row["activation"], 500, is_least=True),
)


async def raw_us(count: int) -> float:
    """A ping-pong of the same bytes over a stream of trio's, to a process that does nothing else."""
    message = bytes(ASK_BYTES)
    async with raw_stream(ASK_BYTES) as stream:

        async def once() -> None:
            await stream.send_all(message)
            left = ASK_BYTES
            while left:
                left -= len(await stream.receive_some(left))

        for _ in range(20):
            await once()
        began = perf_counter()
        for _ in range(count):
            await once()
        return (perf_counter() - began) / count * 1e6


async def ask_us(place: Any, count: int) -> float:
    """One ask after another."""
    async with open_runtime(places={"cpu": place}) as runtime:
        ref = await runtime.spawn(Echo, place="cpu")
        for _ in range(20):
            await ref.ask(Ping(1))
        began = perf_counter()
        for number in range(count):
            await ref.ask(Ping(number))
        return (perf_counter() - began) / count * 1e6


async def crowd_us(place: Any, count: int) -> float:
    """So many actors, each asked by a task of its own, as often as it can."""
    async with open_runtime(places={"cpu": place}) as runtime:
        refs = [await runtime.spawn(Echo, place="cpu") for _ in range(CROWD)]

        async def ask(ref: Any, times: int) -> None:
            for number in range(times):
                await ref.ask(Ping(number))

        times = max(1, count // CROWD)
        began = perf_counter()
        async with trio.open_nursery() as nursery:
            for ref in refs:
                nursery.start_soon(ask, ref, times)
        return (perf_counter() - began) / (times * CROWD) * 1e6


async def item_us(place: Any, items: int) -> float:
    """CPU of this process for an item of a fan-out whose work is none."""
    graph = piles("cpu", 64)
    async with open_runtime(places={"cpu": place}) as runtime:
        await runtime.run(graph, Pile(64))
        began = process_time()
        await runtime.run(graph, Pile(items))
        return (process_time() - began) / items * 1e6


async def fan_out_us(hosts: int, items: int, busy_s: float, nap_s: float, concurrency: int) -> float:
    """Time of an item of a fan-out over so many hosts."""
    graph = piles("cpu", concurrency)
    async with open_runtime(places={"cpu": Processes(hosts, window=WINDOW)}) as runtime:
        await runtime.run(graph, Pile(4 * hosts))
        began = perf_counter()
        await runtime.run(graph, Pile(items, busy_s, nap_s))
        return (perf_counter() - began) / items * 1e6


async def cancel_us(count: int) -> float:
    """From the cancellation of an ask until its handler on the host has ended, and the next message is answered."""
    spent = 0.0
    async with open_runtime(places={"cpu": Processes(1)}) as runtime:
        ref = await runtime.spawn(Napper, place="cpu")
        await ref.ask(0.0)
        for _ in range(count):
            with trio.move_on_after(0.02):
                await ref.ask(1000.0)
            began = perf_counter()
            await ref.ask(0.0)
            spent += perf_counter() - began
    return spent / count * 1e6


async def activation_us(count: int) -> float:
    """The first message of a key, which starts its actor; so many keys together."""
    async with open_runtime(places={"cpu": Processes(2)}) as runtime:
        sharded = Sharded(Keyed, key=lambda message: message.number)
        ref = await runtime.spawn(sharded, name="keyed", place="cpu")
        await ref.ask(Ping(-1))
        began = perf_counter()
        async with trio.open_nursery() as nursery:
            for number in range(count):
                nursery.start_soon(ref.ask, Ping(number))
        return (perf_counter() - began) / count * 1e6


def measured(rounds: int, scale: float) -> dict[str, float]:
    """Microseconds by the name of the row: the best of the rounds."""
    asks, items = max(10, int(2000 * scale)), max(64, int(3000 * scale))
    busy, naps = max(8, int(200 * scale)), max(8 * WINDOW, int(3200 * scale))
    rows: dict[str, Callable[[], Any]] = {
        "raw stream": lambda: raw_us(asks),
        "ask": lambda: ask_us(Here(), asks),
        "placed ask": lambda: ask_us(Processes(1), asks),
        "placed crowd": lambda: crowd_us(Processes(1), asks * 4),
        "item": lambda: item_us(Here(), items),
        "placed item": lambda: item_us(Processes(1), items),
        "one host": lambda: fan_out_us(1, busy, BUSY_S, 0.0, 8),
        "two hosts": lambda: fan_out_us(2, busy, BUSY_S, 0.0, 8),
        "naps": lambda: fan_out_us(8, naps, 0.0, NAP_S, 8 * WINDOW),
        "cancel": lambda: cancel_us(max(3, int(30 * scale))),
        "activation": lambda: activation_us(max(20, int(2000 * scale))),
    }
    best: dict[str, float] = {}
    for _ in range(rounds):
        for name, row in rows.items():
            gc.collect()
            best[name] = min(best.get(name, float("inf")), trio.run(row))
    best["naps ideal"] = NAP_S / (8 * WINDOW) * 1e6
    return best


def table(rows: Mapping[str, float]) -> str:
    """The rows, and what they say of the targets."""
    lines = ["hosts: microseconds, the best round of each"]
    lines += [f"  {name:<16}{value:10.1f}" for name, value in rows.items()]
    lines += [f"  {target.verdict(rows)}" for target in TARGETS]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.placement_costs", description="Actors and nodes on hosts.")
    parser.add_argument("--rounds", type=int, default=3, help="how often each is measured (default: 3)")
    parser.add_argument("--scale", type=float, default=1.0, help="0.1: a tenth of the operations (default: 1)")
    parser.add_argument("--strict", action="store_true", help="exit with status 1 when a target is missed")
    options = parser.parse_args(arguments)
    sys.stdout.write(f"Python {platform.python_version()}, trio {trio.__version__}, {os.cpu_count()} cores\n\n")
    text = table(measured(options.rounds, options.scale))
    sys.stdout.write(f"{text}\n")
    return 1 if "MISSED" in text and options.strict else 0


if __name__ == "__main__":
    sys.exit(main())
