"""Questions of runs over HTTP: what people are asked, and their answers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import quote

from actors.errors import UsageError
from actors.store_errors import AlreadyAnswered, UnknownRun
from runtime.graphs.records.questions import Question
from runtime.graphs.records.stored_answers import is_object
from runtime.messages.problems import FieldProblem, MessageInvalid
from runtime.messages.shapes import as_object
from runtime.serve.auth import Caller
from runtime.serve.live import Live
from runtime.serve.problem_documents import HttpProblem, invalid_input
from runtime.serve.requests import json_body
from runtime.serve.routes import Answer, Endpoint, as_json, prefix_of
from runtime.serve.run_documents import output_told, run_told
from runtime.serve.web import Request
from runtime.traces.event_json import time_text
from runtime.traces.kept_run import RunRecord


async def open_questions(live: Live, record: RunRecord) -> Sequence[Question]:
    """What the run asks people now, oldest first."""
    if record.is_over:
        return ()
    try:
        return await live.runtime.questions(record.id)
    except UnknownRun:  # it has not begun, or is over at this moment
        return ()


async def give_answer(live: Live, record: RunRecord, question: str, value: object, by: str) -> None:
    """Answer a question of the run; returns when the answer is durable.

    Raises:
        Problem: there is none, it has its answer, or `value` is none.
    """
    if question.rpartition(".")[0] != record.id:  # an id begins with that of its run
        raise HttpProblem("no-such-question", run=record.id)
    await answer_any(live, question, value, by, record.id)


async def answer_any(live: Live, question: str, value: object, by: str, run: str | None = None) -> None:
    """Answer a question of any run; returns when the answer is durable.

    Raises:
        Problem: there is none, it has its answer, or `value` is none.
    """
    try:
        await live.runtime.answer(question, value, by)
    except MessageInvalid as error:
        raise invalid_input(error) from error
    except AlreadyAnswered as error:
        raise HttpProblem("already-answered", run=run) from error
    except UnknownRun as error:
        raise HttpProblem("no-such-question", run=run) from error
    except UsageError as error:
        raise HttpProblem(
            "input-invalid", errors=[FieldProblem((), "it fits none of the types that the question takes")]
        ) from error


def question_told(live: Live, question: Question, record: RunRecord, caller: Caller, prefix: str) -> dict[str, Any]:
    """A question, with a schema for the form of its answer."""
    here = f"{prefix}/v1/runs/{quote(record.id, safe='')}/questions/{quote(question.id, safe='')}"
    return {
        "id": question.id,
        "run": record.id,
        "node": question.node,
        "path": question.path,
        "text": question.text,
        "asks": asked(live, question, record, caller),
        "answer_schema": question.schema,
        "asked_at": time_text(question.asked_at),
        "due_at": None if question.due_at is None else time_text(question.due_at),
        "to": question.to,
        "links": {"answer": f"{here}/answer"},
    }


def asked(live: Live, question: Question, record: RunRecord, caller: Caller) -> Any:
    """What is asked about, as `caller` may see it: whose run it is sees all."""
    if record.owner != caller.name:
        return live.encoder.content_told(question.asks)
    if is_object(question.asks):
        return {name: output_told(part) for name, part in as_object(question.asks).items()}
    return output_told(question.asks)


def question_words(live: Live, question: Question, record: RunRecord, caller: Caller) -> str:
    """The question and what it is about, as text."""
    about = json.dumps(asked(live, question, record, caller), ensure_ascii=False)
    return "\n\n".join(part for part in (question.text, about) if part)


async def list_questions(live: Live, caller: Caller, request: Request) -> Answer:
    """What a run asks people now."""
    record = await live.find(request.path_params["run"], caller)
    found = await open_questions(live, record)
    told = [question_told(live, question, record, caller, prefix_of(request)) for question in found]
    return as_json({"questions": told}, 200, {"X-Run-Id": record.id})


async def answer_question(live: Live, caller: Caller, request: Request) -> Answer:
    """Answer a question: the body is the answer; tell where the run is then."""
    record = await live.find(request.path_params["run"], caller, operating=True)
    value, _ = await json_body(request, live.limits)
    await give_answer(live, record, request.path_params["question"], value, caller.name)
    return as_json(run_told(live, record, caller, prefix_of(request)), 200, {"X-Run-Id": record.id})


ENDPOINTS: Final[Sequence[Endpoint]] = (
    Endpoint("GET", "/v1/runs/{run}/questions", "run", list_questions, "List what a run asks people"),
    Endpoint("POST", "/v1/runs/{run}/questions/{question}/answer", "run", answer_question, "Answer a question"),
)
