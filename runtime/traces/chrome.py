"""A trace as Chrome and Perfetto read it: a row of attempts for each node, a row of calls for each model. Pure."""

from __future__ import annotations

from typing import Any

from runtime.traces.steps import Trace


def chrome_trace(trace: Trace) -> dict[str, Any]:
    """The JSON object for ``chrome://tracing`` and https://ui.perfetto.dev: asynchronous events, which may overlap in a row."""
    rows: dict[str, int] = {}
    events: list[dict[str, Any]] = []
    number = 0
    for attempt in trace.attempts:
        details: dict[str, Any] = {
            "path": attempt.path,
            "status": attempt.status,
            "waited_s": (attempt.began_us - attempt.delivered_us) / 1e6,
        }
        if attempt.error is not None:
            details["error"] = attempt.error
        row = rows.setdefault(attempt.node, len(rows) + 1)
        name = f"{attempt.node} {attempt.attempt}"
        events += _pair(name, "node", number, row, attempt.began_us, attempt.ended_us, details)
        number += 1
        for call in attempt.calls:
            used = {"prompt_tokens": call.prompt_tokens, "completion_tokens": call.completion_tokens, "cost_usd": call.cost_usd}
            details = {"node": attempt.node, "path": attempt.path, "requests": call.requests, **used}
            if call.error is not None:
                details["error"] = call.error
            row = rows.setdefault(f"model {call.model}", len(rows) + 1)
            events += _pair(f"{call.operation} {call.model}", "lm", number, row, call.began_us, call.ended_us, details)
            number += 1
    names = [{"ph": "M", "pid": 1, "tid": row, "name": "thread_name", "args": {"name": name}} for name, row in rows.items()]
    about = {"run": trace.run, "graph": trace.graph, "status": trace.status}
    return {"traceEvents": [*names, *events], "displayTimeUnit": "ms", "otherData": about}


def _pair(
    name: str, category: str, number: int, row: int, began_us: int, ended_us: int | None, details: dict[str, Any]
) -> list[dict[str, Any]]:
    """The begin and, if it is known, the end."""
    common = {"cat": category, "id": number, "pid": 1, "tid": row, "name": name}
    begin = {**common, "ph": "b", "ts": began_us, "args": details}
    return [begin] if ended_us is None else [begin, {**common, "ph": "e", "ts": ended_us}]
