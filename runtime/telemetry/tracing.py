"""Events as spans of OpenTelemetry: a run, the attempts of its nodes, its calls of language models."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from types import MethodType
from typing import Any, Final, final

import attrs
import trio
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.trace import Link, Span, SpanKind, StatusCode

from actors.argument_checks import rejected
from actors.words import repr_of, said
from runtime.core.events import Event
from runtime.core.instruments import Instrument, TellUnmade
from runtime.core.origin import current_origin
from runtime.graphs.records.run_events import (
    LMAsked,
    LMCalled,
    LMCallStarted,
    NodeCancelled,
    NodeEvent,
    NodeFellBack,
    NodeFinished,
    NodeGaveUp,
    NodeRetrying,
    NodeStarted,
    RunFinished,
    RunResumed,
    RunStarted,
    ToolCalled,
)
from runtime.graphs.records.run_record import Step
from runtime.messages import schemas
from runtime.telemetry import genai

_CONVENTIONS: Final = ("genai", "openinference")
_ERROR_CHARACTERS: Final = 200
_MOST_MS: Final = 2**31 - 1
_JSON: Final = "application/json"
_FROM_LABELS: Final = {genai.OI_SESSION: "session", genai.OI_USER: "user"}


@final
@attrs.define(eq=False)
class _Attempt:
    """One attempt at one message that is in progress."""

    span: Span
    within: otel_context.Context
    """The context in which the span is the current one."""
    task: trio.lowlevel.Task
    """In which it is."""
    token: Any


@final
@attrs.define(eq=False)
class _Run:
    span: Span
    within: otel_context.Context
    """The context in which the span is the current one."""
    is_seen: bool
    """Whether the span is sampled, or at least recorded here: of one that is neither nothing below is made."""
    attempts: dict[str, _Attempt] = attrs.field(factory=dict[str, _Attempt])
    """Those in progress, by path."""
    before: dict[str, trace.SpanContext] = attrs.field(factory=dict[str, trace.SpanContext])
    """By path, the last attempt that failed: the next one is linked to it."""
    calls: dict[int, Span] = attrs.field(factory=dict[int, Span])
    prompts: dict[str, LMAsked] = attrs.field(factory=dict[str, LMAsked])
    """What the next call of an attempt asks, by path; only while content is written."""


@final
class Tracing(Instrument):
    """An instrument that makes spans: ``open_runtime(instruments=[Tracing()])``.

    A run is a span whose parent is the current span of its caller; each attempt of a node is one below it, and current in
    the node's code, so spans of the author, of httpx and of worker threads hang below it, as calls of language models and tools
    do. A nested graph's nodes hang below the node that it stands for. A later attempt is a new span, linked to the one that
    failed. Whether any of it is kept is decided for the run: below the span of a run that isn't sampled there are none, and the
    run's own is current in the code of its nodes. What a resumed run did in an earlier process makes no spans. The labels
    ``session`` and ``user`` of a run become ``session.id`` and ``user.id`` of OpenInference.

    Args:
        tracer_provider: OpenTelemetry's; None takes the global one.
        conventions: which names are written besides ours: ``"genai"``, ``"openinference"``.
        content: whether inputs and outputs of runs and nodes are attributes; with ``open_runtime(show_prompts=True)`` prompts and
            answers of language models too. Off, since they hold what users have written.
    """

    def __init__(
        self,
        tracer_provider: trace.TracerProvider | None = None,
        conventions: Collection[str] = ("genai",),
        *,
        content: bool = False,
    ) -> None:
        if isinstance(conventions, str) or not set(conventions) <= set(_CONVENTIONS):
            raise rejected(Tracing, "conventions", conventions, f"a tuple of {', '.join(map(repr, _CONVENTIONS))}")
        self.kinds: tuple[type[Event], ...] = tuple(kind for kind in _ABOUT if content or kind is not LMAsked)
        """The classes of events that it is called with."""
        self._provider = tracer_provider
        self._tracer = trace.get_tracer("understudy", tracer_provider=tracer_provider)
        self._genai = "genai" in conventions
        self._openinference = "openinference" in conventions
        self._content = content
        self._runs: dict[str, _Run] = {}

    def method_for(self, kind: type[Event]) -> Callable[[Any], None]:
        """See :class:`Instrument`."""
        return MethodType(_ABOUT.get(kind, Tracing.ignore) if kind in self.kinds else Tracing.ignore, self)

    def unmade_method_for(self, kind: type[Event]) -> TellUnmade | None:
        """See :class:`Instrument`."""
        return self._attempt_begins if kind is NodeStarted else self._attempt_ends_well if kind is NodeFinished else None

    def ignore(self, event: Event) -> None:
        """Make no span of it."""

    async def flush(self, within_s: float = 5.0) -> bool:
        """Send what has ended, in a thread, and wait for at most `within_s` seconds; whether all of it was sent.

        For the end of a program, after the block of ``open_runtime``: a collector that hangs holds it up for no longer than
        that. A provider without ``force_flush``, as OpenTelemetry's API alone has, has nothing to send.
        """
        flush = getattr(self._provider or trace.get_tracer_provider(), "force_flush", None)
        if flush is None:
            await trio.lowlevel.checkpoint()
            return True
        with trio.move_on_after(within_s):
            return bool(await trio.to_thread.run_sync(flush, int(min(within_s * 1000, _MOST_MS)), abandon_on_cancel=True))
        return False

    # --- runs -----------------------------------------------------------------------------------------------------------

    def begin_run(self, event: RunStarted | RunResumed) -> None:
        """A run was accepted, or goes on."""
        fields: dict[str, Any] = {genai.RUN_ID: event.run_id, genai.GRAPH: event.graph}
        if self._genai:
            fields |= {
                genai.OPERATION_NAME: genai.INVOKE_WORKFLOW,
                genai.AGENT_NAME: event.graph,
                genai.WORKFLOW_NAME: event.graph,
            }
        if self._openinference:
            fields[genai.OI_KIND] = "CHAIN"
            fields |= {name: event.labels[label] for name, label in _FROM_LABELS.items() if label in event.labels}
        if self._content and isinstance(event, RunStarted):
            fields |= {genai.OI_INPUT: _json(event.input), genai.OI_INPUT_TYPE: _JSON}
        # The current span of this task, that of the caller who starts the run, is the parent; without one, a span elsewhere.
        above = None if trace.get_current_span().get_span_context().is_valid else _elsewhere()
        span = self._tracer.start_span(f"{genai.INVOKE_WORKFLOW} {event.graph}", above, attributes=fields)
        is_seen = span.is_recording() or span.get_span_context().trace_flags.sampled
        self._runs[event.run_id] = _Run(span, trace.set_span_in_context(span), is_seen)

    def end_run(self, event: RunFinished[Any]) -> None:
        """A run has ended."""
        run = self._runs.pop(event.run_id, None)
        if run is None:
            return
        for attempt in run.attempts.values() if run.is_seen else ():  # none, unless the run was observed from its middle on
            _end(attempt.span)
        fields: dict[str, Any] = {
            genai.STATUS: str(event.status),
            genai.COST_USD: event.spend.cost_usd,
            genai.INPUT_TOKENS: event.spend.prompt_tokens,
            genai.OUTPUT_TOKENS: event.spend.completion_tokens,
        }
        if self._content and event.error is None:
            fields |= {genai.OI_OUTPUT: _json(event.output), genai.OI_OUTPUT_TYPE: _JSON}
        run.span.set_attributes(fields)
        _end(run.span, event.error)

    # --- attempts -------------------------------------------------------------------------------------------------------

    def begin_attempt(self, event: NodeStarted) -> None:
        """A node begins to work on a message."""
        self._begin(event.run_id, event.node, event.path, event.attempt, event.waited_s)

    def _attempt_begins(self, run_id: str, step: Step, at_s: float, _: object) -> None:
        self._begin(run_id, step.node, step.path, step.attempt, at_s - step.waits_since_s)

    def _begin(self, run_id: str, node: str, path: str, attempt: int, waited_s: float) -> None:
        run = self._runs.get(run_id)
        if run is None:
            return
        if not run.is_seen:  # what the node's code asks others for is not sampled, either
            run.attempts[path] = _Attempt(run.span, run.within, trio.lowlevel.current_task(), otel_context.attach(run.within))
            return
        fields: dict[str, Any] = {
            genai.RUN_ID: run_id,
            genai.NODE: node,
            genai.PATH: path,
            genai.ATTEMPT: attempt,
            genai.WAITED_S: waited_s,
        }
        if self._openinference:
            fields[genai.OI_KIND] = "CHAIN"
        before = run.before.pop(path, None)
        above = _above(run, path) if run.attempts else run.within
        links = None if before is None else [Link(before)]
        span = self._tracer.start_span(node, context=above, attributes=fields, links=links)
        within = trace.set_span_in_context(span)
        run.attempts[path] = _Attempt(span, within, trio.lowlevel.current_task(), otel_context.attach(within))

    def end_attempt(self, event: NodeEvent) -> None:
        """The attempt has ended, one way or another."""
        run = self._runs.get(event.run_id)
        attempt = run.attempts.pop(event.path, None) if run is not None else None
        if run is None or attempt is None or not self._has_left(run, attempt):
            return
        if isinstance(event, NodeRetrying | NodeFellBack):
            run.before[event.path] = attempt.span.get_span_context()
        if isinstance(event, NodeCancelled):
            attempt.span.set_attribute(genai.STATUS, "cancelled")
        if isinstance(event, NodeFinished):
            self._end_well(attempt, event.output)
        else:
            _end(attempt.span, getattr(event, "error", None))

    def _attempt_ends_well(self, run_id: str, step: Step, at_s: float, output: object) -> None:
        run = self._runs.get(run_id)
        attempt = run.attempts.pop(step.path, None) if run is not None else None
        if run is not None and attempt is not None and self._has_left(run, attempt):
            self._end_well(attempt, output)

    @staticmethod
    def _has_left(run: _Run, attempt: _Attempt) -> bool:
        """Make the span of an attempt that has ended the current one no longer; whether there is one to be ended."""
        # Of a durable run the journal may report this from another task; the instance wipes its context before its next message.
        if attempt.task is trio.lowlevel.current_task():
            otel_context.detach(attempt.token)
        return run.is_seen

    def _end_well(self, attempt: _Attempt, output: object) -> None:
        if self._content:
            attempt.span.set_attributes({genai.OI_OUTPUT: _json(output), genai.OI_OUTPUT_TYPE: _JSON})
        attempt.span.end()

    # --- calls of language models ---------------------------------------------------------------------------------------

    def note_prompt(self, event: LMAsked) -> None:
        """What the call that now begins asks."""
        run = self._runs.get(event.run_id)
        if run is not None and run.is_seen:
            run.prompts[event.path] = event

    def begin_call(self, event: LMCallStarted) -> None:
        """A node calls a language model."""
        run = self._runs.get(event.run_id)
        if run is None or not run.is_seen:
            return
        operation = genai.EMBEDDINGS if event.operation == "embed" else genai.CHAT
        fields: dict[str, Any] = {genai.RUN_ID: event.run_id, genai.NODE: event.node}
        if self._genai:
            fields |= {genai.OPERATION_NAME: operation, genai.REQUEST_MODEL: event.model}
        if self._openinference:
            fields |= {genai.OI_KIND: "EMBEDDING" if event.operation == "embed" else "LLM", genai.OI_MODEL: event.model}
        asked = run.prompts.pop(event.path, None)
        if asked is not None:
            fields |= self._messages(
                genai.INPUT_MESSAGES, genai.OI_INPUT_MESSAGES, [(each.role, each.text) for each in asked.prompt]
            )
        above = _above(run, event.path, itself=True)
        run.calls[event.call] = self._tracer.start_span(
            f"{operation} {event.model}", context=above, kind=SpanKind.CLIENT, attributes=fields
        )

    def end_call(self, event: LMCalled) -> None:
        """The call has ended."""
        run = self._runs.get(event.run_id)
        span = run.calls.pop(event.call, None) if run is not None else None
        if span is None:
            return
        fields: dict[str, Any] = {genai.REQUESTS: event.requests}
        if event.cost_usd is not None:
            fields[genai.COST_USD] = event.cost_usd
        if self._genai:
            fields |= _described(event)
        if self._openinference:
            fields[genai.OI_PROMPT_TOKENS] = event.prompt_tokens
            fields[genai.OI_COMPLETION_TOKENS] = event.completion_tokens
            fields[genai.OI_TOTAL_TOKENS] = event.prompt_tokens + event.completion_tokens
            if event.cached_tokens:
                fields[genai.OI_CACHED_TOKENS] = event.cached_tokens
            if event.provider is not None:
                fields[genai.OI_PROVIDER] = event.provider
        if self._content and event.text is not None:
            answer = [("assistant", event.text)]
            fields |= self._messages(genai.OUTPUT_MESSAGES, genai.OI_OUTPUT_MESSAGES, answer, event.finish_reason)
        span.set_attributes(fields)  # all of them: each call of the SDK's takes a lock, and looks whether the span has ended
        _end(span, event.error)

    def _messages(
        self, name: str, openinference: str, messages: Sequence[tuple[str, str]], finish_reason: str | None = None
    ) -> dict[str, Any]:
        """Messages, each its role and its text, as attributes in the forms that are wanted."""
        found: dict[str, Any] = {}
        if self._genai:
            more = {} if finish_reason is None else {"finish_reason": finish_reason}
            parts = [{"role": role, "parts": [{"type": "text", "content": text}], **more} for role, text in messages]
            found[name] = json.dumps(parts, ensure_ascii=False)
        if self._openinference:
            for number, (role, text) in enumerate(messages):
                found[f"{openinference}.{number}.{genai.OI_ROLE}"] = role
                found[f"{openinference}.{number}.{genai.OI_CONTENT}"] = text
        return found

    def tool_called(self, event: ToolCalled) -> None:
        """A call of a tool has ended; it began so long ago as it took."""
        run = self._runs.get(event.run_id)
        if run is None or not run.is_seen:
            return
        fields: dict[str, Any] = {genai.RUN_ID: event.run_id, genai.NODE: event.node, genai.PATH: event.path}
        if self._genai:
            fields |= {genai.OPERATION_NAME: genai.EXECUTE_TOOL, genai.TOOL_NAME: event.tool}
        if self._openinference:
            fields |= {genai.OI_KIND: "TOOL", genai.OI_TOOL: event.tool}
        ended = time.time_ns()
        span = self._tracer.start_span(
            f"{genai.EXECUTE_TOOL} {event.tool}",
            context=_above(run, event.path),
            attributes=fields,
            start_time=ended - int(event.duration_s * 1e9),
        )
        _end(span, event.error, ended)


_ABOUT: Final[Mapping[type[Event], Callable[[Tracing, Any], None]]] = {
    RunStarted: Tracing.begin_run,
    RunResumed: Tracing.begin_run,
    RunFinished: Tracing.end_run,
    NodeStarted: Tracing.begin_attempt,
    **dict.fromkeys((NodeFinished, NodeRetrying, NodeFellBack, NodeGaveUp, NodeCancelled), Tracing.end_attempt),
    LMAsked: Tracing.note_prompt,
    LMCallStarted: Tracing.begin_call,
    LMCalled: Tracing.end_call,
    ToolCalled: Tracing.tool_called,
}


def _described(event: LMCalled) -> dict[str, Any]:
    """What the conventions for generative AI say of a call that has ended."""
    found: dict[str, Any] = {genai.INPUT_TOKENS: event.prompt_tokens, genai.OUTPUT_TOKENS: event.completion_tokens}
    if event.cached_tokens:
        found[genai.CACHED_TOKENS] = event.cached_tokens
    if event.reasoning_tokens:
        found[genai.REASONING_TOKENS] = event.reasoning_tokens
    if event.provider is not None:
        found[genai.PROVIDER_NAME] = event.provider
    if event.response_model is not None:
        found[genai.RESPONSE_MODEL] = event.response_model
    if event.finish_reason is not None:
        found[genai.FINISH_REASONS] = [event.finish_reason]
    if event.first_token_s is not None:
        found[genai.FIRST_CHUNK_S] = event.first_token_s
    return found


def _elsewhere() -> otel_context.Context | None:
    """The context of the span in another process that has asked for what this task does."""
    origin = current_origin()
    if origin is None:
        return None
    flags = trace.TraceFlags(trace.TraceFlags.SAMPLED if origin.is_sampled else trace.TraceFlags.DEFAULT)
    state = trace.TraceState.from_header([origin.state])
    span = trace.SpanContext(origin.trace_id, origin.span_id, is_remote=True, trace_flags=flags, trace_state=state)
    return trace.set_span_in_context(trace.NonRecordingSpan(span))


def _above(run: _Run, path: str, *, itself: bool = False) -> otel_context.Context:
    """The context of the span above what happens at `path`: that of the node whose nested graph it belongs to, or the run's.

    The path of what is done with an item of a list, or of a generator that goes on, begins with the path of the step that made
    it, and then comes the item's number: it is beside that step, not inside of it.
    """
    attempt = run.attempts.get(path) if itself else None
    above, _, inner = path.rpartition("/")
    while above and attempt is None:
        attempt = run.attempts.get(above) if not inner.isdigit() else None
        above, _, inner = above.rpartition("/")
    return run.within if attempt is None else attempt.within


def _json(message: object) -> str:
    """A message as JSON; its ``repr`` where that cannot be."""
    try:
        return json.dumps(schemas.dump(message), ensure_ascii=False)
    except Exception:  # noqa: BLE001 - an author's property raises, or a message holds itself
        return repr_of(message)


def _end(span: Span, error: BaseException | None = None, at_ns: int | None = None) -> None:
    if error is not None:
        span.set_attribute(genai.ERROR_TYPE, type(error).__qualname__)
        span.set_status(StatusCode.ERROR, said(error, _ERROR_CHARACTERS))
    span.end(at_ns)
