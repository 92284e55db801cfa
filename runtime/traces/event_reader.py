"""Reads events as they are written: a file of ``understudy run --record``, or what a service gives as JSON Lines. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, cast

from actors.errors import UsageError
from actors.words import cut
from runtime.traces.event_json import EVENTS_MISSED, VERSION

WireEvent = Mapping[str, Any]
"""One event as it is written; see ``Encoder``."""
_SOURCES: Final = (
    "give a file that `understudy run --record FILE.jsonl` has written, or what GET /v1/runs/{run}/events gives with "
    "Accept: application/jsonl."
)
_SHOWN: Final = 60
"""How much of a wrong line is shown."""
_NUMBERS: Final = ("v", "seq", "elapsed_s")
_OF_NODES: Final = ("node", "path", "attempt")
_OF_CALLS: Final = ("call", "model")
_MOST: Final = 1e12
"""A number beyond that isn't one of ours: 30,000 years in seconds."""

Check = Callable[[object], bool]


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_count(value: object) -> bool:
    return type(value) is int and abs(value) <= _MOST


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and abs(cast("float", value)) <= _MOST  # not NaN, either


def _object_of(checks: Mapping[str, Check]) -> Check:
    """An object whose fields of these names, where they are there and not null, pass."""

    def check(value: object) -> bool:
        if not isinstance(value, dict):
            return False
        given = cast("dict[str, object]", value)
        return all(given.get(name) is None or passes(given[name]) for name, passes in checks.items())

    return check


def _list_of(passes: Check) -> Check:
    return lambda value: isinstance(value, list) and all(map(passes, cast("list[object]", value)))


_USED: Final[Mapping[str, Check]] = {"prompt_tokens": _is_count, "completion_tokens": _is_count, "cost_usd": _is_number}
_SAID: Final[Mapping[str, Check]] = {"type": _is_text, "message": _is_text, "cause": _is_text}
_OF_NODE_ERRORS: Final[Mapping[str, Check]] = {"node": _is_text, "path": _is_text, "error": _object_of(_SAID)}
_REQUEST: Final[Mapping[str, Check]] = {
    **dict.fromkeys(("asked_s", "sent_s", "ended_s"), _is_number),
    "error": _is_text,
    "usage": _object_of(_USED),
}
_CHECKS: Final[Mapping[str, Check]] = {
    **dict.fromkeys(("v", "seq", "attempt", "call", "count", "requests"), _is_count),
    **dict.fromkeys(("elapsed_s", "waited_s", "backoff_s", "duration_s", "first_token_s"), _is_number),
    **dict.fromkeys(("run", "graph", "status", "node", "path", "model", "operation", "again", "finish_reason"), _is_text),
    **dict.fromkeys(("question", "tool"), _is_text),
    **_USED,
    "labels": lambda value: isinstance(value, dict) and all(map(_is_text, cast("dict[str, object]", value).values())),
    "spend": _object_of(_USED),
    "error": _object_of({**_SAID, "nodes": _list_of(_object_of(_OF_NODE_ERRORS))}),
    "made": _list_of(_object_of(_REQUEST)),
}
"""What the fields must be that a trace is made of, where an event has them; of others nothing is asked."""


def read_events(text: str, source: str, note: Callable[[str], None] | None = None) -> Sequence[WireEvent]:
    """The events that `text` holds, one on each line, in their order; all of one or of several runs.

    A last line that ends in the middle is left out: the program that wrote it was killed, or still writes.

    Args:
        text: JSON Lines; empty lines count for nothing.
        source: what it is called in errors: a file's name.
        note: told what was left out.

    Raises:
        UsageError: it holds no events, a line is none, or it was written by a newer version. It names the line.
    """
    lines = text.split("\n")
    if _is_cut(lines):
        if note is not None:
            note(f"{source}, line {len(lines)} ends in the middle and is left out: what wrote it was stopped, or still writes.")
        del lines[-1]
    found = [_event(line, f"{source}, line {number}") for number, line in enumerate(lines, 1) if line.strip()]
    if not found:
        raise UsageError(f"{source} is empty: it holds no events.\n  Fix: {_SOURCES}")
    if not any(_run_of(event) for event in found):
        raise UsageError(f"{source} holds no events of a run.\n  Fix: {_SOURCES}")
    return found


def _is_cut(lines: Sequence[str]) -> bool:
    """Whether the last line, which no line end follows, is the beginning of one; of a whole one there is more than it."""
    last = lines[-1]
    if len(lines) == 1 or not last.startswith("{"):
        return False
    try:
        json.loads(last)
    except ValueError:
        return True
    except RecursionError:
        return False
    return False


def of_run(events: Sequence[WireEvent], run: str | None, source: str) -> Sequence[WireEvent]:
    """Those of one run: of `run`, or of the only one that there is.

    Raises:
        UsageError: there is none of that id, or several and none is chosen.
    """
    runs = list(dict.fromkeys(_run_of(event) for event in events if _run_of(event)))
    if run is None and len(runs) > 1:
        raise UsageError(
            f"{source} holds events of {len(runs)} runs: {cut(', '.join(runs), 200)}.\n  Fix: choose one with --run {runs[0]}."
        )
    if run is not None and run not in runs:
        raise UsageError(f"{source} has no run {run!r}.\n  Fix: choose one of those it has: {cut(', '.join(runs), 200)}.")
    chosen = runs[0] if run is None else run
    return [event for event in events if _run_of(event) in (chosen, "")]


def _run_of(event: WireEvent) -> str:
    run = event.get("run", "")
    return run if isinstance(run, str) else ""


def _event(line: str, place: str) -> WireEvent:
    try:
        read: object = json.loads(line)
    except (ValueError, RecursionError) as error:
        why = f"it isn't JSON ({error})" if isinstance(error, ValueError) else "it is nested too deeply"
        raise UsageError(f"{place} cannot be read: {why}. Got: {cut(line, _SHOWN)}\n  Fix: {_SOURCES}") from error
    if not isinstance(read, dict) or not isinstance(cast("dict[str, Any]", read).get("event"), str):
        raise UsageError(
            f"{place} isn't an event: it isn't an object with an 'event'. Got: {cut(line, _SHOWN)}\n  Fix: {_SOURCES}"
        )
    event = cast("dict[str, Any]", read)
    version = event.get("v")
    if isinstance(version, int) and version > VERSION:
        raise UsageError(
            f"{place} was written by a newer version: its form is {version}, and this version reads {VERSION}.\n"
            "  Fix: upgrade understudy here, or look at it with the version that wrote it."
        )
    wanted = _wanted(event["event"])
    for name, passes in _CHECKS.items():
        value = event.get(name)
        if name in wanted if value is None else not passes(value):
            raise UsageError(
                f"{place} is no {cut(event['event'], _SHOWN)} of ours: {name!r} is {cut(json.dumps(value), _SHOWN)}.\n"
                f"  Fix: {_SOURCES}"
            )
    return event


def _wanted(name: str) -> Sequence[str]:
    """The fields that such an event must have to be shown."""
    if name == EVENTS_MISSED:
        return ("v", "count")
    if name.startswith("lm.") and name != "lm.asked":
        return (*_NUMBERS, *_OF_NODES, *(_OF_CALLS if name != "lm.delta" else ()))
    if name.startswith("question."):
        return (*_NUMBERS, "path", "question")
    return (*_NUMBERS, *_OF_NODES) if name.startswith(("node.", "tool.called", "field.")) else _NUMBERS
