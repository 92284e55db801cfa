"""Runs a graph's functions against the reducer alone, in any order of completion: an engine without time."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs

from actors.graphs.annotations import Many
from actors.graphs.graph import Graph
from runtime.graphs.reducer.branches import Delivery
from runtime.graphs.reducer.deliveries import Commands
from runtime.graphs.reducer.routing import RoutingTable
from runtime.graphs.reducer.state import RunState

Choose = Callable[[Sequence[str]], str]


def oldest(paths: Sequence[str]) -> str:
    return paths[0]


def newest(paths: Sequence[str]) -> str:
    return paths[-1]


def by_chance(seed: int) -> Choose:
    return random.Random(seed).choice


def prefer(*nodes: str) -> Choose:
    """End deliveries at these nodes first, then the oldest."""

    def choose(paths: Sequence[str]) -> str:
        return min(paths, key=lambda path: next((i for i, node in enumerate(nodes) if f"/{node}/" in path), len(nodes)))

    return choose


@attrs.frozen
class Delivered:
    """What the reducer said of a delivery when it began: two runs with the same results have equal ones."""

    node: str
    path: str
    arguments: Mapping[str, object]
    back_edge: bool
    branch: tuple[int, ...] = ()
    recalled: Mapping[str, object] = attrs.field(factory=dict)

    @staticmethod
    def of(delivery: Delivery) -> Delivered:
        return Delivered(
            delivery.node, delivery.path, delivery.arguments, delivery.back_edge, delivery.branch.indices, delivery.recalled
        )


@attrs.define
class Driven:
    state: RunState
    deliveries: dict[str, Delivered] = attrs.field(factory=dict)
    cancelled: list[str] = attrs.field(factory=list)
    waiting: dict[str, Any] = attrs.field(factory=dict)

    @property
    def paths(self) -> list[str]:
        return list(self.deliveries)

    @property
    def output(self) -> Any:
        return self.state.output

    def obey(self, commands: Commands) -> None:
        for path in commands.cancelled:
            self.cancelled.append(path)
            self.waiting.pop(path, None)
        for delivery in commands.deliveries:
            assert delivery.path not in self.deliveries, "paths are unique"
            self.deliveries[delivery.path] = Delivered.of(delivery)
            if delivery.path not in commands.cancelled:
                self.waiting[delivery.path] = None

    def step(self, path: str) -> None:
        """Let one delivery do its next thing: emit an item, or end."""
        delivery = self.deliveries[path]
        spec, arguments = self.state.plan.nodes[delivery.node], {**delivery.arguments, **delivery.recalled}
        if spec.fan_out is Many.STREAM:
            stream, index = self.waiting[path] or (spec.function(**arguments), 0)
            try:
                stream.__anext__().send(None)
            except StopIteration as item:
                self.waiting[path] = (stream, index + 1)
                self.obey(self.state.emitted(path, item.value, index))
                return
            except StopAsyncIteration:
                pass
            returned = None
        else:
            returned = call(spec.function, **arguments)
        del self.waiting[path]
        self.obey(self.state.finished(path, returned))


def call(function: Callable[..., Any], **arguments: Any) -> Any:
    coroutine = function(**arguments)
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("nodes in these tests do not wait")


def begin(graph: Graph, message: object) -> Driven:
    driven = Driven(RunState(RoutingTable(graph.plan()), "run-1"))
    driven.obey(driven.state.start(message))
    return driven


def drive(graph: Graph, message: object, choose: Choose = oldest, most: int = 10_000) -> Driven:
    """Run to the end."""
    driven = begin(graph, message)
    while driven.waiting:
        assert driven.state.steps < most, "the run does not end"
        driven.step(choose(list(driven.waiting)))
    assert driven.state.is_at_rest
    return driven
