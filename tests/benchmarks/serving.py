"""``python -m tests.benchmarks.serving PORT``: the measured service as :func:`runtime.serve.serve` serves it."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import AsyncGenerator, Sequence
from functools import partial
from typing import Any

import trio

from actors import Graph
from runtime.serve import Service, serve
from runtime.serve.gate import problem_response
from runtime.serve.live import Live
from runtime.serve.problem_documents import HttpProblem
from runtime.serve.routes import Answer, Endpoint
from tests.benchmarks.service_apps import LIMITS, counting, cpu, go, graph


class Weighing:
    """A face that tells what the process holds, and lets runs go on that are held."""

    def endpoints(self) -> Sequence[Endpoint]:
        async def weigh(_: Live, __: Any, request: Any) -> Answer:
            return await cpu(request)

        async def let_go(_: Live, __: Any, request: Any) -> Answer:
            return await go(request)

        weighing = Endpoint("GET", "/cpu", None, weigh, "What the process holds")
        return [weighing, Endpoint("POST", "/go", None, let_go, "Let runs go on")]

    def check(self, graphs: Sequence[Graph]) -> None:
        """It serves none."""

    def reject(self, problem: HttpProblem) -> Answer:
        return problem_response(problem)

    @contextlib.asynccontextmanager
    async def running(self, live: Live) -> AsyncGenerator[None]:
        yield


if __name__ == "__main__":
    service = Service([graph, counting], limits=LIMITS, inspector=False, faces=[Weighing()])
    trio.run(partial(serve, service, port=int(sys.argv[1])))
