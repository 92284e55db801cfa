"""One actor that waits to hear of the end of another."""

from __future__ import annotations

from typing import final

import trio

from actors.actor import Terminated
from runtime.core.cell import Cell
from runtime.core.envelope import Envelope
from runtime.core.mailbox import Mailbox


@final
class Watch:
    """Puts one ``Terminated`` into a mailbox, ahead of the messages there, when the watched cell is gone permanently."""

    __slots__ = ("_mailbox", "_signal", "_watched")

    def __init__(self, mailbox: Mailbox, watched: Cell) -> None:
        self._mailbox = mailbox
        self._watched = watched
        self._signal: Envelope | None = None

    def begin(self) -> None:
        """Wait for the end; report it immediately if it has come already."""
        self._watched.on_end(self._report)

    def _report(self, end: Terminated) -> None:
        self._signal = Envelope(end, self._watched.address, None, trio.current_time())
        self._mailbox.put_urgent(self._signal)

    def end(self) -> None:
        """Report nothing any more, and take back a report that is still queued."""
        self._watched.forget_on_end(self._report)
        if self._signal is not None and self._signal.holder is self._mailbox:
            self._signal.withdraw()
