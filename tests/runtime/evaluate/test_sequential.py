"""The arithmetic of verdicts: their error rate holds when one looks after every row, and a difference is found early."""

from __future__ import annotations

import math
import random
import statistics

import pytest

from runtime.evaluate.sequential import (
    SequentialTest,
    anytime_interval,
    bootstrap_interval,
    flip_probability,
)

LEAST = 0.05
"""The smallest difference that the fixed design beside the sequential one is made to find, with a power of 90 %."""


def pairs(before: float, after: float, count: int, seed: int) -> list[int]:
    """Differences of two independent answers that are right with these probabilities."""
    chance = random.Random(seed)
    return [(chance.random() < after) - (chance.random() < before) for _ in range(count)]


def decided(differences: list[int], error: float = 0.05) -> tuple[int, int]:
    """The verdict, and after how many rows."""
    test = SequentialTest(error)
    for difference in differences:
        test.add(difference)
        if test.verdict:
            break
    return test.verdict, test.count


def test_without_a_difference_at_most_one_in_twenty_gets_a_verdict() -> None:
    verdicts = [decided(pairs(0.7, 0.7, 400, seed))[0] for seed in range(1_000)]

    assert sum(map(abs, verdicts)) <= 50


def test_a_gap_of_ten_points_is_found_in_half_the_rows_of_a_fixed_design() -> None:
    before, after = 0.7, 0.8
    variance = before * (1 - before) + after * (1 - after)
    fixed = (1.96 + 1.28) ** 2 * variance / LEAST**2

    found = [decided(pairs(before, after, 3_000, seed)) for seed in range(200)]

    assert all(verdict == 1 for verdict, _ in found)
    assert statistics.median(count for _, count in found) <= fixed / 2


def test_what_is_worse_is_told_so() -> None:
    assert decided(pairs(0.9, 0.5, 400, 1))[0] == -1


def test_the_same_answers_are_never_told_apart() -> None:
    assert decided([0] * 10_000) == (0, 10_000)


def test_the_smallest_error_needs_the_most_rows() -> None:
    differences = pairs(0.5, 0.9, 400, 2)

    counts = [decided(differences, error)[1] for error in (0.2, 0.05, 0.001)]

    assert counts == sorted(counts)


def test_an_interval_holds_at_every_length_at_once() -> None:
    missed = 0
    for seed in range(40):
        differences = pairs(0.6, 0.7, 60, seed)
        lengths = (anytime_interval(differences[:count]) for count in (10, 30, 60))
        missed += any(not low - 0.01 <= 0.1 <= high + 0.01 for low, high in lengths)

    assert missed <= 2


def test_an_interval_narrows() -> None:
    differences = pairs(0.6, 0.7, 800, 5)

    widths = [high - low for low, high in (anytime_interval(differences[:count]) for count in (50, 200, 800))]

    assert widths == sorted(widths, reverse=True)
    assert widths[-1] < 0.25


def test_a_bootstrap_interval_is_that_of_the_mean() -> None:
    differences = pairs(0.6, 0.7, 400, 3)
    mean, error = statistics.mean(differences), statistics.stdev(differences) / 20

    low, high = bootstrap_interval(differences)

    assert low == pytest.approx(mean - 1.96 * error, abs=0.02)
    assert high == pytest.approx(mean + 1.96 * error, abs=0.02)
    assert all(map(math.isnan, bootstrap_interval([])))


def test_sign_flips_give_a_verdict_as_rarely_as_they_say() -> None:
    found = sum(flip_probability(pairs(0.7, 0.7, 20, seed), seed) <= 0.05 for seed in range(40))

    assert found <= 6  # of 40, at 5 %: 7 or more come up once in 300 such tests
    assert flip_probability([]) == flip_probability([0, 0]) == 1.0
    assert flip_probability([1] * 30) < 0.001
