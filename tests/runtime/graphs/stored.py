"""A store under every run, although its test asks for none: durable runs do whatever runs do."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

from runtime import app
from runtime.graphs.engine import Engine
from runtime.journal.memory import MemoryStore

IS_WANTED = "EVERY_RUN_STORED"
"""The environment variable that wants it."""


def store_every_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Open each runtime with a store in memory, and give each run the id that it would have without one."""
    prepare: Callable[..., Any] = app._prepare
    engine: Any = Engine
    run, start, stream = engine.run, engine.start, engine.stream

    async def prepared(runtime: Any, models: Any, *, warm_up: bool) -> None:
        if runtime._engine._durable is None:
            await app._keep(runtime, runtime._engine, runtime._scheduler, MemoryStore(), None, None)
        await prepare(runtime, models, warm_up=warm_up)

    def named(self: Any, graph: Any, run_id: str | None) -> str | None:
        return self._active.new_id(graph, None) if run_id is None and hasattr(graph, "name") else run_id

    async def run_stored(self: Any, graph: Any, message: object, max_steps: float, run_id: str | None = None, **more: Any) -> Any:
        return await run(self, graph, message, max_steps, named(self, graph, run_id), **more)

    async def start_stored(self: Any, graph: Any, message: object, run_id: str | None, max_steps: float, **more: Any) -> Any:
        return await start(self, graph, message, named(self, graph, run_id), max_steps, **more)

    def stream_stored(
        self: Any, graph: Any, message: object, max_steps: float, buffer: int, run_id: str | None = None, **more: Any
    ) -> Any:
        return stream(self, graph, message, max_steps, buffer, named(self, graph, run_id), **more)

    monkeypatch.setattr(app, "_prepare", prepared)
    monkeypatch.setattr(Engine, "run", run_stored)
    monkeypatch.setattr(Engine, "start", start_stored)
    monkeypatch.setattr(Engine, "stream", stream_stored)


def is_wanted() -> bool:
    """Whether this run of the suite is to store every run."""
    return bool(os.environ.get(IS_WANTED))
