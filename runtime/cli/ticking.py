"""A view of what is going on that is kept fresh while something is awaited."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from typing import Final, Protocol, TypeVar

import trio

T = TypeVar("T")

TICK_S: Final = 0.1


class View(Protocol):
    """Shows what is going on: a ``Progress``, or a table that is drawn over."""

    @property
    def is_live(self) -> bool:
        """Whether :meth:`update` shows anything."""
        ...

    def step(self, text: str) -> None:
        """Report that something has happened, where there is a line for every step."""
        ...

    def update(self, text: str) -> None:
        """Draw it over; `text` tells what is going on now."""
        ...

    def showing(self) -> AbstractContextManager[object]:
        """The time for which it is drawn over; afterwards, however it ends, something else can be printed."""
        ...


async def ticking(view: View, text: Callable[[], str], work: Callable[[], Awaitable[T]]) -> T:
    """Await `work`; on a terminal, show `text` and the seconds so far meanwhile. What `work` raises passes as it is."""
    if not view.is_live:
        return await work()
    failure: Exception | None = None
    result: list[T] = []
    with view.showing():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_tick, view, text)
            try:
                result.append(await work())
            except Exception as error:  # noqa: BLE001 - raised again below, outside the nursery, which would put it in a group
                failure = error
            nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure
    return result[0]


async def _tick(view: View, text: Callable[[], str]) -> None:
    began_s = trio.current_time()
    while True:
        view.update(f"{text()}  {trio.current_time() - began_s:.1f} s")
        await trio.sleep(TICK_S)
