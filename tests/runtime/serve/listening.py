"""A service on a port of this process: hypercorn in this trio program, or uvicorn in a thread with an event loop of its own."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from typing import Any

import trio
import uvicorn

from runtime.serve import Service, serve
from tests.patience import PATIENCE_S

SERVERS = ("hypercorn", "uvicorn")


@contextlib.asynccontextmanager
async def listening(server: str, service: Service, app: Any = None) -> AsyncGenerator[str]:
    """Its address, while the block lasts; under uvicorn also that of an `app` that it is mounted in."""
    async with trio.open_nursery() as nursery:
        if server == "hypercorn":
            yield await nursery.start(lambda task_status: serve(service, port=0, task_status=task_status))
            nursery.cancel_scope.cancel()
            return
        bound = trio.socket.socket()
        await bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
        config = uvicorn.Config(app if app is not None else service.app, log_level="warning", timeout_graceful_shutdown=2)
        running = uvicorn.Server(config)
        inner = bound.detach()
        import socket

        nursery.start_soon(trio.to_thread.run_sync, lambda: running.run([socket.socket(fileno=inner)]))
        with trio.fail_after(PATIENCE_S):
            while not running.started:  # noqa: ASYNC110 - another thread says nothing
                await trio.sleep(0.01)
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            running.should_exit = True
