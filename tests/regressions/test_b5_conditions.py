"""A condition is asked, and not awaited; when it fails, the line of its ``connect`` is named."""

from __future__ import annotations

import functools
from typing import Any

import attrs
import pytest

from actors import DeclarationError, Graph
from runtime import RunFailed, open_runtime


@attrs.frozen
class In:
    v: int = 0


@attrs.frozen
class Out:
    v: int = 0


async def is_wanted(message: Out) -> bool:
    return True


async def is_more(least: int, message: Out) -> bool:
    return message.v > least


class Condition:
    async def __call__(self, message: Out) -> bool:
        return True


def new() -> Graph:
    graph = Graph("g", input=In, output=Out)

    @graph.node
    async def work(message: In | Out) -> Out:
        return Out(message.v + 1)

    return graph


@pytest.mark.parametrize("when", [is_wanted, functools.partial(is_more, 3), Condition(), Condition().__call__])
def test_b5_an_async_condition_is_refused_where_it_is_declared(when):
    graph = new()

    with pytest.raises(DeclarationError) as caught:
        graph.connect("work", "work", when=when)

    assert f"({__file__}:" in str(caught.value)
    assert "is async, so what it returns would be a coroutine, which always counts as true." in str(caught.value)
    assert "  Fix: write it as a plain 'def'" in str(caught.value)


async def failing(graph: Graph) -> str:
    async with open_runtime() as runtime:
        with pytest.raises(RunFailed) as caught:
            await runtime.run(graph, In())
    return str(caught.value.exceptions[0])


async def test_b5_a_plain_condition_that_returns_a_coroutine_is_found_when_it_is_asked(autojump_clock):
    def hidden(message: Any) -> Any:
        return is_wanted(message)

    graph = new()
    graph.connect("work", "work", when=hidden)

    said = await failing(graph)
    assert "it returned a coroutine, which always counts as true" in said
    assert f"raised by the when of connect(work, work) ({__file__}:" in said


async def test_b5_a_condition_that_fails_is_named_with_the_line_of_its_connect(autojump_clock):
    graph = new()
    graph.connect("work", "work", when=lambda message: message.size > 1)

    said = await failing(graph)
    assert "AttributeError: 'Out' object has no attribute 'size'" in said
    assert f"raised by the when of connect(work, work) ({__file__}:{is_not_near()}" in said


def is_not_near() -> int:
    """The line of the connect in the test above."""
    function = test_b5_a_condition_that_fails_is_named_with_the_line_of_its_connect
    return int(function.__code__.co_firstlineno) + 2
