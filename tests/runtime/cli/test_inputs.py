"""--input: where it comes from, what it must be, and each refusal with its exact line."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import attrs
import pytest

from runtime.cli.inputs import build_input, parse_object, read_input
from runtime.cli.wrong_usage import WrongUsage

QUOTES = """Fix: write it in single quotes, such as --input '{"text": "…"}', or name a file: --input @FILE"""


@attrs.frozen
class Question:
    text: str
    times: int = 1


@attrs.frozen
class Address:
    street: str


@attrs.frozen
class Order:
    address: Address
    times: int


@attrs.frozen
class Note:
    text: str


def test_it_comes_from_the_command_line_a_file_or_standard_input(tmp_path: Path) -> None:
    file = tmp_path / "input.json"
    file.write_text('{"text": "é"}', encoding="utf-8")

    assert read_input('{"text": "é"}') == '{"text": "é"}'
    assert read_input(f"@{file}") == '{"text": "é"}'
    assert read_input("-", io.StringIO("{}")) == "{}"


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe")

    with pytest.raises(WrongUsage, match=r"^--input @nowhere\.json: cannot be read: No such file or directory$"):
        read_input("@nowhere.json")
    with pytest.raises(WrongUsage, match=r"binary: cannot be read: it isn't UTF-8 text$"):
        read_input(f"@{binary}")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("{", "--input is not JSON: Expecting property name enclosed in double quotes: line 1 column 2 (char 1). " + QUOTES),
        ("", f"--input is not JSON: Expecting value: line 1 column 1 (char 0). {QUOTES}"),
        ("[1]", "--input is a list: expected a JSON object with the fields of the graph's input"),
        ('"text"', "--input is a string: expected a JSON object with the fields of the graph's input"),
        ("1.5", "--input is a number: expected a JSON object with the fields of the graph's input"),
        ("true", "--input is a truth value: expected a JSON object with the fields of the graph's input"),
        ("null", "--input is null: expected a JSON object with the fields of the graph's input"),
        ('{"text": "a", "text": "b"}', "--input is not JSON that can be read: text: given twice"),
        ('{"text": NaN}', "--input is not JSON that can be read: text: expected a finite number"),
        ("[" * 100_000, "--input is not JSON that can be read: it is nested too deeply"),
    ],
)
def test_anything_but_a_json_object_is_refused(text: str, line: str) -> None:
    with pytest.raises(WrongUsage) as refused:
        parse_object(text)

    assert str(refused.value) == line


def test_a_file_of_ones_own_may_be_large() -> None:
    assert len(parse_object(f'{{"text": "{"x" * 5_000_000}"}}')["text"]) == 5_000_000


def test_the_fields_are_validated_at_any_depth() -> None:
    made = build_input([Order], {"address": {"street": "Main St"}, "times": 2})

    assert made == Order(Address("Main St"), 2)


@pytest.mark.parametrize(
    ("kind", "values", "line"),
    [
        (Question, {}, "--input does not make a Question: text: missing, expected str"),
        (
            Order,
            {"address": {"street": 1}, "times": "many"},
            ("--input does not make an Order: address.street: expected str, got 1; times: expected int, got 'many'"),
        ),
        (Order, {"address": {"street": "a"}, "times": "2"}, "--input does not make an Order: times: expected int, got '2'"),
        (
            Question,
            {"txt": "a"},
            ("--input does not make a Question: text: missing, expected str; txt: no field of Question; its fields: text, times"),
        ),
        (Note, {"text": "\ud800"}, "--input does not make a Note: text: half of a surrogate pair, which isn't a character"),
    ],
)
def test_what_does_not_fit_is_named(kind: type, values: dict[str, Any], line: str) -> None:
    with pytest.raises(WrongUsage) as refused:
        build_input([kind], values)

    assert str(refused.value) == line


def test_of_a_union_the_type_is_found_by_the_fields() -> None:
    types = [Question, Order]

    assert build_input(types, {"text": "a"}) == Question("a")
    assert build_input(types, {"address": {"street": "b"}, "times": 1}) == Order(Address("b"), 1)


def test_of_types_with_the_same_fields_only_one_may_fit() -> None:
    assert build_input([Question, Order, Note], {"text": "a", "times": 2}) == Question("a", 2)
    with pytest.raises(WrongUsage, match=r"^--input fits Question and Note: choose one with --input-type Question$"):
        build_input([Question, Note], {"text": "a"})

    assert build_input([Question, Note], {"text": "a"}, "Note") == Note("a")


def test_a_union_without_a_fitting_type_is_refused_with_all_of_them() -> None:
    listed = r"Question \(text, times\), Address \(street\)"

    with pytest.raises(WrongUsage, match=rf"^--input fits none of the graph's input types: {listed}; it has what$"):
        build_input([Question, Address], {"what": 1})
    with pytest.raises(WrongUsage, match=rf"^--input-type Order: the graph takes {listed}$"):
        build_input([Question, Address], {}, "Order")
