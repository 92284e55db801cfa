"""The works of the graph rows, and the little that all peers have in common at them.

A node's work is to add one to a number, or to sleep, so what is measured is the way from node to node.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from time import perf_counter
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from tests.benchmarks.works import Work

CHAIN = 20
"""Nodes in the chain whose steps are counted."""

SHORT_CHAIN = 5
"""Nodes in the chain of which many runs are in progress at once."""

CONCURRENT_RUNS = 200
NAP_S = 0.05
"""What a branch of a fan-out sleeps."""

FANS = {3: 10, 100: 3, 1_000: 1}
"""Branches of a fan-out, and how many fan-outs make one measurement."""

FAN_TARGETS = {3: 1.6, 100: 1.45, 1_000: 1.8}
"""By branches: the ratio to trio by hand that this runtime is to stay under."""


def fan_name(width: int) -> str:
    """The name of the work with so many branches."""
    return f"graph-fan-{width}"


def graph_works(make: type[Work]) -> tuple[Work, ...]:
    """The graph rows, with what is aimed at."""
    return (
        make("graph-chain", 2_000, f"node step, {CHAIN} nodes in a row", target=1.5, ahead_of_all=True),
        make("graph-cycle", 2_000, "node step, two nodes in a circle", target=1.4, ahead_of_all=True),
        make(
            "graph-runs",
            CONCURRENT_RUNS,
            f"run of {SHORT_CHAIN} nodes, {CONCURRENT_RUNS} at once",
            target=0.75,
            ahead_of_all=True,
            is_whole=True,
        ),
        *(
            make(
                fan_name(width),
                width * in_a_row,
                f"branch of {width:,} that sleep {NAP_S * 1e3:g} ms, beyond that",
                target=FAN_TARGETS[width],
                ahead_of_all=True,
                is_whole=True,
            )
            for width, in_a_row in FANS.items()
        ),
    )


@attrs.frozen
class Stopwatch:
    """Seconds since it was made."""

    begin: float = attrs.field(factory=lambda: perf_counter())
    """Looked up when it is made: :mod:`tests.benchmarks.profiled` puts another clock in its place."""

    @property
    def s(self) -> float:
        """So far."""
        return perf_counter() - self.begin

    def beyond_naps(self, runs: int) -> float:
        """Without what `runs` fan-outs in a row sleep."""
        return max(0.0, self.s - runs * NAP_S)


def chain_runs(steps: int) -> int:
    """How many runs of the chain make `steps`."""
    return max(1, steps // CHAIN)


def fan_runs(branches: int, width: int) -> int:
    """How many fan-outs in a row make so many `branches`; a smaller measurement has one, and it is not narrower."""
    return max(1, branches // width)


def fans(run: Callable[[int, int], float], widths: Iterable[int] = FANS) -> dict[str, Callable[[int], float]]:
    """The works of a peer that fans out with ``run(width, branches)``."""

    def of(width: int) -> Callable[[int], float]:
        return lambda branches: run(width, branches)

    return {fan_name(width): of(width) for width in widths}
