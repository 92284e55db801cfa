"""The pieces of a streamed answer, and the whole that they make up. It knows no provider: LiteLLM's parsers read the chunks.

Whether a stream is whole is never guessed from the end of its bytes, which a broken connection has too: the provider must have
said why the answer ended, or that it has. A parser's word is not enough: LiteLLM's of Gemini gives a reason with every chunk.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, cast, final

import attrs

from actors.lm import Delta, ReasoningDelta, TextDelta, ToolCallDelta
from runtime.lm.http.sse_reader import ServerEvent
from runtime.lm.providers.plain import PlainChunk, plain_chunk
from runtime.lm.providers.reasons import known_reason, told_reason
from runtime.lm.providers.usage import count
from runtime.messages.shapes import as_json, as_list, as_object, first_of, text_in

DONE = "[DONE]"
"""What OpenAI and its likes send last."""


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


@attrs.define(eq=False)
class _ToolCall:
    position: int
    id: str = ""
    name: str = ""
    arguments: list[str] = attrs.field(factory=list[str])
    halves: _Halves = attrs.field(factory=_Halves)
    extras: dict[str, Any] = attrs.field(factory=dict[str, Any])
    """The provider's own fields, which have to go back with the call: Gemini's signatures of thoughts."""

    def is_complete_before(self, name: str) -> bool:
        """Whether a `name` cannot be this call's: its arguments are a whole JSON value, or it has another name and none."""
        arguments = "".join(self.arguments)
        if not arguments:
            return name != self.name
        try:
            json.loads(arguments)
        except (ValueError, RecursionError):
            return False
        return True

    def as_openai(self) -> dict[str, Any]:
        function = {"arguments": "".join(self.arguments), "name": self.name}
        call: dict[str, Any] = {"function": function, "id": self.id, "type": "function"}
        return {**call, "provider_specific_fields": self.extras} if self.extras else call


@final
class ChunkReader:
    """Reads the events of one stream.

    Args:
        parser: gives LiteLLM's parser of the provider's chunks, as ``ModelResponseStream``; it may import LiteLLM.
        is_like_openai: whether that is the one of OpenAI's chunks, so pieces of text are read without it.
        is_loaded: whether LiteLLM is imported.
    """

    def __init__(
        self,
        parser: Callable[[], Callable[[Mapping[str, Any]], Any]],
        *,
        is_like_openai: bool,
        is_loaded: Callable[[], bool],
    ) -> None:
        self._parser = parser
        self._parse: Callable[[Mapping[str, Any]], Any] | None = None
        self._is_like_openai = is_like_openai
        self._is_loaded = is_loaded
        self._texts: list[str] = []
        self._reasonings: list[str] = []
        self._refusals: list[str] = []
        self._calls: list[_ToolCall] = []
        self._by_index: dict[int, _ToolCall] = {}
        self._text_halves, self._reasoning_halves = _Halves(), _Halves()
        self.is_done = False
        """Whether the provider has announced that nothing follows."""
        self.finish_reason: str | None = None
        """Why the answer ended, once it has."""
        self._priced: list[Any] = []
        """The chunks that carry usage: LiteLLM's objects, and the JSON of those that were read without them."""
        self.thinking: list[dict[str, Any]] = []
        """The signed blocks of reasoning so far."""
        self.logprobs: dict[str, list[Any]] = {}
        """Log probabilities of the pieces so far, in OpenAI's form."""
        self.citations: list[Any] = []
        self.id: str | None = None
        """The provider's name for the answer."""

    @property
    def is_whole(self) -> bool:
        """Whether the provider has reported the answer as complete."""
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
        return [call.as_openai() for call in self._calls]

    @property
    def refusal(self) -> str | None:
        """Why the model declined to answer, in its words so far."""
        return whole_characters("".join(self._refusals)) or None

    @property
    def is_plain(self) -> bool:
        """Whether all that came are pieces of a text, and one usage at most."""
        return self._parse is None and len(self._priced) <= 1

    @property
    def plain_usage(self) -> Mapping[str, Any]:
        """The usage of a plain answer, as it came; an empty one where none did."""
        return self._priced[0]["usage"] if self._priced else {}

    @property
    def priced(self) -> list[Any]:
        """The chunks that carry usage, as LiteLLM's objects."""
        parse = self._needed_parse()
        return [parse(cast("dict[str, Any]", chunk)) if isinstance(chunk, dict) else chunk for chunk in self._priced]

    @property
    def told_tokens(self) -> tuple[int, int] | None:
        """The tokens of prompt and answer by the last chunk that carries a usage; None without one."""
        if not self._priced:
            return None
        last = self._priced[-1]
        usage = cast("dict[str, Any]", last)["usage"] if isinstance(last, dict) else last.usage
        return count(usage, "prompt_tokens"), count(usage, "completion_tokens")

    def _needed_parse(self) -> Callable[[Mapping[str, Any]], Any]:
        if self._parse is None:
            self._parse = self._parser()
        return self._parse

    def read(self, event: ServerEvent) -> list[Delta] | None:
        """The pieces in `event`, often none. None when LiteLLM has to be imported first; nothing has been noted then.

        Raises:
            Exception: it isn't a chunk: ValueError when it isn't JSON, or what LiteLLM's parser raises.
        """
        if event.data.strip() == DONE:
            self.is_done = True
            return []
        fields: Any = json.loads(event.data)
        plain = plain_chunk(fields) if self._is_like_openai else None
        if plain is not None:
            return self._text_piece(plain, fields)
        if self._parse is None and not self._is_loaded():
            return None
        told, raw = told_reason(fields), as_object(first_of(as_object(fields).get("choices")).get("delta"))
        indices = _indices(raw)
        chunk = self._needed_parse()(fields)
        if getattr(chunk, "usage", None) is not None:
            self._priced.append(chunk)
        begun = as_object(fields).get("message")
        self.id = self.id or text_in(fields, "id") or text_in(begun, "id") or text_in(fields, "responseId")
        deltas: list[Delta] = []
        for choice in chunk.choices[:1]:
            if told is not None:
                self.finish_reason = known_reason(told, choice.finish_reason or self.finish_reason or "stop")
            self._refusals.append(text_in(raw, "refusal") or "")
            self._note(choice)
            deltas += self._pieces(choice.delta, indices)
        if told is not None and self.finish_reason is None:
            self.finish_reason = known_reason(told, "stop")
        return deltas

    def _text_piece(self, chunk: PlainChunk, fields: dict[str, Any]) -> list[Delta]:
        self.id = self.id or chunk.id
        if chunk.usage is not None:
            self._priced.append(fields)
        if chunk.finish_reason is not None:
            self.finish_reason = chunk.finish_reason
        text = self._text_halves.joined(chunk.text)
        if not text:
            return []
        self._texts.append(text)
        return [TextDelta(text)]

    def _pieces(self, delta: Any, indices: list[int | None] | None) -> list[Delta]:
        pieces: list[Delta] = []
        reasoning = self._reasoning_halves.joined(_text(getattr(delta, "reasoning_content", None)))
        if reasoning:
            self._reasonings.append(reasoning)
            pieces.append(ReasoningDelta(reasoning))
        content = self._text_halves.joined(_text(delta.content))
        if content:
            self._texts.append(content)
            pieces.append(TextDelta(content))
        parts: list[Any] = list(delta.tool_calls or ())
        fits = indices is not None and len(indices) == len(parts)
        for at, part in enumerate(parts):
            pieces.append(self._call_piece(part, indices[at] if fits and indices is not None else part.index))
        return pieces

    def _call_piece(self, part: Any, index: object) -> ToolCallDelta:
        index = index if isinstance(index, int) else None
        given_id, name = part.id or "", part.function.name or ""
        call = self._call_of(index, given_id, name)
        news = ("" if call.id else given_id) or None, ("" if call.name else name) or None
        call.id, call.name = call.id or given_id, call.name or name
        arguments = call.halves.joined(part.function.arguments or "")
        call.arguments.append(arguments)
        call.extras.update(getattr(part, "provider_specific_fields", None) or {})
        return ToolCallDelta(call.position, *news, arguments)

    def _call_of(self, index: int | None, given_id: str, name: str) -> _ToolCall:
        """The call that a piece belongs to: by its id, else by its index, else the last one; a new one where it begins one.

        Some servers give all calls of an answer one index, or none. So an id that has not been seen begins a call regardless of
        its index, and so does a name after arguments that are complete.
        """
        if given_id:
            for known in self._calls:
                if known.id == given_id:
                    self._by_index[known.position if index is None else index] = known
                    return known
        call = self._by_index.get(index) if index is not None else (self._calls[-1] if self._calls else None)
        if call is None and not given_id and not name and self._calls:
            call = self._calls[-1]
        begins = call is None or bool(given_id and call.id) or bool(name and call.name and call.is_complete_before(name))
        if begins or call is None:
            call = _ToolCall(len(self._calls))
            self._calls.append(call)
        if index is not None:
            self._by_index[index] = call
        return call

    def _note(self, choice: Any) -> None:
        """Keep what isn't a piece of the answer."""
        delta = choice.delta
        for block in getattr(delta, "thinking_blocks", None) or ():
            self._think(dict(block))
        for name, pieces in as_object(as_json(getattr(choice, "logprobs", None))).items():
            self.logprobs.setdefault(name, []).extend(as_list(pieces))
        extras: Mapping[str, Any] = getattr(delta, "provider_specific_fields", None) or {}
        if extras.get("citation"):
            self.citations.append(as_json(extras["citation"]))

    def _think(self, block: dict[str, Any]) -> None:
        """Add a piece of a block: its words come first, its signature last, and a redacted block comes whole."""
        last = self.thinking[-1] if self.thinking else None
        is_open = last is not None and last.get("type") == "thinking" and not last.get("signature")
        if block.get("type") == "thinking" and is_open and last is not None:
            last["thinking"] = (last.get("thinking") or "") + (block.get("thinking") or "")
            if block.get("signature"):
                last["signature"] = block["signature"]
        else:
            self.thinking.append(block)


def _indices(delta: Mapping[str, Any]) -> list[int | None] | None:
    """The indices of the pieces of tool calls as they came: LiteLLM's parser makes them up where there are none."""
    calls: object = delta.get("tool_calls")
    return [as_object(call).get("index") for call in as_list(calls)] if "tool_calls" in delta else None


def _text(given: object) -> str:
    """Raises ValueError when `given` is neither a text nor nothing."""
    if given is None or isinstance(given, str):
        return given or ""
    raise ValueError(f"a piece of the answer is a {type(given).__name__}")


def whole_characters(text: str) -> str:
    """`text` with halves of characters joined or replaced: no file and no other request could hold them."""
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
