"""A server of tools for tests, made of the SDK's low-level Server: over stdio, or over streamable HTTP with a port."""

from __future__ import annotations

import os
import sys
from typing import Any

import anyio
import mcp_types as types
import trio
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server

TEXT = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
NOTHING: dict[str, Any] = {"type": "object", "properties": {}}
TOOLS = [
    types.Tool(name="echo", description="Say it again.", input_schema=TEXT),
    types.Tool(name="pid", description="The number of the process.", input_schema=NOTHING),
    types.Tool(name="wait", description="Never answers.", input_schema=NOTHING),
    types.Tool(name="refuse", description="Fails.", input_schema=NOTHING),
    types.Tool(name="files.read", description="A name that providers do not take." + "!" * 10_000, input_schema=NOTHING),
    types.Tool(name="add_tool", description="Offers one more tool.", input_schema=NOTHING),
]


async def list_tools(context: Any, params: Any) -> Any:
    return types.ListToolsResult(tools=list(TOOLS))


async def call_tool(context: Any, params: Any) -> Any:
    arguments = params.arguments or {}
    match params.name:
        case "echo":
            return said(arguments["text"])
        case "pid":
            return said(str(os.getpid()))
        case "wait":
            await anyio.sleep_forever()
        case "refuse":
            return said("the disk is full", is_error=True)
        case "add_tool":
            TOOLS.append(types.Tool(name="late", description="Came later.", input_schema=NOTHING))
            return said("added")
    return said(f"called {params.name}")


def said(text: str, *, is_error: bool = False) -> Any:
    return types.CallToolResult(content=[types.TextContent(type="text", text=text)], is_error=is_error)


server: Any = Server("tests", on_list_tools=list_tools, on_call_tool=call_tool)


async def main() -> None:
    async with stdio_server() as (incoming, outgoing):
        await server.run(incoming, outgoing, server.create_initialization_options())


def serve_http(port: int) -> None:
    import uvicorn
    from mcp.server.streamable_http_manager import StreamableHTTPASGIApp, StreamableHTTPSessionManager
    from starlette.applications import Starlette
    from starlette.routing import Route

    manager = StreamableHTTPSessionManager(server)
    app = Starlette(routes=[Route("/mcp", StreamableHTTPASGIApp(manager))], lifespan=lambda app: manager.run())
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="error")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        serve_http(int(sys.argv[1]))
    else:
        trio.run(main)
