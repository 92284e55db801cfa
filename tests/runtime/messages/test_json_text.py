"""JSON text is read as the standard has it, and no further than its bounds."""

from __future__ import annotations

import json
from typing import Any

import pytest

from runtime.messages import json_text
from runtime.messages.json_text import flaws, parse
from runtime.messages.problems import MessageInvalid


def refused(text: str | bytes, **bounds: int) -> list[tuple[str, str]]:
    with pytest.raises(MessageInvalid) as caught:
        parse(text, **bounds)
    return [(problem.pointer, problem.message) for problem in caught.value.problems]


@pytest.mark.parametrize("value", [None, True, 0, -1.5, "é\u2028\x00", [], {"": {"a/b": [1, "x"]}}, 2**70])
def test_json_is_read(value: Any) -> None:

    assert parse(json.dumps(value)) == value
    assert parse(json.dumps(value, ensure_ascii=False).encode()) == value


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ('{"a": {"b": 1, "b": 1, "c": 2, "c": 3}}', [("/a/b", "given twice"), ("/a/c", "given twice")]),
        ('{"a": [NaN, -Infinity, 1e999]}', [(f"/a/{index}", "expected a finite number") for index in range(3)]),
        (r'{"a~/": "\ud800"}', [("/a~0~1", "half of a surrogate pair, which isn't a character")]),
        (r'{"\udc00": 1}', [("", r"'\udc00' isn't a name: half of a surrogate pair, or not a text")]),
        ("[1,]", [("", "Illegal trailing comma before end of array: line 1 column 3 (char 2)")]),
        (b'"\xff"', [("", "the text is not UTF-8 (byte 1)")]),
        ("9" * 5_000, [("", "a number has too many digits")]),
        ("[" * 100_000, [("", "it is nested too deeply")]),
        ("[" * 65 + "]" * 65, [("", "it is nested more than 64 deep")]),
    ],
)
def test_what_strict_json_does_not_have_is_named_with_its_place(text: str | bytes, problems: list[tuple[str, str]]) -> None:
    found = refused(text)

    assert [place for place, _ in found] == [place for place, _ in problems]
    if text != "[1,]":  # the parser's own words change from one Python to the next
        assert found == problems


def test_a_whole_pair_of_surrogates_is_a_character() -> None:
    assert parse(r'"\ud83d\ude42"') == "🙂"


def test_length_and_depth_are_bounded_by_the_caller() -> None:
    assert refused('"é"', max_bytes=3) == [("", "the text has more than 3 bytes")]
    assert parse('"é"', max_bytes=4) == "é"
    assert refused("[[1]]", max_depth=1) == [("", "it is nested more than 1 deep")]
    assert parse("[[1]]", max_depth=2) == [[1]]


def test_a_value_that_python_made_may_hold_anything_and_is_refused_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_text, "MAX_CONTAINERS", 1_000)
    ring: list[Any] = []
    ring += [ring, ring]

    assert [flaw.message for flaw in flaws(ring)] == ["it has more than 1,000 lists and objects"]
    assert [str(flaw) for flaw in flaws({"a": (1,), 2: 3})] == [
        "a: expected JSON, got Python's tuple",
        "2 isn't a name: half of a surrogate pair, or not a text",
    ]


def test_of_many_problems_a_hundred_are_kept_and_ten_told() -> None:
    with pytest.raises(MessageInvalid, match=r"\[9\]: expected a finite number\n  … and 90 more\n  Fix: ") as caught:
        parse("[" + "NaN," * 1_000 + "1]")

    assert len(caught.value.problems) == 100
