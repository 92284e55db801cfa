"""An async generator in its own task, asked for one item at a time, so scopes around a ``yield`` work as everywhere else.

A cancel scope or a nursery belongs to the task that entered it. Were a generator advanced by the task that sends its items on, a
scope that it holds open around a ``yield`` would enclose the sending as well, and would be left in another order than entered
("Cancel scope stack corrupted"). Here the scopes of the generator enclose nothing but the generator.
"""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Awaitable, Callable
from functools import partial
from typing import Any, Final, final

import outcome
import trio

from actors.groups import without

CLOSE_GENERATOR_S: Final = 5.0
"""How long the clean-up of an async generator may take that is closed at a ``yield``."""


async def hand_out(items: AsyncGenerator[Any], take: Callable[[Any], Awaitable[None]]) -> None:
    """Call `take` with each of `items`; the generator goes on when `take` has returned, not before.

    A cancel scope that it opened itself reaches it at a ``yield`` as at any other wait. When this is cancelled, or `take` fails,
    the generator is cancelled where it waits; at a ``yield`` it is closed, with ``CLOSE_GENERATOR_S`` seconds for its clean-up.
    What it raises is raised here, also by its clean-up; its task has ended then.
    """
    source = _Source(items)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(source.run)
        taken = await outcome.acapture(source.deal, take)  # nothing is raised inside: a nursery would make a group of it
        source.close()
    if source.error is not None:
        raise source.error
    taken.unwrap()


@final
class _Source:
    def __init__(self, items: AsyncGenerator[Any]) -> None:
        self.error: BaseException | None = None
        self._items = items
        # Everything that the generator opens lies within this scope. No scope may be opened around one of its steps later: it may
        # leave its own in that step, which would be out of order.
        self._scope = trio.CancelScope(shield=True)
        self._wanted = trio.Semaphore(0)
        self._ahead = 0
        """Items sent without being asked for: 1 after it was cancelled at a yield and went on to another."""
        self._send, self._receive = trio.open_memory_channel[Any](math.inf)  # never more than one
        self._is_at_yield = True
        self._is_closing = False

    async def deal(self, take: Callable[[Any], Awaitable[None]]) -> None:
        """Ask for an item, hand it to `take`, and so on, until there is none."""
        while True:
            await trio.lowlevel.checkpoint_if_cancelled()  # first: what was released would go on before this task is cancelled
            self._wanted.release()
            try:
                item = await self._receive.receive()
            except trio.EndOfChannel:
                return
            await trio.lowlevel.checkpoint_if_cancelled()  # an item that comes after the time of its attempt does not count
            await take(item)

    def close(self) -> None:
        """No more items are wanted. The task ends soon; over already, no effect."""
        self._is_closing = True
        if not self._is_at_yield:
            self._scope.cancel()
            return
        self._scope.deadline = trio.current_time() + CLOSE_GENERATOR_S
        self._wanted.release()
        self._wanted.release()  # one more for an item that it is ahead

    async def run(self) -> None:
        """The task of the generator."""
        with self._send:
            try:
                with self._scope:
                    await self._produce()
            except BaseException as error:  # noqa: BLE001 - raised where the items are dealt out
                self.error = error

    async def _produce(self) -> None:
        try:
            step = await self._next_step()
            while not self._is_closing:
                self._is_at_yield = False
                try:
                    item = await step()
                except StopAsyncIteration:
                    return
                finally:
                    self._is_at_yield = True
                self._ahead += 1
                self._send.send_nowait(item)
                step = await self._next_step()
        finally:
            await self._close_items()

    async def _next_step(self) -> Callable[[], Awaitable[Any]]:
        """Wait until an item is wanted; how the generator is then to go on."""
        try:
            if self._ahead > 0:  # it has been told of the cancellation, and is told again at its next wait
                with trio.CancelScope(shield=True):
                    await self._wanted.acquire()
                self._ahead -= 1
            if self._ahead == 0:
                await self._wanted.acquire()
                self._ahead -= 1
        except trio.Cancelled as cancelled:  # by a scope of the generator, or no task will take the step
            return partial(self._items.athrow, cancelled)
        return self._items.__anext__

    async def _close_items(self) -> None:
        try:
            await self._items.aclose()
        except BaseExceptionGroup as group:  # a nursery around the yield makes a group of GeneratorExit
            rest = without(group, GeneratorExit)
            if rest is not None:
                raise rest from None
