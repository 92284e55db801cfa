"""What is known of a running graph: each event counts, and nothing that others said can act on a terminal."""

from __future__ import annotations

from typing import Any

import pytest

from actors import TextDelta
from runtime.cli.board import MOST_SAID, Board, last_words
from runtime.core.events import EventsMissed
from runtime.graphs.records.run_events import (
    LMCalled,
    LMCallStarted,
    LMDelta,
    NodeCancelled,
    NodeFellBack,
    NodeFinished,
    NodeGaveUp,
    NodeReported,
    NodeRetrying,
    NodeSlowToStop,
    NodeStarted,
    QuestionAnswered,
    QuestionAsked,
    RunFinished,
    SignalTaken,
    ToolCalled,
    ToolCallStarted,
)
from runtime.graphs.records.run_record import RunStatus


def at(kind: Any, node: str = "work", path: str = "g/work/0", attempt: int = 1, **more: Any) -> Any:
    return kind(at_s=0.0, run_id="g-1", node=node, path=path, attempt=attempt, **more)


def called(**more: Any) -> LMCalled:
    numbers: dict[str, Any] = {
        "prompt_tokens": 1200,
        "completion_tokens": 34,
        "cost_usd": 0.0012,
        "requests": 1,
        "duration_s": 0.5,
    }
    event: LMCalled = at(LMCalled, model="openai/x", **{**numbers, **more})
    return event


def states(board: Board, node: str = "work") -> str:
    return ", ".join(words for _, words in board.rows[node].states())


def test_a_node_waits_works_and_is_done() -> None:
    board = Board("g", ["work", "other"])

    assert states(board) == "waiting"
    assert board.note(at(NodeStarted)) == "work starts"
    assert board.note(at(NodeStarted, path="g/work/1")) == "work starts"
    assert states(board) == "running ×2"
    assert board.note(at(NodeFinished, output=1)) == "work finished"
    assert states(board) == "running, done"
    assert (board.messages, states(board, "other")) == (2, "waiting")


def test_a_redelivery_is_seen_before_and_while_it_happens() -> None:
    board = Board("g", ["work"])
    board.note(at(NodeStarted))

    words = board.note(at(NodeRetrying, error=OSError("no\x1b[2J route")))

    assert (words, states(board)) == ("work failed and will be tried again: OSError: no route", "will be redelivered")
    assert board.note(at(NodeStarted, attempt=2)) == "work starts again (attempt 2)"
    assert (states(board), board.now()) == ("running (attempt 2), redelivered", "at work: work (attempt 2)")
    board.note(at(NodeStarted, path="g/work/1"))
    assert (states(board), board.now()) == ("running ×2, redelivered", "at work: work (attempt 2), work")
    board.note(at(NodeFinished, path="g/work/1", output=1))
    assert board.note(at(NodeGaveUp, attempt=2, error=OSError("no route"))) == "work gave up"
    assert (states(board), board.now()) == ("failed, done, redelivered", "nothing is at work")


@pytest.mark.parametrize(
    ("event", "words", "state"),
    [
        (at(NodeCancelled), "work was cancelled", "cancelled"),
        (at(NodeFellBack, error=KeyError("x")), "work failed and falls back: KeyError: 'x'", "fell back"),
        (
            at(NodeSlowToStop, overdue_s=0.25, stack=""),
            "work is slow to stop: its time was up 0.25 s ago, and it continues",
            "slow to stop",
        ),
    ],
)
def test_other_ends_are_told(event: Any, words: str, state: str) -> None:
    board = Board("g", ["work"])
    board.note(at(NodeStarted))

    assert (board.note(event), states(board)) == (words, state)


def test_calls_are_added_up_and_priced_when_a_price_is_known() -> None:
    board = Board("g", ["work"])

    assert board.spent() == ""
    assert board.note(called(cost_usd=None)) == "work called openai/x: 1,234 tokens, 0.500 s"
    assert board.spent() == "1 call, 1,234 tokens"
    assert board.note(called(requests=2)) == "work called openai/x in 2 requests: 1,234 tokens, 0.500 s"
    assert board.spent() == "2 calls, 2,468 tokens, $0.0012"


def test_of_an_answer_the_end_is_kept_and_made_plain_even_if_a_sequence_came_in_two_pieces() -> None:
    board = Board("g", ["work", "other"])
    for text in ("x" * MOST_SAID, " one \x1b[3", "1mtwo\x1b]0;ti", "tle\x07\x9b2J three"):
        board.note(at(LMDelta, delta=TextDelta(text)))

    assert last_words(board, 20) == "…xxxxx one two three"
    board.note(called())
    board.note(at(LMDelta, node="other", path="g/other/0", delta=TextDelta("new\nanswer")))
    assert (board.said_by, last_words(board, 20)) == ("other", "new answer")


def test_calls_of_tools_and_reports_are_told() -> None:
    board = Board("g", ["work"])
    board.note(at(NodeStarted))

    assert board.note(at(NodeReported, text="page\x1b[2J 3", done=3, of=12)) == "work reports: page 3 (3 of 12)"
    assert board.rows["work"].report == "page 3 (3 of 12)"
    for number in range(2):
        assert board.note(at(ToolCallStarted, path=f"g/work/0/tool/{number}", tool="search")) is None
    assert board.rows["work"].doing() == "calls search ×2, page 3 (3 of 12)"
    assert board.note(at(ToolCalled, path="g/work/0/tool/0", tool="search", duration_s=0.25)) == (
        "work called the tool search in 0.250 s"
    )
    failed = at(ToolCalled, path="g/work/0/tool/1", tool="search", duration_s=1.0, error=LookupError("no shelf"))
    assert board.note(failed) == "work called the tool search in 1.000 s, which failed: LookupError: no shelf"
    assert (states(board), board.rows["work"].report) == ("running", "")
    assert board.rows["work"].doing() == ""


def test_a_node_shows_which_model_it_waits_for_until_the_answer_has_come_or_it_has_ended() -> None:
    board = Board("g", ["work"])
    board.note(at(NodeStarted))

    board.note(at(LMCallStarted, call=1, model="a\x1b[2J/b", operation="chat", again=None))
    assert board.rows["work"].doing() == "asks a/b"
    board.note(called(call=1))
    assert board.rows["work"].doing() == ""
    board.note(at(LMCallStarted, call=2, model="a/b", operation="chat", again=None))
    board.note(at(ToolCallStarted, path="g/work/0/tool/0", tool="search"))
    board.note(at(NodeFinished, output=None))
    assert board.rows["work"].doing() == ""


def test_what_people_are_asked_and_say_is_told() -> None:
    board = Board("g", ["work"])
    board.note(at(NodeStarted))

    asked = at(QuestionAsked, question="r.1", asks="pay\x1b[2J", due_at=None, to="anna")
    assert board.note(asked) == "work asks anna about 'pay\\x1b[2J': question r.1"
    assert board.rows["work"].report == "waits for anna"
    assert board.note(at(QuestionAnswered, question="r.1", answer=5, by=None)) == "work was answered by a person: 5"
    assert board.rows["work"].report == ""
    late = at(QuestionAnswered, question="r.1", answer=None, by=None, timed_out=True)
    assert board.note(late) == "work had no answer in time"
    assert board.note(at(SignalTaken, key="hint-1", signal="look")) == "work hears hint-1: 'look'"
    assert states(board) == "running"


def test_a_sequence_that_is_cut_where_the_kept_end_begins_shows_no_control_character() -> None:
    board = Board("g", ["work"])
    board.note(at(LMDelta, delta=TextDelta("\x1b]0;" + "t" * (MOST_SAID - 4) + "\x07 safe")))

    assert not {character for character in last_words(board, 3000) if ord(character) < 32}


def test_where_there_is_not_room_for_all_the_urgent_and_the_latest_are_shown_in_their_order() -> None:
    board = Board("g", [f"n{number}" for number in range(200)])
    for number in (3, 100, 150):
        board.note(at(NodeStarted, node=f"n{number}"))
    board.note(at(NodeFinished, node="n100", output=1))
    board.note(at(NodeGaveUp, node="n150", error=OSError("x")))

    assert [row.name for row in board.chosen(3)] == ["n3", "n100", "n150"]
    assert [row.name for row in board.chosen(1)] == ["n150"]
    assert (len(board.chosen(500)), board.chosen(0), board.chosen(-2)) == (200, [], [])


def test_the_nodes_of_a_nested_graph_get_rows_when_they_begin_and_lost_events_are_told() -> None:
    board = Board("g", ["work"])

    board.note(at(NodeStarted, node="inner"))

    assert list(board.rows) == ["work", "inner"]
    assert board.note(EventsMissed(at_s=0.0, count=7)) == "7 events came too fast to be shown"
    assert board.note(RunFinished(at_s=0.0, run_id="g-1", status=RunStatus.FAILED)) is None
    assert (board.missed, board.ended) == (7, "failed")
