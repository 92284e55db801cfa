"""One look at a runtime: its statistics, and the tree of its actors and supervisors."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import final

import attrs

from actors.actor import ActorState
from runtime.core.actor_cell import ActorCell
from runtime.core.cell import Cell
from runtime.core.kernel import Kernel
from runtime.core.refs import ActorStatistics
from runtime.core.supervisor import SupervisorCell


@final
@attrs.frozen
class RuntimeStatistics:
    """One look at a runtime."""

    actors: Mapping[str, ActorStatistics]
    """By address, in the order of their start: who was there at the call, each with its figures at the time at which it is read.

    To look at one actor costs the same however many there are. To read very many takes time, and holds the event loop that long:
    use :meth:`slices`."""
    dead_letters: int
    """Messages that became dead letters so far."""

    def slices(self, size: int = 500) -> Iterator[dict[str, ActorStatistics]]:
        """All of `actors`, at most `size` at a time: ``await trio.lowlevel.checkpoint()`` after each lets others in."""
        addresses = iter(self.actors)
        while some := {address: self.actors[address] for address in itertools.islice(addresses, size)}:
            yield some


@final
class _Actors(Mapping[str, ActorStatistics]):
    """The statistics of some actors, made when they are read: to make them all at once would hold the event loop."""

    def __init__(self, cells: Mapping[str, ActorCell]) -> None:
        self._cells = cells

    def __getitem__(self, address: str) -> ActorStatistics:
        return self._cells[address].statistics()

    def __iter__(self) -> Iterator[str]:
        return iter(self._cells)

    def __len__(self) -> int:
        return len(self._cells)

    def __repr__(self) -> str:
        return f"<statistics of {len(self)} actors>"


@final
@attrs.frozen
class TreeNode:
    """One actor or supervisor in ``Runtime.tree()``."""

    address: str
    """Its name within the runtime; empty for the root."""
    kind: str
    """``"actor"`` or ``"supervisor"``."""
    state: ActorState
    incarnation: int
    """Lives so far, the present one included; 0 before the first start."""
    children: tuple[TreeNode, ...] = ()
    """What is below it, in the order of start."""

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> list[str]:
        title = f"{self.address or '(root)'} [{self.kind}, {self.state}, incarnation {self.incarnation}]"
        return [title, *("  " + line for child in self.children for line in child._lines())]


def statistics_of(kernel: Kernel) -> RuntimeStatistics:
    """What the actors of one runtime have done so far."""
    cells = {address: cell for address, cell in kernel.registry.items() if isinstance(cell, ActorCell)}
    return RuntimeStatistics(_Actors(cells), kernel.dead_letters.total)


def tree_of(cell: Cell) -> TreeNode:
    """`cell` and what is below it, as it is now."""
    supervisor = cell if isinstance(cell, SupervisorCell) else cell.own_supervisor if isinstance(cell, ActorCell) else None
    below = supervisor.children.values() if isinstance(supervisor, SupervisorCell) else ()
    kind = "supervisor" if isinstance(cell, SupervisorCell) else "actor"
    return TreeNode(cell.address, kind, cell.state, cell.incarnation, tuple(tree_of(child) for child in below))
