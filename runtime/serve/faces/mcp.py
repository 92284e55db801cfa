"""Graphs as tools of the Model Context Protocol, over streamable HTTP at ``/mcp``, behind the service's own door."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, final

from actors.argument_checks import rejected
from actors.errors import UsageError
from actors.graphs.graph import Graph
from runtime.serve.auth import Caller
from runtime.serve.faces.following import words_of
from runtime.serve.faces.mcp_tools import tools_of
from runtime.serve.live import Live
from runtime.serve.problem_documents import HttpProblem
from runtime.serve.requests import json_body
from runtime.serve.routes import Answer, Endpoint, Handler, as_json
from runtime.serve.web import Request

if TYPE_CHECKING:
    from runtime.serve.faces.mcp_server import Transport

PATH: Final = "/mcp"
_CODES: Final[Mapping[str, int]] = {"malformed-json": -32700, "input-invalid": -32602, "internal": -32603}
_LEAST_KEY: Final = 32


@final
class MCPFace:
    """Serves graphs to MCP clients: ``Service([graph], faces=[MCPFace()])``. Needs the extra ``mcp``.

    A graph is a tool; one that takes several types is a tool for each. Both eras of the protocol are spoken, with sessions and
    without. Questions to people go to the client's user, if the client can ask.

    Args:
        keys: what seals the state that clients send back, of at least 32 bytes each; the first one seals, and all open. Without
            any, one is made for the life of the process.
        session_idle_s: after how many seconds without a request a session ends.

    Raises:
        DeclarationError: a key is too short, or `session_idle_s` isn't a time. UsageError: the library ``mcp`` isn't installed.
    """

    def __init__(self, *, keys: Sequence[bytes] = (), session_idle_s: float = 1_800.0) -> None:
        if importlib.util.find_spec("mcp") is None:
            raise UsageError("MCPFace() needs the library mcp, which isn't installed.\n  Fix: pip install 'understudy[mcp]'.")
        given: Any = keys
        if isinstance(given, bytes | str) or not all(isinstance(key, bytes) and len(key) >= _LEAST_KEY for key in given):
            raise rejected(MCPFace, "keys", "…", f"a list of bytes, of at least {_LEAST_KEY} each")
        if isinstance(session_idle_s, bool) or not 0 < session_idle_s < float("inf"):
            raise rejected(MCPFace, "session_idle_s", session_idle_s, "a number of seconds > 0")
        self._keys = tuple(keys)
        self._session_idle_s = session_idle_s
        self._transports: dict[Live, Transport] = {}

    def check(self, graphs: Sequence[Graph[Any, Any]]) -> None:
        """See ``Face``."""
        tools_of(graphs)

    def endpoints(self) -> Sequence[Endpoint]:
        """See ``Face``."""
        return (
            _endpoint("POST", self._send_mcp, "Send a message of the Model Context Protocol"),
            _endpoint("GET", self._listen_mcp, "Listen to a session of the Model Context Protocol"),
            _endpoint("DELETE", self._end_mcp, "End a session of the Model Context Protocol"),
        )

    @contextlib.asynccontextmanager
    async def running(self, live: Live) -> AsyncGenerator[None]:
        """See ``Face``."""
        from runtime.serve.faces.mcp_server import GraphServer  # noqa: PLC0415 - it takes a second, and an extra brings it

        async with GraphServer(live, self._keys).over_http(self._session_idle_s) as self._transports[live]:
            try:
                yield
            finally:
                del self._transports[live]

    def reject(self, problem: HttpProblem) -> Answer:
        """See ``Face``."""
        error = {"code": _CODES.get(problem.kind, -32600 if problem.status < 500 else -32000), "message": words_of(problem)}
        told = {"jsonrpc": "2.0", "id": None, "error": {**error, "data": problem.document()}}
        return as_json(told, problem.status, problem.headers)

    async def _send_mcp(self, live: Live, caller: Caller, request: Request) -> Answer:
        _, body = await json_body(request, live.limits)  # more strictly than the library reads it
        return self._answer(live, caller, body)

    async def _listen_mcp(self, live: Live, caller: Caller, _: Request) -> Answer:
        return self._answer(live, caller, None)

    async def _end_mcp(self, live: Live, caller: Caller, _: Request) -> Answer:
        return self._answer(live, caller, None)

    def _answer(self, live: Live, caller: Caller, body: bytes | None) -> Answer:
        transport = self._transports[live]

        async def answer(scope: Any, receive: Any, send: Any) -> None:
            left = [body] if body is not None else []

            async def receive_again() -> Any:
                return {"type": "http.request", "body": left.pop(), "more_body": False} if left else await receive()

            await transport.serve(caller, scope, receive_again, send)

        return answer


def _endpoint(method: str, handler: Handler, summary: str) -> Endpoint:
    return Endpoint(method, PATH, "run", handler, summary, has_own_errors=True, is_described=False)
