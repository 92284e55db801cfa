"""Deciding as the rows come, with an error rate that holds whenever one stops: tests by betting, and what goes with them.

Pure arithmetic. The bets are those of Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting" (Journal
of the Royal Statistical Society, Series B, 2024; arXiv 2010.09686). Anyone who bets against a true claim multiplies the stake by
more than 1 / error with a probability of at most `error`, at any time at all (Ville's inequality): one may look after every row.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import final

MOST_OF_THE_STAKE = 0.75
"""The largest part that a bet risks; the paper calls it c, and suggests 1/2 or 3/4."""
GRID = 200
"""How many steps of differences an interval is looked for on, each way."""
RESAMPLES = 2_000
FLIPS = 5_000


@final
class SequentialTest:
    """Whether paired differences in [-1, 1] have a mean above or below 0.

    Args:
        error: the highest probability of any verdict where there is no difference, however often one looks.
    """

    def __init__(self, error: float = 0.05) -> None:
        self._error = error
        self._log_up = 0.0
        self._log_down = 0.0
        self._count = 0
        self._sum = 0.0
        self._squares = 0.0

    @property
    def count(self) -> int:
        """How many differences it has seen."""
        return self._count

    @property
    def evidence(self) -> float:
        """What a stake of 1 has become by betting against "no difference", half of it on each side; the logarithm, base 10."""
        return (_log_sum(self._log_up, self._log_down) - math.log(2)) / math.log(10)

    @property
    def verdict(self) -> int:
        """1: the mean is above 0. -1: below. 0: not decided."""
        if self.evidence < -math.log10(self._error):
            return 0
        return 1 if self._log_up > self._log_down else -1

    def add(self, difference: float) -> None:
        """Take the next difference. What is staked on it was decided before."""
        mean = self._sum / (self._count + 1)
        variance = (1 + self._squares) / (self._count + 1)
        stake = mean / (variance + mean * mean)
        self._log_up += math.log1p(min(MOST_OF_THE_STAKE, max(0.0, stake)) * difference)
        self._log_down += math.log1p(min(MOST_OF_THE_STAKE, max(0.0, -stake)) * -difference)
        self._count += 1
        self._sum += difference
        self._squares += (difference - self._sum / self._count) ** 2


def _log_sum(one: float, other: float) -> float:
    high = max(one, other)
    return high + math.log(math.exp(one - high) + math.exp(other - high))


def anytime_interval(differences: Sequence[float], error: float = 0.05) -> tuple[float, float]:
    """Where the mean of `differences` in [-1, 1], seen in this order, lies: right at all lengths with probability 1 - `error`.

    It is what :class:`SequentialTest` leaves of all claims about the mean, of which "no difference" is one: a verdict and its
    interval agree.
    """
    limit = math.log(2 / error)
    # A claim, and the logarithms of two stakes against it; those at the ends can only be left by what no difference can be.
    left = [[value / GRID, 0.0, 0.0] for value in range(1 - GRID, GRID)]
    low, high, total, squares = -1.0, 1.0, 0.0, 0.0
    for count, difference in enumerate(differences):
        variance = (1 + squares) / (count + 1)
        for claim in left:
            at = claim[0]
            mean = (total - at * count) / (count + 1)
            stake, gain = mean / (variance + mean * mean), difference - at
            if stake > 0:
                claim[1] += math.log1p(min(stake, MOST_OF_THE_STAKE / (1 + at)) * gain)
            elif stake < 0:
                claim[2] += math.log1p(max(stake, -MOST_OF_THE_STAKE / (1 - at)) * gain)
        left = [claim for claim in left if max(claim[1], claim[2]) < limit and _log_sum(claim[1], claim[2]) < limit]
        if not left:
            return low, high  # narrower than the grid
        ends = left[0][0], left[-1][0]
        low, high = max(low, ends[0] - 1 / GRID), min(high, ends[1] + 1 / GRID)
        total += difference
        squares += (difference - total / (count + 1)) ** 2
    return low, high


def bootstrap_interval(differences: Sequence[float], error: float = 0.05, seed: int = 0) -> tuple[float, float]:
    """The percentile interval of the mean, by drawing rows again with replacement; for a number of rows that was fixed before."""
    if not differences:
        return math.nan, math.nan
    chance, count = random.Random(seed), len(differences)
    means = sorted(math.fsum(chance.choices(differences, k=count)) / count for _ in range(RESAMPLES))
    cut = int(RESAMPLES * error / 2)
    return means[cut], means[-1 - cut]


def flip_probability(differences: Sequence[float], seed: int = 0) -> float:
    """How often a mean as far from 0 comes up when the two sides of each pair are exchanged by a coin.

    The p-value of a two-sided test by random sign flips, for a number of rows that was fixed before.
    """
    told = [difference for difference in differences if difference]
    if not told:
        return 1.0
    chance, seen = random.Random(seed), abs(math.fsum(told)) - 1e-12
    as_far = sum(
        abs(math.fsum(each if bits >> at & 1 else -each for at, each in enumerate(told))) >= seen
        for bits in (chance.getrandbits(len(told)) for _ in range(FLIPS))
    )
    return (as_far + 1) / (FLIPS + 1)
