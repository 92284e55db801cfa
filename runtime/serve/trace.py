"""What a run did, attempt by attempt, from its events: as JSON, and as the trace that Chrome and Perfetto show."""

from __future__ import annotations

from typing import Any, Final

from runtime.core.events import Event
from runtime.graphs.events import NodeCancelled, NodeEvent, NodeFellBack, NodeFinished, NodeGaveUp, NodeRetrying, NodeStarted
from runtime.recording.record import RunRecord

_ENDS: Final[dict[type[Event], str]] = {
    NodeFinished: "done",
    NodeRetrying: "retrying",
    NodeFellBack: "fell back",
    NodeGaveUp: "failed",
    NodeCancelled: "cancelled",
}


def attempts_of(record: RunRecord) -> list[dict[str, Any]]:
    """Each attempt of a node at a message, in the order in which they began; times in seconds since the run was accepted.

    Of an earlier process, whose run nobody followed, nobody knows when they began: then that is None.
    """
    open_: dict[tuple[str, int], dict[str, Any]] = {}
    found: list[dict[str, Any]] = []
    for entry in record.entries:
        event = entry.event
        if not isinstance(event, NodeEvent):
            continue
        at_s = round(event.at_s - record.created_at_s, 6)
        if isinstance(event, NodeStarted):
            told: dict[str, Any] = {
                "node": event.node,
                "path": event.path,
                "attempt": event.attempt,
                "waited_s": round(event.waited_s, 6),
                "began_s": at_s,
                "ended_s": None,
                "status": "running",
            }
            open_[event.path, event.attempt] = told
            found.append(told)
        elif type(event) in _ENDS:
            ended = open_.pop((event.path, event.attempt), None)
            if ended is None:  # its journal tells when it ended alone
                ended = {"node": event.node, "path": event.path, "attempt": event.attempt, "waited_s": None, "began_s": None}
                found.append(ended)
            ended["ended_s"], ended["status"] = at_s, _ENDS[type(event)]
    return found


def chrome_trace(record: RunRecord) -> dict[str, Any]:
    """The same for ``chrome://tracing`` and Perfetto: one row for each node."""
    rows: dict[str, int] = {}
    events: list[dict[str, Any]] = []
    for index, attempt in enumerate(attempts_of(record)):
        row = rows.setdefault(attempt["node"], len(rows) + 1)
        common = {"cat": "node", "id": index, "pid": 1, "tid": row, "name": f"{attempt['node']} {attempt['attempt']}"}
        began_s = attempt["ended_s"] if attempt["began_s"] is None else attempt["began_s"]
        details = {"path": attempt["path"], "status": attempt["status"], "waited_s": attempt["waited_s"]}
        events.append({**common, "ph": "b", "ts": began_s * 1e6, "args": details})
        if attempt["ended_s"] is not None:
            events.append({**common, "ph": "e", "ts": attempt["ended_s"] * 1e6})
    names = [{"ph": "M", "pid": 1, "tid": row, "name": "thread_name", "args": {"name": node}} for node, row in rows.items()]
    return {"traceEvents": [*names, *events], "displayTimeUnit": "ms", "otherData": {"run": record.id, "graph": record.graph}}
