"""A network in memory: an httpx transport whose hosts answer, stall, break and vanish as scripted, on the virtual clock.

httpx's own timeouts (connect, write, read, pool) hold here as they do over TCP, so the code above is tested with its real
limits. It is given to ``open_transport(connect=network.transport)`` or to ``httpx.AsyncClient(transport=network.transport())``.
"""

from __future__ import annotations

import contextlib
import functools
import json
import math
import random
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Mapping, Sequence
from typing import Any, Self, final

import attrs
import httpx
import trio

from actors.argument_checks import is_count, is_number
from runtime.lm.client import LMClient
from runtime.lm.http.transport import open_transport
from runtime.testing.models.answers import shortest_decimal
from runtime.testing.models.checked_scripts import Tolerance, enroll
from runtime.testing.models.planned_replies import GARBAGE, WireReply, cut_json
from runtime.testing.models.provider_script import Failure, FollowedScript, Script, ScriptLike
from runtime.testing.models.wire_forms import ANTHROPIC, OPENAI, Dialect, NotAChatRequest, to_bytes

DIALECTS: Mapping[str, Dialect] = {"/chat/completions": OPENAI, "/messages": ANTHROPIC}


@final
@attrs.frozen
class Exchange:
    """What one request meets. Made by the class methods; :meth:`slowly` and :meth:`cut` bend a reply."""

    status: int = attrs.field(default=200, validator=is_count(least=100))
    headers: Mapping[str, str] = attrs.field(factory=dict[str, str])
    body: bytes = attrs.field(default=b"", repr=False)
    failure: str | None = None
    """What keeps it from a reply: ``"dns"``, ``"tls"``, ``"refused"``; None: nothing."""
    connect_s: float = attrs.field(default=0.0, validator=is_number(least=0))
    """Seconds until the connection stands."""
    write_s: float = attrs.field(default=0.0, validator=is_number(least=0))
    """Seconds until the host has taken the request's body."""
    latency_s: float = attrs.field(default=0.0, validator=is_number(least=0))
    """Seconds from the request to the headers; ``math.inf``: forever."""
    piece_bytes: int | None = attrs.field(default=None, validator=attrs.validators.optional(is_count(least=1)))
    """Bytes per read; None: all at the same time."""
    pieces: tuple[bytes, ...] = attrs.field(default=(), repr=False)
    """The body read by read, when bytes are not counted: the events of a stream."""
    interval_s: float = attrs.field(default=0.0, validator=is_number(least=0))
    """Seconds before each read after the first."""
    reset_after_bytes: int | None = None
    """The connection breaks after so many bytes of the body; -1: before the headers."""

    @classmethod
    def reply(
        cls, body: object = b"", *, status: int = 200, latency_s: float = 0.0, headers: Mapping[str, str] | None = None
    ) -> Self:
        """A reply: `body` is bytes, a text, or anything with a JSON form."""
        given = dict(headers or {})
        if not isinstance(body, bytes | str):
            given.setdefault("content-type", "application/json")
        return cls(status, given, _bytes_of(body), latency_s=latency_s)

    @classmethod
    def stream(cls, *events: bytes, interval_s: float = 0.0, latency_s: float = 0.0) -> Self:
        """A streamed reply, event by event. Nothing is added: a last event such as ``data: [DONE]`` is one of them."""
        return cls(headers={"content-type": "text/event-stream"}, pieces=events, interval_s=interval_s, latency_s=latency_s)

    @classmethod
    def dns_failure(cls) -> Self:
        """The host's name has no address."""
        return cls(failure="dns")

    @classmethod
    def tls_failure(cls) -> Self:
        """The host's certificate is not accepted."""
        return cls(failure="tls")

    @classmethod
    def refused(cls) -> Self:
        """No server listens there."""
        return cls(failure="refused")

    @classmethod
    def never(cls) -> Self:
        """The request is taken and never answered."""
        return cls(latency_s=math.inf)

    @classmethod
    def too_many(cls, retry_after_s: float | None = None) -> Self:
        """429, in OpenAI's form."""
        headers = {} if retry_after_s is None else {"retry-after": shortest_decimal(retry_after_s)}
        return cls.reply(OPENAI.error(429, "Slow down."), status=429, headers=headers)

    @classmethod
    def broken(cls, status: int = 503) -> Self:
        """An error status, in OpenAI's form."""
        return cls.reply(OPENAI.error(status, f"Scripted failure {status}."), status=status)

    def slowly(self, piece_bytes: int = 1, interval_s: float = 1.0) -> Self:
        """The same in pieces with a pause before each but the first: slow-loris."""
        return attrs.evolve(self._whole(), piece_bytes=piece_bytes, interval_s=interval_s)

    def cut(self, after_bytes: int = -1) -> Self:
        """The same until the connection is reset after so many bytes of the body; -1: before the headers."""
        return attrs.evolve(self._whole(), reset_after_bytes=after_bytes)

    def _whole(self) -> Self:
        return attrs.evolve(self, body=b"".join(self.pieces), pieces=()) if self.pieces else self


Handler = Callable[[httpx.Request], Exchange]


@final
@attrs.define(eq=False)
class Sent:
    """One request that reached the network."""

    method: str
    url: str
    headers: Mapping[str, str] = attrs.field(repr=False)
    body: bytes = attrs.field(repr=False)
    at_s: float
    """When, on trio's clock."""
    cancelled: bool = False
    """Whether the client left before the end."""


@final
class VirtualNetwork:
    """Hosts by name. A script is an :class:`Exchange` for each request, a list of them that is used up, or a function."""

    def __init__(self, hosts: Mapping[str, Exchange | Sequence[Exchange] | Handler] | None = None) -> None:
        self._hosts: dict[str, Handler] = {}
        self.requests: list[Sent] = []
        """All that arrived, in order."""
        for host, script in (hosts or {}).items():
            self.host(host, script)

    def host(self, name: str, script: Exchange | Sequence[Exchange] | Handler) -> None:
        """Let `name` answer by `script`; ``"*"`` is every host without one. A host without a script has no address."""
        self._hosts[name] = _handler_of(name, script)

    def provider(
        self,
        name: str,
        models: Mapping[str, ScriptLike],
        *,
        latency_s: float = 0.0,
        unused: Tolerance = "fail",
        unforeseen: Tolerance = "fail",
    ) -> None:
        """Let `name` be a language-model provider that speaks OpenAI's and Anthropic's forms, scripted like ``open_loopback``."""
        script = Script(latency_s)
        enroll(FollowedScript.of(script, f"the provider {name!r}", "network.provider", unused, unforeseen))
        for model, each in models.items():
            script.set(model, each)
        self._hosts[name] = _Provider(script)

    def transport(self, max_connections: float = math.inf) -> httpx.AsyncBaseTransport:
        """An httpx transport onto this network, with a pool of so many connections."""
        return _Transport(self, max_connections)

    @contextlib.asynccontextmanager
    async def client(self, model: str, *, seed: int = 0, **options: Any) -> AsyncGenerator[LMClient]:
        """An ``LMClient`` whose bytes travel here, with its translation, limits and retries; give it to ``open_runtime(lm=…)``.

        `seed` decides its jitter; `options` are those of ``LMClient``, with an ``api_key`` made up.
        """
        given: dict[str, Any] = {"api_key": "sk-virtual", **options}
        client = LMClient(model, **given)
        async with open_transport(connect=self.transport) as transport:
            client.bind(transport, random.Random(f"virtual network {seed}"))
            try:
                yield client
            finally:
                client.unbind()

    async def exchange(self, request: httpx.Request) -> httpx.Response:
        """Carry one request; see the module's docstring."""
        handler = self._hosts.get(request.url.host) or self._hosts.get("*")
        waits: Mapping[str, float | None] = request.extensions.get("timeout") or {}
        sent = Sent(request.method, str(request.url), dict(request.headers), await request.aread(), trio.current_time())
        self.requests.append(sent)
        plan = handler(request) if handler is not None else Exchange.dns_failure()
        with _noticing(sent):
            with _bounded(waits.get("connect"), httpx.ConnectTimeout, request):
                await trio.sleep(plan.connect_s)
            if plan.failure is not None:
                raise httpx.ConnectError(_FAILURES[plan.failure].format(host=request.url.host), request=request)
            with _bounded(waits.get("write"), httpx.WriteTimeout, request):
                await trio.sleep(plan.write_s)
            with _bounded(waits.get("read"), httpx.ReadTimeout, request):
                await trio.sleep(plan.latency_s)
            if plan.reset_after_bytes == -1:
                raise httpx.ReadError("[Errno 104] Connection reset by peer", request=request)
        return httpx.Response(plan.status, headers=dict(plan.headers), stream=_Body(plan, request, sent), request=request)


_FAILURES = {
    "dns": "[Errno -2] Name or service not known",
    "tls": "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: Hostname mismatch, certificate is not valid for '{host}'",
    "refused": "[Errno 111] Connection refused",
}


@final
class _Transport(httpx.AsyncBaseTransport):
    def __init__(self, network: VirtualNetwork, max_connections: float) -> None:
        self._network = network
        self._pool = trio.CapacityLimiter(max_connections)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await trio.lowlevel.checkpoint()
        waits: Mapping[str, float | None] = request.extensions.get("timeout") or {}
        borrower = object()
        with _bounded(waits.get("pool"), httpx.PoolTimeout, request):
            await self._pool.acquire_on_behalf_of(borrower)
        try:
            response = await self._network.exchange(request)
        except BaseException:
            self._pool.release_on_behalf_of(borrower)
            raise
        body = response.stream
        assert isinstance(body, _Body), "exchange() made it"
        body.on_closed = functools.partial(self._pool.release_on_behalf_of, borrower)
        return response


@final
class _Body(httpx.AsyncByteStream):
    """A reply's body as it comes over the wire."""

    def __init__(self, plan: Exchange, request: httpx.Request, sent: Sent) -> None:
        self._plan = plan
        self._request = request
        self._sent = sent
        self._finished = False
        self.on_closed: Callable[[], object] | None = None
        """Called once, when the connection is free again."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        plan, request = self._plan, self._request
        waits: Mapping[str, float | None] = request.extensions.get("timeout") or {}
        for number, piece in enumerate(_pieces_of(plan)):
            with _noticing(self._sent), _bounded(waits.get("read"), httpx.ReadTimeout, request):
                await trio.sleep(plan.interval_s if number else 0)
            yield piece
        if plan.reset_after_bytes is not None:
            raise httpx.ReadError("[Errno 104] Connection reset by peer", request=request)
        self._finished = True

    async def aclose(self) -> None:
        if not self._finished and self._plan.reset_after_bytes is None:
            self._sent.cancelled = True
        on_closed, self.on_closed = self.on_closed, None
        if on_closed is not None:
            on_closed()


def _pieces_of(plan: Exchange) -> Sequence[bytes]:
    if plan.pieces:
        return plan.pieces
    step = plan.piece_bytes or len(plan.body) or 1
    end = len(plan.body) if plan.reset_after_bytes is None else min(plan.reset_after_bytes, len(plan.body))
    return [plan.body[at : min(at + step, end)] for at in range(0, end, step)]


@final
class _Provider:
    """Answers chat requests from a script."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._number = 0

    def __call__(self, request: httpx.Request) -> Exchange:
        self._number += 1
        dialect = next((each for path, each in DIALECTS.items() if request.url.path.endswith(path)), None)
        if dialect is None:
            return Exchange.reply(OPENAI.error(404, f"There is nothing at {request.url.path}."), status=404)
        try:
            chat = dialect.read(json.loads(request.content))
        except (ValueError, NotAChatRequest) as error:
            return Exchange.reply(dialect.error(400, str(error)), status=400)
        plan = self._script.plan(chat)
        if plan.refusal is not None:
            return Exchange.reply(dialect.error(400, plan.refusal), status=400)
        if plan.completion is None:
            reply = Exchange(latency_s=plan.latency_s)
        elif chat.stream:
            reply = Exchange.stream(*dialect.events(plan.completion, self._number, chat.body), interval_s=plan.interval_s)
        else:
            reply = Exchange.reply(dialect.body(plan.completion, self._number))
        reply = attrs.evolve(reply, latency_s=plan.latency_s)
        return reply if plan.failure is None else _failing(reply, plan.failure, dialect)


def _failing(reply: Exchange, failure: Failure, dialect: Dialect) -> Exchange:
    """`reply` as `failure` bends it; the same as the loopback provider does over a socket."""
    match failure.kind:
        case "status":
            headers = {} if failure.retry_after_s is None else {"retry-after": shortest_decimal(failure.retry_after_s)}
            body = dialect.error(failure.code, failure.message)
            return Exchange.reply(body, status=failure.code, headers=headers, latency_s=reply.latency_s)
        case "garbage":
            return Exchange.reply(GARBAGE, headers={"content-type": "text/html"}, latency_s=reply.latency_s)
        case "truncated_json":
            whole = WireReply(reply.status, reply.headers, list(reply.pieces or (reply.body,)), streamed=bool(reply.pieces))
            cut = cut_json(whole)
            return attrs.evolve(reply, body=b"" if reply.pieces else cut[0], pieces=tuple(cut) if reply.pieces else ())
        case "disconnect_mid_body":
            return reply.cut(sum(map(len, reply.pieces or (reply.body,))) // 2)
        case "slow_headers":
            return reply
        case "slow_body":
            return reply.slowly(failure.piece_bytes, failure.interval_s)
        case _:
            return reply.cut()


@contextlib.contextmanager
def _bounded(limit_s: float | None, kind: type[httpx.TimeoutException], request: httpx.Request) -> Generator[None]:
    """Raise httpx's own timeout when the block takes longer than `limit_s`."""
    with trio.move_on_after(math.inf if limit_s is None else limit_s) as scope:
        yield
    if scope.cancelled_caught:
        raise kind("", request=request)


@contextlib.contextmanager
def _noticing(sent: Sent) -> Generator[None]:
    try:
        yield
    except trio.Cancelled:
        sent.cancelled = True
        raise


def _handler_of(name: str, script: Exchange | Sequence[Exchange] | Handler) -> Handler:
    if isinstance(script, Exchange):
        return lambda request: script
    if callable(script):
        return script
    left = iter(script)

    def next_one(request: httpx.Request) -> Exchange:
        exchange = next(left, None)
        if exchange is None:
            raise AssertionError(f"{name!r} got one request more than it has scripted exchanges: {request.method} {request.url}.")
        return exchange

    return next_one


def _bytes_of(body: object) -> bytes:
    if isinstance(body, bytes):
        return body
    return body.encode() if isinstance(body, str) else to_bytes(body)
