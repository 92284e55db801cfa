"""The arithmetic of verdicts: their error rate holds when one looks after every row, and a difference is found early."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator

import pytest

from runtime.evaluate.sequential import AnytimeInterval, SequentialTest, anytime_interval, bootstrap_interval, flip_probability
from tests.benchmarks.verdicts import SAME, Verdict, answers, decided, drawn, fixed_rows, peeking


def pairs(before: float, after: float, count: int, seed: int) -> list[float]:
    """Differences of two independent answers that are right with these probabilities."""
    return list(drawn(answers(before, after), count, seed))


def decided_by(differences: Iterator[float], expects: float) -> int:
    """The rows until a verdict."""
    test = SequentialTest(expects=expects)
    for difference in differences:
        test.add(difference)
        if test.verdict:
            break
    return test.count


@pytest.mark.parametrize("kind", SAME)
def test_without_a_difference_at_most_one_in_twenty_gets_a_verdict(kind: str) -> None:
    """Looked at after every row. All thousand, over more rows: ``python -m tests.benchmarks.verdicts``."""
    verdicts = [decided(drawn(SAME[kind], 150, seed)).sign for seed in range(200)]

    assert sum(map(abs, verdicts)) <= 10


@pytest.mark.chaos
@pytest.mark.parametrize("kind", SAME)
def test_without_a_difference_at_most_one_in_twenty_of_a_thousand_gets_a_verdict(kind: str) -> None:
    verdicts = [decided(drawn(SAME[kind], 1_000, seed)).sign for seed in range(1_000)]

    assert sum(map(abs, verdicts)) <= 50


def test_a_gap_of_ten_points_is_found_in_half_the_rows_of_a_fixed_design() -> None:
    """Of one that finds it with a probability of 95 %; the sequential one finds it in all of these cases."""
    found = [decided(drawn(answers(0.7, 0.8), 3_000, seed)) for seed in range(200)]

    assert all(each.sign == 1 for each in found)
    assert statistics.median(each.rows for each in found) <= fixed_rows(0.7, 0.8, power=0.95) / 2


def test_a_fixed_design_has_the_rows_of_the_standard_formula() -> None:
    """Two-sided, 5 %: 7.849 times the variance over the gap squared has a power of 80 %, 12.995 times one of 95 %."""
    assert fixed_rows(0.7, 0.8, power=0.8) == pytest.approx(7.849 * 0.37 / 0.01, rel=1e-3)
    assert fixed_rows(0.7, 0.8, power=0.95) == pytest.approx(12.995 * 0.37 / 0.01, rel=1e-3)


def test_looking_early_at_a_fixed_design_is_wrong_far_more_often() -> None:
    """What the sequential test is for."""
    found = sum(peeking(drawn(SAME["right 70 % of the time"], 300, seed)) for seed in range(200))

    assert found > 40


def test_a_stake_never_depends_on_the_row_that_it_is_bet_on() -> None:
    """The guarantee rests on it: whatever comes next, half of what is won on one side is lost where the other one comes."""
    history = pairs(0.6, 0.8, 50, 4)
    tests = [SequentialTest(expects=0.3) for _ in range(3)]
    for test in tests:
        for difference in history:
            test.add(difference)
    before = 10 ** tests[0].evidence
    for test, difference in zip(tests, (1.0, -1.0, 0.0), strict=True):
        test.add(difference)

    up, down, same = (10**test.evidence for test in tests)
    assert (up + down) / 2 == pytest.approx(before)
    assert same == pytest.approx(before)


def test_what_is_expected_decides_what_is_found_soonest() -> None:
    small = [decided_by(drawn(answers(0.7, 0.75), 4_000, seed), expects) for seed in range(15) for expects in (0.05, 0.3)]
    large = [decided_by(drawn(answers(0.3, 0.7), 400, seed), expects) for seed in range(15) for expects in (0.05, 0.3)]

    assert statistics.median(small[::2]) < statistics.median(small[1::2])
    assert statistics.median(large[::2]) > statistics.median(large[1::2])


@pytest.mark.parametrize("extreme", [1.0, -1.0, 0.0, 1e-300])
@pytest.mark.parametrize("expects", [1e-9, 0.1, 1.0])
def test_the_most_extreme_differences_are_borne(extreme: float, expects: float) -> None:
    test = SequentialTest(expects=expects)
    for _ in range(300):
        test.add(extreme)
    low, high = anytime_interval([extreme] * 30, expects=expects)

    assert math.isfinite(test.evidence)
    assert -1 <= low <= high <= 1


def test_what_is_worse_is_told_so() -> None:
    assert decided(iter(pairs(0.9, 0.5, 400, 1))).sign == -1


def test_the_same_answers_are_never_told_apart() -> None:
    assert decided(iter([0.0] * 10_000)) == Verdict(0, 10_000)


def test_the_smallest_error_needs_the_most_rows() -> None:
    differences = pairs(0.5, 0.9, 400, 2)

    counts = [decided(iter(differences), error).rows for error in (0.2, 0.05, 0.001)]

    assert counts == sorted(counts)


def test_an_interval_holds_at_every_length() -> None:
    missed = 0
    for seed in range(12):
        differences = pairs(0.6, 0.7, 60, seed)
        low, high = anytime_interval(differences)  # what all shorter ones have left
        missed += not low - 0.01 <= 0.1 <= high + 0.01

    assert missed <= 1


def test_an_interval_narrows() -> None:
    differences = pairs(0.6, 0.7, 800, 5)

    widths = [high - low for low, high in (anytime_interval(differences[:count]) for count in (50, 200, 800))]

    assert widths == sorted(widths, reverse=True)
    assert widths[-1] < 0.25


def test_an_interval_that_is_kept_never_widens_and_agrees_with_the_verdict() -> None:
    test, interval, before = SequentialTest(), AnytimeInterval(), (-1.0, 1.0)
    for difference in pairs(0.4, 0.8, 120, 2):
        test.add(difference)
        interval.add(difference)
        low, high = interval.ends
        assert before[0] <= low <= high <= before[1]
        assert (low >= -1e-12) == (test.verdict == 1)
        before = low, high
        if test.verdict:
            break

    assert test.verdict == 1


def test_an_interval_that_is_narrower_than_its_grid_stays_where_it_was_left() -> None:
    interval = AnytimeInterval()
    for _ in range(6_000):
        interval.add(0.0025)  # between two claims

    low, high = interval.ends
    assert low <= 0.0025 <= high
    assert high - low < 0.04


def test_a_bootstrap_interval_is_that_of_the_mean() -> None:
    differences = pairs(0.6, 0.7, 400, 3)
    mean, error = statistics.mean(differences), statistics.stdev(differences) / 20

    low, high = bootstrap_interval(differences)

    assert low == pytest.approx(mean - 1.96 * error, abs=0.02)
    assert high == pytest.approx(mean + 1.96 * error, abs=0.02)
    assert all(map(math.isnan, bootstrap_interval([])))


def test_sign_flips_give_a_verdict_as_rarely_as_they_say() -> None:
    found = sum(flip_probability(pairs(0.7, 0.7, 20, seed), seed) <= 0.05 for seed in range(20))

    assert found <= 4  # of 20, at 5 %: 5 or more come up once in 400 such tests
    assert flip_probability([]) == flip_probability([0, 0]) == 1.0
    assert flip_probability([1] * 30) < 0.001
