"""The pieces of a streamed answer, and the whole that they make up. It knows no provider: LiteLLM's parsers read the chunks.

Whether a stream is whole is never guessed from the end of its bytes, which a broken connection has too: the provider must have
said why the answer ended, or that it has.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, final

import attrs

from actors.lm import Delta, ReasoningDelta, TextDelta, ToolCallDelta
from runtime.lm.http.sse import ServerEvent

DONE = "[DONE]"
"""What OpenAI and its likes send last."""


@attrs.define(eq=False)
class _ToolCall:
    id: str = ""
    name: str = ""
    arguments: list[str] = attrs.field(factory=list[str])

    def as_openai(self) -> dict[str, Any]:
        function = {"arguments": "".join(self.arguments), "name": self.name}
        return {"function": function, "id": self.id, "type": "function"}


@attrs.define(eq=False)
class _Halves:
    """Characters that JSON writes as two escapes, where one piece ends between them and the next begins."""

    _first: str = ""

    def joined(self, text: str) -> str:
        """`text` after the half that the last one ended with; a half without another is replaced, for no file can hold it."""
        if not text or (text.isascii() and not self._first):
            return text
        whole, self._first = self._first + text, ""
        if "\ud800" <= whole[-1] <= "\udbff":
            whole, self._first = whole[:-1], whole[-1]
        return whole_characters(whole)


@final
class ChunkReader:
    """Reads the events of one stream.

    Args:
        parse: LiteLLM's parser of the provider's chunks, as ``ModelResponseStream``.
    """

    def __init__(self, parse: Callable[[Mapping[str, Any]], Any]) -> None:
        self._parse = parse
        self._texts: list[str] = []
        self._reasonings: list[str] = []
        self._calls: dict[int, _ToolCall] = {}
        self._text_halves, self._reasoning_halves = _Halves(), _Halves()
        self.is_done = False
        """Whether the provider has said that nothing follows."""
        self.finish_reason: str | None = None
        """Why the answer ended, once it has."""
        self.priced: list[Any] = []
        """The chunks that carry usage."""

    @property
    def is_whole(self) -> bool:
        """Whether the provider has said that the answer is complete."""
        return self.is_done or self.finish_reason is not None

    @property
    def text(self) -> str:
        """The answer so far."""
        return "".join(self._texts)

    @property
    def reasoning(self) -> str | None:
        """The visible reasoning so far."""
        return "".join(self._reasonings) or None

    @property
    def tool_calls(self) -> list[dict[str, Any]]:
        """The tool calls so far, in OpenAI's form."""
        return [call.as_openai() for _, call in sorted(self._calls.items())]

    def read(self, event: ServerEvent) -> list[Delta]:
        """The pieces in `event`, often none.

        Raises:
            Exception: it is no chunk: ValueError when it is no JSON, or what LiteLLM's parser raises.
        """
        if event.data.strip() == DONE:
            self.is_done = True
            return []
        chunk = self._parse(json.loads(event.data))
        if getattr(chunk, "usage", None) is not None:
            self.priced.append(chunk)
        deltas: list[Delta] = []
        for choice in chunk.choices[:1]:
            self.finish_reason = choice.finish_reason or self.finish_reason
            deltas += self._pieces(choice.delta)
        return deltas

    def _pieces(self, delta: Any) -> list[Delta]:
        pieces: list[Delta] = []
        reasoning = self._reasoning_halves.joined(_text(getattr(delta, "reasoning_content", None)))
        if reasoning:
            self._reasonings.append(reasoning)
            pieces.append(ReasoningDelta(reasoning))
        content = self._text_halves.joined(_text(delta.content))
        if content:
            self._texts.append(content)
            pieces.append(TextDelta(content))
        pieces += [self._call_piece(part) for part in delta.tool_calls or ()]
        return pieces

    def _call_piece(self, part: Any) -> ToolCallDelta:
        index = part.index if isinstance(part.index, int) else len(self._calls)
        call = self._calls.setdefault(index, _ToolCall())
        call.id = call.id or part.id or ""
        call.name = call.name or part.function.name or ""
        arguments = part.function.arguments or ""
        call.arguments.append(arguments)
        return ToolCallDelta(index, part.id or None, part.function.name or None, arguments)


def _text(given: object) -> str:
    """Raises ValueError when `given` is neither a text nor nothing."""
    if given is None or isinstance(given, str):
        return given or ""
    raise ValueError(f"a piece of the answer is a {type(given).__name__}")


def whole_characters(text: str) -> str:
    """`text` with halves of characters joined or replaced: no file and no other request could hold them."""
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
