"""A word about a node that goes on after its time is up: which, for how long already, and where in its code."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Final, final

import trio

from runtime.core.cell import current_cell
from runtime.core.stacks import stack_of
from runtime.core.timekeeper import Timekeeper
from runtime.graphs.records.run_events import NodeSlowToStop
from runtime.graphs.runs.run import ActiveDelivery

SLOW_AFTER_S: Final = 0.25
"""How long an attempt may go on once its time is up before that is told: clean-up takes some milliseconds."""


@contextmanager
def telling_when_slow(message: ActiveDelivery, limits: Sequence[trio.CancelScope]) -> Generator[None]:
    """Publish one ``NodeSlowToStop`` when the attempt that is made within goes on after one of its `limits` has cancelled it.

    It costs nothing when no one listens to the run. The attempt itself is left alone: who wants its result waits for its end.
    """
    cell = current_cell.get()
    if cell is None or not message.run.wants(NodeSlowToStop):
        yield
        return
    look = _Look(message, limits, cell.services.timekeeper)
    look.arm()
    try:
        yield
    finally:
        look.timer.cancel()


def _where(task: trio.lowlevel.Task) -> str:
    """Where the attempt of `task` is; that of an async generator works in a task beneath it."""
    stack = stack_of(task)
    while task.child_nurseries and len(task.child_nurseries[-1].child_tasks) == 1:
        (task,) = task.child_nurseries[-1].child_tasks
        stack += stack_of(task)
    return stack


@final
class _Look:
    def __init__(self, message: ActiveDelivery, limits: Sequence[trio.CancelScope], timekeeper: Timekeeper) -> None:
        self._message = message
        self._limits = limits
        self._timekeeper = timekeeper
        self._task = trio.lowlevel.current_task()

    def arm(self) -> None:
        """Look when the attempt ought to have stopped; a sign of life may have moved that moment by then."""
        self.timer = self._timekeeper.call_at(self._due(), self._look)

    def _due(self) -> float:
        return min(limit.deadline for limit in self._limits) + SLOW_AFTER_S

    def _look(self) -> None:
        late_s = trio.current_time() - self._due()
        if late_s < 0:
            self.arm()
        else:
            self._message.tell(NodeSlowToStop, overdue_s=SLOW_AFTER_S + late_s, stack=_where(self._task))
