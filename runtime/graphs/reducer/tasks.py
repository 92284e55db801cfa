"""The tasks of one run that are at work: each has a path of its own, and is begun, ended or cancelled once."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import final

import attrs

from actors.errors import InternalError
from actors.graphs.node import NodeSpec
from runtime.graphs.reducer.routing import RoutingTable
from runtime.graphs.reducer.scopes import NO_MEMORY, NOTHING_RECALLED, Memory, Scope, Task


@final
@attrs.frozen
class Commands:
    """What the engine is to do after an event, in this order of priority: cancel, then deliver."""

    deliveries: Sequence[Task] = ()
    cancelled: Sequence[str] = ()
    """Paths of tasks whose results nobody wants any more; what they still report is ignored."""


@final
class Tasks:
    """What is at work, and what the engine has not been told yet."""

    def __init__(self, routing: RoutingTable, run_id: str) -> None:
        self._in_line = routing.feeds_joins | routing.gathers_for_joins
        self._run_id = run_id
        self.at_work: dict[str, Task] = {}
        """By path, in the order of their start."""
        self.begun = 0
        self.current = ""
        """The path of the task whose end is being worked on: it needs no cancelling."""
        self._cancelled: set[str] = set()
        self._deliveries: list[Task] = []
        self._cancelling: list[str] = []

    def find(self, path: str) -> Task | None:
        """The task at work; None for one that was cancelled, whose reports are ignored."""
        task = self.at_work.get(path)
        if task is None and path not in self._cancelled:
            raise InternalError(f"run {self._run_id!r} has no task {path!r}")
        return task

    def begin(
        self,
        scope: Scope,
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
        """Deliver a message, or a set of joined ones: from here on the task is at work."""
        node = spec.name
        path = f"{scope.prefix}/{node}@{way}/{iteration}" if way else f"{scope.prefix}/{node}/{iteration}"
        again = scope.paths[path] = scope.paths.get(path, 0) + 1
        if again > 1:
            path = f"{path}~{again}"
            way = f"{way}.{node}~{again}" if way else f"{node}~{again}"  # what it leads to is not that of the first
        task = Task(path, node, scope, iteration, way, arguments, back, depth + 1, memory, recalled)
        self.at_work[path] = scope.tasks[path] = task
        scope.enter(node)
        if node in self._in_line:
            scope.started.setdefault(node, deque()).append(task)
        self.begun += 1
        self._deliveries.append(task)

    def end(self, task: Task) -> bool:
        """The task is no longer at work; False when it was cancelled before."""
        if self.at_work.pop(task.path, None) is None:
            self._cancelled.discard(task.path)
            return False
        scope = task.scope
        scope.tasks.pop(task.path, None)
        if scope.fork is not None:
            scope.fork.is_taken = True
        task.is_done = True
        return True

    def cancel(self, paths: Iterable[str]) -> None:
        """Nobody wants the results of these any more."""
        for path in list(paths):
            task = self.at_work.pop(path)
            task.scope.tasks.pop(path, None)
            self._cancelled.add(path)
            if path != self.current:
                self._cancelling.append(path)

    def hand_over(self) -> Commands:
        """What was decided since the last time."""
        commands = Commands(self._deliveries, self._cancelling)
        self._deliveries, self._cancelling = [], []
        self.current = ""
        return commands
