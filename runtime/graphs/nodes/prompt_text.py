"""Prompts as events show them: text only, cut, and without what looks like a key."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, cast

from actors.lm import ChatMessage
from runtime.graphs.records.run_events import MOST_SHOWN, PromptMessage
from runtime.lm.limits.redaction import redact

_BEYOND = 1_000
"""Read beyond the cut, so a key that it would halve is seen whole."""


def shown_prompt(messages: Sequence[ChatMessage]) -> tuple[PromptMessage, ...]:
    """The messages of a call. Never fails: what isn't a message is the call's to reject."""
    if not isinstance(cast("object", messages), list | tuple):
        return ()
    return tuple(_shown(message) for message in messages if isinstance(cast("object", message), Mapping))


def _shown(message: ChatMessage) -> PromptMessage:
    content: object = message.get("content")
    parts = cast("list[object]", content) if isinstance(content, list) else [content]
    pieces = [_text(part) for part in parts if part is not None]
    if message.get("tool_calls"):
        pieces.append(json.dumps(message["tool_calls"], ensure_ascii=False, default=str))
    return PromptMessage(str(message.get("role", "")), shown_text("\n".join(pieces)))


def shown_text(text: str) -> str:
    """`text` cut, and without what looks like a key."""
    shown = redact(text[: MOST_SHOWN + _BEYOND], ())[:MOST_SHOWN]
    left = len(text) - MOST_SHOWN
    return f"{shown}… ({left} more characters)" if left > 0 else shown


def _text(part: object) -> str:
    if isinstance(part, str):
        return part
    fields = cast("Mapping[str, Any]", part) if isinstance(part, Mapping) else dict[str, Any]()
    text = fields.get("text")
    return text if isinstance(text, str) else f"[{fields.get('type', 'something else')}]"
