"""Virtual time that worker threads cannot break: while one runs, the clock holds.

Trio's autojump clock doesn't know about threads: it would jump over ten seconds of deadlines while a thread works for fifty
milliseconds, and every timeout around that thread would fire. :func:`thread_gate` holds it; :class:`ThreadHold` holds a whole
chosen schedule, so threads finish in the order in which they were started.
"""

from __future__ import annotations

import contextlib
import math
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Generator
from typing import final

import trio
import trio.testing

from runtime.testing.schedules.schedule import in_chosen_run
from runtime.testing.schedules.threads import watched_threads

PATIENCE_S = 30.0
"""Real seconds that a chosen schedule waits for a worker thread."""
STILL_S = 1.0
"""Real seconds after which a worker thread that stands at one place is taken to wait for the loop."""
LOOK_S = 0.05
"""Real seconds between two looks at where the threads are."""
STACK_LINES = 6
"""Innermost lines of a thread's stack that a report shows."""
STRANGERS_PATIENCE_S = 0.05
"""Real seconds without news after which the clock continues, when a thread that trio did not start waits for the loop."""


@final
class ThreadGate:
    """Holds the autojump clock while a worker thread runs; a thread that waits for the loop does not count.

    A thread that trio did not start, such as one of ``dspy.Parallel``, is seen only when it waits for the loop. The worker thread
    that started it then most likely waits for it, and the clock would hold forever: it continues when nothing comes any more.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running = 0
        self._strangers: Counter[trio.lowlevel.TrioToken] = Counter()
        self._held: tuple[trio.testing.MockClock, float, trio.lowlevel.TrioToken] | None = None

    def running(self) -> None:
        """Hold the clock. Called in the loop's thread."""
        with self._lock:
            self._running += 1
        clock = trio.lowlevel.current_clock()
        if self._held is None and isinstance(clock, trio.testing.MockClock):
            self._held = (clock, clock.autojump_threshold, trio.lowlevel.current_trio_token())
        self._adjust()

    def paused(self) -> None:
        """Let the clock go once no thread runs. Called in the worker's thread, when the loop has what the thread sent it."""
        with self._lock:
            self._running -= 1
            held = self._held
        if held is not None:
            _soon(held[2], self._adjust)

    def entered(self) -> None:
        """See ``ThreadWatch``."""

    def left(self) -> None:
        """See ``ThreadWatch``."""

    def stranger_waits(self, token: trio.lowlevel.TrioToken) -> None:
        """See ``ThreadWatch``."""
        with self._lock:
            self._strangers[token] += 1
        _soon(token, self._adjust)

    def stranger_goes_on(self, token: trio.lowlevel.TrioToken) -> None:
        """See ``ThreadWatch``."""
        with self._lock:
            self._strangers[token] -= 1
            if not self._strangers[token]:
                del self._strangers[token]
        self._adjust()

    def _adjust(self) -> None:
        """Let the clock of this run do what its threads allow. Called in the loop's thread."""
        with self._lock:
            if self._held is None:
                return
            clock, threshold, token = self._held
            if token is not trio.lowlevel.current_trio_token():
                return  # a stranger of another run, in another thread
            if not self._running:
                self._held = None
            elif self._strangers[token] > 0:
                threshold = max(threshold, STRANGERS_PATIENCE_S)
            else:
                threshold = math.inf
        clock.autojump_threshold = threshold


def _soon(token: trio.lowlevel.TrioToken, call: Callable[[], None]) -> None:
    with contextlib.suppress(trio.RunFinishedError):
        token.run_sync_soon(call)


@contextlib.contextmanager
def thread_gate(*, threads: str = "hold") -> Generator[None]:
    """While the block runs, hold the autojump clock of runs in this thread for as long as one of their worker threads runs.

    With ``threads="forbid"``, starting one raises ``UsageError`` instead. The ``virtual_clock`` fixture opens it. Explored runs
    hold their threads themselves; in one of them this does nothing.
    """
    if in_chosen_run():
        yield
        return
    with watched_threads(ThreadGate(), forbid=threads == "forbid"):
        yield


@final
class ThreadHold:
    """Counts the worker threads that run; :meth:`settle` waits in real time until none does.

    A thread that waits for what the loop does next (a ``threading.Event`` that a task sets) would be waited for in vain. It is
    known by standing still: then the hold is given up, threads run beside the loop, and the run is not one that repeats.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._running = 0
        self._inside: dict[int, str] = {}
        self._released = False

    def running(self) -> None:
        """One more runs."""
        with self._changed:
            self._running += 1

    def paused(self) -> None:
        """One fewer runs."""
        with self._changed:
            self._running -= 1
            self._changed.notify_all()

    def entered(self) -> None:
        """See ``ThreadWatch``."""
        thread = threading.current_thread()
        with self._changed:
            self._inside[threading.get_ident()] = thread.name

    def left(self) -> None:
        """See ``ThreadWatch``."""
        with self._changed:
            self._inside.pop(threading.get_ident(), None)

    def stranger_waits(self, token: trio.lowlevel.TrioToken) -> None:
        """See ``ThreadWatch``. A chosen schedule cannot know when a thread comes that trio did not start: none is waited for."""

    def stranger_goes_on(self, token: trio.lowlevel.TrioToken) -> None:
        """See ``ThreadWatch``."""

    @property
    def is_busy(self) -> bool:
        """Whether a worker thread runs."""
        return self._running > 0

    def settle(self) -> bool:
        """Block until no thread runs; False when those that do stand still, or do not come back within :data:`PATIENCE_S`."""
        if not self._running or self._released:
            return True
        began_s = still_since_s = time.monotonic()  # noqa: TID251 - threads live in real time
        places: object = None
        with self._changed:
            while not self._changed.wait_for(lambda: self._running == 0, LOOK_S):
                now_s, seen = time.monotonic(), self._places()  # noqa: TID251 - as above
                if seen != places:
                    places, still_since_s = seen, now_s
                if now_s - still_since_s >= STILL_S or now_s - began_s >= PATIENCE_S:
                    return False
        return True

    def release(self) -> None:
        """Hold the schedule no more: from now on threads run beside it."""
        self._released = True

    def wait(self, seconds: float) -> None:
        """Give the threads that run a moment of real time, or less if one of them comes back."""
        with self._changed:
            before = self._running
            self._changed.wait_for(lambda: self._running != before, seconds)

    def stacks(self) -> str:
        """Where the worker threads stand, innermost line last."""
        frames = sys._current_frames()  # pyright: ignore[reportPrivateUsage]  # documented, in spite of its name
        with self._changed:
            inside = dict(self._inside)
        shown = [
            f"{name}:\n{''.join(traceback.format_stack(frames[ident])[-STACK_LINES:])}".rstrip()
            for ident, name in inside.items()
            if ident in frames
        ]
        return "\n".join(shown)

    def _places(self) -> object:
        """Where every worker thread is, and how long it has computed, as something that compares."""
        frames = sys._current_frames()  # pyright: ignore[reportPrivateUsage]  # as above
        return [
            (ident, id(frame), frame.f_lasti, _computed_ms(ident))
            for ident in self._inside
            if (frame := frames.get(ident)) is not None
        ]


def _computed_ms(ident: int) -> int:
    """The processor time of a thread, so a long call into C does not look like waiting; 0 where the system does not say."""
    if not hasattr(time, "pthread_getcpuclockid"):
        return 0
    return time.clock_gettime_ns(time.pthread_getcpuclockid(ident)) // 1_000_000
