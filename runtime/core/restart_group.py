"""The children that one failure takes down together, to be started again together when its delay is over."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import final

from actors.supervision import Strategy
from runtime.core.cell import Cell
from runtime.core.children import Children
from runtime.core.lifecycle import State


@final
class RestartGroup:
    """Those of `children` that wait for their common start, in their order.

    As in OTP all of them are started, those too that had been stopped before: by hand, or because they had finished.
    """

    __slots__ = ("_children", "_due", "_has_grown", "_members", "_regathered", "_see_out", "_stops")

    def __init__(self, children: Children, see_out: Callable[[Cell], Awaitable[None]]) -> None:
        self._children = children
        self._see_out = see_out
        """Waits until a cell has no incarnation."""
        self._members: dict[Cell, None] = {}
        self._due = math.inf
        self._regathered = False
        self._has_grown = False
        self._stops = False
        """Whether a task is stopping the members; it takes those in who join meanwhile."""

    def clear(self) -> None:
        """Forget all members."""
        self._members.clear()

    def is_due(self, now: float) -> bool:
        """Whether the delay is over."""
        return bool(self._members) and self._due <= now

    def gather(self, failed: Cell, strategy: Strategy, due: float) -> None:
        """`failed` and those that `strategy` restarts with it are to be started again together at `due`.

        A member stays in the group as long as it is a child.
        """
        members: dict[Cell, None] = {}
        is_after = strategy is Strategy.ONE_FOR_ALL
        for cell in self._children.cells.values():
            is_after = is_after or cell is failed
            if is_after or cell in self._members:
                members[cell] = None
                cell.cancel_retry()
        self._members, self._due, self._regathered, self._has_grown = members, due, True, True

    def leave(self, cell: Cell) -> None:
        """`cell` is not started with the others: somebody has stopped it after the failure."""
        self._members.pop(cell, None)

    async def stop_all(self) -> None:
        """Stop the members, and those who join while that takes its time.

        One task at a time does it: with one for each failure, many simultaneous failures would cost members times failures.
        """
        if self._stops:
            return
        self._stops = True
        try:
            while self._has_grown:
                self._has_grown = False
                await self._stop()
        finally:
            self._stops = False

    async def _stop(self) -> None:
        """Stop the members that still run, last first; each waits then for the common start."""
        for cell in reversed(list(self._members)):
            if cell not in self._members:
                continue  # while another one was waited for, it has been started again, or has left
            if cell.state in (State.RUNNING, State.STARTING):
                cell.stop_to_rejoin()
            if cell.state is State.STOPPING:
                await self._see_out(cell)

    async def restart(self, launch: Callable[[Cell], None]) -> None:
        """Start the members in order. One that fails meanwhile gathers the group again, and the next delay applies."""
        self._regathered = False
        await self._stop()
        while self._members and not self._regathered:
            cell = next(iter(self._members))
            del self._members[cell]
            if cell.state in (State.BACKING_OFF, State.STOPPED) and self._children.holds(cell):
                # Without a start slot a failed start is handled like any failure, and gathers the group again.
                launch(cell)
                await cell.wait_started()
