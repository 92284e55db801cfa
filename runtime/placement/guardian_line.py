"""The runtime's end of the line to a guardian: what it is told, signs of life in both directions, and the end of its host."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from collections.abc import Mapping
from typing import Any, Final, final

import trio

from runtime.placement.link import BEATS_IN, FENCE_AT
from runtime.placement.places import Gone, Invitation

BEAT: Final = b"b"
KILL: Final = b"k"
_ENDED: Final = b"x"
_CODE_BYTES: Final = 4
"""How long the exit code is that follows the word of the host's end."""


def told_line(invitation: Invitation, **more: Any) -> bytes:
    """What the guardian and the host are told, as its first line: over a socket, since others can read a command line."""
    told: Mapping[str, Any] = {
        "flags": [f"-W{each}" for each in sys.warnoptions],
        "path": own_path(),
        "place": invitation.place,
        "host": invitation.host,
        "incarnation": invitation.incarnation,
        "secret": invitation.secret.hex(),
        "dead_after_s": invitation.dead_after_s,
        "watchdog_s": invitation.watchdog_s,
        "silent_after_s": FENCE_AT * invitation.dead_after_s,
        **more,
    }
    return json.dumps(told).encode() + b"\n"


def own_path() -> list[str]:
    """Where this process finds modules; a process that it starts may work in another folder."""
    return [os.path.abspath(each) for each in sys.path]


@final
class GuardianLine:
    """The line to the guardian of one host."""

    def __init__(self, stream: trio.abc.Stream, dead_after_s: float) -> None:
        """A line over `stream`, which it does not close."""
        self._stream = stream
        self._dead_after_s = dead_after_s
        self._kill = trio.Event()

    def kill(self) -> None:
        """Have the host killed, while :meth:`carry` runs."""
        self._kill.set()

    async def carry(self) -> Gone:
        """Give signs of life until the host has ended, or nothing was heard of its guardian for ``dead_after_s``."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._beat)
            gone = await self._listen()
            nursery.cancel_scope.cancel()
        return gone

    async def _beat(self) -> None:
        every_s = min(1.0, FENCE_AT * self._dead_after_s / BEATS_IN)
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while not self._kill.is_set():
                await self._stream.send_all(BEAT)
                with trio.move_on_after(every_s):
                    await self._kill.wait()
            await self._stream.send_all(KILL)

    async def _listen(self) -> Gone:
        left = more = b""
        silent = 0
        while True:
            # In parts: what came while this loop was held is not read yet, and a part that comes late is one part only.
            with trio.move_on_after(self._dead_after_s / BEATS_IN) as scope:
                try:
                    more = bytes(await self._stream.receive_some(64))
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    more = b""
            if scope.cancelled_caught:
                silent += 1
                if silent < BEATS_IN:
                    continue
                return Gone(f"nothing was heard of its guardian for {self._dead_after_s:g} s", self._dead_after_s)
            silent = 0
            if not more:
                return Gone("its guardian ended")
            _, begins, code = (left + more).partition(_ENDED)  # signs of life come before it, and it may come in pieces
            if len(code) >= _CODE_BYTES:
                return Gone(_how(int.from_bytes(code[:_CODE_BYTES], "big", signed=True)))
            left = begins + code


def _how(code: int) -> str:
    if code >= 0:
        return f"its process ended with exit code {code}"
    try:
        return f"its process was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"its process was ended by signal {-code}"
