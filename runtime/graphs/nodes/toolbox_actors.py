"""The actors of toolboxes: started with the first graph that names one, and shared by all."""

from __future__ import annotations

import math
from typing import Any, Final, final

from actors.actor import ActorRef
from actors.errors import UsageError
from actors.graphs.toolboxes import Toolbox
from actors.restarts import Backoff
from actors.supervision import ChildSpec, Supervision, supervisor_spec
from actors.words import repr_of
from runtime.core.actor_cell import ActorCell
from runtime.core.supervisor import SupervisorCell

SUPERVISION: Final = Supervision(max_restarts=math.inf, backoff=Backoff(first_s=0.1, cap_s=2.0, reset_after_s=5.0))
"""A server of tools that dies is started again without a budget, since it must not take down what does without it; and
soon, since calls wait for it."""


@final
class ServedToolboxes:
    """The toolboxes of one runtime."""

    def __init__(self, root: SupervisorCell) -> None:
        self._root = root
        self._supervisor: SupervisorCell | None = None
        self._refs: dict[Toolbox, ActorRef[Any]] = {}

    async def served(self, toolbox: object) -> tuple[Toolbox, ActorRef[Any]]:
        """A toolbox, by its name or itself, with its actor.

        Raises:
            UsageError: there is none of this name. ActorStartFailed: its actor could not be started.
        """
        if isinstance(toolbox, Toolbox):
            return toolbox, await self.ref_of(toolbox)
        found = [each for each in self._refs.items() if each[0].name == toolbox]
        if len(found) == 1:
            return found[0]
        known = ", ".join(sorted(repr(box.name) for box in self._refs)) or "none"
        what = f"there are {len(found)} toolboxes of this name" if found else f"none of this name is served here, only {known}"
        raise UsageError(
            f"tools({repr_of(toolbox)}): {what}.\n"
            "  Fix: pass the toolbox itself, mcp('files', command=[…]), or deploy a graph that names it first."
        )

    async def ref_of(self, box: Toolbox) -> ActorRef[Any]:
        """The actor of `box`, which is started if it has none.

        Raises:
            ActorStartFailed: it could not be.
        """
        known = self._refs.get(box)
        if known is not None:
            return known
        if self._supervisor is None or not self._supervisor.is_serving:
            name = "toolboxes"
            name = self._root.free_name(name) if name in self._root.children.cells else name
            started = await self._root.start_child(supervisor_spec(name, (), SUPERVISION))
            assert isinstance(started, SupervisorCell), "a SupervisorSpec makes a supervisor"
            self._supervisor = started
        taken = box.name in self._supervisor.children.cells
        child = ChildSpec(self._supervisor.free_name(box.name) if taken else box.name, box.factory)
        cell = await self._supervisor.start_child(child)
        assert isinstance(cell, ActorCell), "a ChildSpec makes an actor"
        self._refs[box] = cell.ref
        return cell.ref
