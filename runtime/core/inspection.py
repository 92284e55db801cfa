"""One look at a runtime: its statistics, and the tree of its actors and supervisors."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast, final, overload

import attrs

from actors.actor import ActorState
from actors.supervision import Strategy
from runtime.core.actor_cell import ActorCell
from runtime.core.cell import Cell
from runtime.core.lifecycle import State
from runtime.core.refs import ActorStatistics
from runtime.core.services import Services
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
    """The statistics of some actors, made when they are read: to make them all together would hold the event loop."""

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
    children: Sequence[TreeNode] = ()
    """What is below it, in the order of start; equal to the tuple of them."""

    def __str__(self) -> str:
        lines: list[str] = []
        line = [(self, "")]
        while line:
            node, indent = line.pop()
            lines.append(f"{indent}{node.address or '(root)'} [{node.kind}, {node.state}, incarnation {node.incarnation}]")
            line += [(child, indent + "  ") for child in reversed(node.children)]
        return "\n".join(lines)


@final
@attrs.frozen
class SupervisorStatistics:
    """One look at what a supervisor does about failures."""

    strategy: Strategy
    max_restarts: float
    """Restarts that are allowed within `within_s` seconds; ``math.inf`` for no bound, and then none are counted."""
    within_s: float
    restarts: int
    """Those within the last `within_s` seconds."""


@final
@attrs.frozen
class Look:
    """One actor or supervisor as it is now, and some of what is below it: see ``Runtime.look``."""

    address: str
    """Its name within the runtime; empty for the root."""
    kind: str
    """``"actor"`` or ``"supervisor"``."""
    state: ActorState
    incarnation: int
    restarts: int
    """How often it was started again after its first start."""
    backoff_left_s: float
    """Seconds until the next incarnation; 0.0 unless it waits for one."""
    actor: ActorStatistics | None
    """What it has handled and what waits for it, of an actor."""
    supervisor: SupervisorStatistics | None
    """What is known of a supervisor, and of an actor that has children."""
    children: int
    """How many are directly below it."""
    below: tuple[Look, ...] = ()
    """Those that were asked for."""


@final
class _Snapshot:
    """What a tree was at one moment, written down as it costs least: its nodes are made when somebody looks at them."""

    __slots__ = ("addresses", "below", "incarnations", "states", "supervisors")

    def __init__(self, root: Cell) -> None:
        cells = [root]  # level by level, so the children of one stand side by side
        self.supervisors: set[int] = set()
        self.states: list[State] = []
        self.incarnations: list[int] = []
        self.below: dict[int, range] = {}
        """Where the children of a node stand, by where it stands itself; left out where there are none."""
        for at, cell in enumerate(cells):  # which grows meanwhile
            self.states.append(cell.state)
            self.incarnations.append(cell.incarnation)
            supervisor = cell.own_supervisor if isinstance(cell, ActorCell) else cell
            if supervisor is cell:
                self.supervisors.add(at)
            if isinstance(supervisor, SupervisorCell) and supervisor.children.cells:
                first = len(cells)
                cells += supervisor.children.cells.values()
                self.below[at] = range(first, len(cells))
        self.addresses = [cell.address for cell in cells]

    def node(self, at: int) -> TreeNode:
        """The one that stands at `at`."""
        kind = "supervisor" if at in self.supervisors else "actor"
        below = self.below.get(at)
        children = () if below is None else _Children(self, below)
        return TreeNode(self.addresses[at], kind, self.states[at], self.incarnations[at], children)


@final
class _Children(Sequence[TreeNode]):
    """The children of one node of a snapshot: to make all nodes of a large tree together would hold the event loop."""

    __slots__ = ("_places", "_snapshot")

    def __init__(self, snapshot: _Snapshot, places: range) -> None:
        self._snapshot = snapshot
        self._places = places

    @overload
    def __getitem__(self, index: int) -> TreeNode: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[TreeNode, ...]: ...
    def __getitem__(self, index: int | slice) -> TreeNode | tuple[TreeNode, ...]:
        if isinstance(index, slice):
            return tuple(map(self._snapshot.node, self._places[index]))
        return self._snapshot.node(self._places[index])

    def __len__(self) -> int:
        return len(self._places)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, tuple | _Children):
            return NotImplemented
        return tuple(self) == tuple(cast("Sequence[object]", other))

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return repr(tuple(self))

    def __reduce__(self) -> tuple[type[tuple[Any, ...]], tuple[tuple[TreeNode, ...]]]:
        return tuple, (tuple(self),)


def statistics_of(services: Services) -> RuntimeStatistics:
    """What the actors of one runtime have done so far."""
    cells = {address: cell for address, cell in services.registry.items() if isinstance(cell, ActorCell)}
    return RuntimeStatistics(_Actors(cells), services.dead_letters.total)


def tree_of(cell: Cell) -> TreeNode:
    """`cell` and what is below it, as it is now."""
    return _Snapshot(cell).node(0)


def look_at(cell: Cell, skip: int = 0, limit: int = 0) -> Look:
    """`cell` as it is now, and at most `limit` of its children after the first `skip`, in the order of start."""
    supervisor = _supervisor_of(cell)
    cells = {} if supervisor is None else supervisor.children.cells
    below = tuple(look_at(child) for child in itertools.islice(cells.values(), skip, skip + limit)) if limit else ()
    now = cell.services.now()
    actor = cell.statistics() if isinstance(cell, ActorCell) else None
    timer = cell.retry_timer if cell.state is State.BACKING_OFF else None
    return Look(
        address=cell.address,
        kind="supervisor" if actor is None else "actor",
        state=cell.state,
        incarnation=cell.incarnation,
        restarts=cell.restarts,
        backoff_left_s=max(0.0, timer.deadline - now) if timer is not None else 0.0,
        actor=actor,
        supervisor=None if supervisor is None else _statistics_of(supervisor, now),
        children=len(cells),
        below=below,
    )


def _supervisor_of(cell: Cell) -> SupervisorCell | None:
    supervisor = cell.own_supervisor if isinstance(cell, ActorCell) else cell
    return supervisor if isinstance(supervisor, SupervisorCell) else None


def _statistics_of(supervisor: SupervisorCell, now: float) -> SupervisorStatistics:
    declared = supervisor.supervision
    spent = supervisor.restarts_spent(now)
    return SupervisorStatistics(declared.strategy, declared.max_restarts, declared.within_s, spent)


def cell_at(root: Cell, address: str) -> Cell | None:
    """The actor or supervisor of that address, a stopped one that its supervisor still knows too; None when there is none."""
    if not address:
        return root
    found = root.services.registry.get(address)
    if isinstance(found, Cell):
        return found
    above, _, child_id = address.rpartition("/")
    parent = cell_at(root, above)
    supervisor = None if parent is None else _supervisor_of(parent)
    return None if supervisor is None else supervisor.children.cells.get(child_id)
