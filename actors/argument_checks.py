"""Checks that several declarations and calls share; each names the field, the value and what is allowed."""

from __future__ import annotations

import enum
import inspect
import math
import types
from collections.abc import Callable
from typing import Any, Final, TypeGuard, cast

import attrs

from actors.errors import DeclarationError
from actors.words import repr_of, with_article

Validator = Callable[[Any, "attrs.Attribute[Any]", Any], None]

COROUTINE: Final[type] = types.CoroutineType
"""For a look at a type where each message passes."""
MAX_INT_S: Final = 10**15
"""More seconds than any clock counts; as a float they may even be infinite."""
_WRITTEN: Final = {"LocalContext": "self.context", "LocalRef": "ref", "LocalSupervisorRef": "supervisor"}
"""What authors call the objects whose methods are most often not awaited, by the name of the class."""


def rejected(owner: object, field: str, got: object, expected: str, fix: str | None = None) -> DeclarationError:
    """The error for one field of a declaration, or one argument of a function, in the project's one wording.

    An `owner` that is a text names the call.
    """
    if not isinstance(owner, str):
        owner = owner.__name__ if isinstance(owner, type | types.FunctionType) else type(owner).__name__
    line = f"pass {expected} as {field!r}." if fix is None else fix
    return DeclarationError(f"{owner}({field}={repr_of(got)}): expected {expected}.\n  Fix: {line}")


def is_seconds(value: object, *, zero: bool = True) -> TypeGuard[float]:
    """Whether `value` is a number of seconds >= 0, or above it; no clock can add an int to its time that no float can hold."""
    if not isinstance(value, int | float) or isinstance(value, bool) or (value < 0 if zero else value <= 0) or value != value:
        return False
    return isinstance(value, float) or value <= MAX_INT_S


def check_count(
    owner: object, name: str, value: object, least: int = 1, *, unbounded: bool = False, optional: bool = False
) -> None:
    """DeclarationError unless `value` is a whole number of at least `least`; never a bool, which Python counts as an int.

    With `unbounded`, ``math.inf`` is allowed as well, and with `optional` None is.
    """
    fits = isinstance(value, int) and not isinstance(value, bool) and value >= least
    if not (fits or (unbounded and value == math.inf) or (optional and value is None)):
        also = f"{' or math.inf' if unbounded else ''}{' or None' if optional else ''}"
        raise rejected(owner, name, value, f"a whole number >= {least}{also}")


def is_number(*, least: float = -math.inf, above: float = -math.inf, finite: bool = False) -> Validator:
    """A validator for real numbers (never bool) with an inclusive (`least`) or exclusive (`above`) lower bound."""
    bound = f" > {above:g}" if above > -math.inf else f" >= {least:g}" if least > -math.inf else ""
    expected = f"a {'finite ' if finite else ''}number{bound}"

    def check(owner: object, attribute: attrs.Attribute[Any], value: object) -> None:
        fits = isinstance(value, int | float) and not isinstance(value, bool) and value >= least and value > above
        if not fits or (finite and math.isinf(value)):  # type: ignore[arg-type]  # a number if it fits
            raise rejected(owner, attribute.name, value, expected)

    return check


def is_count(*, least: int = 0, unbounded: bool = False) -> Validator:
    """A validator for whole numbers of at least `least`; with `unbounded`, ``math.inf`` as well."""

    def check(owner: object, attribute: attrs.Attribute[Any], value: object) -> None:
        check_count(owner, attribute.name, value, least, unbounded=unbounded)

    return check


def is_a(*kinds: type) -> Validator:
    """A validator for instances of `kinds`."""
    expected = " or ".join(with_article(kind.__name__) for kind in kinds)

    def check(owner: object, attribute: attrs.Attribute[Any], value: object) -> None:
        if not isinstance(value, kinds):
            likely = next((line for kind in kinds if (line := _likely(value, kind)) is not None), None)
            if likely is None:
                raise rejected(owner, attribute.name, value, expected)
            raise rejected(owner, attribute.name, value, expected, f"{attribute.name}={likely}.")

    return check


def is_place_name(value: object) -> bool:
    """Whether `value` can name a place: it stands in the addresses of hosts."""
    return isinstance(value, str) and bool(value) and "/" not in value and value.isprintable()


def is_place(owner: object, attribute: attrs.Attribute[Any], value: object) -> None:
    """DeclarationError unless `value` can name a place, or is None."""
    if value is not None and not is_place_name(value):
        raise rejected(owner, attribute.name, value, "the name of one of the runtime's places, or None")


def _likely(value: object, kind: type) -> str | None:
    """What was probably meant by `value` where a `kind` is expected, as it is written; None when that is unclear."""
    if isinstance(value, str):
        name = value.upper().replace("-", "_").replace(" ", "_")
        return f"{kind.__name__}.{name}" if isinstance(vars(kind).get(name), kind) else None
    if not attrs.has(kind) or isinstance(value, bool):
        return None
    if value is kind:
        return f"{kind.__name__}(…)"
    first = attrs.fields(kind)[0].name
    if isinstance(value, int | float | enum.Enum):
        try:
            cast("Any", kind)(value)
        except DeclarationError:
            return None
        shown = f"{type(value).__name__}.{value.name}" if isinstance(value, enum.Enum) else repr(value)
        return f"{kind.__name__}({first}={shown})"
    return None


def unawaited(value: object) -> str | None:
    """The call that was not awaited, such as ``await ref.ask(…)``, if `value` is a coroutine; else None.

    The coroutine is closed: nothing can await it any more, and Python would warn of it in a place that tells nothing.
    """
    if not isinstance(value, types.CoroutineType):
        return None
    coroutine = cast("types.CoroutineType[object, object, object]", value)
    if inspect.getcoroutinestate(coroutine) == inspect.CORO_CREATED:
        coroutine.close()
    owner, _, name = coroutine.__qualname__.rpartition("<locals>.")[2].rpartition(".")
    is_of_runtime = owner.startswith("Runtime")  # whose methods stand in several classes, each named after it
    owner = "runtime" if is_of_runtime else _WRITTEN.get(owner, "self" if owner else "")
    return f"await {owner}{'.' if owner else ''}{name}(…)"
