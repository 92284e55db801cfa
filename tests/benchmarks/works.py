"""What is measured: the works, their sizes and the ratios aimed at."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import final

import attrs

from tests.benchmarks.graph_works import graph_works

FORK_JOIN_MESSAGES = 10
"""Messages to each actor of the fork-join."""

RING_SIZE = 100
"""Actors in the ring."""


@final
@attrs.frozen
class Work:
    """One block of the table."""

    name: str
    size: int
    """Operations in one run."""
    per: str
    """What one operation is."""
    target: float | None = None
    """The ratio to raw trio that this runtime is to stay under; None: shown, not judged."""
    ahead_of: str | None = None
    """The library that this runtime is to be faster than, besides."""
    ahead_of_all: bool = False
    """Whether it is to be faster than every other library."""
    is_whole: bool = False
    """Whether `size` belongs to the work, so that no peer is given a part of it."""
    max_kb: float | None = None
    """What one may weigh, where memory is measured."""

    @property
    def weighs(self) -> bool:
        """Whether memory is measured, not time."""
        return self.max_kb is not None


WORKS = (
    Work("ask", 2_000, "round trip", target=0.9),
    Work("one-way", 20_000, "message", target=0.15, ahead_of="Pykka"),
    Work("backpressure", 10_000, "message", target=1.05),
    Work("fork-join", 5_000 * FORK_JOIN_MESSAGES, "message", target=0.4),
    Work("ring", 10_000, "hop", target=0.72),
    Work("spawn", 1_000, "actor", target=1.6),
    Work("memory", 20_000, "idle actor", max_kb=5.0),
    Work("crowd", 100_000, "idle actor", max_kb=5.0),
    *graph_works(Work),
)


@final
@attrs.frozen
class Peer:
    """One library: how it does each work. A work it cannot do has no row."""

    name: str
    run: Mapping[str, Callable[[int], float]]
    """By the name of the work: does that many operations and returns the seconds they took (for memory: the bytes)."""
    share: float = attrs.field(default=1.0, kw_only=True)
    """Which part of the timed operations it is given, because it takes long."""
    max_idle: float = attrs.field(default=math.inf, kw_only=True)
    """How many idle actors it is asked for at most."""
