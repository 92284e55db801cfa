"""A gateway as teams run one: LiteLLM's router behind ``POST /v1/chat/completions``, with scripted answers; prints its port.

The whole proxy of LiteLLM pins other releases of rich and gunicorn than this project's tests do. Its router makes the same
answers: tool calls and texts in LiteLLM's own types, which are sent as they are.
"""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Iterator
from typing import Any

import litellm
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

ROUTER = litellm.Router(  # pyright: ignore[reportPrivateImportUsage]
    model_list=[{"model_name": "scripted", "litellm_params": {"model": "openai/scripted", "api_key": "none"}}], num_retries=0
)


def application(script: Iterator[dict[str, Any]]) -> Starlette:
    """Answers one call after the other with the next of `script`, and checks what it is asked as a gateway does."""

    async def complete(request: Request) -> Response:
        asked = json.loads(await request.body())
        given = next(script)
        calls = [
            {"id": f"call_{at}", "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}
            for at, (name, arguments) in enumerate(given.get("calls", {}).items())
        ]
        mocked: dict[str, Any] = {"mock_response": given.get("text", ""), **({"mock_tool_calls": calls} if calls else {})}
        made = await ROUTER.acompletion(
            model=asked["model"], messages=asked["messages"], tools=asked.get("tools"), stream=False, **mocked
        )
        return JSONResponse(made.model_dump(mode="json"))

    return Starlette(routes=[Route("/v1/chat/completions", complete, methods=["POST"])])


def main() -> None:
    """Serve the script that is the first argument, a JSON list."""
    listener = socket.create_server(("127.0.0.1", 0))
    sys.stdout.write(f"{listener.getsockname()[1]}\n")
    sys.stdout.flush()
    server = uvicorn.Server(uvicorn.Config(application(iter(json.loads(sys.argv[1]))), log_level="warning"))
    server.run(sockets=[listener])


if __name__ == "__main__":
    main()
