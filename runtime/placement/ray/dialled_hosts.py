"""Hosts that dial in: above each is a guardian that an engine has started somewhere, and that dials in before it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Final, final

import trio

from actors.placement_errors import HostLost, PlaceUnavailable
from runtime.placement.guardian_line import GuardianLine, told_line
from runtime.placement.places import Gone, Invitation
from runtime.placement.processes import END_S, KILL_S
from runtime.placement.ray.launching import HostOrder, Launching
from runtime.placement.ray.reception import ExpectedCaller, Reception

ENGINE_S: Final = 5.0
"""How long an engine may take to say that what it was to end has ended."""


@final
class DialledHost:
    """See ``StartedHost``."""

    def __init__(self, line: GuardianLine) -> None:
        self._line = line
        self._stream: trio.abc.Stream | None = None
        self._gone: Gone | None = None
        self._over = trio.Event()

    @property
    def stream(self) -> trio.abc.Stream:
        """See ``StartedHost.stream``."""
        assert self._stream is not None, "no one has it before"
        return self._stream

    def connect(self, stream: trio.abc.Stream) -> None:
        """It has dialled in."""
        self._stream = stream

    def kill(self) -> None:
        """See ``StartedHost.kill``: its guardian does it, which knows the process for certain."""
        self._line.kill()

    async def gone(self) -> Gone:
        """See ``StartedHost.gone``."""
        await self._over.wait()
        assert self._gone is not None, "it is set before"
        return self._gone

    async def hear_of_its_end(self, listening: trio.CancelScope, *tellers: Callable[[], Awaitable[Gone]]) -> None:
        """Listen to its guardian and its engine, within the scope; the first that says that it is gone is believed."""

        async def listen(teller: Callable[[], Awaitable[Gone]]) -> None:
            gone = await teller()
            self._gone = self._gone or gone
            self._over.set()

        with listening:
            async with trio.open_nursery() as nursery:
                for teller in tellers:
                    nursery.start_soon(listen, teller)

    async def end(self) -> None:
        """End it by the end of its link; kill it if it does not, or has none yet."""
        if self._stream is not None:
            await trio.aclose_forcefully(self._stream)
            with trio.move_on_after(END_S):
                await self._over.wait()
        if not self._over.is_set():
            self.kill()
            with trio.move_on_after(KILL_S):
                await self._over.wait()


@final
class OpenedCluster:
    """See ``OpenedPlace``."""

    def __init__(self, launching: Launching, reception: Reception, dead_after_s: float, start_timeout_s: float) -> None:
        self._launching = launching
        self._reception = reception
        self._dead_after_s = dead_after_s
        self._start_timeout_s = start_timeout_s

    async def gone(self) -> Gone:
        """See ``OpenedPlace.gone``."""
        return await self._launching.gone()

    @contextlib.asynccontextmanager
    async def start(self, host_id: str, invitation: Invitation, /) -> AsyncGenerator[DialledHost]:
        """See ``Place.start``."""
        async with self._ordered(invitation) as order:
            where = f"host {host_id!r} of place {invitation.place!r}"
            with self._reception.expect() as guardian, self._reception.expect() as dialling:
                self._launching.start(order, guardian.ticket)
                control = await self._arrival(guardian, order, order.ended, where)
                async with _closed(control):
                    told = told_line(invitation, dial=dialling.ticket)
                    with trio.move_on_after(self._dead_after_s):
                        await control.send_all(told)
                    async with self._guarded(control, order) as host:
                        host.connect(await self._arrival(dialling, order, host.gone, where))
                        yield host

    @contextlib.asynccontextmanager
    async def _ordered(self, invitation: Invitation) -> AsyncGenerator[HostOrder]:
        """An order, of which nothing is left when the block is."""
        order = HostOrder(invitation.pending)
        try:
            yield order
        finally:
            with trio.CancelScope(shield=True), trio.move_on_after(ENGINE_S):
                self._launching.end(order)
                await order.ended()

    @contextlib.asynccontextmanager
    async def _guarded(self, control: trio.abc.Stream, order: HostOrder) -> AsyncGenerator[DialledHost]:
        """A host, of which its guardian tells, and its engine; ended when the block is left."""
        line = GuardianLine(control, self._dead_after_s)
        host = DialledHost(line)
        failure: BaseException | None = None
        # A task that is cancelled in the block still ends the host, and must hear of its end, or it waits for as long as it may.
        listening = trio.CancelScope(shield=True)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(host.hear_of_its_end, listening, line.carry, order.ended)
            try:
                yield host
            except BaseException as error:  # noqa: BLE001 - raised below: the nursery would make a group of it
                failure = error
            with trio.CancelScope(shield=True):
                await host.end()
            listening.cancel()
        if failure is not None:
            raise failure

    async def _arrival(
        self, caller: ExpectedCaller, order: HostOrder, gone: Callable[[], Awaitable[Gone]], where: str
    ) -> trio.abc.Stream:
        """The connection, once it is there; the reception closes it.

        Raises:
            HostLost: the process that was to dial is gone. PlaceUnavailable: it did not dial in time.
        """
        lost: list[Gone] = []

        async def end() -> None:
            lost.append(await gone())
            nursery.cancel_scope.cancel()

        with trio.move_on_after(self._start_timeout_s):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(end)
                await caller.arrival()
                nursery.cancel_scope.cancel()
        stream = caller.take()
        if stream is not None:
            return stream
        if lost:
            raise HostLost(
                f"{where} was not started: {lost[0].how}.\n"
                "  Fix: see the cause. Its node must have this version of understudy and of your code, and reach this process at "
                f"{caller.ticket['address']}:{caller.ticket['port']}.",
                how=lost[0].how,
            )
        raise PlaceUnavailable(
            f"{where} was not started within start_timeout_s={self._start_timeout_s:g}{order.room()}.\n"
            "  Fix: give the cluster nodes that have room, ask for less, or wait longer."
        )


@contextlib.asynccontextmanager
async def _closed(stream: trio.abc.Stream) -> AsyncGenerator[None]:
    """Close a stream at the end, without a word: the other side may be cut off."""
    try:
        yield
    finally:
        await trio.aclose_forcefully(stream)
