"""Whether one value is the same as another: of the same classes, through and through."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from runtime.messages.fields import MessageKind, fields_of, message_kind
from runtime.messages.json_text import Path
from runtime.messages.references import is_ref


def is_same(one: Any, other: Any, path: Path = ()) -> Path | None:
    """Where `other` differs from `one` in a class or a value; None if nowhere. An int for a float is the same."""
    kind: Any = one.__class__
    refs = [each for each in (one, other) if is_ref(each)]
    if len(refs) == 2:
        return None if refs[0].address == refs[1].address else path
    if other.__class__ is not kind:
        return None if kind is int and other.__class__ is float and one == other else path
    if message_kind(kind) is not None:
        return _same_fields(kind, one, other, path)
    if kind in (list, tuple):
        pairs = zip(one, other, strict=True) if len(one) == len(other) else None
        return path if pairs is None else _first(is_same(a, b, (*path, at)) for at, (a, b) in enumerate(pairs))
    if kind is dict:
        if list(map(type, one)) != list(map(type, other)) or list(one) != list(other):
            return path
        return _first(is_same(item, other[name], (*path, str(name))) for name, item in one.items())
    if kind is float and math.isnan(one) and math.isnan(other):
        return None
    try:
        return None if bool(one == other) and getattr(one, "fold", 0) == getattr(other, "fold", 0) else path
    except Exception:  # noqa: BLE001 - a foreign type's comparison
        return path


def _same_fields(kind: Any, one: Any, other: Any, path: Path) -> Path | None:
    missing = object()
    names = [field.attribute for field in fields_of(kind)]
    if message_kind(kind) is MessageKind.PYDANTIC:
        names += [name for name in ("__pydantic_private__", "__pydantic_extra__") if getattr(one, name, None)]
    for name in names:
        mine, its = getattr(one, name, missing), getattr(other, name, missing)
        if mine is missing and its is missing:
            continue
        found = is_same(mine, its, (*path, name))
        if found is not None:
            return found
    return None


def _first(found: Iterable[Path | None]) -> Path | None:
    return next((path for path in found if path is not None), None)
