"""Parsers of streamed events where LiteLLM's own are missing, wrong or of another form."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast, final

_COHERE_REASONS = {"COMPLETE": "stop", "STOP_SEQUENCE": "stop", "MAX_TOKENS": "length", "TOOL_CALL": "tool_calls"}


@final
class CohereParser:
    """Reads the events of Cohere's second interface. LiteLLM's own parser misses their end, their usage and their tool calls.

    Source: Cohere, "Chat with Streaming", API reference v2.
    """

    def __init__(self, make: Callable[..., Any]) -> None:
        self._make = make

    def chunk_parser(self, chunk: Mapping[str, Any]) -> Any:
        """The event `chunk` as LiteLLM's ``ModelResponseStream``."""
        kind, delta = str(chunk.get("type", "")), cast("dict[str, Any]", chunk.get("delta") or {})
        if kind == "message-end":
            return self._end(delta)
        message = cast("dict[str, Any]", delta.get("message") or {})
        piece: dict[str, Any] = {}
        if kind in {"content-start", "content-delta"}:
            content = cast("dict[str, Any]", message.get("content") or {})
            piece = {"content": content.get("text") or None, "reasoning_content": content.get("thinking") or None}
        elif kind in {"tool-call-start", "tool-call-delta"}:
            call = cast("dict[str, Any]", message.get("tool_calls") or {})
            piece = {"tool_calls": [{"type": "function", **call, "index": chunk.get("index", 0)}]}
        return self._make(choices=[{"index": 0, "delta": piece, "finish_reason": None}])

    def _end(self, delta: Mapping[str, Any]) -> Any:
        reason = str(delta.get("finish_reason", ""))
        if reason not in _COHERE_REASONS:
            raise ValueError(f"the answer ended because of {reason!r}")
        usage_told = cast("dict[str, Any]", delta.get("usage") or {})
        tokens = cast("dict[str, Any]", usage_told.get("tokens") or {})
        prompt, completion = int(tokens.get("input_tokens", 0)), int(tokens.get("output_tokens", 0))
        usage = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
        return self._make(choices=[{"index": 0, "delta": {}, "finish_reason": _COHERE_REASONS[reason]}], usage=usage)


@final
class GenericParser:
    """Gives what a parser of LiteLLM's older form makes, a mapping, in the form of the newer ones."""

    def __init__(self, parser: Any, make: Callable[..., Any]) -> None:
        self._parser = parser
        self._make = make

    def chunk_parser(self, chunk: Mapping[str, Any]) -> Any:
        """The event `chunk` as LiteLLM's ``ModelResponseStream``."""
        made: Any = self._parser.chunk_parser(dict(chunk))
        if not isinstance(made, dict):
            return made
        piece = cast("dict[str, Any]", made)
        call = piece.get("tool_use")
        delta = {"content": piece.get("text") or None, "tool_calls": [call] if call else None}
        reason = piece.get("finish_reason") if piece.get("is_finished") else None
        usage = piece.get("usage")
        choice = {"index": 0, "delta": delta, "finish_reason": reason or None}
        return self._make(choices=[choice], **({"usage": dict(usage)} if usage else {}))
