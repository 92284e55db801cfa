from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from runtime.testing.schedules.shrink import shrink


def test_what_does_not_matter_becomes_zero_or_goes() -> None:
    def fails(choices: Sequence[int]) -> bool:
        return len(choices) > 4 and choices[4] >= 1

    assert shrink([3, 1, 2, 0, 4, 1, 1, 2], fails, attempts=100) == [0, 0, 0, 0, 1]


def test_what_fails_in_turn_becomes_empty() -> None:
    assert shrink([1, 2, 3], lambda choices: True, attempts=100) == []


def test_the_budget_bounds_the_attempts() -> None:
    calls: list[Sequence[int]] = []

    def fails(choices: Sequence[int]) -> bool:
        calls.append(choices)
        return False

    assert shrink([1] * 50, fails, attempts=7) == [1] * 50
    assert len(calls) == 7


@given(st.lists(st.integers(0, 3), max_size=30), st.integers(0, 6))
def test_the_result_fails_and_is_no_longer(choices: list[int], least: int) -> None:
    def fails(candidate: Sequence[int]) -> bool:
        return sum(1 for choice in candidate if choice) >= least

    if fails(choices):
        simple = shrink(choices, fails, attempts=200)

        assert fails(simple)
        assert len(simple) <= len(choices)
        assert sum(map(bool, simple)) <= sum(map(bool, choices))
