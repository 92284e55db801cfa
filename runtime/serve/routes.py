"""The routes of graphs and runs: what each does, and which scope it wants."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, final

import attrs
import trio

from runtime.serve.auth import Caller, Scope
from runtime.serve.incoming import ClientLeft, incoming_of
from runtime.serve.listing import runs_told
from runtime.serve.live import Live
from runtime.serve.problem_documents import HttpProblem
from runtime.serve.requests import (
    accepts,
    idempotency_of,
    json_body,
    order_of,
    preferences_of,
    whole_number,
)
from runtime.serve.run_documents import graph_told, layout_told, run_told
from runtime.serve.sse import EventStreamResponse, JSONLinesResponse, Reader
from runtime.serve.trace_routes import page_headers, trace_page, trace_told
from runtime.serve.web import Request, Response
from runtime.traces.chrome import chrome_trace
from runtime.traces.event_json import dumps
from runtime.traces.kept_run import RunRecord

Answer = Callable[[Any, Any, Any], Awaitable[None]]
"""An ASGI response."""
Handler = Callable[[Live, Caller, Request], Awaitable[Answer]]
STREAM: Final = "text/event-stream"
LINES: Final = "application/jsonl"
_NONE: Final[Mapping[str, str]] = {}


@final
@attrs.frozen
class Endpoint:
    """One route."""

    method: str
    path: str
    scope: Scope | None
    """What its caller must have; None: no one need say who calls."""
    handler: Handler
    summary: str
    body: Mapping[str, Any] | None = None
    """The schema of the JSON that a face takes; None of other routes."""
    has_own_errors: bool = False
    """Whether errors have the form of another protocol, rather than that of problem documents."""
    is_described: bool = True
    """Whether the OpenAPI document has it; not if it carries a protocol that OpenAPI has no words for."""
    hears_departure: bool = False
    """Whether its handler waits by ``Incoming``, and so needs no task beside it that hears whether the client leaves."""

    @property
    def id(self) -> str:
        """What the operation is called in the OpenAPI document."""
        return self.handler.__name__.lstrip("_")


@final
class JSONResponse:
    """A response of JSON."""

    __slots__ = ("_body", "_headers", "_status")

    def __init__(self, value: object, status: int, headers: Mapping[str, str]) -> None:
        self._body = dumps(value)
        self._status = status
        self._headers = [(name.lower().encode("latin-1"), text.encode("latin-1")) for name, text in headers.items()]

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Send it; an ASGI application."""
        length = (b"content-length", b"%d" % len(self._body))
        headers = [*self._headers, length, (b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": self._status, "headers": headers})
        await send({"type": "http.response.body", "body": self._body})


def as_json(value: object, status: int = 200, headers: Mapping[str, str] = _NONE) -> JSONResponse:
    """A response of JSON."""
    return JSONResponse(value, status, headers)


def prefix_of(request: Request) -> str:
    """The path under which the service is mounted."""
    root: str = request.scope.get("root_path", "")
    return root.rstrip("/")


# --- graphs -----------------------------------------------------------------------------------------------------------


async def list_graphs(live: Live, _: Caller, request: Request) -> Answer:
    """All graphs."""
    return as_json({"graphs": [graph_told(graph, prefix_of(request)) for graph in live.graphs.values()]})


async def show_graph(live: Live, _: Caller, request: Request) -> Answer:
    """One graph, with the layout of its picture."""
    graph = live.graph(request.path_params["graph"])
    return as_json({**graph_told(graph, prefix_of(request)), "layout": layout_told(graph)})


# --- runs -------------------------------------------------------------------------------------------------------------


async def start_run(live: Live, caller: Caller, request: Request) -> Answer:
    """Start a run; answer when it was accepted, or when it is over, or with its events."""
    graph = live.graph(request.path_params["graph"])
    value, body = await json_body(request, live.limits)
    wanted = preferences_of(request, live.limits)
    order, key = order_of(value, graph, live.limits), idempotency_of(request, graph.name, body)
    launch, is_replayed = await live.admit(order, caller, key)
    headers = {"X-Run-Id": launch.record.id, "Location": f"{prefix_of(request)}/v1/runs/{launch.record.id}"}
    if is_replayed:
        headers["Idempotency-Replayed"] = "true"
    if wanted.applied:
        headers["Preference-Applied"] = wanted.applied
    try:
        await live.begun(launch)
        if accepts(request, STREAM):
            left = launch.cancel if wanted.cancels_on_disconnect else None
            return _stream(live, caller, request, launch.record, -1, headers, left)
        if wanted.wait_s is not None:
            await incoming_of(request).until_over(launch.record, wanted.wait_s)
    except (trio.Cancelled, ClientLeft):
        if wanted.cancels_on_disconnect:
            launch.cancel()
        raise
    told = run_told(live, launch.record, caller, prefix_of(request))
    return as_json(told, 200 if launch.record.is_over and wanted.wait_s is not None else 202, headers)


async def list_runs(live: Live, caller: Caller, request: Request) -> Answer:
    """Runs, newest first: the caller's own, or all for who may inspect."""
    return as_json(await runs_told(live, caller, request, prefix_of(request)))


async def show_run(live: Live, caller: Caller, request: Request) -> Answer:
    """One run."""
    record = await live.find(request.path_params["run"], caller)
    return as_json(run_told(live, record, caller, prefix_of(request)), 200, {"X-Run-Id": record.id})


async def follow_run(live: Live, caller: Caller, request: Request) -> Answer:
    """The events of a run, as they come, or what there is."""
    record = await live.find(request.path_params["run"], caller)
    after = whole_number(request.query_params.get("after"), "after", -1)
    last = whole_number(request.headers.get("last-event-id") or None, "Last-Event-ID", after)
    return _stream(live, caller, request, record, last, {"X-Run-Id": record.id})


def _stream(
    live: Live,
    caller: Caller,
    request: Request,
    record: RunRecord,
    after: int,
    headers: Mapping[str, str],
    left: Callable[[], object] | None = None,
) -> Answer:
    kinds = tuple(kind for text in request.query_params.getlist("kinds") for kind in text.split(",") if kind)
    reader = Reader(live.encoder, caller.sees_all, kinds)
    raw = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    if accepts(request, LINES):
        return JSONLinesResponse(record, reader, after, live.limits.stall_s, raw, live.archive)
    if not (accepts(request, STREAM) or accepts(request, "*/*") or "accept" not in request.headers):
        raise HttpProblem("not-acceptable", f"There are {STREAM} and {LINES}.")
    return EventStreamResponse(record, reader, after, live.streams, caller.name, raw, left)


async def show_trace(live: Live, caller: Caller, request: Request) -> Answer:
    """What the run's nodes did, attempt by attempt."""
    record = await live.find(request.path_params["run"], caller)
    encoder, inside = live.encoder, caller.sees_all
    match request.query_params.get("as", "json"):
        case "json":
            return as_json((await trace_told(record, encoder, inside=inside))[1])
        case "chrome":
            return as_json(chrome_trace((await trace_told(record, encoder, inside=inside))[0]))
        case "html":
            page = await trace_page(record, encoder, live.graphs.get(record.graph), inside=inside)
            return Response(page, headers=page_headers(record), media_type="text/html; charset=utf-8")
        case _:
            raise HttpProblem("not-acceptable", "as: expected 'json', 'chrome' or 'html'.")


async def cancel_run(live: Live, caller: Caller, request: Request) -> Answer:
    """Cancel a run; answer when none of it is alive."""
    record = await live.find(request.path_params["run"], caller, operating=True)
    await live.cancel(record)
    record = await live.find(record.id, caller, operating=True)
    return as_json(run_told(live, record, caller, prefix_of(request)), 200, {"X-Run-Id": record.id})


# --- the service itself -----------------------------------------------------------------------------------------------


async def healthz(_: Live, __: Caller, ___: Request) -> Answer:
    """Whether the process answers."""
    return Response("ok", media_type="text/plain")


async def readyz(live: Live, _: Caller, __: Request) -> Answer:
    """Whether runs are taken."""
    is_ready = live.is_ready and (live.archive is None or await live.archive.is_well())
    return Response("ok" if is_ready else "not ready", 200 if is_ready else 503, media_type="text/plain")


ENDPOINTS: Final[Sequence[Endpoint]] = (
    Endpoint("GET", "/v1/graphs", "run", list_graphs, "List the graphs"),
    Endpoint("GET", "/v1/graphs/{graph}", "run", show_graph, "Show a graph"),
    Endpoint("POST", "/v1/graphs/{graph}/runs", "run", start_run, "Start a run", hears_departure=True),
    Endpoint("GET", "/v1/runs", "run", list_runs, "List runs, newest first"),
    Endpoint("GET", "/v1/runs/{run}", "run", show_run, "Show a run"),
    Endpoint("GET", "/v1/runs/{run}/events", "run", follow_run, "Follow the events of a run"),
    Endpoint("GET", "/v1/runs/{run}/trace", "run", show_trace, "Show what the nodes of a run did"),
    Endpoint("POST", "/v1/runs/{run}/cancel", "run", cancel_run, "Cancel a run"),
    Endpoint("GET", "/healthz", None, healthz, "Whether the process answers"),
    Endpoint("GET", "/readyz", None, readyz, "Whether runs are taken"),
)
