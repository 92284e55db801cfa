"""Deadlocks in ordinary async tests on a virtual clock, where no schedule is chosen: found, reported, ended."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncGenerator, Generator
from typing import Any, final

import trio
import trio.testing

from runtime.app import Runtime, open_runtime
from runtime.testing.deadlock import Names, report_on, waits_of
from runtime.testing.schedule import tasks_below, when_stuck
from runtime.testing.simulation import IO_LOOKS, Deadlock, sockets_waited_for


@final
class _Watch:
    """Looks at a clock that has nothing to jump to."""

    def __init__(self) -> None:
        self.scope = trio.CancelScope()
        self.verdict: Deadlock | None = None
        self.over = False
        self._looks = 0
        self._names = Names()

    def stuck(self) -> None:
        """Nothing can run. Sockets get a moment of real time, then the block is cancelled."""
        self._looks += 1
        if self.over or self.verdict is not None or (sockets_waited_for() and self._looks < IO_LOOKS):
            time.sleep(0.001)  # noqa: TID251 - the kernel has no virtual clock
            return
        report = report_on(waits_of(tasks_below(trio.lowlevel.current_root_task()), self._names))
        self.verdict = Deadlock(f"nothing can run and no deadline is pending, at {trio.current_time():g} s:\n{report}")
        self.scope.cancel()


@contextlib.contextmanager
def fails_when_stuck(clock: trio.testing.MockClock) -> Generator[None]:
    """Cancel the block and raise :class:`Deadlock` when nothing can run and no deadline of `clock`'s run is pending.

    `clock` is the autojump clock of the run, such as the ``virtual_clock`` fixture.
    """
    watch = _Watch()
    when_stuck(clock, watch.stuck)
    try:
        with watch.scope:
            yield
    finally:
        watch.over = True
    if watch.verdict is not None:
        raise watch.verdict


@contextlib.asynccontextmanager
async def open_watched_runtime(clock: trio.testing.MockClock, **options: Any) -> AsyncGenerator[Runtime]:
    """``open_runtime`` inside :func:`fails_when_stuck`."""
    with fails_when_stuck(clock):
        async with open_runtime(**options) as runtime:
            yield runtime
