"""The inspector over HTTP: its page, what it shows, and the stream of what changes in the view that is open."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, cast, final

import trio

from actors.errors import UnderstudyError
from actors.words import words_of
from runtime.embed.disconnects import Receive, Scope, Send
from runtime.inspector import api
from runtime.inspector.page import HEADERS as PAGE_HEADERS
from runtime.inspector.page import files
from runtime.inspector.watch import BUSY, PAGE, TICK_S, Watch
from runtime.serve.auth import Caller
from runtime.serve.listing import runs_told
from runtime.serve.live import Live
from runtime.serve.problem_documents import HttpProblem
from runtime.serve.question_routes import answer_any
from runtime.serve.requests import json_body, whole_number
from runtime.serve.routes import (
    Answer,
    Endpoint,
    as_json,
    cancel_run,
    follow_run,
    prefix_of,
    show_graph,
    show_run,
    show_trace,
)
from runtime.serve.run_documents import graph_told
from runtime.serve.sse import HEADERS, QUIET_S, RETRY, ResponseWriter, frame, slices
from runtime.serve.web import Request, Response
from runtime.traces.event_json import dumps

_LOG = logging.getLogger("understudy.serve")
PATH: Final = "/inspector"
MAX_OPEN: Final = 50
"""How many branches of the tree a view shows open."""
QUESTIONS_S: Final = 1.0
"""How often questions are asked for: with a store, that is a query."""
View = Callable[[], Awaitable[dict[str, Any]]]


# --- the page ---------------------------------------------------------------------------------------------------------


async def redirect(_: Live, __: Caller, request: Request) -> Answer:
    """To the page: its links are relative to a path that ends with a slash."""
    return Response(b"", 307, headers={"Location": f"{prefix_of(request)}{PATH}/"})


async def show_page(_: Live, __: Caller, request: Request) -> Answer:
    """One file of the page."""
    file = files().get(request.path_params.get("file", "index.html"))
    if file is None:
        raise HttpProblem("not-found")
    headers = {**PAGE_HEADERS, "ETag": file.tag}
    if request.headers.get("if-none-match") == file.tag:
        return Response(b"", 304, headers=headers)
    return Response(file.content, headers=headers, media_type=file.kind)


# --- what it shows ----------------------------------------------------------------------------------------------------


def _watch(live: Live) -> Watch:
    if live.watch is None:
        raise HttpProblem("not-found")
    return live.watch


def _view(live: Live, caller: Caller, request: Request, name: str) -> View:
    """What makes the view of that name, as the query wants it.

    Raises:
        Problem: there is none, or the query cannot be meant.
    """
    watch, query = _watch(live), request.query_params
    limit = whole_number(query.get("limit"), "limit", PAGE, PAGE)
    skip = whole_number(query.get("skip"), "skip", 0)
    match name:
        case "summary":
            return lambda: _nothing()
        case "overview":
            return lambda: api.overview(watch)
        case "actors":
            under = [*dict.fromkeys(query.getlist("under"))][:MAX_OPEN] or [""]
            chosen, search = query.get("chosen"), query.get("search", "")
            return lambda: api.actors(watch, under, chosen=chosen, search=search, skip=skip, limit=limit)
        case "letters":
            before = query.get("before")
            number = None if before is None else whole_number(before, "before", 0)
            return lambda: api.letters(watch, before=number, limit=limit)
        case "models":
            return lambda: api.models(watch)
        case "questions":
            return lambda: api.questions(watch)
        case "graph":
            graph = live.graph(query.get("graph", "")).name
            return lambda: _figures(watch, graph)
        case "runs":
            return lambda: _runs(live, caller, request)
        case _:
            raise HttpProblem("not-found", f"There is no view {name!r}.")


async def _nothing() -> dict[str, Any]:
    return {}


async def _figures(watch: Watch, graph: str) -> dict[str, Any]:
    await trio.lowlevel.checkpoint()
    return api.graph_figures(watch, graph)


async def _runs(live: Live, caller: Caller, request: Request) -> dict[str, Any]:
    await trio.lowlevel.checkpoint()
    told = await runs_told(live, caller, request, prefix_of(request))
    rows: dict[str, Any] = {}
    for run in told["runs"]:
        rows[run["id"]] = {name: value for name, value in run.items() if name not in ("output", "links")}
    return {"order": list(rows), "rows": rows, "cursor": told.get("cursor")}


def _shows(name: str) -> Callable[[Live, Caller, Request], Awaitable[Answer]]:
    async def show(live: Live, caller: Caller, request: Request) -> Answer:
        make = _view(live, caller, request, name)
        summary = await _watch(live).summary()
        return as_json({"summary": summary, **await make()})

    return show


async def about(live: Live, caller: Caller, request: Request) -> Answer:
    """Who looks, what may be done, and the graphs there are."""
    watch = _watch(live)
    told = {
        "caller": caller.name,
        "operates": live.is_operated and caller.operates,
        "opened": watch.time(watch.opened_s),
        "now": watch.time(trio.current_time()),
        "graphs": [graph_told(graph, prefix_of(request)) for graph in live.graphs.values()],
        "summary": await watch.summary(),
    }
    return as_json(told)


async def changes(live: Live, caller: Caller, request: Request) -> Answer:
    """The view that is open, and then what changes in it."""
    name = request.query_params.get("view", "summary")
    return _Changes(live, caller, _view(live, caller, request, name), QUESTIONS_S if name == "questions" else TICK_S)


@final
class _Changes:
    """An ASGI response: a view as a whole, then patches of it, at most one in `tick_s` seconds. Nothing while nothing changes."""

    def __init__(self, live: Live, caller: Caller, make: View, tick_s: float) -> None:
        self._live = live
        self._caller = caller
        self._make = make
        self._tick_s = tick_s

    @property
    def head(self) -> Sequence[tuple[bytes, bytes]]:
        """Its headers."""
        return HEADERS

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._live.usage.stream(self._caller.name):
            shown, took_s = await self._shown()  # before the response begins: a query that cannot be meant is still told so
            await send({"type": "http.response.start", "status": 200, "headers": [*self.head]})
            writer = ResponseWriter(send, self._live.limits.stall_s)
            if await writer.write(RETRY) and await self._follow(writer, shown, took_s):
                await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _shown(self) -> tuple[dict[str, Any], float]:
        """The view as it is now, and how many seconds it took; without the summary, which rests on its own."""
        summary = await _watch(self._live).summary()
        begun = trio.current_time()
        told = {"summary": summary, **await self._make()}
        return told, trio.current_time() - begun

    async def _follow(self, writer: ResponseWriter, told: dict[str, Any], took_s: float) -> bool:
        """Send `told`, which took so long to make, and what changes; until the service stops and has no run left."""
        watch = _watch(self._live)
        shown: dict[str, Any] = {}
        quiet_since = trio.current_time()
        for number in itertools.count():
            changed = api.patch(shown, told) if number else told
            now = trio.current_time()
            if changed or not number:
                stamped = {"now": watch.time(now), "view": changed}
                for part in slices(frame(number, "patch" if number else "view", dumps(stamped))):
                    if not await writer.write(part):
                        return False
                shown, quiet_since = told, now
            elif now - quiet_since >= QUIET_S:
                if not await writer.write(b":\n\n"):
                    return False
                quiet_since = now
            if self._live.is_over:
                return True
            await trio.sleep(max(self._tick_s, BUSY * (took_s + trio.current_time() - now)))
            told, took_s = await self._shown()
        raise AssertionError("counted to infinity")


# --- what operators do ------------------------------------------------------------------------------------------------


async def cancel(live: Live, caller: Caller, request: Request) -> Answer:
    """Cancel a run; answer when none of it is alive."""
    answer = await cancel_run(live, caller, request)
    _LOG.info("inspector: %s cancelled run %s", caller.name, request.path_params["run"])
    return answer


async def answer(live: Live, caller: Caller, request: Request) -> Answer:
    """Answer a question; the body is the answer's JSON."""
    question = request.path_params["question"]
    value, _ = await json_body(request, live.limits)
    await answer_any(live, question, value, caller.name)
    _LOG.info("inspector: %s answered question %s", caller.name, question)
    return as_json({"question": question})


async def restart(live: Live, caller: Caller, request: Request) -> Answer:
    """Stop an actor and start it again; the body names its address."""
    value, _ = await json_body(request, live.limits)
    given: Any = cast("dict[str, Any]", value).get("address") if isinstance(value, dict) else None
    if not isinstance(given, str):
        raise HttpProblem("bad-request", 'The body must be an object with a text "address".')
    ref = live.runtime.whereis(given)
    if ref is None:
        raise HttpProblem("not-found", "There is no actor of this address.")
    try:
        await live.runtime.restart(ref)
    except UnderstudyError as error:
        raise HttpProblem("cannot-restart", words_of(error)) from error
    _LOG.info("inspector: %s restarted %s", caller.name, given)
    return as_json({"address": given})


VIEWS: Final = ("overview", "actors", "letters", "models", "questions", "runs")


def endpoints(*, operated: bool) -> Sequence[Endpoint]:
    """The routes of the inspector; only with `operated` some that change anything."""
    data = f"{PATH}/api"
    found = [
        Endpoint("GET", PATH, None, redirect, "To the inspector"),
        Endpoint("GET", f"{PATH}/", None, show_page, "The inspector"),
        Endpoint("GET", f"{PATH}/static/{{file:path}}", None, show_page, "A file of the inspector"),
        Endpoint("GET", f"{data}/about", "inspect", about, "Who looks, and what there is"),
        Endpoint("GET", f"{data}/changes", "inspect", changes, "What changes in a view"),
        *(Endpoint("GET", f"{data}/{name}", "inspect", _shows(name), f"The view {name}") for name in VIEWS),
        Endpoint("GET", f"{data}/runs/{{run}}", "inspect", show_run, "Show a run"),
        Endpoint("GET", f"{data}/runs/{{run}}/events", "inspect", follow_run, "Follow the events of a run"),
        Endpoint("GET", f"{data}/runs/{{run}}/trace", "inspect", show_trace, "Show what the nodes of a run did"),
        Endpoint("GET", f"{data}/graphs/{{graph}}", "inspect", show_graph, "Show a graph"),
    ]
    if operated:
        found.append(Endpoint("POST", f"{data}/runs/{{run}}/cancel", "operate", cancel, "Cancel a run"))
        found.append(Endpoint("POST", f"{data}/restart", "operate", restart, "Restart an actor"))
        found.append(Endpoint("POST", f"{data}/questions/{{question}}/answer", "operate", answer, "Answer a question"))
    return found
