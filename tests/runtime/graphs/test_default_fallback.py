"""A graph's fallback stands in for every node that has none: after its last attempt, and its own failure fails the run."""

# mypy: disable-error-code="empty-body"
# pyright: reportReturnType=false

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any

import pytest
import trio

from actors import DeclarationError, Dep, Graph, NodeFailed, NoOutput, Run, RunFailed
from runtime import open_runtime
from tests.runtime.graphs.stage import EXACT, TWICE, Ask, Done, Other, Part, leaves


def graph_with(fallback: Callable[..., Any], *nodes: Callable[..., Any], **options: Any) -> Graph:
    graph = Graph("g", input=Ask, output=Done, supervision=EXACT, fallback=fallback)
    chosen: dict[str, Any] = {"redelivery": TWICE, **options}
    for node in nodes:
        graph.node(**chosen)(node)
    return graph


async def fails(ask: Ask) -> Part:
    raise ConnectionError("down")


async def end(part: Part) -> Done:
    return Done(part.n)


async def test_l52_a_graph_has_a_handler_that_gets_message_node_and_error_after_the_last_attempt(virtual_clock):
    async def stands_in(failure: NodeFailed, run: Run) -> Done:
        return Done((failure.node, failure.path, failure.attempt, failure.input, str(failure.__cause__), run.node))

    async with open_runtime() as runtime:
        handle = await runtime.start(graph_with(stands_in, fails, end), Ask(3))
        assert await handle.result() == Done(("fails", "g/fails/0", 2, Ask(3), "down", "fails"))

    assert [(step.node, step.attempt, step.status) for step in handle.trace] == [("fails", 2, "done")]


async def test_l52_a_handler_of_a_node_comes_before_that_of_the_graph(virtual_clock):
    async def of_the_graph(error: Exception) -> Done:
        return Done("graph")

    async def of_the_node(error: Exception) -> Part:
        return Part(7)

    async with open_runtime() as runtime:
        assert await runtime.run(graph_with(of_the_graph, fails, end), Ask()) == Done("graph")
        graph = graph_with(of_the_graph, end)
        graph.node(fallback=of_the_node)(fails)
        assert await runtime.run(graph, Ask()) == Done(7)


async def test_l52_when_the_handler_of_a_graph_fails_the_run_fails_with_its_error(virtual_clock):
    async def stands_in(error: Exception) -> Done:
        raise LookupError(f"no way round {error}")

    async with open_runtime() as runtime:
        with pytest.raises(RunFailed) as caught:
            await runtime.run(graph_with(stands_in, fails, end), Ask())

    (leaf,) = leaves(caught.value)
    assert (leaf.node, str(leaf.__cause__)) == ("fails", "no way round down")


async def split(ask: Ask) -> list[Part]:
    return [Part(n) for n in range(4)]


async def work(part: Part) -> Other:
    if part.n % 2:
        raise ConnectionError("odd")
    return Other(part.n)


async def gather(others: list[Other]) -> Done:
    return Done([other.n for other in others])


def leaves_it_out(error: Exception) -> None:
    assert str(error) == "odd"


async def test_none_ends_the_branch_of_the_node(virtual_clock):
    async with open_runtime() as runtime:
        assert await runtime.run(graph_with(leaves_it_out, split, work, gather), Ask()) == Done([0, 2])


async def test_of_a_stream_the_items_that_have_left_are_kept(virtual_clock):
    async def stream(ask: Ask) -> AsyncIterator[Other]:
        yield Other(1)
        raise ConnectionError("odd")

    async with open_runtime() as runtime:
        assert await runtime.run(graph_with(leaves_it_out, stream, gather), Ask()) == Done([1])


async def test_what_it_gives_ends_the_run_and_what_is_still_at_work(virtual_clock):
    stopped: list[str] = []

    async def slow(ask: Ask) -> Done:
        try:
            await trio.sleep(60)
        finally:
            stopped.append("slow")
        return Done("late")

    async def stands_in(error: Exception) -> Done:
        return Done("instead")

    async with open_runtime() as runtime:
        assert await runtime.run(graph_with(stands_in, fails, end, slow), Ask()) == Done("instead")
        assert (stopped, trio.current_time()) == (["slow"], 3)


async def test_a_node_that_others_depend_on_leaves_it_to_them(virtual_clock):
    async def stands_in(failure: NodeFailed) -> Done:
        return Done(failure.node)

    async def needs(ask: Ask, part: Annotated[Part, Dep(fails)]) -> Done:
        raise NotImplementedError

    async with open_runtime() as runtime:
        assert await runtime.run(graph_with(stands_in, fails, needs), Ask()) == Done("needs")


async def test_what_it_does_not_declare_it_may_not_return(virtual_clock):
    async def stands_in(error: Exception) -> Done:
        return None  # type: ignore[return-value]

    async with open_runtime() as runtime:
        with pytest.raises(RunFailed) as caught:
            await runtime.run(graph_with(stands_in, fails, end), Ask())

    (leaf,) = leaves(caught.value)
    assert isinstance(leaf.__cause__, DeclarationError)
    assert str(leaf.__cause__) == (
        "the fallback stands_in of graph 'g' returned None for node 'fails'; the graph's output is Done.\n  Fix: return Done."
    )


async def test_a_run_in_which_all_branches_were_ended_has_no_output(virtual_clock):
    def gives_up(error: Exception) -> None: ...

    async with open_runtime() as runtime:
        with pytest.raises(NoOutput) as caught:
            await runtime.run(graph_with(gives_up, fails, end), Ask())

    assert [(step.node, step.status) for step in caught.value.trace] == [("fails", "done")]


async def takes_a_message(part: Part, error: Exception) -> Done:
    raise NotImplementedError


async def returns_else(error: Exception) -> Part:
    raise NotImplementedError


@pytest.mark.parametrize(
    ("fallback", "code", "message"),
    [
        (takes_a_message, "fallback-input", "takes 'part', and it stands in for nodes that take different messages."),
        (returns_else, "fallback-return", "does not return the graph's output: Done."),
    ],
)
def test_a_fallback_that_cannot_stand_in_is_refused_with_its_place(fallback, code, message):
    (problem,) = graph_with(fallback, fails, end).check()

    place = f"{__file__}:{fallback.__code__.co_firstlineno}"
    assert (problem.code, problem.node, problem.location) == (code, None, place)
    assert problem.message == f"the fallback {fallback.__name__} ({place}) {message}"


def test_a_fallback_that_is_no_function_is_refused():
    with pytest.raises(DeclarationError) as caught:
        Graph("g", input=Ask, output=Done, fallback="retry")  # type: ignore[call-overload]

    assert str(caught.value) == (
        "Graph('g', fallback='retry'): expected a function with a name and annotations.\n"
        "  Fix: async def fallback(failure: NodeFailed) -> Done: …"
    )


async def returns_what_is_not_known(error: Exception) -> Nowhere:  # type: ignore[name-defined]  # noqa: F821  # pyright: ignore
    raise NotImplementedError


async def takes_what_is_not_annotated(error) -> Done:
    raise NotImplementedError


@pytest.mark.parametrize(
    ("fallback", "code"),
    [(returns_what_is_not_known, "unresolved-annotation"), (takes_what_is_not_annotated, "missing-annotation")],
)
def test_a_fallback_that_cannot_be_read_is_refused(fallback, code):
    (problem,) = graph_with(fallback, fails, end).check()

    assert (problem.code, problem.location) == (code, f"{__file__}:{fallback.__code__.co_firstlineno}")
    assert f"the fallback {fallback.__name__} (" in problem.message


def test_types_that_a_fallback_mentions_may_be_defined_where_the_graph_is():
    class Place: ...

    def place() -> Place:
        raise NotImplementedError

    async def stands_in(error: Exception, at: Annotated[Place, Dep(place)]) -> Done:
        raise NotImplementedError

    graph = Graph("g", input=Ask, output=Done, fallback=stands_in)
    graph.node(fails)
    graph.node(end)

    assert graph.check() == []
    assert set(graph.plan().nodes) == {"fails", "end"}
