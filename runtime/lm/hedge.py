"""A second try beside a slow first one: the first answer wins, and the other try is cancelled."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

T = TypeVar("T")


async def first_of(attempt: Callable[[], Awaitable[T]], hedge_s: float, may_hedge: Callable[[], bool]) -> T:
    """The result of `attempt`, or of a second call of it that starts when the first has given none for `hedge_s` seconds.

    A try that fails before the second has started ends it; of two that are on their way, the last one's failure does, and the
    first failure is raised as it is, without a group around it.

    Args:
        attempt: what to try. The loser is cancelled.
        hedge_s: seconds.
        may_hedge: asked just before the second try; False leaves the first alone.
    """
    results: list[T] = []
    errors: list[Exception] = []
    ended = trio.Event()
    running = 0

    async def one() -> None:
        nonlocal running
        running += 1
        try:
            results.append(await attempt())
        except Exception as error:  # noqa: BLE001 - raised below, without the nursery's group around it
            errors.append(error)
        running -= 1
        ended.set()
        if results or not running:
            nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(one)
        with trio.move_on_after(hedge_s):
            await ended.wait()
        if not ended.is_set() and may_hedge():
            nursery.start_soon(one)
    if results:
        return results[0]
    raise errors[0]
