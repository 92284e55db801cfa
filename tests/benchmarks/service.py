"""``python -m tests.benchmarks.service``: what a service costs beside a handler written by hand, and what observers cost.

Requests and streams: CPU of the server, which is a process of its own. Steps of graphs and asks of actors: CPU of this process.
All ways take turns. Of requests the middle of all rounds counts, and of ratios the middle of those of each round; of all else the
best: the others have waited for something else on the machine.
"""

from __future__ import annotations

import argparse
import contextlib
import platform
import statistics
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from operator import truediv

import trio

from tests.benchmarks.measuring import judged
from tests.benchmarks.service_calls import PATHS, call_cost_us, event_cost_us, hosting, write_cost_us
from tests.benchmarks.service_sinks import SINKS, STEPS, ask_cost_us, span_cost_us, step_cost_us

WIDTHS = (1, 32)
BY_HAND, RAW = 1.15, {"hypercorn-trio": 1.25, "uvicorn": 2.2}
"""At most so many times the handler by hand, and the framework alone, with the most calls at once."""
EVENT_US = 25.0
STEP: Mapping[str, float] = {"sink": 1.15, "recorder": 1.5, "sampled out": 1.8, "SDK and batch": 4.0, "Prometheus": 1.3}
"""At most so many times a step that nobody observes."""
ASK = 1.02
SLICES = 5
"""Each round of steps and asks is so many short ones, so a moment in which the machine is busy hits few of them."""


async def requests(server: str, rounds: int, calls: int) -> list[str]:
    """The rows of one server. All applications are up, each in its own process, and take turns with few calls each."""
    costs: dict[tuple[str, int], list[float]] = {}
    async with contextlib.AsyncExitStack() as up:
        hosts = {app: await up.enter_async_context(hosting(server, app)) for app in PATHS}
        for app, host in hosts.items():
            await call_cost_us(host, app, WIDTHS[-1], 1_200)  # until the service forgets a run for each that it keeps
        for _ in range(rounds * SLICES):
            for width in WIDTHS:
                for app, host in hosts.items():
                    costs.setdefault((app, width), []).append(await call_cost_us(host, app, width, max(1, calls // SLICES)))
    middle = {key: statistics.median(values) for key, values in costs.items()}
    lines = [f"a run that is waited for, {server}: µs of the server's CPU, {' and '.join(map(str, WIDTHS))} at once"]
    lines += [f"  {app:<18}" + "".join(f"{middle[app, width]:10.0f}" for width in WIDTHS) for app in PATHS]
    for base, most in (("by_hand", BY_HAND), ("raw", RAW[server])):
        ratios = {width: statistics.median(map(truediv, costs["service", width], costs[base, width])) for width in WIDTHS}
        told = ", ".join(f"{ratio:.2f} at {width}" for width, ratio in ratios.items())
        lines.append(f"  {judged(f'{told} × {base}, at most {most:g} at {WIDTHS[-1]}', ratios[WIDTHS[-1]] <= most)}")
    return lines


async def readers(rounds: int, count: int, steps: int) -> list[str]:
    """The row of a run's readers, as our own server serves them, beside writes of the server under it."""
    costs: list[float] = []
    writes: list[float] = []
    for _ in range(rounds):
        async with hosting("understudy", "service") as host:
            costs.append(await event_cost_us(host, count, steps))
        async with hosting("hypercorn-trio", "bare") as host:
            writes.append(await write_cost_us(host, count, steps))
    best = min(costs)
    return [
        f"an event to each of {count:,} readers: {best:.1f} µs of the server's CPU",
        f"  a write of hypercorn's own, of the length of the two events of a step: {min(writes):.1f} µs",
        f"  {judged(f'{best:.1f} µs, at most {EVENT_US:g}', best <= EVENT_US)}",
    ]


def observers(rounds: int, runs: int, asks: int) -> list[str]:
    """The rows of steps and asks with something that observes."""
    steps: dict[str, list[float]] = {}
    asked: dict[str, list[float]] = {}
    spans: dict[bool, list[float]] = {}
    for _ in range(rounds * SLICES):
        for fields in (True, False):
            spans.setdefault(fields, []).append(span_cost_us(max(1, runs // SLICES) * STEPS, fields=fields))
        for name, made in SINKS.items():
            steps.setdefault(name, []).append(step_cost_us(made, max(1, runs // SLICES)))
            asked.setdefault(name, []).append(ask_cost_us(made, max(1, asks // SLICES)))
    step = {name: min(values) for name, values in steps.items()}
    ask = {name: min(values) for name, values in asked.items()}
    lines = ["with an observer: µs of CPU for a step of a graph, and for an ask between actors"]
    for name in SINKS:
        ratios = f"{step[name] / step['nothing']:8.2f} ×{ask[name] / ask['nothing']:8.2f} ×"
        lines.append(f"  {name:<18}{step[name]:10.2f}{ask[name]:10.2f}{ratios}")
    full, bare = min(spans[True]), min(spans[False])
    with_full, with_bare = ((step["nothing"] + span) / step["nothing"] for span in (full, bare))
    lines.append(f"  a span of the SDK's in a loop of its own, into a batch: {full:.1f} µs; without attributes {bare:.1f} µs")
    lines.append(f"  a step and such a span: {with_full:.2f} × a step; without attributes {with_bare:.2f} ×")
    for name, most in STEP.items():
        ratio = step[name] / step["nothing"]
        lines.append(f"  {judged(f'step, {name}: {ratio:.2f} ×, at most {most:g}', ratio <= most)}")
    worst = max(ask[name] / ask["nothing"] for name in SINKS)
    lines.append(f"  {judged(f'ask, any of them: {worst:.2f} ×, at most {ASK:g}', worst <= ASK)}")
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.service", description="Services and observers.")
    parser.add_argument("works", nargs="*", choices=["requests", "readers", "observers", []], help="which ones (default: all)")
    parser.add_argument("--rounds", type=int, default=3, help="how often each is measured (default: 3)")
    parser.add_argument("--scale", type=float, default=1.0, help="0.1: a tenth of the operations (default: 1)")
    options = parser.parse_args(arguments)
    scale, rounds = options.scale, options.rounds
    say(f"Python {platform.python_version()}, trio {trio.__version__}, best of {rounds} rounds\n")
    if not options.works or "requests" in options.works:
        for server in RAW:
            say("\n".join(trio.run(partial(requests, server, rounds, max(64, int(1_600 * scale))))) + "\n")
    if not options.works or "readers" in options.works:
        say("\n".join(trio.run(partial(readers, rounds, max(5, int(1_000 * scale)), max(5, int(20 * scale))))) + "\n")
    if not options.works or "observers" in options.works:
        say("\n".join(observers(max(1, rounds), max(5, int(150 * scale)), max(50, int(3_000 * scale)))) + "\n")
    return 0


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
