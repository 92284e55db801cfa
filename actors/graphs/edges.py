"""The edges of a graph: who makes which type, who takes it, and what ``connect`` changes. Pure.

Two rules. A parameter annotated with T takes instances of T and of its subclasses. A node's message goes to every parameter
that takes it, unless the node is connected to one that does: then it goes only where the node is connected to.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, cast, final

import attrs

from actors.graphs.node import Input, NodeSpec


@final
@attrs.frozen(cache_hash=True)
class Receiver:
    """One parameter of one node, as the end of an edge."""

    node: str
    parameter: str


@final
@attrs.frozen
class Connection:
    """One ``graph.connect(source, target, when=…)``."""

    source: str
    target: str
    when: Callable[[Any], bool] | None = None
    parameter: str | None = None
    """The one parameter of `target` that is meant; None: any that takes the message."""
    location: str = ""
    """``file.py:line`` of the call."""

    def means(self, receiver: Receiver) -> bool:
        """Whether `receiver` is what it leads to."""
        return self.target == receiver.node and self.parameter in (None, receiver.parameter)


@final
@attrs.frozen
class Edge:
    """Messages of one type from one node to one parameter of another."""

    source: str | None
    """The node that makes them; None: the graph's input."""
    type: type
    target: str | None
    """The node that takes them; None: they are the graph's output."""
    parameter: str | None = None
    gathers: bool = False
    """They end in a ``list[A]`` parameter."""
    fans_out: bool = False
    """They are the items of a fan-out."""
    conditional: bool = False
    """``connect(…, when=…)`` decides."""
    named: bool = False
    """Set by ``connect(…, parameter=…)``."""
    back: bool = False
    """It lies on a cycle: messages along it queue and never block the sender."""


@final
class Takers:
    """Which parameters take what, by type and by connection: no pair of nodes has to be compared for it."""

    def __init__(self, specs: Mapping[str, NodeSpec], connections: Sequence[Connection]) -> None:
        self._all = [
            (Receiver(spec.name, entry.name), entry) for spec in specs.values() if not spec.is_on_demand for entry in spec.inputs
        ]
        """In the order in which nodes and parameters were declared."""
        self._taking: dict[type, list[int]] = {}
        """Type → the places in `_all` of the parameters that name it."""
        self._below: dict[type, list[int]] = {}
        """Type → those of the parameters that name a subclass of it."""
        self._unsure: dict[int, None] = {}
        """Those whose type decides itself what counts as a subclass of it: they are always asked."""
        self._of_node: dict[str, list[int]] = {}
        for place, (receiver, entry) in enumerate(self._all):
            self._of_node.setdefault(receiver.node, []).append(place)
            for kind in entry.types:
                self._taking.setdefault(kind, []).append(place)
                if not _is_plain(kind):
                    self._unsure[place] = None
                for base in kind.__mro__:
                    self._below.setdefault(base, []).append(place)
        self._connections: dict[str | None, list[Connection]] = {}
        for connection in connections:
            self._connections.setdefault(connection.source, []).append(connection)

    def connections(self, source: str | None, receiver: Receiver) -> list[Connection]:
        """The connections that lead from `source` to `receiver`."""
        return [connection for connection in self._connections.get(source, ()) if connection.means(receiver)]

    def find(
        self, source: str | None, kind: type, fits: Callable[[type, Input], bool]
    ) -> tuple[list[tuple[Receiver, Input]], bool]:
        """What takes a message of class `kind` from `source`, in the order of declaration, and whether a connection decided it.

        A node's message goes to every parameter that `fits`, unless the node is connected to one that does: then it goes only
        where it is connected to.
        """
        own = self._connections.get(source, ())
        connected = {place for each in own for place in self._of_node.get(each.target, ()) if each.means(self._all[place][0])}
        found = [self._all[place] for place in sorted(connected) if fits(kind, self._all[place][1])]
        if found:
            return found, True
        return [self._all[place] for place in self._near(kind) if fits(kind, self._all[place][1])], False

    def others(self, source: str | None, kind: type, fits: Callable[[type, Input], bool]) -> list[tuple[Receiver, Input]]:
        """What `fits`, and no connection leads to."""
        every = [self._all[place] for place in self._near(kind) if fits(kind, self._all[place][1])]
        return [(receiver, entry) for receiver, entry in every if not self.connections(source, receiver)]

    def _near(self, kind: type) -> list[int]:
        """Places of the parameters that may take `kind`, or a subclass of it."""
        if not _is_plain(kind):
            return list(range(len(self._all)))
        near = {*self._unsure, *self._below.get(kind, ())}
        for base in kind.__mro__:
            near.update(self._taking.get(base, ()))
        return sorted(near)


def _is_plain(kind: type) -> bool:
    """Whether the bases of classes alone decide what is a subclass of `kind`, as of nearly all message types."""
    check = type(kind).__subclasscheck__
    if check is type.__subclasscheck__:
        return True
    if check is not abc.ABCMeta.__subclasscheck__ or kind.__subclasshook__.__func__ is not object.__subclasshook__.__func__:  # type: ignore[attr-defined]
        return False
    return not any(virtual() is not None for virtual in cast("Any", abc)._get_dump(kind)[0])


def related(made: type, taken: tuple[type, ...]) -> type | None:
    """The type that can flow from a maker of `made` to a taker of `taken`, or None.

    That is `made` itself when it is taken; or the narrower taken type, since a maker of a base class may make a subclass.
    """
    if issubclass(made, taken):
        return made
    return next((kind for kind in taken if issubclass(kind, made)), None)


def _flowing(made: type, entry: Input) -> type | None:
    return None if issubclass(made, entry.excluded) else related(made, entry.types)


def _may_flow(made: type, entry: Input) -> bool:
    return _flowing(made, entry) is not None


def edges_of(
    specs: Mapping[str, NodeSpec], input_types: tuple[type, ...], output_types: tuple[type, ...], takers: Takers
) -> Iterator[Edge]:
    """All edges that messages can take, in declaration order; what comes from outside first: the graph's input and signals."""
    makers: list[tuple[str | None, tuple[type, ...]]] = [(None, input_types)]
    makers += [(spec.name, spec.outputs) for spec in specs.values() if not spec.is_on_demand]
    for source, outputs in makers:
        fans_out = source is not None and specs[source].fan_out.value != "one"
        for kind in outputs:
            yield from _edges_from(source, kind, fans_out, output_types, takers)


def _edges_from(source: str | None, kind: type, fans_out: bool, output_types: tuple[type, ...], takers: Takers) -> Iterator[Edge]:
    found, decided = takers.find(source, kind, _may_flow)
    always = False
    for receiver, entry in found:
        own = takers.connections(source, receiver) if decided else []
        conditional = decided and all(each.when is not None for each in own)
        named = decided and all(each.parameter is not None for each in own)
        always = always or (decided and not conditional)
        flowing = _flowing(kind, entry) or kind
        gathers = entry.gather is not None
        yield Edge(source, flowing, receiver.node, receiver.parameter, gathers, fans_out, conditional, named)
    if decided and not any(entry.takes(kind) for _, entry in found):
        # It is connected for some subclasses only: messages of others go where they would without a connection.
        for receiver, entry in takers.others(source, kind, _may_flow):
            flowing = _flowing(kind, entry) or kind
            yield Edge(source, flowing, receiver.node, receiver.parameter, entry.gather is not None, fans_out)
    output = related(kind, output_types)
    if source is not None and output is not None and not always:
        yield Edge(source, output, None, fans_out=fans_out, conditional=decided)


def overlap(one: type, two: type) -> bool:
    """Whether there is a class of messages that are of both types."""
    if related(one, (two,)) or related(two, (one,)):
        return True
    below, queue = {one}, [one]
    while queue:
        kinds: list[type] = type.__subclasses__(queue.pop())
        for kind in kinds:
            if issubclass(kind, two):
                return True
            if kind not in below:
                below.add(kind)
                queue.append(kind)
    return False
