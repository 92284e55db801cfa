"""Patterns of messages in a partial order: a list is "in this order", a set or :class:`Unordered` is "in any order". Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast, final

import attrs


@final
class Unordered:
    """Items in any order, for what cannot be in a set. A list among them keeps its own order; others may come in between."""

    def __init__(self, *items: Any) -> None:
        self.items = items

    def __repr__(self) -> str:
        return f"Unordered({', '.join(map(repr, self.items))})"


@final
@attrs.frozen
class _Step:
    """What is left of a pattern: alternatives now, and the rest after each."""

    rest: Any
    fitted: bool


_DONE = object()


def advance(pattern: Any, message: object) -> Any:
    """What is left of `pattern` once `message` has come.

    Raises:
        LookupError: it does not fit here.
    """
    step = _advance(pattern, message)
    if not step.fitted:
        raise LookupError
    return step.rest


def is_done(pattern: Any) -> bool:
    """Whether nothing more is expected."""
    return pattern is _DONE or (_is_many(pattern) and all(is_done(item) for item in _items(pattern)))


def expected_next(pattern: Any) -> list[Any]:
    """What may come next."""
    if pattern is _DONE:
        return []
    if not _is_many(pattern):
        return [pattern]
    left = [item for item in _items(pattern) if not is_done(item)]
    if isinstance(pattern, list):
        left = left[:1]
    return [each for item in left for each in expected_next(item)]


def describe(item: object) -> str:
    """A pattern's item for a person."""
    if isinstance(item, type):
        return f"any {item.__name__}"
    return f"{getattr(item, '__name__', item)}(…)" if _is_predicate(item) else repr(item)


def _advance(pattern: Any, message: object) -> _Step:
    if not _is_many(pattern):
        return _Step(_DONE, fitted=pattern is not _DONE and _fits(pattern, message))
    items = list(_items(pattern))
    ordered = isinstance(pattern, list)
    # Exact values first, so that a type or a predicate beside them does not take what only they can take.
    order = sorted(range(len(items)), key=lambda index: not ordered and _is_loose(items[index]))
    for index in order:
        if is_done(items[index]):
            continue
        step = _advance(items[index], message)
        if step.fitted:
            left = [item for item in (*items[:index], step.rest, *items[index + 1 :]) if not is_done(item)]
            rest: Any = left if ordered else Unordered(*left)
            return _Step(rest if left else _DONE, fitted=True)
        if ordered:
            break
    return _Step(pattern, fitted=False)


def _fits(item: object, message: object) -> bool:
    if isinstance(item, type):
        return isinstance(message, item)
    if _is_predicate(item):
        return bool(cast("Callable[[object], object]", item)(message))
    return item == message


def _is_predicate(item: object) -> bool:
    return callable(item) and not isinstance(item, type) and not attrs.has(type(item))


def _is_loose(item: object) -> bool:
    return isinstance(item, type) or _is_predicate(item)


def _is_many(pattern: object) -> bool:
    return isinstance(pattern, list | set | frozenset | Unordered)


def _items(pattern: Any) -> Sequence[Any]:
    if isinstance(pattern, Unordered):
        return pattern.items
    if isinstance(pattern, set | frozenset):
        return sorted(cast("set[Any]", pattern), key=repr)
    return cast("Sequence[Any]", pattern)
