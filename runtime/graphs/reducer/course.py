"""The plan of a graph as its runs go by it: what every step needs to know of an edge, looked up once for all runs."""

from __future__ import annotations

from typing import final

import attrs

from actors.graphs.edges import Receiver
from actors.graphs.finish import Finish
from actors.graphs.markers import Gather
from actors.graphs.node import NodeSpec
from actors.graphs.plan import Plan
from runtime.graphs.reducer.joins import Joins


@final
@attrs.frozen(eq=False)
class Leg:
    """One way of a message: from the node that made it to one parameter of a node."""

    receiver: Receiver
    spec: NodeSpec
    """The node that takes it."""
    gather: Gather | None
    """How it is gathered, for a ``list[A]`` parameter."""
    starts: bool
    """It starts the node by itself: there is nothing to join it with or to gather."""
    held: bool
    """It goes to a join, so it waits for what was begun before it at the same node."""
    rounds: int
    """1 where a loop comes round, else 0."""
    merges: bool
    """Several concurrent ways of one run meet at the node."""
    back: bool
    """The edge lies on a cycle."""


@final
@attrs.frozen(eq=False)
class Track:
    """Where one message goes."""

    legs: tuple[Leg, ...]
    is_output: bool
    """It is of the output type, and may end the run."""


NOWHERE = Track((), is_output=False)


@final
class Course:
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
        self.has_needs = any(spec.all_needs for spec in plan.nodes.values())
        """Whether any node has dependencies."""
        self._legs: dict[tuple[str | None, Receiver], Leg] = {}
        self._tracks: dict[tuple[str | None, type], Track] = {}

    def track(self, source: str | None, message: object) -> Track:
        """Where `message`, made by `source` (None: the graph's input), goes. Calls the ``when`` of its connections."""
        key = (source, type(message))
        known = self._tracks.get(key)
        if known is not None:
            return known
        route = self.plan.route(source, message)
        track = Track(tuple(self._leg(source, receiver) for receiver in route.receivers), route.is_output)
        if not self.plan.is_conditional(*key):
            self._tracks[key] = track
        return track

    def _leg(self, source: str | None, receiver: Receiver) -> Leg:
        known = self._legs.get((source, receiver))
        if known is None:
            known = self._legs[source, receiver] = self._make_leg(source, receiver)
        return known

    def _make_leg(self, source: str | None, receiver: Receiver) -> Leg:
        plan, spec = self.plan, self.plan.nodes[receiver.node]
        gather = next(entry.gather for entry in spec.inputs if entry.name == receiver.parameter)
        return Leg(
            receiver=receiver,
            spec=spec,
            gather=gather,
            starts=gather is None and not spec.is_join,
            held=gather is None and spec.is_join and source in self.feeds_joins,
            rounds=int((source, receiver.node) in plan.returning),
            merges=receiver.node in plan.merges,
            back=plan.is_back(source, receiver.node),
        )
