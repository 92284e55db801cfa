"""Trio as a guest on a running asyncio loop: same thread, one guest per loop, however many runtimes are open on it.

Sync functions of trio work from asyncio code of that thread while the guest runs, so only what blocks has to cross. The guest
starts with the first runtime that is opened on the loop and has ended when the last one is closed.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
import warnings
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final, ParamSpec, TypeVar, final

import trio
from outcome import Error, Outcome, Value

from actors.errors import UsageError
from runtime.app import Runtime
from runtime.embed import selector_guest
from runtime.embed.crossing import MAKERS, HostCall, HostSession, undo

P = ParamSpec("P")
T = TypeVar("T")

_PORTAL: Final = "open_runtime_portal() of runtime.embed.portal"
_LEAVE_FIRST: Final = "  Fix: leave the `async with` block before the loop is closed; asyncio.run() sees to that."


@final
class Guest:
    """One trio run on one loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.sessions: set[HostSession] = set()
        self.is_ending = False
        self._is_abandoned = False
        self._pid = os.getpid()
        self.ended: asyncio.Future[None] = loop.create_future()
        self._started: asyncio.Future[trio.Nursery] = loop.create_future()
        self._stop = trio.Event()
        selector_guest.start(self._main, loop, self._post, self._done)
        atexit.register(self._at_exit)

    def _post(self, callback: Callable[[], object]) -> None:
        try:
            self.loop.call_soon_threadsafe(callback)
        except RuntimeError:
            if not self.loop.is_closed():
                raise
            self._complain()

    def _at_exit(self) -> None:
        if os.getpid() == self._pid:
            self._complain()

    def _complain(self) -> None:
        """The loop is gone and trio can run there no more. It has no task left to raise in, so this is a warning, once."""
        if not self._is_abandoned:
            self._is_abandoned = True
            warnings.warn(
                "an asyncio loop has ended while a runtime was open on it: its runs and actors stopped where they were, without "
                f"their clean-up.\n{_LEAVE_FIRST}",
                RuntimeWarning,
                stacklevel=2,
            )

    async def _main(self) -> None:
        async with trio.open_nursery() as nursery:
            if not self._started.done():
                self._started.set_result(nursery)
            await self._stop.wait()

    def _done(self, result: Outcome[Any]) -> None:
        atexit.unregister(self._at_exit)
        if _here.guest is self:
            _here.guest = None
        for session in list(self.sessions):
            if isinstance(result, Error):
                session.error = session.error or result.error
            session.end()
        if not self.ended.done():
            self.ended.set_result(None)

    async def admit(self, session: HostSession) -> None:
        """Let `session` be served by this guest."""
        self.sessions.add(session)
        nursery = await asyncio.shield(self._started)
        session.has_begun = True
        nursery.start_soon(session.serve, name="understudy runtime")

    async def dismiss(self, session: HostSession) -> None:
        """`session` is over; the last one takes the guest with it."""
        self.sessions.discard(session)
        if not self.sessions and not self.is_ending:
            self.is_ending = True
            self._stop.set()
            if (cancelled := await wait_uncancelled(self.ended)) is not None:
                raise cancelled


class _Here(threading.local):
    guest: Guest | None = None


_here = _Here()


async def guest_of_this_loop() -> Guest:
    """The guest on the running loop; started if need be.

    Raises:
        UsageError: no asyncio loop runs in this thread, or trio runs here already in another way.
    """
    if trio.lowlevel.in_trio_task():
        raise UsageError(
            "open_runtime_asyncio() was called from a trio task.\n  Fix: async with open_runtime(...) works right here."
        )
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError as error:
        raise UsageError(
            "open_runtime_asyncio() needs a running asyncio loop in this thread, and there is none.\n"
            f"  Fix: call it in a coroutine under asyncio.run(); or use {_PORTAL}, which needs no loop."
        ) from error
    while (guest := _here.guest) is not None and (guest.is_ending or guest.loop is not loop):
        if guest.loop is not loop:
            raise _taken_by(guest.loop)
        await asyncio.shield(guest.ended)
    if guest is None:
        if trio.lowlevel.in_trio_run():
            raise UsageError(
                "another trio run is active in this thread, and a thread has room for one.\n"
                f"  Fix: async with open_runtime(...) inside that run; or use {_PORTAL}, which has its own thread."
            )
        guest = _here.guest = Guest(loop)
    return guest


def _taken_by(loop: asyncio.AbstractEventLoop) -> UsageError:
    if not loop.is_closed():
        return UsageError(
            "a runtime is open on another asyncio loop of this thread, and a thread has room for one trio run.\n"
            f"  Fix: close that runtime first; or use {_PORTAL}, which has its own thread."
        )
    return UsageError(
        f"an asyncio loop of this thread was closed while a runtime was open on it, so trio never ended here.\n{_LEAVE_FIRST}"
    )


@final
class AsyncioHost:
    """How coroutines of one loop reach one runtime; the faces' way across."""

    def __init__(self, guest: Guest, session: HostSession) -> None:
        self.hold = session.hold
        self._guest = guest
        self._session = session
        self._pid = os.getpid()

    @property
    def is_over(self) -> bool:
        """Whether the runtime has ended."""
        return self._session.is_over

    def check(self, what: str) -> None:
        """Reject calls from where they cannot be served."""
        if os.getpid() != self._pid:
            raise UsageError(
                f"{what}: this process was forked from process {self._pid} while the runtime was open there.\n"
                "  Fix: open the runtime after the fork; with multiprocessing, take the start method 'spawn'."
            )
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            loop = None
        if loop is not self._guest.loop:
            where = "another asyncio loop" if loop is not None else "a thread without a running asyncio loop"
            raise UsageError(
                f"{what} was called from {where}; this runtime belongs to the loop that opened it.\n"
                f"  Fix: asyncio.run_coroutine_threadsafe(..., loop); or share one runtime between threads with {_PORTAL}."
            )

    def call_now(self, what: str, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a sync function of the runtime: trio's sync functions work in the guest's thread."""
        self.check(what)
        if self._session.is_over:
            raise self._session.closed(what)
        return function(*args, **kwargs)

    async def cross(
        self, what: str, timeout: float | None, function: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Await ``function(...)`` under trio; cancelled, cancel it and wait until it has stopped."""
        self.check(what)
        call = HostCall(what, partial(function, *args, **kwargs), timeout)
        self._session.begin(call)
        try:
            await self._ended(call)
        except asyncio.CancelledError as cancelled:
            call.cancel()
            await wait_uncancelled(self._ended(call))
            if isinstance(call.outcome, Error) and not isinstance(call.outcome.error, UsageError):
                raise cancelled from call.outcome.error
            if isinstance(call.outcome, Value) and getattr(function, "__func__", None) in MAKERS:
                await wait_uncancelled(self._take_back(what, call.outcome.value))
            raise
        assert call.outcome is not None, "a call that has ended has an outcome"
        result: T = call.outcome.unwrap()
        return result

    def _ended(self, call: HostCall) -> asyncio.Future[None]:
        future = self._guest.loop.create_future()
        if call.outcome is not None:
            future.set_result(None)
        call.on_end = lambda: None if future.done() else future.set_result(None)
        return future

    def _take_back(self, what: str, made: Any) -> asyncio.Future[None]:
        runtime = self._session.runtime
        assert runtime is not None, "it has made something"
        call = HostCall(f"{what}, taken back,", partial(_take_back, runtime, made), None)
        self._session.begin(call)
        return self._ended(call)


async def _take_back(runtime: Runtime, made: Any) -> None:
    await undo(runtime, made)


async def wait_uncancelled(future: asyncio.Future[None]) -> asyncio.CancelledError | None:
    """Wait for `future` to the end, even if it is cancelled meanwhile; return the cancellation, for the caller to raise."""
    cancelled: asyncio.CancelledError | None = None
    while not future.done():
        try:
            await asyncio.shield(future)
        except asyncio.CancelledError as error:
            cancelled = error
    return cancelled
