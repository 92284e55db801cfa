"""A watchdog over the event loop: who held it for too long, for how long, and where in its code.

While one step of a task runs, nothing else of the loop does: no timer, no reply, no cancellation. An instrument measures each
step on the real clock, and says so once the step is over. A thread, which the loop cannot hold up, looks now and then whether the
present step is a long one; that look is where the stack comes from, and it is who speaks up about a step that never ends.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import math
import sys
import threading
import time
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import Self, final

import trio

from actors.errors import UsageError
from actors.words import repr_of
from runtime.core.cell import Cell, current_cell
from runtime.core.events import LoopBlocked
from runtime.core.services import Services

_LOG = logging.getLogger("understudy.watchdog")
STUCK_AFTER = 20
"""How many limits a step may last before it is taken to be stuck, and spoken of while it still runs."""


@final
class Watchdog(trio.abc.Instrument):
    """Publishes a :class:`LoopBlocked` for every step of a task that holds the loop for more than `limit_s` real seconds.

    A context manager, entered within the loop that it watches. Steps of another runtime's actors are left to that one's. What a
    sink of the event raises ends the watch, as trio does with any instrument that fails.
    """

    def __init__(
        self,
        services: Services,
        limit_s: float,
        *,
        now: Callable[[], float] = time.monotonic,  # noqa: TID251 - what holds the loop also holds trio's clock
        alarm: Callable[[str], None] = _LOG.warning,
    ) -> None:
        if not 0 < limit_s < math.inf:
            raise UsageError(f"watchdog_s={repr_of(limit_s)}: expected finite seconds > 0.\n  Fix: watchdog_s=0.25, say.")
        self._services = services
        self._limit_s = limit_s
        self._now = now
        self._alarm = alarm
        self._loop = threading.get_ident()
        self._step = self._alarmed = 0
        """Number of the present step, and of the last one that was spoken of."""
        self._begun: float | None = None
        self._task: trio.lowlevel.Task | None = None
        self._sample: tuple[int, traceback.StackSummary] | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._patrol, name="understudy watchdog", daemon=True)

    def __enter__(self) -> Self:
        trio.lowlevel.add_instrument(self)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._over.set()
        with contextlib.suppress(KeyError):  # trio has thrown it out already
            trio.lowlevel.remove_instrument(self)
        self._thread.join()

    # --- in the loop's thread -------------------------------------------------------------------------------------------

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        """Begin to measure; see ``trio.abc.Instrument``."""
        self._step += 1
        self._task = task
        self._begun = self._now()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """Judge the step that is over; see ``trio.abc.Instrument``."""
        begun, self._begun = self._begun, None
        if begun is None:  # the watch began within this step
            return
        held_s = self._now() - begun
        if held_s > self._limit_s:
            self._report(task, held_s)

    def _report(self, task: trio.lowlevel.Task, held_s: float) -> None:
        cell = _actor_of(task)
        if not self._services.events.wants(LoopBlocked) or (cell is not None and cell.services is not self._services):
            return
        step, stack = self._sample or (0, traceback.StackSummary())
        self._services.events.publish(
            LoopBlocked(
                address=cell.address if cell is not None else None,
                task=task.name,
                held_s=held_s,
                stack="".join(stack.format()) if step == self._step else "",
            )
        )

    # --- in the watchdog's thread ---------------------------------------------------------------------------------------

    def _patrol(self) -> None:
        # Looks come at most half a limit apart, so every step which exceeds the limit has been seen in its second half.
        while not self._over.wait(self._limit_s / 2):
            self.look()

    def look(self) -> None:
        """Note where the present step is, if it has lasted half its limit; from any thread."""
        step, begun, task = self._step, self._begun, self._task
        if begun is None or task is None:
            return
        held_s = self._now() - begun
        if held_s >= self._limit_s / 2 and (self._sample is None or self._sample[0] != step):
            stack = _stack_of_thread(self._loop)
            if self._step == step and self._begun is not None:  # else the step has ended meanwhile, and that was another's stack
                self._sample = step, stack
        if held_s >= STUCK_AFTER * self._limit_s and self._alarmed != step and self._sample is not None:
            self._alarmed = step
            cell = _actor_of(task)
            who = f"task {task.name!r}" if cell is None else f"{cell.address or '(root)'!r}"
            self._alarm(
                f"{who} has held the event loop for {held_s:.1f} s, and nothing else can run.\n"
                f"{''.join(self._sample[1].format())}"
                "  Fix: await trio.to_thread.run_sync(…) for work that blocks, trio.sleep() instead of time.sleep()."
            )


def watching(services: Services, limit_s: float | None) -> contextlib.AbstractContextManager[object]:
    """A :class:`Watchdog` with that limit; nothing at all for None."""
    return contextlib.nullcontext() if limit_s is None else Watchdog(services, limit_s)


def _actor_of(task: trio.lowlevel.Task) -> Cell | None:
    """The actor or supervisor that `task` works for, also as a task which its handler started."""
    return task.context.get(current_cell)


def _stack_of_thread(thread: int) -> traceback.StackSummary:
    """Where that thread is within the step of a task, outermost first; without the frames of trio's own loop."""
    frame = sys._current_frames().get(thread)  # pyright: ignore[reportPrivateUsage] - documented, for exactly this use
    inner = itertools.takewhile(lambda found: found[0].f_code.co_name != "unrolled_run", traceback.walk_stack(frame))
    stack = traceback.StackSummary.extract(inner if frame is not None else (), lookup_lines=False)
    stack.reverse()
    return stack
