"""Chat completions, whole and streamed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast, final

import attrs
import trio

from runtime.graphs.records.run_record import Spend
from runtime.serve.auth import Caller
from runtime.serve.faces.following import cancel, cancelling
from runtime.serve.faces.openai_models import Model, Pieces, ServedModels, answer_of, error_told, reject_options
from runtime.serve.live import Live, Order, ServedRun
from runtime.serve.problem_documents import HttpProblem
from runtime.serve.requests import json_body
from runtime.serve.routes import Answer, as_json
from runtime.serve.sse import HEADERS, QUIET, ResponseWriter
from runtime.serve.web import Request
from runtime.traces.event_json import dumps
from runtime.traces.kept_run import RunRecord

_UNSUPPORTED: Final[Mapping[str, tuple[Any, ...]]] = {
    "n": (1,),
    "tools": ([],),
    "functions": ([],),
    "tool_choice": ("none", "auto"),
    "function_call": ("none", "auto"),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "audio": (),
    "modalities": (["text"],),
    "response_format": ({"type": "text"},),
}
"""What would change the answer, and cannot: with the values that ask for nothing. Options of sampling are passed over."""


async def complete(live: Live, caller: Caller, request: Request, models: ServedModels) -> Answer:
    """Start a run for a conversation, and answer with its text.

    Raises:
        Problem: the request is wrong, or the run has made no answer.
    """
    value, _ = await json_body(request, live.limits)
    body = _checked(value)
    model = models.named(live, body.get("model"))
    launch, _ = live.accept(Order(model.graph, model.message(body["messages"])), caller)
    created = int(live.runtime.wall_time(trio.current_time()).timestamp())
    completion = ChatAnswer(live, launch, model, created)
    if body.get("stream"):
        options: dict[str, Any] = body.get("stream_options") or {}
        return _Stream(completion, includes_usage=bool(options.get("include_usage")))
    with cancelling(live, launch.record):
        await live.begun(launch)
        await live.wait(launch.record, live.limits.run_s)
    return as_json(completion.whole(), 200, {"X-Run-Id": launch.record.id})


@final
@attrs.frozen
class ChatAnswer:
    """One answer, whole or in pieces."""

    live: Live
    launch: ServedRun
    model: Model
    created: int

    @property
    def record(self) -> RunRecord:
        """The run that makes it."""
        return self.launch.record

    def text(self) -> str:
        """The text of the run's output.

        Raises:
            Problem: the run has none.
        """
        return answer_of(self.live, self.record, self.launch.caller, self.model)

    def whole(self) -> dict[str, Any]:
        """The answer of a run that is over.

        Raises:
            Problem: it made none.
        """
        choice = {"index": 0, "message": {"role": "assistant", "content": self.text()}, "finish_reason": "stop", "logprobs": None}
        return {**self._head("chat.completion"), "choices": [choice], "usage": usage_told(self.record.spend)}

    def chunk(self, delta: Mapping[str, Any], finish: str | None = None) -> dict[str, Any]:
        """A piece of it."""
        choice = {"index": 0, "delta": dict(delta), "finish_reason": finish, "logprobs": None}
        return {**self._head("chat.completion.chunk"), "choices": [choice]}

    def usage(self) -> dict[str, Any]:
        """The last piece, with what it has used."""
        return {**self._head("chat.completion.chunk"), "choices": [], "usage": usage_told(self.record.spend)}

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": f"chatcmpl-{self.record.id}", "object": kind, "created": self.created, "model": self.model.graph.name}


@final
class _Stream:
    """The answer in pieces, as server-sent events. A client that leaves cancels the run."""

    def __init__(self, completion: ChatAnswer, *, includes_usage: bool) -> None:
        self._completion = completion
        self._includes_usage = includes_usage

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        completion = self._completion
        live, launch = completion.live, completion.launch
        try:
            await live.begun(launch)
            with live.usage.stream(launch.caller.name):
                headers = [*HEADERS, (b"x-run-id", completion.record.id.encode())]
                await send({"type": "http.response.start", "status": 200, "headers": headers})
                writer = ResponseWriter(send, live.limits.stall_s)
                if await self._write(writer):
                    await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            if not completion.record.is_over:
                cancel(live, completion.record)

    async def _write(self, writer: ResponseWriter) -> bool:
        completion = self._completion
        pieces = Pieces(completion.live, completion.record, completion.model)
        try:
            if not await self._say(writer, completion.chunk({"role": "assistant", "content": ""})):
                return False
            while (found := await pieces.more()) is not None:
                if not pieces.entries and not await writer.write(QUIET):
                    return False
                for piece in found:
                    if not await self._say(writer, completion.chunk({"content": piece})):
                        return False
            rest = pieces.rest(completion.text())
            parts = [completion.chunk({"content": rest})] if rest else []
            parts.append(completion.chunk({}, "stop"))
            parts += [completion.usage()] if self._includes_usage else []
            for part in parts:
                if not await self._say(writer, part):
                    return False
        except HttpProblem as problem:
            return await self._say(writer, {"error": error_told(problem)})
        return await writer.write(b"data: [DONE]\n\n")

    async def _say(self, writer: ResponseWriter, value: object) -> bool:
        return await writer.write(b"data: " + dumps(value) + b"\n\n")


def usage_told(spend: Spend) -> dict[str, int]:
    """What a run has used, in OpenAI's words."""
    total = spend.prompt_tokens + spend.completion_tokens
    return {"prompt_tokens": spend.prompt_tokens, "completion_tokens": spend.completion_tokens, "total_tokens": total}


def _checked(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise HttpProblem("bad-request", "Expected an object.")
    body = cast("dict[str, Any]", value)
    reject_options(body, _UNSUPPORTED)
    messages: object = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise HttpProblem("bad-request", "messages: expected a list of at least one.", more={"param": "messages"})
    for index, each in enumerate(cast("list[object]", messages)):
        if not isinstance(each, dict) or not isinstance(cast("dict[str, Any]", each).get("role"), str):
            raise HttpProblem("bad-request", f"messages[{index}]: expected an object with a role.", more={"param": "messages"})
    if not isinstance(body.get("stream_options") or {}, dict):
        raise HttpProblem("bad-request", "stream_options: expected an object.", more={"param": "stream_options"})
    return body
