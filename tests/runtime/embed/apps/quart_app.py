"""A small graph behind quart-trio, which takes no lifespan: the application is wrapped whole."""

from __future__ import annotations

from quart import request
from quart_trio import QuartTrio

from runtime import Runtime
from runtime.embed.asgi import runtime_of
from tests.runtime.embed.apps.service import Pause, lifespan, pauses

quart = QuartTrio(__name__)


@quart.get("/pauses/<float:seconds>")
async def pause(seconds: float) -> dict[str, float]:
    runtime: Runtime = runtime_of(request)
    return {"paused": (await runtime.run(pauses, Pause(seconds))).seconds}


app = lifespan().around(quart)
