"""Everything that can be wrong with a graph as a whole; for one node alone see ``actors.graphs.signature``. Pure.

Each finder yields problems; none stops at the first. Where a node could not be read, nothing is claimed that its missing
annotation could contradict.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import final

from actors.errors import Problem
from actors.graphs.added_nodes import has_agents
from actors.graphs.annotations import Many
from actors.graphs.edges import Edge, Receiver, related
from actors.graphs.effects import Effect
from actors.graphs.node import Input, Kind, Nested, NodeSpec
from actors.graphs.plan import Plan
from actors.graphs.signature import Resolved
from actors.words import listed, type_names

FURTHER_CHECKS: list[Callable[[NodeSpec], Iterable[Problem]]] = []
"""What else code that runs graphs can have checked in each node: pure, and without loading more than a node needs."""


def find_further(plan: Plan) -> list[Problem]:
    """What the further checks find."""
    return [problem for spec in plan.nodes.values() for check in FURTHER_CHECKS for problem in check(spec)]


def find_problems(plan: Plan, resolved: Mapping[str, Resolved]) -> list[Problem]:
    """All problems: first those of each node, in the order of declaration, then those of the whole."""
    problems = [problem for entry in resolved.values() for problem in entry.problems]
    knows_inputs = all(entry.knows_inputs for entry in resolved.values())
    knows_outputs = all(entry.knows_outputs for entry in resolved.values())
    if knows_inputs:
        problems += _not_taken(plan)
    if knows_outputs:
        problems += _not_made(plan)
    if knows_inputs and knows_outputs:
        problems += _unreachable(plan)
        problems += _same_type_twice(plan)
        problems += _impossible_joins(plan)
        problems += _gathers(plan)
        problems += _endless_loops(plan)
        problems += _recalls(plan)
    problems += _dependency_inputs(plan)
    problems += _ambiguous_outputs(plan)
    problems += _idle_connections(plan)
    problems += _done_twice(plan)
    return problems


def _at(spec: NodeSpec, code: str, text: str, fix: str) -> Problem:
    return Problem(code, spec.name, text, fix, spec.location)


def _in_the_flow(plan: Plan) -> list[NodeSpec]:
    """The nodes that messages come to."""
    return [spec for spec in plan.nodes.values() if not spec.is_on_demand]


def _not_taken(plan: Plan) -> Iterator[Problem]:
    for kind in plan.input_types:
        if not any(related(kind, (edge.type,)) for edge in plan.out_of(None)):
            yield Problem(
                "input-not-taken",
                None,
                f"no node takes the graph's input {kind.__name__}.",
                f"give a node a parameter annotated with {kind.__name__}.",
            )
    for kind in plan.steering if not has_agents(plan.nodes.values()) else ():
        yield Problem(
            "signal-not-taken",
            None,
            f"no node takes the graph's signal {kind.__name__}, and it has no agent to hear it.",
            f"give a node a parameter annotated with {kind.__name__}, or tools=[…].",
        )
    for spec in _in_the_flow(plan):
        for kind in spec.outputs:
            if not any(related(kind, (edge.type,)) for edge in plan.out_of(spec.name)):
                yield _at(
                    spec,
                    "type-not-taken",
                    f"it makes {kind.__name__}, which no node takes; the output is {type_names(plan.output_types)}.",
                    f"give a node a parameter annotated with {kind.__name__}, or return None where this branch ends.",
                )


def _not_made(plan: Plan) -> Iterator[Problem]:
    made = [kind for spec in plan.nodes.values() for kind in spec.outputs]
    for kind in plan.output_types:
        if not any(edge.target is None and related(edge.type, (kind,)) for edge in plan.edges):
            yield Problem(
                "output-not-made",
                None,
                f"no node makes the graph's output {kind.__name__}." + _namesake(kind, made),
                f"return {kind.__name__} from a node that does not send it elsewhere.",
            )
    for spec in _in_the_flow(plan):
        for entry in spec.inputs:
            edges = plan.into(spec.name, entry.name)
            for kind in entry.types:
                if not any(related(edge.type, (kind,)) for edge in edges):
                    yield _at(
                        spec,
                        "type-not-made",
                        f"parameter {entry.name!r} takes {kind.__name__}, which no node sends it." + _namesake(kind, made),
                        _how_to_get(plan, kind),
                    )


def _how_to_get(plan: Plan, kind: type) -> str:
    for spec in plan.nodes.values():
        if spec.is_on_demand and any(related(made, (kind,)) for made in spec.outputs):
            annotation = f"Annotated[{kind.__name__}, Dep({spec.name})]"
            return f"{spec.name!r} makes it only for those that depend on it: write {annotation} here too."
    return f"return {kind.__name__} from a node, or make it the graph's input."


def _namesake(kind: type, made: Sequence[type]) -> str:
    for other in made:
        if other is not kind and other.__name__ == kind.__name__:
            return f" (A {other.__module__}.{other.__qualname__} is made, which is another class of that name.)"
    return ""


def _unreachable(plan: Plan) -> Iterator[Problem]:
    outside = {receiver for receiver, _ in plan.nesting.outside}  # a separate problem
    for spec in _in_the_flow(plan):
        if plan.nesting.levels[spec.name] or not spec.inputs:
            continue
        missing = [entry for entry in spec.inputs if not plan.nesting.arriving[Receiver(spec.name, entry.name)]]
        if any(Receiver(spec.name, entry.name) in outside for entry in missing):
            continue
        if not missing:
            levels = [
                f"{entry.name!r} from the items of {listed(plan.nesting.arriving[Receiver(spec.name, entry.name)], 'or')}"
                for entry in spec.inputs
            ]
            yield _at(
                spec,
                "join-across-fan-outs",
                f"it would join {' with '.join(levels)}, and these fan-outs do not lie one within the other.",
                "gather one of them first: annotate that parameter with list[…].",
            )
        elif all(plan.into(spec.name, entry.name) for entry in spec.inputs):
            makers = dict.fromkeys(edge.source for entry in missing for edge in plan.into(spec.name, entry.name))
            yield _at(
                spec,
                "unreachable-node",
                f"no message ever starts it: {type_names(k for e in missing for k in e.types)} is made only by {listed(makers)}, "
                "which the graph's input does not reach.",
                f"let a node that is reached make it, or remove {spec.name!r}.",
            )


def _same_type_twice(plan: Plan) -> Iterator[Problem]:
    """Parameters of one node that one message goes to both of."""
    for spec in _in_the_flow(plan):
        for one, two in itertools.combinations(spec.inputs, 2):
            both = [
                (a, b)
                for a in plan.into(spec.name, one.name)
                for b in plan.into(spec.name, two.name)
                if a.source == b.source
                and not (a.named and b.named)
                and (related(a.type, (b.type,)) or related(b.type, (a.type,)))
            ]
            if both:
                yield _told_apart(plan, spec, one, two, both)


def _told_apart(plan: Plan, spec: NodeSpec, one: Input, two: Input, both: Sequence[tuple[Edge, Edge]]) -> Problem:
    makers = list(dict.fromkeys(a.source for a, _ in both))
    a, b = both[0]
    kind = a.type if issubclass(a.type, b.type) else b.type
    named = [maker for maker in makers if maker is not None]
    if named:
        first, second = named[0], named[-1] if len(named) > 1 else "…"
        fix = (
            f"declare which is for which: graph.connect({first}, {spec.name}, parameter={one.name!r}) and "
            f"graph.connect({second}, {spec.name}, parameter={two.name!r}); "
        )
    else:
        fix = f"let a node make a separate type for {two.name!r} and take that; "
    whose = f"{listed(named, 'or')} makes" if named else "the graph's input brings"
    return _at(
        spec,
        "same-type-twice",
        f"one {kind.__name__} goes to both {one.name!r} and {two.name!r}: each that {whose} would be joined with itself.",
        f"{fix}or let one node return them as list[{kind.__name__}], and take list[{kind.__name__}] in one parameter.",
    )


def _impossible_joins(plan: Plan) -> Iterator[Problem]:
    ways = _Ways(plan)
    for spec in plan.nodes.values():
        needed = [entry for entry in spec.inputs if not entry.optional]
        if len(needed) < 2 or not plan.nesting.levels[spec.name]:
            continue
        for one, two in itertools.combinations(needed, 2):
            if not ways.can_both_arrive(Receiver(spec.name, one.name), Receiver(spec.name, two.name)):
                yield _at(
                    spec,
                    "join-cannot-complete",
                    f"it waits for {one.name!r} ({type_names(one.types)}) and {two.name!r} ({type_names(two.types)}), "
                    "which are alternatives: a run makes one or the other.",
                    f"make one optional ({two.name}: {type_names(two.types)} | None), or take either in one parameter "
                    f"({one.name}: {type_names((*one.types, *two.types))}).",
                )


@final
class _Ways:
    """Where the ways of one message part. Sets are bits, since every join is compared with every parting."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._parting: list[tuple[int, list[tuple[Receiver, type, int]]]] = []
        """For each source of several: all that it leads to, and its ends, each with what that leads to."""
        for source in (None, *plan.nodes):
            edges = [(Receiver(e.target, e.parameter), e.type) for e in plan.out_of(source) if e.target and e.parameter]
            if len({receiver for receiver, _ in edges}) > 1:
                ends = [(receiver, kind, plan.within_reach(receiver)) for receiver, kind in edges]
                every = 0
                for _, _, reach in ends:
                    every |= reach
                self._parting.append((every, ends))

    def can_both_arrive(self, one: Receiver, two: Receiver) -> bool:
        """Whether some message splits into ways to both; what a cycle makes one after the other counts too."""
        plan = self._plan
        if one in plan.signalled or two in plan.signalled:
            return True  # it comes on its own, whenever it is sent
        first, second = plan.bit_of(one), plan.bit_of(two)
        both = first | second
        for reach, ends in reversed(self._parting):  # mostly they part where the last of them did
            if reach & both == both and any(
                a != b and here & first and there & second and (related(s, (t,)) or related(t, (s,)))
                for a, s, here in ends
                for b, t, there in ends
            ):
                return True
        for group in plan.components:
            if any(plan.reaches(node, one) and plan.reaches(node, two) for node in group):
                return True
        return any(
            plan.within_reach(a) & first and plan.within_reach(b) & second
            for gathered in plan.gathers.values()
            for a, b in itertools.permutations(gathered, 2)
        )


def _gathers(plan: Plan) -> Iterator[Problem]:
    fans_out = any(spec.fan_out is not Many.ONE for spec in plan.nodes.values())
    for receiver, source in plan.nesting.outside:
        spec = plan.nodes[receiver.node]
        maker = f"{source!r} makes outside of any fan-out" if source else "is the graph's input"
        yield _at(
            spec,
            "gather-without-fan-out",
            f"parameter {receiver.parameter!r} gathers a list, but gets messages that {maker}"
            + ("." if fans_out else " (no node of the graph returns a list or a stream)."),
            "let a node return list[…] to fan out, or take the message itself instead of a list.",
        )
    by_receiver: dict[Receiver, list[str]] = {}
    for fan_out, receivers in plan.gathers.items():
        for receiver in receivers:
            by_receiver.setdefault(receiver, []).append(fan_out)
    for receiver, fan_outs in by_receiver.items():
        for outer, inner in itertools.permutations(fan_outs, 2):
            if plan.nesting.encloses(outer, inner):
                yield _at(
                    plan.nodes[receiver.node],
                    "gather-ambiguous",
                    f"parameter {receiver.parameter!r} gathers from {outer!r} and from {inner!r}, which runs inside of it.",
                    f"give what is made inside of {inner!r} its own type.",
                )


def _endless_loops(plan: Plan) -> Iterator[Problem]:
    for group in plan.components:
        members = set[str | None](group)
        leaving = any(e.target not in members or e.conditional for member in group for e in plan.out_of(member))
        ending = any(plan.nodes[node].may_end or plan.nodes[node].fan_out is not Many.ONE for node in group)
        if leaving or ending or not all(plan.nesting.levels[node] for node in group):
            continue
        cycle = sorted(group, key=plan.order.__getitem__)
        yield _at(
            plan.nodes[cycle[0]],
            "endless-loop",
            f"the cycle of {listed(cycle)} has no way out." if len(group) > 1 else "it sends to itself and has no way out.",
            f"let one of its nodes return None or {type_names(plan.output_types)} as well.",
        )


def _ambiguous_outputs(plan: Plan) -> Iterator[Problem]:
    ends = [edge for edge in plan.edges if edge.target is None and not edge.conditional]
    clashes: dict[tuple[str, type], dict[str, None]] = {}
    for end in ends:
        assert end.source is not None
        takers = [e for e in plan.out_of(end.source) if e.target and related(e.type, (end.type,))]
        for edge in takers:
            clashes.setdefault((edge.target or "", end.type), {})[end.source] = None
        if end.fans_out and not takers:
            yield _at(
                plan.nodes[end.source],
                "ambiguous-output",
                f"it fans out the output: the run would end with whichever {end.type.__name__} came first.",
                f"return one {end.type.__name__} that holds the list, or gather the items in a node that returns the output.",
            )
    for (taker, kind), makers in clashes.items():
        maker = next(iter(makers))
        yield _at(
            plan.nodes[taker],
            "ambiguous-output",
            f"it takes {kind.__name__}, which is also the output: a run ends with its first {kind.__name__}, so {taker!r} would "
            f"never get the one that {listed(makers, 'or')} makes.",
            f"give one of them its own type, or connect it explicitly: graph.connect({maker}, {taker}).",
        )


def _recalls(plan: Plan) -> Iterator[Problem]:
    for spec in _in_the_flow(plan):
        receivers = [Receiver(spec.name, entry.name) for entry in spec.inputs]
        for entry in spec.recalls:
            taken = [e.target for e in plan.edges if e.target and any(related(e.type, (kind,)) for kind in entry.types)]
            if not any(plan.reaches(taker, receiver) for taker in taken for receiver in receivers):
                kinds = type_names(entry.types)
                yield _at(
                    spec,
                    "recall-never-made",
                    f"parameter {entry.name!r} recalls {kinds}, and no node on the way to {spec.name!r} takes one.",
                    f"take {kinds} as a message instead, or recall a type that comes by on the way.",
                )


def _dependency_inputs(plan: Plan) -> Iterator[Problem]:
    found: dict[tuple[str, str], Problem] = {}
    for spec in plan.nodes.values():
        for need in spec.all_needs:
            for parameter, kinds in need.inputs.items():
                if kinds and not all(issubclass(kind, kinds) for kind in plan.input_types):
                    found[need.name, parameter] = Problem(
                        "dep-input",
                        spec.name,
                        f"its dependency {need.name} ({need.location}) takes {type_names(kinds)} in {parameter!r}; a run begins "
                        f"with {type_names(plan.input_types)}.",
                        f"give it Annotated[T, Dep(function)] or a parameter that takes {type_names(plan.input_types)}.",
                        spec.location,
                    )
    yield from found.values()


def _idle_connections(plan: Plan) -> Iterator[Problem]:
    for connection in plan.connections:
        source, target = plan.nodes[connection.source], plan.nodes[connection.target]
        named = connection.parameter
        if named is not None and named not in {entry.name for entry in target.inputs}:
            taken = listed(entry.name for entry in target.inputs)
            yield Problem(
                "connect-unknown-parameter",
                connection.source,
                f"connect({connection.source}, {connection.target}, parameter={named!r}) at {connection.location}: "
                f"{connection.target!r} takes messages in {taken}.",
                "name one of these.",
                connection.location,
            )
            continue
        ends = (edge for edge in plan.out_of(connection.source) if edge.target is not None and edge.parameter is not None)
        if not any(connection.means(Receiver(edge.target or "", edge.parameter or "")) for edge in ends):
            taken = type_names(kind for entry in target.inputs if named in (None, entry.name) for kind in entry.types)
            where = f"{connection.target!r} takes" if named is None else f"{connection.target!r} takes in {named!r}"
            yield Problem(
                "connect-without-type",
                connection.source,
                f"connect({connection.source}, {connection.target}) has no effect: {where} {taken or 'nothing'}, and "
                f"{connection.source!r} makes {type_names(source.outputs) or 'nothing'}.",
                "connect nodes that share a type, or remove the line.",
                source.location,
            )


def _done_twice(plan: Plan) -> Iterator[Problem]:
    """Nodes that must not begin again after an error, in places where they would."""
    for spec in plan.nodes.values():
        if spec.is_on_demand and spec.options.effect is Effect.ONCE:
            yield _at(
                spec,
                "once-as-dependency",
                "it has effect=Effect.ONCE, and other nodes depend on it: a dependency that failed is computed again.",
                "let it take and return messages, as a node in front of those that need it.",
            )
        inner: Nested | None = spec.embedded if spec.kind is Kind.GRAPH else None
        if inner is not None and spec.options.redelivery.max_attempts > 1:
            for name, declaration in inner.nodes.items():
                if declaration.options.effect is Effect.ONCE:
                    yield _at(
                        spec,
                        "once-in-attempts",
                        f"it makes up to {spec.options.redelivery.max_attempts:g} attempts, each of them a run of "
                        f"{inner.name!r} from its start, whose node {name!r} has effect=Effect.ONCE.",
                        f"leave redelivery out here, and give it to other nodes of {inner.name!r}.",
                    )
