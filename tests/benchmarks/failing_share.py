"""``python -m tests.benchmarks.failing_share``: how long good requests take while a share of all requests fails.

Requests come at a fixed rate, whatever becomes of those before, as in a service. What a request does is to sleep, so what is
measured is what the failures of others add to that.
"""

from __future__ import annotations

import argparse
import platform
import sys
from collections.abc import Sequence

import attrs
import trio

from actors import Graph, RunFailed
from runtime import Runtime, open_runtime
from tests.benchmarks.measuring import judged

RATE_PER_S = 200
REQUESTS = 1_000
WORK_S = 0.002
"""What a request sleeps; short enough that one instance keeps up with the rate."""
SHARES = (0, 10, 50)
"""Percent of the requests that fail."""
TARGET = 2.0
"""Good requests' 99th percentile beside failing ones, as a multiple of what it is without them."""


@attrs.frozen
class Request:
    """What comes in."""

    fails: bool


@attrs.frozen
class Reply:
    """What goes out."""


@attrs.frozen
class Step:
    """A message that is its own handler."""

    fails: bool

    async def __call__(self) -> Reply:
        """Sleep, and fail or not."""
        await trio.sleep(WORK_S)
        if self.fails:
            raise ConnectionError("down")
        return Reply()


def functions() -> Graph:
    """One node, eight messages at once."""
    graph = Graph("functions", input=Request, output=Reply)

    @graph.node(concurrency=8)
    async def work(request: Request) -> Reply:
        return await Step(request.fails)()

    return graph


def classes() -> Graph:
    """A class node, which works on one message at a time."""
    graph = Graph("classes", input=Request, output=Reply)

    @graph.node
    async def begin(request: Request) -> Step:
        return Step(request.fails)

    graph.node(Step)
    return graph


GRAPHS = {"function node, 8 at once": functions, "class node, 1 at once": classes}


async def good_s(runtime: Runtime, graph: Graph, share: int, requests: int) -> list[float]:
    """Seconds that each good request took while `share` percent of all failed."""
    took: list[float] = []

    async def one(number: int) -> None:
        fails = number * share // 100 != (number + 1) * share // 100  # evenly spread
        began = trio.current_time()
        try:
            await runtime.run(graph, Request(fails))
        except RunFailed:
            return
        took.append(trio.current_time() - began)

    begin = trio.current_time()
    async with trio.open_nursery() as nursery:
        for number in range(requests):
            await trio.sleep_until(begin + number / RATE_PER_S)
            nursery.start_soon(one, number)
    return took


def p99(took: Sequence[float]) -> float:
    """The 99th percentile."""
    return sorted(took)[int(0.99 * (len(took) - 1))]


async def measured(requests: int) -> dict[str, dict[int, float]]:
    """The 99th percentile in seconds, by graph and share."""
    results: dict[str, dict[int, float]] = {}
    async with open_runtime(seed=1) as runtime:
        for name, make in GRAPHS.items():
            graph = make()
            await good_s(runtime, graph, 0, RATE_PER_S // 4)
            results[name] = {share: p99(await good_s(runtime, graph, share, requests)) for share in SHARES}
    return results


def report(results: dict[str, dict[int, float]]) -> list[str]:
    """The figures, and what they say about the target, as lines."""
    lines: list[str] = []
    for name, by_share in results.items():
        figures = ", ".join(f"{share} % failing: {seconds * 1e3:.2f} ms" for share, seconds in by_share.items())
        lines += [f"{name}: p99 of good requests, {figures}"]
        worst = max(by_share.values()) / by_share[0]
        lines += ["  " + judged(f"p99 {worst:.2f} × without failures, at most {TARGET:g}", worst <= TARGET)]
    return lines


def main() -> int:
    """Measure, and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.failing_share", description=__doc__)
    parser.add_argument("--requests", type=int, default=REQUESTS, help=f"how many for each share (default: {REQUESTS})")
    parser.add_argument("--strict", action="store_true", help="exit with status 1 when the target is missed")
    options = parser.parse_args()
    sys.stdout.write(f"Python {platform.python_version()}, trio {trio.__version__}, {RATE_PER_S} requests per second\n\n")
    text = "\n".join(report(trio.run(measured, options.requests)))
    sys.stdout.write(f"{text}\n")
    return 1 if "MISSED" in text and options.strict else 0


if __name__ == "__main__":
    sys.exit(main())
