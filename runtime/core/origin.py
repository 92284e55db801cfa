"""Where work comes from: the span of a program elsewhere that has asked for it, as the header ``traceparent`` tells it."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Generator
from contextvars import ContextVar
from typing import Final, final

import attrs

_PARENT: Final = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_MAX_STATE: Final = 512
"""Characters of a ``tracestate`` that are passed on; a longer one is dropped, as the standard allows."""


@final
@attrs.frozen
class Origin:
    """A span in another process."""

    trace_id: int
    span_id: int
    is_sampled: bool
    state: str = ""
    """The header ``tracestate``."""


_ORIGIN: ContextVar[Origin | None] = ContextVar("understudy_origin", default=None)


def origin_of(parent: str, state: str = "") -> Origin | None:
    """The origin that the header ``traceparent`` (W3C Trace Context) names; None if it names none."""
    found = _PARENT.fullmatch(parent)
    if found is None or found[1] == "ff" or (found[1] == "00" and found[5]):
        return None
    trace_id, span_id = int(found[2], 16), int(found[3], 16)
    if not trace_id or not span_id:
        return None
    kept = state if state.isascii() and len(state) <= _MAX_STATE else ""
    return Origin(trace_id, span_id, bool(int(found[4], 16) & 1), kept)


def current_origin() -> Origin | None:
    """That of what this task does; None if nobody elsewhere is known to have asked for it."""
    return _ORIGIN.get()


@contextlib.contextmanager
def coming_from(origin: Origin | None) -> Generator[None]:
    """What is done and started in the block comes from `origin`."""
    token = _ORIGIN.set(origin)
    try:
        yield
    finally:
        _ORIGIN.reset(token)
