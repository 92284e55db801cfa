"""How much a caller may use, and how long and how large a request may be."""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import Generator
from typing import Any, Final, final

import attrs
import trio

from actors.argument_checks import is_seconds, rejected
from runtime.serve.problem_documents import RETRY_S, HttpProblem

MINUTE_S: Final = 60.0
_MOST_CALLERS: Final = 10_000
"""Of how many callers it is known what they have used lately."""


@final
@attrs.frozen
class Limits:
    """What a service allows. Times are in seconds."""

    body_bytes: int = 1024 * 1024
    """How long a request's body may be."""
    body_s: float = 10.0
    """How long it may take to come."""
    runs_per_minute: int = 600
    """How many runs each caller may start in a minute."""
    runs_at_once: int = 1_000
    """How many runs may be in progress that were started through the service."""
    runs_at_once_per_caller: int = 100
    """The same of each caller."""
    wait_s: float = 300.0
    """How long a request may wait for the end of a run."""
    run_s: float = 3_600.0
    """How long a run may take."""
    streams_per_caller: int = 100
    """How many event streams each caller may have open."""
    stall_s: float = 60.0
    """How long a stream may stand that takes nothing, before it is closed."""
    json_depth: int = 100
    """How many lists and objects of a body may stand in one another."""

    def __attrs_post_init__(self) -> None:
        for field in attrs.fields(Limits):
            value: Any = getattr(self, field.name)
            fits = isinstance(value, int) and not isinstance(value, bool) and value > 0
            if not (is_seconds(value, zero=False) if field.name.endswith("_s") else fits):
                raise rejected(Limits, field.name, value, "a number > 0")


@final
class CallerUsage:
    """What callers use."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()
        """By caller: how many runs it may start, and when that was so."""
        self._runs: dict[str, int] = {}
        self._streams: dict[str, int] = {}

    def begin_run(self, caller: str) -> None:
        """Count a run that is about to start.

        Raises:
            Problem: it is one too many.
        """
        limits, now = self._limits, trio.current_time()
        most = float(limits.runs_per_minute)
        left, since = self._left.get(caller, (most, now))
        left = min(most, left + (now - since) * most / MINUTE_S)
        if left < 1:
            wait_s = (1 - left) * MINUTE_S / most
            raise HttpProblem("rate-limited", f"At most {limits.runs_per_minute} runs a minute.", retry_after_s=wait_s)
        if self._runs.get(caller, 0) >= limits.runs_at_once_per_caller:
            what = f"At most {limits.runs_at_once_per_caller} of a caller's runs may be in progress."
            raise HttpProblem("too-many-runs", what, retry_after_s=RETRY_S)
        if sum(self._runs.values()) >= limits.runs_at_once:
            raise HttpProblem("too-many-runs", "The service has all the runs that it takes.", retry_after_s=RETRY_S)
        self._left[caller] = (left - 1, now)
        self._left.move_to_end(caller)
        if len(self._left) > _MOST_CALLERS:
            self._left.popitem(last=False)
        self._runs[caller] = self._runs.get(caller, 0) + 1

    def end_run(self, caller: str) -> None:
        """A run that was counted is over."""
        self._runs[caller] -= 1
        if not self._runs[caller]:
            del self._runs[caller]

    def begin_stream(self, caller: str) -> None:
        """Count an open stream.

        Raises:
            Problem: it is one too many.
        """
        if self._streams.get(caller, 0) >= self._limits.streams_per_caller:
            what = f"At most {self._limits.streams_per_caller} of a caller's streams may be open."
            raise HttpProblem("too-many-streams", what, retry_after_s=RETRY_S)
        self._streams[caller] = self._streams.get(caller, 0) + 1

    def end_stream(self, caller: str) -> None:
        """A stream that was counted is over."""
        self._streams[caller] -= 1
        if not self._streams[caller]:
            del self._streams[caller]

    @contextlib.contextmanager
    def stream(self, caller: str) -> Generator[None]:
        """Count an open stream while the block lasts.

        Raises:
            Problem: it is one too many.
        """
        self.begin_stream(caller)
        try:
            yield
        finally:
            self.end_stream(caller)
