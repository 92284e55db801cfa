"""Whether a language model fills a node is said by its decorator, and never guessed from an empty body."""

# mypy: disable-error-code="empty-body"
# pyright: reportReturnType=false

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import attrs
import pytest

from actors import Graph, NoOutput, RunFailed
from runtime import open_runtime
from runtime.testing import ScriptedLM

ROOT = Path(__file__).resolve().parents[2]


@attrs.frozen
class In:
    v: int = 0


@attrs.frozen
class Out:
    v: int = 0


def new() -> Graph:
    return Graph("g", input=In, output=Out)


@attrs.frozen
class Mid:
    """Say what follows."""

    v: int = 0

    async def __call__(self) -> Out | None:
        return None


def beginning_with_mid(graph: Graph) -> Graph:
    @graph.node
    async def begin(message: In) -> Mid:
        return Mid(message.v)

    return graph


async def test_a6_a_class_node_that_returns_none_ends_its_branch_without_a_call(autojump_clock):
    graph = beginning_with_mid(new())
    graph.node(Mid)
    lm = ScriptedLM([])

    assert graph.check() == []
    async with open_runtime(lm=lm) as runtime:
        with pytest.raises(NoOutput):
            await runtime.run(graph, In(1))
    assert lm.calls == []


async def test_a6_the_same_class_under_predict_is_filled(autojump_clock):
    graph = beginning_with_mid(new())
    graph.predict(Mid)

    async with open_runtime(lm=ScriptedLM([{"choice": "Out"}, {"v": "7"}])) as runtime:
        assert await runtime.run(graph, In(1)) == Out(7)


def test_a6_a_class_under_predict_works_on_one_message_at_a_time_too():
    graph = new()
    graph.predict(Mid)

    assert graph.nodes["Mid"].options.concurrency == 1


async def dots(message: In) -> Out: ...


async def only_words(message: In) -> Out:
    """Say it."""


async def passes(message: In) -> Out:
    pass


async def returns_none(message: In) -> Out:
    return None  # type: ignore[return-value]


def plain(message: In) -> Out: ...


@pytest.mark.parametrize("function", [dots, only_words, passes, returns_none, plain])
def test_a6_an_empty_body_under_node_is_a_problem_with_the_line_to_write(function):
    graph = new()
    graph.node(function)

    [problem] = graph.check()

    assert (problem.code, problem.node) == ("empty-body", function.__name__)
    assert problem.location == f"{__file__}:{function.__code__.co_firstlineno}"
    assert problem.message == (
        "its body is empty ('...', 'pass' and 'return None' are the same to Python), so it would return None, and it declares "
        "Out."
    )
    assert problem.fix == "write the body; or put @graph.predict above the function, and a language model fills Out."


def test_a6_the_old_spelling_of_a_class_node_is_refused_by_name():
    graph = new()

    @attrs.frozen
    class Old:
        """Say what follows."""

        async def __call__(self) -> Out | Mid: ...

    graph.node(Old)
    beginning_with_mid(graph)
    problem = next(problem for problem in graph.check() if problem.code == "empty-body")

    assert problem.node == "Old"
    assert problem.fix == "write the body; or put @graph.predict above the class, and a language model fills Out | Mid."


def test_a6_an_empty_list_node_is_told_to_have_a_body():
    graph = new()

    @graph.node
    async def split(message: In) -> list[Mid]: ...

    problem = next(problem for problem in graph.check() if problem.code == "empty-body")
    assert "it declares list[Mid]." in problem.message
    assert problem.fix == "write the body."


def test_a6_an_empty_body_is_fine_where_none_is_declared_and_a_hint_where_something_else_is_too():
    graph = new()

    @graph.node
    async def work(message: In) -> Out:
        return Out(message.v)

    @graph.node
    async def ends(message: In) -> None: ...

    assert graph.check() == []
    assert graph.hints() == []

    @graph.node
    async def may_end(message: In) -> Out | None: ...

    assert graph.check() == []
    assert [(hint.code, hint.node) for hint in graph.hints()] == [("empty-body", "may_end")]


async def raising(message: In) -> Out:
    """Say it."""
    raise NotImplementedError


async def raising_an_instance(message: In) -> Out:
    """Say it."""
    raise NotImplementedError()


async def raising_with_words(message: In) -> Out:
    """Say it."""
    raise NotImplementedError("a language model fills it")


def raising_in_a_plain_function(message: In) -> Out:
    """Say it."""
    raise NotImplementedError


@attrs.frozen
class Raising:
    """Say it."""

    v: int = 0

    async def __call__(self) -> Out:
        raise NotImplementedError


@pytest.mark.parametrize("node", [raising, raising_an_instance, raising_with_words, raising_in_a_plain_function, Raising])
def test_e8_a_body_that_only_raises_not_implemented_is_no_body(node):
    graph = Graph("g", input=In if node is not Raising else Raising, output=Out)
    graph.predict(node)

    assert graph.check() == []


async def raising_something_else(message: In) -> Out:
    """Say it."""
    raise ValueError


async def doing_something_first(message: In) -> Out:
    """Say it."""
    message.v.bit_length()
    raise NotImplementedError


@pytest.mark.parametrize("node", [raising_something_else, doing_something_first])
def test_e8_any_other_body_of_a_predict_node_is_still_a_problem(node):
    graph = new()
    graph.predict(node)

    assert [problem.code for problem in graph.check()] == ["predict-body"]


async def test_e8_such_a_node_is_filled(autojump_clock):
    graph = new()
    graph.predict(raising)

    async with open_runtime(lm=ScriptedLM([{"v": "3"}])) as runtime:
        assert await runtime.run(graph, In(1)) == Out(3)


async def test_e8_under_node_it_is_an_error_of_that_node(autojump_clock):
    graph = new()
    graph.node(raising)

    async with open_runtime(lm=ScriptedLM([])) as runtime:
        with pytest.raises(RunFailed) as caught:
            await runtime.run(graph, In(1))
    assert isinstance(caught.value.exceptions[0].__cause__, NotImplementedError)


@pytest.mark.slow
def test_e8_mypy_takes_it_without_a_setting(tmp_path):
    page = tmp_path / "page.py"
    page.write_text(
        "import attrs\n"
        "from actors import Graph\n"
        "@attrs.frozen\nclass In:\n    v: int\n"
        "@attrs.frozen\nclass Out:\n    v: int\n"
        'graph = Graph("g", input=In, output=Out)\n'
        '@graph.predict\nasync def say(message: In) -> Out:\n    """Say it."""\n    raise NotImplementedError\n'
    )
    pytest.importorskip("mypy")

    told = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "--cache-dir", str(tmp_path / "cache"), str(page)],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=240,
    )  # fmt: skip
    assert told.returncode == 0, told.stdout
