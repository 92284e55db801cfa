"""``mcp``: the tools of an MCP server, behind an actor that owns the session. The only file that imports ``mcp`` and ``httpx2``.

The server is a process (stdio) or an address (streamable HTTP). When its connection ends, the actor crashes, and supervision
starts it again with backoff: calls in flight end with ``ToolServerLost``, calls that wait in the mailbox are made afterwards.
What the server says of its tools is foreign text: capped, and shown to models only as descriptions of tools.
"""

from __future__ import annotations

import contextlib
import functools
import json
import math
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, cast, final

import trio

from actors.actor import Actor, Reply
from actors.argument_checks import rejected
from actors.errors import ToolFailed, ToolServerLost, ToolTimedOut, UnderstudyError, UsageError
from actors.graphs.options import check_timeout
from actors.graphs.toolboxes import CallTool, CancelTool, ListTools, OfferedTool, Toolbox
from actors.groups import failure_besides, leaves_of
from actors.words import repr_of, said

MAX_DESCRIPTION: Final = 4_000
"""Characters of a description that are kept."""
MAX_TOOLS: Final = 1_000
"""Tools of one server that are looked at."""
_START_S: Final = 30.0
"""Seconds that a server has to answer the first question."""


def mcp(
    name: str,
    /,
    *,
    command: Sequence[str] | None = None,
    url: str | None = None,
    env: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
    allow: Sequence[str] = ("*",),
    approve: Sequence[str] = (),
    call_s: float | None = 60.0,
) -> Toolbox:
    """The tools of an MCP server, for ``@graph.predict(tools=[mcp("files", command=["files-server", "/srv"])])``.

    The server is started, or connected to, when the first graph that names it is deployed, and shared by all graphs that name
    the same object. It needs the extra ``mcp``.

    Args:
        name: names the server in addresses, events and errors.
        command: the program of a server that speaks over stdio, with its arguments.
        url: the address of a server that speaks streamable HTTP.
        env: what is added to the small environment that the program gets.
        headers: what is sent with each request to `url`, such as ``Authorization``.
        allow: which tools models may see: names, with ``*`` for any characters.
        approve: to which calls a person has to agree, such as ``["write_*"]``; see :func:`tool`.
        call_s: how many seconds one call may take; None: no limit.

    Raises:
        DeclarationError: neither or both of `command` and `url` are given, or an option has a wrong value.
    """
    if (command is None) is (url is None):
        given = "neither" if command is None else "both"
        raise rejected(
            "mcp", "command", command, "either command=[…] or url=…", f"{given} is given: mcp({name!r}, command=['server'])."
        )
    if command is not None and (isinstance(command, str) or not command or not all(isinstance(each, str) for each in command)):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise rejected("mcp", "command", command, "a list of texts, such as ['files-server', '/srv']")
    for option, names in (("allow", allow), ("approve", approve)):
        if isinstance(names, str):
            raise rejected("mcp", option, names, "a list of names, such as ['read_*']")
    check_timeout("mcp", "call_s", call_s)
    target = _Target(name, tuple(command or ()), url, dict(env or {}), dict(headers or {}))
    return Toolbox(name, functools.partial(McpServer, target, call_s), tuple(allow), tuple(approve))


@final
class _Target:
    """Where a server is."""

    def __init__(
        self, name: str, command: tuple[str, ...], url: str | None, env: dict[str, str], headers: dict[str, str]
    ) -> None:
        self.name = name
        self.command = command
        self.url = url
        self.env = env
        self.headers = headers

    @contextlib.asynccontextmanager
    async def transport(self, ended: trio.Event) -> AsyncGenerator[Any]:
        """The SDK's two streams; `ended` is set when the server's has come to its end."""
        if self.url is None:
            from mcp.client.stdio import StdioServerParameters, stdio_client  # noqa: PLC0415

            parameters = StdioServerParameters(command=self.command[0], args=list(self.command[1:]), env=self.env)
            async with stdio_client(parameters) as (incoming, outgoing):
                yield _Watched(incoming, ended), outgoing
            return
        import httpx2  # noqa: PLC0415
        from mcp.client.streamable_http import streamable_http_client  # noqa: PLC0415

        waits = httpx2.Timeout(_START_S, read=None)  # a call takes as long as call_s allows
        async with httpx2.AsyncClient(headers=self.headers, timeout=waits) as client:
            async with streamable_http_client(self.url, http_client=client) as (incoming, outgoing):
                yield _Watched(incoming, ended), outgoing


@final
class McpServer(Actor):
    """The session with one server; see :func:`mcp`."""

    def __init__(self, target: _Target, call_s: float | None) -> None:
        self._target = target
        self._call_s = call_s
        self._client: Any = None
        self._ended = trio.Event()
        """Set when the connection has ended."""
        self._own_names: dict[str, str] = {}
        """What models call a tool by → what the server calls it."""
        self._calls: dict[str, trio.CancelScope] = {}

    @contextlib.asynccontextmanager
    async def lifespan(self) -> AsyncGenerator[None]:
        """Connect, and crash when the connection ends."""
        client_of = await trio.to_thread.run_sync(_load)
        who = f"the MCP server {self._target.name!r}"
        limit = trio.CancelScope(deadline=trio.current_time() + _START_S)
        try:
            with limit:
                async with client_of(self._target.transport(self._ended)) as self._client:
                    limit.deadline = math.inf
                    self.context.nursery.start_soon(self._watch)
                    yield
            if limit.cancelled_caught and limit.deadline < math.inf:
                raise ToolServerLost(f"{who} did not answer within {_START_S:g} s.\n  Fix: look at what it prints.")
        except BaseException as error:
            failure = failure_besides(error, trio.Cancelled)
            if failure is None or isinstance(failure, UnderstudyError):
                raise
            if limit.deadline == math.inf:
                raise self._lost() from error
            first = next(iter(leaves_of(failure)))
            raise ToolServerLost(f"{who} cannot be reached: {said(first)}\n  Fix: check its command or address.") from error

    async def receive(self, message: ListTools | CallTool | CancelTool) -> None:
        """Begin to list the tools, or a call, whose answer comes later; or end a call."""
        match message:
            case ListTools():
                self.context.nursery.start_soon(
                    self._bounded, self._listed, "the list of tools", self.context.reply_later(), None
                )
            case CallTool():
                work = functools.partial(self._called, message)
                self.context.nursery.start_soon(self._bounded, work, message.name, self.context.reply_later(), message.key)
            case CancelTool():
                if message.key in self._calls:
                    self._calls[message.key].cancel()
            case _:
                raise UsageError(
                    f"expected ListTools or CallTool. Got: {repr_of(message)}.\n  Fix: name the toolbox in tools=[…]."
                )

    async def _watch(self) -> None:
        await self._ended.wait()
        raise self._lost()

    def _lost(self) -> ToolServerLost:
        return ToolServerLost(
            f"the MCP server {self._target.name!r} has ended, or its connection has; it is started again.\n"
            "  Fix: call again; if it happens often, look at what the server prints.",
            toolbox=self._target.name,
        )

    async def _bounded(self, work: Callable[[], Awaitable[Any]], what: str, reply: Reply[Any], key: str | None) -> None:
        """Answer with what `work` gives, in time; the actor crashes if the server was lost over it."""
        with trio.CancelScope() as scope:
            if key is not None:
                self._calls[key] = scope
            try:
                with trio.move_on_after(math.inf if self._call_s is None else self._call_s) as limit:
                    reply.send(await work())
                if limit.cancelled_caught:
                    reply.fail(ToolTimedOut(f"{what} of {self._target.name!r} did not come within call_s={self._call_s:g}."))
            except (ToolFailed, ToolServerLost) as error:
                reply.fail(error)
                if isinstance(error, ToolServerLost):
                    raise
            finally:
                if key is not None:
                    del self._calls[key]

    async def _listed(self) -> tuple[OfferedTool, ...]:
        found: list[OfferedTool] = []
        cursor: str | None = None
        while len(found) < MAX_TOOLS:
            with self._naming_losses():
                page = await self._client.list_tools(cursor=cursor)
            found += [self._offered(tool) for tool in page.tools]
            cursor = page.next_cursor
            if not cursor:
                break
        return tuple(found[:MAX_TOOLS])

    def _offered(self, tool: Any) -> OfferedTool:
        name = re.sub(r"[^A-Za-z0-9_-]", "_", tool.name)[:64] or "tool"
        self._own_names[name] = tool.name
        return OfferedTool(name, (tool.description or "")[:MAX_DESCRIPTION], cast("dict[str, Any]", tool.input_schema))

    async def _called(self, message: CallTool) -> str:
        name = self._own_names.get(message.name, message.name)
        with self._naming_losses():
            result = await self._client.call_tool(name, dict(message.arguments))
        text = _text(result)
        if result.is_error:
            raise ToolFailed(text, tool=message.name)
        return text

    @contextlib.contextmanager
    def _naming_losses(self) -> Any:
        """What the SDK raises in the block, as ours: the server is lost, or it rejects what it was asked."""
        from mcp import MCPError  # noqa: PLC0415
        from mcp_types import CONNECTION_CLOSED  # noqa: PLC0415

        try:
            yield
        except MCPError as error:
            if error.code == CONNECTION_CLOSED or self._ended.is_set():
                raise self._lost() from error
            raise ToolFailed(f"{error.message} ({error.code})") from error
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise self._lost() from error


def _load() -> Any:
    try:
        from mcp import Client  # noqa: PLC0415
    except ImportError as error:
        raise UsageError(
            "mcp(…) needs the library mcp, which is not installed.\n  Fix: pip install 'understudy[mcp]'."
        ) from error
    return Client


def _text(result: Any) -> str:
    """What a result says: its texts, other parts in brackets; what is structured, where there is no text."""
    parts = [part.text if part.type == "text" else f"[{part.type}]" for part in result.content]
    if not parts and result.structured_content is not None:
        return json.dumps(result.structured_content, ensure_ascii=False)
    return "\n".join(parts)


@final
class _Watched:
    """The stream of what the server sends, which tells when it ends."""

    def __init__(self, stream: Any, ended: trio.Event) -> None:
        self._stream = stream
        self._ended = ended

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def __aiter__(self) -> _Watched:
        return self

    async def __anext__(self) -> Any:
        try:
            return await self._stream.__anext__()
        except StopAsyncIteration:
            self._ended.set()
            raise

    async def receive(self) -> Any:
        try:
            return await self._stream.receive()
        except Exception:
            self._ended.set()
            raise

    async def __aenter__(self) -> _Watched:
        await self._stream.__aenter__()
        return self

    async def __aexit__(self, *raised: object) -> Any:
        return await self._stream.__aexit__(*raised)
