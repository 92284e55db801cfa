"""Events as records of the standard library's logging: what an operator reads, without what users have written."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, Final, final

from actors.words import said
from runtime.core.events import (
    ActorCrashed,
    ActorRestarting,
    ActorUnresponsive,
    Event,
    LoopBlocked,
    MessageDeadLettered,
    SupervisorParked,
)
from runtime.graphs.records.run_events import (
    LMCalled,
    NodeFellBack,
    NodeGaveUp,
    NodeRetrying,
    NodeSlowToStop,
    RunAbandoned,
    RunFinished,
    RunParkedEvent,
    RunResumed,
    RunStarted,
    RunTakenOver,
    StoreRecovered,
    StoreStalled,
)

_SUPERVISION: Final = logging.getLogger("understudy.supervision")
_RUNS: Final = logging.getLogger("understudy.runs")
_LM: Final = logging.getLogger("understudy.lm")

_Written = tuple[logging.Logger, int, str, Mapping[str, Any]]
"""Logger, level, text and fields."""


@final
class LogEvents:
    """An instrument that logs what happens: ``open_runtime(instruments=[LogEvents()])``.

    The loggers are ``understudy.supervision``, ``understudy.runs`` and ``understudy.lm``. What goes wrong is a warning or an
    error; the end of a run is on level INFO, its start and calls of language models are on DEBUG. Each record carries its
    fields as attributes whose names begin with ``understudy_``, for structlog, OpenTelemetry or a JSON formatter. Messages,
    prompts and answers are never logged.

    Args:
        error_text: whether the text of an error is logged, cut to 200 characters. With False its class alone: the text is its
            author's, and may quote what a user has written.
    """

    def __init__(self, *, error_text: bool = True) -> None:
        self.kinds: tuple[type[Event], ...] = tuple(_WRITERS)
        """The classes of events that it logs."""
        self._error_text = error_text

    def __call__(self, event: Event) -> None:
        """Log one event; one of another class is ignored."""
        write = _WRITERS.get(type(event))
        if write is None:  # runtime.observe(instrument) gives it all events
            return
        logger, level, text, fields = write(event, self._worded)
        if logger.isEnabledFor(level):
            extra = {f"understudy_{name}": value for name, value in fields.items()}
            logger.log(level, text, extra={"understudy_event": type(event).__name__, **extra})

    def _worded(self, error: BaseException | None) -> str:
        if error is None:
            return "no error"
        return said(error, 200) if self._error_text else type(error).__name__


_Word = Callable[[BaseException | None], str]


def _crashed(event: Any, word: _Word) -> _Written:
    while_starting = " while it started" if event.while_starting else ""
    text = f"{event.address} crashed{while_starting}: {word(event.error)}"
    return _SUPERVISION, logging.WARNING, text, {**_actor(event), "error": type(event.error).__name__}


def _restarting(event: Any, _: _Word) -> _Written:
    text = f"{event.address} is restarted in {event.delay_s:.3g} s (restart {event.restarts})"
    return _SUPERVISION, logging.WARNING, text, {**_actor(event), "delay_s": event.delay_s, "restarts": event.restarts}


def _unresponsive(event: Any, _: _Word) -> _Written:
    return _SUPERVISION, logging.ERROR, f"{event.address} was cancelled and still runs:\n{event.stack}", _actor(event)


def _parked(event: Any, word: _Word) -> _Written:
    text = f"{event.address} has spent its restarts; the next attempt comes in {event.delay_s:.3g} s: {word(event.error)}"
    return _SUPERVISION, logging.ERROR, text, {**_actor(event), "delay_s": event.delay_s}


def _blocked(event: Any, _: _Word) -> _Written:
    who = event.address or event.task
    text = f"{who} has held the event loop for {event.held_s:.3g} s\n{event.stack}"
    return _SUPERVISION, logging.WARNING, text, {"address": event.address, "task": event.task, "held_s": event.held_s}


def _dead_letter(event: Any, _: _Word) -> _Written:
    letter = event.letter
    fields = {"address": letter.recipient, "reason": str(letter.reason), "message_type": type(letter.message).__name__}
    text = f"a {fields['message_type']} to {letter.recipient} reached no actor: {letter.reason}"
    return _SUPERVISION, logging.WARNING, text, fields


def _started(event: Any, _: _Word) -> _Written:
    return _RUNS, logging.DEBUG, f"run {event.run_id} of {event.graph} started", {"run_id": event.run_id, "graph": event.graph}


def _finished(event: Any, word: _Word) -> _Written:
    spend = event.spend
    fields = {
        "run_id": event.run_id,
        "status": str(event.status),
        "calls": spend.calls,
        "prompt_tokens": spend.prompt_tokens,
        "completion_tokens": spend.completion_tokens,
        "cost_usd": spend.cost_usd,
    }
    if event.error is None:
        return _RUNS, logging.INFO, f"run {event.run_id} {event.status}", fields
    level = logging.ERROR if event.status == "failed" else logging.INFO
    return (
        _RUNS,
        level,
        f"run {event.run_id} {event.status}: {word(event.error)}",
        {**fields, "error": type(event.error).__name__},
    )


def _node(doing: str, level: int) -> Callable[[Any, _Word], _Written]:
    def written(event: Any, word: _Word) -> _Written:
        fields = {"run_id": event.run_id, "node": event.node, "path": event.path, "attempt": event.attempt}
        error = getattr(event, "error", None)
        end = f": {word(error)}" if error is not None else ""
        return _RUNS, level, f"run {event.run_id}: {event.path} {doing} (attempt {event.attempt}){end}", fields

    return written


def _called(event: Any, word: _Word) -> _Written:
    fields = {
        "run_id": event.run_id,
        "node": event.node,
        "model": event.model,
        "prompt_tokens": event.prompt_tokens,
        "completion_tokens": event.completion_tokens,
        "cost_usd": event.cost_usd,
        "requests": event.requests,
        "duration_s": event.duration_s,
    }
    if event.error is not None:
        text = f"run {event.run_id}: {event.node} called {event.model} in vain: {word(event.error)}"
        return _LM, logging.WARNING, text, {**fields, "error": type(event.error).__name__}
    tokens = f"{event.prompt_tokens} + {event.completion_tokens} tokens"
    return (
        _LM,
        logging.DEBUG,
        f"run {event.run_id}: {event.node} called {event.model}, {tokens} in {event.duration_s:.3g} s",
        fields,
    )


def _resumed(event: Any, _: _Word) -> _Written:
    text = f"run {event.run_id} of {event.graph} goes on from its {event.records} records"
    return _RUNS, logging.INFO, text, {"run_id": event.run_id, "graph": event.graph, "records": event.records}


def _taken_over(event: Any, _: _Word) -> _Written:
    text = f"run {event.run_id} of {event.graph} is taken over from worker {event.from_worker}, which is dead"
    return _RUNS, logging.WARNING, text, {"run_id": event.run_id, "graph": event.graph, "from_worker": event.from_worker}


def _run_parked(event: Any, word: _Word) -> _Written:
    text = f"run {event.run_id} of {event.graph} waits for a decision: {word(event.error)}"
    return _RUNS, logging.ERROR, text, {"run_id": event.run_id, "graph": event.graph}


def _abandoned(event: Any, _: _Word) -> _Written:
    text = f"run {event.run_id} of {event.graph} was never awaited"
    return _RUNS, logging.WARNING, text, {"run_id": event.run_id, "graph": event.graph}


def _stalled(event: Any, word: _Word) -> _Written:
    text = f"the store does not take what is to be recorded: {word(event.error)}"
    return _RUNS, logging.ERROR, text, {"since_s": event.since_s}


def _recovered(_: Any, __: _Word) -> _Written:
    return _RUNS, logging.INFO, "the store takes what is to be recorded again", {}


def _actor(event: Any) -> dict[str, Any]:
    return {"address": event.address, "incarnation": event.incarnation}


_WRITERS: Final[Mapping[type[Event], Callable[[Any, _Word], _Written]]] = {
    ActorCrashed: _crashed,
    ActorRestarting: _restarting,
    ActorUnresponsive: _unresponsive,
    SupervisorParked: _parked,
    LoopBlocked: _blocked,
    MessageDeadLettered: _dead_letter,
    RunStarted: _started,
    RunResumed: _resumed,
    RunTakenOver: _taken_over,
    RunParkedEvent: _run_parked,
    RunFinished: _finished,
    RunAbandoned: _abandoned,
    NodeRetrying: _node("failed and is tried again", logging.WARNING),
    NodeFellBack: _node("failed and its fallback takes over", logging.WARNING),
    NodeGaveUp: _node("failed", logging.ERROR),
    NodeSlowToStop: _node("goes on after its time is up", logging.WARNING),
    LMCalled: _called,
    StoreStalled: _stalled,
    StoreRecovered: _recovered,
}
