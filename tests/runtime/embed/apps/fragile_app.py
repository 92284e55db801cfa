"""An application with nodes and actors that raise what servers hardly survive."""

from __future__ import annotations

import asyncio
from typing import Any

import attrs
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from actors import Actor, Graph
from runtime.embed.asgi import runtime_of, understudy_lifespan


@attrs.frozen
class Wish:
    kind: str


@attrs.frozen
class Granted:
    kind: str


wishes = Graph("wishes", input=Wish, output=Granted)


@wishes.node
def grant(wish: Wish) -> Granted:
    """As a library on asyncio does it, which cancels its own task; and as argparse does it."""

    async def cancelled() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)

    if wish.kind == "cancelled":
        asyncio.run(cancelled())
    if wish.kind == "exit":
        raise SystemExit(2)
    return Granted(wish.kind)


class Fragile(Actor):
    async def receive(self, message: str) -> None:
        raise KeyboardInterrupt if message == "interrupt" else LookupError(message)


async def wish(request: Request) -> JSONResponse:
    granted = await runtime_of(request).run(wishes, Wish(request.path_params["kind"]))
    return JSONResponse({"kind": granted.kind})


async def end(request: Request) -> JSONResponse:
    """Have the runtime end: by an interrupt, or because its root supervisor gives up."""
    runtime: Any = runtime_of(request)
    ref = await runtime.spawn(Fragile)
    for _ in range(5):
        await ref.tell(request.path_params["way"])
    return JSONResponse({})


bare = Starlette(routes=[Route("/wish/{kind}", wish), Route("/end/{way}", end)])
app = Starlette(routes=bare.routes, lifespan=understudy_lifespan())
wrapped = understudy_lifespan().around(bare)
