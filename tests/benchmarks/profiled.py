"""``python -m tests.benchmarks.profiled WORK``: where the time of a work goes, by parts of the runtime, and beside it trio's.

From ``cProfile`` on the processor's clock, over what the benchmark measures and nothing else. The profiler takes longer than most
functions, so parts with many calls look dearer than they are; the calls are exact, and the same on a busy machine.
"""

from __future__ import annotations

import argparse
import contextlib
import cProfile
import pstats
import re
import sys
from collections.abc import Mapping
from time import perf_counter, process_time
from typing import Any, Final, cast, final
from unittest import mock

import attrs

from tests.benchmarks import graph_works
from tests.benchmarks.measuring import BASELINE, OURS, load
from tests.benchmarks.works import WORKS

PARTS: Final[Mapping[str, str]] = {
    "tests": "the benchmark's own nodes and messages",
    "runtime/graphs/reducer": "deciding what a result means",
    "runtime/graphs/nodes": "the attempt around the node's function",
    "runtime/graphs": "carrying it out: step, envelope, the run's life",
    "runtime/core/mailbox": "the mailbox",
    "runtime/core/envelope": "the mailbox",
    "runtime/core/supervisor": "supervision",
    "runtime/core/restart": "supervision",
    "runtime/core/cell": "the actor around it: current message, states, start",
    "runtime/core": "the actor around it: current message, states, start",
    "runtime": "the rest of the runtime",
    "actors": "checks of what is declared",
    "trio": "trio: turns of the loop, wake-ups, parks, scopes",
    "outcome": "trio: turns of the loop, wake-ups, parks, scopes",
    "~": "calls into C",
}
"""By the beginning of a module's path, the longest that fits; all else is Python's library."""
_ELSE: Final = "Python's library"
_GENERATED: Final = re.compile(r"<attrs generated \w+ ([\w.]+)\.\w+>")
_ROOMS: Final = re.compile(r"(?:^|/)((?:runtime|actors|tests|trio|outcome)/.*|outcome)")
PEERS: Final = ("raw_trio", "trio_graph", "trio_nursery", "ours", "ours_graph")


@attrs.define
class Part:
    """What one part took."""

    seconds: float = 0.0
    calls: int = 0


def part_of(file: str) -> str:
    """The part that a file of a profile belongs to."""
    made = _GENERATED.match(file)
    place = file if made is None else made[1].replace(".", "/")
    found = _ROOMS.search(place)
    place = place if found is None else found[1]
    fitting = [begin for begin in PARTS if place.startswith(begin)]
    return PARTS[max(fitting, key=len)] if fitting else _ELSE


@final
class MeasuredPart:
    """In place of ``perf_counter`` in a benchmark: what is between two looks at it is profiled, and nothing else."""

    def __init__(self) -> None:
        self.profiler = cProfile.Profile(process_time)
        self._is_on = False

    def __call__(self) -> float:
        (self.profiler.disable if self._is_on else self.profiler.enable)()
        self._is_on = not self._is_on
        return perf_counter()


def profile(run: Any, size: int) -> Mapping[str, Part]:
    """What each part took in the measured part of one run of a work."""
    run(size)  # what is imported and compiled once
    clock = MeasuredPart()
    with contextlib.ExitStack() as stack:
        for module in (sys.modules[run.__module__], graph_works):
            if hasattr(module, "perf_counter"):
                stack.enter_context(mock.patch.object(module, "perf_counter", clock))
        run(size)
    profiler = clock.profiler
    parts: dict[str, Part] = {}
    stats = cast("Mapping[tuple[str, int, str], tuple[int, int, float, float, Any]]", cast("Any", pstats.Stats(profiler)).stats)
    for (file, _, _), (_, calls, seconds, _, _) in stats.items():
        part = parts.setdefault(part_of(file), Part())
        part.seconds += seconds
        part.calls += calls
    return parts


def report(peer: str, parts: Mapping[str, Part], size: int) -> list[str]:
    """Lines of a table, the dearest part first."""
    whole = sum(part.seconds for part in parts.values())
    calls = sum(part.calls for part in parts.values())
    lines = [f"{peer}: {whole / size * 1e6:.1f} µs under the profiler, {calls / size:.0f} calls each"]
    for name, part in sorted(parts.items(), key=lambda each: -each[1].seconds):
        if part.seconds >= 0.005 * whole:
            lines.append(f"  {part.seconds / whole:4.0%}  {part.calls / size:7.1f} calls  {name}")
    return lines


def main(arguments: list[str] | None = None) -> int:
    sizes = {work.name: work.size for work in WORKS if not work.weighs}
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.profiled", description="Where the time of a work goes.")
    parser.add_argument("works", nargs="+", choices=sorted(sizes), metavar="work", help=", ".join(sizes))
    parser.add_argument("--size", type=int, help="how many operations (default: those of the work)")
    options = parser.parse_args(arguments)
    for name in options.works:
        size = options.size or sizes[name]
        for peer in map(load, PEERS):
            if peer.name in (BASELINE, OURS) and name in peer.run:
                sys.stdout.write("\n".join([f"{name}, {size} of them", *report(peer.name, profile(peer.run[name], size), size)]))
                sys.stdout.write("\n\n")
                sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
