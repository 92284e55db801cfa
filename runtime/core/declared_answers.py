"""What a request may be answered with, as far as its class declares."""

from __future__ import annotations

import types
import weakref
from collections.abc import Iterator
from typing import Annotated, Any, Union, get_args, get_origin

from actors.actor import Request

_ANSWERS: weakref.WeakKeyDictionary[type, bool] = weakref.WeakKeyDictionary()
"""By class of request, so it is read once; a class is forgotten when nothing else has it."""


def may_be_none(message: object) -> bool:
    """Whether None is an answer to `message`: not to a ``Request[R]`` whose R is known and has no None in it."""
    kind: Any = type(message)
    if Request not in kind.__mro__:
        return True
    known = _ANSWERS.get(kind)
    if known is None:
        known = _ANSWERS[kind] = all(_has_none(answer) for answer in _answers_of(kind))
    return known


def _answers_of(kind: type) -> Iterator[Any]:
    for base in kind.__mro__:
        for origin in getattr(base, "__orig_bases__", ()) if "__orig_bases__" in base.__dict__ else ():
            if get_origin(origin) is Request:
                yield from get_args(origin)
                return


def _has_none(answer: Any) -> bool:
    """In doubt (a type variable, a name that is not read yet, a special form) it has."""
    if get_origin(answer) in (Union, types.UnionType):
        return any(_has_none(member) for member in get_args(answer))
    if get_origin(answer) is Annotated:
        return _has_none(get_args(answer)[0])
    kind = get_origin(answer) or answer
    return not isinstance(kind, type) or kind in (Any, object, type(None)) or getattr(kind, "_is_protocol", False)
