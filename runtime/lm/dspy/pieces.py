"""Pieces of an answer on their way: as the chunks that DSPy's stream listeners read, and as the fields of a prompt."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, final

import attrs

from actors.lm import Delta, ReasoningDelta, TextDelta
from runtime.lm.dspy.import_dspy import part

_COMPLETED = "[[ ## completed ## ]]"
_HEADER = re.compile(r"\[\[ ## (\w{1,100}) ## \]\]")
_BEGINS_HEADER = re.compile(r"\[(\[( (#(#( (\w{1,100}( (#(#( (\](\])?)?)?)?)?)?)?)?)?)?)?)?")
_STEP = re.compile(r"[\n\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]|" + re.escape(_COMPLETED))
"""Where, in the middle of a line, something may begin: the next line, or the end of the answer."""


@final
@attrs.frozen
class Chunks:
    """Where DSPy wants the pieces of one answer, in the shape in which its listeners read them."""

    _stream: Any
    _model: str
    _predict_id: int | None

    @classmethod
    def of(cls, settings: Any, model: str) -> Chunks | None:
        """What ``dspy.streamify`` has set up for the call that is about to be made; None when there is no listener."""
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
        """Report that the answer is whole."""
        await self._send({"content": None}, reason)

    async def _send(self, delta: dict[str, Any], reason: str | None) -> None:
        choice = part("clients.call_result").attributes({"index": 0, "delta": delta, "finish_reason": reason})
        chunk = part("clients.engines.streaming").EngineChunk
        await self._stream.send(chunk(id=None, model=self._model, predict_id=self._predict_id, choices=[choice]))


@final
class FieldSplitter:
    """Splits the text of an answer in the format of ``dspy.ChatAdapter`` into its fields, piece by piece.

    What comes out are the pieces of a field's text without its header and without the white space around it: put together, they
    are the field, however the text is cut. Whole answers are read by this too (:func:`sections`), so both always agree.

    A header stands at the beginning of a line; within one it is text. ``[[ ## completed ## ]]`` ends a field wherever it stands.
    The first section of a name counts, and what stands under a header of another name is dropped. An answer in
    another format gives nothing.
    """

    def __init__(self, names: Collection[str]) -> None:
        self._names = frozenset(names)
        self._field: str | None = None
        self._held = ""
        """What may be the beginning of a header: never more than one is long."""
        self._is_line_start = True
        self._has_begun = False
        self._white: list[str] = []
        """White space that is a field's if more of the field follows."""
        self.found: list[str] = []
        """The fields that have begun, in order."""

    def feed(self, text: str) -> list[tuple[str, str]]:
        """The pieces, as (field, text), that are certain now that `text` has come."""
        text, self._held = self._held + text, ""
        pieces: list[tuple[str, str]] = []
        at = 0
        while at < len(text):
            at = self._line_start(text, at, pieces) if self._is_line_start else self._within(text, at, pieces)
        return pieces

    def end(self) -> list[tuple[str, str]]:
        """The rest: no more text comes."""
        pieces: list[tuple[str, str]] = []
        self._emit(self._held, pieces)
        self._held, self._field = "", None
        return pieces

    def _line_start(self, text: str, at: int, pieces: list[tuple[str, str]]) -> int:
        """Read from `at`, where a header may stand; gives how far."""
        word = _WORD.search(text, at)
        start = len(text) if word is None else word.start()
        self._emit(text[at:start], pieces)
        header = _HEADER.match(text, start)
        if header is not None:
            self._begin(header[1])
            self._is_line_start = False
            return header.end()
        if _BEGINS_HEADER.fullmatch(text, start):
            self._held = text[start:]
            return len(text)
        self._is_line_start = word is None
        return start

    def _within(self, text: str, at: int, pieces: list[tuple[str, str]]) -> int:
        """Read from `at`, in the middle of a line; gives how far."""
        step = _STEP.search(text, at)
        if step is None:
            certain = len(text) - _begun_marker(text, at)
            self._emit(text[at:certain], pieces)
            self._held = text[certain:]
            return len(text)
        if step[0] == _COMPLETED:
            self._emit(text[at : step.start()], pieces)
            self._field = None
        else:
            self._emit(text[at : step.end()], pieces)
            self._is_line_start = True
        return step.end()

    def _begin(self, name: str) -> None:
        self._field, self._has_begun = None, False
        self._white.clear()
        if name in self._names and name not in self.found:
            self._field = name
            self.found.append(name)

    def _emit(self, text: str, pieces: list[tuple[str, str]]) -> None:
        if self._field is None:
            return
        if not self._has_begun:
            text = text.lstrip()
        words = text.rstrip()
        if words:
            pieces.append((self._field, "".join((*self._white, words))))
            self._has_begun = True
            self._white.clear()
        if len(text) > len(words):
            self._white.append(text[len(words) :])


_WORD = re.compile(r"\S")


def _begun_marker(text: str, at: int) -> int:
    """How many characters at the end of `text`, from `at` on, may be the beginning of the marker that ends an answer."""
    longest = min(len(_COMPLETED) - 1, len(text) - at)
    return next((count for count in range(longest, 0, -1) if text.endswith(_COMPLETED[:count])), 0)


def sections(text: str, names: Collection[str]) -> dict[str, str]:
    """The fields of a whole answer in the format of ``dspy.ChatAdapter``, as texts."""
    splitter = FieldSplitter(names)
    pieces = [*splitter.feed(text), *splitter.end()]
    found: dict[str, list[str]] = {name: [] for name in splitter.found}
    for name, piece in pieces:
        found[name].append(piece)
    return {name: "".join(texts) for name, texts in found.items()}


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
