"""The example graph behind Starlette, for hypercorn's trio worker: the runtime is the native one."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import trio
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route

from runtime import Runtime
from runtime.embed.asgi import CancelOnDisconnect, runtime_of
from tests.runtime.embed.apps.service import EXAMPLE, Pause, Review, census, cypher, intent, lifespan, pauses, ratings


async def query(request: Request) -> JSONResponse:
    runtime: Runtime = runtime_of(request)
    return JSONResponse(cypher(await runtime.run(EXAMPLE, intent(await request.json()))))


async def rate(request: Request) -> JSONResponse:
    runtime: Runtime = runtime_of(request)
    return JSONResponse({"stars": (await runtime.run(ratings, Review((await request.json())["text"]))).stars})


async def query_events(request: Request) -> StreamingResponse:
    runtime: Runtime = runtime_of(request)
    body = await request.json()

    async def lines() -> AsyncGenerator[str]:
        async with runtime.stream(EXAMPLE, intent(body)) as events:
            async for event in events:
                yield f"event: {type(event).__name__}\ndata: {{}}\n\n"

    return StreamingResponse(lines(), media_type="text/event-stream")


async def pause(request: Request) -> JSONResponse:
    runtime: Runtime = runtime_of(request)
    return JSONResponse({"paused": (await runtime.run(pauses, Pause(request.path_params["seconds"]))).seconds})


async def count(request: Request) -> JSONResponse:
    runtime: Runtime = runtime_of(request)
    mailboxes = sum(actor.mailbox.depth for actor in runtime.statistics().actors.values())
    tasks = trio.lowlevel.current_statistics().tasks_living
    return JSONResponse({**census(), "tasks": tasks, "queued": mailboxes, "loop": "trio"})


app = Starlette(
    routes=[
        Route("/queries", query, methods=["POST"]),
        Route("/ratings", rate, methods=["POST"]),
        Route("/queries/events", query_events, methods=["POST"]),
        Route("/pauses/{seconds:float}", pause),
        Route("/census", count),
    ],
    middleware=[Middleware(CancelOnDisconnect)],
    lifespan=lifespan(),
)
