"""One conversation at work: its turns, who waits for one, and the actor that stops when no one does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

import attrs
import trio

from actors.actor import Actor, ActorRef, Reply, Request
from actors.graphs.conversations import Turn
from runtime.graphs.runs.run import ActiveRun
from runtime.graphs.stored_talks import StoredTalk


@final
@attrs.frozen(eq=False)
class Take(Request[None]):
    """Asks for the turn; answered when it has come. It is held until `released` is set."""

    released: trio.Event


@final
@attrs.frozen
class _Quiet:
    """Nothing has been said for a while."""


@final
class TurnKeeper(Actor):
    """Gives the turns of one conversation in the order in which they are asked for."""

    def __init__(self, idle_s: float, is_wanted: Callable[[], bool], when_quiet: Callable[[], None]) -> None:
        self._idle_s = idle_s
        self._is_wanted = is_wanted
        self._when_quiet = when_quiet

    async def receive(self, message: Take | _Quiet) -> None:
        """Give the turn and wait until it is given back; or stop."""
        if isinstance(message, Take):
            reply: Reply[None] = self.context.reply_later()
            if reply.wanted:
                reply.send(None)
                await message.released.wait()
        elif not self._is_wanted():
            self.context.stop()
            self._when_quiet()
            return
        self.context.schedule_once(self._idle_s, _Quiet(), key="quiet")


@final
@attrs.define(eq=False)
class Talk:
    """What is known of one conversation."""

    turns: tuple[Turn, ...] = ()
    ref: ActorRef[Any] | None = None
    run: ActiveRun | None = None
    """The run that has the turn."""
    interruptions: int = 0
    merged: int = 0
    """Messages that were said into runs."""
    last: int = 0
    """The number of the newest message, or of who wanted the turn."""
    stored: StoredTalk | None = None
    """Where it is kept; None in a runtime without a store."""
    opening: trio.Lock | None = None
    _line: dict[int, trio.Event] | None = None
    """Who has the turn and who waits for it, in the order of arrival; None: no one does. Most conversations are quiet."""

    @property
    def waiting(self) -> int:
        """Messages that wait for the turn, or have it."""
        return len(self._line or ())

    def join(self, number: int | None = None) -> int:
        """Stand in line, behind all others; returns the number of the place. Not a checkpoint: the order is decided here."""
        if number is None:
            self.last = number = self.last + 1
        self._line = self._line or {}
        self._line[number] = trio.Event()
        self._call_first()
        return number

    async def wait_first(self, number: int) -> None:
        """Wait until no one is before `number`."""
        assert self._line is not None, "it stands in line"
        await self._line[number].wait()

    def leave(self, number: int) -> None:
        """Give the place up, and the turn with it."""
        assert self._line is not None, "it stands in line"
        del self._line[number]
        self._call_first()
        if not self._line:
            self._line = None

    def _call_first(self) -> None:
        for event in (self._line or {}).values():
            event.set()
            return
