"""One look at a runtime: its statistics, and the tree of its actors and supervisors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import final

import attrs

from runtime.actor_cell import ActorCell
from runtime.cell import Cell
from runtime.kernel import Kernel
from runtime.refs import ActorStatistics
from runtime.supervisor import SupervisorCell


@final
@attrs.frozen
class RuntimeStatistics:
    """One look at a runtime."""

    actors: Mapping[str, ActorStatistics]
    """By address, in the order of their start."""
    dead_letters: int
    """Messages that became dead letters so far."""


@final
@attrs.frozen
class TreeNode:
    """One actor or supervisor in ``Runtime.tree()``."""

    address: str
    """Its name within the runtime; empty for the root."""
    kind: str
    """``"actor"`` or ``"supervisor"``."""
    state: str
    """``"new"``, ``"starting"``, ``"running"``, ``"stopping"``, ``"backing_off"`` or ``"stopped"``."""
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
    cells = (cell for cell in kernel.registry.values() if isinstance(cell, ActorCell))
    return RuntimeStatistics({cell.address: cell.statistics() for cell in cells}, kernel.dead_letters.total)


def tree_of(cell: Cell) -> TreeNode:
    """`cell` and what is below it, as it is now."""
    supervisor = cell if isinstance(cell, SupervisorCell) else cell.brood if isinstance(cell, ActorCell) else None
    below = supervisor.children.values() if isinstance(supervisor, SupervisorCell) else ()
    kind = "supervisor" if isinstance(cell, SupervisorCell) else "actor"
    return TreeNode(cell.address, kind, cell.state.value, cell.incarnation, tuple(tree_of(child) for child in below))
