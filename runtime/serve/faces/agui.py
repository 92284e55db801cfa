"""Graphs as agents of AG-UI, the protocol between agents and the pages that show them."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import AsyncGenerator, Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, cast, final

import attrs

from actors.errors import UsageError
from actors.graphs.graph import Graph
from runtime.graphs.records.run_events import QuestionAsked
from runtime.graphs.records.run_record import RunStatus
from runtime.serve.auth import Caller
from runtime.serve.faces.following import cancel, cancelling, output_of, words_of
from runtime.serve.faces.openai_models import ChatFace, Model, Pieces, ServedModels
from runtime.serve.gate import problem_response
from runtime.serve.live import Live, Order
from runtime.serve.problem_documents import HttpProblem
from runtime.serve.question_routes import give_answer, open_questions, question_words
from runtime.serve.requests import json_body, message_of
from runtime.serve.routes import Answer, Endpoint
from runtime.serve.run_documents import output_told
from runtime.serve.sse import HEADERS, QUIET, ResponseWriter
from runtime.serve.web import Request
from runtime.traces.kept_run import RunRecord

if TYPE_CHECKING:
    from runtime.serve.faces.agui_events import Telling

PATH: Final = "/agui/{graph}"
_INPUT: Final[Mapping[str, Any]] = {
    "type": "object",
    "properties": {
        "threadId": {"type": "string"},
        "runId": {"type": "string"},
        "messages": {"type": "array", "items": {"type": "object"}},
        "forwardedProps": {},
        "resume": {"type": "array", "items": {"type": "object"}},
    },
    "required": ["threadId", "runId", "messages"],
}


@final
class AGUIFace:
    """Serves graphs to pages that speak AG-UI: ``Service([graph], faces=[AGUIFace()])``. Needs the extra ``ag-ui``.

    Each graph is an agent at ``/agui/{graph}``. It gets the conversation as :class:`OpenAIFace` has it, or, for any input type,
    the object ``input`` of ``forwardedProps``. Nodes are steps, and a question to a person is an interrupt.

    Raises:
        UsageError: the library isn't installed.
    """

    def __init__(self, *chats: ChatFace) -> None:
        if importlib.util.find_spec("ag_ui") is None:
            raise UsageError(
                "AGUIFace() needs the library ag-ui-protocol, which isn't installed.\n  Fix: pip install 'understudy[ag-ui]'."
            )
        self._models = ServedModels(chats)

    def check(self, graphs: Sequence[Graph[Any, Any]]) -> None:
        """See ``Face``."""
        self._models.check(graphs)

    def endpoints(self) -> Sequence[Endpoint]:
        """See ``Face``."""
        return (Endpoint("POST", PATH, "run", self._run_agent, "Run a graph, as an agent of AG-UI", _INPUT),)

    @contextlib.asynccontextmanager
    async def running(self, live: Live) -> AsyncGenerator[None]:
        """See ``Face``."""
        del live
        import_module("runtime.serve.faces.agui_events")  # here rather than in the first request
        yield

    def reject(self, problem: HttpProblem) -> Answer:
        """See ``Face``."""
        return problem_response(problem)

    async def _run_agent(self, live: Live, caller: Caller, request: Request) -> Answer:
        from runtime.serve.faces.agui_events import Telling, conversation, read_input  # noqa: PLC0415 - an extra brings it

        graph = live.graph(request.path_params["graph"])
        value, _ = await json_body(request, live.limits)
        given = read_input(value)
        model = self._models.of(graph) or Model(graph, ChatFace(graph), "")
        if given.resume:
            answers = {entry.interrupt_id: entry.payload if entry.status == "resolved" else _GIVEN_UP for entry in given.resume}
            record, after = await _resumed(live, caller, graph, answers)
            return _Stream(live, record, caller, model, after, Telling(given))
        props: object = given.forwarded_props
        if isinstance(props, dict) and "input" in props:
            fields = cast("dict[str, Any]", props)
            message = message_of(graph, fields["input"], fields.get("type"), live.limits)
        elif self._models.of(graph) is None:
            raise HttpProblem("bad-request", "The graph takes no text: give its input as forwardedProps.input.")
        else:
            message = model.message(conversation(given))
        launch, _ = live.accept(Order(graph, message), caller)
        with cancelling(live, launch.record):
            await live.begun(launch)
        return _Stream(live, launch.record, caller, model, -1, Telling(given))


_GIVEN_UP: Final = object()


async def _resumed(live: Live, caller: Caller, graph: Graph[Any, Any], answers: Mapping[str, Any]) -> tuple[RunRecord, int]:
    """The run whose questions are answered, and the number of its last event before that.

    Raises:
        Problem: there is none, or an answer does not fit.
    """
    runs = {question.rpartition(".")[0] for question in answers}
    if len(runs) != 1:
        raise HttpProblem("bad-request", "resume: expected the interrupts of one run.")
    record = await live.find(runs.pop(), caller, operating=True)
    if record.graph != graph.name:
        raise HttpProblem("bad-request", f"resume: these interrupts are of the graph {record.graph!r}.")
    after = record.next_seq - 1
    if any(answer is _GIVEN_UP for answer in answers.values()):
        await live.cancel(record)
        return record, after
    for question, answer in answers.items():
        await give_answer(live, record, question, answer, caller.name)
    return record, after


@final
@attrs.frozen
class _Stream:
    """The run in AG-UI's events. A client that leaves cancels the run."""

    live: Live
    record: RunRecord
    caller: Caller
    model: Model
    after: int
    telling: Telling

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        is_whole = False
        try:
            with self.live.usage.stream(self.caller.name):
                headers = [*HEADERS, (b"x-run-id", self.record.id.encode())]
                await send({"type": "http.response.start", "status": 200, "headers": headers})
                is_whole = await self._write(ResponseWriter(send, self.live.limits.stall_s))
                if is_whole:
                    await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            if not is_whole:
                cancel(self.live, self.record)

    async def _write(self, writer: ResponseWriter) -> bool:
        telling = self.telling
        pieces = Pieces(self.live, self.record, self.model, self.after)
        if not await writer.write(telling.begun()):
            return False
        try:
            if self.after >= 0 and (interrupts := await self._interrupts()):
                return await writer.write(telling.interrupted(interrupts))  # others are open
            while (found := await pieces.more()) is not None:
                told = b"".join(telling.happened(entry.event) for entry in pieces.entries)
                told += b"".join(map(telling.text, found))
                if (told or not pieces.entries) and not await writer.write(told or QUIET):
                    return False
                if any(isinstance(entry.event, QuestionAsked) for entry in pieces.entries):
                    interrupts = await self._interrupts()
                    if interrupts:
                        return await writer.write(telling.interrupted(interrupts))
            if self.record.status == RunStatus.CANCELLED and not self.live.is_late(self.record.id):
                return await writer.write(telling.cancelled())
            output = output_of(self.live, self.record, self.caller)
            told = telling.text(pieces.rest(self.model.text(output)))
            return await writer.write(told + telling.succeeded(output_told(output), self.record.spend))
        except HttpProblem as problem:
            return await writer.write(telling.failed(words_of(problem), problem.kind))

    async def _interrupts(self) -> list[Any]:
        from runtime.serve.faces.agui_events import interrupt  # noqa: PLC0415 - an extra brings it

        return [
            interrupt(
                question.id,
                question_words(self.live, question, self.record, self.caller),
                question.schema,
                question.due_at,
            )
            for question in await open_questions(self.live, self.record)
        ]
