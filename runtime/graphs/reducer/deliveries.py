"""The deliveries of one run that are at work: each has its own path, and is begun, ended or cancelled once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import final

import attrs

from actors.errors import InternalError
from actors.graphs.node import NodeSpec
from runtime.graphs.reducer.branches import NO_MEMORY, NOTHING_RECALLED, Branch, Delivery, Memory
from runtime.graphs.reducer.routing import Destination, RoutingTable


@final
@attrs.define  # not frozen, which takes twice as long to make: there is one for nearly every step
class Commands:
    """What the engine is to do after an event, in this order of priority: cancel, then deliver."""

    deliveries: Sequence[Delivery] = ()
    cancelled: Sequence[str] = ()
    """Paths of deliveries whose results are no longer wanted; what they still report is ignored."""


@final
class Deliveries:
    """What is at work, and what the engine has not been told yet."""

    __slots__ = ("_cancelled", "_cancelling", "_in_line", "_run_id", "_starting", "at_work", "begun", "current")

    def __init__(self, routing: RoutingTable, run_id: str) -> None:
        self._in_line = routing.in_line
        self._run_id = run_id
        self.at_work: dict[str, Delivery] = {}
        """By path, in the order of their start."""
        self.begun = 0
        self.current = ""
        """The path of the delivery whose end is being handled: it needs no cancelling."""
        self._cancelled: dict[str, None] = {}
        self._starting: list[Delivery] = []
        self._cancelling: list[str] = []

    def find(self, path: str) -> Delivery | None:
        """The delivery at work; None for one that was cancelled, whose reports are ignored."""
        delivery = self.at_work.get(path)
        if delivery is None and path not in self._cancelled:
            raise InternalError(f"run {self._run_id!r} has no delivery {path!r}")
        return delivery

    def begin(
        self,
        branch: Branch,
        spec: NodeSpec,
        arguments: Mapping[str, object],
        iteration: int,
        way: str,
        depth: int,
        *,
        back: bool,
        memory: Memory = NO_MEMORY,
        recalled: Mapping[str, object] = NOTHING_RECALLED,
    ) -> None:
        """Deliver a message, or a set of joined ones: from here on the delivery is at work."""
        node = spec.name
        path = f"{branch.prefix}/{node}@{way}/{iteration}" if way else f"{branch.prefix}/{node}/{iteration}"
        again = branch.paths[path] = branch.paths.get(path, 0) + 1
        if again > 1:
            path = f"{path}~{again}"
            way = f"{way}.{node}~{again}" if way else f"{node}~{again}"  # what it leads to is not that of the first
        delivery = Delivery(path, node, branch, iteration, way, arguments, back, depth + 1, memory, recalled)
        self.at_work[path] = branch.deliveries[path] = delivery
        branch.enter(node)
        if node in self._in_line:
            branch.queue(delivery)
        self.begun += 1
        self._starting.append(delivery)

    def follow(self, delivery: Delivery, to: Destination, message: object) -> Delivery | None:
        """End `delivery` and begin the one that follows of its message, which has no other way on; that is all there is to do.

        None, and no change, where anything besides may hang on that: a join that waits, a path that was taken before.
        """
        branch, node, way, iteration = delivery.branch, to.spec.name, delivery.way, delivery.iteration + to.rounds
        path = f"{branch.prefix}/{node}@{way}/{iteration}" if way else f"{branch.prefix}/{node}/{iteration}"
        if branch.joins or branch.below or branch.has_ended or path in branch.paths or self._starting or self._cancelling:
            return None
        branch.paths[path] = 1
        arguments = {to.receiver.parameter: message}
        following = Delivery(path, node, branch, iteration, way, arguments, to.back, delivery.depth + 1)
        self.at_work[path] = branch.deliveries[path] = following
        self.begun += 1
        del self.at_work[delivery.path], branch.deliveries[delivery.path]
        if branch.fork is not None:
            branch.fork.is_taken = True
        delivery.is_done = True
        branch.enter(node)
        branch.leave(delivery.node)
        return following

    def end(self, delivery: Delivery) -> bool:
        """The delivery is no longer at work; False when it was cancelled before."""
        if self.at_work.pop(delivery.path, None) is None:
            self._cancelled.pop(delivery.path, None)
            return False
        branch = delivery.branch
        branch.deliveries.pop(delivery.path, None)
        if branch.fork is not None:
            branch.fork.is_taken = True
        delivery.is_done = True
        return True

    def cancel(self, paths: Iterable[str]) -> None:
        """The results of these are no longer wanted."""
        for path in list(paths):
            delivery = self.at_work.pop(path)
            delivery.branch.deliveries.pop(path, None)
            self._cancelled[path] = None
            if path != self.current:
                self._cancelling.append(path)

    def hand_over(self) -> Commands:
        """What was decided since the last time."""
        commands = Commands(self._starting, self._cancelling)
        self._starting, self._cancelling = [], []
        self.current = ""
        return commands
