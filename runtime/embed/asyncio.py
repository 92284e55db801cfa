"""The runtime in an asyncio program: ``async with open_runtime_asyncio(...) as runtime: await runtime.run(graph, message)``."""

from __future__ import annotations

from typing import Final

from runtime.app import open_runtime
from runtime.embed.asyncio_base import AsyncioEventStream as AsyncioEventStream
from runtime.embed.asyncio_faces import AsyncioActorRef as AsyncioActorRef
from runtime.embed.asyncio_faces import AsyncioDeployment as AsyncioDeployment
from runtime.embed.asyncio_faces import AsyncioLM as AsyncioLM
from runtime.embed.asyncio_faces import AsyncioRunHandle as AsyncioRunHandle
from runtime.embed.asyncio_faces import AsyncioRuntime as AsyncioRuntime
from runtime.embed.asyncio_faces import AsyncioSupervisorRef as AsyncioSupervisorRef
from runtime.embed.asyncio_visit import for_asyncio

open_runtime_asyncio: Final = for_asyncio(open_runtime)
"""Open a runtime on the running asyncio loop: ``async with open_runtime_asyncio(lm="openai/gpt-4o-mini") as runtime``.

Takes what :func:`runtime.open_runtime` takes and promises what it promises. Trio runs as a guest of the loop, in its thread;
several runtimes may be open on one loop. An exception or a cancellation of the block cancels all that runs; if the runtime gives
up on its own, the block is cancelled and the runtime's error raised.

Raises:
    UsageError: there is no running loop in this thread, or trio runs here already; the message names what to use instead.
"""
