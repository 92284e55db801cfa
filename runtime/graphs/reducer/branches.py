"""What one run remembers: its branches, their open fan-outs, the deliveries at work in them and the values that wait in joins.

Plain records without decisions; only ``runtime.graphs.reducer.state`` changes them. Every item of a fan-out opens a branch;
the run itself is the outermost one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import final

import attrs

from actors.graphs.edges import Receiver

Rank = tuple[int, int]
"""How late a message is: the most nodes before it, then the place of its maker in the declaration."""

Memory = Mapping[type, tuple[Rank, object]]
"""Recalled type → the latest message of it so far, on the way to some message."""

NO_MEMORY: Memory = MappingProxyType({})
NOTHING_RECALLED: Mapping[str, object] = MappingProxyType({})


@final
@attrs.define(eq=False)
class Value:
    """A message that waits in a join or a gather."""

    message: object
    source: str | None
    iteration: int
    """How often its way has gone around a loop."""
    way: str
    """The nodes by which it came, where several concurrent ways meet."""
    back: bool
    """Its edge lies on a cycle."""
    uses: int = 0
    """How often it was joined with, by branches further in among others."""
    depth: int = 0
    """The most nodes on a way to it."""
    memory: Memory = NO_MEMORY
    """What was made on the way to it, itself not included."""
    parts: tuple[Value, ...] = ()
    """Of a gathered list: its items."""


@final
@attrs.define(eq=False)
class Buffer:
    """The values that wait for one join in one branch; each parameter has its own queue, first in first out."""

    queues: dict[str, deque[Value]] = attrs.field(factory=dict[str, "deque[Value]"])
    taken: dict[str, int] = attrs.field(factory=dict[str, int])
    """Parameter → how many of its values this branch's own joins have used up."""

    @property
    def is_empty(self) -> bool:
        """No value waits."""
        return not any(self.queues.values())

    @property
    def is_waiting(self) -> bool:
        """A value waits that no branch further in has joined with either."""
        return any(not value.uses for queue in self.queues.values() for value in queue)


@final
@attrs.define(eq=False)
class Delivery:
    """One message, or one set of joined messages, at one node, from its start to its end."""

    path: str
    """Names the delivery: unique in the run, and the same in every run with the same results."""
    node: str
    branch: Branch
    iteration: int
    way: str
    arguments: Mapping[str, object]
    """Parameter → message, list of messages, or None for an optional one that never came."""
    back_edge: bool
    """It came along a cycle: it queues and must never block its sender."""
    depth: int
    """The most nodes on a way to it, itself included."""
    memory: Memory = NO_MEMORY
    """What was made on the way to it, the messages that it took included."""
    recalled: Mapping[str, object] = NOTHING_RECALLED
    """Parameter → the earlier message that it recalls; one for which there is none is missing."""
    fork: Fork | None = None
    """The fan-out it has begun, for a generator."""
    held: list[tuple[Receiver, Value]] | None = None
    """What it made for joins, until the deliveries started before it at the same node have ended."""
    is_done: bool = False

    @property
    def has_made_all(self) -> bool:
        """Neither it nor its fan-out will make anything more."""
        return self.is_done and (self.fork is None or self.fork.has_ended)

    def hold(self, receiver: Receiver, value: Value) -> None:
        """Keep `value` back until the deliveries started before this one at the same node have ended."""
        if self.held is None:
            self.held = []
        self.held.append((receiver, value))


@final
@attrs.define(eq=False)
class Fork:
    """One fan-out of one delivery."""

    delivery: Delivery
    number: int
    """How many fan-outs of this node came before it in its branch."""
    is_open: bool = True
    """Items may still come."""
    has_ended: bool = False
    is_taken: bool = False
    """A node has worked on what came of an item: the items cannot be taken back."""
    next_index: int = 0
    branches: dict[int, Branch] = attrs.field(factory=dict[int, "Branch"])
    """Those that have not ended."""
    collected: dict[Receiver, list[tuple[int, Value]]] = attrs.field(factory=dict[Receiver, "list[tuple[int, Value]]"])
    fired: set[Receiver] = attrs.field(factory=set[Receiver])

    @property
    def node(self) -> str:
        """The fan-out node."""
        return self.delivery.node


_NO_FORKS: dict[str, Fork] = {}
_NO_JOINS: dict[str, Buffer] = {}
_NONE_BELOW: dict[str, dict[Branch, None]] = {}
_NONE_STARTED: dict[str, deque[Delivery]] = {}
_NONE_FORKED: dict[str, int] = {}
_NONE_BORROWED: list[Value] = []
"""Stand in for those that a branch has not needed yet; nothing is ever put into them."""


@final
@attrs.define(eq=False)
class Branch:
    """The run, or what becomes of one item of a fan-out."""

    prefix: str
    """The path of the delivery that made it, and the item's index."""
    fork: Fork | None = None
    indices: tuple[int, ...] = ()
    """The item indices from the outside in; orders branches."""
    has_ended: bool = False
    own: dict[str, int] = attrs.field(factory=dict[str, int])
    """Node → its deliveries at work here plus its open forks here; never zero."""
    deliveries: dict[str, Delivery] = attrs.field(factory=dict[str, Delivery])
    paths: dict[str, int] = attrs.field(factory=dict[str, int])
    # The others are made when they are first needed: most branches need none, and six dicts take as long as the rest of a step.
    forks: dict[str, Fork] = attrs.field(default=_NO_FORKS)
    """Open ones, by the path of their delivery."""
    joins: dict[str, Buffer] = attrs.field(default=_NO_JOINS)
    below: dict[str, dict[Branch, None]] = attrs.field(default=_NONE_BELOW)
    """Join → the branches further in where values wait for it."""
    started: dict[str, deque[Delivery]] = attrs.field(default=_NONE_STARTED)
    """Node that feeds joins → its deliveries in the order of their start."""
    borrowed: list[Value] = attrs.field(default=_NONE_BORROWED)
    """Values from further out that its joins have used."""
    forked: dict[str, int] = attrs.field(default=_NONE_FORKED)

    def buffer(self, node: str) -> Buffer:
        """Where the values for the join `node` wait here."""
        if self.joins is _NO_JOINS:
            self.joins = {}
        return self.joins.setdefault(node, Buffer())

    def open_fork(self, delivery: Delivery) -> Fork:
        """A fan-out of one of its deliveries begins."""
        node = delivery.node
        if self.forked is _NONE_FORKED:
            self.forks, self.forked = {}, {}
        fork = self.forks[delivery.path] = delivery.fork = Fork(delivery, self.forked.get(node, 0))
        self.forked[node] = fork.number + 1
        self.enter(node)
        return fork

    def queue(self, delivery: Delivery) -> None:
        """A delivery of a node that feeds joins begins."""
        if self.started is _NONE_STARTED:
            self.started = {}
        self.started.setdefault(delivery.node, deque()).append(delivery)

    def borrow(self, values: Sequence[Value]) -> None:
        """A join here has used `values` from further out."""
        if values:
            if self.borrowed is _NONE_BORROWED:
                self.borrowed = []
            self.borrowed += values

    def outward(self) -> Iterator[tuple[Branch, Fork]]:
        """The branches around this one, nearest first, each with its fork that this one lies in."""
        branch = self
        while branch.fork is not None:
            fork = branch.fork
            branch = fork.delivery.branch
            yield branch, fork

    def open_branches(self) -> Iterator[Branch]:
        """This one and the branches within it that have not ended, from the outside in."""
        level = [self]
        while level:
            yield from level
            forks = [fork for branch in level for _, fork in sorted(branch.forks.items())]
            level = [inner for fork in forks for _, inner in sorted(fork.branches.items())]

    def enter(self, node: str) -> None:
        """Count one more delivery or fork of `node`."""
        self.own[node] = self.own.get(node, 0) + 1

    def leave(self, node: str) -> bool:
        """Count one less; True when it was the last of `node`."""
        left = self.own[node] - 1
        assert left >= 0, f"more of {node!r} ended than began"
        if left:
            self.own[node] = left
            return False
        del self.own[node]
        return True

    def wait(self, node: str) -> None:
        """Let the branches around know that a value waits here for the join `node`."""
        for around, _ in self.outward():
            if around.below is _NONE_BELOW:
                around.below = {}
            around.below.setdefault(node, {})[self] = None

    def wait_no_more(self, node: str) -> None:
        """Take that back."""
        for around, _ in self.outward():
            here = around.below.get(node)
            if here is not None:
                here.pop(self, None)
                if not here:
                    del around.below[node]
