"""The stay of a run's dependencies on a host, as the runtime sees it: what they say beside the calls of nodes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

import attrs

from actors.errors import InternalError, UnderstudyError
from runtime.core.cell import Cell, current_cell, off_duty
from runtime.placement.errands import Errands, RuntimeKnowledge


@final
@attrs.define(eq=False)
class Visit:
    """One stay."""

    name: str
    """By which the host knows it."""
    _known: RuntimeKnowledge
    _nodes: dict[str, tuple[Any, Cell | None]] = attrs.field(factory=dict[str, tuple[Any, Cell | None]])
    """By graph and node: what is called there, and the newest instance, in whose name the dependencies speak."""
    _errands: dict[str, Errands] = attrs.field(factory=dict[str, Errands])
    """The same for those that have spoken. Few do."""
    wrong: UnderstudyError | None = None
    """What was wrong with something that they have told."""

    def welcome(self, graph: str, node: str, handler: Any) -> None:
        """An attempt of a node comes, which calls `handler`: the types of that are those of what its dependencies say."""
        self._nodes[f"{graph}/{node}"] = handler, current_cell.get()

    def _by(self, head: Mapping[str, Any]) -> tuple[Errands, Cell | None]:
        by: str = head["by"]
        if by not in self._nodes:
            raise InternalError(f"a host speaks for the dependencies of {by!r}, which do not stay there")
        handler, cell = self._nodes[by]
        if by not in self._errands:
            self._errands[by] = Errands(self._known, self._known.codes.of(handler))
        return self._errands[by], cell

    async def answer(self, head: Mapping[str, Any], data: bytes) -> bytes:
        """Do what they ask."""
        errands, cell = self._by(head)
        current_cell.set(cell)
        off_duty.set(False)  # as at home: while they are entered, their node waits for them
        return await errands.do(head, data)

    def hear(self, head: Mapping[str, Any], data: bytes) -> None:
        """Take what they tell actors."""
        try:
            if head["op"] != "tell":
                raise InternalError(f"a dependency on a host tells {head['op']!r}, which this release does not know")
            errands, cell = self._by(head)
            token = current_cell.set(cell)
            try:
                errands.tell_nowait(head, data)
            finally:
                current_cell.reset(token)
        except UnderstudyError as error:
            self.wrong = self.wrong or error
