"""Pieces of an answer on their way: as the chunks that DSPy's stream listeners read, and as the fields of a prompt."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, final

import attrs

from actors.lm import Delta, ReasoningDelta, TextDelta
from runtime.lm.dspy.library import part

_HEADER = re.compile(r"\[\[ ## (\w+) ## \]\]")
_LONGEST_HEADER = 120
"""How many characters a text that looks like the beginning of a header is held back for."""


@final
@attrs.frozen
class Chunks:
    """Where DSPy wants the pieces of one answer, in the shape in which its listeners read them."""

    _stream: Any
    _model: str
    _predict_id: int | None

    @classmethod
    def of(cls, settings: Any, model: str) -> Chunks | None:
        """What ``dspy.streamify`` has set up for the call that is about to be made; None when nobody listens."""
        if settings.send_stream is None:
            return None
        caller = settings.caller_predict
        return cls(settings.send_stream, model, id(caller) if caller is not None else None)

    async def send(self, delta: Delta) -> None:
        """Hand on one piece; waits until there is room for it."""
        content: dict[str, Any] = {"content": None}
        if isinstance(delta, TextDelta):
            content["content"] = delta.text
        elif isinstance(delta, ReasoningDelta):
            content["reasoning_content"] = delta.text
        else:
            function = {"arguments": delta.arguments, **({"name": delta.name} if delta.name is not None else {})}
            call = {"index": delta.index, "type": "function", "function": function}
            content["tool_calls"] = [{**call, **({"id": delta.id} if delta.id is not None else {})}]
        await self._send(content, None)

    async def end(self, reason: str) -> None:
        """Say that the answer is whole."""
        await self._send({"content": None}, reason)

    async def _send(self, delta: dict[str, Any], reason: str | None) -> None:
        choice = part("clients.call_result").attributes({"index": 0, "delta": delta, "finish_reason": reason})
        chunk = part("clients.engines.streaming").EngineChunk
        await self._stream.send(chunk(id=None, model=self._model, predict_id=self._predict_id, choices=[choice]))


@final
class FieldSplitter:
    """Splits the text of an answer in the format of ``dspy.ChatAdapter`` into its fields, piece by piece.

    What comes out are the pieces of a field's text without its header and without the white space around it: put together, they
    are the field as the adapter parses it. Of an answer in another format nothing comes out.
    """

    def __init__(self, names: Collection[str]) -> None:
        self._names = frozenset(names)
        self._field: str | None = None
        self._held = ""
        self._has_begun = False

    def feed(self, text: str) -> list[tuple[str, str]]:
        """The pieces, as (field, text), that are certain now that `text` has come."""
        self._held += text
        pieces: list[tuple[str, str]] = []
        while (header := _HEADER.search(self._held)) is not None:
            self._emit(self._held[: header.start()].rstrip(), pieces)
            self._field = header[1] if header[1] in self._names else None
            self._held, self._has_begun = self._held[header.end() :], False
        certain = self._held[: self._certain()].rstrip()
        self._emit(certain, pieces)
        self._held = self._held[len(certain) :]
        return pieces

    def end(self) -> list[tuple[str, str]]:
        """The rest: no more text comes."""
        pieces: list[tuple[str, str]] = []
        self._emit(self._held.rstrip(), pieces)
        self._held, self._field = "", None
        return pieces

    def _certain(self) -> int:
        """How much of what is held cannot become a part of a header."""
        start = self._held.rfind("[[", max(0, len(self._held) - _LONGEST_HEADER))
        if start >= 0:
            return start
        return len(self._held) - self._held.endswith("[")

    def _emit(self, text: str, pieces: list[tuple[str, str]]) -> None:
        if self._field is not None and not self._has_begun:
            text = text.lstrip()
        if self._field is None or not text:
            return
        self._has_begun = True
        pieces.append((self._field, text))


@final
class FieldListener:
    """Tells of the fields of one answer as they come: ``tell(field, text)``."""

    def __init__(self, names: Mapping[str, str], tell: Callable[[str, str], None]) -> None:
        self._names = names
        self._tell = tell
        self._splitter = FieldSplitter(names)

    def piece(self, delta: Delta) -> None:
        """The next piece of the answer."""
        if isinstance(delta, TextDelta):
            self._told(self._splitter.feed(delta.text))

    def end(self) -> None:
        """The answer is whole."""
        self._told(self._splitter.end())

    def _told(self, pieces: list[tuple[str, str]]) -> None:
        for name, text in pieces:
            self._tell(self._names[name], text)
