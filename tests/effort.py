"""How much Python does, counted and not timed: the same on a busy machine and on a quiet one."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, final

import trio


@final
class Calls:
    """Functions called in this thread, Python's and C's, while it counts."""

    def __init__(self) -> None:
        self.count = 0

    def note(self, frame: FrameType, event: str, argument: Any) -> None:
        if event in {"call", "c_call"}:
            self.count += 1


@contextmanager
def counted_calls() -> Iterator[Calls]:
    """Count what is called while the block runs."""
    calls, former = Calls(), sys.getprofile()
    sys.setprofile(calls.note)
    try:
        yield calls
    finally:
        sys.setprofile(former)


@final
class LongestStep(trio.abc.Instrument):
    """The calls in the longest step of any task: for so long the event loop does nothing else."""

    def __init__(self, calls: Calls) -> None:
        self.most = 0
        self._calls = calls
        self._before = calls.count

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self._before = self._calls.count

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        self.most = max(self.most, self._calls.count - self._before)
