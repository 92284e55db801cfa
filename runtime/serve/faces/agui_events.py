"""What happens in a run, in the events of AG-UI. It alone imports ``ag_ui``, whose types check all that is read and sent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, final

from ag_ui import core
from ag_ui.core.version import PROTOCOL_VERSION
from pydantic import ValidationError

from runtime.core.events import Event
from runtime.graphs.records.run_events import (
    NodeCancelled,
    NodeEvent,
    NodeFellBack,
    NodeFinished,
    NodeGaveUp,
    NodeReported,
    NodeRetrying,
    NodeStarted,
    ToolCalled,
)
from runtime.graphs.records.run_record import Spend
from runtime.messages.problems import FieldProblem
from runtime.serve.problem_documents import HttpProblem
from runtime.traces.event_json import dumps

_ENDS = NodeFinished | NodeRetrying | NodeFellBack | NodeGaveUp | NodeCancelled


def read_input(value: Any) -> core.RunAgentInput:
    """What a client asks for.

    Raises:
        Problem: it is no input of a run.
    """
    try:
        return core.RunAgentInput.model_validate(value)
    except ValidationError as error:
        found = [FieldProblem(tuple(each["loc"]), each["msg"]) for each in error.errors(include_url=False)]
        raise HttpProblem("input-invalid", errors=found) from None


def conversation(given: core.RunAgentInput) -> list[dict[str, Any]]:
    """The messages of `given` that people and models have written, in the form of chat completions."""
    roles = ("user", "assistant", "system", "developer")
    told = [message.model_dump(mode="json", by_alias=True) for message in given.messages if message.role in roles]
    return [{"role": each["role"], "content": each.get("content")} for each in told]


@final
class Telling:
    """One run of AG-UI, whose events it makes: text and steps that have begun are ended before the run is."""

    def __init__(self, given: core.RunAgentInput) -> None:
        self._thread_id = given.thread_id
        self._run_id = given.run_id
        self._steps: dict[str, None] = {}
        self._message: str | None = None
        self._messages = 0
        self._calls = 0

    def begun(self) -> bytes:
        """The run has begun."""
        return _encoded(core.RunStartedEvent(thread_id=self._thread_id, run_id=self._run_id, protocol_version=PROTOCOL_VERSION))

    def happened(self, event: Event) -> bytes:
        """What is told of `event`, besides its text."""
        return b"".join(map(_encoded, self._of(event)))

    def _of(self, event: Event) -> Iterator[core.BaseEvent]:
        match event:
            case NodeStarted():
                if event.path not in self._steps:
                    self._steps[event.path] = None
                    yield core.StepStartedEvent(step_name=event.path)
            case NodeReported():
                yield core.CustomEvent(name="node.reported", value={"step": event.path, "text": event.text})
            case ToolCalled():
                self._calls += 1
                call = f"{self._run_id}.{self._calls}"
                yield core.ToolCallStartEvent(tool_call_id=call, tool_call_name=event.tool)
                yield core.ToolCallEndEvent(tool_call_id=call)
            case NodeEvent() if isinstance(event, _ENDS) and event.path in self._steps:
                del self._steps[event.path]
                yield core.StepFinishedEvent(step_name=event.path)
            case _:
                pass

    def text(self, piece: str) -> bytes:
        """A piece of the answer."""
        if not piece:
            return b""
        begun = b""
        if self._message is None:
            self._messages += 1
            self._message = f"{self._run_id}-{self._messages}"
            begun = _encoded(core.TextMessageStartEvent(message_id=self._message, role="assistant"))
        return begun + _encoded(core.TextMessageContentEvent(message_id=self._message, delta=piece))

    def succeeded(self, result: Any, spend: Spend) -> bytes:
        """The run has made its output."""
        usage = core.TokenUsage(input_tokens=spend.prompt_tokens, output_tokens=spend.completion_tokens)
        return self._closed() + self._finished(core.RunFinishedSuccessOutcome(), result=result, usage=[usage])

    def cancelled(self) -> bytes:
        """The run was cancelled."""
        return self._closed() + self._finished(core.RunFinishedCancelledOutcome())

    def interrupted(self, interrupts: Sequence[core.Interrupt]) -> bytes:
        """The run asks people."""
        return self._closed() + self._finished(core.RunFinishedInterruptOutcome(interrupts=list(interrupts)))

    def failed(self, message: str, code: str) -> bytes:
        """The run has failed."""
        return _encoded(core.RunErrorEvent(message=message, code=code))

    def _closed(self) -> bytes:
        ended: list[core.BaseEvent] = []
        if self._message is not None:
            ended.append(core.TextMessageEndEvent(message_id=self._message))
            self._message = None
        ended += [core.StepFinishedEvent(step_name=step) for step in reversed(self._steps)]
        self._steps.clear()
        return b"".join(map(_encoded, ended))

    def _finished(self, outcome: Any, **more: Any) -> bytes:
        return _encoded(core.RunFinishedEvent(thread_id=self._thread_id, run_id=self._run_id, outcome=outcome, **more))


def interrupt(question_id: str, text: str, schema: dict[str, Any] | None, due_at: datetime | None) -> core.Interrupt:
    """A question to a person."""
    expires_at = None if due_at is None else due_at.isoformat()
    return core.Interrupt(id=question_id, reason="human_input", message=text, response_schema=schema, expires_at=expires_at)


def _encoded(event: core.BaseEvent) -> bytes:
    return b"data: " + dumps(event.model_dump(mode="json", by_alias=True)) + b"\n\n"
