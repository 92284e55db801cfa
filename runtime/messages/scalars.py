"""Python's plain types as JSON has them, both ways; nothing is taken for something else."""

from __future__ import annotations

import base64
import datetime
import decimal
import math
import re
import types
import uuid
from collections.abc import Callable, Mapping
from typing import Any, Final, final

import attrs


@final
@attrs.frozen
class Scalar:
    """One type that isn't a container."""

    expected: str
    """What JSON for it looks like, where its name does not say."""
    read: Callable[[Any], Any]
    """From JSON; raises ``ValueError`` when that isn't such a value."""
    write: Callable[[Any], Any]
    """To JSON, from a value of exactly this type; raises ``ValueError`` when it has none."""


_DATE = r"\d{4}-\d\d-\d\d"
_TIME = r"\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?(?:[Zz]|[+-]\d\d:?\d\d(?::\d\d(?:\.\d{1,6})?)?)?"
_IS_DATE = re.compile(_DATE, re.ASCII)
_IS_TIME = re.compile(_TIME, re.ASCII)
_IS_DATETIME = re.compile(rf"{_DATE}[Tt ]{_TIME}", re.ASCII)
_IS_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_DURATION = re.compile(
    r"(?P<sign>[+-]?)P(?:(?P<weeks>\d{1,9})W)?(?:(?P<days>\d{1,9})D)?"
    r"(?:T(?:(?P<hours>\d{1,12})H)?(?:(?P<minutes>\d{1,12})M)?(?:(?P<seconds>\d{1,15})(?:\.(?P<fraction>\d{1,9}))?S)?)?",
    re.ASCII,
)
_IS_DECIMAL = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_SURROGATE = re.compile("[\ud800-\udfff]")
_MAX_BITS: Final = 14_000  # Python reads and writes ints of up to 4,300 digits


def _exactly(kind: type) -> Callable[[Any], Any]:
    def read(value: Any) -> Any:
        if type(value) is not kind:
            raise ValueError
        return value

    return read


def _text(pattern: re.Pattern[str], make: Callable[[str], Any]) -> Callable[[Any], Any]:
    """A reader of texts of one form."""

    def read(value: Any) -> Any:
        if type(value) is not str or pattern.fullmatch(value) is None:
            raise ValueError
        return make(value)

    return read


def _read_float(value: Any) -> float:
    if type(value) not in (int, float):
        raise ValueError
    try:
        read = float(value)
    except OverflowError as error:
        raise ValueError from error
    return _write_float(read)


def _write_float(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError("JSON has finite numbers only")
    return value


def _write_int(value: int) -> int:
    if value.bit_length() > _MAX_BITS:
        raise ValueError("it has too many digits")
    return value


def _write_str(value: str) -> str:
    if _SURROGATE.search(value):
        raise ValueError("it has half of a surrogate pair, which isn't a character")
    return value


_read_decimal_text = _text(_IS_DECIMAL, decimal.Decimal)


def _read_decimal(value: Any) -> decimal.Decimal:
    try:
        if type(value) is int:
            return decimal.Decimal(value)
        made: decimal.Decimal = decimal.Decimal(repr(value)) if type(value) is float else _read_decimal_text(value)
    except decimal.InvalidOperation as error:  # an exponent of more digits than there are
        raise ValueError from error
    return made


def _write_decimal(value: decimal.Decimal) -> str:
    if not value.is_finite():
        raise ValueError("JSON has finite numbers only")
    return str(value)


def _read_bytes(value: Any) -> bytes:
    if type(value) is not str:
        raise ValueError
    return base64.b64decode(value, validate=True)


def _read_duration(value: Any) -> datetime.timedelta:
    parts = _DURATION.fullmatch(value) if type(value) is str and value[-1:] not in ("", "P", "T") else None
    if parts is None:
        raise ValueError
    weeks, days, hours, minutes, seconds = (int(parts[name] or 0) for name in ("weeks", "days", "hours", "minutes", "seconds"))
    microseconds = int((parts["fraction"] or "").ljust(6, "0")[:6])
    try:
        made = datetime.timedelta(days, seconds, microseconds, 0, minutes, hours, weeks)
        return -made if parts["sign"] == "-" else made
    except OverflowError as error:
        raise ValueError from error


def _write_duration(value: datetime.timedelta) -> str:
    length = abs(value)
    seconds = f"{length.seconds}.{length.microseconds:06}" if length.microseconds else str(length.seconds)
    return f"{'-' if value < datetime.timedelta() else ''}P{length.days}DT{seconds}S"


def _iso(value: Any) -> str:
    return str(value.isoformat())


def _iso_time(value: Any) -> str:
    """ISO 8601 of a time, with a date or without one."""
    if value.utcoffset() is None and (value.tzinfo is not None or value.fold):
        raise ValueError("which offset from UTC it has, its text cannot tell")
    return _iso(value)


SCALARS: Final[Mapping[Any, Scalar]] = {
    types.NoneType: Scalar("null", _exactly(types.NoneType), lambda value: value),
    bool: Scalar("true or false", _exactly(bool), lambda value: value),
    int: Scalar("", _exactly(int), _write_int),
    float: Scalar("", _read_float, _write_float),
    str: Scalar("", _exactly(str), _write_str),
    bytes: Scalar("base64 text", _read_bytes, lambda value: base64.b64encode(value).decode("ascii")),
    decimal.Decimal: Scalar("a decimal number, best as text", _read_decimal, _write_decimal),
    uuid.UUID: Scalar("the text of a UUID", _text(_IS_UUID, uuid.UUID), str),
    datetime.datetime: Scalar(
        "an ISO 8601 date and time such as 2026-11-28T18:00:00Z",
        _text(_IS_DATETIME, lambda text: datetime.datetime.fromisoformat(text.upper())),
        _iso_time,
    ),
    datetime.date: Scalar("a date such as 2026-11-28", _text(_IS_DATE, datetime.date.fromisoformat), _iso),
    datetime.timedelta: Scalar("an ISO 8601 duration such as P1DT30S", _read_duration, _write_duration),
    datetime.time: Scalar(
        "a time of day such as 18:00:00", _text(_IS_TIME, lambda text: datetime.time.fromisoformat(text.upper())), _iso_time
    ),
}
"""Every type that is read and written here; all others are left to pydantic."""
