"""The routing table of a graph: where each message goes, and all that a step needs to know of the way. Pure.

One table serves all runs of a plan. A class of messages is looked up once; what depends on ``when`` is decided each time.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Sequence
from typing import Any, final

import attrs

from actors.errors import DeclarationError
from actors.graphs.annotations import Many
from actors.graphs.edges import Receiver
from actors.graphs.finish import Finish
from actors.graphs.markers import Gather
from actors.graphs.node import Input, NodeSpec
from actors.graphs.plan import Plan
from actors.words import add_note, repr_of
from runtime.graphs.reducer.joins import Joins

_When = tuple[Callable[[Any], bool], str]
"""The condition of a connection, and where the connection stands."""


@final
@attrs.frozen(eq=False)
class Destination:
    """One parameter of one node, as messages from one other node find it."""

    receiver: Receiver
    spec: NodeSpec
    """The node that takes them."""
    gather: Gather | None
    """How they are gathered, for a ``list[A]`` parameter."""
    starts: bool
    """One message alone starts the node: there is nothing to join it with or to gather."""
    held: bool
    """They go to a join, so each waits for what was begun before it at the same node."""
    rounds: int
    """1 where a loop begins again, else 0."""
    merges: bool
    """Several concurrent ways of one run meet at the node."""
    back: bool
    """The edge lies on a cycle."""


@final
@attrs.frozen(eq=False)
class Route:
    """Where one message goes."""

    destinations: tuple[Destination, ...]
    is_output: bool
    """It is of the output type, and may end the run."""
    is_conditional: bool = False
    """It depends on a ``when``: another message of its class may go elsewhere."""


NOWHERE = Route((), is_output=False)


@final
@attrs.frozen(eq=False)
class _Choice:
    """Where messages of one class from one node may go; its conditions decide which of it holds for a message."""

    entries: tuple[tuple[Destination, tuple[_When, ...]], ...]
    is_narrowed: bool
    """A connection applies: what goes to a node isn't an output then."""
    may_be_output: bool


@final
class RoutingTable:
    """One plan, for all its runs. It remembers what it was asked, and nothing of any run."""

    def __init__(self, plan: Plan, finish: Finish = Finish.FIRST_OUTPUT) -> None:
        self.plan = plan
        self.finish = finish
        self.joins = Joins(plan)
        self.feeds_joins = frozenset(e.source for e in plan.edges if e.target and not e.fans_out and plan.nodes[e.target].is_join)
        """Nodes whose messages go to joins in the branch in which they were made."""
        self.gathers_for_joins = frozenset(
            node for node, ends in plan.gathers.items() if any(plan.nodes[e.node].is_join for e in ends)
        )
        """Fan-outs of which a join takes what is gathered."""
        self.in_line = self.feeds_joins | self.gathers_for_joins
        """Nodes whose deliveries are waited for in the order of their start."""
        self._known: dict[tuple[str | None, type], Route | _Choice] = {}
        self.only_ways: dict[tuple[str, type], Destination] = {}
        """Node and class of what it made → its one destination, which takes nothing else; see ``RunState.finished``."""

    def route(self, source: str | None, message: object) -> Route:
        """Where `message`, made by `source` (None: the graph's input), goes. Calls the ``when`` of its connections."""
        key = (source, type(message))
        known = self._known.get(key)
        if isinstance(known, Route):
            return known
        choice = known or self._find(*key)
        route = self._choose(choice, source, message)
        self._known[key] = choice if route.is_conditional else route
        if source is not None and not route.is_conditional and self._has_one_way(source, route):
            self.only_ways[source, key[1]] = route.destinations[0]
        return route

    def _has_one_way(self, source: str, route: Route) -> bool:
        """Whether a message of its class starts one node on its own, and no join hangs on what either of the two makes."""
        if len(route.destinations) != 1 or route.is_output or self.plan.recalled:
            return False
        (to,) = route.destinations
        is_one = self.plan.nodes[source].fan_out is Many.ONE
        return is_one and to.starts and not to.merges and not {source, to.spec.name} & self.in_line

    def _choose(self, choice: _Choice, source: str | None, message: object) -> Route:
        found = [to for to, whens in choice.entries if not whens or _holds(whens, message, source, to.receiver.node)]
        if self.plan.alternatives:
            self._check_alternatives(source, message, [to.receiver.node for to in found])
        is_output = choice.may_be_output and not (choice.is_narrowed and found)
        return Route(tuple(found), is_output, any(whens for _, whens in choice.entries))

    def _check_alternatives(self, source: str | None, message: object, nodes: Sequence[str]) -> None:
        for one, two in itertools.combinations(dict.fromkeys(nodes), 2):
            if (source, *sorted((one, two))) in self.plan.alternatives:
                places = [c.location for c in self.plan.connections if c.source == source and c.target in (one, two)]
                raise DeclarationError(
                    f"both conditions of connect({source}, {one}, when=…) and connect({source}, {two}, when=…) "
                    f"({', '.join(places)}) hold for one {type(message).__name__}, and the result of a join hangs on only one of "
                    "them holding: it would depend on timing.\n"
                    "  Fix: let the conditions exclude each other, or give separate types to what the two ways lead to."
                )

    def _find(self, source: str | None, kind: type) -> _Choice:
        plan = self.plan
        found, decided = plan.takers.find(source, kind, _takes)
        entries: list[tuple[Destination, tuple[_When, ...]]] = []
        for receiver, entry in found:
            own = plan.takers.connections(source, receiver) if decided else []
            whens = () if any(c.when is None for c in own) else tuple((c.when, c.location) for c in own if c.when is not None)
            entries.append((self._destination(source, receiver, entry.gather), whens))
        return _Choice(tuple(entries), decided, source is not None and issubclass(kind, plan.output_types))

    def _destination(self, source: str | None, receiver: Receiver, gather: Gather | None) -> Destination:
        plan, spec = self.plan, self.plan.nodes[receiver.node]
        return Destination(
            receiver=receiver,
            spec=spec,
            gather=gather,
            starts=gather is None and not spec.is_join,
            held=gather is None and spec.is_join and source in self.feeds_joins,
            rounds=int((source, receiver.node) in plan.returning),
            merges=receiver.node in plan.merges,
            back=plan.is_back(source, receiver.node),
        )


def _takes(kind: type, entry: Input) -> bool:
    return entry.takes(kind)


def _holds(whens: Sequence[_When], message: object, source: str | None, target: str) -> bool:
    for when, location in whens:
        try:
            answer: Any = when(message)
            if answer is not True and answer is not False and inspect.isawaitable(answer):
                raise _not_awaited(answer)
            if answer:
                return True
        except BaseException as error:
            where = f"connect({source}, {target}) ({location})"
            add_note(error, f"raised by the when of {where}, which was asked about {repr_of(message)}")
            raise
    return False


def _not_awaited(answer: Any) -> DeclarationError:
    if inspect.iscoroutine(answer):
        answer.close()
    return DeclarationError(
        f"it returned a {type(answer).__name__}, which always counts as true: a condition cannot wait.\n"
        "  Fix: let it return True or False; what it has to wait for is the work of a node."
    )
