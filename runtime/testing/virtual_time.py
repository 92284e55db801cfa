"""Virtual time that worker threads cannot break: while one runs, the clock holds.

Trio's autojump clock knows nothing of threads: it would jump over ten seconds of deadlines while a thread works for fifty
milliseconds, and every timeout around that thread would fire. :func:`thread_gate` holds it; :class:`ThreadHold` holds a whole
chosen schedule, so that threads finish in the order in which they were started.
"""

from __future__ import annotations

import contextlib
import math
import threading
from collections import Counter
from collections.abc import Callable, Generator
from typing import final

import trio
import trio.testing

from runtime.testing.schedule import in_chosen_run, watched_threads

PATIENCE_S = 30.0
"""Real seconds that a chosen schedule waits for a worker thread."""
STRANGERS_PATIENCE_S = 0.05
"""Real seconds without news after which the clock goes on, when a thread that trio did not start waits for the loop."""


@final
class ThreadGate:
    """Holds the autojump clock while a worker thread runs; a thread that waits for the loop does not count.

    A thread that trio did not start, such as one of ``dspy.Parallel``, is seen only when it waits for the loop. The worker thread
    that started it then most likely waits for it, and the clock would hold for ever: it goes on when nothing comes any more.
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
    """Counts the worker threads that run; :meth:`settle` waits in real time until none does."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._running = 0

    def running(self) -> None:
        """One more runs."""
        with self._changed:
            self._running += 1

    def paused(self) -> None:
        """One fewer runs."""
        with self._changed:
            self._running -= 1
            self._changed.notify_all()

    def stranger_waits(self, token: trio.lowlevel.TrioToken) -> None:
        """See ``ThreadWatch``. A chosen schedule cannot know when a thread comes that trio did not start: none is waited for."""

    def stranger_goes_on(self, token: trio.lowlevel.TrioToken) -> None:
        """See ``ThreadWatch``."""

    def settle(self) -> bool:
        """Block until no thread runs; False when one has not come back within :data:`PATIENCE_S`."""
        if not self._running:
            return True
        with self._changed:
            return self._changed.wait_for(lambda: self._running == 0, PATIENCE_S)
