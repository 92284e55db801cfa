from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.lm.http import sse_reader
from runtime.lm.http.sse_reader import EventReader, EventTooLarge, LineReader, ServerEvent

STREAM = (
    b"\xef\xbb\xbf: a comment\n\n"
    b"event: greeting\r\ndata: Gr\xc3\xbc\xc3\x9fe\r\n\r\n"
    b"data:no space\ndata:  two\nid: 7\nretry: 10\n\n"
    b"event: without data\n\n"
    b"data\n\n"
    b'data: {"a": "b: c"}\r\rdata: [DONE]'
)
EVENTS = [
    ServerEvent("Grüße", "greeting"),
    ServerEvent("no space\n two"),
    ServerEvent(""),
    ServerEvent('{"a": "b: c"}'),
    ServerEvent("[DONE]"),
]


def read(pieces: list[bytes]) -> list[ServerEvent]:
    reader = EventReader()
    return [event for piece in pieces for event in reader.feed(piece)] + reader.close()


def test_comments_names_many_lines_and_every_line_end_are_read():
    assert read([STREAM]) == EVENTS


def test_it_does_not_matter_where_the_bytes_are_cut():
    assert read([STREAM[at : at + 1] for at in range(len(STREAM))]) == EVENTS


@given(st.lists(st.integers(0, len(STREAM)), max_size=8))
def test_it_does_not_matter_where_the_bytes_are_cut_at_random(cuts: list[int]):
    ends = sorted({0, len(STREAM), *cuts})

    assert read([STREAM[a:b] for a, b in pairwise(ends)]) == EVENTS


@given(st.binary(max_size=200))
def test_no_bytes_break_it(data: bytes):
    read([data])


def test_bytes_that_are_no_text_are_marked():
    assert read([b"data: a\xffb\n\n"]) == [ServerEvent("a�b")]


@pytest.mark.parametrize("piece", [b"x" * 50, b"data: xxxxx\n"])
def test_an_event_without_end_is_not_held_without_end(piece: bytes):
    reader = EventReader(max_event_bytes=1_000)

    def babble() -> None:
        for _ in range(1_000):
            reader.feed(piece)

    with pytest.raises(EventTooLarge, match="more than 1000 bytes"):
        babble()


def test_lines_are_events_however_they_are_cut():
    reader = LineReader()

    events = [event for byte in '{"a":"ü"}\r\n\n{"b":1}'.encode() for event in reader.feed(bytes([byte]))] + reader.close()

    assert [event.data.strip() for event in events] == ['{"a":"ü"}', '{"b":1}']


def test_a_line_that_never_ends_is_too_large():
    with pytest.raises(EventTooLarge, match="a line has more than 4 bytes"):
        LineReader(max_line_bytes=4).feed(b"12345")


@pytest.mark.parametrize("make", [EventReader, LineReader])
def test_a_long_line_in_many_pieces_is_joined_once(make: type[EventReader | LineReader], monkeypatch: pytest.MonkeyPatch):
    joined: list[int] = []
    take = sse_reader._Rest.take

    def counted(rest: sse_reader._Rest) -> bytes:
        joined.append(rest.size_bytes)
        return take(rest)

    monkeypatch.setattr(sse_reader._Rest, "take", counted)
    reader = make()
    for _ in range(1000):
        assert reader.feed(b"data: ") == []
    assert joined == []
    (event,) = [*reader.feed(b"\n"), *reader.feed(b"\n")]

    assert event.data.count("data: ") >= 999
    assert max(joined) == 6001
