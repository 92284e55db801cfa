"""Work that a host outside trio wants done inside: one call, one stream held open, and the runtime they use.

Everything here runs in trio's thread. How a host gets there and how it waits is the business of ``runtime.embed.asyncio`` (guest
mode, the host's own thread) and ``runtime.embed.portal`` (its own thread).
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, final

import trio
from outcome import Error, Outcome, Value

from actors.actor import ActorRef
from actors.errors import UsageError
from actors.groups import without
from actors.supervision import SupervisorRef
from runtime.app import Runtime
from runtime.core.events import EventStream
from runtime.core.foreign_errors import failure_in, is_of_a_dead_loop
from runtime.graphs.deployment import Deployment
from runtime.graphs.handle import RunHandle

OpenRuntime = Callable[[], contextlib.AbstractAsyncContextManager[Runtime]]


@final
class HostCall:
    """One awaitable that a host waits for. It always ends: `on_end` is called once, when no task of the call is left."""

    def __init__(self, what: str, function: Callable[[], Awaitable[Any]], timeout: float | None) -> None:
        self.what = what
        self.outcome: Outcome[Any] | None = None
        self.on_end: Callable[[], None] | None = None
        self._function = function
        self.has_begun = False
        self._timeout = timeout
        self._is_cancelled = False
        self._scope = trio.CancelScope()

    def end(self, outcome: Outcome[Any]) -> None:
        """Settle the call; only the first time counts."""
        if self.outcome is None:
            self.outcome = outcome
            if self.on_end is not None:
                self.on_end()

    def cancel(self) -> None:
        """Cancel the work; the call ends once it has stopped. Before its start or after its end, too."""
        self._is_cancelled = True
        self._scope.cancel()

    async def carry_out(self) -> None:
        """Do the work and settle the call."""
        value = None
        scope = self._scope  # one for the time and the caller both: each costs as much as a step of the scheduler
        if self._timeout is not None:
            scope.deadline = trio.current_time() + self._timeout
        with scope:
            try:
                value = await self._function()
            except BaseException as error:
                failure = failure_in(error)
                if failure is None:
                    raise
                return self.end(Error(failure))  # it is the host's to handle
        if not scope.cancelled_caught:
            return self.end(Value(value))
        if self._is_cancelled:
            return self.end(Error(UsageError(f"{self.what} was cancelled by its caller.")))
        return self.end(Error(timed_out(self.what, self._timeout or 0)))


def timed_out(what: str, timeout: float | None) -> TimeoutError:
    """The error of a call that took longer than its `timeout`."""
    return TimeoutError(
        f"{what} took longer than timeout={timeout:g} s; it was cancelled and has stopped.\n"
        "  Fix: give it more time, or find out with runtime.stream() what is slow."
    )


@final
class HostSession:
    """One runtime that is open inside trio for a host outside; its :meth:`serve` is a task of the code that runs trio."""

    def __init__(self, open_runtime: OpenRuntime, on_started: Callable[[], None], on_ended: Callable[[], None]) -> None:
        self.runtime: Runtime | None = None
        self.error: BaseException | None = None
        """Why the runtime did not open or ended on its own; set when `on_ended` is called."""
        self.has_begun = False
        """Whether :meth:`serve` has been handed out."""
        self.is_over = False
        self._open_runtime = open_runtime
        self._on_started = on_started
        self._on_ended = on_ended
        self._calls: set[HostCall] = set()
        self._nursery: trio.Nursery | None = None
        self._body = trio.Event()
        self._is_abrupt = False
        self._scope = trio.CancelScope()

    async def serve(self) -> None:
        """Open the runtime, keep it open until :meth:`close`, close it."""
        try:
            with self._scope:
                await self._serve()
        finally:
            self.end()

    def end(self) -> None:
        """All is over: settle what is left. Called by :meth:`serve`, and by the host when trio itself has ended."""
        if self.is_over:
            return
        self.is_over, self._nursery = True, None
        for call in list(self._calls):
            call.end(Error(self.closed(call.what)))
        self._on_ended()

    async def _serve(self) -> None:
        task = trio.lowlevel.current_task()
        # The calls are outside of the runtime, because the end of the runtime is what ends them in good order.
        async with trio.open_nursery() as nursery:
            try:
                async with self._open_runtime() as self.runtime:
                    self._nursery = nursery
                    self._on_started()
                    await self._body.wait()
                    self._nursery = None
                    if self._is_abrupt:
                        raise _HostFailed
            except _HostFailed:
                pass
            except BaseException as error:
                ended = without(error, trio.Cancelled)
                if ended is None or is_of_a_dead_loop(error, task):
                    raise
                self.error = ended  # raised where the host opened the runtime
            self._nursery = None
            nursery.cancel_scope.cancel()

    def begin(self, call: HostCall) -> None:
        """Start the work of `call` in its own task, with the caller's context variables."""
        call.has_begun = True
        if self._nursery is None:
            call.end(Error(self.closed(call.what)))
            return
        self._calls.add(call)
        self._nursery.start_soon(self._carry_out, call, name=f"understudy {call.what}")

    async def _carry_out(self, call: HostCall) -> None:
        try:
            await call.carry_out()
        finally:
            self._calls.discard(call)
            call.end(Error(self.closed(call.what)))  # unless it has ended in its own way

    def give_up(self, call: HostCall) -> None:
        """The caller was interrupted: cancel its call, or see to it that it never begins."""
        if call.has_begun:
            call.cancel()
        else:
            call.end(Error(self.closed(call.what)))

    async def hold(self, stream: HeldStream) -> HeldStream:
        """Open `stream` in its own task; return it when it is open."""
        if self._nursery is None:
            raise self.closed(stream.what)
        self._nursery.start_soon(stream.hold, name=f"understudy {stream.what}")
        await stream.wait_open()
        return stream

    def closed(self, what: str) -> UsageError:
        """The error of a call that came too late, chained to what ended the runtime."""
        error = UsageError(f"{what}: the runtime is closed.\n  Fix: call while its `with` block is open.")
        error.__cause__ = self.error
        return error

    def close(self, *, abrupt: bool) -> None:
        """End the runtime: in order, or (`abrupt`, the host's block failed) all immediately. A second time hurries the first."""
        self._is_abrupt = self._is_abrupt or abrupt
        self._body.set()
        if self._nursery is None:
            self._scope.cancel()


class _HostFailed(Exception):
    """The host's block was left with an exception: everything is cancelled immediately."""


@final
class HeldStream:
    """A stream that a host iterates: a task holds it open, because trio's scopes belong to one task."""

    def __init__(
        self,
        what: str,
        opens: Callable[[], contextlib.AbstractAsyncContextManager[AsyncIterator[Any]]],
        timeout: float | None,
    ) -> None:
        self.what = what
        self._opens = opens
        self._timeout = timeout
        self.native: AsyncIterator[Any] | None = None
        """The stream itself, once it is open."""
        self._error: BaseException | None = None
        self._timed_out = False
        self._open = trio.Event()
        self._release = trio.Event()
        self._ended = trio.Event()
        self._scope = trio.CancelScope()

    async def hold(self) -> None:
        """Keep the stream open until it is released, or until its time is up."""
        try:
            with trio.CancelScope() as limit:
                limit.deadline = trio.current_time() + self._timeout if self._timeout is not None else math.inf
                with self._scope:
                    async with self._opens() as self.native:
                        self._open.set()
                        await self._release.wait()
            self._timed_out = limit.cancelled_caught
        except BaseException as error:
            self._error = failure_in(error)  # raised where the host waits for the stream
            if self._error is None:
                raise
        finally:
            self._open.set()
            self._ended.set()

    async def wait_open(self) -> None:
        """Wait until the stream is open. Cancelled, it leaves nothing behind."""
        try:
            await self._open.wait()
        except trio.Cancelled:
            self._scope.cancel()
            with trio.CancelScope(shield=True):
                await self._ended.wait()
            raise
        self._complain()

    async def take(self) -> list[Any]:
        """What has come since the last time, at least one item; an empty list when the stream has ended."""
        if self.native is None:
            return []
        try:
            items = [await anext(self.native)]
        except StopAsyncIteration:
            if self._timed_out or self._error is not None:
                await self._ended.wait()
                self._complain()
            return []
        if isinstance(self.native, EventStream):
            while (event := self.native.take_nowait()) is not None:
                items.append(event)
        return items

    async def release(self) -> None:
        """Close the stream; its run, if it is not over, is cancelled and has stopped when this returns."""
        self._release.set()
        with trio.CancelScope(shield=True):
            await self._ended.wait()
        if self._error is not None:
            raise self._error

    def _complain(self) -> None:
        if self._error is not None:
            raise self._error
        if self._timed_out:
            raise timed_out(self.what, self._timeout)


async def undo(runtime: Runtime, made: RunHandle | Deployment | HeldStream | ActorRef[Any] | SupervisorRef) -> None:
    """Take back what a call has made, because the caller was cancelled before it could receive it."""
    match made:
        case RunHandle():
            await made.cancel()
        case Deployment():
            await made.stop()
        case HeldStream():
            await made.release()
        case _:
            await runtime.stop(made)


MAKERS = frozenset({Runtime.start, Runtime.spawn, Runtime.supervise, Runtime.deploy, HostSession.hold})
"""What :func:`undo` is for."""
