"""What every request passes before it is served, and every response on its way out.

Hosts first, then the shape of the request, then its origin, then who calls; what goes wrong is answered in the form of the route
that was asked for.
"""

from __future__ import annotations

import contextlib
import logging
import re
import secrets
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from typing import Final, final

import trio

from actors.groups import leaves_of
from actors.words import said
from runtime.core.origin import Origin, coming_from, origin_of
from runtime.embed.disconnects import ASGIApp, Message, Receive, Scope, Send
from runtime.serve.auth import Authenticator, Caller
from runtime.serve.auth import Scope as CallerScope
from runtime.serve.incoming import ClientLeft
from runtime.serve.problem_documents import HttpProblem
from runtime.serve.web import CORSMiddleware, HTTPException, Response, TrustedHostMiddleware
from runtime.traces.event_json import dumps

_LOG = logging.getLogger("understudy.serve")

LOOPBACK: Final = ("127.0.0.1", "localhost", "[::1]")
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
Reject = Callable[[HttpProblem], Response]
"""Puts a problem into the form of a route."""
REJECTS: Final = "understudy.reject"
"""Where a route's form of problems stands in the scope."""
_SHOWN: Final = (
    *("Idempotency-Replayed", "Location", "Mcp-Session-Id", "Preference-Applied", "Retry-After"),
    *("WWW-Authenticate", "X-Request-Id", "X-Run-Id"),
)
"""Headers of answers that pages may read."""
STREAM: Final = "understudy.stream"
"""Where a route puts a response that lasts and looks for its client's departure itself: it is sent from here, with nothing left
of what has found it on the stack or in a task beside it."""
_ID: Final = "understudy.request"
"""Where the id of the request stands in the scope."""
_OUTGOING: Final = "understudy.outgoing"
"""Where stands what has been sent."""
_FIRST: Final = "understudy.headers"
"""Where the headers stand by their names; of one that came more than once, the first."""
_MOST_HOSTS: Final = 1_000
"""How many hosts are known to be ours."""
_LET_IN: Final = "understudy.host"
"""Where it stands that the host is one of ours."""


def problem_response(problem: HttpProblem) -> Response:
    """A problem document."""
    return Response(dumps(problem.document()), problem.status, problem.headers, "application/problem+json")


@final
class Gate:
    """ASGI middleware around all routes of a service."""

    def __init__(self, find: Callable[[Scope], ASGIApp], hosts: Sequence[str], cors: Sequence[str]) -> None:
        self._find = find
        self._let_in: set[bytes | None] = set()
        self._hosts: ASGIApp = TrustedHostMiddleware(_let_in, allowed_hosts=[*LOOPBACK, *hosts], www_redirect=False)
        self._answering: ASGIApp = self._answer
        if cors:  # around refusals too: a page cannot read an answer without these headers, and would see none
            self._answering = CORSMiddleware(
                self._answer,
                allow_origins=list(cors),
                allow_methods=["GET", "POST", "DELETE"],
                allow_headers=["*"],  # those that are asked for: clients of other protocols have theirs
                expose_headers=_SHOWN,
            )

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Serve one connection. Not a coroutine: each one on the stack costs something whenever what is on it goes on."""
        if scope["type"] != "http":
            return _closed(scope, send)
        headers = scope[_FIRST] = dict(reversed(scope["headers"]))
        wanted = headers.get(b"x-request-id", b"").decode("latin-1")
        request_id = wanted if _REQUEST_ID.fullmatch(wanted) else secrets.token_hex(8)
        scope[_ID] = request_id
        outgoing = scope[_OUTGOING] = _Outgoing(send, request_id.encode())
        if headers.get(b"host") not in self._let_in:
            return self._answer_stranger(scope, receive, outgoing)
        if b"content-length" in headers and b"transfer-encoding" in headers:
            two = HttpProblem("bad-request", "The body has two lengths.", headers={"Connection": "close"})
            return problem_response(two)(scope, receive, outgoing)
        return self._answering(scope, receive, outgoing)

    async def _answer_stranger(self, scope: Scope, receive: Receive, send: _Outgoing) -> None:
        """Look whether the host of the request is one of ours, as is done one time for each."""
        await self._hosts(scope, heard_gone, _nowhere)
        if _LET_IN not in scope:
            await problem_response(HttpProblem("unknown-host"))(scope, receive, send)
            return
        if len(self._let_in) >= _MOST_HOSTS:  # any port may stand behind a name
            self._let_in.clear()
        self._let_in.add(scope[_FIRST].get(b"host"))
        await self(scope, receive, send.send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, also when something goes wrong."""
        try:
            handled = self._find(scope)
            origin = _origin(scope)
            if origin is None:
                await handled(scope, receive, send)
            else:
                with coming_from(origin):
                    await handled(scope, receive, send)
            stream: ASGIApp | None = scope.pop(STREAM, None)
            if stream is not None:
                await stream(scope, receive, send)
        except ClientLeft:
            return
        except Exception as error:  # noqa: BLE001 - the client gets an answer, and the log the rest
            problem = _problem_in(error)
            if problem.kind == "internal":
                what = (scope[_ID], scope["method"], scope["path"], said(error))
                _LOG.error("request %s: %s %s failed: %s", *what, exc_info=error)
            if not scope[_OUTGOING].has_begun:
                reject: Reject = scope.get(REJECTS, problem_response)
                with contextlib.suppress(OSError, trio.BrokenResourceError):
                    await reject(problem)(scope, receive, send)


@final
class _Outgoing:
    """What a response passes on its way out. Once it has begun, nothing of ours is between it and the server."""

    __slots__ = ("_request_id", "has_begun", "send")

    def __init__(self, send: Send, request_id: bytes) -> None:
        self.send = send
        self._request_id = request_id
        self.has_begun = False
        """Whether the client has been sent anything."""

    def __call__(self, message: Message) -> Awaitable[None]:
        if not self.has_begun:
            self.has_begun = True
            if message["type"] == "http.response.start":
                message = {**message, "headers": self._headers(message.get("headers", ()))}
        return self.send(message)

    def _headers(self, given: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        headers = [*given, (b"x-request-id", self._request_id), (b"x-content-type-options", b"nosniff")]
        if not any(name == b"cache-control" for name, _ in headers):
            headers.append((b"cache-control", b"no-store"))
        return headers


async def _closed(scope: Scope, send: Send) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1000})


def _origin(scope: Scope) -> Origin | None:
    """What the request comes from, as its caller's trace says."""
    headers: Mapping[bytes, bytes] = scope[_FIRST]
    parent = headers.get(b"traceparent")
    return None if parent is None else origin_of(parent.decode("latin-1"), headers.get(b"tracestate", b"").decode("latin-1"))


async def _let_in(scope: Scope, _: Receive, __: Send) -> None:
    """What stands behind the check of hosts, which answers in its own words where it lets no one in."""
    scope[_LET_IN] = True


async def heard_gone() -> Message:
    """What is heard of a client that has gone."""
    return {"type": "http.disconnect"}


async def _nowhere(_: Message) -> None:
    """Where that answer goes."""


def reject_foreign_origin(scope: Scope, cors: Collection[str]) -> None:
    """Pages of other origins may not make their readers' browsers change anything here.

    Raises:
        Problem: one tries.
    """
    if scope["method"] in ("GET", "HEAD", "OPTIONS"):
        return
    headers: Mapping[bytes, bytes] = scope[_FIRST]
    origin = headers.get(b"origin")
    if origin is not None and origin.decode("latin-1") in cors:
        return
    is_own = origin is None or origin.partition(b"://")[2].lower() == headers.get(b"host", b"").lower()
    if not is_own or headers.get(b"sec-fetch-site") in (b"cross-site", b"same-site"):
        fix = "send it from a program, or from a page whose origin the service's operator has allowed."
        raise HttpProblem("forbidden", "This origin may not send requests here.", fix=fix)


def _problem_in(error: BaseException) -> HttpProblem:
    """The problem that `error` is, or the one in a group of nothing else."""
    problems = [leaf for leaf in leaves_of(error) if isinstance(leaf, HttpProblem)]
    if problems:
        return problems[0]
    if isinstance(error, HTTPException):
        kinds = {404: "not-found", 405: "method-not-allowed", 400: "bad-request", 413: "body-too-large"}
        return HttpProblem(kinds.get(error.status_code, "bad-request"), headers=error.headers)
    return HttpProblem("internal")


async def caller_of(scope: Scope, authenticator: Authenticator, wanted: CallerScope) -> Caller:
    """Who has sent the request.

    Raises:
        Problem: no one who is known, or who may do this.
    """
    caller = await authenticator(scope)
    if caller is None:
        raise HttpProblem("unauthenticated", headers={"WWW-Authenticate": 'Bearer realm="understudy"'})
    implied = wanted == "run" and scope["method"] in ("GET", "HEAD") and caller.sees_all
    operates = wanted == "run" and caller.operates
    if wanted not in caller.scopes and not implied and not operates:
        raise HttpProblem("forbidden", f"The scope {wanted!r} is missing.", headers={"WWW-Authenticate": _missing(wanted)})
    return caller


def _missing(wanted: str) -> str:
    return f'Bearer realm="understudy", error="insufficient_scope", scope="{wanted}"'
