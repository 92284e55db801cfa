"""When a failed language-model request is made again, and when it is not.

Pure decisions: nothing here waits, reads a clock or touches the network. The client performs what :meth:`Retry.delay_s` says;
nothing below or above the client tries a request again.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, final

import attrs

from actors.argument_checks import is_a, is_count, is_number
from actors.restarts import Backoff

if TYPE_CHECKING:
    import random
    from collections.abc import Mapping

    from actors.errors import LMError


_NUMBER = re.compile(r"\s*[0-9]{1,400}(\.[0-9]{0,400})?([eE]\+?[0-9]{1,4})?\s*")
"""Python's ``float`` reads more: ``1_0`` as ten, and digits of every script."""


def _default_backoff() -> Backoff:
    return Backoff(first_s=0.5, cap_s=30.0)


@final
@attrs.frozen
class Retry:
    """How often one call asks its provider, and how long it waits in between.

    ``max_attempts`` is the number of HTTP requests that a call may make, for any failure; 1 means never again. A provider's
    ``Retry-After`` is waited out exactly when it is longer than the backoff. One above ``max_retry_after_s`` (seconds) ends
    the call with the error instead: an agent that would wait for an hour should hear of it. Where a fallback may still be asked,
    one above ``fall_back_after_s`` (seconds) is not waited out either: the fallback is asked immediately.

    A request that is turned away (429) as one too many of several concurrent ones, which the client should have held back, is
    made again without counting, at most ten times in a call, unless ``max_attempts`` is 1.
    """

    max_attempts: int = attrs.field(default=3, validator=is_count(least=1))
    backoff: Backoff = attrs.field(factory=_default_backoff, validator=is_a(Backoff))
    max_retry_after_s: float = attrs.field(default=60.0, validator=is_number(least=0))
    fall_back_after_s: float = attrs.field(default=5.0, validator=is_number(least=0), kw_only=True)

    def delay_s(self, error: LMError, attempt: int, rng: random.Random) -> float | None:
        """Seconds to wait after request number `attempt` (from 1) failed with `error`; None to give up.

        Only errors that say ``retryable = True`` are worth another request.
        """
        return None if attempt >= self.max_attempts else self.wait_s(error, attempt, rng)

    def wait_s(self, error: LMError, attempt: int, rng: random.Random) -> float | None:
        """As :meth:`delay_s`, however many requests there have been."""
        if error.retryable is not True:
            return None
        backoff_s = self.backoff.delay_s(attempt - 1, rng)
        asked_s = error.retry_after_s
        if asked_s is None:
            return backoff_s
        return None if asked_s > self.max_retry_after_s else max(asked_s, backoff_s)


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds for which a reply asks its client to stay away; None when it gives no time, or nonsense.

    Reads ``retry-after-ms``, then ``Retry-After`` as seconds or as an HTTP date. A date is taken relative to the reply's own
    ``Date`` header, so two clocks that disagree do no harm; without that header a date says nothing. Negative, infinite
    and unreadable values say nothing; a date in the past is 0.

    Args:
        headers: the reply's headers with lower-case names.

    Source: RFC 9110, 10.2.3 (Retry-After) and 5.6.7 (dates); ``retry-after-ms`` is sent by OpenAI and Azure.
    """
    milliseconds = _seconds(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    value = headers.get("retry-after")
    seconds = _seconds(value)
    if seconds is not None:
        return seconds
    until, sent_at = _date(value), _date(headers.get("date"))
    if until is None or sent_at is None:
        return None
    return max(0.0, (until - sent_at).total_seconds())


def _seconds(value: str | None) -> float | None:
    if value is None or _NUMBER.fullmatch(value) is None:
        return None
    number = float(value)
    return number if math.isfinite(number) else None


def _date(value: str | None) -> datetime | None:
    if value is None:
        return None
    try:
        date = parsedate_to_datetime(value)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return date if date.tzinfo is not None else date.replace(tzinfo=UTC)
