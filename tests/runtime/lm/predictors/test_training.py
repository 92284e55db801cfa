"""Rows of a training set, and what is wrong with those that fit no node."""

# mypy: disable-error-code="empty-body"

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest

from actors import Graph
from actors.errors import DeclarationError
from runtime.lm.predictors.training import examples_of, read_rows
from tests.runtime.lm.predicting import Label, Question, labelling, routing, rows


@attrs.frozen
class Style:
    tone: str


@attrs.frozen
class Begin:
    text: str


def joining() -> Graph:
    graph = Graph("joining", input=Begin, output=Label)

    @graph.node
    async def question(begin: Begin) -> Question:
        return Question(begin.text)

    @graph.node
    async def style(begin: Begin) -> Style:
        return Style("dry")

    @graph.predict
    async def label(question: Question, style: Style) -> Label:
        """Name it."""
        ...

    return graph


def examples(graph: Graph, *given: Any) -> list[tuple[str, list[Any]]]:
    groups = examples_of(graph.plan().nodes.values(), given)
    return [(group.signature.purpose, [dict(each.items()) for each in group.examples]) for group in groups]


def refusal(graph: Graph, *given: Any) -> str:
    with pytest.raises(DeclarationError) as caught:
        examples_of(graph.plan().nodes.values(), given)
    return str(caught.value)


def test_a_row_becomes_an_example_with_the_names_of_the_signature():
    (group,) = examples_of(labelling().plan().nodes.values(), rows(1, node="label"))

    (example,) = group.examples
    assert dict(example.inputs().items()) == {"text": "text 0"}
    assert dict(example.labels().items()) == {"name": "label 0"}


def test_a_join_has_inputs_by_parameter():
    row = {"inputs": {"question": {"text": "t"}, "style": {"tone": "dry"}}, "output": {"name": "n"}}

    assert examples(joining(), row) == [("Label", [{"text": "t", "tone": "dry", "name": "n"}])]


def test_a_row_of_a_node_with_several_types_is_an_example_of_the_choice_too():
    found = examples(
        routing(),
        {"input": {"text": "a"}, "type": "Label", "output": {"name": "n"}},
        {"input": {"text": "b"}, "output": None},
    )

    assert found == [
        ("Label", [{"text": "a", "name": "n"}]),
        ("Refusal", []),
        ("choice", [{"text": "a", "choice": "Label"}, {"text": "b", "choice": "None"}]),
    ]


LABEL = labelling()
FINE = {"input": {"text": "a"}, "output": {"name": "n"}}


@pytest.mark.parametrize(
    ("graph", "row", "words"),
    [
        (LABEL, {**FINE, "node": "gone"}, "node 'gone' isn't one of the graph's predict nodes: label"),
        (LABEL, {**FINE, "outputs": 1}, "'outputs' isn't one of node, input, inputs, output, type"),
        (LABEL, {"output": {"name": "n"}}, "expected input, or inputs with exactly question (node 'label')"),
        (LABEL, {**FINE, "input": {}}, "question makes no Question: text: missing, expected str"),
        (LABEL, {**FINE, "input": "a"}, "question: expected the fields of Question, got 'a'"),
        (LABEL, {"input": {"text": "a"}}, "it has no output"),
        (LABEL, {**FINE, "output": {"name": 3}}, "output makes no Label: name: got 3, expected str"),
        (LABEL, {**FINE, "output": None}, "its output is null, and node 'label' cannot return None"),
        (LABEL, {**FINE, "type": "Other"}, "type 'Other' isn't one of Label"),
        (LABEL, {**FINE, "type": ["Label"]}, "type ['Label'] isn't one of Label"),
        (routing(), FINE, "type None isn't one of Label, Refusal"),
        (joining(), FINE, "expected inputs with exactly question, style (node 'label')"),
    ],
)
def test_a_row_that_fits_no_node_is_refused_and_says_why(graph: Graph, row: Any, words: str):
    told = refusal(graph, row)

    assert told.splitlines()[0] == "1 of the 1 rows do not fit the graph's nodes."
    assert words in told.splitlines()[1]
    assert told.splitlines()[-1] == "  Fix: correct the rows; their fields are those of the nodes' message types."


def test_all_rows_that_do_not_fit_are_counted_and_the_first_twenty_named():
    told = refusal(LABEL, FINE, *[{}] * 25)

    assert told.splitlines()[0] == "25 of the 26 rows do not fit the graph's nodes."
    assert told.splitlines()[1].startswith("  row 2: ")
    assert told.splitlines()[-2] == "  and 5 more"


@pytest.mark.parametrize("text", ['{"a": 1}\n\n{"a": 2}\n', '[{"a": 1},\n {"a": 2}]', '\ufeff{"a": 1}\r\n{"a": 2}'])
def test_rows_are_lines_or_one_list(text: str, tmp_path: Path):
    (tmp_path / "rows").write_text(text, encoding="utf-8")

    assert read_rows(tmp_path / "rows") == [{"a": 1}, {"a": 2}]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"a": 1}\n{"a"', "row 2: it isn't JSON: "),
        ("3", "row 1: expected an object, got 3."),
        ("[3]", "row 1: expected an object, got 3."),
        ("[" * 100_000, "row 1: it isn't JSON: "),
        ('{"a": "\\ud800"}', "row 1: it is nested too deep, or has halves of characters, which no request can carry."),
    ],
)
def test_a_line_that_is_no_row_is_named(text: str, words: str, tmp_path: Path):
    (tmp_path / "rows").write_text(text)

    with pytest.raises(DeclarationError) as caught:
        read_rows(tmp_path / "rows")

    assert words in str(caught.value)
    assert str(caught.value).endswith('\n  Fix: write a row as {"node": …, "input": {…}, "output": {…}} on one line.')


def test_a_line_ends_where_json_lines_end_it(tmp_path: Path):
    (tmp_path / "rows").write_text('{"a": "1\u20282\x853"}\n{"a": 2}\n', encoding="utf-8")

    assert read_rows(tmp_path / "rows") == [{"a": "1\u20282\x853"}, {"a": 2}]


def test_a_file_that_is_not_there_is_named():
    with pytest.raises(DeclarationError, match=r"^training set 'gone' cannot be read: .*No such file"):
        read_rows("gone")
