"""Graphs as models of OpenAI's API: chat completions, streamed too, and the list of models."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import Any, Final, cast, final

import attrs
import trio

from actors.errors import DeclarationError, LMBadRequest, LMRateLimited, LMRefused
from actors.graphs.graph import Graph
from actors.lm import TextDelta
from actors.words import repr_of
from runtime.core.events import Event
from runtime.graphs.events import FieldDelta, LMDelta, NodeEvent, NodeStarted
from runtime.graphs.record import Spend
from runtime.messages.fields import fields_of
from runtime.messages.problems import MessageInvalid
from runtime.messages.reader import read
from runtime.recording.recorder import RunRecord
from runtime.recording.wire import dumps
from runtime.serve.auth import Caller
from runtime.serve.live import Launch, Live, Order
from runtime.serve.problems import Problem, invalid_input, model_error, problem_of
from runtime.serve.requests import json_body
from runtime.serve.routes import Answer, Endpoint, as_json
from runtime.serve.sse import HEADERS, QUIET_S, Writer
from runtime.serve.views import output_told
from runtime.serve.web import Request

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


@final
@attrs.frozen
class ChatFace:
    """How one graph is a chat model, where its types do not say it."""

    graph: Graph[Any, Any]
    input: Callable[[list[dict[str, Any]]], Any] | None = None
    """Makes the graph's input of the messages, in OpenAI's form."""
    output: Callable[[Any], str] | None = None
    """Makes the answer's text of the graph's output."""
    stream: str | None = None
    """The node whose text is streamed; None: the one that makes the output."""


@final
class OpenAIFace:
    """Serves graphs to clients of OpenAI's chat completions: ``Service([graph], faces=[OpenAIFace()])``.

    A graph is a model if its one input type has a field ``messages``, or one required ``str`` field, which gets the user's last
    text; or if a :class:`ChatFace` tells how. The answer is the output's one ``str`` field, else its JSON.
    """

    def __init__(self, *chats: ChatFace) -> None:
        self._chats = {chat.graph.name: chat for chat in chats}

    def check(self, graphs: Sequence[Graph[Any, Any]]) -> None:
        """See ``Face``."""
        for chat in self._chats.values():
            if not any(graph is chat.graph for graph in graphs):
                raise DeclarationError(f"ChatFace({chat.graph.name!r}): this graph isn't served.\n  Fix: Service([that graph]).")
            nodes = chat.graph.plan().nodes
            if chat.stream is not None and chat.stream not in nodes:
                names = ", ".join(nodes)
                raise DeclarationError(f"ChatFace(stream={repr_of(chat.stream)}): no such node.\n  Fix: one of {names}.")

    def endpoints(self) -> Sequence[Endpoint]:
        """See ``Face``."""
        return (
            Endpoint("POST", "/v1/chat/completions", "run", self._complete, "Chat with a graph, as with a model of OpenAI's"),
            Endpoint("GET", "/v1/models", "run", self._list, "List the graphs that are models"),
            Endpoint("GET", "/v1/models/{model}", "run", self._show, "Show a graph that is a model"),
        )

    @contextlib.asynccontextmanager
    async def running(self, live: Live) -> AsyncGenerator[None]:
        """See ``Face``."""
        del live
        yield

    def refuse(self, problem: Problem) -> Answer:
        """See ``Face``."""
        return as_json({"error": error_told(problem)}, _status(problem), problem.headers)

    # --- models -----------------------------------------------------------------------------------------------------------

    async def _list(self, live: Live, _: Caller, __: Request) -> Answer:
        models = [_model(graph) for graph in live.graphs.values() if self._taken_by(graph) is not None]
        return as_json({"object": "list", "data": models})

    async def _show(self, live: Live, _: Caller, request: Request) -> Answer:
        return as_json(_model(self._graph(live, request.path_params["model"])))

    def _graph(self, live: Live, name: object) -> Graph[Any, Any]:
        graph = live.graphs.get(name) if isinstance(name, str) else None
        if graph is None:
            raise Problem("no-such-graph", f"The model {repr_of(name, 60)} does not exist.", more={"param": "model"})
        if self._taken_by(graph) is None:
            what = f"The graph {graph.name!r} takes no text: it isn't a chat model."
            raise Problem("bad-request", what, more={"param": "model", "code": "unsupported_model"})
        return graph

    def _taken_by(self, graph: Graph[Any, Any]) -> str | None:
        """The field of the input that gets the conversation; empty if the author decides how; None if there is none."""
        chat = self._chats.get(graph.name)
        if chat is not None and chat.input is not None:
            return ""
        types = graph.plan().input_types
        if len(types) != 1:
            return None
        fields = fields_of(types[0])
        if any(field.name == "messages" for field in fields):
            return "messages"
        needed = [field for field in fields if field.required]
        return needed[0].name if len(needed) == 1 and needed[0].type is str else None

    # --- completions ------------------------------------------------------------------------------------------------------

    async def _complete(self, live: Live, caller: Caller, request: Request) -> Answer:
        value, _ = await json_body(request, live.limits)
        body = _checked(value)
        graph = self._graph(live, body.get("model"))
        message = self._message(graph, body["messages"])
        launch, _ = live.accept(Order(graph, message), caller)
        completion = Completion(
            live, launch, graph, self._chats.get(graph.name), int(live.runtime.wall_time(trio.current_time()).timestamp())
        )
        if body.get("stream"):
            options: dict[str, Any] = body.get("stream_options") or {}
            return _Stream(completion, includes_usage=bool(options.get("include_usage")))
        try:
            await live.begun(launch)
            await live.wait(launch.record, live.limits.run_s)
        except trio.Cancelled:
            launch.scope.cancel()
            raise
        return as_json(completion.whole(), 200, {"X-Run-Id": launch.record.id})

    def _message(self, graph: Graph[Any, Any], messages: list[dict[str, Any]]) -> Any:
        chat = self._chats.get(graph.name)
        if chat is not None and chat.input is not None:
            return chat.input(messages)
        field = self._taken_by(graph)
        assert field, "the graph is a model"
        kind = graph.plan().input_types[0]
        told: Any = [{"role": each["role"], "content": _text(each)} for each in messages]
        if field != "messages":
            texts = [each["content"] for each in told if each["role"] == "user"]
            if not texts:
                raise Problem("bad-request", "messages: expected at least one of the role 'user'.", more={"param": "messages"})
            told = texts[-1]
        try:
            return read(kind, {field: told})
        except MessageInvalid as error:
            raise invalid_input(error) from error


@final
@attrs.frozen
class Completion:
    """One answer, whole or in pieces."""

    live: Live
    launch: Launch
    graph: Graph[Any, Any]
    chat: ChatFace | None
    created: int

    @property
    def record(self) -> RunRecord:
        """The run that makes it."""
        return self.launch.record

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
        return {"id": f"chatcmpl-{self.record.id}", "object": kind, "created": self.created, "model": self.graph.name}

    def text(self) -> str:
        """The text of the run's output.

        Raises:
            Problem: the run has none.
        """
        record = self.record
        if self.live.is_late(record.id) or not record.is_over:
            raise Problem("deadline", run=record.id)
        if record.error is not None:
            raise _problem(record.error, record.id, inside=self.launch.caller.sees_all)
        if self.chat is not None and self.chat.output is not None:
            return self.chat.output(record.output)
        output: object = record.output
        field = text_field(type(output))
        if field is not None:
            return cast("str", getattr(record.output, field[1]))
        return json.dumps(output_told(record.output), ensure_ascii=False)

    def streamed(self) -> frozenset[str]:
        """The nodes whose text is the answer."""
        if self.chat is not None and self.chat.stream is not None:
            return frozenset({self.chat.stream})
        edges = self.graph.plan().edges
        return frozenset(edge.source for edge in edges if edge.target is None and edge.source is not None)


def text_field(kind: type) -> tuple[str, str] | None:
    """The one ``str`` field of a message type, by its name and its attribute; None if there is not one."""
    found = [field for field in fields_of(kind) if field.type is str]
    return (found[0].name, found[0].attribute) if len(found) == 1 else None


@final
class _Stream:
    """The answer in pieces, as server-sent events. A client that leaves cancels the run."""

    def __init__(self, completion: Completion, *, includes_usage: bool) -> None:
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
                writer = Writer(send, live.limits.stall_s)
                if await self._write(writer):
                    await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            if not completion.record.is_over:
                launch.scope.cancel()

    async def _write(self, writer: Writer) -> bool:
        completion = self._completion
        try:
            if not await self._say(writer, completion.chunk({"role": "assistant", "content": ""})):
                return False
            sent = await self._pieces(writer)
            if sent is None:
                return False
            text = completion.text()
            rest = text[len(sent) :] if text.startswith(sent) else ""
            parts = [completion.chunk({"content": rest})] if rest else []
            parts.append(completion.chunk({}, "stop"))
            parts += [completion.usage()] if self._includes_usage else []
            for part in parts:
                if not await self._say(writer, part):
                    return False
        except Problem as problem:
            return await self._say(writer, {"error": error_told(problem)})
        return await writer.write(b"data: [DONE]\n\n")

    async def _pieces(self, writer: Writer) -> str | None:
        """Send the text as it comes, until the run is over; what was sent, or None if the client takes nothing."""
        record, last = self._completion.record, -1
        nodes, sent = self._completion.streamed(), ""
        maker: tuple[str, int] | None = None
        while True:
            entries = record.after(last)
            for entry in entries:
                last = entry.seq
                event = entry.event
                if not isinstance(event, NodeEvent) or event.node not in nodes:
                    continue
                who = (event.path, event.attempt)
                if sent and maker != who and isinstance(event, NodeStarted | LMDelta | FieldDelta):
                    raise Problem("run-failed", "The answer had begun and could not be finished: another attempt began.")
                piece = _piece(event, self._completion.graph)
                if piece:
                    maker, sent = who, sent + piece
                    if not await self._say(writer, self._completion.chunk({"content": piece})):
                        return None
            if entries:
                continue
            if record.is_over:
                return sent
            with trio.move_on_after(QUIET_S) as quiet:
                await record.wait()
            if quiet.cancelled_caught and not await writer.write(b":\n\n"):
                return None

    async def _say(self, writer: Writer, value: object) -> bool:
        return await writer.write(b"data: " + dumps(value) + b"\n\n")


def _piece(event: Event, graph: Graph[Any, Any]) -> str:
    if isinstance(event, LMDelta) and isinstance(event.delta, TextDelta):
        return event.delta.text
    if isinstance(event, FieldDelta):
        fields = [text_field(kind) for kind in graph.plan().output_types]
        return event.text if any(field is not None and field[0] == event.field for field in fields) else ""
    return ""


def _model(graph: Graph[Any, Any]) -> dict[str, Any]:
    return {"id": graph.name, "object": "model", "created": 0, "owned_by": "understudy"}


def usage_told(spend: Spend) -> dict[str, int]:
    """What a run has used, in OpenAI's words."""
    total = spend.prompt_tokens + spend.completion_tokens
    return {"prompt_tokens": spend.prompt_tokens, "completion_tokens": spend.completion_tokens, "total_tokens": total}


def _checked(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Problem("bad-request", "Expected an object.")
    body = cast("dict[str, Any]", value)
    for name, nothing in _UNSUPPORTED.items():
        if body.get(name) is not None and body[name] not in nothing:
            what = f"{name!r} isn't supported: a graph decides this itself."
            raise Problem("bad-request", what, more={"param": name, "code": "unsupported_parameter"})
    messages: object = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise Problem("bad-request", "messages: expected a list of at least one.", more={"param": "messages"})
    for index, each in enumerate(cast("list[object]", messages)):
        if not isinstance(each, dict) or not isinstance(cast("dict[str, Any]", each).get("role"), str):
            raise Problem("bad-request", f"messages[{index}]: expected an object with a role.", more={"param": "messages"})
    if not isinstance(body.get("stream_options") or {}, dict):
        raise Problem("bad-request", "stream_options: expected an object.", more={"param": "stream_options"})
    return body


def _text(message: Mapping[str, Any]) -> str:
    content: object = message.get("content")
    if content is None or isinstance(content, str):
        return content or ""
    texts: list[str] = []
    for part in cast("list[object]", content) if isinstance(content, list) else [None]:
        given: Any = cast("dict[str, Any]", part).get("text") if isinstance(part, dict) else None
        if not isinstance(given, str):
            raise Problem("bad-request", "messages: expected text and nothing else.", more={"param": "messages"})
        texts.append(given)
    return "".join(texts)


def _problem(error: BaseException, run: str, *, inside: bool) -> Problem:
    model = model_error(error)
    if isinstance(model, LMRateLimited):
        return Problem("rate-limited", "The language model is rate limited.", run=run, retry_after_s=model.retry_after_s or 1)
    if isinstance(model, LMRefused | LMBadRequest):
        return Problem("bad-request", "The language model rejected the request.", run=run, more={"code": "model_rejected"})
    return problem_of(error, inside=inside, run=run)


def _status(problem: Problem) -> int:
    return 400 if problem.status == 422 else problem.status


_TYPES: Final[Mapping[int, str]] = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}
_CODES: Final[Mapping[str, str]] = {
    "unauthenticated": "invalid_api_key",
    "no-such-graph": "model_not_found",
    "budget-exhausted": "insufficient_quota",
    "rate-limited": "rate_limit_exceeded",
}


def error_told(problem: Problem) -> dict[str, Any]:
    """A problem in OpenAI's form."""
    detail = problem.detail
    if problem.errors:
        detail = "; ".join(f"{each.place}: {each.message}" if each.path else each.message for each in problem.errors[:5])
    kind = _TYPES.get(problem.status, "invalid_request_error" if problem.status < 500 else "server_error")
    code = problem.more.get("code", _CODES.get(problem.kind, problem.kind.replace("-", "_")))
    if code == "insufficient_quota":
        kind = code
    return {"message": detail, "type": kind, "param": problem.more.get("param"), "code": code}
