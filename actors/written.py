"""Which fields of a declaration its author wrote, so the others can be inherited from the level above."""

from __future__ import annotations

import functools
from typing import Any, TypeVar

import attrs

T = TypeVar("T")


def unwritten() -> Any:
    """The field ``_written`` that a class decorated with :func:`remembers_what_is_written` needs."""
    return attrs.field(init=False, default=frozenset[str](), eq=False, repr=False)


def remembers_what_is_written(kind: type[T]) -> type[T]:
    """Have instances of the attrs class `kind` remember the fields that they were made with.

    ``attrs.evolve`` writes them all, since it makes the copy with every field.
    """
    names = _fields(kind)
    make: Any = kind.__init__

    @functools.wraps(make)
    def remember(self: Any, *args: Any, **given: Any) -> None:
        make(self, *args, **given)
        object.__setattr__(self, "_written", frozenset([*names[: len(args)], *given]))

    setattr(kind, "__init__", remember)  # noqa: B010 - type checkers are to see the one that attrs has made
    return kind


def inheriting(own: T, base: T) -> T:
    """`own` where its author wrote something, and `base` for all the rest; both of one class that remembers."""
    written: frozenset[str] = getattr(own, "_written")  # noqa: B009 - only this module knows that it has one
    return type(own)(**{name: getattr(own if name in written else base, name) for name in _fields(type(own))})


def _fields(kind: Any) -> list[str]:
    return [field.name for field in attrs.fields(kind) if field.init]
