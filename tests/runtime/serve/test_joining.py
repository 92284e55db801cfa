"""Pieces of one field reach a reader that is behind as one."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors import Graph
from runtime.core.events import Event
from runtime.graphs.records.run_events import FieldDelta, NodeStarted
from runtime.journal import MemoryStore
from runtime.serve import Recording
from runtime.serve.joining import joined
from runtime.testing import ScriptedLM
from runtime.testing.models.answers import Answer as Scripted
from runtime.traces.kept_run import KeptEvent
from tests.runtime.serve.cast import Answer, Question, serving

SSE = {"accept": "text/event-stream"}


def piece(text: str, at_s: float, *, path: str = "g/n/0", field: str = "text", answer: int = 1) -> FieldDelta:
    return FieldDelta(at_s=at_s, run_id="r", node="n", path=path, attempt=1, field=field, text=text, answer=answer)


def entries_of(events: Sequence[Event]) -> list[KeptEvent]:
    return [KeptEvent(seq, event, 100) for seq, event in enumerate(events, 7)]


def told(events: Sequence[Event]) -> list[tuple[int, str]]:
    return [(each.seq, each.event.text) for each in joined(entries_of(events)) if isinstance(each.event, FieldDelta)]


def test_neighbours_within_50_ms_are_one_under_the_last_number() -> None:
    assert told([piece("a", 1.0), piece("b", 1.02), piece("c", 1.04), piece("d", 1.06)]) == [(9, "abc"), (10, "d")]


def test_another_field_answer_or_message_or_anything_between_them_keeps_them_apart() -> None:
    other = NodeStarted(at_s=1.0, run_id="r", node="n", path="g/n/1", attempt=1)
    for between in (piece("x", 1.0, field="reason"), piece("x", 1.0, answer=2), piece("x", 1.0, path="g/n/1")):
        assert told([piece("a", 1.0), between, piece("b", 1.0)]) == [(7, "a"), (8, "x"), (9, "b")]
    assert told([piece("a", 1.0), other, piece("b", 1.0)]) == [(7, "a"), (9, "b")]


PIECES = st.builds(piece, st.text(max_size=3), st.floats(0, 0.2), path=st.sampled_from("ab"), field=st.sampled_from("xy"))


@given(st.lists(PIECES, max_size=12).map(lambda pieces: sorted(pieces, key=lambda each: each.at_s)), st.integers(0, 12))
def test_a_reader_that_comes_back_after_any_number_reads_every_text_once(pieces: list[FieldDelta], cut: int) -> None:
    entries = entries_of(pieces)
    seen = list(joined(entries))[:cut]
    last = seen[-1].seq if seen else -1
    seen += joined([each for each in entries if each.seq > last])

    for path in "ab":
        for field in "xy":
            ours = [each.event for each in seen if isinstance(each.event, FieldDelta)]
            text = "".join(each.text for each in ours if (each.path, each.field) == (path, field))
            assert text == "".join(each.text for each in pieces if (each.path, each.field) == (path, field))
    assert all(later.seq > former.seq for former, later in itertools.pairwise(seen))


def talking() -> Graph[Question, Answer]:
    """A node whose answer comes in pieces."""
    graph = Graph("talking", input=Question, output=Answer)

    @graph.predict(stream=True)
    async def talk(question: Question) -> Answer:
        """Answer."""
        raise NotImplementedError

    return graph


@pytest.mark.parametrize("content", ["full", "none"])
async def test_what_was_sent_is_sent_again_in_the_same_pieces_after_a_restart(content: Any, virtual_clock: Any) -> None:
    """Without content there is no text in them to be joined."""
    store = MemoryStore()
    options: Any = {"store": store, "record": Recording(content=content)}
    async with serving(talking(), lm=ScriptedLM([Scripted({"text": "one two three"})]), **options) as client:
        body = {"input": attrs.asdict(Question("a"))}
        run = (await client.post("/v1/graphs/talking/runs", body, headers={"prefer": "wait=60"})).json()["id"]
        sent = await client.get(f"/v1/runs/{run}/events", headers=SSE)
    async with serving(talking(), lm=ScriptedLM([]), **options) as client:
        again = await client.get(f"/v1/runs/{run}/events?kinds=field.", headers=SSE)

    assert [event for event in sent.events() if event[1] == "field.delta"] == again.events()
    assert len(again.events()) == 3
    assert again.is_whole


async def test_a_reader_of_a_run_that_is_over_gets_a_field_in_one_piece(virtual_clock: Any) -> None:
    words = "one two three four five six seven"
    lm = ScriptedLM([Scripted({"text": words})])
    async with serving(talking(), lm=lm) as client:
        body = {"input": attrs.asdict(Question("a"))}
        run = (await client.post("/v1/graphs/talking/runs", body, headers={"prefer": "wait=60"})).json()["id"]
        fields = await client.get(f"/v1/runs/{run}/events?kinds=field.,run.", headers=SSE)
        answers = await client.get(f"/v1/runs/{run}/events?kinds=lm.", headers=SSE)
        all_of_it = await client.get(f"/v1/runs/{run}/events", headers=SSE)

    assert [(event["field"], event["text"]) for _, name, event in fields.events() if name == "field.delta"] == [("text", words)]
    assert fields.events()[-1][1] == "run.finished"
    [whole] = [event["delta"] for _, name, event in answers.events() if name == "lm.delta"]
    assert words in whole["text"]
    pieces = [event["text"] for _, name, event in all_of_it.events() if name == "field.delta"]
    assert "".join(pieces) == words
    assert [seq for seq, _, _ in all_of_it.events()] == sorted({seq for seq, _, _ in all_of_it.events()})
