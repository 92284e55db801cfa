"""``python -m tests.benchmarks.verdicts``: how often a sequential comparison is wrong, and how many rows it takes.

Simulated answers instead of graphs, so a thousand comparisons take seconds; the test is the one that ``compare`` bets with. Where
there is no difference, it is looked at after every row, which a test with a fixed number of rows does not bear. Where there is
one, the rows are counted beside those of fixed designs, which are planned with the size of the gap and the spread of the scores
known in advance.
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import final

import attrs

from runtime.evaluate.sequential import SequentialTest
from tests.benchmarks.measuring import judged

ERROR = 0.05
COMPARISONS, ROWS = 1_000, 2_000
"""Without a difference: how many comparisons, and how many rows each of them may take."""
FOUND, MOST_ROWS = 200, 3_000
"""With a gap of ten points: the same."""
POWERS = (0.8, 0.9, 0.95, 0.99)
GAPS = ((0.7, 0.8), (0.5, 0.6), (0.85, 0.95))
"""How often the two sides are right."""

Draw = Callable[[random.Random], float]


def answers(before: float, after: float) -> Draw:
    """Two independent answers that are right with these probabilities: the hardest case, as rows that are hard for one side
    are as a rule hard for the other.
    """
    return lambda chance: float((chance.random() < after) - (chance.random() < before))


def _same_but_two(chance: random.Random) -> float:
    return 0.0 if chance.random() < 0.98 else chance.choice((-1.0, 1.0))


def _skewed(chance: random.Random) -> float:
    return 0.95 if chance.random() < 0.05 else -0.05


def _shares(chance: random.Random) -> float:
    return chance.betavariate(2, 1) - chance.betavariate(2, 1)


def _small(chance: random.Random) -> float:
    return chance.uniform(-0.02, 0.02)


SAME: dict[str, Draw] = {
    "right 70 % of the time": answers(0.7, 0.7),
    "right 98 % of the time": answers(0.98, 0.98),
    "98 % of rows alike": _same_but_two,
    "skewed, 19 small losses to a large win": _skewed,
    "shares of 0 to 1": _shares,
    "differences within 0.02": _small,
}
"""What differences may look like whose mean is 0."""


@final
@attrs.frozen
class Verdict:
    """Of one comparison."""

    sign: int
    rows: int


def decided(differences: Iterator[float], error: float = ERROR) -> Verdict:
    """Look after every row, and stop at the first verdict."""
    test = SequentialTest(error)
    for difference in differences:
        test.add(difference)
        if test.verdict:
            break
    return Verdict(test.verdict, test.count)


def drawn(draw: Draw, rows: int, seed: int) -> Iterator[float]:
    """So many differences."""
    chance = random.Random(seed)
    return (draw(chance) for _ in range(rows))


def peeking(differences: Iterator[float], error: float = ERROR, first: int = 30) -> bool:
    """Whether a test for a fixed number of rows is ever significant, looked at after every row from the 30th."""
    limit = statistics.NormalDist().inv_cdf(1 - error / 2)
    count, total, squares = 0, 0.0, 0.0
    for difference in differences:
        count, total, squares = count + 1, total + difference, squares + difference * difference
        spread = math.sqrt(max(0.0, squares - total * total / count))
        if count >= first and spread and abs(total) > limit * spread:
            return True
    return False


def fixed_rows(before: float, after: float, power: float, error: float = ERROR) -> float:
    """The rows of a two-sided test of paired differences that finds this gap with this probability.

    Source: the standard formula, ((z(1 - error / 2) + z(power)) / gap) ** 2 times the variance of a difference.
    """
    z = statistics.NormalDist().inv_cdf
    variance = before * (1 - before) + after * (1 - after)
    return ((z(1 - error / 2) + z(power)) / (after - before)) ** 2 * variance


def wrong_verdicts(comparisons: int, rows: int) -> Iterator[str]:
    """For each kind of differences without a mean, how many comparisons end with a verdict, as lines."""
    for name, draw in SAME.items():
        found = sum(abs(decided(drawn(draw, rows, seed)).sign) for seed in range(comparisons))
        told = f"{found} of {comparisons:,} have a verdict, at most {ERROR:.0%}"
        yield f"  {name:<40}" + judged(told, found <= ERROR * comparisons)
    draw = SAME["right 70 % of the time"]
    found = sum(peeking(drawn(draw, rows, seed)) for seed in range(comparisons))
    yield f"  a test for a fixed number of rows, looked at after every row: {found} of {comparisons:,}"


def rows_taken(before: float, after: float, comparisons: int, rows: int) -> Sequence[str]:
    """How soon a gap is found, beside fixed designs, as lines."""
    found = [decided(drawn(answers(before, after), rows, seed)) for seed in range(comparisons)]
    median = statistics.median(each.rows for each in found)
    mean = statistics.fmean(each.rows for each in found)
    right = sum(each.sign > 0 for each in found)
    fixed = {power: fixed_rows(before, after, power) for power in POWERS}
    shares = ", ".join(f"{power:.0%} in {count:.0f} rows ({median / count:.0%})" for power, count in fixed.items())
    half = fixed[0.95] / 2
    told = f"found by {right} of {comparisons:,}, median {median:g} rows, mean {mean:.0f}"
    return [
        f"  right {before:.0%} and {after:.0%} of the time: {told}",
        f"    fixed designs find it with {shares}",
        "    " + judged(f"median {median:g} rows, at most half of the fixed design of 95 %, {half:.0f}", median <= half),
    ]


def main() -> int:
    """Simulate, and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.verdicts", description=__doc__)
    parser.add_argument("--comparisons", type=int, default=COMPARISONS, help=f"without a difference (default: {COMPARISONS})")
    parser.add_argument("--rows", type=int, default=ROWS, help=f"of each of them (default: {ROWS})")
    parser.add_argument("--found", type=int, default=FOUND, help=f"comparisons with a gap of ten points (default: {FOUND})")
    parser.add_argument("--strict", action="store_true", help="exit with status 1 when a target is missed")
    options = parser.parse_args()
    lines = [
        f"Without a difference, {options.rows:,} rows, looked at after each:",
        *wrong_verdicts(options.comparisons, options.rows),
    ]
    lines += ["", f"With a gap of ten points, at most {MOST_ROWS:,} rows:"]
    for before, after in GAPS:
        lines += rows_taken(before, after, options.found, MOST_ROWS)
    text = "\n".join(lines)
    sys.stdout.write(f"{text}\n")
    return 1 if "MISSED" in text and options.strict else 0


if __name__ == "__main__":
    sys.exit(main())
