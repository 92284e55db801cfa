"""Graphs as models of OpenAI's API: which are some, what of a conversation they get, and the text that they answer with."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, cast, final

import attrs

from actors.errors import DeclarationError, LMBadRequest, LMRateLimited, LMRefused
from actors.graphs.graph import Graph
from actors.lm import TextDelta
from actors.words import repr_of, said
from runtime.core.events import Event
from runtime.graphs.records.run_events import FieldDelta, LMDelta, NodeEvent, NodeStarted
from runtime.messages.fields import fields_of
from runtime.messages.problems import MessageInvalid
from runtime.messages.reader import read
from runtime.serve.auth import Caller
from runtime.serve.faces.following import Following, output_of, words_of
from runtime.serve.live import Live
from runtime.serve.problem_documents import RETRY_S, HttpProblem, invalid_input, model_error
from runtime.serve.run_documents import output_told
from runtime.traces.kept_run import KeptEvent, RunRecord

_LOG = logging.getLogger("understudy.serve")


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
@attrs.frozen
class Model:
    """A graph that is a model."""

    graph: Graph[Any, Any]
    chat: ChatFace
    field: str
    """What of the input gets the conversation; empty if the author decides how."""

    def told(self) -> dict[str, Any]:
        """In the list of models."""
        return {"id": self.graph.name, "object": "model", "created": 0, "owned_by": "understudy"}

    def message(self, messages: list[dict[str, Any]]) -> Any:
        """The graph's input, of a conversation.

        Raises:
            Problem: it makes none.
        """
        if self.chat.input is not None:
            try:
                return self.chat.input(messages)
            except Exception as error:
                _LOG.warning("ChatFace(%r): its input took no messages: %s", self.graph.name, said(error), exc_info=error)
                what = f"messages: the model {self.graph.name!r} cannot take them."
                raise HttpProblem("bad-request", what, more={"param": "messages"}) from error
        told: Any = [{"role": each["role"], "content": text_in(each.get("content"))} for each in messages]
        if self.field != "messages":
            texts = [each["content"] for each in told if each["role"] == "user"]
            if not texts:
                raise HttpProblem(
                    "bad-request", "messages: expected at least one of the role 'user'.", more={"param": "messages"}
                )
            told = texts[-1]
        try:
            return read(self.graph.plan().input_types[0], {self.field: told})
        except MessageInvalid as error:
            raise invalid_input(error) from error

    def text(self, output: Any) -> str:
        """What it answers, of the graph's output."""
        if self.chat.output is not None:
            return self.chat.output(output)
        field = text_field(type(cast("object", output)))
        if field is not None:
            return cast("str", getattr(output, field[1]))
        return json.dumps(output_told(output), ensure_ascii=False)

    @property
    def streamed(self) -> frozenset[str]:
        """The nodes whose text is the answer."""
        if self.chat.stream is not None:
            return frozenset({self.chat.stream})
        return frozenset(edge.source for edge in self.graph.plan().edges if edge.target is None and edge.source is not None)


@final
class ServedModels:
    """The graphs of a service that are models, or are declared to be some."""

    def __init__(self, chats: Sequence[ChatFace]) -> None:
        self._chats = {chat.graph.name: chat for chat in chats}

    def check(self, graphs: Sequence[Graph[Any, Any]]) -> None:
        """Raise ``DeclarationError`` if one is declared that isn't among `graphs`, or streams a node that there isn't."""
        for chat in self._chats.values():
            if not any(graph is chat.graph for graph in graphs):
                raise DeclarationError(f"ChatFace({chat.graph.name!r}): this graph isn't served.\n  Fix: Service([that graph]).")
            nodes = chat.graph.plan().nodes
            if chat.stream is not None and chat.stream not in nodes:
                names = ", ".join(nodes)
                raise DeclarationError(f"ChatFace(stream={repr_of(chat.stream)}): no such node.\n  Fix: one of {names}.")

    def of(self, graph: Graph[Any, Any]) -> Model | None:
        """The model that `graph` is, if it is one."""
        chat = self._chats.get(graph.name, ChatFace(graph))
        field = "" if chat.input is not None else _conversation_field(graph)
        return None if field is None else Model(graph, chat, field)

    def named(self, live: Live, name: object) -> Model:
        """The model of that name.

        Raises:
            Problem: there is none.
        """
        graph = live.graphs.get(name) if isinstance(name, str) else None
        if graph is None:
            raise HttpProblem("no-such-graph", f"The model {repr_of(name, 60)} does not exist.", more={"param": "model"})
        model = self.of(graph)
        if model is None:
            what = f"The graph {graph.name!r} takes no text: it isn't a chat model."
            raise HttpProblem("bad-request", what, more={"param": "model", "code": "unsupported_model"})
        return model


def _conversation_field(graph: Graph[Any, Any]) -> str | None:
    types = graph.plan().input_types
    if len(types) != 1:
        return None
    fields = fields_of(types[0])
    if any(field.name == "messages" for field in fields):
        return "messages"
    needed = [field for field in fields if field.required]
    return needed[0].name if len(needed) == 1 and needed[0].type is str else None


def text_field(kind: type) -> tuple[str, str] | None:
    """The one ``str`` field of a message type, by its name and its attribute; None if there is not one."""
    found = [field for field in fields_of(kind) if field.type is str]
    return (found[0].name, found[0].attribute) if len(found) == 1 else None


def text_in(content: object, param: str = "messages") -> str:
    """The text of a message's content.

    Raises:
        Problem: it has something else.
    """
    if content is None or isinstance(content, str):
        return content or ""
    texts: list[str] = []
    for part in cast("list[object]", content) if isinstance(content, list) else [None]:
        given: Any = cast("dict[str, Any]", part).get("text") if isinstance(part, dict) else None
        if not isinstance(given, str):
            raise HttpProblem("bad-request", f"{param}: expected text and nothing else.", more={"param": param})
        texts.append(given)
    return "".join(texts)


def reject_options(body: Mapping[str, Any], unsupported: Mapping[str, tuple[Any, ...]]) -> None:
    """Raise ``HttpProblem`` for what would change the answer, and cannot: `unsupported` has the values that ask for nothing."""
    for name, nothing in unsupported.items():
        if body.get(name) is not None and body[name] not in nothing:
            what = f"{name!r} isn't supported: a graph decides this itself."
            raise HttpProblem("bad-request", what, more={"param": name, "code": "unsupported_parameter"})


# --- answers ----------------------------------------------------------------------------------------------------------


@final
class Pieces:
    """The text of an answer as it comes, of a run that goes on."""

    def __init__(self, live: Live, record: RunRecord, model: Model, after: int = -1) -> None:
        self.sent = ""
        """What has come so far."""
        self.entries: Sequence[KeptEvent] = ()
        """What has happened since the last call; empty if nothing has for a while."""
        self._following = Following(live, record, after)
        self._nodes = model.streamed
        self._fields = [field[0] for kind in model.graph.plan().output_types if (field := text_field(kind)) is not None]
        self._maker: tuple[str, int] | None = None

    async def more(self) -> Sequence[str] | None:
        """What has come since; None when the run is over.

        Raises:
            Problem: the node has begun again, so what was sent will not be the answer.
        """
        entries = await self._following.more()
        if entries is None:
            return None
        self.entries = entries
        found = [piece for entry in entries if (piece := self._piece(entry.event))]
        self.sent += "".join(found)
        return found

    def _piece(self, event: Event) -> str:
        if not isinstance(event, NodeEvent) or event.node not in self._nodes:
            return ""
        who = (event.path, event.attempt)
        if self._maker not in (None, who) and isinstance(event, NodeStarted | LMDelta | FieldDelta):
            raise HttpProblem("run-failed", "The answer had begun and could not be finished: another attempt began.")
        text = ""
        if isinstance(event, LMDelta) and isinstance(event.delta, TextDelta):
            text = event.delta.text
        elif isinstance(event, FieldDelta) and event.field in self._fields:
            text = event.text
        if text:
            self._maker = who
        return text

    def rest(self, text: str) -> str:
        """What of the whole `text` has not come in pieces."""
        return text[len(self.sent) :] if text.startswith(self.sent) else ""


def answer_of(live: Live, record: RunRecord, caller: Caller, model: Model) -> str:
    """The answer that a run has made.

    Raises:
        Problem: it has made none.
    """
    try:
        return model.text(output_of(live, record, caller))
    except HttpProblem as problem:
        raise _in_openais_words(problem, record) from None


def _in_openais_words(problem: HttpProblem, record: RunRecord) -> HttpProblem:
    error = None if record.error is None else model_error(record.error)
    if isinstance(error, LMRateLimited):
        wait_s = error.retry_after_s or RETRY_S
        return HttpProblem("rate-limited", "The language model is rate limited.", run=record.id, retry_after_s=wait_s)
    if isinstance(error, LMRefused | LMBadRequest):
        more = {"code": "model_rejected"}
        return HttpProblem("bad-request", "The language model rejected the request.", run=record.id, more=more)
    return problem


# --- errors -----------------------------------------------------------------------------------------------------------

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


def status_of(problem: HttpProblem) -> int:
    """The status with which OpenAI's clients expect it."""
    return 400 if problem.status == 422 else problem.status


def error_told(problem: HttpProblem) -> dict[str, Any]:
    """A problem in OpenAI's form."""
    kind = _TYPES.get(problem.status, "invalid_request_error" if problem.status < 500 else "server_error")
    code = problem.more.get("code", _CODES.get(problem.kind, problem.kind.replace("-", "_")))
    if code == "insufficient_quota":
        kind = code
    return {"message": words_of(problem), "type": kind, "param": problem.more.get("param"), "code": code}
