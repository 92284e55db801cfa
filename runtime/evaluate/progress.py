"""How far an evaluation is, and what its scores come to so far."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final, final

import attrs

from runtime.evaluate.figures import figure

SHOWN_AS_SECONDS: Final = 120
"""What takes longer is told in minutes."""
ROUNDING: Final = 1e-24
"""What rounding may leave of a variance of 0, in units of the largest score, where a row's score has changed."""


@final
@attrs.frozen
class Progress:
    """How far an evaluation is."""

    done: int
    of: int
    mean: float
    """The mean of the first metric, so far."""
    cost_usd: float
    elapsed_s: float
    interval: tuple[float, float] = (math.nan, math.nan)
    """Where the mean lies with a probability of 95 %: 1.96 standard errors around it, once two rows differ. In a comparison,
    what the sequential test leaves, whose probability is 1 less the comparison's error."""
    is_difference: bool = False
    """Whether the mean is that of the differences of two graphs, and ``of`` the most rows that may be needed."""
    kept: int = 0
    """How many of those that are done were done before, and stood in the file."""

    @property
    def left(self) -> int:
        """Runs, or pairs of rows, that may still come."""
        return self.of - self.done

    @property
    def left_s(self) -> float:
        """How long the rest will take, if it goes on like this; infinite before the first row that was not kept."""
        made = self.done - self.kept
        return self.elapsed_s / made * self.left if made else math.inf

    def __str__(self) -> str:
        low, high = self.interval
        if self.is_difference:
            estimate = f"difference {self.mean:+.3f} ({low:+.3f} to {high:+.3f})"
        else:
            estimate = f"mean {figure(self.mean)}" + ("" if math.isnan(low) else f" ({figure(low)} to {figure(high)})")
        left = f"{self.left} left" + (" at most" if self.is_difference else "")
        if self.left and self.done > self.kept:
            left += f", {self.left_s:.0f} s" if self.left_s < SHOWN_AS_SECONDS else f", {self.left_s / 60:.0f} min"
        return f"{self.done} of {self.of}, {estimate}, ${self.cost_usd:.4f}, {left}"


Told = Callable[[Progress], None]


@final
class RunningMean:
    """The mean of the rows' scores, each of which is the mean of its runs, and how sure it is, kept as they come.

    It is Welford's method, in units of the largest score: squares of scores would overflow, and sums of them would lose what
    differs between scores that are large and close.
    """

    def __init__(self) -> None:
        self._rows: dict[str, tuple[float, int]] = {}
        self._unit = 1.0
        """A power of 2, by which nothing is lost; every score is less than two of it."""
        self._mean = 0.0
        self._squares = 0.0
        """Of the rows' distances from their mean."""
        self._rounding = 0.0
        self.cost_usd = 0.0

    def add(self, row: str, score: float, cost_usd: float) -> None:
        """Count one run of `row`."""
        self.cost_usd += cost_usd
        if abs(score) >= 2 * self._unit:
            self._measure_by(score)
        known = self._rows.get(row)
        if known is None:
            self._rows[row] = score, 1
            value, before = score / self._unit, self._mean
            self._mean += (value - before) / len(self._rows)
            self._squares += (value - before) * (value - self._mean)
            return
        old, runs = known[0], known[1] + 1
        new = old + (score / runs - old / runs)
        self._rows[row] = new, runs
        was, value, before = old / self._unit, new / self._unit, self._mean
        self._mean += (value - was) / len(self._rows)
        self._squares += (value - was) * ((value - self._mean) + (was - before))
        self._rounding = ROUNDING

    def _measure_by(self, score: float) -> None:
        unit = math.ldexp(1.0, math.frexp(score)[1] - 1)
        share = self._unit / unit
        self._mean, self._squares, self._unit = self._mean * share, self._squares * share * share, unit

    @property
    def mean(self) -> float:
        """Of all rows so far; not a number before the first."""
        return self._mean * self._unit if self._rows else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """1.96 standard errors around the mean; not numbers where all rows score the same, which tells nothing about others."""
        count = len(self._rows)
        variance = self._squares / (count - 1) if count > 1 else 0.0
        if variance <= self._rounding:
            return math.nan, math.nan
        wide = 1.96 * math.sqrt(variance / count) * self._unit
        return self.mean - wide, self.mean + wide
