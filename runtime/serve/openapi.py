"""The service in OpenAPI 3.1: one operation for each graph, from its message types."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, cast
from urllib.parse import quote

from actors.graphs.graph import Graph
from runtime.serve.limits import Limits
from runtime.serve.listing import STATUSES
from runtime.serve.problem_documents import KINDS
from runtime.serve.requests import MOST, MOST_SEQ
from runtime.serve.routes import Endpoint
from runtime.serve.run_documents import description, json_schema
from runtime.traces.event_json import event_classes, name_of, schema_of_event

_TEXT: Final[Mapping[str, Any]] = {"type": "string"}
_PARAMETER: Final = re.compile(r"{(\w+)}")


def openapi(
    graphs: Sequence[Graph], endpoints: Sequence[Endpoint], limits: Limits, *, is_open: bool, version: str
) -> dict[str, Any]:
    """The document. `is_open`: no key is needed."""
    schemas = _common(limits)
    paths: dict[str, Any] = {}
    for endpoint in endpoints:
        operation = paths.setdefault(endpoint.path, {})
        operation[endpoint.method.lower()] = _operation(endpoint, graphs[0].name, is_open=is_open)
    for graph in graphs:
        paths[f"/v1/graphs/{quote(graph.name, safe='')}/runs"] = {"post": _start(graph, schemas, is_open=is_open)}
    document: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": "understudy", "version": version, "description": "Graphs of language models, served over HTTP."},
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
    }
    return document


def _common(limits: Limits) -> dict[str, Any]:
    times = {name: {"type": ["string", "null"], "format": "date-time"} for name in ("created_at", "started_at", "ended_at")}
    problem = {
        "type": "object",
        "properties": {
            "type": {"type": "string", "enum": [f"urn:understudy:problem:{kind}" for kind in KINDS]},
            "title": _TEXT,
            "status": {"type": "integer"},
            "detail": _TEXT,
            "fix": _TEXT,
            "run": _TEXT,
            "errors": {
                "type": "array",
                "items": {"type": "object", "properties": {"pointer": _TEXT, "message": _TEXT}},
            },
        },
        "required": ["type", "title", "status", "detail", "fix"],
    }
    run = {
        "type": "object",
        "properties": {
            "id": _TEXT,
            "graph": _TEXT,
            "status": {"type": "string", "enum": list(STATUSES)},
            "labels": {"type": "object", "additionalProperties": _TEXT},
            **times,
            "output": {},
            "error": _ref("Problem"),
            "spend": {"type": "object"},
            "steps": {"type": "integer"},
            "links": {"type": "object", "additionalProperties": _TEXT},
        },
        "required": ["id", "graph", "status", "labels", "created_at", "spend", "steps", "links"],
    }
    runs = {
        "type": "object",
        "properties": {"runs": {"type": "array", "items": _ref("Run")}, "cursor": _TEXT},
        "required": ["runs"],
    }
    question = {
        "type": "object",
        "properties": {
            **dict.fromkeys(("id", "run", "node", "path", "text"), _TEXT),
            "asks": {},
            "answer_schema": {"type": ["object", "null"]},
            "asked_at": {"type": "string", "format": "date-time"},
            "due_at": {"type": ["string", "null"], "format": "date-time"},
            "to": {"type": ["string", "null"]},
            "links": {"type": "object", "additionalProperties": _TEXT},
        },
        "required": ["id", "run", "node", "path", "text", "asks", "answer_schema", "asked_at", "due_at", "to", "links"],
    }
    questions = {
        "type": "object",
        "properties": {"questions": {"type": "array", "items": _ref("Question")}},
        "required": ["questions"],
    }
    events = {f"event.{name_of(kind)}": schema_of_event(kind) for kind in event_classes()}
    schemas: dict[str, Any] = {
        "Problem": problem,
        "Run": run,
        "Runs": runs,
        "Question": question,
        "Questions": questions,
        **events,
    }
    schemas["Bounds"] = {
        "type": "object",
        "properties": {
            "type": {"type": ["string", "null"]},
            "run_id": {"type": ["string", "null"], "pattern": "^[A-Za-z0-9_-]{1,64}$"},
            "labels": {
                "type": ["object", "null"],
                "propertyNames": {"minLength": 1, "maxLength": 200},
                "maxProperties": 16,
                "additionalProperties": {"type": "string", "maxLength": 200},
            },
            "max_steps": {"type": ["integer", "null"], "minimum": 1, "exclusiveMaximum": MOST},
            "timeout_s": {"type": ["number", "null"], "exclusiveMinimum": 0, **_at_most(limits.run_s)},
            "budget": {
                "type": ["object", "null"],
                "minProperties": 1,
                "additionalProperties": False,
                "properties": {
                    "usd": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": MOST},
                    "tokens": {"type": "integer", "minimum": 1, "exclusiveMaximum": MOST},
                },
            },
        },
    }
    return schemas


def _at_most(most: float) -> dict[str, Any]:
    return {"maximum": most} if math.isfinite(most) else {}


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


def _operation(endpoint: Endpoint, graph: str, *, is_open: bool) -> dict[str, Any]:
    parameters = [_in_path(name, graph) for name in _PARAMETER.findall(endpoint.path)]
    streams = {**_json({"type": "object"}), **_EVENTS}
    kinds = _ANSWERS.get(endpoint.id, _json({"type": "object"}) if endpoint.body is None else streams)
    told: dict[str, Any] = {
        "operationId": endpoint.id,
        "summary": endpoint.summary,
        "responses": {"200": {"description": "It went well.", "content": kinds}, **_refusals(own=endpoint.has_own_errors)},
    }
    if endpoint.id == "start_run":
        told["requestBody"] = _body({"type": "object", "properties": {"input": {}}, "required": ["input"]})
        told["responses"] |= _accepted()
        parameters += _START_HEADERS
    if endpoint.id == "answer_question":
        what = "The answer, as the question's answer_schema has it."
        told["requestBody"] = {"required": True, "description": what, "content": _json({})}
    if endpoint.body is not None:
        told["requestBody"] = {"required": True, "content": _json(endpoint.body)}
    parameters += _QUERIES.get(endpoint.id, [])
    if parameters:
        told["parameters"] = parameters
    if endpoint.scope is not None and not is_open:
        told["security"] = [{"bearer": []}]
    return told


def _in_path(name: str, graph: str) -> dict[str, Any]:
    told: dict[str, Any] = {"name": name, "in": "path", "required": True, "schema": _TEXT}
    return told | {"example": graph} if name in ("graph", "model") else told


def _json(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


_QUERIES: Final[Mapping[str, list[dict[str, Any]]]] = {
    "list_runs": [
        {"name": "graph", "in": "query", "schema": _TEXT},
        {"name": "status", "in": "query", "schema": {"type": "string", "enum": list(STATUSES)}},
        {
            "name": "label",
            "in": "query",
            "schema": {"type": "array", "items": {"type": "string", "pattern": "^[^:]+:"}},
            "example": ["customer:7"],
        },
        {"name": "limit", "in": "query", "schema": {"type": "integer", "minimum": 0, "maximum": 500}, "example": 20},
        {"name": "cursor", "in": "query", "schema": _TEXT},
    ],
    "show_trace": [{"name": "as", "in": "query", "schema": {"type": "string", "enum": ["json", "chrome", "html"]}}],
    "follow_run": [
        {"name": "after", "in": "query", "schema": {"type": "integer", "minimum": 0, "maximum": MOST_SEQ}},
        {"name": "kinds", "in": "query", "schema": _TEXT, "example": "node.,run.finished"},
        {"name": "Last-Event-ID", "in": "header", "schema": {"type": "string", "pattern": "^[0-9]{0,15}$"}},
    ],
}
_START_HEADERS: Final[list[dict[str, Any]]] = [
    {
        "name": "Prefer",
        "in": "header",
        "schema": _TEXT,
        "description": "wait=30, cancel-on-disconnect (RFC 7240)",
        "example": "wait=30, cancel-on-disconnect",
    },
    {
        "name": "Idempotency-Key",
        "in": "header",
        "schema": {"type": "string", "pattern": "^[!-~]{1,255}$"},
        "example": "order-1042",
    },
]
_EVENTS: Final[Mapping[str, Any]] = {"text/event-stream": {}, "application/jsonl": {}}
_ANSWERS: Final[Mapping[str, Mapping[str, Any]]] = {
    "healthz": {"text/plain": {"schema": _TEXT}},
    "readyz": {"text/plain": {"schema": _TEXT}},
    "_show": {"text/plain": {"schema": _TEXT}},
    "list_runs": _json(_ref("Runs")),
    "show_run": _json(_ref("Run")),
    "cancel_run": _json(_ref("Run")),
    "list_questions": _json(_ref("Questions")),
    "answer_question": _json(_ref("Run")),
    "start_run": {**_json(_ref("Run")), **_EVENTS},
    "follow_run": _EVENTS,
    "show_trace": {**_json({"type": "object"}), "text/html": {}},
}


def _refusals(*, own: bool = False) -> dict[str, Any]:
    if own:
        return {"default": {"description": "An error, in the form of this protocol.", "content": _json({"type": "object"})}}
    content = {"application/problem+json": {"schema": _ref("Problem")}}
    return {"default": {"description": "A problem document (RFC 9457).", "content": content}}


def _accepted() -> dict[str, Any]:
    return {"202": {"description": "It was accepted, and goes on.", "content": _json(_ref("Run"))}}


def _body(schema: Mapping[str, Any]) -> dict[str, Any]:
    bounds = _ref("Bounds")["$ref"]
    names = ("type", "run_id", "labels", "max_steps", "timeout_s", "budget")
    properties = {name: {"$ref": f"{bounds}/properties/{name}"} for name in names} | schema["properties"]
    return {"required": True, "content": _json({**schema, "properties": properties, "additionalProperties": False})}


def _start(graph: Graph, schemas: dict[str, Any], *, is_open: bool) -> dict[str, Any]:
    plan = graph.plan()
    inputs = [_placed(json_schema(kind), f"{graph.name}.{kind.__name__}", schemas) for kind in plan.input_types]
    outputs = [_placed(json_schema(kind), f"{graph.name}.{kind.__name__}", schemas) for kind in plan.output_types]
    named = {"enum": [*(kind.__name__ for kind in plan.input_types), None]}
    taken = {"type": "object", "properties": {"input": _any_of(inputs), "type": named}, "required": ["input"]}
    done = {"allOf": [_ref("Run"), {"type": "object", "properties": {"output": _any_of(outputs)}}]}
    told: dict[str, Any] = {
        "operationId": re.sub(r"\W", "_", f"run_{graph.name}"),
        "summary": f"Run {graph.name}",
        "description": description(graph),
        "parameters": _START_HEADERS,
        "requestBody": _body(taken),
        "responses": {
            "200": {"description": "It is over (Prefer: wait).", "content": {**_json(done), **_EVENTS}},
            **_accepted(),
            **_refusals(),
        },
    }
    if not is_open:
        told["security"] = [{"bearer": []}]
    return told


def _any_of(schemas: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return schemas[0] if len(schemas) == 1 else {"anyOf": list(schemas)}


def _placed(schema: dict[str, Any], name: str, schemas: dict[str, Any]) -> dict[str, Any]:
    """Put `schema` among the document's, its parts beside it, and return what refers to it."""
    safe = re.sub(r"[^A-Za-z0-9._-]", "_", name)
    parts = cast("dict[str, Any]", schema.get("$defs", {}))

    def place(reference: str) -> str:
        part = reference.removeprefix("#/$defs/")
        return f"#/components/schemas/{safe}.{re.sub(r'[^A-Za-z0-9._-]', '_', part)}"

    for part, inner in parts.items():
        schemas[f"{safe}.{re.sub(r'[^A-Za-z0-9._-]', '_', part)}"] = _moved(inner, place)
    schemas[safe] = _moved({key: value for key, value in schema.items() if key != "$defs"}, place)
    return _ref(safe)


def _moved(schema: Any, place: Callable[[str], str]) -> Any:
    if isinstance(schema, dict):
        known = cast("dict[str, Any]", schema)
        is_reference = isinstance(known.get("$ref"), str) and known["$ref"].startswith("#/$defs/")
        return {key: place(value) if key == "$ref" and is_reference else _moved(value, place) for key, value in known.items()}
    items: Any = schema
    return [_moved(item, place) for item in items] if isinstance(schema, list) else schema
