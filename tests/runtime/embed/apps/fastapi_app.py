"""The example graph behind FastAPI, for uvicorn on either loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Annotated

from fastapi import Depends, FastAPI
from fastapi.responses import StreamingResponse

from runtime.embed.asgi import CancelOnDisconnect, runtime_dependency
from runtime.embed.asyncio import AsyncioRuntime
from tests.runtime.embed.apps.service import EXAMPLE, Pause, Review, census, cypher, intent, lifespan, pauses, ratings

app = FastAPI(lifespan=lifespan())
app.add_middleware(CancelOnDisconnect)

CurrentRuntime = Annotated[AsyncioRuntime, Depends(runtime_dependency)]


@app.post("/queries")
async def query(body: dict[str, str], runtime: CurrentRuntime) -> dict[str, str]:
    return cypher(await runtime.run(EXAMPLE, intent(body)))


@app.post("/ratings")
async def rate(body: dict[str, str], runtime: CurrentRuntime) -> dict[str, int]:
    return {"stars": (await runtime.run(ratings, Review(body["text"]))).stars}


@app.post("/queries/events")
async def query_events(body: dict[str, str], runtime: CurrentRuntime) -> StreamingResponse:
    async def lines() -> AsyncGenerator[str]:
        async with runtime.stream(EXAMPLE, intent(body)) as events:
            async for event in events:
                yield f"event: {type(event).__name__}\ndata: {{}}\n\n"

    return StreamingResponse(lines(), media_type="text/event-stream")


@app.get("/pauses/{seconds}")
async def pause(seconds: float, runtime: CurrentRuntime) -> dict[str, float]:
    return {"paused": (await runtime.run(pauses, Pause(seconds))).seconds}


@app.get("/census")
async def count(runtime: CurrentRuntime) -> dict[str, int | str]:
    kind = type(asyncio.get_running_loop()).__module__
    mailboxes = sum(actor.mailbox.depth for actor in runtime.statistics().actors.values())
    return {**census(), "tasks": len(asyncio.all_tasks()), "queued": mailboxes, "loop": kind}
