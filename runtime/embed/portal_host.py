"""A thread that runs trio for the other threads of a program: they post their calls to it, and sleep until these have ended."""

from __future__ import annotations

import _thread
import atexit
import contextvars
import os
import signal
import threading
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, ParamSpec, TypeVar, final

import trio
from outcome import Error, Value

from actors.errors import UsageError
from runtime.app import Runtime
from runtime.embed.crossing import MAKERS, HostCall, HostSession, OpenRuntime, undo

P = ParamSpec("P")
T = TypeVar("T")

_LOOK_S: Final = 1.0
"""How long a thread waits for a lock at a stretch: a signal that arrives just before the wait is noticed only after it."""
_EXIT_S: Final = 10.0
"""How long the interpreter's exit waits for a runtime that was not closed, in seconds."""


@final
class PortalHost:
    """How the threads of one process reach one runtime; the faces' way across."""

    def __init__(self, open_runtime: OpenRuntime, *, interrupts: bool = False) -> None:
        """With `interrupts`, the main thread gets a ``KeyboardInterrupt`` when a runtime that it has opened ends on its own."""
        self._session = HostSession(open_runtime, self._wake, self._wake)
        self.hold = self._session.hold
        self._change = threading.Semaphore(0)
        self._token: trio.lowlevel.TrioToken | None = None
        self._pid = os.getpid()
        self._interrupts = interrupts and threading.current_thread() is threading.main_thread()
        self._is_open = False
        self.has_interrupted = False
        """Whether the ``KeyboardInterrupt`` that the main thread gets isn't the user's: the runtime has ended."""
        # A daemon, so a program which forgets to close the runtime ends all the same; `_at_exit` then sees to the rest.
        self._thread = threading.Thread(target=self._run, name="understudy portal", daemon=True)

    # --- the thread -------------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            trio.run(self._main)
        except BaseException as error:  # noqa: BLE001 - raised in the thread that opened the portal
            self._session.error = error
        finally:
            self._session.end()
            self._interrupt()

    def _interrupt(self) -> None:
        """The runtime has ended: so must the block in which the main thread waits for something else, a socket perhaps."""
        if not (self._interrupts and self._is_open and self.error is not None and callable(signal.getsignal(signal.SIGINT))):
            return
        self.has_interrupted = True
        if hasattr(signal, "pthread_kill"):
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)  # a wait in the system ends, too
        else:
            _thread.interrupt_main()

    async def _main(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        await self._session.serve()

    def _wake(self) -> None:
        self._change.release()

    # --- opening and closing ------------------------------------------------------------------------------------------------

    def open(self) -> Runtime:
        """Start the thread and open the runtime in it. Interrupted, it leaves nothing behind."""
        self._thread.start()
        try:
            while not self._change.acquire(timeout=_LOOK_S):
                pass
        except BaseException:
            self.close(abrupt=True)
            raise
        if self._session.runtime is None or self._session.is_over:
            self._thread.join()
            raise self._session.error or self._session.closed("open_runtime_portal()")
        atexit.register(self._at_exit)
        self._is_open = True
        return self._session.runtime

    def close(self, *, abrupt: bool) -> None:
        """Close the runtime and wait for its thread. An interruption makes it abrupt; a second one ends the waiting."""
        self._is_open = False
        atexit.unregister(self._at_exit)
        if os.getpid() != self._pid:
            return  # the thread did not come along when this process was forked
        self._post(partial(self._session.close, abrupt=abrupt))
        try:
            self._join()
        except BaseException:
            self._post(partial(self._session.close, abrupt=True))
            self._join()
            raise

    def _join(self) -> None:
        while self._thread.is_alive():
            self._thread.join(_LOOK_S)

    @property
    def error(self) -> BaseException | None:
        """Why the runtime ended on its own."""
        return self._session.error

    def _at_exit(self) -> None:
        if os.getpid() == self._pid:
            self._post(partial(self._session.close, abrupt=True))
            self._thread.join(_EXIT_S)

    # --- calling ----------------------------------------------------------------------------------------------------------

    def _post(self, function: Callable[[], object]) -> bool:
        """Have `function` called in the runtime's thread; whether it will be, because trio still runs there."""
        while self._token is None and self._thread.is_alive():
            self._thread.join(0.001)  # interrupted in its first moment: it has no token yet
        if self._token is None:
            return False
        try:
            self._token.run_sync_soon(function)
        except trio.RunFinishedError:
            return False
        return True

    @property
    def is_over(self) -> bool:
        """Whether the runtime has ended."""
        return self._session.is_over

    def check(self, what: str) -> None:
        """Reject calls from where they cannot be served."""
        if os.getpid() != self._pid:
            raise UsageError(
                f"{what}: this process was forked from process {self._pid} while the runtime was open there.\n"
                "  Cause: the runtime's thread did not come along.\n"
                "  Fix: open the runtime after the fork, for example with runtime_per_process(); with multiprocessing, take the "
                "start method 'spawn'."
            )
        if threading.current_thread() is self._thread:
            raise UsageError(
                f"{what} was called in the runtime's own thread, which would wait for itself.\n"
                "  Fix: nodes and actors use the runtime itself (self.context.runtime) and await."
            )

    def call_now(self, what: str, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a sync function of the runtime in its thread."""

        async def called() -> T:
            return function(*args, **kwargs)

        return self.cross(what, None, called)

    def cross(
        self, what: str, timeout: float | None, function: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Wait for ``function(...)`` under trio; interrupted, cancel it and wait until it has stopped."""
        self.check(what)
        call = HostCall(what, partial(function, *args, **kwargs), timeout)
        try:
            self._wait_for(call)
        except BaseException:  # KeyboardInterrupt, or what a signal handler of a server raises in its workers
            if not self._post(partial(self._session.give_up, call)):
                call.end(Error(self._session.closed(what)))
            _wait_for_end(call)
            if isinstance(call.outcome, Value) and getattr(function, "__func__", None) in MAKERS and self._session.runtime:
                self._wait_for(HostCall(f"{what}, taken back,", partial(undo, self._session.runtime, call.outcome.value), None))
            raise
        assert call.outcome is not None, "a call that has ended has an outcome"
        result: T = call.outcome.unwrap()
        return result

    def _wait_for(self, call: HostCall) -> None:
        ended = threading.Lock()
        ended.acquire()
        call.on_end = ended.release
        context = contextvars.copy_context()

        def begin() -> None:
            context.run(self._session.begin, call)

        if not self._post(begin):
            call.end(Error(self._session.closed(call.what)))
        while not ended.acquire(timeout=_LOOK_S):
            pass


def _wait_for_end(call: HostCall) -> None:
    ended = threading.Event()
    call.on_end = ended.set
    while call.outcome is None:
        ended.wait(_LOOK_S)
