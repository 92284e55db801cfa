"""``python -m tests.benchmarks.serving PORT [watched]``: the measured service as :func:`runtime.serve.serve` serves it.

``watched``: with its inspector.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import AsyncGenerator, Sequence
from functools import partial
from typing import Any

import trio
from starlette.responses import JSONResponse

from actors import Actor, Graph
from runtime.cli.interrupts import leave_quickly
from runtime.serve import Service, serve
from runtime.serve.gate import problem_response
from runtime.serve.live import Live
from runtime.serve.problem_documents import HttpProblem
from runtime.serve.routes import Answer, Endpoint
from tests.benchmarks.service_apps import LIMITS, counting, cpu, go, graph

SHOWN, TICK_S = 200, 0.25
"""Actors on a page of the inspector, and how often it is made anew, in seconds."""


class Quiet(Actor[str]):
    """Handles everything."""

    async def receive(self, message: str) -> None:
        """Do nothing."""


async def spawn(live: Live, request: Any) -> Answer:
    """So many actors, of which those of the inspector's first page get a message four times a second."""
    refs = [await live.runtime.spawn(Quiet, name=f"quiet-{n:05}") for n in range(int(request.query_params["count"]))]

    async def tick() -> None:
        while True:
            for ref in refs[:SHOWN]:
                ref.tell_nowait("tick")
            await trio.sleep(TICK_S)

    await live.runtime.task(tick)
    return JSONResponse({"actors": len(refs)})


class Weighing:
    """A face that tells what the process holds, lets runs go on that are held, and spawns actors."""

    def endpoints(self) -> Sequence[Endpoint]:
        async def weigh(_: Live, __: Any, request: Any) -> Answer:
            return await cpu(request)

        async def let_go(_: Live, __: Any, request: Any) -> Answer:
            return await go(request)

        async def crowd(live: Live, __: Any, request: Any) -> Answer:
            return await spawn(live, request)

        weighing = Endpoint("GET", "/cpu", None, weigh, "What the process holds")
        crowding = Endpoint("POST", "/actors", None, crowd, "Spawn actors")
        return [weighing, Endpoint("POST", "/go", None, let_go, "Let runs go on"), crowding]

    def check(self, graphs: Sequence[Graph]) -> None:
        """It serves none."""

    def reject(self, problem: HttpProblem) -> Answer:
        return problem_response(problem)

    @contextlib.asynccontextmanager
    async def running(self, live: Live) -> AsyncGenerator[None]:
        yield


if __name__ == "__main__":
    service = Service([graph, counting], limits=LIMITS, inspector="watched" in sys.argv, faces=[Weighing()])
    trio.run(partial(serve, service, port=int(sys.argv[1])))
    leave_quickly()  # as `understudy serve` does
