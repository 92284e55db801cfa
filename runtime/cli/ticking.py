"""A line of progress that counts the seconds while something is awaited."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import trio

from runtime.cli.terminal import Progress

T = TypeVar("T")

TICK_S: Final = 0.1


async def ticking(progress: Progress, text: Callable[[], str], work: Callable[[], Awaitable[T]]) -> T:
    """Await `work`; on a terminal, show `text` and the seconds so far meanwhile. What `work` raises passes as it is."""
    if not progress.is_live:
        return await work()
    failure: Exception | None = None
    result: list[T] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_tick, progress, text)
        try:
            result.append(await work())
        except Exception as error:  # noqa: BLE001 - raised again below, outside the nursery, which would put it in a group
            failure = error
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure
    return result[0]


async def _tick(progress: Progress, text: Callable[[], str]) -> None:
    began_s = trio.current_time()
    while True:
        progress.update(f"{text()}  {trio.current_time() - began_s:.1f} s")
        await trio.sleep(TICK_S)
