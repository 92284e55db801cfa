"""What is told of a field while it comes is, put together, the field's value, however hostile the text and wherever it is cut."""

import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import attrs
import dspy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.errors import LMReplyUnreadable
from actors.lm import ChatMessage, Completion, Delta, TextDelta
from runtime.lm.dspy.bridge import fill
from runtime.lm.dspy.pieces import FieldSplitter, sections

END = "[[ ## completed ## ]]"
NAMES = ("title", "body")
HOSTILE = (
    f"[[ ## title ## ]]\nParis {END}\n[[ ## body ## ]]\nA town. {END}",
    f"[[ ## title ## ]] Paris\n[[ ## title ## ]]\nRome\n[[ ## body ## ]]\nA town.\n\n{END}",
    f"[[ ## title ## ]]\nthe marker [[ ## body ## ]] within a line\n[[ ## body ## ]]\nx [[ ## title ## ]] y\n{END}",
    f"[[ ## title ## ]]\n[[ ## unknown ## ]]\nlost\n[[ ## body ## ]]\n[[ ## comp [[ ## {END}",
    f"Well.\r\n  [[ ## title ## ]]  \r\n one\r\n\r\n two \u2028[[ ## body ## ]]\t[[1], [[2]]]\x0c\n{END} bye",
    "[[ ## title ## ]]\n\n[[ ## body ## ]]\n[[[ ## title ## ]]\n[[ ##\n[",
    f"[[ ## title ## ]]\n{END[:-1]}\n[[ ## body ## ]]\n{END[:-2]}{END}",
)


def told(text: str, cuts: Sequence[int]) -> dict[str, str]:
    splitter = FieldSplitter(NAMES)
    places = [0, *sorted(cuts), len(text)]
    pieces = [piece for start, end in itertools.pairwise(places) for piece in splitter.feed(text[start:end])] + splitter.end()
    return {name: "".join(piece for field, piece in pieces if field == name) for name in splitter.found}


@pytest.mark.parametrize("text", HOSTILE)
def test_c19_cut_at_any_two_places_the_pieces_are_the_value(text: str):
    whole = sections(text, NAMES)

    assert set(whole) == set(NAMES)
    for cuts in itertools.combinations_with_replacement(range(len(text) + 1), 2):
        assert told(text, cuts) == whole
    assert told(text, range(len(text))) == whole


PARTS = st.sampled_from(
    ["[[ ## title ## ]]", "[[ ## body ## ]]", "[[ ## x ## ]]", END, "\n", "\r\n", " ", "[", "]", "##", "a", "[[ ## ", "\u2028"]
)


@given(st.lists(PARTS, max_size=25).map("".join), st.data())
def test_c19_any_text_cut_anywhere_is_told_as_it_is_read(text: str, data: Any):
    cuts = data.draw(st.lists(st.integers(0, len(text)), max_size=8))

    assert told(text, cuts) == sections(text, NAMES)


def test_c19_a_marker_of_the_end_never_stays_in_a_value():
    assert sections(HOSTILE[0], NAMES) == {"title": "Paris", "body": "A town."}


def test_c19_the_first_of_a_field_told_twice_counts():
    assert sections(HOSTILE[1], NAMES) == {"title": "Paris", "body": "A town."}


def test_c19_a_header_within_a_line_is_text():
    assert sections(HOSTILE[2], NAMES) == {"title": "the marker [[ ## body ## ]] within a line", "body": "x [[ ## title ## ]] y"}


@attrs.frozen
class Article:
    title: str
    body: str


class Streaming:
    """A language model that streams one text, some characters at a time."""

    model = "fake/streaming"

    def __init__(self, text: str, size: int) -> None:
        self._text, self._size = text, size

    async def chat(self, messages: Sequence[ChatMessage], /, **options: Any) -> Completion:
        return Completion(self._text, self.model)

    @asynccontextmanager
    async def stream(self, messages: Sequence[ChatMessage], /, **options: Any) -> AsyncIterator[Any]:
        class Answer:
            completion = Completion(self._text, self.model)

            def __init__(self, pieces: list[Delta]) -> None:
                self._pieces = iter(pieces)

            def __aiter__(self) -> "Answer":
                return self

            async def __anext__(self) -> Delta:
                for piece in self._pieces:
                    return piece
                raise StopAsyncIteration

        size = self._size
        yield Answer([TextDelta(self._text[at : at + size]) for at in range(0, len(self._text), size)])


@pytest.mark.parametrize("size", [1, 3, 7, 1000])
@pytest.mark.parametrize("text", HOSTILE)
async def test_c19_a_streamed_fill_tells_what_it_makes(text: str, size: int):
    pieces: dict[str, str] = {"title": "", "body": ""}

    def on_field(field: str, piece: str, answer: int) -> None:
        pieces[field] += piece

    made = await fill(Streaming(text, size), instruction="", inputs={}, output=Article, on_field=on_field)

    assert Article(**pieces) == made


async def test_c19_of_an_adapter_in_another_format_nothing_is_told_that_is_no_value():
    pieces: list[str] = []
    text = '{"title": "a", "body": "\n[[ ## title ## ]]\nb"}'

    with dspy.context(adapter=dspy.JSONAdapter()):
        made = await fill(
            Streaming(text, 5),
            instruction="",
            inputs={},
            output=Article,
            on_field=lambda field, piece, answer: pieces.append(piece),
        )

    assert (made.title, pieces) == ("a", [])


async def test_c19_two_headers_in_one_line_are_one_field():
    text = f"[[ ## title ## ]] a [[ ## body ## ]] b\n{END}"

    with pytest.raises(LMReplyUnreadable, match="body: missing"):
        await fill(Streaming(text, 5), instruction="", inputs={}, output=Article, parse_attempts=1)
