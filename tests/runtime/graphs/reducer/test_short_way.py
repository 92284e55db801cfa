"""Most messages have one way on; the reducer takes that in one go, and must say what it says of them step by step."""

from __future__ import annotations

import random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from actors.errors import DeclarationError
from actors.graphs.graph import Graph
from runtime.graphs.reducer.deliveries import Commands, Deliveries
from runtime.graphs.reducer.routing import RoutingTable
from runtime.graphs.reducer.state import RunState
from tests.benchmarks.peers.ours_graph import Ping, circle, row
from tests.effort import counted_calls
from tests.runtime.graphs.driving import Delivered, call
from tests.runtime.graphs.reducer.test_state import (
    KINDS,
    M0,
    M1,
    M2,
    M3,
    M4,
    SHAPES,
    Out,
    add_node,
    compiled,
    random_graphs,
    random_pipelines,
)


@st.composite
def random_ways(draw):
    """A node for each type, so that most messages have one way: loops, branches; and now and then others, that join or gather."""
    graph = Graph("g", input=M0, output=Out)
    for index in range(draw(st.integers(5, 7))):
        inputs = [(KINDS[index % 5], "one")]
        if index >= 5:
            kinds = draw(st.lists(st.sampled_from(KINDS[:5]), min_size=1, max_size=2, unique=True))
            inputs = [(kind, draw(st.sampled_from(["one", "optional", "list"]))) for kind in kinds]
        out = draw(st.sampled_from([*KINDS[:5], *KINDS[:5], Out] if index else KINDS[1:5]))
        fan_out = draw(st.sampled_from([0] * 4 + [2, 3])) if out is not Out else 0
        lives = iter(range(draw(st.integers(2, 9))))

        def returns(*_arguments, out=out, fan_out=fan_out, lives=lives):
            if next(lives, None) is None:
                return None
            return [out(n) for n in range(fan_out)] if fan_out else out()

        add_node(graph, f"n{index}", inputs, SHAPES["list" if fan_out else "one"](out) | None, returns)
    return compiled(graph)


def said(commands: Commands) -> object:
    begun = [(Delivered.of(one), one.way, one.iteration, one.depth, one.memory) for one in commands.deliveries]
    return begun, list(commands.cancelled)


def remembered(state: RunState) -> object:
    branches = [
        (branch.prefix, branch.own, list(branch.deliveries), branch.paths, [fork.is_taken for fork in branch.forks.values()])
        for branch in state._root.open_branches()
    ]
    return branches, state.live_paths, state.steps, state.output, state.is_at_rest


@settings(max_examples=150, deadline=None)
@given(graph=st.one_of(random_ways(), random_graphs(), random_pipelines()), seed=st.integers(0, 2**16))
def test_the_short_way_says_and_remembers_what_the_long_one_does_in_any_graph_and_order(graph, seed):
    routing = RoutingTable(graph.plan())
    for spec in routing.plan.nodes.values():
        for kind in spec.outputs:
            routing.route(spec.name, kind())  # else the first message of each way would go the long one
    short, long = RunState(routing, "run"), RunState(routing, "run")
    long._only_ways = {}
    chance, waiting = random.Random(seed), dict[str, Any]()
    both: list[Commands] = []

    def happens(event: str, *given: object) -> None:
        both[:] = [getattr(state, event)(*given) for state in (short, long)]
        assert said(both[0]) == said(both[1])
        assert remembered(short) == remembered(long)
        for path in both[0].cancelled:
            waiting.pop(path, None)
        waiting.update({one.path: one for one in both[0].deliveries if one.path not in both[0].cancelled})

    try:
        happens("start", M0())
        while waiting and short.steps < 300:
            path = chance.choice(list(waiting))
            delivery = waiting.pop(path)
            if chance.random() < 0.05:
                happens("ended", path)
            else:
                happens("finished", path, call(short.plan.nodes[delivery.node].function, **delivery.arguments))
    except DeclarationError:  # a gather got what no fan-out encloses
        return
    if short.output is None and short.is_at_rest:
        assert short.no_output() == long.no_output()


def test_a_join_that_waits_hears_at_once_that_a_step_went_another_way():
    graph = Graph("g", input=M0, output=Out)

    @graph.node
    async def sure(start: M0) -> M1:
        return M1()

    @graph.node
    async def decides(start: M0) -> M2 | M3:
        return M3()

    @graph.node
    async def detour(m: M2) -> M4:
        return M4()

    @graph.node
    async def late(m: M3) -> None: ...

    @graph.node
    async def join(one: M1, other: M4 | None) -> Out:
        return Out()

    routing = RoutingTable(graph.plan())
    routing.route("decides", M3())
    state = RunState(routing, "run")
    state.start(M0())
    state.finished("g/sure/0", M1())

    assert [one.node for one in state.finished("g/decides/0", M3()).deliveries] == ["late", "join"]


def shorts(graph: Graph, message: object, monkeypatch) -> list[str]:
    """The nodes to which a second run of `graph` came the short way: what the first finds out of the ways serves it."""
    taken: list[str] = []
    follow = Deliveries.follow

    def noted(self, delivery, to, sent):
        is_taken = follow(self, delivery, to, sent)
        if is_taken:
            taken.append(to.spec.name)
        return is_taken

    monkeypatch.setattr(Deliveries, "follow", noted)
    routing = RoutingTable(graph.plan())
    for _ in range(2):
        taken.clear()
        state = RunState(routing, "run")
        waiting = list(state.start(message).deliveries)
        while waiting:
            one = waiting.pop(0)
            waiting += state.finished(one.path, call(state.plan.nodes[one.node].function, **one.arguments)).deliveries
    return taken


def test_steps_of_chains_and_loops_go_the_short_way(monkeypatch):
    assert shorts(circle(5), Ping(1), monkeypatch) == ["two", "one", "two", "one"]
    graph, first = row(4)
    assert shorts(graph, first, monkeypatch) == ["node1", "node2", "node3"]


def test_a_step_that_goes_the_short_way_takes_few_calls():
    """Counted, not timed: one that calls half as much again has lost what the short way is for."""
    graph, first = row(4)
    routing, costs = RoutingTable(graph.plan()), list[int]()
    for _ in range(2):
        state = RunState(routing, "run")
        (one,) = state.start(first).deliveries
        returned = call(state.plan.nodes[one.node].function, **one.arguments)
        with counted_calls() as calls:
            state.finished(one.path, returned)
        costs.append(calls.count)

    assert costs[1] <= 20, costs
