"""A chat provider on 127.0.0.1 for tests and demonstrations: real sockets, scripted answers and failures, full records.

It speaks OpenAI's ``/v1/chat/completions`` and ``/v1/models`` and Anthropic's ``/v1/messages``, plain and streamed. It runs as a
task of the caller's ``trio.run`` (:func:`open_loopback`; exact under a virtual clock) or in its own process
(``runtime.testing.models.process``). No wall clock, no chance: ids come from counters.
"""

from __future__ import annotations

import json
import math
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final, NoReturn, cast, final

import trio

from actors.argument_checks import rejected
from actors.errors import UsageError
from actors.words import said
from runtime.testing.models.answers import ChatRequest, shortest_decimal
from runtime.testing.models.checked_scripts import Tolerance, enroll
from runtime.testing.models.http_server import CLIENT_GONE, HttpConnection, ReceivedRequest, RejectedRequest
from runtime.testing.models.planned_replies import WireReply, deliver
from runtime.testing.models.provider_script import FollowedScript, RequestPlan, Script, ScriptLike
from runtime.testing.models.recording import RequestRecord, RequestRecorder
from runtime.testing.models.wire_forms import ANTHROPIC, OPENAI, Dialect, NotAChatRequest, to_bytes

_JSON: Final = {"content-type": "application/json"}
_DIALECTS: Final[Mapping[str, Dialect]] = {"/v1/chat/completions": OPENAI, "/v1/messages": ANTHROPIC}


@final
class LoopbackProvider:
    """A running provider. Made by :func:`open_loopback`; has no public constructor."""

    def __init__(self, script: Script, max_concurrent: int | None) -> None:
        self._script = script
        self._recorder = RequestRecorder()
        self._places = trio.CapacityLimiter(math.inf)
        self._port: int | None = None
        self._routes: dict[str, tuple[str, Callable[[ReceivedRequest], object]]] = {"/v1/models": ("GET", self._models)}
        self.limit(max_concurrent)

    @property
    def url(self) -> str:
        """``http://127.0.0.1:PORT``, without a path."""
        if self._port is None:
            raise UsageError("The loopback provider does not listen yet.\n  Fix: use it inside 'async with open_loopback(...)'.")
        return f"http://127.0.0.1:{self._port}"

    @property
    def api_base(self) -> str:
        """``http://127.0.0.1:PORT/v1``: what OpenAI clients call the base URL."""
        return f"{self.url}/v1"

    @property
    def requests(self) -> list[RequestRecord]:
        """All chat requests so far, in arrival order. The records fill in while they are served."""
        return self._recorder.requests

    @property
    def in_flight(self) -> int:
        """Requests that have arrived and not ended, those that wait behind `max_concurrent` among them."""
        return self._recorder.in_flight

    @property
    def max_in_flight(self) -> int:
        """The most requests that ever were in flight at the same time."""
        return self._recorder.max_in_flight

    def script(self, model: str, script: ScriptLike) -> None:
        """Give `model` a script from now on; ``"*"`` stands for every model without one. The former progress is forgotten."""
        self._script.set(model, script)

    def set_latency(self, latency_s: float) -> None:
        """Let models whose script sets no latency answer after `latency_s` seconds from now on."""
        self._script.latency_s = latency_s

    def limit(self, max_concurrent: int | None) -> None:
        """Serve at most `max_concurrent` requests at the same time from now on; more wait in arrival order. None: no limit."""
        if max_concurrent is not None and max_concurrent < 1:
            raise rejected(self, "max_concurrent", max_concurrent, "a whole number >= 1 or None")
        self._places.total_tokens = math.inf if max_concurrent is None else max_concurrent

    def clear(self) -> None:
        """Forget all records."""
        self._recorder.clear()

    def route(self, method: str, path: str, handler: Callable[[ReceivedRequest], object]) -> None:
        """Answer `method` at `path` with what `handler` returns, as JSON; a ``ValueError`` from it is answered with 400."""
        self._routes[path] = (method, handler)

    async def wait_request(self, number: int) -> RequestRecord:
        """Wait until request `number` (from 1) has arrived, and return its record."""
        await self._recorder.wait_until(lambda: len(self.requests) >= number)
        return self.requests[number - 1]

    async def wait_ended(self, number: int) -> RequestRecord:
        """Wait until request `number` (from 1) has arrived and ended, and return its record."""
        await self._recorder.wait_until(lambda: len(self.requests) >= number and self.requests[number - 1].ended_s is not None)
        return self.requests[number - 1]

    async def wait_idle(self) -> None:
        """Wait until no request is in flight."""
        await self._recorder.wait_until(lambda: self.in_flight == 0)

    async def serve(self, port: int, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Listen and serve until cancelled; started when it listens. Port 0 lets the system choose."""
        listeners = await trio.open_tcp_listeners(port, host="127.0.0.1")
        self._port = listeners[0].socket.getsockname()[1]
        task_status.started()
        await trio.serve_listeners(self._serve_connection, listeners)

    async def _serve_connection(self, stream: trio.SocketStream) -> None:
        wire = HttpConnection(stream)
        async with stream:
            try:
                while (request := await wire.next_request()) is not None:
                    await self._serve_request(wire, request)
                    if not wire.reuse():
                        return
            except RejectedRequest as refusal:
                await self._send_error(wire, OPENAI, refusal.status, str(refusal))
                await wire.linger()
            except CLIENT_GONE:
                return

    async def _serve_request(self, wire: HttpConnection, request: ReceivedRequest) -> None:
        dialect = _DIALECTS.get(request.path)
        try:
            allowed, handler = ("POST", None) if dialect else self._routes.get(request.path, ("", None))
            if not allowed:
                await self._send_error(wire, OPENAI, 404, f"There is nothing at {request.method} {request.path}.")
            elif request.method != allowed:
                text = f"{request.path} takes {allowed}, not {request.method}."
                await self._send_error(wire, dialect or OPENAI, 405, text, {"allow": allowed})
            elif dialect is not None:
                await self._serve_chat(wire, request, dialect)
            elif handler is not None:
                await wire.send(200, _JSON, to_bytes(handler(request)))
        except ValueError as error:
            await self._send_error(wire, dialect or OPENAI, 400, str(error))
        except CLIENT_GONE:
            raise
        except Exception as error:  # noqa: BLE001 - no input may end the server; the client is told what went wrong
            await self._send_error(wire, OPENAI, 500, f"The loopback provider failed: {said(error)}")

    async def _serve_chat(self, wire: HttpConnection, http: ReceivedRequest, dialect: Dialect) -> None:
        body, request, problem = _read(http, dialect)
        model = request.model if request is not None else _named_model(body)
        stream = request is not None and request.stream
        record = self._recorder.arrive(path=http.path, model=model, stream=stream, body=body, headers=http.headers)
        plan = RequestPlan(refusal=problem) if request is None else self._script.plan(request)
        wire.on_last_bytes = partial(self._recorder.end, record)
        record.failure = None if plan.failure is None else plan.failure.kind
        try:
            await self._answer_while_connected(wire, record, plan, dialect)
        finally:
            self._recorder.end(record)

    async def _answer_while_connected(
        self, wire: HttpConnection, record: RequestRecord, plan: RequestPlan, dialect: Dialect
    ) -> None:
        """Answer, and stop immediately when the client leaves."""

        async def notice_leaving() -> None:
            await wire.wait_gone()
            record.cancelled_by_client = True
            nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(notice_leaving)
            try:
                async with self._places:
                    record.started_s = trio.current_time()
                    await trio.sleep_until(record.started_s + plan.latency_s)
                    await deliver(wire, record, plan, _reply(plan, dialect, record))
            except CLIENT_GONE:
                record.cancelled_by_client = True
            nursery.cancel_scope.cancel()

    async def _send_error(
        self, wire: HttpConnection, dialect: Dialect, status: int, message: str, headers: Mapping[str, str] | None = None
    ) -> None:
        try:
            await wire.send(status, {**_JSON, **(headers or {})}, to_bytes(dialect.error(status, message)))
        except CLIENT_GONE:
            return

    def _models(self, _request: ReceivedRequest) -> dict[str, Any]:
        models = [{"id": name, "object": "model", "created": 0, "owned_by": "loopback"} for name in self._script.models]
        return {"object": "list", "data": models}


@asynccontextmanager
async def open_loopback(
    models: Mapping[str, ScriptLike] | None = None,
    *,
    latency_s: float = 0.0,
    max_concurrent: int | None = None,
    port: int = 0,
    unused: Tolerance = "fail",
    unforeseen: Tolerance = "fail",
) -> AsyncGenerator[LoopbackProvider, None]:
    """Run a provider on 127.0.0.1 for the length of the block; leaving it closes every connection.

    Args:
        models: what each model does, by the name that requests carry; ``"*"`` stands for every other name. A bare answer (a text,
            a mapping, a function, a list) is short for ``ModelScript(answer)``. A model without a script is answered with 400.
        latency_s: seconds until the first byte, for models whose script does not say.
        max_concurrent: how many requests are served at the same time; more wait in arrival order. None: all.
        port: 0 lets the system choose a free one.
        unused: as with ``ScriptedLM``: ``"fail"``: a test that passes fails at its end when a model, or an answer or a failure of
            a list, was not asked for.
        unforeseen: ``"fail"``: so it does when a request came for which there was no answer.
    """
    script = Script(latency_s)
    enroll(FollowedScript.of(script, "the loopback provider", "open_loopback", unused, unforeseen))
    for model, each in (models or {}).items():
        script.set(model, each)
    provider = LoopbackProvider(script, max_concurrent)
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(provider.serve, port))
            try:
                yield provider
            finally:
                nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        # The block's own error travels on as it is: the server's task adds none, so a group of one is our nursery's wrapping.
        first, *others = group.exceptions
        if others:
            raise
        _raise_alone(first)


def _raise_alone(error: BaseException) -> NoReturn:
    """Raise `error` without naming what is being handled now as its context."""
    context = error.__context__
    try:
        raise error
    finally:
        error.__context__ = context


def _read(http: ReceivedRequest, dialect: Dialect) -> tuple[Any, ChatRequest | None, str | None]:
    """The parsed body, the request in it, or what is wrong with it."""
    try:
        body = json.loads(http.body)
    except (ValueError, RecursionError) as error:
        return None, None, f"The body is not JSON: {error}"
    if not isinstance(body, dict):
        return body, None, "The body must be a JSON object."
    whole = cast("dict[str, Any]", body)
    try:
        return whole, dialect.read(whole), None
    except NotAChatRequest as error:
        return whole, None, str(error)


def _named_model(body: object) -> str:
    model = cast("dict[str, object]", body).get("model") if isinstance(body, dict) else None
    return model if isinstance(model, str) else ""


def _reply(plan: RequestPlan, dialect: Dialect, record: RequestRecord) -> WireReply:
    """The response that goes with `plan`, before its failure changes the way it is delivered."""
    headers = {"x-request-id": f"req_{record.number:06d}"}
    failure, completion = plan.failure, plan.completion
    if plan.refusal is not None or completion is None:
        status = 400 if failure is None else failure.code
        text = plan.refusal or ("" if failure is None else failure.message)
        if failure is not None and failure.retry_after_s is not None:
            headers["retry-after"] = shortest_decimal(failure.retry_after_s)
        return WireReply(status, {**_JSON, **headers}, [to_bytes(dialect.error(status, text))])
    if record.stream:
        events = dialect.events(completion, record.number, record.body)
        return WireReply(
            200, {"content-type": "text/event-stream", "cache-control": "no-cache", **headers}, events, streamed=True
        )
    return WireReply(200, {**_JSON, **headers}, [to_bytes(dialect.body(completion, record.number))])
