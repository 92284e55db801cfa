"""What can be known of a predict node before its first call is said by the check, with node, file and line, all at once."""

# mypy: disable-error-code="empty-body"
# pyright: reportReturnType=false

from __future__ import annotations

import functools
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import dspy
import pytest

from actors import Graph, GraphInvalid
from runtime import open_runtime
from runtime.testing import ScriptedLM


@attrs.frozen
class In:
    v: int = 0


@attrs.frozen
class Out:
    v: int = 0


@attrs.frozen
class Called:
    hook: Callable[[int], int]


class Socket:
    """No schema can be made for it."""


@attrs.frozen
class Open:
    name: str
    socket: Socket


@attrs.frozen
class Deep:
    inner: Open


def graph_with(returns: Any, **options: Any) -> tuple[Graph, Any]:
    graph = Graph("g", input=In, output=returns)

    async def fill(message: In) -> Any:
        """Fill it."""
        raise NotImplementedError

    fill.__annotations__ = {"message": In, "return": returns}
    graph.predict(**options)(fill)
    return graph, fill


@pytest.mark.parametrize(("returns", "field"), [(Called, "hook"), (Open, "socket"), (Deep, "inner")])
def test_b9_a_field_that_no_schema_can_be_made_for(returns, field):
    graph, fill = graph_with(returns)

    [problem] = graph.check()

    assert (problem.code, problem.node) == ("predict-field", "fill")
    assert problem.location == f"{__file__}:{fill.__code__.co_firstlineno}"
    assert problem.message.startswith(f"{returns.__name__}.{field}: ")


def test_b9_such_a_field_is_fine_in_what_a_model_is_only_shown():
    graph = Graph("g", input=Open, output=Out)

    @graph.predict
    async def fill(message: Open) -> Out:
        """Fill it."""
        ...

    assert graph.check() == []


class NeedsTools(dspy.Module):  # type: ignore[misc]  # dspy is not typed
    def __init__(self, signature: Any, tools: list[Any]) -> None:
        super().__init__()


class Fails(dspy.Module):  # type: ignore[misc]  # dspy is not typed
    def __init__(self, signature: Any) -> None:
        raise LookupError("no such file")


class NoModule:
    pass


@pytest.mark.parametrize(
    ("module", "said"),
    [
        (functools.partial(dspy.ReAct, tools=[]), "module=… is a functools.partial"),
        (dspy.ReAct, "ReAct could not be made: "),
        (NeedsTools, "NeedsTools could not be made: "),
        (Fails, "module=Fails could not be made: LookupError: no such file"),
        (NoModule, "expected one of 'Predict', 'ChainOfThought' or a dspy.Module class."),
        ("ReActs", "module='ReActs': expected one of 'Predict', 'ChainOfThought' or a dspy.Module class."),
    ],
)
def test_b9_a_module_that_cannot_be_made(module, said):
    graph, fill = graph_with(Out, module=module)

    [problem] = graph.check()

    assert (problem.code, problem.node, problem.line) == ("predict-module", "fill", fill.__code__.co_firstlineno)
    assert said in problem.message
    assert "`partial`" in graph.describe() or not isinstance(module, functools.partial)


@pytest.mark.parametrize("module", ["Predict", "ChainOfThought", dspy.Predict, dspy.ChainOfThought])
def test_b9_modules_that_can_be_made_are_no_problem(module):
    assert graph_with(Out, module=module)[0].check() == []


def another() -> type:
    @attrs.frozen
    class Out:
        w: int = 0

    return Out


def test_b9_two_types_of_one_name_to_choose_among():
    [problem] = graph_with(Out | another())[0].check()

    assert problem.code == "predict-same-name"
    assert "the language model would choose among 2 types of the one name 'Out'" in problem.message


def test_b9_a_predict_node_without_any_instruction():
    graph = Graph("g", input=In, output=Out)

    @graph.predict
    async def fill(message: In) -> Out: ...

    [problem] = graph.check()
    assert (problem.code, problem.node) == ("predict-instruction", "fill")
    assert problem.fix == "write a docstring for the function that tells the model what to do: it is the prompt."


async def test_b9_all_of_it_is_said_at_once_when_the_graph_is_deployed(autojump_clock):
    graph = Graph("g", input=In, output=Out)

    @graph.predict(module=functools.partial(dspy.ReAct, tools=[]))
    async def one(message: In) -> Open:
        """Open it."""
        ...

    @graph.node
    async def two(opened: Open) -> Out: ...

    lm = ScriptedLM([])
    async with open_runtime(lm=lm) as runtime:
        with pytest.raises(GraphInvalid) as caught:
            await runtime.run(graph, In())

    assert sorted(problem.code for problem in caught.value.problems) == ["empty-body", "predict-field", "predict-module"]
    assert lm.calls == []


def test_b9_the_check_of_a_graph_loads_no_dspy():
    code = (
        "import sys, attrs\nfrom actors import Graph\nimport runtime\n"
        "@attrs.frozen\nclass In:\n    v: int = 0\n"
        "g = Graph('g', input=In, output=In)\n"
        "async def fill(m: In) -> In:\n    'Fill it.'\n"
        "g.predict(fill)\ng.check()\nassert 'dspy' not in sys.modules\n"
    )
    root = Path(__file__).resolve().parents[2]
    ran = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False, timeout=240)

    assert ran.returncode == 0, ran.stderr
