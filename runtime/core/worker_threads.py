"""Plain functions of nodes in worker threads: a thread that waits for a run, or for an actor, does not count as one at work.

trio bounds the threads of a whole program (40 by default). Those that wait for work which needs threads itself must not use up
what that needs, or nothing would ever go on.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TypeVar

import trio

from runtime.core.cell import current_cell
from runtime.core.duty import in_thread

T = TypeVar("T")


async def run_in_thread(call: Callable[[], T]) -> T:
    """What `call` returns, in a worker thread; cancelled, the thread is still waited for."""
    token = in_thread.set(current_cell.get())
    try:
        return await trio.to_thread.run_sync(call)
    finally:
        in_thread.reset(token)


@contextmanager
def thread_not_counted() -> Generator[None]:
    """While the code that runs within waits, let another thread take the place of the one in which it was called, if any."""
    cell = in_thread.get()
    if cell is None or cell is not current_cell.get():
        yield
        return
    limiter = trio.to_thread.current_default_thread_limiter()
    limiter.total_tokens += 1
    try:
        yield
    finally:
        limiter.total_tokens -= 1
