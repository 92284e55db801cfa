from __future__ import annotations

import math
import random

import hypothesis
import pytest
from hypothesis import strategies as st

from actors import Backoff, DeclarationError, LMRateLimited, LMUnavailable, Redelivery, UsageError
from actors.restarts import PROGRAMMING_ERRORS

DAY = 86_400.0


def delays(backoff, count):
    rng = random.Random(0)
    return [backoff.delay_s(attempt, rng) for attempt in range(count)]


def test_without_jitter_the_sequence_is_exact():
    assert delays(Backoff(first_s=0.5, factor=2, cap_s=10, jitter=0), 7) == [0.5, 1, 2, 4, 8, 10, 10]


@pytest.mark.parametrize(
    ("attempt", "first_s", "cap_s", "expected"),
    [
        (0, 0, 0, 0),
        (0, 300, 420, 300),
        (2, 5, 7, 7),
        (2, 5, 7 * DAY, 20),
        (29, 300, 600, 600),
        (29, 10_000 * DAY, 10_000 * DAY, 10_000 * DAY),
        (2**31 - 1, 10_000 * DAY, 10_000 * DAY, 10_000 * DAY),
        (2**31 - 1, 0, 5, 0),
    ],
)
def test_PK_B06_the_table_of_delays(attempt, first_s, cap_s, expected):
    backoff = Backoff(first_s=first_s, factor=2, cap_s=cap_s, jitter=0)

    assert backoff.delay_s(attempt, random.Random(0)) == expected


@hypothesis.given(
    attempt=st.integers(0, 2000),
    first_s=st.floats(0, 100),
    factor=st.floats(0, 10),
    cap_s=st.floats(0, 1000),
    jitter=st.floats(0, 5),
    seed=st.integers(),
)
def test_no_delay_is_negative_or_exceeds_the_cap(attempt, first_s, factor, cap_s, jitter, seed):
    backoff = Backoff(first_s=first_s, factor=factor, cap_s=cap_s, jitter=jitter)

    assert 0 <= backoff.delay_s(attempt, random.Random(seed)) <= cap_s


def test_jitter_lengthens_by_up_to_its_fraction_and_the_seed_decides():
    backoff = Backoff(first_s=1, factor=1, jitter=0.1)

    found = delays(backoff, 200)

    assert found == delays(backoff, 200)
    assert 1 <= min(found) < 1.01
    assert 1.09 < max(found) < 1.1


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("first_s", -1, "a finite number >= 0"),
        ("first_s", math.inf, "a finite number >= 0"),
        ("first_s", True, "a finite number >= 0"),
        ("factor", "2", "a finite number >= 0"),
        ("cap_s", math.nan, "a finite number >= 0"),
        ("jitter", -0.1, "a finite number >= 0"),
        ("reset_after_s", -1, "a number >= 0"),
    ],
)
def test_wrong_values_are_refused_with_field_value_and_what_is_allowed(field, value, expected):
    with pytest.raises(DeclarationError) as caught:
        Backoff(**{field: value})

    assert str(caught.value) == f"Backoff({field}={value!r}): expected {expected}.\n  Fix: pass {expected} as {field!r}."


@pytest.mark.parametrize("kind", PROGRAMMING_ERRORS)
def test_programming_errors_are_not_worth_another_attempt(kind):
    assert not Redelivery(5).wants(kind("bug"), 1)


@pytest.mark.parametrize(
    ("error", "wanted"),
    [
        (OSError("weather"), True),
        (LMUnavailable("5xx"), True),
        (LMRateLimited("429", spent=True), False),
        (UsageError("wrong call"), False),
        (ExceptionGroup("", [OSError(), OSError()]), True),
        (ExceptionGroup("", [OSError(), ValueError()]), False),
    ],
)
def test_which_failed_messages_are_delivered_again(error, wanted):
    assert Redelivery(2).wants(error, 1) == wanted
    assert not Redelivery(2).wants(error, 2)
    assert not Redelivery(1).wants(error, 1)


@pytest.mark.parametrize("retry_on", [ValueError, (KeyError, ValueError), lambda error: "x" in str(error)])
def test_retry_on_decides_instead(retry_on):
    assert Redelivery(2, retry_on=retry_on).wants(ValueError("x"), 1)
    assert not Redelivery(2, retry_on=retry_on).wants(OSError("weather"), 1)


@pytest.mark.parametrize("retry_on", [3, "ValueError", (ValueError, 3), int])
def test_a_retry_on_that_chooses_no_errors_is_refused(retry_on):
    with pytest.raises(DeclarationError, match="expected an exception type, a tuple of them, or a predicate of one error"):
        Redelivery(2, retry_on=retry_on)
