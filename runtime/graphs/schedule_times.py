"""When schedules are due: every so many seconds, at times of a cron expression in some zone, or once. Pure.

cronsim is imported here only, when the first cron expression is read. When clocks change it does as Debian's cron does: what
names an hour comes once, at the end of the gap if its time falls into that; what recurs goes by the time that passes.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final, final
from zoneinfo import ZoneInfo

import attrs

from actors.argument_checks import is_seconds
from actors.errors import UsageError
from actors.words import repr_of

MAX_EVERY_S: Final = 100 * 366 * 86_400
"""A century: the time of what comes much less often has no date."""
_LOOK_BACK: Final = tuple(timedelta(seconds=seconds) for seconds in (60, 3_600, 86_400, 40 * 86_400, 400 * 86_400))
"""In which of these before now the latest time is looked for, so a year of minutes need not be counted."""


@final
@attrs.frozen
class Times:
    """The times of one schedule."""

    spec: str
    """``every 60``, ``cron 0 9 * * 1``, or ``at 2026-11-28T18:00:00+00:00``."""
    zone: str = "UTC"

    @classmethod
    def of(cls, every_s: object, cron: object, at: object, zone: object) -> Times:
        """The times that a caller describes by one of `every_s`, `cron` and `at`.

        Raises:
            UsageError: by none or by several, or by something that is no such description.
        """
        if sum(each is not None for each in (every_s, cron, at)) != 1:
            raise UsageError(
                "schedule(): expected one of every_s, cron and at.\n  Fix: every_s=60, or cron='0 9 * * MON', or at=datetime(…)."
            )
        known = zone_of(zone)
        if every_s is not None:
            if not is_seconds(every_s) or not 1 <= every_s <= MAX_EVERY_S or every_s != int(every_s):
                raise UsageError(
                    f"schedule(every_s={repr_of(every_s)}): expected a whole number of seconds >= 1, at most a century.\n"
                    "  Fix: start what comes more often from one run that sleeps."
                )
            return cls(f"every {int(every_s)}", known.key)
        if cron is not None:
            if not isinstance(cron, str):
                raise UsageError(f"schedule(cron={repr_of(cron)}): expected text.\n  Fix: cron='0 9 * * MON', for example.")
            made = cls(f"cron {cron}", known.key)
            if made.after(datetime.now(UTC)) is None:
                raise UsageError(f"schedule(cron={cron!r}): it never comes.\n  Fix: cron='0 9 * * MON', for example.")
            return made
        if not isinstance(at, datetime):
            raise UsageError(
                f"schedule(at={repr_of(at)}): expected a datetime.\n  Fix: at=datetime(2026, 11, 28, 18, tzinfo=UTC)."
            )
        when = at if at.tzinfo is not None else at.replace(tzinfo=known)
        return cls(f"at {when.astimezone(UTC).replace(microsecond=0).isoformat()}", known.key)

    def first(self, now: datetime) -> datetime | None:
        """The first time of a schedule that is made now."""
        kind, _, rest = self.spec.partition(" ")
        return datetime.fromisoformat(rest) if kind == "at" else self.after(now)

    def after(self, time: datetime) -> datetime | None:
        """The next time after `time`, which is one of them for what comes every so many seconds; None: never again."""
        return next(self._from(time), None)

    def latest(self, first: datetime, now: datetime) -> datetime:
        """The last of the times from `first`, which is one of them, to `now`."""
        kind, _, rest = self.spec.partition(" ")
        if kind == "every":
            step = timedelta(seconds=int(rest))
            return first + (now - first) // step * step
        for back in (*_LOOK_BACK, now - first):
            start = max(first, now - back)
            found = list(_until(self._from(start), now))
            if found or start == first:
                return found[-1] if found else first
        return first

    def _from(self, time: datetime) -> Iterator[datetime]:
        kind, _, rest = self.spec.partition(" ")
        if kind == "every":
            step = timedelta(seconds=int(rest))
            while True:
                time = time.replace(microsecond=0) + step
                yield time
        elif kind == "cron":
            for each in _cron(rest, time.astimezone(ZoneInfo(self.zone))):
                if (made := each.astimezone(UTC)) > time:
                    yield made


def _until(times: Iterator[datetime], now: datetime) -> Iterator[datetime]:
    for time in times:
        if time > now:
            return
        yield time


def zone_of(name: object) -> ZoneInfo:
    """The zone of that name.

    Raises:
        UsageError: there is none.
    """
    try:
        return ZoneInfo(str(name))
    except (ValueError, OSError, KeyError) as error:  # not found is a KeyError
        raise UsageError(
            f"schedule(zone={repr_of(name)}): there is no such zone here.\n"
            "  Fix: zone='Europe/Berlin', for example; a system without zones needs the distribution tzdata."
        ) from error


def _cron(expression: str, start: datetime) -> Any:
    try:
        from cronsim import CronSim, CronSimError  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise UsageError("schedule(cron=…) needs cronsim.\n  Fix: pip install 'understudy[schedules]'.") from error
    try:
        return CronSim(expression, start)
    except (CronSimError, ValueError) as error:
        raise UsageError(
            f"schedule(cron={expression!r}): {error}.\n  Fix: minute, hour, day, month and weekday, such as '0 9 * * MON'."
        ) from error
