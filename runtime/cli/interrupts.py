"""Ctrl-C: what runs is cancelled and cleaned up, and the process ends within a second even if something will not end."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
from collections.abc import Awaitable, Callable
from types import FrameType
from typing import Final, TypeVar

import trio

T = TypeVar("T")

INTERRUPTED: Final = 130
"""The exit code: 128 + SIGINT, as shells have it."""
GRACE_S: Final = 0.7
"""How long clean-up may take after Ctrl-C."""


def run_until_interrupted(main: Callable[[], Awaitable[T]], *, clock: trio.abc.Clock | None = None) -> T:
    """``trio.run(main)``, but Ctrl-C cancels `main` as a whole instead of raising wherever the program happens to be.

    When `main` has not ended ``GRACE_S`` seconds later, because a node holds the event loop or sits in a thread, or at a second
    Ctrl-C, the process ends immediately with :data:`INTERRUPTED`. What `main` raises while it is cancelled is dropped.

    Raises:
        KeyboardInterrupt: Ctrl-C came, and `main` has ended.
    """
    scope, interrupted = trio.CancelScope(), threading.Event()

    async def guarded() -> T:
        token = trio.lowlevel.current_trio_token()

        def on_interrupt(_signal: int, _frame: FrameType | None) -> None:
            if interrupted.is_set():
                end_now()
            interrupted.set()
            timer = threading.Timer(GRACE_S, end_now)
            timer.daemon = True
            timer.start()
            token.run_sync_soon(scope.cancel)

        is_main = threading.current_thread() is threading.main_thread()
        previous = signal.signal(signal.SIGINT, on_interrupt) if is_main else None
        try:
            with scope:
                return await main()
        finally:
            if previous is not None:
                signal.signal(signal.SIGINT, signal.SIG_IGN if interrupted.is_set() else previous)
        raise KeyboardInterrupt

    try:
        return trio.run(guarded, clock=clock)
    except BaseException:
        if interrupted.is_set():
            raise KeyboardInterrupt from None
        raise


def leave_quickly() -> None:
    """Spare the interpreter's exit the search for garbage among everything that was imported: half a second with LiteLLM."""
    gc.disable()
    gc.freeze()


def end_now() -> None:
    """End the process without asking anybody. Processes that it started notice by their standard input."""
    say_interrupted()
    os._exit(INTERRUPTED)


def say_interrupted() -> None:
    """The one line; on a terminal, in place of the ``^C`` and of the line of progress."""
    begin = "\r\x1b[K" if sys.stderr.isatty() else ""
    sys.stderr.write(f"{begin}understudy: interrupted\n")
    sys.stderr.flush()
