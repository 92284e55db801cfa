"""Refs to supervisors of this runtime: administrative calls run in the caller's task."""

from __future__ import annotations

from typing import Any, Protocol, final

import trio

from actors.actor import ActorRef, Terminated
from actors.supervision import ChildCounts, ChildInfo, ChildSpec, SupervisorRef, SupervisorSpec
from runtime.core.cell import Cell
from runtime.core.children import Children
from runtime.core.lifecycle import State
from runtime.core.refs import Awaited, wait_for_end
from runtime.core.services import Services


class Administered(Awaited, Protocol):
    """What a ref needs of the cell that starts and stops children."""

    @property
    def services(self) -> Services:
        """The runtime that it is of."""
        ...

    @property
    def children(self) -> Children:
        """Its children."""
        ...

    @property
    def state(self) -> State:
        """Where it is between its start and its end."""
        ...

    async def start_child(self, spec: ChildSpec | SupervisorSpec) -> Cell:
        """Adopt and start a child; nothing is kept of one that does not start."""
        ...

    async def terminate(self, cell: Cell, *, discard: bool) -> None:
        """Stop `cell` and wait for it; with `discard`, forget it."""
        ...

    async def restart_child(self, child_id: str) -> Cell:
        """Start a stopped child again."""
        ...

    def delete_child(self, child_id: str) -> None:
        """Forget a stopped child."""
        ...


@final
class LocalSupervisorRef(SupervisorRef):
    """The ref to a supervisor of this runtime. One per cell, so identity is equality."""

    __slots__ = ("__weakref__", "cell")

    def __init__(self, cell: Administered) -> None:
        self.cell = cell

    @property
    def address(self) -> str:
        """The supervisor's name within its runtime."""
        return self.cell.address

    async def start_child(self, spec: ChildSpec | SupervisorSpec) -> ActorRef[Any] | SupervisorRef:
        """See ``SupervisorRef.start_child``."""
        return (await self.cell.start_child(spec)).ref

    async def terminate_child(self, id: str) -> None:  # noqa: A002
        """See ``SupervisorRef.terminate_child``."""
        await self.cell.terminate(self.cell.children.child(id), discard=False)

    async def restart_child(self, id: str) -> ActorRef[Any] | SupervisorRef:  # noqa: A002
        """See ``SupervisorRef.restart_child``."""
        return (await self.cell.restart_child(id)).ref

    async def delete_child(self, id: str) -> None:  # noqa: A002
        """See ``SupervisorRef.delete_child``."""
        self.cell.delete_child(id)
        await trio.lowlevel.checkpoint()

    async def which_children(self) -> list[ChildInfo]:
        """See ``SupervisorRef.which_children``."""
        return await self.cell.children.which_children()

    async def count_children(self) -> ChildCounts:
        """See ``SupervisorRef.count_children``."""
        await trio.lowlevel.checkpoint()
        return self.cell.children.count_children()

    async def ended(self) -> Terminated:
        """See ``SupervisorRef.ended``."""
        return await wait_for_end(self.cell)

    def __repr__(self) -> str:
        return f"<SupervisorRef {self.cell.address or '(root)'!r} {self.cell.state.value}>"
