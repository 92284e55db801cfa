"""What came as JSON, taken for what it should be: nothing that a provider or a model sends has to be of any shape."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast


def as_object(found: object) -> Mapping[str, Any]:
    """`found` if it is an object; else an empty one."""
    return cast("Mapping[str, Any]", found) if isinstance(found, dict) else {}


def as_list(found: object) -> list[Any]:
    """`found` if it is a list; else an empty one."""
    return found if isinstance(found, list) else []  # pyright: ignore[reportUnknownVariableType] - of anything


def first_of(found: object) -> Mapping[str, Any]:
    """The first object of a list; an empty one where there is none."""
    return as_object(next(iter(as_list(found)), None))


def text_in(found: object, name: str) -> str | None:
    """The text of that name in an object; None when there is none, or an empty one."""
    value: object = as_object(found).get(name)
    return value if isinstance(value, str) and value else None


def as_json(found: Any) -> Any:
    """`found`, one of LiteLLM's objects perhaps, as JSON has it."""
    return found.model_dump(exclude_none=True) if hasattr(found, "model_dump") else found
