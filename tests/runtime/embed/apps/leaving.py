"""Handlers that never read their request's body, for any ASGI server: what is under way says when it began and ended."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncGenerator
from typing import Any

import attrs
import trio
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Mount, Route

from actors import Graph
from runtime.embed.asgi import CancelOnDisconnect, runtime_of, understudy_lifespan


@attrs.frozen
class Wait:
    seconds: float


@attrs.frozen
class Waited:
    seconds: float


began: list[float] = []
ended: list[float] = []
"""When nodes began and ended, in seconds of a clock that all processes of this machine share."""

waits = Graph("waits", input=Wait, output=Waited)


@waits.node
async def wait(order: Wait) -> Waited:
    began.append(time.monotonic())
    try:
        await trio.sleep(order.seconds)
    finally:
        ended.append(time.monotonic())
    return Waited(order.seconds)


async def waiting(request: Request) -> JSONResponse:
    output = await runtime_of(request).run(waits, Wait(20))
    return JSONResponse({"waited": output.seconds})


async def streaming(request: Request) -> StreamingResponse:
    runtime: Any = runtime_of(request)

    async def lines() -> AsyncGenerator[str]:
        async with runtime.stream(waits, Wait(20)) as events:
            async for event in events:
                yield f"event: {type(event).__name__}\n\n"

    return StreamingResponse(lines(), media_type="text/event-stream")


async def watching(request: Request) -> StreamingResponse:
    """The events of the runtime, which do not end by themselves."""
    runtime: Any = runtime_of(request)

    async def lines() -> AsyncGenerator[str]:
        async with runtime.events() as events:
            yield "event: Hello\n\n"
            async for event in events:
                yield f"event: {type(event).__name__}\n\n"

    return StreamingResponse(lines(), media_type="text/event-stream")


async def leaving_behind(request: Request) -> JSONResponse:
    """A run that no response waits for, and a response that takes the given time."""
    await runtime_of(request).start(waits, Wait(20))
    await asyncio.sleep(float(request.path_params["seconds"]))
    return JSONResponse({})


async def log(request: Request) -> JSONResponse:
    return JSONResponse({"began": began, "ended": ended})


ROUTES = [
    Route("/wait", waiting, methods=["GET", "POST"]),
    Route("/stream", streaming, methods=["GET", "POST"]),
    Route("/watch", watching),
    Route("/behind/{seconds}", leaving_behind),
    Route("/log", log),
]
app = Starlette(
    routes=[*ROUTES, Mount("/inner", Starlette(routes=[Mount("/inmost", Starlette(routes=ROUTES))]))],
    middleware=[Middleware(CancelOnDisconnect)],
    lifespan=understudy_lifespan().with_grace(float(os.environ.get("GRACE_S", "10"))),
)
