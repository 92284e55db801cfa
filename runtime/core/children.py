"""The children that a supervisor knows: what can be done with one of them now, and what raises."""

from __future__ import annotations

from typing import final

import trio

from actors.errors import ChildAlreadyPresent, ChildAlreadyStarted, ChildNotFound, ChildRestarting, ChildRunning, TooManyChildren
from actors.supervision import ChildCounts, ChildInfo, ChildState
from runtime.core.actor_cell import ActorCell
from runtime.core.cell import Cell
from runtime.core.lifecycle import State

ROOT = "(root)"
"""How the supervisor without an address is called."""
SLICE = 1000
"""Children that are looked at before other tasks get their turn."""

_CHILD_STATES = {
    State.NEW: ChildState.STOPPED,
    State.STARTING: ChildState.RESTARTING,
    State.RUNNING: ChildState.RUNNING,
    State.STOPPING: ChildState.RUNNING,
    State.BACKING_OFF: ChildState.RESTARTING,
    State.STOPPED: ChildState.STOPPED,
}


@final
class Children:
    """Cells by the id of their child, in the order of their start."""

    __slots__ = ("_name", "_numbers", "cells")

    def __init__(self, address: str) -> None:
        self._name = address or ROOT
        self._numbers: dict[str, int] = {}
        self.cells: dict[str, Cell] = {}

    def free_name(self, stem: str) -> str:
        """A name for a child that was given none: the stem and the next number that is not taken."""
        while True:
            self._numbers[stem] = number = self._numbers.get(stem, 0) + 1
            if f"{stem}-{number}" not in self.cells:
                return f"{stem}-{number}"

    def reject_known(self, child_id: str) -> None:
        """Raise when that id is taken."""
        known = self.cells.get(child_id)
        if known is None:
            return
        where = f"supervisor {self._name!r}"
        if known.state is State.BACKING_OFF or (
            known.state is State.STARTING and known.incarnation > 1 and not known.is_start_awaited
        ):
            raise ChildAlreadyPresent(
                f"{where} already has {child_id!r}, which is being restarted.\n"
                f"  Fix: use its ref (whereis); or terminate_child({child_id!r}) and delete_child({child_id!r}) first.",
                child_id=child_id,
            )
        if known.state is State.STOPPED:
            raise ChildAlreadyPresent(
                f"{where} already has {child_id!r}, which is stopped.\n"
                + (
                    f"  Fix: restart_child({child_id!r}), or delete_child({child_id!r}) first."
                    if self._name != ROOT
                    else "  Fix: await runtime.stop(ref) with its ref, which frees its id; or restart=RestartType.TEMPORARY."
                ),
                child_id=child_id,
            )
        raise ChildAlreadyStarted(
            f"{where} already has {child_id!r}, which is {known.state.value}.\n"
            "  Fix: use its ref (whereis), or give the new child another name.",
            child_id=child_id,
        )

    def reject_more_than(self, max_children: float, child_id: str) -> None:
        """Raise when there are that many children already."""
        if len(self.cells) >= max_children:
            stopped = sum(cell.state is State.STOPPED for cell in self.cells.values())
            raise TooManyChildren(
                f"supervisor {self._name!r} has {len(self.cells)} children ({stopped} of them stopped) and max_children is "
                f"{max_children:g}, so it does not start {child_id!r}.\n"
                "  Fix: wait until one has ended, delete_child() a stopped one, or Supervision(max_children=…).",
                child_id=child_id,
            )

    def holds(self, cell: Cell) -> bool:
        """Whether `cell` is still a child."""
        return self.cells.get(_id_of(cell)) is cell

    def put_first(self, child_id: str) -> None:
        """Let the child of that id count as the one that was started first, so it is stopped last."""
        self.cells = {child_id: self.cells[child_id], **self.cells}

    def forget(self, cell: Cell) -> None:
        """Forget `cell`; without effect when its id is another's by now."""
        if self.holds(cell):
            del self.cells[_id_of(cell)]

    def child(self, child_id: str) -> Cell:
        """The child of that id."""
        cell = self.cells.get(child_id)
        if cell is None:
            known = ", ".join(repr(k) for k in self.cells)
            way = "name one of these, or start_child(…) first" if known else "start_child(…) first"
            raise ChildNotFound(
                f"supervisor {self._name!r} has no child {child_id!r}. It has: {known or 'none'}.\n"
                f"  Fix: {way}; a temporary child is forgotten when it ends.",
                child_id=child_id,
            )
        return cell

    def stopped_child(self, child_id: str) -> Cell:
        """The child of that id, which must be stopped."""
        cell = self.child(child_id)
        if cell.state is State.BACKING_OFF:
            raise ChildRestarting(
                f"{cell.address!r} waits for its restart.\n  Fix: terminate_child({child_id!r}) first.", child_id=child_id
            )
        if cell.state is not State.STOPPED:
            raise ChildRunning(
                f"{cell.address!r} is {cell.state.value}.\n  Fix: terminate_child({child_id!r}) first.", child_id=child_id
            )
        return cell

    async def which_children(self) -> list[ChildInfo]:
        """All known children, newest first, as they are at one instant. A checkpoint; of very many children several."""
        await trio.lowlevel.checkpoint()
        seen = [(child_id, cell, cell.state) for child_id, cell in reversed(self.cells.items())]
        found: list[ChildInfo] = []
        for child_id, cell, state in seen:
            found.append(ChildInfo(child_id, cell.ref, _CHILD_STATES[state], cell.restart, cell.significant))
            if not len(found) % SLICE:
                await trio.lowlevel.checkpoint()
        return found

    def count_children(self) -> ChildCounts:
        """How many children are known and how many run."""
        cells = list(self.cells.values())
        supervisors = sum(not isinstance(cell, ActorCell) for cell in cells)
        active = sum(_CHILD_STATES[cell.state] is ChildState.RUNNING for cell in cells)
        return ChildCounts(specs=len(cells), active=active, supervisors=supervisors, workers=len(cells) - supervisors)


def _id_of(cell: Cell) -> str:
    return cell.address.rpartition("/")[2]
