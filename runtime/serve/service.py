"""Graphs as a service: an ASGI application with its lifespan, under any server, on its own or mounted in a bigger one."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Awaitable, Iterable, Mapping, Sequence
from functools import partial
from importlib import metadata
from typing import Any, Final, Protocol, final

from actors.errors import DeclarationError
from actors.graphs.graph import Graph
from actors.words import repr_of
from runtime.app import Runtime, open_runtime
from runtime.embed.asgi import GRACE_S, STATE, UnderstudyLifespan
from runtime.embed.asyncio_faces import AsyncioRuntime
from runtime.embed.disconnects import Receive, Scope, Send, cancelled_with_its_client
from runtime.embed.trio_apps import call_on_trio
from runtime.inspector.watch import Watch
from runtime.journal.named_stores import store_of
from runtime.serve.auth import EVERYBODY, OPERATING, Authenticator, Caller
from runtime.serve.gate import LOOPBACK, REJECTS, STREAM, Gate, caller_of, heard_gone, problem_response, reject_foreign_origin
from runtime.serve.incoming import INCOMING, Incoming
from runtime.serve.inspecting import PATH as INSPECTOR
from runtime.serve.inspecting import endpoints as inspector_endpoints
from runtime.serve.limits import Limits
from runtime.serve.live import Live
from runtime.serve.metrics import Metrics, is_available
from runtime.serve.openapi import openapi
from runtime.serve.problem_documents import HttpProblem
from runtime.serve.question_routes import ENDPOINTS as QUESTIONS
from runtime.serve.route_table import RouteTable
from runtime.serve.routes import ENDPOINTS, Answer, Endpoint, as_json
from runtime.serve.sse import EndlessResponse, EventStreamResponse
from runtime.serve.web import Mount, Request, Starlette
from runtime.traces.recorder import Recorder, Recording


class Face(Protocol):
    """Another form in which a service's graphs are served: its own routes, behind the same gate."""

    def endpoints(self) -> Sequence[Endpoint]:
        """Its routes."""
        ...

    def check(self, graphs: Sequence[Graph]) -> None:
        """Raise ``DeclarationError`` if it cannot serve `graphs` as it was declared."""
        ...

    def reject(self, problem: HttpProblem) -> Answer:
        """A problem in its form."""
        ...

    def running(self, live: Live) -> contextlib.AbstractAsyncContextManager[None]:
        """What it needs beside its requests, while the service is up."""
        ...


@final
class Service:
    """Graphs over HTTP. Opens nothing until its lifespan; may be started again when that is over.

    Args:
        graphs: what is served, by their names.
        auth: who may call; None: everybody whom `hosts` lets in.
        limits: what callers may use.
        faces: other forms of the same graphs, such as ``OpenAIFace()``.
        cors: origins whose pages may call.
        hosts: names under which the service is reached, besides those of this machine itself.
        inspector: whether the page ``/inspector/`` shows what goes on inside, to callers with the scope ``inspect``.
        metrics: whether ``GET /metrics`` shows metrics for Prometheus, to callers with the scope ``inspect``; needs the extra
            ``prometheus``, and without it there are none.
        operate: whether that page also cancels runs and answers questions, for callers with the scope ``operate``; for everybody
            without `auth`.
        record: how much of runs is kept.
        grace_s: how long a shut-down waits for runs, in seconds.
        options: of :func:`runtime.open_runtime`.

    Raises:
        DeclarationError: two graphs have one name, or a face cannot serve them. GraphInvalid: a graph has problems.
    """

    def __init__(
        self,
        graphs: Iterable[Graph[Any, Any]],
        *,
        auth: Authenticator | None = None,
        limits: Limits | None = None,
        faces: Iterable[Face] = (),
        cors: Iterable[str] = (),
        hosts: Iterable[str] = (),
        inspector: bool = True,
        metrics: bool = True,
        operate: bool = False,
        record: Recording | None = None,
        grace_s: float = GRACE_S,
        **options: Any,
    ) -> None:
        self.graphs: tuple[Graph[Any, Any], ...] = _checked(graphs)
        self.limits = limits if limits is not None else Limits()
        self.hosts = _texts("hosts", hosts)
        self.cors = _texts("cors", cors)
        if "*" in self.cors or "*" in self.hosts:
            raise DeclarationError("Service(cors=…, hosts=…): '*' would let everybody in.\n  Fix: name each origin and host.")
        self.auth = auth
        self.inspector = inspector
        """Whether it has the inspector's page."""
        self._metrics = Metrics() if metrics and is_available() else None
        self._operate = operate and inspector
        self.anybody: Final = OPERATING if self._operate else EVERYBODY
        """Who calls where no one need say so."""
        self._faces = tuple(faces)
        for face in self._faces:
            face.check(self.graphs)
        self._record = record if record is not None else Recording()
        self._options: Mapping[str, Any] = {**options, "graphs": self.graphs}
        self._lifespan = UnderstudyLifespan(self._opened, grace_s, self.reject_runs)
        self._runtime: Runtime | AsyncioRuntime | None = None
        self._live: Live | None = None
        self._gate = Gate(self._table().find, self.hosts, self.cors)
        self._document: dict[str, Any] | None = None
        self.app: Final = Starlette(routes=[Mount("/", self.routes)], lifespan=self.lifespan)
        """A whole application with its lifespan, for uvicorn, hypercorn or any ASGI server."""

    @property
    def routes(self) -> _Routes:
        """All routes, to be mounted in an application whose lifespan is :attr:`lifespan`."""
        return _Routes(self)

    @contextlib.asynccontextmanager
    async def lifespan(self, app: Any = None) -> AsyncGenerator[Mapping[str, Any]]:
        """Open the runtime and serve while the block lasts; then take no more runs, let those in progress finish, and close."""
        if self._live is not None:
            raise DeclarationError("this service is up already.\n  Fix: one lifespan at a time, or two services.")
        async with self._lifespan(app) as state:
            self._runtime = state[STATE]
            try:
                yield state
            finally:
                self.reject_runs()

    def reject_runs(self) -> None:
        """Take no more runs: what a shut-down begins with. Everything else is still answered."""
        if self._live is not None:
            self._live.reject_runs()

    @property
    def live(self) -> Live:
        """The service that is up.

        Raises:
            Problem: it is not.
        """
        if self._live is None:
            raise HttpProblem("draining", "The service is not up.", retry_after_s=1)
        return self._live

    def openapi(self) -> dict[str, Any]:
        """The OpenAPI document."""
        if self._document is None:
            shown = [
                each for each in self._endpoints() if each.is_described and not each.path.startswith(("/openapi", INSPECTOR))
            ]
            version = metadata.version("understudy")
            self._document = openapi(self.graphs, shown, self.limits, is_open=self.auth is None, version=version)
        return self._document

    @contextlib.asynccontextmanager
    async def _opened(self) -> AsyncGenerator[Runtime]:
        options, recorder = dict(self._options), Recorder(self._record)
        own = (recorder,) if self._metrics is None else (recorder, self._metrics.made())
        options["instruments"] = (*options.get("instruments", ()), *own)
        if (store := options.get("store")) is not None:
            store = options["store"] = store_of(store)
        async with open_runtime(**options) as runtime:
            live = Live(self.graphs, self.limits, recorder, runtime, store)
            live.hosts, live.origins = (*LOOPBACK, *self.hosts), self.cors
            if self.inspector:
                live.watch = Watch(runtime, live.graphs, live.recorder, live.encoder)
                live.is_operated = self._operate
            async with live.serving(), contextlib.AsyncExitStack() as stack:
                for face in self._faces:
                    await stack.enter_async_context(face.running(live))
                self._live = live
                try:
                    yield runtime
                finally:
                    self._live = self._runtime = None

    # --- requests ---------------------------------------------------------------------------------------------------------

    def _endpoints(self) -> list[Endpoint]:
        own = [*ENDPOINTS, *QUESTIONS, Endpoint("GET", "/openapi.json", None, self._show_openapi, "This document")]
        if self.inspector:
            own += inspector_endpoints(operated=self._operate)
        if self._metrics is not None:
            own += self._metrics.endpoints()
        return [*own, *(endpoint for face in self._faces for endpoint in face.endpoints())]

    async def _show_openapi(self, *_: Any) -> Answer:
        return as_json(self.openapi())

    def _table(self) -> RouteTable[_Handled]:
        refusing = {endpoint.path: face.reject for face in self._faces for endpoint in face.endpoints()}
        return RouteTable(
            (endpoint.path, endpoint.method, _Handled(self, endpoint, refusing.get(endpoint.path)))
            for endpoint in self._endpoints()
        )

    # Neither of the next two is a coroutine, which would wait on the stack of every stream for as long as that lasts.

    def serve(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """One connection, on trio."""
        return self._gate(scope, receive, send)

    def dispatch(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """One connection, wherever the server is."""
        runtime = self._runtime
        if runtime is not None:
            return call_on_trio(runtime, self.serve, scope, receive, send)
        return _answer_closed(scope, receive, send)


async def _answer_closed(scope: Scope, receive: Receive, send: Send) -> None:
    """One connection of a service that is not up."""
    if scope["type"] != "http":
        return
    is_probe = scope["path"].endswith("/healthz")
    answer = as_json("ok") if is_probe else problem_response(HttpProblem("draining", "The service is not up.", retry_after_s=1))
    await answer(scope, receive, send)


@final
class _Routes:
    """The ASGI application of all routes; a class, so frameworks take it for one."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._service.dispatch(scope, receive, send)


@final
class _Handled:
    """One endpoint as an ASGI application."""

    def __init__(self, service: Service, endpoint: Endpoint, reject: Any) -> None:
        self._service = service
        self.endpoint = endpoint
        self._reject = reject

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._reject is not None:
            scope[REJECTS] = self._reject
        service = self._service
        reject_foreign_origin(scope, service.cors)
        caller = service.anybody
        if service.auth is not None and self.endpoint.scope is not None:
            caller = await caller_of(scope, service.auth, self.endpoint.scope)
        if not (self.endpoint.hears_departure and service.live.archive is None):  # looking into a store may take long as well
            handled = partial(self._handle, caller)
            if await cancelled_with_its_client(handled, scope, receive, send) and STREAM in scope:
                scope[STREAM] = partial(_sent_to_nobody, scope[STREAM])
            return
        await self._handle(caller, scope, receive, send)

    async def _handle(self, caller: Caller, scope: Scope, receive: Receive, send: Send) -> None:
        incoming = scope[INCOMING] = Incoming(scope, receive, self._service.limits)
        answer = await self.endpoint.handler(self._service.live, caller, Request(scope, incoming.receive))
        if scope["method"] == "HEAD" and isinstance(answer, EndlessResponse):
            # Servers leave the body of such an answer out, and would wait for its end all the same.
            await send({"type": "http.response.start", "status": 200, "headers": [*answer.head]})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        elif isinstance(answer, EventStreamResponse):
            scope[STREAM] = answer
        else:
            await answer(scope, incoming.receive, send)


async def _sent_to_nobody(stream: EventStreamResponse, scope: Scope, _: Receive, send: Send) -> None:
    """A stream whose client has left before it began."""
    await stream(scope, heard_gone, send)


def _checked(graphs: Iterable[Any]) -> tuple[Graph[Any, Any], ...]:
    found: dict[str, Graph[Any, Any]] = {}
    for graph in graphs:
        if not isinstance(graph, Graph):
            raise DeclarationError(f"Service([{repr_of(graph)}]): expected graphs.\n  Fix: Service([graph]).")
        graph.plan()
        known: Any = graph  # pyright: ignore[reportUnknownVariableType]  # Graph[Unknown, Unknown], by isinstance
        if found.setdefault(known.name, known) is not known:
            raise DeclarationError(f"two graphs are named {known.name!r}.\n  Fix: give each served graph its own name.")
    if not found:
        raise DeclarationError("Service([]): there is nothing to serve.\n  Fix: Service([graph]).")
    return tuple(found.values())


def _texts(option: str, given: Any) -> tuple[str, ...]:
    texts: tuple[Any, ...] = (given,) if isinstance(given, str) else tuple(given)
    if isinstance(given, str) or not all(isinstance(text, str) and text for text in texts):
        raise DeclarationError(f"Service({option}={repr_of(given)}): expected a list of texts.\n  Fix: {option}=['example.org'].")
    return texts
