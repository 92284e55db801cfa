"""A folder of recorded model calls, and the tape that records into it and answers from it."""

from __future__ import annotations

import contextlib
import math
import os
import re
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Self, final

import trio

from actors.errors import (
    DeclarationError,
    LMBadRequest,
    LMError,
    LMReplyUnreadable,
    LMTimeout,
    LMUnavailable,
    UsageError,
)
from actors.words import repr_of, said
from runtime.lm.http.http_messages import HttpRequest, HttpStream
from runtime.lm.http.request_keys import secrets_of
from runtime.lm.http.tape import Live, Secrets
from runtime.record.difference import SHOWN, differences
from runtime.record.recorded import FAILED, LEFT, WHOLE, BodyPart, RecordedCall, RecordedReply, RecordedRequest, unreadable
from runtime.record.redacting import Redaction, kept_headers

MODES = ("none", "once", "new", "all")
DEFAULT_MODE: ContextVar[str] = ContextVar("understudy_record", default="once")
"""The mode of those ``Cassettes`` that are not given one; ``pytest --understudy-record`` sets it."""

AFTER_THE_END_S = 60.0
"""How long a client that had left, and now does not, waits before it learns that nothing more was recorded."""
_FAILURES = {kind.__name__: kind for kind in (LMBadRequest, LMReplyUnreadable, LMTimeout, LMUnavailable)}


class RecordingMissing(LMError):
    """No recording answers the request, and none may be made. Nothing was sent."""

    retryable: bool | None = False


@final
class Cassettes:
    """Recorded calls of language models, a readable JSON file for each request.

    ::

        LMClient("openai/gpt-4o-mini", record="tests/cassettes")
        open_runtime(lm="openai/gpt-4o-mini", record=Cassettes("tests/cassettes", mode="none"))

    A request is known again by its method, its address and its JSON, never by its headers. Asked several times, it is answered
    by its replies in order. A replay gives the same bytes at the same times after the request, on trio's clock: in virtual time
    it takes none. Keys are never written, nor are the headers of requests.

    Args:
        folder: where the files are; made when the first one is written.
        mode: ``"none"`` only replays; ``"once"`` records everything if the folder holds no recording yet, and only replays
            otherwise; ``"new"`` replays what is known and records the rest; ``"all"`` records everything again. None: that of
            ``pytest --understudy-record``, else ``"once"``.
        redact: names of further JSON fields whose texts are replaced before anything is kept or compared, and compiled patterns.
        timed: whether a replay takes as long as the call did. False answers immediately, for programs in real time.

    Raises:
        DeclarationError: an argument is wrong, or `folder` is a file.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        mode: str | None = None,
        redact: Iterable[str | re.Pattern[str]] = (),
        timed: bool = True,
    ) -> None:
        given: Any = folder
        if not isinstance(given, str | os.PathLike) or not str(folder):
            raise DeclarationError(f'record={repr_of(folder)}: expected a folder.\n  Fix: record="tests/cassettes", for example.')
        self.folder = Path(folder)
        if self.folder.exists() and not self.folder.is_dir():
            raise DeclarationError(
                f"record={str(folder)!r}: that is a file.\n  Fix: name a folder; each request gets a file in it."
            )
        self.mode = mode if mode is not None else DEFAULT_MODE.get()
        if self.mode not in MODES:
            raise DeclarationError(
                f"Cassettes(mode={repr_of(mode)}): there is no such mode.\n  Fix: one of {', '.join(map(repr, MODES))}."
            )
        self._redaction = Redaction(redact)
        self._is_timed = timed
        self._may_record = self.mode in {"new", "all"} or (self.mode == "once" and not any(self.folder.glob("*.json")))
        self._made: dict[str, list[RecordedReply | None]] = {}

    @classmethod
    def of(cls, given: str | os.PathLike[str] | Cassettes | None) -> Self | Cassettes | None:
        """`given`, or one for the folder of that name."""
        return given if given is None or isinstance(given, Cassettes) else cls(given)

    def __repr__(self) -> str:
        return f"Cassettes({str(self.folder)!r}, mode={self.mode!r})"

    @property
    def may_record(self) -> bool:
        """Whether a request that isn't known is sent, and kept."""
        return self._may_record

    def tape(self) -> CassetteTape:
        """What one client, or one runtime, answers from: each begins with the first reply to a request."""
        return CassetteTape(self, self._redaction, is_timed=self._is_timed)

    def recordings(self) -> tuple[RecordedCall, ...]:
        """All that the folder holds, by the names of their files.

        Raises:
            RecordingUnreadable: a file is not a recording.
        """
        return tuple(self._read(path) for path in sorted(self.folder.glob("*.json")))

    def find(self, asked: RecordedRequest) -> RecordedCall | None:
        """The recording of the same request, if there is one. Raises what :meth:`recordings` raises."""
        path = self.folder / asked.file_name
        return self._read(path) if path.is_file() else None

    def _read(self, path: Path) -> RecordedCall:
        try:
            return RecordedCall.of_text(path.read_text(encoding="utf-8"), str(path))
        except (OSError, UnicodeDecodeError) as error:
            raise unreadable(str(path), said(error)) from error

    def place(self, asked: RecordedRequest) -> int:
        """A place for a reply that will be recorded: replies stand in the order of their requests, not of their ends."""
        if asked.digest not in self._made:
            known = self.find(asked) if self.mode == "new" else None
            self._made[asked.digest] = list(known.replies) if known is not None else []
        self._made[asked.digest].append(None)
        return len(self._made[asked.digest]) - 1

    def put(self, asked: RecordedRequest, place: int, reply: RecordedReply) -> None:
        """Keep `reply`. The file is replaced as a whole, so a crash leaves the old one."""
        replies = self._made[asked.digest]
        replies[place] = reply
        path = self.folder / asked.file_name
        beside = path.with_suffix(f".{os.getpid()}.tmp")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            beside.write_text(RecordedCall(asked, tuple(filter(None, replies))).to_text(), encoding="utf-8")
            beside.replace(path)
        except OSError as error:
            raise UsageError(
                f"the recording {path} cannot be written: {error.strerror or said(error)}.\n"
                "  Fix: make room, name a folder that can be written, or leave record= out."
            ) from error


@final
class CassetteTape:
    """One reading of :class:`Cassettes`; a ``Tape`` for clients."""

    def __init__(self, cassettes: Cassettes, redaction: Redaction, *, is_timed: bool) -> None:
        self._cassettes = cassettes
        self._redaction = redaction
        self._is_timed = is_timed
        self._counts: dict[str, int] = {}

    @property
    def may_send(self) -> bool:
        """Whether any request may still go out."""
        return self._cassettes.may_record

    def stream(self, request: HttpRequest, live: Live, secrets: Secrets) -> AbstractAsyncContextManager[HttpStream]:
        """The recorded reply to `request`, or that of `live`, which is recorded then, without any of `secrets`.

        Raises:
            RecordingMissing: it isn't known, and may not be recorded.
        """
        asked = RecordedRequest.of(request, self._redaction, secrets())
        nth = self._counts[asked.digest] = self._counts.get(asked.digest, 0) + 1
        recording = None if self._cassettes.mode == "all" else self._known(asked)
        if recording is not None and nth <= len(recording.replies):
            return _played(recording.replies[nth - 1], asked, is_timed=self._is_timed)
        if not self._cassettes.may_record:
            raise self._missing(asked, nth, recording)
        return self._recorded(asked, live, lambda: secrets_of(request, secrets()))

    def _known(self, asked: RecordedRequest) -> RecordedCall | None:
        if self._cassettes.mode == "once" and self._cassettes.may_record:
            return None
        return self._cassettes.find(asked)

    def _missing(self, asked: RecordedRequest, nth: int, recording: RecordedCall | None) -> RecordingMissing:
        cassettes, where = self._cassettes, f"{asked.method} {asked.address} ({asked.model})"
        if recording is not None:
            return RecordingMissing(
                f"{where} is asked {nth} times, and {cassettes.folder / asked.file_name} holds "
                f"{len(recording.replies)} replies.\n"
                f"  Fix: record it again with mode='all' (pytest --understudy-record=all), or ask as often as before."
            )
        others = cassettes.recordings()
        told = f"no recording in {cassettes.folder} answers {where}"
        if others:
            nearest = min(others, key=lambda other: _distance(other.asked, asked))
            found = differences(nearest.asked, asked)
            more = f"\n    … and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
            lines = "".join(f"\n    {line}" for line in found[:SHOWN])
            told += f"; the nearest of {len(others)}, {nearest.asked.file_name}, differs in:{lines}{more}"
        else:
            told += ", which holds none"
        return RecordingMissing(
            f"{told}\n  Fix: record it with mode='new' (pytest --understudy-record=new), or ask what was recorded."
        )

    @asynccontextmanager
    async def _recorded(
        self, asked: RecordedRequest, live: Live, secrets: Callable[[], tuple[str, ...]]
    ) -> AsyncGenerator[HttpStream]:
        place, take = self._cassettes.place(asked), _Take(self._redaction, secrets)
        try:
            async with live() as http:
                take.begin(http)
                yield HttpStream(http.status, http.headers, take)
        except BaseException as error:
            if isinstance(error, LMError):
                take.failed(error)
            with contextlib.suppress(UsageError):  # what ended the call comes first, a cancellation above all
                self._cassettes.put(asked, place, take.reply())
            raise
        self._cassettes.put(asked, place, take.reply())


def _distance(recorded: RecordedRequest, asked: RecordedRequest) -> int:
    return len(differences(recorded, asked)) + (1_000 if recorded.address != asked.address else 0)


@final
class _Take:
    """One reply while it is recorded: the body as it comes, and what is kept of it."""

    def __init__(self, redaction: Redaction, secrets: Callable[[], tuple[str, ...]]) -> None:
        self._redaction = redaction
        self._secrets = secrets
        self._began_s = trio.current_time()
        self._http: HttpStream | None = None
        self._head_s = 0.0
        self._pieces: list[tuple[float, bytes]] = []
        self._end = LEFT
        self._end_s: float | None = None
        self._error: LMError | None = None

    def _now_s(self) -> float:
        return max(0.0, trio.current_time() - self._began_s)

    def begin(self, http: HttpStream) -> None:
        self._http, self._head_s = http, self._now_s()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        assert self._http is not None, "begun first"
        try:
            data = await anext(self._http.chunks)
        except StopAsyncIteration:
            self._end, self._end_s = WHOLE, self._now_s()
            raise
        except LMError as error:
            self.failed(error)
            raise
        self._pieces.append((self._now_s(), data))
        return data

    def failed(self, error: LMError) -> None:
        """The connection has failed; an error of the reader's about what came is none of that."""
        if type(error).__name__ in _FAILURES and self._end != WHOLE and self._error is None:
            self._end, self._end_s, self._error = FAILED, self._now_s(), error

    def reply(self) -> RecordedReply:
        """What is kept. Keys are looked for now: the network may have cut one in two, and some are known only by now."""
        head, error, secrets = self._http, self._error, self._secrets()
        bodies = self._redaction.pieces([data for _, data in self._pieces], secrets)
        kept = RecordedReply(
            status=head.status if head is not None else 0,
            headers=kept_headers(head.headers) if head is not None else {},
            head_s=self._head_s,
            pieces=tuple(BodyPart(at_s, body) for (at_s, _), body in zip(self._pieces, bodies, strict=True) if body),
            end=self._end,
            end_s=self._end_s if self._end_s is not None else self._now_s(),
            error=None if error is None else type(error).__name__,
            message="" if error is None else self._redaction.text(str(error), secrets),
        )
        return kept.tidy()


@asynccontextmanager
async def _played(reply: RecordedReply, asked: RecordedRequest, *, is_timed: bool) -> AsyncGenerator[HttpStream]:
    began_s = trio.current_time()

    async def wait(after_s: float) -> None:
        await trio.sleep_until(began_s + after_s if is_timed else -math.inf)

    async def end() -> None:
        """Come to the end of what was recorded, which raises unless it was the end of the reply."""
        if reply.end == LEFT:
            await wait(reply.end_s + AFTER_THE_END_S)
            raise RecordingMissing(
                f"{asked.file_name}: when this reply was recorded, its client left after {reply.end_s:g} s; "
                "nothing came after that.\n"
                "  Fix: record it again with mode='all' (pytest --understudy-record=all)."
            )
        await wait(reply.end_s)
        if reply.end == FAILED:
            raise _FAILURES.get(reply.error or "", LMUnavailable)(reply.message)

    async def chunks() -> AsyncGenerator[bytes]:
        for piece in reply.pieces:
            await wait(piece.at_s)
            yield piece.data
        await end()

    if not reply.status:
        await end()
    await wait(reply.head_s)
    body = chunks()
    try:
        yield HttpStream(reply.status, reply.headers, body)
    finally:
        await body.aclose()
