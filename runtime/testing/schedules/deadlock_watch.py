"""Deadlocks in ordinary async tests on a virtual clock, where no schedule is chosen: found, reported, ended."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from typing import Any, TypeVar, final

import trio
import trio.testing

from runtime.app import Runtime, open_runtime
from runtime.testing.schedules.deadlock import TaskNames, report_on, waits_of
from runtime.testing.schedules.schedule import in_chosen_run, tasks_below, unshield, when_stuck
from runtime.testing.schedules.simulation import Deadlock, sockets_waited_for
from runtime.testing.schedules.virtual_time import thread_gate

T = TypeVar("T")

PATIENCE_LOOKS = 3000
"""Looks, a millisecond apart, at a run that only a socket or a thread of the test's own could wake."""


@final
class _Watch(trio.abc.Instrument):
    """Looks at a clock that has nothing to jump to."""

    def __init__(self) -> None:
        self.scope = trio.CancelScope()
        self.finding: Deadlock | None = None
        self._looks = 0
        self._names = TaskNames()

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        """Something runs: it was not stuck."""
        self._looks = 0

    def stuck(self) -> None:
        """Nothing can run. What comes from outside of the loop gets a moment of real time, then the block is cancelled."""
        self._looks += 1
        if may_be_woken() and self._looks < PATIENCE_LOOKS:
            time.sleep(0.001)  # noqa: TID251 - the kernel has no virtual clock
            return
        if self._looks <= PATIENCE_LOOKS:  # a thread may have ended since the loop has looked: what it made is on its way
            self._looks = PATIENCE_LOOKS
            return
        tasks = tasks_below(trio.lowlevel.current_root_task())
        if self.finding is not None:  # and it was cancelled
            unshield(tasks)
            return
        report = report_on(waits_of(tasks, self._names))
        self.finding = Deadlock(f"nothing can run and no deadline is pending, at {trio.current_time():g} s:\n{report}")
        self.scope.cancel()


def may_be_woken() -> bool:
    """Whether something outside of the loop may wake it: a socket, or a thread that trio did not start."""
    strangers = (thread for thread in threading.enumerate() if not thread.name.startswith("Trio thread"))
    return sockets_waited_for() or sum(1 for _ in strangers) > 1


@contextlib.contextmanager
def fails_when_stuck(clock: trio.testing.MockClock) -> Generator[None]:
    """Cancel the block and raise :class:`Deadlock` when nothing can run and no deadline of `clock`'s run is pending.

    `clock` is the autojump clock of the run, such as the ``virtual_clock`` fixture. In an explored run, which looks for deadlocks
    itself, and on a clock that the test moves by hand, this does nothing.
    """
    if in_chosen_run() or clock.autojump_threshold == math.inf:
        yield
        return
    watch = _Watch()
    trio.lowlevel.add_instrument(watch)
    try:
        with when_stuck(clock, watch.stuck), watch.scope:
            yield
    finally:
        trio.lowlevel.remove_instrument(watch)
    if watch.finding is not None:
        raise watch.finding


def run_watched(
    run: Callable[..., T], clock: trio.testing.MockClock, async_fn: Callable[..., Awaitable[Any]], *args: Any, **options: Any
) -> T:
    """``run(async_fn, *args)`` on `clock`, which holds while a worker thread runs; ``run`` is ``trio.run`` as a rule."""
    __tracebackhide__ = True

    async def watched() -> Any:
        __tracebackhide__ = True
        with fails_when_stuck(clock):
            return await async_fn(*args)

    with thread_gate():
        return run(watched, clock=clock, **options)


def run_in_virtual_time(async_fn: Callable[..., Awaitable[T]], *args: Any) -> T:
    """``trio.run(async_fn, *args)`` in virtual time, from 0.0 s: what an ordinary test has by the fixture ``virtual_clock``.

    For tests that aren't async functions, such as those of Hypothesis, and for programs. The clock jumps to the next deadline
    when every task is blocked, and holds while a worker thread runs.

    Raises:
        Deadlock: nothing can run, and no deadline is pending.
    """
    __tracebackhide__ = True
    result: T = run_watched(trio.run, trio.testing.MockClock(autojump_threshold=0), async_fn, *args)
    return result


@contextlib.asynccontextmanager
async def open_watched_runtime(clock: trio.testing.MockClock, **options: Any) -> AsyncGenerator[Runtime]:
    """``open_runtime`` inside :func:`fails_when_stuck`."""
    with fails_when_stuck(clock):
        async with open_runtime(**options) as runtime:
            yield runtime
