"""Where the result of a graph would depend on timing without its author having asked for that. Pure.

A join pairs what comes for one parameter with what comes for the others, first with first. So what comes for each must come in
an order that no clock decides; or in the very same order for all of them, whichever that is. What is looked at is what *must*
happen: that a node may make what two parameters take does not mean that it does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import final

from actors.errors import Problem
from actors.graphs.branch_order import ONE, SETTLED, DeclaredBranch, Order, Pair, SentValues
from actors.graphs.edges import Receiver
from actors.graphs.mixed_levels import MixedLevels
from actors.graphs.nesting import Level
from actors.graphs.node import Input, NodeSpec
from actors.graphs.plan import Plan
from actors.words import listed, type_names


def find_races(plan: Plan) -> list[Problem]:
    """The parameters of joins of which the clock would decide what is paired with what.

    Two conditions on what one node makes are taken to be alternatives where a join would else depend on timing:
    ``plan.alternatives`` then names the pairs, and the routing table of a run holds them to it.
    """
    joins = [spec for spec in plan.nodes.values() if spec.is_join and not spec.is_on_demand and plan.nesting.levels[spec.name]]
    if not joins:
        return []
    races = _Races(plan, joins, frozenset())
    found = races.found
    if found:
        assumed = _Races(plan, joins, None)
        if len(assumed.found) < len(found):
            found, plan.alternatives = assumed.found, _needed(plan, joins, assumed)
    problems = [_problem(spec, entry, racing) for spec, entry, racing in found]
    accused = {spec.name for spec, _, _ in found}
    mixed = MixedLevels(plan)
    problems += [
        _problem_within(spec, entry)
        for spec in joins
        for entry in spec.inputs
        if spec.name not in accused and mixed.is_race(spec, entry)
    ]
    return sorted(problems, key=lambda problem: plan.order[problem.node or ""])


def _needed(plan: Plan, joins: Sequence[NodeSpec], assumed: _Races) -> frozenset[Pair]:
    """Those of the assumptions without which a join would depend on timing."""
    needed = set(assumed.assumed)
    for pair in sorted(assumed.assumed, key=repr):
        without = needed - {pair}
        if len(_Races(plan, joins, frozenset(without)).found) == len(assumed.found):
            needed = without
    return frozenset(needed)


def _problem(spec: NodeSpec, entry: Input, racing: list[str | None]) -> Problem:
    kinds = type_names(entry.types)
    shown = f"list[{kinds}]" if entry.gather is not None else kinds
    others = f"it joins the {shown} in {entry.name!r} with its other inputs, and "
    if len(racing) == 1:
        text = f"{others}{racing[0]!r} may be at work on several messages at a time: which ends first depends on timing."
        fix = (
            f"join right behind the node that makes what {racing[0]!r} takes; or send on only one message; or let each carry a "
            "number, and bring them together by it."
        )
    else:
        text = f"{others}{listed(racing)} make one side by side: which comes first depends on timing."
        fix = f"give what each of them makes its own type; or send one elsewhere: graph.connect({racing[-1]}, …)" + (
            "."
            if entry.gather is not None
            else f"; or let one node return them all as list[{kinds}], and gather list[{kinds}] here."
        )
    return Problem("join-by-timing", spec.name, text, fix, spec.location)


def _problem_within(spec: NodeSpec, entry: Input) -> Problem:
    kinds = type_names(entry.types)
    shown = f"list[{kinds}]" if entry.gather is not None else kinds
    return Problem(
        "join-by-timing",
        spec.name,
        f"it joins the {shown} in {entry.name!r} with its other inputs, both in branches of a fan-out and outside of them: "
        "which one a branch takes depends on timing.",
        "give what is made outside of the fan-out its own type; or do the work of one branch in a separate graph: graph.add(…).",
        spec.location,
    )


@final
class _Races:
    """The joins of a plan that depend on timing, if the conditions in `allowed` (None: all) are alternatives."""

    def __init__(self, plan: Plan, joins: Sequence[NodeSpec], allowed: frozenset[Pair] | None) -> None:
        self._plan = plan
        self.assumed: set[Pair] = set()
        sent: dict[Level, list[SentValues]] = {}
        for level, each in _sendings(plan):
            sent.setdefault(level, []).append(each)
        self._branches = {
            level: DeclaredBranch(plan, level, sent.get(level, []), allowed, self.assumed) for level in _all_levels(plan)
        }
        self.found = [(spec, entry, racing) for spec in joins for entry, racing in self._of(spec)]

    def _of(self, spec: NodeSpec) -> Iterator[tuple[Input, list[str | None]]]:
        """The parameters of one join of which the order is the clock's."""
        nesting = self._plan.nesting
        for level in sorted(nesting.levels[spec.name], key=lambda level: level or ""):
            branch = self._branches[level]
            streams: dict[str, Order] = {}
            for entry in spec.inputs:
                receiver = Receiver(spec.name, entry.name)
                if receiver in branch.into:
                    streams[entry.name] = branch.stream(receiver)
                for outer in nesting.arriving[receiver] - {level}:  # from there each branch takes the first
                    around = self._branches.get(outer)
                    if around is not None and nesting.encloses(outer, level) and around.stream(receiver) not in SETTLED:
                        yield entry, around.racing(receiver)
                        return
            orders = set(streams.values())
            if len(streams) < 2 or orders <= set(SETTLED) or len(orders) == 1:
                continue  # in an order that no clock decides, or all of them in the same one
            yield from (
                (entry, branch.racing(Receiver(spec.name, entry.name)))
                for entry in spec.inputs
                if streams.get(entry.name, ONE) not in SETTLED
            )
            return


def _all_levels(plan: Plan) -> set[Level]:
    return {None, *plan.nesting.gathers, *(level for levels in plan.nesting.levels.values() for level in levels)}


def _sendings(plan: Plan) -> Iterator[tuple[Level, SentValues]]:
    """What is sent on each level."""
    levels = plan.nesting.levels
    for edge in plan.edges:
        if edge.target is None or edge.parameter is None or edge.gathers:
            continue
        target = Receiver(edge.target, edge.parameter)
        if edge.source is None:
            yield None, SentValues(None, edge.type, target, edge.conditional)
        elif edge.fans_out:
            yield edge.source, SentValues(None, edge.type, target, edge.conditional)
        else:
            for level in levels[edge.source]:
                yield level, SentValues(edge.source, edge.type, target, edge.conditional)
    for fan_out, ends in plan.gathers.items():
        for level in levels[fan_out]:
            for end in ends:
                yield level, SentValues(fan_out, list, end, is_gathered=True)
