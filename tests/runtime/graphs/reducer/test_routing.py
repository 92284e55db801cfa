"""Where messages go: by their class, by connections, and by what ``when`` says of each."""

# mypy: disable-error-code="empty-body"

from __future__ import annotations

import attrs

from actors.graphs.edges import Receiver
from actors.graphs.graph import Graph
from runtime.graphs.reducer.routing import Route, RoutingTable


@attrs.frozen
class Ask:
    n: int = 0


@attrs.frozen
class A:
    n: int = 0


@attrs.frozen
class B:
    n: int = 0


@attrs.frozen
class SubA(A):
    pass


@attrs.frozen
class Out:
    pass


def looping() -> Graph:
    graph = Graph("g", input=Ask, output=Out)

    @graph.node
    async def draft(ask: Ask) -> A:
        raise NotImplementedError

    @graph.node
    async def judge(a: A) -> B | Out:
        raise NotImplementedError

    @graph.node
    async def improve(b: B) -> SubA:
        raise NotImplementedError

    return graph


def receivers(route: Route) -> list[Receiver]:
    return [destination.receiver for destination in route.destinations]


def test_a_message_is_routed_by_its_class_and_its_bases():
    routing = RoutingTable(looping().plan())

    routes = [routing.route("improve", SubA()), routing.route("judge", Out()), routing.route("judge", Ask())]

    assert [receivers(route) for route in routes] == [[Receiver("judge", "a")], [], [Receiver("draft", "ask")]]
    assert [route.is_output for route in routes] == [False, True, False]


def test_connect_with_and_without_a_condition():
    graph = looping()

    @graph.node
    async def audit(a: A) -> None: ...

    graph.connect("draft", "judge")
    graph.connect("improve", "audit", when=lambda a: a.n > 1)
    routing = RoutingTable(graph.plan())

    assert receivers(routing.route("draft", A())) == [Receiver("judge", "a")]
    assert receivers(routing.route("improve", SubA(2))) == [Receiver("audit", "a")]
    assert receivers(routing.route("improve", SubA(1))) == []


def test_a_route_is_made_once_for_a_class_unless_conditions_decide():
    asked: list[A] = []
    graph = looping()

    def is_large(a: A) -> bool:
        asked.append(a)
        return a.n > 1

    graph.connect("draft", "judge", when=is_large)
    routing = RoutingTable(graph.plan())

    assert routing.route("improve", SubA(1)) is routing.route("improve", SubA(2))
    assert [bool(routing.route("draft", A(n)).destinations) for n in (1, 2, 1)] == [False, True, False]
    assert asked == [A(1), A(2), A(1)]
    assert routing.route("draft", A(1)).is_conditional
    assert not routing.route("improve", SubA(1)).is_conditional


def test_an_output_that_a_condition_sends_to_a_node_does_not_end_the_run():
    graph = looping()

    @graph.node
    async def look_again(out: Out) -> B:
        raise NotImplementedError

    wanted = True
    graph.connect("judge", "look_again", when=lambda _: wanted)
    routing = RoutingTable(graph.plan())

    assert not routing.route("judge", Out()).is_output
    wanted = False
    assert routing.route("judge", Out()).is_output
