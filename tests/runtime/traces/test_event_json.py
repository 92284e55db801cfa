"""How events are written for the world outside."""

import json
import typing
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import pytest

from actors.errors import LMTimeout, NodeFailed, RunFailed
from actors.lm import ReasoningDelta, TextDelta, ToolCallDelta
from runtime import AnyEvent
from runtime.core.events import ActorCrashed, EventsMissed, MessageDeadLettered
from runtime.graphs.records.run_events import (
    LMDelta,
    NodeFinished,
    NodeGaveUp,
    NodeSlowToStop,
    QuestionAsked,
    RunFinished,
    RunStarted,
)
from runtime.graphs.records.run_record import RunStatus
from runtime.traces.event_json import Encoder, event_classes, name_of, schema_of_event

WIRE_NAMES = {
    *("run.started", "run.resumed", "run.parked", "run.finished", "run.abandoned"),
    *("node.started", "node.finished", "node.emitted", "node.retrying", "node.fell_back", "node.gave_up", "node.cancelled"),
    *("node.slow_to_stop", "lm.started", "lm.asked", "lm.delta", "lm.finished", "field.delta", "events.missed"),
    *("actor.started", "actor.crashed", "actor.restarting", "actor.ended", "actor.unresponsive", "supervisor.parked"),
    *("message.dead_lettered", "message.redelivering", "loop.blocked", "instrument.failed", "store.stalled", "store.recovered"),
}
NODE: dict[str, Any] = {"run_id": "r", "node": "tell", "path": "tell/0", "attempt": 1}


def wall_time(at_s: float) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=at_s)


def told(event: Any, *, inside: bool = True, **options: Any) -> Any:
    text = Encoder(wall_time, **options).encode(event, 3, 1.0, inside=inside)
    assert b"\n" not in text
    return json.loads(text.decode("ascii"), parse_constant=pytest.fail)


@attrs.frozen
class Reply:
    text: str
    score: float = 1.0


def test_every_class_of_events_has_a_name_of_its_own() -> None:
    classes = list(event_classes())
    names = [name_of(kind) for kind in classes]

    assert len(set(names)) == len(names)
    assert set(names) >= WIRE_NAMES
    union = {typing.get_origin(kind) or kind for kind in typing.get_args(AnyEvent)}
    assert union <= set(classes)


@pytest.mark.parametrize("kind", list(event_classes()), ids=name_of)
def test_every_name_has_a_schema(kind: Any) -> None:
    schema = schema_of_event(kind)

    assert schema["title"] == name_of(kind)
    assert {"v", "seq", "at", "elapsed_s"} <= set(schema["properties"])
    json.dumps(schema)


def test_an_event_is_one_line_with_its_number_and_its_times() -> None:
    assert told(NodeFinished(at_s=2.5, output=Reply("a"), **NODE)) == {
        "v": 1,
        "seq": 3,
        "event": "node.finished",
        "at": "1970-01-01T00:00:02.500000Z",
        "elapsed_s": 1.5,
        "run": "r",
        "node": "tell",
        "path": "tell/0",
        "attempt": 1,
        "output": {"text": "a", "score": 1.0},
    }


@pytest.mark.parametrize("text", ["\u2028\u2029", "\ud800", "\r\n\0", "é語🙂", "</script>"])
def test_no_text_breaks_a_line(text: str) -> None:
    assert told(NodeFinished(at_s=1, output=Reply(text), **NODE))["output"]["text"] == text


def test_numbers_that_json_does_not_have_are_null() -> None:
    assert told(NodeFinished(at_s=1, output=Reply("a", float("nan")), **NODE))["output"] == {"text": "a", "score": None}


def test_a_message_that_cannot_be_written_is_named() -> None:
    loop: list[Any] = []
    loop.append(loop)

    assert told(NodeFinished(at_s=1, output=loop, **NODE))["output"] == {"unreadable": "list"}


@pytest.mark.parametrize(
    ("delta", "expected"),
    [
        (TextDelta("a"), {"kind": "text", "text": "a"}),
        (ReasoningDelta("a"), {"kind": "reasoning", "text": "a"}),
        (ToolCallDelta(0, "i", "n", "{"), {"kind": "tool_call", "index": 0, "id": "i", "name": "n", "arguments": "{"}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_piece_of_an_answer_says_of_what_it_is(delta: Any, expected: Any) -> None:
    assert told(LMDelta(at_s=1, delta=delta, **NODE))["delta"] == expected


def failed() -> RunFailed:
    leaf = NodeFailed("node 'tell' failed", run_id="r", node="tell", path="tell/0", attempt=2)
    leaf.__cause__ = LookupError("secret /etc/passwd")
    return RunFailed("a node failed", [leaf])


def test_who_may_not_see_inside_learns_which_node_failed_and_not_of_what() -> None:
    event = RunFinished[Any](at_s=1, run_id="r", status=RunStatus.FAILED, error=failed())

    text = json.dumps(told(event, inside=False))

    assert "secret" not in text
    assert "LookupError" not in text
    assert told(event, inside=False)["error"] == {
        "type": "RunFailed",
        "nodes": [{"node": "tell", "path": "tell/0", "attempt": 2, "error": {"type": "Error"}}],
    }
    assert told(event)["error"]["nodes"][0]["error"] == {"type": "LookupError", "message": "secret /etc/passwd"}


def test_an_error_of_ours_is_named_to_everybody() -> None:
    event = NodeGaveUp(at_s=1, error=LMTimeout("http://inside took 3 s"), **NODE)

    assert told(event, inside=False)["error"] == {"type": "LMTimeout"}
    assert told(event)["error"] == {"type": "LMTimeout", "message": "http://inside took 3 s"}


def test_stacks_are_for_those_inside() -> None:
    event = NodeSlowToStop(at_s=1, overdue_s=1.0, stack="File x", **NODE)

    assert told(event, inside=False)["stack"] is None
    assert told(event)["stack"] == "File x"


def test_content_is_left_out_when_redact_raises_and_that_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    def broken(value: Any) -> Any:
        raise LookupError(value["text"])

    encoder = Encoder(wall_time, redact=broken)
    event = NodeFinished(**NODE, at_s=2.0, output=Reply("a secret"))

    assert [json.loads(encoder.encode(event, 3, 1.0, inside=True))["output"] for _ in range(2)] == [None, None]
    [record] = caplog.records
    assert "redact raised LookupError" in record.getMessage()
    assert "secret" not in caplog.text


@pytest.mark.parametrize(
    ("given", "shown"), [({1, 2}, [1, 2]), (LookupError("x"), {"type": "LookupError"}), (Reply("b"), {"text": "b", "score": 1.0})]
)
def test_what_redact_returns_need_not_be_json(given: Any, shown: Any) -> None:
    assert told(NodeFinished(**NODE, at_s=2.0, output=Reply("a")), redact=lambda _: given)["output"] == shown


def test_content_can_be_left_out_and_redacted() -> None:
    started = RunStarted(at_s=1, run_id="r", graph="g", input=Reply("key"), labels={"a": "b"})

    assert told(started, content="none")["input"] is None
    assert told(started, content="none")["labels"] == {"a": "b"}
    assert told(started, redact=lambda value: {**value, "text": "…"})["input"] == {"text": "…", "score": 1.0}


@pytest.mark.parametrize("options", [{"content": "none"}, {"redact": lambda _: "***"}], ids=["left out", "redacted"])
def test_the_id_of_a_question_is_no_content(options: Any) -> None:
    """Without it no one could answer, and of two questions in one run a trace could not tell which was answered."""
    asked = told(QuestionAsked(**NODE, at_s=2.0, question="r.1", asks=Reply("a secret")), **options)

    assert asked["question"] == "r.1"
    assert "secret" not in json.dumps(asked)


def test_events_of_actors_have_no_run() -> None:
    crashed = told(ActorCrashed(at_s=1, address="a", incarnation=1, error=ValueError("x")))

    assert "run" not in crashed
    assert (crashed["address"], crashed["error"]["type"]) == ("a", "ValueError")
    assert told(EventsMissed(at_s=1, count=4))["count"] == 4
    assert told(MessageDeadLettered(at_s=1, letter="x"))["letter"] == "x"
