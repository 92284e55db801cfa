"""The way back onto trio for threads that trio did not start, such as those of ``dspy.Parallel`` and of ``dspy.Evaluate``.

``trio.from_thread.run`` makes a call from such a thread a task that no nursery of the caller owns: no cancel scope ends it, and
it is charged to no budget. Through a :class:`Crossing` it is a task of the work that the crossing was made for.
"""

from __future__ import annotations

import contextvars
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, final

import attrs
import outcome
import trio

from actors.errors import UsageError
from actors.groups import failure_besides
from runtime.lm.limits.budget import budgets_with

T = TypeVar("T")


@final
@attrs.define(eq=False)
class _Slot:
    """What happens to one call."""

    result: outcome.Outcome[Any] | None = None
    is_done: trio.Event = attrs.field(factory=trio.Event)


@final
class Crossing:
    """Runs calls from foreign threads as tasks of one nursery. Made by :func:`with_crossing`."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._token = trio.lowlevel.current_trio_token()
        self._context = contextvars.copy_context()
        self._is_open = True
        self.is_budgeted = bool(budgets_with())
        """Whether what its calls cost is charged to a budget; in foreign threads nothing else knows."""

    def run(self, call: Callable[[], Awaitable[T]]) -> T:
        """Run `call` on trio and return what it gives; called in a thread that trio did not start.

        Raises:
            trio.Cancelled: what the crossing was made for was cancelled.
            UsageError: that is over.
        """
        value: T = trio.from_thread.run(self._serve, call, trio_token=self._token).unwrap()
        return value

    def close(self) -> None:
        """Take no more calls."""
        self._is_open = False

    async def _serve(self, call: Callable[[], Awaitable[Any]]) -> outcome.Outcome[Any]:
        if not self._is_open:
            raise UsageError(
                "A thread asked a language model after the module that had started it was done.\n"
                "  Fix: wait in the module for the threads that it starts."
            )
        slot = _Slot()
        self._context.run(self._nursery.start_soon, self._work, call, slot)
        await slot.is_done.wait()
        assert slot.result is not None, "a slot that is done has a result"
        return slot.result

    async def _work(self, call: Callable[[], Awaitable[Any]], slot: _Slot) -> None:
        try:
            slot.result = outcome.Value(await call())
        except BaseException as error:
            # The thread is told of a cancellation by the same exception, as trio itself does it for its own threads.
            slot.result = outcome.Error(error)
            if failure_besides(error, trio.Cancelled) is None:
                raise
        finally:
            slot.is_done.set()


async def with_crossing(work: Callable[[Crossing], Awaitable[T]]) -> T:
    """What ``work(crossing)`` gives; the calls that are still in progress when it ends are cancelled.

    An exception of `work` comes out as it is, without a group around it.
    """
    result: outcome.Outcome[T] | None = None
    async with trio.open_nursery() as nursery:
        crossing = Crossing(nursery)
        try:
            result = outcome.Value(await work(crossing))
        except BaseException as error:
            failure = failure_besides(error, trio.Cancelled)
            if failure is None:
                raise
            result = outcome.Error(failure)  # raised below, outside of the nursery
        finally:
            crossing.close()
            nursery.cancel_scope.cancel()
    assert result is not None, "a cancellation has left the nursery"
    return result.unwrap()
