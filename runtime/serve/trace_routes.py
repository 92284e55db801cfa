"""The trace of a run over HTTP: its attempts as JSON, for Chrome and Perfetto, or as one file of HTML."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import trio

from actors.graphs.graph import Graph
from runtime.inspector.export import export_page
from runtime.serve.run_documents import graph_told, layout_told
from runtime.traces.blame import Blame, blame_of
from runtime.traces.event_json import Encoder
from runtime.traces.kept_run import RunRecord
from runtime.traces.steps import Trace, trace_of

SLICE: Final = 200
"""Events that are read before other tasks get their turn."""
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9_.-]")


async def wire_events(record: RunRecord, encoder: Encoder, *, inside: bool) -> Sequence[Mapping[str, Any]]:
    """What is kept of the run's events, as its readers see them. A checkpoint, and more of them for a long run."""
    found: list[Mapping[str, Any]] = []
    for number, entry in enumerate(record.after(-1)):
        if not number % SLICE:
            await trio.lowlevel.checkpoint()
        found.append(json.loads(entry.text(encoder, record.created_at_s, inside=inside)))
    return found


def attempts_told(trace: Trace) -> list[dict[str, Any]]:
    """Each attempt of a node at a message, in the order in which they began; times in seconds since the run was accepted."""
    return [
        {
            "node": attempt.node,
            "path": attempt.path,
            "attempt": attempt.attempt,
            "waited_s": (attempt.began_us - attempt.delivered_us) / 1e6,
            "began_s": attempt.began_us / 1e6,
            "ended_s": None if attempt.ended_us is None else attempt.ended_us / 1e6,
            "status": attempt.status,
        }
        for attempt in trace.attempts
    ]


def blame_told(blame: Blame) -> dict[str, Any]:
    """Where the time and the money went, by node and cause; the times add up to the run's duration."""
    return {
        "shares": [
            {
                "node": share.node,
                "cause": str(share.cause),
                "time_s": share.time_us / 1e6,
                "requests": share.requests,
                "prompt_tokens": share.prompt_tokens,
                "completion_tokens": share.completion_tokens,
                "cost_usd": share.cost_usd,
            }
            for share in blame.shares
        ],
        "critical_path": [
            {"path": piece.path, "cause": str(piece.cause), "began_s": piece.began_us / 1e6, "ended_s": piece.ended_us / 1e6}
            for piece in blame.path
        ],
    }


async def trace_told(record: RunRecord, encoder: Encoder, *, inside: bool) -> tuple[Trace, dict[str, Any]]:
    """The trace, and what is told of it as JSON."""
    trace = trace_of(await wire_events(record, encoder, inside=inside))
    about = {"run": record.id, "graph": record.graph, "status": record.status}
    return trace, {**about, "attempts": attempts_told(trace), "blame": blame_told(blame_of(trace))}


async def trace_page(record: RunRecord, encoder: Encoder, graph: Graph | None, *, inside: bool) -> bytes:
    """The inspector's page with the run inside."""
    events = await wire_events(record, encoder, inside=inside)
    told = None if graph is None else {**graph_told(graph, ""), "layout": layout_told(graph)}
    return export_page(events, graph=told).encode()


def page_headers(record: RunRecord) -> dict[str, str]:
    """Those of the page: it is a file to keep, and is never shown with the rights of this service's own pages."""
    name = _UNSAFE.sub("_", record.id)[:64]
    return {"Content-Disposition": f'attachment; filename="run-{name}.html"', "Content-Security-Policy": "sandbox"}
