"""What every request passes before it is served, and every response on its way out.

Hosts first, then the origin, then who calls; anything that goes wrong is answered in the form of the route that was asked for.
"""

from __future__ import annotations

import contextlib
import logging
import re
import secrets
from collections.abc import Callable, Collection, Sequence
from typing import Final, final

import trio

from actors.groups import leaves_of
from actors.words import said
from runtime.embed.disconnects import ASGIApp, CancelOnDisconnect, Message, Receive, Scope, Send
from runtime.recording.wire import dumps
from runtime.serve.auth import EVERYBODY, Authenticator, Caller
from runtime.serve.auth import Scope as CallerScope
from runtime.serve.limits import Limits, limited
from runtime.serve.problems import Problem
from runtime.serve.web import CORSMiddleware, Headers, HTTPException, Response, TrustedHostMiddleware

_LOG = logging.getLogger("understudy.serve")

LOOPBACK: Final = ("127.0.0.1", "localhost", "[::1]")
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
Refuse = Callable[[Problem], Response]
"""Puts a problem into the form of a route."""
REFUSES: Final = "understudy.refuse"
"""Where a route's form of problems stands in the scope."""
_LET_IN: Final = "understudy.host"
"""Where it stands that the host is one of ours."""


def problem_response(problem: Problem) -> Response:
    """A problem document."""
    return Response(dumps(problem.document()), problem.status, problem.headers, "application/problem+json")


@final
class Gate:
    """ASGI middleware around all routes of a service."""

    def __init__(self, app: ASGIApp, limits: Limits, hosts: Sequence[str], cors: Sequence[str]) -> None:
        self._limits = limits
        inner: ASGIApp = self._limit
        self._app = app
        if cors:
            inner = CORSMiddleware(
                inner,
                allow_origins=list(cors),
                allow_methods=["GET", "POST"],
                allow_headers=["Authorization", "Content-Type", "Prefer", "Last-Event-ID", "Idempotency-Key"],
                expose_headers=["Location", "X-Run-Id", "X-Request-Id", "Retry-After"],
            )
        allowed = [*LOOPBACK, *hosts]
        self._hosts: ASGIApp = TrustedHostMiddleware(_let_in, allowed_hosts=allowed, www_redirect=False)
        self._inner: ASGIApp = CancelOnDisconnect(inner)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1000})
            return
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
        own = ((b"x-request-id", request_id.encode()), (b"x-content-type-options", b"nosniff"))
        has_begun = False

        async def send_with_headers(message: Message) -> None:
            nonlocal has_begun
            if message["type"] == "http.response.start":
                has_begun = True
                headers = list(message.get("headers", ()))
                names = {name for name, _ in headers}
                more = () if b"cache-control" in names else ((b"cache-control", b"no-store"),)
                message = {**message, "headers": [*headers, *own, *more]}
            await send(message)

        try:
            await self._hosts(scope, receive, _nowhere)
            if not scope.get(_LET_IN):
                raise Problem("unknown-host")
            await self._inner(scope, receive, send_with_headers)
        except Exception as error:  # noqa: BLE001 - in any case the client gets an answer, and the log the rest
            problem = _problem_in(error)
            if problem.kind == "internal":
                _LOG.error(
                    "request %s: %s %s failed: %s", request_id, scope["method"], scope["path"], said(error), exc_info=error
                )
            if not has_begun:
                refuse: Refuse = scope.get(REFUSES, problem_response)
                with contextlib.suppress(OSError, trio.BrokenResourceError):
                    await refuse(problem)(scope, receive, send_with_headers)

    async def _limit(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, limited(scope, receive, self._limits), send)


async def _let_in(scope: Scope, _: Receive, __: Send) -> None:
    """What stands behind the check of hosts, which answers in its own words where it lets no one in."""
    scope[_LET_IN] = True


async def _nowhere(_: Message) -> None:
    """Where that answer goes."""


def refuse_foreign_origin(scope: Scope, cors: Collection[str]) -> None:
    """Pages of other origins may not make their readers' browsers change anything here.

    Raises:
        Problem: one tries.
    """
    if scope["method"] in ("GET", "HEAD", "OPTIONS"):
        return
    headers = Headers(scope=scope)
    origin = headers.get("origin")
    if origin is not None and origin in cors:
        return
    is_own = origin is None or origin.partition("://")[2].lower() == headers.get("host", "").lower()
    if not is_own or headers.get("sec-fetch-site", "none") in ("cross-site", "same-site"):
        raise Problem("forbidden", "This origin may not send requests here.")


def _problem_in(error: BaseException) -> Problem:
    """The problem that `error` is, or the one in a group of nothing else."""
    problems = [leaf for leaf in leaves_of(error) if isinstance(leaf, Problem)]
    if problems:
        return problems[0]
    if isinstance(error, HTTPException):
        kinds = {404: "not-found", 405: "method-not-allowed", 400: "bad-request", 413: "body-too-large"}
        return Problem(kinds.get(error.status_code, "bad-request"), headers=error.headers)
    return Problem("internal")


async def caller_of(
    scope: Scope, authenticator: Authenticator | None, wanted: CallerScope | None, anybody: Caller = EVERYBODY
) -> Caller:
    """Who has sent the request.

    Raises:
        Problem: no one who is known, or who may do this.
    """
    if wanted is None or authenticator is None:
        return anybody
    caller = await authenticator(scope)
    if caller is None:
        raise Problem("unauthenticated", headers={"WWW-Authenticate": 'Bearer realm="understudy"'})
    implied = wanted == "run" and scope["method"] in ("GET", "HEAD") and caller.sees_all
    operates = wanted == "run" and caller.operates
    if wanted not in caller.scopes and not implied and not operates:
        raise Problem("forbidden", f"The scope {wanted!r} is missing.", headers={"WWW-Authenticate": _missing(wanted)})
    return caller


def _missing(wanted: str) -> str:
    return f'Bearer realm="understudy", error="insufficient_scope", scope="{wanted}"'
