"""Pieces of streamed tool calls belong to the right call, whichever index a server gives them, or none."""

import json
from typing import Any

import pytest

from actors.lm import ToolCallDelta
from runtime.lm.http.sse_reader import ServerEvent
from runtime.lm.providers.chunks import ChunkReader
from runtime.lm.providers.import_litellm import load

Piece = dict[str, Any]


def piece(arguments: str = "", **more: Any) -> Piece:
    """One piece of a call: of `more`, the name stands within its function."""
    function = {"arguments": arguments, **({"name": more.pop("name")} if "name" in more else {})}
    return {**more, "function": function}


def read(*events: list[Piece]) -> tuple[list[tuple[str, str, str]], list[ToolCallDelta]]:
    """The calls as (id, name, arguments), and their pieces."""
    reader = ChunkReader(
        lambda: lambda chunk: load().types.utils.ModelResponseStream(**chunk), is_like_openai=False, is_loaded=lambda: True
    )
    deltas: list[Any] = []
    for pieces in events:
        chunk = {"id": "1", "choices": [{"index": 0, "delta": {"tool_calls": pieces}, "finish_reason": None}]}
        deltas += reader.read(ServerEvent(json.dumps(chunk))) or []
    calls = [(call["id"], call["function"]["name"], call["function"]["arguments"]) for call in reader.tool_calls]
    return calls, deltas


FIRST, SECOND = '{"city": "Ulm"}', '{"city": "Bonn"}'
TWO = [("a", "weather", FIRST), ("b", "weather", SECOND)]
STREAMS: dict[str, list[list[Piece]]] = {
    "an index of each": [
        [piece(index=0, id="a", name="weather")],
        [piece(FIRST, index=0)],
        [piece(index=1, id="b", name="weather")],
        [piece(SECOND, index=1)],
    ],
    "one index": [
        [piece(index=0, id="a", name="weather")],
        [piece(FIRST[:5], index=0)],
        [piece(FIRST[5:], index=0)],
        [piece(SECOND[:5], index=0, id="b", name="weather")],
        [piece(SECOND[5:], index=0)],
    ],
    "no index": [
        [piece(id="a", name="weather")],
        [piece(FIRST[:5])],
        [piece(FIRST[5:])],
        [piece(id="b", name="weather")],
        [piece(SECOND[:5])],
        [piece(SECOND[5:])],
    ],
    "no index, both in one event": [
        [piece(FIRST[:5], id="a", name="weather"), piece(SECOND, id="b", name="weather")],
        [piece(FIRST[5:], id="a")],
    ],
    "interleaved": [
        [piece(index=0, id="a", name="weather"), piece(index=1, id="b", name="weather")],
        [piece(FIRST[:5], index=0)],
        [piece(SECOND[:5], index=1)],
        [piece(FIRST[5:], index=0), piece(SECOND[5:], index=1)],
    ],
    "the id with every piece": [
        [piece(FIRST[:5], index=0, id="a", name="weather")],
        [piece(FIRST[5:], index=0, id="a", name="weather")],
        [piece(SECOND, index=0, id="b", name="weather")],
    ],
    "the id late": [
        [piece(FIRST[:5], index=0, name="weather")],
        [piece(FIRST[5:], index=0, id="a")],
        [piece(SECOND, index=1, id="b", name="weather")],
    ],
    "the second index first": [
        [piece(index=1, id="a", name="weather")],
        [piece(FIRST, index=1)],
        [piece(SECOND, index=0, id="b", name="weather")],
    ],
}


@pytest.mark.parametrize("how", STREAMS)
def test_c18_two_calls_are_two_whatever_their_index(how: str):
    calls, _ = read(*STREAMS[how])

    assert calls == TWO


@pytest.mark.parametrize("how", STREAMS)
def test_c18_the_pieces_of_a_call_have_its_place_in_the_answer(how: str):
    calls, deltas = read(*STREAMS[how])

    for at, (name_of_call, name, arguments) in enumerate(calls):
        own = [delta for delta in deltas if delta.index == at]
        assert "".join(delta.arguments for delta in own) == arguments
        assert [delta.id for delta in own if delta.id] == [name_of_call]
        assert [delta.name for delta in own if delta.name] == [name]


def test_c18_without_any_id_a_name_after_complete_arguments_begins_a_call():
    calls, _ = read([piece(FIRST, index=0, name="weather")], [piece(SECOND, index=0, name="weather")])

    assert calls == [("", "weather", FIRST), ("", "weather", SECOND)]


def test_c18_a_name_that_is_repeated_within_the_arguments_begins_none():
    calls, _ = read([piece(FIRST[:5], index=0, name="weather")], [piece(FIRST[5:], index=0, name="weather")])

    assert calls == [("", "weather", FIRST)]


def test_c18_calls_without_arguments_are_told_apart_by_their_names():
    calls, _ = read([piece(index=0, name="now")], [piece(index=0, name="here")])

    assert calls == [("", "now", ""), ("", "here", "")]
