"""Graphs and actors as nodes of a graph, and the types that are declared in calls."""

from __future__ import annotations

import types
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import attrs

from actors.actor import Actor, ActorRef
from actors.argument_checks import COROUTINE
from actors.errors import DeclarationError, Problem
from actors.factories import actor_class, check_factory
from actors.graphs.annotations import NameLookup, Shape, Unreadable, how_to_make_message, is_message_type, read
from actors.graphs.node import Embedded, Kind, Nested, NodeDeclaration, NodeSpec
from actors.graphs.tools import graphs_in
from actors.words import listed, repr_of


def embedded_in(what: Any, takes: object, returns: object, place: str, *, is_graph: bool) -> tuple[Embedded, str]:
    """What was added to a graph, and the name it has by default.

    Raises:
        DeclarationError: it is neither a graph nor an actor, or its types are not known.
    """
    if is_graph:
        if takes is not None or returns is not None:
            raise DeclarationError(
                f"add({what.name!r}) ({place}): a graph already declares what it takes and returns.\n"
                "  Fix: leave takes and returns out."
            )
        return Embedded(Kind.GRAPH, what, place, what.input_types, what.output_types), what.name
    is_ref, is_class = isinstance(what, ActorRef), actor_class(what) is not None
    if is_class or isinstance(what, (Actor, types.FunctionType, COROUTINE)):
        check_factory(what, (), "add", at=f" ({place})")
    if not is_class and not is_ref and (not callable(what) or isinstance(what, type)):
        raise DeclarationError(
            f"add({repr_of(what)}) ({place}): expected a Graph, an ActorRef, or a class derived from Actor.\n"
            "  Fix: functions and message classes are decorated with @graph.node."
        )
    address = str(getattr(what, "address" if is_ref else "__name__", ""))
    name = address.rpartition("/")[2]
    if takes is None and returns is None and is_class:
        return Embedded(Kind.ACTOR, what, place, None, None), name
    if takes is None or returns is None:
        raise DeclarationError(
            f"add({name}) ({place}): it is not known what the actor takes and returns.\n"
            "  Fix: add(…, takes=Question, returns=Answer)."
        )
    call, at = f"add({name}", f" ({place})"
    taken, returned = message_types(call, "takes", takes, at), message_types(call, "returns", returns, at)
    return Embedded(Kind.ACTOR, what, place, taken, returned), name


def leads_to(graph: Nested, goal: Nested) -> bool:
    """Whether `goal` is `graph` or is run within it."""
    seen: dict[int, Nested] = {}
    queue: list[Nested] = [graph]
    while queue:
        at = queue.pop()
        if at is goal:
            return True
        if id(at) not in seen:
            seen[id(at)] = at
            inner = [declaration.embedded for declaration in at.nodes.values() if declaration.kind is Kind.GRAPH]
            queue.extend(embedded.what for embedded in inner if embedded is not None)
            queue.extend(graph for declaration in at.nodes.values() for graph in graphs_in(declaration.tools))
    return False


def has_agents(nodes: Iterable[NodeDeclaration | NodeSpec]) -> bool:
    """Whether any of `nodes`, or of the graphs among them, has a language model that may call tools."""
    seen: set[int] = set()  # a graph may wrongly be within itself
    queue: list[NodeDeclaration | NodeSpec] = list(nodes)
    while queue:
        node = queue.pop()
        if node.predict is not None and node.predict.tools:
            return True
        inner: Any = node.embedded.what if isinstance(node.embedded, Embedded) else node.embedded
        if node.kind is Kind.GRAPH and id(inner) not in seen:
            seen.add(id(inner))
            queue.extend(inner.nodes.values())
    return False


def nested_hints(nodes: Mapping[str, NodeDeclaration]) -> Iterator[Problem]:
    """The hints of the graphs among `nodes`, each under the name of its node."""
    for name, declaration in nodes.items():
        if declaration.kind is Kind.GRAPH and declaration.embedded is not None:
            inner: Nested = declaration.embedded.what
            for hint in inner.hints():
                yield attrs.evolve(hint, node=name if hint.node is None else f"{name}/{hint.node}")


def nested_problems(outer: Nested, nodes: Mapping[str, NodeDeclaration]) -> Iterator[Problem]:
    """The problems of the graphs that are nodes of `outer`, or tools of its nodes."""
    for name, declaration in nodes.items():
        is_graph = declaration.kind is Kind.GRAPH and declaration.embedded is not None
        inner_graphs: list[Nested] = [declaration.embedded.what] if is_graph and declaration.embedded is not None else []
        for inner in (*inner_graphs, *graphs_in(declaration.tools)):
            yield from _problems_of(inner, outer, name, declaration)


def _problems_of(inner: Nested, outer: Nested, name: str, declaration: NodeDeclaration) -> Iterator[Problem]:
    if leads_to(inner, outer):
        yield Problem(
            "graph-in-itself",
            name,
            f"the graph {inner.name!r} runs {outer.name!r} as a node, directly or through others, without end.",
            "loop within one graph: let a node return a type that an earlier node takes.",
            declaration.location,
        )
        return
    lacking = [kind.__name__ for kind in inner.signal_types if not issubclass(kind, outer.signal_types)]
    if lacking or (inner.signal_types and not has_agents(inner.nodes.values())):
        yield Problem(
            "nested-signals",
            name,
            f"the graph {inner.name!r} declares signals, and as a node it never gets one: they go to the outermost run.",
            f"declare {listed(lacking, 'and')} for this graph too for agents to hear them: Graph({outer.name!r}, …, signals=…)."
            if lacking and has_agents(inner.nodes.values())
            else "let this graph take the signal, and pass it on with the message that the nested graph takes.",
            declaration.location,
        )
    for problem in inner.check():
        yield attrs.evolve(problem, node=name if problem.node is None else f"{name}/{problem.node}")


def message_types(call: str, role: str, annotation: object, at: str = "") -> tuple[type, ...]:
    """The message types that an argument of a call names, one or a union; `call` is how that call begins, `at` where it is.

    Raises:
        DeclarationError: it names something else.
    """
    if isinstance(annotation, str):
        raise DeclarationError(f"{call}, {role}={annotation!r}){at}: expected the class itself.\n  Fix: {role}={annotation}.")
    try:
        shape = read(annotation, NameLookup({}))
    except Unreadable as error:
        raise DeclarationError(f"{call}, {role}=…){at}: {error.text}\n  Fix: {error.fix}") from None
    wrong = [kind for kind in shape.types if not is_message_type(kind)]
    if shape != Shape(shape.types) or not shape.types or wrong:
        got = annotation.__name__ if isinstance(annotation, type) else annotation
        fix = "put @attrs.frozen on a class with its fields and pass that class."
        if wrong and wrong[0].__module__ != "builtins":
            fix = how_to_make_message(wrong[0])
        raise DeclarationError(
            f"{call}, {role}={got}){at}: expected a message type (attrs class, dataclass or pydantic model) or a union of "
            f"them.\n  Fix: {fix}"
        )
    return shape.types
