"""Replies in OpenAI's form that say the right thing in a form that LiteLLM cannot read, put into the one that it can.

Fractions of tokens, a text in parts, a Groq reply without its tier: compatible servers and gateways write all of them.
"""

from __future__ import annotations

import json
import math
from typing import Any, cast

_TEXTS = frozenset({"text", "output_text"})


def readable(body: bytes, provider: str) -> bytes:
    """`body` with what LiteLLM trips over put right; the very same when there is nothing to correct."""
    if not body.lstrip().startswith(b"{"):
        return body
    try:
        fields: object = json.loads(body)
    except (ValueError, RecursionError):
        return body
    return json.dumps(fields).encode() if put_right(fields, provider) else body


def put_right(fields: object, provider: str) -> bool:
    """Change the fields of a reply, or of one chunk of a stream, in place. Returns whether there was anything to change."""
    if not isinstance(fields, dict) or "choices" not in fields:
        return False
    reply = cast("dict[str, Any]", fields)
    changed = _whole_tokens(reply.get("usage"))
    choices = _objects(reply["choices"])
    if provider == "groq" and "service_tier" not in reply and any(isinstance(each.get("message"), dict) for each in choices):
        reply["service_tier"] = None
        changed = True
    for choice in choices:
        for place in ("message", "delta"):
            changed = _one_text(choice.get(place)) or changed
    return changed


def _one_text(found: object) -> bool:
    """Join the parts of a message's text. Parts of other kinds are left as they are."""
    message = cast("dict[str, Any]", found) if isinstance(found, dict) else {}
    content: object = message.get("content")
    if not isinstance(content, list):
        return False
    texts = [part.get("text") for part in _objects(cast("object", content)) if part.get("type") in _TEXTS]
    if len(texts) < len(cast("list[object]", content)) or not all(isinstance(text, str) for text in texts):
        return False
    message["content"] = "".join(cast("list[str]", texts))
    return True


def _objects(found: object) -> list[dict[str, Any]]:
    """Those of a list."""
    each = cast("list[object]", found) if isinstance(found, list) else []
    return [cast("dict[str, Any]", one) for one in each if isinstance(one, dict)]


def _whole_tokens(found: object) -> bool:
    """Round counts up, at any depth; times and prices stay as they are."""
    counts = cast("dict[str, object]", found) if isinstance(found, dict) else {}
    changed = False
    for name, value in counts.items():
        if isinstance(value, dict):
            changed = _whole_tokens(cast("object", value)) or changed
        elif name.endswith("tokens") and isinstance(value, float):
            counts[name] = math.ceil(value) if math.isfinite(value) else 0
            changed = True
    return changed
