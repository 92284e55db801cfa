"""Replies in OpenAI's form that hold a text and nothing else, as most do, read without LiteLLM's objects for everything else.

Only what LiteLLM would read to the same answer is read here. Any other reply is left to it: :func:`plain_answer` and
:func:`plain_chunk` give None then.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast, final

import attrs

_REASONS = frozenset({"stop", "length"})
_REPLY = frozenset({"id", "object", "created", "model", "choices", "usage", "service_tier", "system_fingerprint"})
_CHOICE = frozenset({"index", "message", "finish_reason"})
_CHUNK = _REPLY | {"obfuscation"}
_PIECE = frozenset({"index", "delta", "finish_reason"})
_WRITERS = frozenset({"assistant", "", None})
_MESSAGE = frozenset({"role", "content"})
_LISTS = frozenset({"annotations", "tool_calls"})
"""Fields of a message without a meaning when they are empty."""
_TOKENS = ("prompt_tokens", "completion_tokens", "total_tokens")
_DETAILS = frozenset({"prompt_tokens_details", "completion_tokens_details"})


@final
@attrs.frozen
class PlainAnswer:
    """One text, and what is said about it."""

    text: str
    finish_reason: str
    model: str
    """As the provider calls it in its reply."""
    usage: Mapping[str, Any]
    """As it came: its three numbers of tokens are there."""
    service_tier: str | None
    raw: Mapping[str, Any]
    """The whole reply."""


def plain_answer(body: bytes) -> PlainAnswer | None:
    """The answer in `body`; None when it holds anything that LiteLLM should see."""
    try:
        reply = _object(json.loads(body))
    except (ValueError, RecursionError):
        return None
    model, tier, usage = reply.get("model"), reply.get("service_tier"), _object(reply.get("usage"))
    if not _has_only(reply, _REPLY) or not isinstance(model, str) or not _is_usage(usage):
        return None
    choices = cast("list[Any]", reply["choices"]) if isinstance(reply.get("choices"), list) else []
    choice = _object(choices[0]) if len(choices) == 1 else {}
    reason, message = choice.get("finish_reason"), _object(choice.get("message"))
    if not _has_only(choice, _CHOICE) or reason not in _REASONS or not _is_message(message):
        return None
    if tier is not None and not isinstance(tier, str):
        return None
    return PlainAnswer(message["content"], reason, model, usage, tier, reply)


@final
@attrs.frozen
class PlainChunk:
    """One piece of a streamed text."""

    text: str
    finish_reason: str | None
    """Set in the last piece that has a text."""
    id: str
    """The provider's name for the whole answer."""
    usage: Mapping[str, Any] | None
    """As it came in the whole answer."""


def plain_chunk(fields: Any) -> PlainChunk | None:
    """The piece in `fields`, the JSON of one event of a stream; None when it holds anything that LiteLLM should see."""
    chunk = _object(fields)
    name, usage = chunk.get("id"), chunk.get("usage")
    choices = cast("list[Any]", chunk["choices"]) if isinstance(chunk.get("choices"), list) else None
    if type(name) is not str or type(chunk.get("created")) is not int or type(chunk.get("model")) is not str:
        return None
    if choices is None or not _has_only(chunk, _CHUNK) or not (usage is None or _is_usage(_object(usage))):
        return None
    if not choices:
        return PlainChunk("", None, name, usage)
    choice = _object(choices[0])
    delta, reason = _object(choice.get("delta")), choice.get("finish_reason")
    if len(choices) > 1 or "delta" not in choice or not _has_only(choice, _PIECE) or not (reason is None or reason in _REASONS):
        return None
    text = delta.get("content")
    if not (text is None or type(text) is str) or delta.get("role", "assistant") not in _WRITERS:
        return None
    if type(choice.get("index")) is not int or not all(name in _MESSAGE or value is None for name, value in delta.items()):
        return None
    return PlainChunk(text or "", reason, name, usage)


def _object(found: Any) -> dict[str, Any]:
    """`found` if it is an object; else an empty one, which is never an answer or a part of one."""
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}


def _has_only(found: Mapping[str, Any], names: frozenset[str]) -> bool:
    """Whether the fields of other names say nothing."""
    return all(name in names or value is None for name, value in found.items())


def _is_message(found: Mapping[str, Any]) -> bool:
    text = found.get("content")
    if found.get("role") != "assistant" or not isinstance(text, str) or not text or text.startswith("<"):
        return False  # reasoning may stand in front of the text, in tags
    return all(name in _MESSAGE or value is None or (name in _LISTS and value == []) for name, value in found.items())


def _is_usage(found: Mapping[str, Any]) -> bool:
    if not all(type(found.get(name)) is int for name in _TOKENS):
        return False
    return all(name in _TOKENS or value is None or (name in _DETAILS and _counts(value)) for name, value in found.items())


def _counts(found: Any) -> bool:
    return isinstance(found, dict) and all(value is None or type(value) is int for value in _object(found).values())
