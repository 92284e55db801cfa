"""Deciding as the rows come, with an error rate that holds whenever one stops: tests by betting, and what goes with them.

Pure arithmetic. The bets are those of Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting" (Journal
of the Royal Statistical Society, Series B, 2024; arXiv 2010.09686). Anyone who bets against a true claim multiplies the stake by
more than 1 / error with a probability of at most `error`, at any time at all (Ville's inequality): one may look after every row.
That holds for any stake that was decided before the row was seen; how stakes are chosen only decides how soon there is a verdict.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Sequence
from typing import Final, final

MOST_OF_THE_STAKE = 0.75
"""The largest part that a bet risks; the paper calls it c, and suggests 1/2 or 3/4."""
EXPECTS: Final = 0.10
"""The difference that a test is sharpest for: ten points of a hundred."""
BOLDNESS = 1.15
"""Bets begin as for a difference this much larger than expected: half of the tests end sooner, and none much later."""
TRUST = 4.0
"""Bets begin with what is expected as if ``TRUST / expects ** 2`` rows had shown it: about as many as a test takes to decide."""
FIRST_SQUARE, FIRST_SQUARES = 0.4, 10
"""What squared differences are taken to be before there are any, and how many rows that belief weighs. Two independent answers
that are right three times of four differ on 0.375 of all rows."""
GRID = 200
"""How many steps of differences an interval is looked for on, each way."""
_LOG_2 = math.log(2)
RESAMPLES = 2_000
FLIPS = 5_000


@final
class SequentialTest:
    """Whether paired differences in [-1, 1] have a mean above or below 0.

    Args:
        error: the highest probability of any verdict where there is no difference, however often one looks.
        expects: the difference that it is sharpest for, in (0, 1]. The error rate doesn't depend on it.
    """

    def __init__(self, error: float = 0.05, expects: float = EXPECTS) -> None:
        self._error = error
        self._limit = -math.log(error)
        self._bettor = _Bettor(expects)
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
        return (_log_sum(self._log_up, self._log_down) - _LOG_2) / math.log(10)

    @property
    def verdict(self) -> int:
        """1: the mean is above 0. -1: below. 0: not decided."""
        if max(self._log_up, self._log_down) < self._limit or self.evidence < -math.log10(self._error):
            return 0  # the mean of two stakes is less than the larger one, which is found without an exponential
        return 1 if self._log_up > self._log_down else -1

    def add(self, difference: float) -> None:
        """Take the next difference. What is staked on it was decided before."""
        up, down = self._bettor.stakes(0.0, self._count, self._sum, self._squares)
        self._log_up += math.log1p(up * difference)
        self._log_down += math.log1p(-down * difference)
        self._count += 1
        self._sum += difference
        self._squares += difference * difference


@final
class _Bettor:
    """Chooses stakes by what it has seen, and, as long as that is little, by what it expects."""

    def __init__(self, expects: float) -> None:
        self._rows = TRUST / expects**2
        self._total = self._rows * min(1.0, BOLDNESS * expects)

    def stakes(self, claim: float, count: int, total: float, squares: float) -> tuple[float, float]:
        """What to bet on the next difference's being above, and below, `claim`, after `count` with this `total` and `squares`.

        The mean over the mean square is the stake that grows fastest where differences are -1, 0 and 1, and nearly so elsewhere.
        """
        moved = total - claim * count
        square = squares - 2 * claim * total + claim * claim * count
        over = (self._rows + count) * (FIRST_SQUARE * FIRST_SQUARES + square) / (FIRST_SQUARES + count)
        up, down = (self._total + moved) / over, (self._total - moved) / over
        return min(max(0.0, up), MOST_OF_THE_STAKE / (1 + claim)), min(max(0.0, down), MOST_OF_THE_STAKE / (1 - claim))


def _log_sum(one: float, other: float) -> float:
    high = max(one, other)
    return high + math.log(math.exp(one - high) + math.exp(other - high))


@final
class AnytimeInterval:
    """Where the mean of differences in [-1, 1], seen in this order, lies: right at all lengths with probability 1 - `error`.

    It is what :class:`SequentialTest` leaves of all claims about the mean, of which "no difference" is one: a verdict and its
    interval agree. Only the outermost claims that are left are bet against. When one is lost, the next one in is bet against,
    with all differences so far.
    """

    def __init__(self, error: float = 0.05, expects: float = EXPECTS) -> None:
        self._differences: list[float] = []
        self._ends = tuple(_Claims(_Bettor(expects), math.log(2 / error), inwards) for inwards in (1, -1))

    @property
    def ends(self) -> tuple[float, float]:
        """The lowest and the highest mean that is left."""
        low, high = (end.claim for end in self._ends)
        return max(-1.0, low - 1 / GRID), min(1.0, high + 1 / GRID)

    def add(self, difference: float) -> None:
        """Take the next difference."""
        self._differences.append(difference)
        for end in self._ends:
            end.follow(self._differences)


@final
class _Claims:
    """The claims about a mean, from one end inwards, and the stakes against the first that is left."""

    def __init__(self, bettor: _Bettor, limit: float, inwards: int) -> None:
        self._bettor = bettor
        self._limit = limit
        self._inwards = inwards
        self._last, self._longest = 0.0, -1
        self._nth = 0
        self._begin()

    def _begin(self) -> None:
        # What is at the very ends can only be the mean if all differences are the same.
        self.claim = self._inwards * (1 - GRID + self._nth) / GRID
        self._count = 0
        self._log_up = self._log_down = self._total = self._squares = 0.0

    def follow(self, differences: Sequence[float]) -> None:
        """Bet on those that are new, and go on to the next claim wherever one is lost."""
        while self._count < len(differences) and self._nth < 2 * GRID - 1:
            difference = differences[self._count]
            up, down = self._bettor.stakes(self.claim, self._count, self._total, self._squares)
            self._log_up += math.log1p(up * (difference - self.claim))
            self._log_down += math.log1p(-down * (difference - self.claim))
            is_close = max(self._log_up, self._log_down) + _LOG_2 >= self._limit
            if is_close and _log_sum(self._log_up, self._log_down) >= self._limit:
                self._lose()
                continue
            self._count += 1
            self._total += difference
            self._squares += difference * difference

    def _lose(self) -> None:
        if self._count > self._longest:
            self._last, self._longest = self.claim, self._count
        self._nth += 1
        if self._nth == 2 * GRID - 1:  # narrower than the grid: about the claim that was left last
            self.claim = self._last
            return
        self._begin()


def anytime_interval(differences: Iterable[float], error: float = 0.05, expects: float = EXPECTS) -> tuple[float, float]:
    """The :class:`AnytimeInterval` of all of them."""
    interval = AnytimeInterval(error, expects)
    for difference in differences:
        interval.add(difference)
    return interval.ends


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
