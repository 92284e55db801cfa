"""A second try beside a slow first one: the first answer wins, and the other try is cancelled."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

import trio

from actors.groups import failure_besides

T = TypeVar("T")
CLOSE_S = 2.0
"""How long it may take to give up a result that is no longer wanted."""


class OnSent(Protocol):
    """Called by a try when its request goes out."""

    def __call__(self) -> None:
        """Now."""
        ...


def nobody_asks() -> None:
    """For a try without a hedge: nothing depends on when it was sent."""


async def first_of(
    attempt: Callable[[OnSent], Awaitable[T]],
    hedge_s: float,
    may_hedge: Callable[[], bool],
    discard: Callable[[T], Awaitable[None]] | None = None,
) -> T:
    """The result of `attempt`, or of a second call of it that starts `hedge_s` seconds after the first was sent.

    A try that fails before the second has started ends it; of two that are on their way, the last one's failure does, and the
    first failure is raised as it is, without a group around it.

    Args:
        attempt: what to try. The loser is cancelled.
        hedge_s: seconds.
        may_hedge: asked just before the second try; False leaves the first alone.
        discard: gives up a result that is not returned, because both tries had one or the caller was cancelled.
    """
    results: list[T] = []
    errors: list[BaseException] = []
    sent, ended = trio.Event(), trio.Event()
    running = 0

    async def one() -> None:
        nonlocal running
        running += 1
        try:
            results.append(await attempt(sent.set))
        except BaseException as error:
            failure = failure_besides(error, trio.Cancelled)
            if failure is None:
                raise
            errors.append(failure)  # raised below, without the nursery's group around it
        running -= 1
        sent.set()
        ended.set()
        if results or not running:
            nursery.cancel_scope.cancel()

    is_returned = False
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one)
            await sent.wait()
            with trio.move_on_after(hedge_s):
                await ended.wait()
            if not ended.is_set() and may_hedge():
                nursery.start_soon(one)
        is_returned = bool(results)
    finally:
        for unwanted in results[1:] if is_returned else results:
            if discard is not None:
                with trio.move_on_after(CLOSE_S, shield=True):
                    await discard(unwanted)
    if is_returned:
        return results[0]
    raise errors[0]
