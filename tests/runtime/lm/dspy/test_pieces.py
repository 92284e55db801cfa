"""An answer in the chat format, split into its fields while it comes."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.lm.dspy.pieces import FieldSplitter

ANSWER = (
    "Well.\n[[ ## reasoning ## ]]\nFirst [1], then [[x]].\n\n[[ ## filters ## ]]\n[[1, 2], [3]]\n\n[[ ## completed ## ]]\nbye"
)


def split(pieces: list[str]) -> dict[str, str]:
    splitter = FieldSplitter(["reasoning", "filters"])
    told: dict[str, str] = {}
    for field, text in [*(each for piece in pieces for each in splitter.feed(piece)), *splitter.end()]:
        told[field] = told.get(field, "") + text
    return told


@given(st.lists(st.integers(0, len(ANSWER)), max_size=30))
def test_however_it_comes_the_pieces_make_the_fields(cuts: list[int]):
    places = [0, *sorted(cuts), len(ANSWER)]
    pieces = [ANSWER[start:end] for start, end in itertools.pairwise(places)]

    assert split(pieces) == {"reasoning": "First [1], then [[x]].", "filters": "[[1, 2], [3]]"}


def test_a_text_is_told_as_it_comes_and_not_at_its_end():
    splitter = FieldSplitter(["text"])

    told = [splitter.feed(piece) for piece in ("[[ ## te", "xt ## ]]\n", "one", " two", "\n[", "[ ## completed ## ]]")]

    assert told == [[], [], [("text", "one")], [("text", " two")], [], []]


@pytest.mark.parametrize("answer", ["", "I would rather not.", '{"reasoning": "r"}'])
def test_of_an_answer_in_another_format_nothing_is_told(answer: str):
    assert split([answer]) == {}


def test_a_field_that_ends_with_the_answer_is_told_whole():
    assert split(["[[ ## filters ## ]]\n[1", ", 2"]) == {"filters": "[1, 2"}
