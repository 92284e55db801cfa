"""Nodes that may run once only: what cannot go with that is refused where it is written, or found by the check of the graph."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any

import attrs
import pytest

from actors import Actor, DeclarationError, Dep, Effect, Graph, Redelivery, Run


@attrs.frozen
class Ask:
    n: int = 0


@attrs.frozen
class Part:
    n: int = 0


@attrs.frozen
class Done:
    n: int = 0


def graph_of(*functions: Any, **options: Any) -> Graph[Ask, Done]:
    graph = Graph("g", input=Ask, output=Done)
    for function in functions:
        graph.node(**options)(function)
    return graph


async def send(ask: Ask) -> Done:
    return Done(ask.n)


async def look(ask: Ask, run: Run) -> Done | None:
    return None


async def items(ask: Ask) -> AsyncIterator[Done]:
    yield Done(1)


def test_a_node_with_an_effect_makes_one_attempt():
    graph = graph_of(send, effect=Effect.ONCE, on_uncertain=look)
    assert graph.check() == []
    spec = graph.plan().nodes["send"]
    assert spec.options.redelivery.max_attempts == 1
    assert spec.on_uncertain is not None
    assert spec.on_uncertain.inputs == ("ask",)

    predicting = Graph("p", input=Ask, output=Done)

    @predicting.predict(effect=Effect.ONCE)
    async def guess(ask: Ask) -> Done:
        """Guess."""
        raise NotImplementedError

    assert predicting.plan().nodes["guess"].options.redelivery.max_attempts == 1


@pytest.mark.parametrize(
    ("function", "options", "words"),
    [
        (send, {"effect": "once"}, "effect='once'"),
        (send, {"effect": Effect.ONCE, "redelivery": Redelivery(max_attempts=2)}, "would do it a second time"),
        (items, {"effect": Effect.ONCE}, "its items leave one by one"),
        (send, {"on_uncertain": look}, "on_uncertain"),
        (send, {"effect": Effect.ONCE, "on_uncertain": lambda ask: None}, "a function with a name"),
    ],
)
def test_what_cannot_go_with_it_is_refused_at_the_decorator(function: Any, options: dict[str, Any], words: str):
    with pytest.raises(DeclarationError, match="Fix:") as told:
        graph_of(function, **options)
    assert words in str(told.value)
    assert function.__name__ in str(told.value)


def test_a_graph_has_no_effect_of_its_own_and_an_actor_may():
    inner = graph_of(send)
    outer = Graph("outer", input=Ask, output=Done)
    with pytest.raises(DeclarationError, match="set it on nodes of that graph"):
        outer.add(inner, effect=Effect.ONCE)

    class Sender(Actor[Ask]):
        async def receive(self, message: Ask) -> Done:
            return Done(1)

    outer.add(Sender, effect=Effect.ONCE)
    assert outer.check() == []


async def wrong_type(ask: Ask) -> Part | None: ...


async def wrong_parameter(part: Part) -> Done | None: ...


async def with_error(ask: Ask, error: Exception) -> Done | None: ...


@pytest.mark.parametrize(
    ("function", "code"),
    [(wrong_type, "on-uncertain-return"), (wrong_parameter, "fallback-input"), (with_error, "fallback-input")],
)
def test_what_finds_out_takes_and_returns_what_the_node_does(function: Any, code: str):
    assert [problem.code for problem in graph_of(send, effect=Effect.ONCE, on_uncertain=function).check()] == [code]


def test_a_node_that_returns_nothing_has_nothing_to_find_out():
    async def told(part: Part) -> None:
        return None

    async def found(part: Part) -> None:
        return None

    async def part(ask: Ask) -> Part:
        return Part(1)

    graph = graph_of(send, part)
    graph.node(effect=Effect.ONCE, on_uncertain=found)(told)
    [problem] = graph.check()
    assert problem.code == "on-uncertain-return"
    assert "can only say that nothing happened" in problem.message


def test_a_dependency_and_a_nested_graph_with_attempts_would_do_it_twice():
    graph = Graph("g", input=Ask, output=Done)

    @graph.node(effect=Effect.ONCE)
    async def style(ask: Ask) -> Part:
        return Part(1)

    @graph.node
    async def work(ask: Ask, part: Annotated[Part, Dep(style)]) -> Done:
        return Done(part.n)

    assert [problem.code for problem in graph.check()] == ["once-as-dependency"]

    outer = Graph("outer", input=Ask, output=Done)
    outer.add(graph_of(send, effect=Effect.ONCE), redelivery=Redelivery(max_attempts=2))
    [problem] = outer.check()
    assert problem.code == "once-in-attempts"
    assert "'send'" in problem.message
