"""The applications that ``tests.benchmarks.service`` measures, under one server each: the same call three ways."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections import Counter
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import attrs
import trio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route

from actors import Graph
from runtime.embed.asgi import understudy_lifespan
from runtime.serve import Limits, Service


@attrs.frozen
class Question:
    text: str


@attrs.frozen
class Answer:
    text: str


@attrs.frozen
class Count:
    left: int
    wait_s: float = 0.0
    """How long a step calls something outside, in seconds."""
    text: str = ""
    """What each event carries."""
    is_held: bool = False
    """Whether the first step waits for ``POST /go``."""


graph = Graph("answers", input=Question, output=Answer)
counting = Graph("counting", input=Count, output=Answer)


@graph.node
async def answer(question: Question) -> Answer:
    return Answer(question.text)


CALLS: Counter[str] = Counter()
"""Calls to the outside that are open."""


HELD: list[trio.Event] = []
"""Set when runs that are held may go on."""


@counting.node(concurrency=1_000)
async def count(number: Count) -> Count | Answer:
    if number.is_held:
        HELD.append(trio.Event())
        await HELD[-1].wait()
    CALLS["open"] += 1
    try:
        await trio.sleep(number.wait_s)
    finally:
        CALLS["open"] -= 1
    return attrs.evolve(number, left=number.left - 1, is_held=False) if number.left > 1 else Answer("done")


async def raw(request: Request) -> JSONResponse:
    """What the server and the framework cost alone."""
    body = json.loads(await request.body())
    return JSONResponse({"output": {"text": body["input"]["text"]}})


async def by_hand(request: Request) -> JSONResponse:
    """What somebody writes who has a runtime and no service."""
    body = json.loads(await request.body())
    made = await request.state.understudy.run(graph, Question(body["input"]["text"]))
    return JSONResponse({"output": attrs.asdict(made)})


async def cpu(_: Request) -> JSONResponse:
    """CPU seconds of this process, the memory that it holds in bytes, and what is open."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])  # noqa: ASYNC240 - no file of a disk
    told = {"cpu_s": time.process_time(), "bytes": pages * 4_096, "calls": CALLS["open"]}
    told["files"] = len(os.listdir("/proc/self/fd"))
    if trio.lowlevel.in_trio_run():
        told["tasks"] = trio.lowlevel.current_statistics().tasks_living
    return JSONResponse(told)


TICK: list[trio.Event] = [trio.Event()]
"""Set when every stream of ``app_bare`` has something to write."""


async def app_bare(scope: Any, receive: Any, send: Any) -> None:
    """Streams with no framework and no service: what a connection weighs in the server alone, and a write to it costs.

    ``POST /go?writes=20&wait_s=0.1`` makes each stream of a run *ticking* write so often, a frame of the length of two events.
    """
    if scope["type"] == "lifespan":
        while True:
            await send({"type": f"{(await receive())['type']}.complete"})
    request = Request(scope)
    if scope["path"] == "/cpu":
        await (await cpu(request))(scope, receive, send)
    elif scope["path"] == "/go":
        for _ in range(int(request.query_params["writes"])):
            await trio.sleep(float(request.query_params["wait_s"]))
            TICK[0].set()
            TICK[0] = trio.Event()
        await JSONResponse({})(scope, receive, send)
    else:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        await send({"type": "http.response.body", "body": b"retry: 1000\n\n", "more_body": True})
        async with trio.open_nursery() if "ticking" in scope["path"] else contextlib.nullcontext() as nursery:
            if nursery is not None:
                nursery.start_soon(_tick, send)
            while (await receive())["type"] != "http.disconnect":
                pass
            if nursery is not None:
                nursery.cancel_scope.cancel()


async def _tick(send: Any) -> None:
    while True:
        await TICK[0].wait()
        await send({"type": "http.response.body", "body": b"x" * 600, "more_body": True})


async def go(_: Request) -> JSONResponse:
    """Let the runs go on that are held."""
    for held in HELD:
        held.set()
    HELD.clear()
    return JSONResponse({})


def _measured(lifespan: Any, *routes: Any) -> Starlette:
    return Starlette(routes=[Route("/cpu", cpu), Route("/go", go, methods=["POST"]), *routes], lifespan=lifespan)


LIMITS = Limits(runs_per_minute=10**9, streams_per_caller=10**6, runs_at_once=10**6, runs_at_once_per_caller=10**6)
service = Service([graph, counting], limits=LIMITS, inspector=False)


@contextlib.asynccontextmanager
async def nothing(app: Any) -> AsyncGenerator[None]:
    yield


app_raw = _measured(nothing, Route("/run", raw, methods=["POST"]))
app_by_hand = _measured(understudy_lifespan(), Route("/run", by_hand, methods=["POST"]))
app_service = _measured(service.lifespan, Mount("/", service.routes))
