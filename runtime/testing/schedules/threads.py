"""Worker threads under a test's eyes: :func:`watched_threads` tells a :class:`ThreadWatch` when one runs, and when it waits.

With ``runtime.testing.schedules.schedule`` the only file that uses trio's private names, which ``private`` lists.
"""

from __future__ import annotations

# pyright: reportPrivateUsage=false
import contextlib
import functools
import importlib
import queue
import threading
from collections.abc import Callable, Generator
from typing import Any, Protocol, final

import trio

from actors.errors import UsageError
from runtime.testing.schedules.private import check_trio


class ThreadWatch(Protocol):
    """Who is told about worker threads."""

    def running(self) -> None:
        """One more worker thread runs: it was started, or continues after it waited for the loop. Called in the loop's thread."""
        ...

    def paused(self) -> None:
        """One worker thread has ended or waits for the loop, which has its message already. Called in that thread."""
        ...

    def entered(self) -> None:
        """The calling thread begins to work for trio. Called in that thread."""
        ...

    def left(self) -> None:
        """It has done its work. Called in that thread."""
        ...

    def stranger_waits(self, token: trio.lowlevel.TrioToken) -> None:
        """A thread that trio did not start waits for the loop of `token`. Called in that thread."""
        ...

    def stranger_goes_on(self, token: trio.lowlevel.TrioToken) -> None:
        """It has its answer. Called in the loop's thread."""
        ...


@final
class _AnswerQueue:
    """Stands in for the queue in which a thread waits for the loop's answer."""

    def __init__(self, waits: Callable[[], None], goes_on: Callable[[], None]) -> None:
        self._waits = waits
        self._goes_on = goes_on
        self._queue: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def get(self) -> Any:
        self._waits()
        return self._queue.get()

    def put_nowait(self, answer: Any) -> None:
        self._goes_on()
        self._queue.put_nowait(answer)


@contextlib.contextmanager
def watched_threads(watch: ThreadWatch, *, forbid: bool = False) -> Generator[None]:
    """Tell `watch` about the threads that trio starts for runs of the calling thread, while the block runs.

    Those are threads of ``trio.to_thread`` and of ``trio.lowlevel.start_thread_soon``. With `forbid`, none is started: both raise
    ``UsageError`` instead.
    """
    check_trio()
    threads: Any = importlib.import_module("trio._threads")
    former_start, former_send = threads.start_thread_soon, threads._send_message_to_trio
    home, ours = threading.get_ident(), threading.local()

    def start(function: Callable[[], Any], deliver: Callable[[Any], object], name: str | None = None) -> None:
        if threading.get_ident() != home:
            former_start(function, deliver, name)
            return
        if forbid:
            raise UsageError(
                f"worker threads are forbidden in this test, and {name or 'trio.to_thread.run_sync'} wants one.\n"
                "  Fix: make the function async, or allow threads with threads='hold'."
            )

        def work() -> Any:
            ours.watched = True
            watch.entered()
            try:
                return function()
            finally:
                watch.left()
                ours.watched = False

        def delivered(result: Any) -> None:
            try:
                deliver(result)
            finally:
                watch.paused()

        watch.running()
        former_start(work, delivered, name)

    def send(token: Any, message: Any) -> Any:
        if getattr(ours, "watched", False):
            object.__setattr__(message, "queue", _AnswerQueue(watch.paused, watch.running))
        elif token is not None:
            stranger = functools.partial(watch.stranger_waits, token), functools.partial(watch.stranger_goes_on, token)
            object.__setattr__(message, "queue", _AnswerQueue(*stranger))
        return former_send(token, message)

    public: Any = trio.lowlevel
    former_public = public.start_thread_soon
    threads.start_thread_soon, threads._send_message_to_trio, public.start_thread_soon = start, send, start
    try:
        yield
    finally:
        threads.start_thread_soon, threads._send_message_to_trio = former_start, former_send
        public.start_thread_soon = former_public
