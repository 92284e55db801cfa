"""Responses: the newer form of OpenAI's API, whole and streamed.

A run that asks a person ends the response with its question; the next response, which names this one as the previous one, is the
answer, and goes on with the run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, cast, final

import attrs
import trio

from runtime.graphs.records.questions import Question
from runtime.graphs.records.run_events import QuestionAsked
from runtime.graphs.records.run_record import Spend
from runtime.messages.problems import MessageInvalid
from runtime.serve.auth import Caller
from runtime.serve.faces.following import cancel, cancelling
from runtime.serve.faces.forms import form_of
from runtime.serve.faces.openai_models import Model, Pieces, ServedModels, answer_of, error_told, reject_options, text_in
from runtime.serve.live import Live, Order
from runtime.serve.problem_documents import HttpProblem, invalid_input
from runtime.serve.question_routes import give_answer, open_questions, question_words
from runtime.serve.requests import json_body
from runtime.serve.routes import Answer, as_json
from runtime.serve.sse import HEADERS, QUIET, ResponseWriter
from runtime.serve.web import Request
from runtime.traces.event_json import dumps
from runtime.traces.kept_run import RunRecord

_TEXT: Final = {"format": {"type": "text"}}
_UNSUPPORTED: Final[Mapping[str, tuple[Any, ...]]] = {
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "text": ({}, _TEXT),
    "background": (False,),
    "conversation": (),
    "prompt": (),
    "include": ([],),
    "top_logprobs": (0,),
}
"""What would change the answer, and cannot: with the values that ask for nothing. Options of sampling are passed over."""
PREFIX: Final = "resp_"
"""What ids of responses begin with; then come the run, and after a dot where in it a later response begins."""


async def respond(live: Live, caller: Caller, request: Request, models: ServedModels) -> Answer:
    """Start a run for a conversation, or answer what one asks; tell what it answers, or asks.

    Raises:
        Problem: the request is wrong, or the run has failed.
    """
    value, _ = await json_body(request, live.limits)
    body = _checked(value)
    model = models.named(live, body.get("model"))
    messages = _messages(body)
    if body.get("previous_response_id") is None:
        launch, _ = live.accept(Order(model.graph, model.message(messages)), caller)
        record, after = launch.record, -1
        with cancelling(live, record):
            await live.begun(launch)
    else:
        record = await _waiting(live, caller, body["previous_response_id"], model)
        after = record.next_seq - 1
        await _answer(live, caller, record, messages)
    response = Response(live, record, caller, model, after, int(live.runtime.wall_time(trio.current_time()).timestamp()), body)
    if body.get("stream"):
        return _Stream(response)
    pieces = Pieces(live, record, model, after)
    with cancelling(live, record):
        question = await response.question(pieces)
        while question is None and await pieces.more() is not None:
            question = await response.question(pieces)
    if question is not None:
        return as_json(response.asking(question), 200, {"X-Run-Id": record.id})
    return as_json(response.whole(answer_of(live, record, caller, model)), 200, {"X-Run-Id": record.id})


async def _waiting(live: Live, caller: Caller, previous: object, model: Model) -> RunRecord:
    """The run whose question the response `previous` was.

    Raises:
        Problem: there is none.
    """
    run_id = previous.removeprefix(PREFIX).partition(".")[0] if isinstance(previous, str) else ""
    try:
        record = await live.find(run_id, caller, operating=True)
    except HttpProblem as problem:
        more = {"param": "previous_response_id", "code": "previous_response_not_found"}
        raise HttpProblem("bad-request", "previous_response_id: there is no response of this id.", more=more) from problem
    if record.graph != model.graph.name:
        more = {"param": "model", "code": "unsupported_model"}
        raise HttpProblem("bad-request", f"model: the previous response is of {record.graph!r}.", more=more)
    return record


async def _answer(live: Live, caller: Caller, record: RunRecord, messages: Sequence[Mapping[str, Any]]) -> None:
    questions = await open_questions(live, record)
    texts = [text_in(each.get("content"), "input") for each in messages if each["role"] == "user"]
    if not questions or not texts:
        what = "previous_response_id: that response asks nothing." if not questions else "input: expected the user's answer."
        raise HttpProblem("bad-request", what, more={"param": "previous_response_id", "code": "unsupported_parameter"})
    try:
        value = form_of(questions[0].schema).read_text(texts[-1])
    except MessageInvalid as error:
        raise invalid_input(error) from error
    await give_answer(live, record, questions[0].id, value, caller.name)


@final
@attrs.frozen
class Response:
    """One response of a run."""

    live: Live
    record: RunRecord
    caller: Caller
    model: Model
    after: int
    created: int
    body: Mapping[str, Any]

    @property
    def id(self) -> str:
        """Of the response."""
        return f"{PREFIX}{self.record.id}" + (f".{self.after}" if self.after >= 0 else "")

    async def question(self, pieces: Pieces) -> Question | None:
        """What the run asks a person, if it may have begun to since the last look."""
        is_first = not pieces.entries and self.after >= 0
        if not is_first and not any(isinstance(entry.event, QuestionAsked) for entry in pieces.entries):
            return None
        questions = await open_questions(self.live, self.record)
        return questions[0] if questions else None

    def begun(self) -> dict[str, Any]:
        """Before there is anything to say."""
        return self._told("in_progress", [])

    def whole(self, text: str) -> dict[str, Any]:
        """When all is said."""
        return self._told("completed", [self.item(text)], usage=usage_told(self.record.spend))

    def asking(self, question: Question, before: str = "") -> dict[str, Any]:
        """When a person is asked."""
        metadata = {"run": self.record.id, "question": question.id}
        return {**self.whole(before + self.asked(question, before)), "metadata": metadata}

    def asked(self, question: Question, before: str = "") -> str:
        """What a person is asked, after what has been said `before`."""
        return ("\n\n" if before else "") + question_words(self.live, question, self.record, self.caller)

    def failed(self, problem: HttpProblem) -> dict[str, Any]:
        """When there is no answer."""
        told = error_told(problem)
        return {**self._told("failed", []), "error": {"code": told["code"], "message": told["message"]}}

    def item(self, text: str | None) -> dict[str, Any]:
        """The message; None: it has only begun."""
        status, content = ("in_progress", []) if text is None else ("completed", [part_told(text)])
        name = self.id.removeprefix(PREFIX)
        return {"type": "message", "id": f"msg_{name}", "status": status, "role": "assistant", "content": content}

    def _told(self, status: str, output: list[Any], usage: Any = None) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": "response",
            "created_at": self.created,
            "status": status,
            "error": None,
            "incomplete_details": None,
            "instructions": self.body.get("instructions"),
            "max_output_tokens": None,
            "metadata": {"run": self.record.id},
            "model": self.model.graph.name,
            "output": output,
            "parallel_tool_calls": False,
            "previous_response_id": self.body.get("previous_response_id"),
            "reasoning": None,
            "store": self.body.get("store") is not False,
            "temperature": None,
            "text": _TEXT,
            "tool_choice": "none",
            "tools": [],
            "top_p": None,
            "truncation": "disabled",
            "usage": usage,
        }


def part_told(text: str) -> dict[str, Any]:
    """Text as a part of a message."""
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def usage_told(spend: Spend) -> dict[str, Any]:
    """What a run has used, in the words of responses."""
    return {
        "input_tokens": spend.prompt_tokens,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": spend.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": spend.prompt_tokens + spend.completion_tokens,
    }


@final
class _Stream:
    """A response as server-sent events. A client that leaves cancels the run."""

    def __init__(self, response: Response) -> None:
        self._response = response
        self._count = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        response = self._response
        live, record = response.live, response.record
        is_whole = False
        try:
            with live.usage.stream(response.caller.name):
                headers = [*HEADERS, (b"x-run-id", record.id.encode())]
                await send({"type": "http.response.start", "status": 200, "headers": headers})
                is_whole = await self._write(ResponseWriter(send, live.limits.stall_s))
                if is_whole:
                    await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            if not is_whole:
                cancel(live, record)

    async def _write(self, writer: ResponseWriter) -> bool:
        """Write all of it; False if the client takes nothing any more."""
        response = self._response
        pieces = Pieces(response.live, response.record, response.model, response.after)
        try:
            opening = [
                self._event("response.created", response=response.begun()),
                self._event("response.in_progress", response=response.begun()),
                self._event("response.output_item.added", output_index=0, item=response.item(None)),
                self._part("response.content_part.added", part=part_told("")),
            ]
            if not await writer.write(b"".join(opening)):
                return False
            question = await response.question(pieces)
            while question is None and (found := await pieces.more()) is not None:
                told = b"".join(self._delta(piece) for piece in found) if pieces.entries else QUIET
                if told and not await writer.write(told):
                    return False
                question = await response.question(pieces)
            if question is not None:
                text, whole = pieces.sent + response.asked(question, pieces.sent), response.asking(question, pieces.sent)
            else:
                text = answer_of(response.live, response.record, response.caller, response.model)
                whole = response.whole(text)
            return await writer.write(self._closing(text, pieces.rest(text), whole))
        except HttpProblem as problem:
            return await writer.write(self._event("response.failed", response=response.failed(problem)))

    def _closing(self, text: str, rest: str, whole: dict[str, Any]) -> bytes:
        parts = [
            self._delta(rest) if rest else b"",
            self._part("response.output_text.done", text=text, logprobs=[]),
            self._part("response.content_part.done", part=part_told(text)),
            self._event("response.output_item.done", output_index=0, item=self._response.item(text)),
            self._event("response.completed", response=whole),
        ]
        return b"".join(parts)

    def _delta(self, text: str) -> bytes:
        return self._part("response.output_text.delta", delta=text, logprobs=[])

    def _part(self, kind: str, **more: Any) -> bytes:
        return self._event(kind, item_id=self._response.item(None)["id"], output_index=0, content_index=0, **more)

    def _event(self, kind: str, **more: Any) -> bytes:
        told = {"type": kind, "sequence_number": self._count, **more}
        self._count += 1
        return b"event: " + kind.encode() + b"\ndata: " + dumps(told) + b"\n\n"


def _checked(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise HttpProblem("bad-request", "Expected an object.")
    body = cast("dict[str, Any]", value)
    reject_options(body, _UNSUPPORTED)
    if not isinstance(body.get("instructions") or "", str):
        raise HttpProblem("bad-request", "instructions: expected text.", more={"param": "instructions"})
    return body


def _messages(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The conversation, in the form of chat completions.

    Raises:
        Problem: there is none, or it has more than text.
    """
    given: object = body.get("input")
    asked: object = [{"role": "user", "content": given}] if isinstance(given, str) else given
    items = cast("list[object]", asked) if isinstance(asked, list) else []
    if not items:
        raise HttpProblem("bad-request", "input: expected text, or a list of messages.", more={"param": "input"})
    instructions = body.get("instructions")
    found: list[dict[str, Any]] = [{"role": "system", "content": instructions}] if instructions else []
    for index, each in enumerate(items):
        message = cast("dict[str, Any]", each) if isinstance(each, dict) else {}
        if message.get("type", "message") != "message" or not isinstance(message.get("role"), str):
            raise HttpProblem("bad-request", f"input[{index}]: expected a message with a role.", more={"param": "input"})
        found.append({"role": message["role"], "content": text_in(message.get("content"), "input")})
    return found
