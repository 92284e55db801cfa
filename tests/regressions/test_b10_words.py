"""Errors that named the wrong thing: each names what it was, and the line to write."""

from __future__ import annotations

import asyncio
import enum
import functools
from collections.abc import AsyncIterator
from typing import Any, Protocol

import attrs
import pytest
import trio

from actors import Backoff, DeclarationError, Graph, NodeFailed, NoOutput, Redelivery, RunFailed, UsageError
from runtime import open_runtime
from runtime.testing import ScriptedLM


@attrs.frozen
class In:
    v: int = 0


@attrs.frozen
class Mid:
    v: int = 0


@attrs.frozen
class Out:
    v: int = 0


def new(*nodes: Any) -> Graph:
    graph = Graph("g", input=In, output=Out)
    for node in nodes:
        graph.node(node)
    return graph


async def cause_of(graph: Graph) -> str:
    async with open_runtime() as runtime:
        with pytest.raises(RunFailed) as caught:
            await runtime.run(graph, In())
    return str(caught.value.exceptions[0].__cause__)


async def without_output(graph: Graph) -> str:
    async with open_runtime() as runtime:
        with pytest.raises(NoOutput) as caught:
            await runtime.run(graph, In())
    return str(caught.value)


async def gather(mids: list[Mid]) -> Out:
    return Out(len(mids))


async def takes_one(mid: Mid) -> Out:
    return Out(mid.v)


async def other() -> Out:
    return Out(1)


async def one_wrong_item(message: In) -> list[Mid]:
    return [Mid(1), "two"]  # type: ignore[list-item]  # pyright: ignore[reportReturnType]


async def one_none(message: In) -> list[Mid]:
    return [Mid(1), None]  # type: ignore[list-item]  # pyright: ignore[reportReturnType]


async def yields_wrong(message: In) -> AsyncIterator[Mid]:
    yield "one"  # type: ignore[misc]  # pyright: ignore[reportReturnType]


async def returns_a_tuple(message: In) -> list[Mid]:
    return (Mid(1),)  # type: ignore[return-value]  # pyright: ignore[reportReturnType]


async def forgets_await(message: In) -> Out:
    return other()  # type: ignore[return-value]  # pyright: ignore[reportReturnType]


def plain_wrapper(message: In) -> Out:
    return other()  # type: ignore[return-value]  # pyright: ignore[reportReturnType]


async def returns_the_class(message: In) -> Out:
    return Out  # type: ignore[return-value]  # pyright: ignore[reportReturnType]


WRONG = {
    one_wrong_item: "returned a str as item 1 of its list; it declares list[Mid].\n"
    "  Fix: let every item be one of its type: Mid(…).",
    one_none: "returned None as item 1 of its list; it declares list[Mid].\n"
    "  Fix: leave it out, or add None to the items: list[… | None].",
    yields_wrong: "yielded a str as item 0; it declares AsyncIterator[Mid].\n  Fix: let every item be one of its type: Mid(…).",
    returns_a_tuple: "returned a tuple; it declares list[Mid].\n  Fix: return a list.",
    forgets_await: "returned a coroutine; it declares Out.\n  Fix: await it: return await other(…).",
    plain_wrapper: "returned a coroutine; it declares Out.\n  Fix: make the node 'async def', and await other(…).",
    returns_the_class: "returned the class Out itself; it declares Out.\n  Fix: make an instance of it: Out(…).",
}


@pytest.mark.parametrize(("node", "said"), WRONG.items(), ids=[node.__name__ for node in WRONG])
async def test_b10_what_a_node_returned_is_named_with_the_line_to_write(node, said, autojump_clock):
    graph = new(node, gather) if "list" in said or "Iterator" in said else new(node)

    assert await cause_of(graph) == f"node {node.__name__!r} ({__file__}:{node.__code__.co_firstlineno}) {said}"


async def test_b10_a_wrapper_of_an_async_function_is_told_the_same(autojump_clock):
    def logged(function: Any) -> Any:
        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            return function(*args, **kwargs)

        return wrapper

    @logged
    async def work(message: In) -> Out:
        return Out(1)

    said = await cause_of(new(work))
    assert "returned a coroutine; it declares Out." in said
    assert "Fix: make the node 'async def', and await " in said


async def test_b10_conditions_that_are_all_false_are_named(autojump_clock):
    async def make(message: In) -> Mid:
        return Mid(message.v)

    graph = new(make, takes_one)
    graph.connect(make, takes_one, when=lambda mid: mid.v > 0)

    said = await without_output(graph)
    assert "'make' made a Mid that went nowhere: every condition was false: connect(make, takes_one, when=…) (" in said
    assert __file__ in said
    assert said.endswith("Fix: let the conditions cover every message, or connect a node without when=, for the rest.")


async def test_b10_an_empty_fan_out_is_named(autojump_clock):
    async def split(message: In) -> list[Mid]:
        return []

    said = await without_output(new(split, takes_one))
    assert "'split' returned no items, so nothing behind it was started, and nothing gathers them." in said
    assert said.endswith("Fix: gather them, since a parameter list[Mid] gets an empty list too; or return at least one item.")


class Colour(enum.Enum):
    RED = "red"


class HasText(Protocol):
    text: str


class Row(tuple[int, int]):
    """No message type."""


@pytest.mark.parametrize(
    ("kind", "fix"),
    [
        (Colour, "put it into a message as a field: @attrs.frozen class Message: value: Colour"),
        (HasText, "messages are routed by their classes: name those that have what HasText asks for: A | B."),
        (Row, "write Row as a class with fields: @attrs.frozen class Row: …"),
        (int, "wrap it: @attrs.frozen class Name: value: int"),
    ],
)
def test_b10_what_is_no_message_type_is_told_what_to_write(kind, fix):
    async def work(message: In, more: Any) -> Out:
        return Out(1)

    work.__annotations__["more"] = kind
    [problem] = new(work).check()
    assert problem.fix == fix
    if kind is int:
        return

    with pytest.raises(DeclarationError) as caught:
        Graph("g", input=kind, output=Out)
    assert str(caught.value).endswith(f"Fix: {fix}")


def test_b10_an_enum_under_the_decorator_is_told_the_same():
    with pytest.raises(DeclarationError, match="put it into a message as a field"):
        new(Colour)


async def test_b10_a_runtime_that_was_not_entered_says_so():
    runtime: Any = open_runtime()

    with pytest.raises(UsageError) as caught:
        await runtime.run(new(), In())
    assert str(caught.value) == (
        "open_runtime(…).run: nothing is open yet; it opens with 'async with', and closes with the end of that block.\n"
        "  Fix: async with open_runtime(…) as runtime:\n    … runtime.run"
    )
    with pytest.raises(UsageError, match="was awaited: nothing is open yet"):
        await open_runtime()  # pyright: ignore
    with pytest.raises(UsageError, match="was entered with a plain 'with'"), open_runtime():
        pass


async def test_b10_a_scripted_model_is_given_messages(autojump_clock):
    lm = ScriptedLM(["hello"])

    with pytest.raises(UsageError, match=r"chat\(\): expected a list of messages, got a str\."):
        await lm.chat("text")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"chat\(\): expected a list of messages, got a str\."):
        async with lm.stream("text"):  # type: ignore[arg-type]
            pass
    assert lm.calls == []
    assert (await lm.chat([{"role": "user", "content": "text"}])).text == "hello"


@pytest.mark.parametrize("call", [lambda: asyncio.sleep(1), lambda: asyncio.timeout(1).__aenter__()])
async def test_b10_a_call_of_asyncio_is_tried_once(call, autojump_clock):
    tries = 0

    async def work(message: In) -> Out:
        nonlocal tries
        tries += 1
        await call()
        return Out(1)

    graph = Graph("g", input=In, output=Out)
    graph.node(redelivery=Redelivery(max_attempts=3, backoff=Backoff(first_s=1)))(work)

    async with open_runtime() as runtime:
        with pytest.raises(RunFailed) as caught:
            await runtime.run(graph, In())

    assert tries == 1
    assert "Cause: the node calls asyncio, and nodes run on trio." in str(caught.value.exceptions[0])


async def test_b10_a_long_error_is_repeated_in_part(autojump_clock):
    async def work(message: In) -> Out:
        raise ConnectionError("begin " + "x" * 1_000_000 + " end")

    async with open_runtime() as runtime:
        with pytest.raises(RunFailed) as caught:
            await runtime.run(new(work), In())

    (leaf,) = caught.value.exceptions
    assert isinstance(leaf, NodeFailed)
    assert len(str(leaf)) < 2_500
    assert "begin xxx" in str(leaf)
    assert "(998010 characters left out)" in str(leaf)
    assert "xxx end\n  at " in str(leaf)
    assert len(str(leaf.__cause__)) == 1_000_010
    assert trio.current_time() < 100
