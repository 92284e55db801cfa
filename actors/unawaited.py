"""A coroutine where a value was meant: the ``await`` in front of a call is missing."""

from __future__ import annotations

import inspect
import types
from typing import Final, cast

COROUTINE: Final[type] = types.CoroutineType
"""For a look at a type where each message passes."""
_WRITTEN: Final = {"LocalContext": "self.context", "LocalRef": "ref", "LocalSupervisorRef": "supervisor", "Runtime": "runtime"}
"""What authors call the objects whose methods are most often not awaited, by the name of the class."""


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
    owner = _WRITTEN.get(owner, "self" if owner else "")
    return f"await {owner}{'.' if owner else ''}{name}(…)"
