"""The events of a run over HTTP: server-sent events, at the pace of each reader, and JSON Lines of what there is.

A run never waits for its readers: they read what is kept of it. What has come since a reader last took something goes out in
slices, so one which takes nothing holds little memory, and none of the others'.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, final

import attrs
import trio

from actors.store_errors import StoreError
from runtime.embed.disconnects import Receive, Scope, Send
from runtime.serve.joining import joined
from runtime.serve.problem_documents import problem_of
from runtime.traces.archive import Archive
from runtime.traces.event_json import Encoder
from runtime.traces.kept_run import KeptEvent, RunRecord

SLICE_BYTES: Final = 65_536
"""How much goes out in one write."""
QUIET_S: Final = 15.0
"""After how long without an event a comment shows that the connection lives."""
QUIET: Final = b":\n\n"
"""That comment."""
AWAY_S: Final = 1.0
"""How often it is tried again to keep events in a store that fails."""
BATCH: Final = 500
"""Events that are kept and written at a time."""
RETRY: Final = b"retry: 1000\n\n"
HEADERS: Final = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # nginx would hold events back
)


@final
@attrs.frozen
class Reader:
    """Who reads: what is shown, and which events."""

    encoder: Encoder
    inside: bool
    """Whether it sees what errors say, and stacks."""
    kinds: tuple[str, ...] = ()
    """Beginnings of the names of events; empty for all."""

    def wanted(self, entries: Iterable[KeptEvent]) -> Iterator[KeptEvent]:
        """Those of `entries` that it has asked for."""
        for entry in entries:
            if not self.kinds or entry.name.startswith(self.kinds) or entry.name == "events.missed":
                yield entry

    def texts(self, record: RunRecord, entries: Iterable[KeptEvent]) -> Iterator[tuple[KeptEvent, bytes]]:
        """`entries` as JSON."""
        for entry in entries:
            yield entry, entry.text(self.encoder, record.created_at_s, inside=self.inside)


def frame(seq: int, name: str, text: bytes) -> bytes:
    """One event."""
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (seq, name.encode("ascii"), text)


def slices(parts: Iterator[bytes]) -> Iterator[bytes]:
    """`parts` put together to writes of at most ``SLICE_BYTES``, and cut where one is longer."""
    waiting = bytearray()
    for part in parts:
        if waiting and len(waiting) + len(part) > SLICE_BYTES:
            yield bytes(waiting)
            waiting.clear()
        waiting += part
        while len(waiting) > SLICE_BYTES:
            yield bytes(waiting[:SLICE_BYTES])
            del waiting[:SLICE_BYTES]
    if waiting:
        yield bytes(waiting)


@final
class EventStreamResponse:
    """An ASGI response: the events of `record` after number `after`, until the run is over, the service or the client leaves."""

    def __init__(
        self,
        record: RunRecord,
        reader: Reader,
        after: int,
        is_ending: Callable[[], bool],
        stall_s: float,
        headers: Sequence[tuple[bytes, bytes]] = (),
        archive: Archive | None = None,
    ) -> None:
        self._record = record
        self._reader = reader
        self._after = after
        self._is_ending = is_ending
        self._archive = archive
        self._stall_s = stall_s
        self._headers = headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        await send({"type": "http.response.start", "status": 200, "headers": [*HEADERS, *self._headers]})
        writer = ResponseWriter(send, self._stall_s, RETRY)
        if await self._follow(writer):
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _follow(self, writer: ResponseWriter) -> bool:
        record, last = self._record, self._after
        while True:
            entries = record.after(last)[:BATCH]
            if entries:
                if not await self._are_kept(entries, writer):
                    return not writer.is_stalled  # the client asks again, and is given what is kept
                last = entries[-1].seq
                texts = self._reader.texts(record, joined(self._reader.wanted(entries)))
                for part in slices(frame(entry.seq, entry.name, text) for entry, text in texts):
                    if not await writer.write(part):
                        return False
            elif writer.held:
                if not await writer.write(b""):
                    return False
            elif record.is_over or record.is_gone or record.is_elsewhere:
                return True
            elif self._is_ending():
                await trio.lowlevel.checkpoint()  # the last event of a run that has just ended comes first
                if not record.after(last):
                    return True  # it waits out of memory, and goes on where the service starts again
            else:
                with trio.move_on_after(QUIET_S) as quiet:
                    await record.wait()
                if quiet.cancelled_caught and not await writer.write(QUIET):
                    return False
                if quiet.cancelled_caught and self._archive is not None and await self._archive.is_replaced(record):
                    return True

    async def _are_kept(self, entries: Sequence[KeptEvent], writer: ResponseWriter) -> bool:
        """Wait until `entries` are in the store, if the run is; False: they must not be sent, or the client takes nothing."""
        if self._archive is None:
            return True
        while True:
            try:
                return await self._archive.keep(self._record, entries)
            except StoreError:
                if self._is_ending() or not await writer.write(QUIET):
                    return False
                await trio.sleep(AWAY_S)


@final
class ResponseWriter:
    """Writes the pieces of a response, each within a time."""

    def __init__(self, send: Send, stall_s: float, held: bytes = b"") -> None:
        self._send = send
        self._stall_s = stall_s
        self.held = held
        """What goes out together with the next piece."""
        self.is_stalled = False
        """Whether the client has taken nothing for too long."""

    async def write(self, part: bytes) -> bool:
        """Write `part`; False when the client has taken nothing for too long, and the response is to be given up."""
        body, self.held = self.held + part, b""
        with trio.move_on_after(self._stall_s) as stalled:
            await self._send({"type": "http.response.body", "body": body, "more_body": True})
        self.is_stalled = stalled.cancelled_caught
        return not self.is_stalled


@final
class JSONLinesResponse:
    """An ASGI response: the events that there are, one a line, without waiting."""

    def __init__(
        self,
        record: RunRecord,
        reader: Reader,
        after: int,
        stall_s: float,
        headers: Sequence[tuple[bytes, bytes]] = (),
        archive: Archive | None = None,
    ) -> None:
        self._record = record
        self._reader = reader
        self._after = after
        self._stall_s = stall_s
        self._headers = headers
        self._archive = archive

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it; ``Problem``, before anything is sent, if it cannot be kept first."""
        entries = self._record.after(self._after)
        if self._archive is not None:
            for at in range(0, len(entries), BATCH):
                try:
                    are_kept = await self._archive.keep(self._record, entries[at : at + BATCH])
                except StoreError as error:
                    raise problem_of(error, inside=False) from error
                if not are_kept:
                    entries = entries[:at]
                    break
        kind = (b"content-type", b"application/jsonl")
        await send({"type": "http.response.start", "status": 200, "headers": [kind, *self._headers]})
        writer = ResponseWriter(send, self._stall_s)
        for part in slices(text + b"\n" for _, text in self._reader.texts(self._record, self._reader.wanted(entries))):
            if not await writer.write(part):
                return
        await send({"type": "http.response.body", "body": b"", "more_body": False})
