"""What is told of graphs and runs, as JSON."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

import attrs

from actors.errors import DeclarationError
from actors.graphs.annotations import description_of
from actors.graphs.graph import Graph
from runtime.draw.layout import lay_out
from runtime.draw.svg import measure
from runtime.messages.problems import MessageInvalid
from runtime.messages.schemas import schema_of
from runtime.messages.writer import write
from runtime.serve.auth import Caller
from runtime.serve.live import Live
from runtime.serve.problem_documents import HttpProblem, problem_of
from runtime.traces.event_json import plain, time_text
from runtime.traces.kept_run import RunRecord

_ANYTHING: Final[Mapping[str, Any]] = {}
_PLAIN: Final = re.compile(r"[A-Za-z0-9_-]+")


def graph_told(graph: Graph, prefix: str) -> dict[str, Any]:
    """A graph: what it takes and makes, its nodes and its edges."""
    plan = graph.plan()
    here = f"{prefix}/v1/graphs/{quote(graph.name, safe='')}"
    return {
        "name": graph.name,
        "description": description(graph),
        "version": graph.version,
        "input": {kind.__name__: json_schema(kind) for kind in plan.input_types},
        "output": {kind.__name__: json_schema(kind) for kind in plan.output_types},
        "nodes": [
            {
                "name": spec.name,
                "kind": spec.kind.value,
                "description": inspect.cleandoc(getattr(spec.function, "__doc__", None) or ""),
                "concurrency": spec.options.concurrency,
            }
            for spec in plan.nodes.values()
        ],
        "edges": [{"from": edge.source, "to": edge.target, "type": edge.type.__name__} for edge in plan.edges],
        "links": {"self": here, "runs": f"{here}/runs"},
    }


def layout_told(graph: Graph) -> dict[str, Any]:
    """Where the parts of its picture stand."""
    told: dict[str, Any] = attrs.asdict(lay_out(graph.sketch(), measure))
    return told


def description(graph: Graph) -> str:
    """What the graph is for: what its input types say, or how it leads from one type to another."""
    plan = graph.plan()
    texts = [description_of(kind) for kind in plan.input_types]
    said = " ".join(text.split("\n\n")[0].replace("\n", " ") for text in texts if text)
    takes = " | ".join(kind.__name__ for kind in plan.input_types)
    makes = " | ".join(kind.__name__ for kind in plan.output_types)
    return said or f"Makes {makes} of {takes}."


def json_schema(kind: type) -> dict[str, Any]:
    """The schema of a message type; of one that has no JSON, one that anything fits."""
    try:
        return schema_of(kind)
    except DeclarationError:
        return dict(_ANYTHING)


def output_told(value: Any) -> Any:
    """What a run has made, as its type declares it."""
    try:
        return write(type(value), value)
    except (MessageInvalid, DeclarationError):
        return plain(value)


def run_told(live: Live, record: RunRecord, caller: Caller, prefix: str) -> dict[str, Any]:
    """A run, as `caller` may see it."""
    here = f"{prefix}/v1/runs/{_as_path(record.id)}"
    spend = record.spend if record.is_over else live.spend(record)
    told: dict[str, Any] = {
        "id": record.id,
        "graph": record.graph,
        "status": str(live.status(record)),
        "labels": dict(record.labels),
        "created_at": _time(live, record.created_at_s),
        "started_at": _time(live, record.started_at_s),
        "ended_at": _time(live, record.ended_at_s),
    }
    if record.status == "succeeded":
        is_own = record.owner == caller.name
        told["output"] = output_told(record.output) if is_own else live.encoder.content_told(record.output)
    problem = problem_of_run(live, record, caller)
    if problem is not None:
        told["error"] = problem.document()
    told["spend"] = {
        "calls": spend.calls,
        "requests": spend.requests,
        "prompt_tokens": spend.prompt_tokens,
        "completion_tokens": spend.completion_tokens,
        "cost_usd": spend.cost_usd,
    }
    told["steps"] = record.steps
    told["links"] = {
        "self": here,
        "graph": f"{prefix}/v1/graphs/{_as_path(record.graph)}",
        "events": f"{here}/events",
        "trace": f"{here}/trace",
        "questions": f"{here}/questions",
        "cancel": f"{here}/cancel",
    }
    return told


def _as_path(name: str) -> str:
    return name if _PLAIN.fullmatch(name) else quote(name, safe="")


def problem_of_run(live: Live, record: RunRecord, caller: Caller) -> HttpProblem | None:
    """Why it made nothing; None of one that succeeded, or goes on."""
    if live.is_late(record.id):
        return HttpProblem("deadline", run=record.id)
    if record.error is None:
        return None
    return problem_of(record.error, inside=caller.sees_all, run=record.id)


def _time(live: Live, at_s: float | None) -> str | None:
    return None if at_s is None else time_text(live.runtime.wall_time(at_s))
