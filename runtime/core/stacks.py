"""Where a task is: the await chain of a task of this event loop, as text for a person."""

from __future__ import annotations

import traceback

import trio


def stack_of(task: trio.lowlevel.Task | None) -> str:
    """The await frames of `task`, outermost first, in the form of a traceback; empty for None."""
    if task is None:
        return ""
    return "".join(traceback.StackSummary.extract(task.iter_await_frames()).format())
