"""What a node *may* make for every parameter of a join is no guarantee that it does: such a join would depend on timing."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import attrs
import pytest
import trio

from actors import Graph, NoOutput, RunFailed
from runtime import open_runtime
from tests.exploration import random_graphs


@attrs.frozen
class In:
    v: int = 0


@attrs.frozen
class Mid:
    v: int = 0


@attrs.frozen
class Narrow(Mid):
    """A kind of Mid."""


@attrs.frozen
class Oth:
    v: int = 0


@attrs.frozen
class Three:
    v: int = 0


@attrs.frozen
class Out:
    v: int = 0


KINDS = {kind.__name__: kind for kind in (In, Mid, Narrow, Oth, Three, Out)}


def graph_of(*nodes: str) -> Graph:
    """Nodes as texts: ``"one(In) -> Mid | Oth"``; parameters are called a, b, c."""
    graph = Graph("g", input=In, output=Out)
    for text in nodes:
        name, _, rest = text.partition("(")
        takes, _, returns = rest.partition(") -> ")
        names = dict(zip("abc", takes.split(", "), strict=False))
        scope: dict[str, Any] = dict(KINDS)
        exec(f"async def {name}({', '.join(names)}): raise NotImplementedError", scope)
        scope[name].__annotations__ = {**names, "return": returns}
        graph.node(scope[name])
    return graph


REFUSED = {
    "union makers of both parameters": [
        *("one(In) -> Mid | Oth", "two(In) -> Mid | Oth", "three(In) -> Oth", "join(Mid, Oth) -> Out"),
    ],
    "only union makers": ["one(In) -> Mid | Oth", "two(In) -> Mid | Oth", "join(Mid, Oth) -> Out"],
    "both parameters follow one order, but one maker may return None": [
        *("one(In) -> Mid", "two(In) -> Mid", "more(Mid) -> Oth | None", "join(Mid, Oth) -> Out"),
    ],
    "and one may make something else": [
        *("one(In) -> Mid", "two(In) -> Mid", "more(Mid) -> Oth | Three", "join(Mid, Oth) -> Out", "end(Three) -> None"),
    ],
    "a base class of which one parameter takes a subclass": [
        *("one(In) -> Mid", "two(In) -> Mid", "more(Mid) -> Mid | Oth", "other(Oth) -> Three", "join(Narrow, Three) -> Out"),
    ],
    "a loop that one message enters at two places": [
        *("first(In) -> Mid", "start(In) -> Oth", "one(In, Oth) -> Mid", "two(In, Mid) -> Oth"),
    ],
    "two nodes behind a loop that sends out in each round": [
        *("work(In) -> Mid", "again(Mid) -> In | Oth", "first(Mid) -> Three", "second(Three) -> Out"),
        *("join(Out, Oth) -> None",),
    ],
}


@pytest.mark.parametrize("nodes", REFUSED.values(), ids=list(REFUSED))
def test_b1_a_join_that_only_may_get_its_values_together_is_refused(nodes):
    assert "join-by-timing" in {problem.code for problem in graph_of(*nodes).check()}


ACCEPTED = {
    "both parameters follow one order, one for one": [
        *("one(In) -> Mid", "two(In) -> Mid", "more(Mid) -> Oth", "join(Mid, Oth) -> Out"),
    ],
    "two nodes on both ways": [
        *("one(In) -> Mid", "two(In) -> Mid", "left(Mid) -> Oth", "right(Mid) -> Three", "join(Oth, Three) -> Out"),
    ],
    "alternatives that need what both have": [
        *("choose(In) -> Mid | Oth", "more(In) -> Three", "left(Mid, Three) -> Narrow", "right(Oth, Three) -> Narrow"),
        "join(Narrow, In) -> Out",
    ],
    "a loop that leaves with one message, and two nodes behind it": [
        *("work(In) -> Mid", "judge(Mid) -> In | Oth", "first(Oth) -> Three", "join(Three, Oth) -> Out"),
    ],
    "a loop that splits and joins in each round": [
        *("start(In) -> Mid", "left(Mid) -> Oth", "right(Mid) -> Three", "join(Oth, Three) -> Mid | Out"),
    ],
}


@pytest.mark.parametrize("nodes", ACCEPTED.values(), ids=list(ACCEPTED))
def test_b1_what_no_clock_decides_is_accepted(nodes):
    assert "join-by-timing" not in {problem.code for problem in graph_of(*nodes).check()}


async def test_b1_the_smallest_case_is_refused_before_it_runs(autojump_clock):
    graph = Graph("g", input=In, output=Out)

    @graph.node
    async def a1(i: In) -> Mid | Oth:
        await trio.sleep(1)
        return Mid(1)

    @graph.node
    async def a2(i: In) -> Mid | Oth:
        await trio.sleep(2)
        return Mid(2)

    @graph.node
    async def a3(i: In) -> Oth:
        return Oth(3)

    @graph.node
    async def b(x: Mid, y: Oth) -> Out:
        return Out(x.v * 10 + y.v)

    [problem, *_] = graph.check()
    assert (problem.code, problem.node) == ("join-by-timing", "b")
    assert "'a1' and 'a2' make one side by side: which comes first depends on timing." in problem.message


def conditional(first: Callable[[Any], bool], second: Callable[[Any], bool]) -> Graph:
    graph = Graph("g", input=In, output=Out)

    @graph.node
    async def start(i: In) -> Oth:
        return Oth(i.v)

    @graph.node
    async def one(o: Oth) -> Mid:
        return Mid(1)

    @graph.node
    async def two(o: Oth) -> Mid:
        return Mid(2)

    @graph.node
    async def end(m: Mid, i: In) -> Out:
        return Out(m.v)

    graph.connect(start, one, when=first)
    graph.connect(start, two, when=second)
    return graph


async def test_b1_conditions_that_a_join_hangs_on_must_be_alternatives(autojump_clock):
    apart = conditional(lambda o: o.v > 0, lambda o: o.v <= 0)
    overlapping = conditional(lambda o: o.v > 0, lambda o: o.v > 1)
    assert apart.check() == overlapping.check() == []

    async with open_runtime() as runtime:
        assert await runtime.run(apart, In(1)) == Out(1)
        assert await runtime.run(apart, In(0)) == Out(2)
        assert await runtime.run(overlapping, In(1)) == Out(1)
        with pytest.raises(RunFailed) as caught:
            await runtime.run(overlapping, In(2))
    said = str(caught.value.exceptions[0].__cause__)
    assert said.startswith("both conditions of connect(start, one, when=…) and connect(start, two, when=…) (")
    assert "test_b1_joins_do_not_depend_on_timing.py" in said


async def arguments_of(seed: int, order: int) -> Counter[str]:
    """How often each node of a random graph was given what, in a run whose nodes take their time by chance."""
    delays, given = random.Random(order), Counter[str]()

    async def told(name: str, arguments: dict[str, Any]) -> None:
        given[f"{name} {sorted(arguments.items())!r}"] += 1
        await trio.sleep(delays.random())

    graph = random_graphs.complete(random_graphs.random_graph(seed, told))
    assert random_graphs.is_accepted(graph)
    async with open_runtime() as runtime:
        with pytest.raises(NoOutput):
            await runtime.run(graph, random_graphs.In())
    return given


def test_b1_a_connection_for_a_subclass_leaves_other_messages_where_they_went():
    graph = graph_of("one(In) -> Mid", "two(In) -> Mid", "join(Mid, In) -> Out", "narrow(Narrow) -> None")
    graph.connect("two", "narrow")

    assert [(edge.source, edge.target) for edge in graph.sketch().edges if edge.source == "two"] == [
        ("two", "narrow"),
        ("two", "join"),
    ]
    assert "join-by-timing" in {problem.code for problem in graph.check()}


@pytest.mark.slow
@pytest.mark.chaos
async def test_b1_a_graph_that_is_accepted_gives_the_same_under_permuted_delays(autojump_clock):
    """On the engine itself; the random graphs of tests/exploration run against the reducer alone."""
    tried = 0
    for seed in range(5_000, 6_000):
        graph = random_graphs.complete(random_graphs.random_graph(seed))
        if not random_graphs.is_accepted(graph) or graph.plan().components:
            continue
        first = await arguments_of(seed, 0)
        for order in (1, 2, 3):
            assert await arguments_of(seed, order) == first, random_graphs.written(graph)
        tried += 1
        if tried == 25:
            return
    raise AssertionError("too few random graphs were accepted")
