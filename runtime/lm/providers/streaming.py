"""An answer on its way: bytes to events to typed pieces, each wait of them bounded.

The waits are cancel scopes around single reads. None of them reaches into the caller's block, so a slow consumer is never
cancelled; the answer's own time simply runs on meanwhile.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Self, final

import attrs
import trio

from actors.errors import LMError, LMReplyUnreadable, LMTimeout, UsageError
from actors.lm import Completion, Delta, ReasoningDelta, TextDelta, ToolCallDelta, Usage
from runtime.lm.http.binary_frames import CONTENT_TYPE, NotAnEvent
from runtime.lm.http.http_messages import HttpReply, HttpStream
from runtime.lm.http.sse_reader import EventReader, EventTooLarge, LineReader, ServerEvent
from runtime.lm.http.transport import whole_reply
from runtime.lm.providers.billed_errors import told_usage
from runtime.lm.providers.error_table import FIXES, has_error
from runtime.lm.providers.event_stream import BinaryEventReader
from runtime.lm.providers.exchange import ModelExchange
from runtime.lm.providers.import_litellm import is_warm, warm_up
from runtime.lm.providers.sending import Reading
from runtime.lm.providers.translation import CHARS_PER_TOKEN, Translator

_READERS: Mapping[str, type[EventReader | LineReader | BinaryEventReader]] = {
    "text/event-stream": EventReader,
    "application/x-ndjson": LineReader,
    CONTENT_TYPE: BinaryEventReader,
}
"""What reads a stream, by its content type. Of anything else the first bytes tell: see :func:`_begins_as_events`."""
_FIRST_FIELD = re.compile(rb"(?:\xef\xbb\xbf)?\s*(?:data|event|id|retry)?:")
_FIRST_BYTES = 1024
"""So many are enough to tell."""
_LAST_BYTES_S = 0.25
"""How long the end of the body may take after the last piece, so the connection can serve again."""


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
        f"{phase} within {seconds:g} s.\n  Fix: try again later, ask for less (max_tokens), or set LMClient(..., {option}=…)."
    )


@final
class AnswerStream:
    """What ``async with lm.stream(messages) as stream`` gives; see ``actors.lm.LMStream``. Made by the client."""

    def __init__(self, translator: Translator, exchange: ModelExchange, http: HttpStream, waits: Waits, requests: int) -> None:
        self._translator = translator
        self._exchange = exchange
        self._http = http
        self._waits = waits
        self._requests = requests
        self._events: EventReader | LineReader | BinaryEventReader = EventReader()
        self._chunks = translator.chunks(exchange)
        self._pieces: deque[Delta] = deque()
        self._early = b""
        """Read already, to find out what it is."""
        self._is_stream = False
        self._whole: HttpReply | None = None
        """The reply of a provider that does not stream."""
        self._received_bytes = self._received_pieces = 0
        self._cut: LMError | None = None
        self._completion: Completion | None = None
        self._has_ended = False
        self.explain: Callable[[LMError], None] = lambda error: None
        """Writes into an error which call it ended."""
        self.on_whole: list[Callable[[Completion], None]] = []
        """Called when the whole answer has come."""
        self.limit: Callable[[int], LMError | None] = _no_limit
        """Asked after each event, with the tokens of the answer so far, why the answer must end."""

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Delta:
        """The next piece. Raises as ``actors.lm.LMStream`` does."""
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
        is_success = 200 <= self._http.status < 300
        if is_success and make is None and await self._begins_as_events():
            make = EventReader
        if is_success and make is not None:
            self._events, self._is_stream = make(), True
            await self._fill()
        else:
            await self._take_whole()

    async def _begins_as_events(self) -> bool:
        """Whether a body that is not called a stream is one of server-sent events all the same."""
        while len(self._early) < _FIRST_BYTES and b":" not in self._early:
            chunk = await anext(self._http.chunks, None)
            if chunk is None:
                break
            self._early += chunk
        return _FIRST_FIELD.match(self._early[: 2 * _FIRST_BYTES]) is not None

    async def _next_chunk(self) -> bytes | None:
        if self._early:
            early, self._early = self._early, b""
            return early
        return await anext(self._http.chunks, None)

    def seen(self, *, is_given_up: bool) -> Usage | None:
        """What the answer has used as far as it came: as the provider reported it, or by the lengths; None for no answer.

        Of one that is given up, something is on its way although nothing has come.
        """
        if self._whole is not None:
            return told_usage(self._whole.body)
        told = self._chunks.told_tokens
        has_come = bool(self._received_pieces or told)
        if not 200 <= self._http.status < 300 or not (has_come or is_given_up):
            return None
        prompt_tokens, _ = self._translator.expected_tokens(self._exchange)
        told_prompt, told_completion = told or (0, 0)
        return Usage(
            prompt_tokens=told_prompt or prompt_tokens,
            completion_tokens=max(told_completion, self._tokens),
            is_estimate=True,
        )

    @property
    def _tokens(self) -> int:
        """Tokens of the answer so far, by its length; a piece is one at least."""
        return max(self._received_bytes // CHARS_PER_TOKEN, self._received_pieces)

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
            if self._cut is not None:
                raise self._cut
            chunk = await self._next_chunk()
            try:
                events = self._events.close() if chunk is None else self._events.feed(chunk)
            except (EventTooLarge, NotAnEvent) as error:
                raise self._unreadable(str(error), "") from error  # whose words are ours
            if not await self._read_all(events):
                continue
            if chunk is None:
                self._has_ended = True
                if not self._chunks.is_whole:
                    raise self._unreadable("the stream ended before the answer did", self._chunks.text)
                self._end(await self._streamed())
            elif self._chunks.is_done:
                await self._last_bytes()

    async def _last_bytes(self) -> None:
        """The answer is complete; what is left of the body decides whether the connection can serve again."""
        self._has_ended = True
        with trio.move_on_after(_LAST_BYTES_S):
            while await self._next_chunk() is not None:
                pass
        self._end(await self._streamed())

    async def _read_all(self, events: Sequence[ServerEvent]) -> bool:
        """False when the answer must end here, and the rest counts for nothing. A checkpoint where LiteLLM has to be imported."""
        for event in events:
            if not self._read(event):
                await warm_up()
                self._read(event)
            if self._cut is not None:
                return False
        return True

    def _read(self, event: ServerEvent) -> bool:
        """False when LiteLLM has to be imported first."""
        if '"error"' in event.data and has_error(event.data.encode()):
            raise self._translator.error(self._exchange, HttpReply(200, self._http.headers, event.data.encode()))
        try:
            pieces = self._chunks.read(event)
        except Exception as error:  # noqa: BLE001 - raised again, without keys
            self._translator.raise_alone(self._unreadable(f"{type(error).__name__} in an event", event.data), error)
        if pieces:
            self._pieces.extend(pieces)
            self._received_pieces += len(pieces)
            self._received_bytes += sum(map(_size_bytes, pieces))
            self._cut = self.limit(self._tokens)
        return pieces is not None

    async def _streamed(self) -> Completion:
        try:
            plain = self._translator.plain_streamed(self._chunks)
            if plain is not None:
                return plain
            if not is_warm():
                await warm_up()
            return self._translator.streamed(self._exchange, self._chunks)
        except LMError:
            raise
        except Exception as error:  # noqa: BLE001 - raised again, without keys
            failure = self._unreadable(f"{type(error).__name__} in the whole of it", self._chunks.text)
            self._translator.raise_alone(failure, error)

    def _end(self, whole: Completion) -> None:
        self._completion = attrs.evolve(whole, attempts=self._requests)
        self._has_ended = True
        for call in self.on_whole:
            call(whole)

    async def _take_whole(self) -> None:
        """An error, or the whole answer from a provider that does not stream."""
        reply = await whole_reply(self._http)
        # `_early` is of a success only, so it counts toward no limit of an error.
        self._whole = attrs.evolve(reply, body=self._early + reply.body) if self._early else reply
        whole = await Reading(self._translator.completion, self._translator.plain_completion).of(self._exchange, self._whole)
        self._end(whole)
        self._pieces.extend(pieces_of(whole))

    def _unreadable(self, what: str, words: str) -> LMReplyUnreadable:
        said = f": {self._translator.excerpt(words)!r}" if words else ""
        return LMReplyUnreadable(
            f"the stream from {self._exchange.request.place} cannot be read: {what}{said}.\n  Fix: {FIXES[LMReplyUnreadable]}",
            status=self._http.status,
        )


def _no_limit(tokens: int) -> LMError | None:
    return None


def _size_bytes(piece: Delta) -> int:
    text = piece.arguments if isinstance(piece, ToolCallDelta) else piece.text
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def incomplete() -> UsageError:
    """The error for reading ``completion`` too early."""
    return UsageError(
        "the answer is not complete: 'completion' was read before the last piece had come.\n"
        "  Fix: read the stream to its end first, with 'async for delta in stream'."
    )


def pieces_of(completion: Completion) -> list[Delta]:
    """A whole answer as the pieces of a stream."""
    pieces: list[Delta] = [ReasoningDelta(completion.reasoning)] if completion.reasoning else []
    pieces += [TextDelta(completion.text)] if completion.text else []
    return pieces + [
        ToolCallDelta(index, call.id or None, call.name, call.arguments) for index, call in enumerate(completion.tool_calls)
    ]
