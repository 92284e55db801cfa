"""Patterns of messages in a partial order: a list is "in this order", a set or :class:`Unordered` is "in any order". Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, cast, final

import attrs

from actors.words import repr_of


@final
class Unordered:
    """Items in any order, for what cannot be in a set. A list among them keeps its own order; others may come in between."""

    def __init__(self, *items: Any) -> None:
        self.items = items

    def __repr__(self) -> str:
        return f"Unordered({', '.join(map(repr, self.items))})"


@final
@attrs.frozen
class _Either:
    """What is left when a message fits more than one place: each way to have placed it. All of them miss as many messages."""

    ways: tuple[Any, ...]


_DONE = object()


def advance(pattern: Any, message: object) -> Any:
    """What is left of `pattern` once `message` has come. Where it fits in several places, all are kept in mind.

    Raises:
        LookupError: it does not fit here.
    """
    ways: dict[object, Any] = {}
    for way in pattern.ways if isinstance(pattern, _Either) else (pattern,):
        for rest in _rests(way, message):
            ways.setdefault(_key(rest), rest)
    if not ways:
        raise LookupError
    return _Either(tuple(ways.values()))


def is_done(pattern: Any) -> bool:
    """Whether nothing more is expected."""
    if isinstance(pattern, _Either):
        return any(map(is_done, pattern.ways))
    return pattern is _DONE or (_is_many(pattern) and all(is_done(item) for item in _items(pattern)))


def expected_next(pattern: Any) -> list[Any]:
    """What may come next, each once."""
    if pattern is _DONE:
        return []
    if isinstance(pattern, _Either):
        return _each_once(each for way in pattern.ways for each in expected_next(way))
    if not _is_many(pattern):
        return [pattern]
    left = [item for item in _items(pattern) if not is_done(item)]
    if isinstance(pattern, list):
        left = left[:1]
    return _each_once(each for item in left for each in expected_next(item))


def describe(item: object) -> str:
    """A pattern's item for a person."""
    if isinstance(item, type):
        return f"any {item.__name__}"
    return f"{getattr(item, '__name__', item)}(…)" if _is_predicate(item) else repr_of(item)


def _rests(pattern: Any, message: object) -> Iterator[Any]:
    """What can be left of `pattern` after `message`: one for each place that it fits."""
    if not _is_many(pattern):
        if pattern is not _DONE and _fits(pattern, message):
            yield _DONE
        return
    items = [item for item in _items(pattern) if not is_done(item)]
    ordered = isinstance(pattern, list)
    for index, item in enumerate(items[:1] if ordered else items):
        if any(_are_same(item, other) for other in items[:index]):
            continue  # whichever of them it takes
        for rest in _rests(item, message):
            left = [each for each in (*items[:index], rest, *items[index + 1 :]) if not is_done(each)]
            yield (left if ordered else Unordered(*left)) if left else _DONE


def _key(pattern: Any) -> object:
    """The same for what is left in two ways, if it is the same."""
    if not _is_many(pattern):
        return id(pattern)
    keys = [_key(item) for item in _items(pattern)]
    return ("in order", *keys) if isinstance(pattern, list) else frozenset(Counter(keys).items())


def _are_same(one: Any, other: Any) -> bool:
    return one is other or (not _is_many(one) and type(one) is type(other) and bool(one == other))


def _each_once(items: Iterable[Any]) -> list[Any]:
    kept: list[Any] = []
    for item in items:
        if not any(_are_same(item, other) for other in kept):
            kept.append(item)
    return kept


def _fits(item: object, message: object) -> bool:
    if isinstance(item, type):
        return isinstance(message, item)
    if _is_predicate(item):
        return bool(cast("Callable[[object], object]", item)(message))
    return item == message


def _is_predicate(item: object) -> bool:
    return callable(item) and not isinstance(item, type) and not attrs.has(type(item))


def _is_many(pattern: object) -> bool:
    return isinstance(pattern, list | set | frozenset | Unordered)


def _items(pattern: Any) -> Sequence[Any]:
    if isinstance(pattern, Unordered):
        return pattern.items
    if isinstance(pattern, set | frozenset):
        return sorted(cast("set[Any]", pattern), key=repr)
    return cast("Sequence[Any]", pattern)
