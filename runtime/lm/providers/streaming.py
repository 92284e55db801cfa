"""An answer on its way: bytes to events to typed pieces, each wait of them bounded.

The waits are cancel scopes around single reads. None of them reaches into the caller's block, so a slow consumer is never
cancelled; the answer's own time simply runs on meanwhile.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Self, final

import attrs
import trio

from actors.errors import LMError, LMReplyUnreadable, LMTimeout, UsageError
from actors.lm import Completion, Delta, ReasoningDelta, TextDelta, ToolCallDelta
from runtime.lm.http.sse import EventReader, EventTooLarge, LineReader, ServerEvent
from runtime.lm.http.transport import HttpReply, HttpStream
from runtime.lm.providers.event_stream import CONTENT_TYPE, BinaryEventReader, NotAnEvent
from runtime.lm.providers.failures import MENDS, has_error, shorten
from runtime.lm.providers.sending import read_reply
from runtime.lm.providers.translation import Exchange, Translator

_READERS: Mapping[str, type[EventReader | LineReader | BinaryEventReader]] = {
    "text/event-stream": EventReader,
    "application/x-ndjson": LineReader,
    CONTENT_TYPE: BinaryEventReader,
}
"""What reads a stream, by its content type. Anything else is no stream."""
_LAST_BYTES_S = 0.25
"""How long the end of the body may take after the last piece, so that the connection can serve again."""


@final
@attrs.frozen(kw_only=True)
class Waits:
    """The longest waits of one streamed answer. Seconds; ``inf`` for none."""

    first_token_s: float
    """From sending the request to the first piece."""
    between_tokens_s: float
    """From one piece to the next."""
    until: float
    """When the whole answer must have come, on trio's clock."""
    total_s: float
    """How long that was at first."""


def timed_out(phase: str, seconds: float, option: str) -> LMTimeout:
    """The error for a wait that was too long."""
    return LMTimeout(
        f"{phase} within {seconds:g} s.\n  Mend: try again later, ask for less (max_tokens), or set LMClient(..., {option}=…)."
    )


@final
class AnswerStream:
    """What ``async with lm.stream(messages) as stream`` gives; see ``actors.lm.LMStream``. Made by the client."""

    def __init__(self, translator: Translator, exchange: Exchange, http: HttpStream, waits: Waits, requests: int) -> None:
        self._translator = translator
        self._exchange = exchange
        self._http = http
        self._waits = waits
        self._requests = requests
        self._events: EventReader | LineReader | BinaryEventReader = EventReader()
        self._chunks = translator.chunks(exchange)
        self._pieces: deque[Delta] = deque()
        self._completion: Completion | None = None
        self._has_ended = False
        self.explain: Callable[[LMError], None] = lambda error: None
        """Writes into an error which call it ended."""
        self.on_whole: list[Callable[[Completion], None]] = []
        """Called when the whole answer has come."""

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Delta:
        """The next piece. Raises what ``actors.lm.LMStream`` says."""
        if not self._pieces and not self._has_ended:
            try:
                await self._bounded(
                    self._fill, self._waits.between_tokens_s, "no further piece of the answer", "between_tokens_s"
                )
            except LMError as error:
                self._has_ended = True
                self.explain(error)
                raise
        if not self._pieces:
            raise StopAsyncIteration
        return self._pieces.popleft()

    @property
    def completion(self) -> Completion:
        """The whole answer. Raises UsageError before its last piece has come."""
        if self._completion is None or self._pieces:
            raise incomplete()
        return self._completion

    async def begin(self) -> None:
        """Wait for the first piece, or for the end of an answer without any."""
        kind = self._http.headers.get("content-type", "").lower()
        make = next((make for name, make in _READERS.items() if name in kind), None)
        if self._http.status == 200 and make is not None:
            self._events = make()
            await self._fill()
        else:
            await self._take_whole()

    async def _bounded(self, wait: Callable[[], Awaitable[None]], limit_s: float, phase: str, option: str) -> None:
        waits, now_s = self._waits, trio.current_time()
        with trio.CancelScope(deadline=min(now_s + limit_s, waits.until)):
            await wait()
            return
        if now_s + limit_s < waits.until:
            raise timed_out(phase, limit_s, option)
        raise timed_out("the answer did not end", waits.total_s, "deadline_s")

    async def _fill(self) -> None:
        """Read until there is a piece or the end."""
        while not self._pieces and not self._has_ended:
            chunk = await anext(self._http.chunks, None)
            try:
                events = self._events.close() if chunk is None else self._events.feed(chunk)
            except (EventTooLarge, NotAnEvent) as error:
                raise self._unreadable(str(error), "") from error
            for event in events:
                self._read(event)
            if chunk is None:
                self._has_ended = True
                if not self._chunks.is_whole:
                    raise self._unreadable("the stream ended before the answer did", self._chunks.text[-80:])
                self._end(self._streamed())
            elif self._chunks.is_done:
                await self._last_bytes()

    async def _last_bytes(self) -> None:
        """The answer is complete; what is left of the body decides whether the connection can serve again."""
        self._has_ended = True
        with trio.move_on_after(_LAST_BYTES_S):
            while await anext(self._http.chunks, None) is not None:
                pass
        self._end(self._streamed())

    def _read(self, event: ServerEvent) -> None:
        data = event.data.encode()
        if has_error(data):
            raise self._translator.error(self._exchange, HttpReply(200, self._http.headers, data))
        try:
            self._pieces.extend(self._chunks.read(event))
        except Exception as error:
            raise self._unreadable(f"{type(error).__name__} in an event", event.data) from error

    def _streamed(self) -> Completion:
        try:
            return self._translator.streamed(self._exchange, self._chunks)
        except LMError:
            raise
        except Exception as error:
            raise self._unreadable(f"{type(error).__name__} in the whole of it", self._chunks.text[-80:]) from error

    def _end(self, whole: Completion) -> None:
        self._completion = attrs.evolve(whole, attempts=self._requests)
        self._has_ended = True
        for call in self.on_whole:
            call(whole)

    async def _take_whole(self) -> None:
        """An error, or the whole answer from a provider that does not stream."""
        body = b"".join([chunk async for chunk in self._http.chunks])
        reply = HttpReply(self._http.status, self._http.headers, body)
        whole = await read_reply(self._translator.completion, self._exchange, reply)
        self._end(whole)
        self._pieces.extend(pieces_of(whole))

    def _unreadable(self, what: str, words: str) -> LMReplyUnreadable:
        said = f": {shorten(self._translator.redacted(words))!r}" if words else ""
        return LMReplyUnreadable(
            f"the stream from {self._exchange.request.place} cannot be read: {what}{said}.\n  Mend: {MENDS[LMReplyUnreadable]}",
            status=self._http.status,
        )


def incomplete() -> UsageError:
    """The error for reading ``completion`` too early."""
    return UsageError(
        "the answer is not complete: 'completion' was read before the last piece had come.\n"
        "  Mend: read the stream to its end first, with 'async for delta in stream'."
    )


def pieces_of(completion: Completion) -> list[Delta]:
    """A whole answer as the pieces of a stream."""
    calls: list[Any] = list(completion.tool_calls)
    pieces: list[Delta] = [ReasoningDelta(completion.reasoning)] if completion.reasoning else []
    pieces += [TextDelta(completion.text)] if completion.text else []
    return pieces + [
        ToolCallDelta(index, call.get("id"), call["function"]["name"], call["function"]["arguments"])
        for index, call in enumerate(calls)
    ]
