import random

import pytest

from actors.errors import DeclarationError, LMAuthFailed, LMError, LMRateLimited, LMReplyUnreadable, LMUnavailable
from actors.restarts import Backoff
from runtime.lm.limits.retry import Retry, retry_after_s

RNG = random.Random(0)
EXACT = Backoff(first_s=0.5, cap_s=30.0, jitter=0)


def test_waits_grow_until_the_attempts_are_used_up():
    retry = Retry(max_attempts=4, backoff=EXACT)

    delays = [retry.delay_s(LMUnavailable("down"), attempt, RNG) for attempt in (1, 2, 3, 4, 5)]

    assert delays == [0.5, 1.0, 2.0, None, None]


def test_one_attempt_means_that_nothing_is_tried_again():
    assert Retry(max_attempts=1).delay_s(LMUnavailable("down"), 1, RNG) is None


@pytest.mark.parametrize("error", [LMAuthFailed("no"), LMError("unknown")])
def test_only_errors_that_say_they_are_retryable_are_tried_again(error: LMError):
    assert Retry().delay_s(error, 1, RNG) is None


def test_an_error_can_say_of_itself_that_it_is_not_worth_another_request():
    error = LMReplyUnreadable("too large")
    error.retryable = False

    assert Retry().delay_s(error, 1, RNG) is None


@pytest.mark.parametrize(
    ("asked_s", "delay_s"),
    [(None, 0.5), (0.0, 0.5), (0.4, 0.5), (7.25, 7.25), (60.0, 60.0), (60.5, None)],
)
def test_retry_after_is_waited_out_exactly_unless_it_is_shorter_than_the_backoff_or_too_long(
    asked_s: float | None, delay_s: float | None
):
    error = LMRateLimited("slow down", retry_after_s=asked_s)

    assert Retry(backoff=EXACT).delay_s(error, 1, RNG) == delay_s


def test_the_defaults_are_three_requests_half_a_second_apart_and_a_minute_of_patience():
    retry = Retry()

    assert (retry.max_attempts, retry.backoff.first_s, retry.backoff.cap_s, retry.max_retry_after_s) == (3, 0.5, 30.0, 60.0)


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "3"])
def test_attempts_are_a_whole_number_from_one(value: object):
    with pytest.raises(DeclarationError, match=r"^Retry\(max_attempts=.*\): expected a whole number >= 1\."):
        Retry(max_attempts=value)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("20", 20.0),
        ("1.5", 1.5),
        (" 3 ", 3.0),
        ("0", 0.0),
        ("-1", None),
        ("nan", None),
        ("inf", None),
        ("9" * 400, None),
        ("soon", None),
        ("", None),
        ("1e3", 1000.0),
    ],
)
def test_retry_after_in_seconds(value: str, seconds: float | None):
    assert retry_after_s({"retry-after": value}) == seconds


def test_retry_after_in_milliseconds_is_the_finer_word():
    assert retry_after_s({"retry-after-ms": "1250", "retry-after": "2"}) == 1.25
    assert retry_after_s({"retry-after-ms": "rubbish", "retry-after": "2"}) == 2.0


@pytest.mark.parametrize(
    ("until", "seconds"),
    [
        ("Sun, 06 Nov 1994 08:49:57 GMT", 20.0),
        ("Sunday, 06-Nov-94 08:49:57 GMT", 20.0),
        ("Sun Nov  6 08:49:57 1994", 20.0),
        ("Sun, 06 Nov 1994 08:00:00 GMT", 0.0),
        ("Sun, 99 Nov 1994 08:00:00 GMT", None),
    ],
)
def test_retry_after_as_a_date_is_relative_to_the_date_of_the_reply(until: str, seconds: float | None):
    assert retry_after_s({"retry-after": until, "date": "Sun, 06 Nov 1994 08:49:37 GMT"}) == seconds


def test_a_date_without_a_date_to_compare_it_with_says_nothing():
    assert retry_after_s({"retry-after": "Sun, 06 Nov 1994 08:49:57 GMT"}) is None


def test_no_header_says_nothing():
    assert retry_after_s({}) is None
