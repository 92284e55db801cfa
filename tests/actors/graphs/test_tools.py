"""Tools as their authors declare them: what a model is shown, and what the check of a graph says of wrong ones."""

from __future__ import annotations

import functools
from typing import Annotated, Any, Literal

import attrs
import pytest

from actors import LM, Dep, Effect, Graph, Recall, Run
from actors.errors import DeclarationError
from actors.graphs.docstrings import read_docstring
from actors.graphs.tools import as_tool, captured_here, read_tool
from runtime.lm.tools.tool_schemas import schema_of
from runtime.tools import Tool, tool


@attrs.frozen
class Question:
    text: str


@attrs.frozen
class Answer:
    text: str


@attrs.frozen
class Box:
    low: int
    high: int = 9


GOOGLE = """Search the archive.

It is old.

Args:
    query: what to look for,
        in plain words
    limit (int): how many

Returns:
    hits
"""
NUMPY = """Search the archive.

It is old.

Parameters
----------
query : str
    what to look for,
    in plain words
limit : int, optional
    how many

Returns
-------
list
    hits
"""
SPHINX = """Search the archive.

It is old.

:param query: what to look for,
    in plain words
:type query: str
:param int limit: how many
:returns: hits
"""


def problems_of(*tools: Any, **options: Any) -> list[tuple[str, str, str]]:
    graph = Graph("agents", input=Question, output=Answer)

    @graph.predict(tools=list(tools), **options)
    async def answer(question: Question) -> Answer:
        """Answer."""
        raise NotImplementedError

    import runtime  # noqa: F401 - whose checks look at types

    return [(problem.code, problem.message, problem.fix) for problem in graph.check()]


def parameters_of(what: Any) -> Any:
    return schema_of(read_tool(as_tool(what, captured_here(None)), {})).parameters


@pytest.mark.parametrize("text", [GOOGLE, NUMPY, SPHINX], ids=["Google", "NumPy", "Sphinx"])
def test_a_docstring_describes_the_tool_and_each_parameter(text: str):
    assert read_docstring(text) == (
        "Search the archive.\n\nIt is old.",
        {"query": "what to look for, in plain words", "limit": "how many"},
    )


def test_a_docstring_without_sections_is_all_description():
    assert read_docstring("Look: it is there.\n\nargs are not described") == ("Look: it is there.\n\nargs are not described", {})


def test_a_schema_has_types_defaults_and_descriptions():
    def look(at: Annotated[str, "a place"], how: Literal["near", "far"] = "near", box: Box | None = None) -> str:
        """Look."""
        return at

    found = parameters_of(look)

    assert found["type"] == "object"
    assert found["required"] == ["at"]
    assert found["properties"]["at"] == {"description": "a place", "title": "at", "type": "string"}
    assert found["properties"]["how"]["enum"] == ["near", "far"]
    assert found["additionalProperties"] is False
    assert "Box" in found["$defs"]


def test_a_tool_is_called_as_the_function_that_it_is():
    @tool(timeout_s=3, effect=Effect.ONCE, name="adder", description="Adds.")
    def add(one: int, other: int) -> int:
        """Add two numbers."""
        return one + other

    made: Tool = add
    assert made(1, other=2) == 3
    assert (made.name, made.timeout_s, made.effect, made.__doc__) == ("adder", 3, Effect.ONCE, "Add two numbers.")


def test_local_types_and_injected_parameters_are_known():
    @attrs.frozen
    class Place:
        name: str

    def shelf() -> int:
        return 7

    async def look(place: Place, lm: LM, run: Run, shelf: Annotated[int, Dep(shelf)]) -> str:
        """Look."""
        return place.name

    graph = Graph("agents", input=Question, output=Answer)

    @graph.predict(tools=[look])
    async def answer(question: Question) -> Answer:
        """Answer."""
        raise NotImplementedError

    (spec,) = graph.plan().nodes["answer"].tools
    assert list(schema_of(spec).parameters["properties"]) == ["place"]
    assert list(spec.injected) == ["lm", "run"]
    assert list(spec.needs) == ["shelf"]


def test_wrong_tools_are_problems_that_say_what_to_write():
    def bare(at) -> str:
        return str(at)

    def starred(*places: str) -> str:
        return ""

    def keyed(**places: str) -> str:
        return ""

    def odd(at: object, when: functools.partial[int]) -> str:
        return ""

    def recalls(at: Annotated[Question, Recall()]) -> str:
        return ""

    def fine(at: str) -> str:
        return at

    found = problems_of(bare, starred, keyed, odd, recalls, fine, tool(fine), lambda at: at, 7)

    by_code: dict[str, list[str]] = {}
    for code, _, fix in found:
        by_code.setdefault(code, []).append(fix)
    assert by_code["missing-annotation"] == ["write at: str, or the type that it takes."]
    assert len(by_code["tool-parameter"]) == 3
    assert by_code["tool-same-name"] == ["write tool(fine, name='other') for one of them."]
    assert by_code["tool-name"] == ["write it as a function with a name: async def look(at: str) -> str: …"]
    assert "mcp('name', …)" in by_code["tool-kind"][0]
    assert len(by_code["tool-type"]) == 1


@pytest.mark.parametrize("name", ["<img src=x onerror=alert(1)>", "a\u202eb", "a b", "x" * 65])
def test_a_name_that_could_be_anything_else_than_a_name_is_a_problem_that_shows_it(name):
    def look(at: str) -> str:
        return at

    [(code, message, fix)] = problems_of(tool(look, name=name))

    assert code == "tool-name"
    assert repr(name)[:40] in message
    assert fix.endswith("1 to 64 letters, digits, '_' and '-'.")


def test_problems_name_the_tool_and_its_line():
    def bare(at) -> str:
        return str(at)

    ((_, message, _),) = problems_of(bare)

    assert message.startswith(f"its tool 'bare' ({__file__}:")
    assert "parameter 'at' has no annotation" in message


def test_a_graph_that_would_call_itself_as_a_tool_is_a_problem():
    graph = Graph("agents", input=Question, output=Answer)

    @graph.predict(tools=[tool(graph)])
    async def answer(question: Question) -> Answer:
        """Answer."""
        raise NotImplementedError

    assert [problem.code for problem in graph.check()] == ["graph-in-itself"]


def test_problems_of_a_graph_that_is_a_tool_are_problems():
    inner = Graph("inner", input=Question, output=Answer)

    assert [code for code, _, _ in problems_of(tool(inner))] == ["no-nodes"]


@pytest.mark.parametrize(
    "options",
    [{"tools": 7}, {"max_rounds": 0}, {"on_tool_error": "ignore"}, {"hints": 1}],
    ids=lambda options: next(iter(options)),
)
def test_wrong_options_are_named(options: dict[str, Any]):
    graph = Graph("agents", input=Question, output=Answer)

    with pytest.raises(DeclarationError, match=next(iter(options))):
        graph.predict(**options)(problems_of)


@pytest.mark.parametrize("options", [{"timeout_s": 0}, {"effect": "once"}, {"approve": 1}])
def test_wrong_options_of_a_tool_are_named(options: dict[str, Any]):
    with pytest.raises(DeclarationError, match="Fix:"):
        tool(read_docstring, **options)


def test_what_has_tools_makes_one_attempt_as_what_has_effects():
    graph = Graph("agents", input=Question, output=Answer)

    def look(at: str) -> str:
        """Look around."""
        return at

    @graph.predict(tools=[look], max_rounds=3)
    async def answer(question: Question) -> Answer:
        """Answer."""
        raise NotImplementedError

    page = graph.describe()
    assert graph.nodes["answer"].options.redelivery.max_attempts == 1
    assert (
        "## Tools\n\n`answer` calls them in up to 3 rounds; of a call that fails, the model is told:\n\n- `look(at: str)` ("
        in page
    )
    assert 'n1{{"answer<br/>calls look"}}' in graph.mermaid()
