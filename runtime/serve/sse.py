"""The events of a run over HTTP: server-sent events, at the pace of each reader, and JSON Lines of what there is.

A run never waits for its readers: they read what is kept of it. What has come since a reader last took something goes out in
slices, so one which takes nothing holds little memory, and none of the others'.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, Protocol, final, runtime_checkable

import attrs
import trio

from actors.store_errors import StoreError
from runtime.embed.disconnects import Receive, Scope, Send
from runtime.serve.joining import joined
from runtime.serve.limits import CallerUsage, Limits
from runtime.serve.problem_documents import problem_of
from runtime.serve.timeouts import Timeouts
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
FEW: Final = 16
"""So many events, and no more, are written for all readers at the same time."""
RETRY: Final = b"retry: 1000\n\n"
HEADERS: Final = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # nginx would hold events back
)


@runtime_checkable
class EndlessResponse(Protocol):
    """A response that ends when what it follows does; to HEAD, its headers are the answer."""

    @property
    def head(self) -> Sequence[tuple[bytes, bytes]]:
        """Its headers."""
        ...

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        ...


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


def frame(seq: int, name: str, text: bytes) -> Sequence[bytes]:
    """One event, in parts: its text is the same object for all readers."""
    return b"id: %d\nevent: %s\ndata: " % (seq, name.encode("ascii")), text, b"\n\n"


def slices(parts: Iterable[bytes]) -> Iterator[bytes]:
    """`parts` put together to writes of at most ``SLICE_BYTES``, and cut where one is longer.

    While one of them is written, which may take long, nothing else of its length is held.
    """
    waiting: list[bytes] = []
    size = 0
    for part in parts:
        if size + len(part) > SLICE_BYTES:
            if waiting:
                body = b"".join(waiting)
                waiting.clear()
                yield body
                del body
            size = 0
            if len(part) > SLICE_BYTES:
                for at in range(0, len(part), SLICE_BYTES):
                    yield part[at : at + SLICE_BYTES]
                continue
        waiting.append(part)
        size += len(part)
    if waiting:
        body = b"".join(waiting)
        waiting.clear()
        yield body


@final
class Streams:
    """What the open event streams of a service have in common.

    Args:
        limits: after how long a stream that takes nothing is closed.
        usage: of whom they are counted.
        is_ending: whether the service ends, and has no run left.
    """

    told: tuple[RunRecord, int, int, bool] | None = None
    """What was written last: of which run, after which number and up to which, and whether for one who sees what is inside. The
    readers of a run are woken one after the other, and most of them want the same."""
    body: bytes = b""
    """That, as it was written."""

    def __init__(self, limits: Limits, usage: CallerUsage, is_ending: Callable[[], bool]) -> None:
        self.usage = usage
        self.is_ending = is_ending
        self.archive: Archive | None = None
        """The runs of the store; None without one."""
        self.quiet: Timeouts[EventStreamResponse] = Timeouts(QUIET_S, EventStreamResponse.note_quiet)
        """Those that wait for events."""
        self.stalled: Timeouts[EventStreamResponse] = Timeouts(limits.stall_s, EventStreamResponse.note_stalled)
        """Those that wait for their clients."""


@final
@attrs.define(eq=False)
class EventStreamResponse:
    """An ASGI response: the events of `record` after number `after`, until the run is over, the service or the client leaves.

    A thousand clients are a thousand of these, most of them waiting: hence one task and few frames for each, and no cancel scope
    but that of the nursery.
    """

    record: RunRecord
    reader: Reader
    after: int
    """The number of the last event that the client has."""
    streams: Streams
    caller: str
    """As whose stream it counts."""
    headers: Sequence[tuple[bytes, bytes]] = ()
    left: Callable[[], object] | None = None
    """Called if it has ended before the run."""
    _send: Send | None = None
    _nursery: trio.Nursery | None = None
    _task: trio.lowlevel.Task | None = None
    """The one that writes."""
    _held: bytes = RETRY
    """What goes out together with the next piece."""
    _is_quiet: bool = False
    _is_whole: bool = False
    _failure: Exception | None = None

    @property
    def head(self) -> Sequence[tuple[bytes, bytes]]:
        """Its headers."""
        return (*HEADERS, *self.headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it: another task writes, while this one looks for the client's departure.

        Raises:
            HttpProblem: it is one stream too many.
        """
        try:
            self.streams.usage.begin_stream(self.caller)
            try:
                self._send = send
                await send({"type": "http.response.start", "status": 200, "headers": [*self.head]})
                async with trio.open_nursery() as self._nursery:
                    self._nursery.start_soon(self._write_all)
                    while (await receive())["type"] != "http.disconnect":
                        pass
                    self._nursery.cancel_scope.cancel()
                if self._failure is not None:
                    raise self._failure
                if self._is_whole:
                    await send({"type": "http.response.body", "body": b"", "more_body": False})
            finally:
                self.streams.usage.end_stream(self.caller)
        finally:
            if self.left is not None and not self.record.is_over:
                self.left()

    async def _write_all(self) -> None:
        assert self._nursery is not None, "it runs this"
        self._task = trio.lowlevel.current_task()
        try:
            await self._follow()
            self._is_whole = True
        except Exception as error:  # noqa: BLE001 - raised by the other task, bare: the nursery would put it into a group
            self._failure = error
        self._nursery.cancel_scope.cancel()

    async def _follow(self) -> None:
        """Write events as they come, until no more will."""
        record, archive, last = self.record, self.streams.archive, self.after
        while True:
            entries = record.after(last)[:BATCH]
            if entries:
                if archive is not None and not await self._are_kept(archive, entries):
                    return  # the client asks again, and is given what is kept
                await self._tell(entries, last)
                last = entries[-1].seq
            elif self._held:
                await self._write(self._taken())
            elif record.is_over or record.is_gone or record.is_elsewhere:
                return
            elif self.streams.is_ending():
                await trio.lowlevel.checkpoint()  # the last event of a run that has just ended comes first
                if not record.after(last):
                    return  # it waits out of memory, and goes on where the service starts again
            else:
                self._is_quiet = False
                self.streams.quiet.begin(self)
                try:
                    await record.wait()
                finally:
                    self.streams.quiet.end(self)
                if self._is_quiet:
                    await self._write(QUIET)
                    if archive is not None and await archive.is_replaced(record):
                        return

    async def _tell(self, entries: Sequence[KeptEvent], last: int) -> None:
        """Write `entries`, which come after number `last`."""
        streams, key = self.streams, None
        if len(entries) <= FEW and not self._held and not self.reader.kinds:
            key = (self.record, last, entries[-1].seq, self.reader.inside)
            if key == streams.told:
                await self._write(streams.body)
                return
            parts = list(self._parts(entries))
            if sum(map(len, parts)) <= SLICE_BYTES:
                streams.told, streams.body = key, b"".join(parts)
                await self._write(streams.body)
                return
        for part in slices(self._parts(entries)):
            await self._write(part)

    def _taken(self) -> bytes:
        held, self._held = self._held, b""
        return held

    def _parts(self, entries: Sequence[KeptEvent]) -> Iterator[bytes]:
        if self._held:
            yield self._taken()
        wanted = entries if not self.reader.kinds else self.reader.wanted(entries)
        for entry, text in self.reader.texts(self.record, wanted if len(entries) == 1 else joined(wanted)):
            yield from frame(entry.seq, entry.name, text)

    async def _write(self, body: bytes) -> None:
        assert self._send is not None, "the response has begun"
        self.streams.stalled.begin(self)
        try:
            await self._send({"type": "http.response.body", "body": body, "more_body": True})
        finally:
            self.streams.stalled.end(self)

    def note_quiet(self) -> None:
        """No event has come for a while."""
        assert self._task is not None, "it waits"
        self._is_quiet = True
        self.record.nudge(self._task)

    def note_stalled(self) -> None:
        """The client has taken nothing for too long: give the response up."""
        assert self._nursery is not None, "it writes"
        self._nursery.cancel_scope.cancel()

    async def _are_kept(self, archive: Archive, entries: Sequence[KeptEvent]) -> bool:
        """Wait until `entries` are in the store, if the run is; False: they must not be sent."""
        while True:
            try:
                return await archive.keep(self.record, entries)
            except StoreError:
                if self.streams.is_ending():
                    return False
                await self._write(self._taken() + QUIET)
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
