"""Reads events as they are written: a file of ``understudy run --record``, or what a service gives as JSON Lines. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
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
_NUMBERS: Final = {"seq": int, "elapsed_s": (int, float), "v": int}
_OF_NODES: Final[Mapping[str, Any]] = {"node": str, "path": str, "attempt": int}
_OF_CALLS: Final[Mapping[str, Any]] = {"call": int, "model": str}


def read_events(text: str, source: str) -> Sequence[WireEvent]:
    """The events that `text` holds, one on each line, in their order; all of one or of several runs.

    Args:
        text: JSON Lines; empty lines count for nothing.
        source: what it is called in errors: a file's name.

    Raises:
        UsageError: it holds no events, a line is none, or it was written by a newer version. It names the line.
    """
    lines = text.split("\n")
    found: list[WireEvent] = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            is_last = number == len(lines) and not text.endswith("\n")
            found.append(_event(line, f"{source}, line {number}", is_last=is_last))
    if not found:
        raise UsageError(f"{source} is empty: it holds no events.\n  Fix: {_SOURCES}")
    if not any(_run_of(event) for event in found):
        raise UsageError(f"{source} holds no events of a run.\n  Fix: {_SOURCES}")
    return found


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


def _event(line: str, place: str, *, is_last: bool) -> WireEvent:
    try:
        read: object = json.loads(line)
    except (ValueError, RecursionError) as error:
        why = f"it isn't JSON ({error})" if isinstance(error, ValueError) else "it is nested too deeply"
        if is_last and line.lstrip().startswith("{"):
            why = "it ends in the middle: the program that wrote it was stopped, or it still writes"
            raise UsageError(f"{place} cannot be read: {why}.\n  Fix: remove that line, or wait for its end.") from error
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
    for name, kind in _wanted(event["event"]).items():
        value = event.get(name)
        if not isinstance(value, kind) or isinstance(value, bool):
            raise UsageError(
                f"{place} is no {event['event']} of ours: {name!r} is {cut(json.dumps(value), _SHOWN)}.\n  Fix: {_SOURCES}"
            )
    return event


def _wanted(name: str) -> Mapping[str, Any]:
    """The fields that such an event must have to be shown, and their types."""
    if name == EVENTS_MISSED:
        return {"v": int, "count": int}
    if name.startswith("lm.") and name != "lm.asked":
        return {**_NUMBERS, **_OF_NODES, **(_OF_CALLS if name != "lm.delta" else {})}
    return {**_NUMBERS, **_OF_NODES} if name.startswith(("node.", "tool.called", "field.")) else _NUMBERS
