"""A layered drawing of a directed graph: the order of things within their rows, and how far right each stands. Pure.

It doesn't know about nodes and messages. Every link joins two neighbouring rows; a line over several rows is a chain of links
through narrow things that only keep its way free.

Source: K. Sugiyama, S. Tagawa, M. Toda, "Methods for visual understanding of hierarchical system structures", IEEE Trans. SMC
11(2), 1981, with the places of a row found by isotonic regression.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import final

import attrs

ORDERINGS = 12
"""Sweeps over the rows that look for an order in which fewer links cross."""
PLACINGS = 40
"""Sweeps over the rows that move things below and above what they are joined with."""
MOST_WORK = 200_000
"""Things that all these sweeps may look at: a very dense graph gets fewer of them, so its picture is a matter of seconds."""


@final
@attrs.define(eq=False)
class Thing:
    """What takes up room in a row."""

    row: int
    left: float = 0.0
    """How far it reaches to the left of `x`, in pixels."""
    right: float = 0.0
    x: float = 0.0
    place: int = 0
    """Its number within its row, from the left."""
    above: list[tuple[Thing, float]] = attrs.field(factory=list["tuple[Thing, float]"], repr=False)
    """What it is joined with in the row above, and how strongly it is drawn there."""
    below: list[tuple[Thing, float]] = attrs.field(factory=list["tuple[Thing, float]"], repr=False)


def link(upper: Thing, lower: Thing, weight: float) -> None:
    """Join two things of neighbouring rows."""
    upper.below.append((lower, weight))
    lower.above.append((upper, weight))


def arrange(rows: list[list[Thing]], gap: float) -> None:
    """Put each row in order and give each thing its `x`; no thing in a row comes nearer to its neighbour than `gap` pixels."""
    share = min(MOST_WORK / (max(sum(map(len, rows)), 1) * (ORDERINGS + PLACINGS)), 1.0)
    _order(rows, max(round(ORDERINGS * share), 2))
    _place(rows, gap, max(round(PLACINGS * share), 4))


def _order(rows: list[list[Thing]], sweeps: int) -> None:
    _number(rows)
    best, fewest = [list(row) for row in rows], _crossings(rows)
    for sweep in range(sweeps):
        if not fewest:
            break
        down = sweep % 2 == 0
        for row in rows if down else reversed(rows):
            row.sort(key=_middle_above if down else _middle_below)
            _number([row])
        crossings = _crossings(rows)
        if crossings < fewest:
            best, fewest = [list(row) for row in rows], crossings
    rows[:] = best
    _number(rows)


def _number(rows: Iterable[list[Thing]]) -> None:
    for row in rows:
        for place, thing in enumerate(row):
            thing.place = place


def _middle_above(thing: Thing) -> float:
    return _middle(thing, thing.above)


def _middle_below(thing: Thing) -> float:
    return _middle(thing, thing.below)


def _middle(thing: Thing, joined: Sequence[tuple[Thing, float]]) -> float:
    return sum(other.place for other, _ in joined) / len(joined) if joined else thing.place


def _crossings(rows: Sequence[Sequence[Thing]]) -> int:
    """How many pairs of links cross."""
    total = 0
    for row in rows:
        ends: list[int] = []
        for thing in row:
            mine = sorted(other.place for other, _ in thing.below)
            total += sum(len(ends) - bisect.bisect_right(ends, end) for end in mine)
            for end in mine:
                bisect.insort(ends, end)
    return total


def _place(rows: Sequence[Sequence[Thing]], gap: float, sweeps: int) -> None:
    for row in rows:
        _settle(row, gap, lambda _: [])
    for sweep in range(sweeps):
        last = sweep >= sweeps // 2
        for row in rows if sweep % 2 == 0 else reversed(rows):
            _settle(row, gap, _both if last else _above if sweep % 2 == 0 else _below)


def _above(thing: Thing) -> list[tuple[Thing, float]]:
    return thing.above


def _below(thing: Thing) -> list[tuple[Thing, float]]:
    return thing.below


def _both(thing: Thing) -> list[tuple[Thing, float]]:
    return thing.above + thing.below


def _settle(row: Sequence[Thing], gap: float, joined: Callable[[Thing], list[tuple[Thing, float]]]) -> None:
    """Move the things of a row as near as can be to what each is joined with, in their order and without touching.

    Their least distances taken off, the wished places need only be made to rise: pool neighbours that do not into their mean.
    """
    blocks: list[tuple[float, float, int]] = []  # mean, weight, how many
    offsets = [0.0][: len(row)]
    for one, two in itertools.pairwise(row):
        offsets.append(offsets[-1] + one.right + gap + two.left)
    for thing, offset in zip(row, offsets, strict=True):
        others = joined(thing)
        weight = sum(weight for _, weight in others)
        wish = sum(other.x * weight for other, weight in others) / weight if weight else thing.x
        block = (wish - offset, weight or 0.1, 1)
        while blocks and blocks[-1][0] >= block[0]:
            mean, heavy, count = blocks.pop()
            total = heavy + block[1]
            block = ((mean * heavy + block[0] * block[1]) / total, total, count + block[2])
        blocks.append(block)
    means = (mean for mean, _, count in blocks for _ in range(count))
    for thing, offset, mean in zip(row, offsets, means, strict=True):
        thing.x = mean + offset
