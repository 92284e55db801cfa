"""In what two recorded requests differ, field by field."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any, cast

from runtime.record.recorded import RecordedRequest

SHOWN = 3
SHOWN_CHARS = 120
_MISSING = object()


def differences(recorded: RecordedRequest, asked: RecordedRequest) -> list[str]:
    """Each field that is not the same in both, as a line of words; fields are named by JSON pointers."""
    found = [
        f"{name}: recorded {ours}, asked {theirs}"
        for name, ours, theirs in (
            ("method", recorded.method, asked.method),
            ("address", recorded.address, asked.address),
        )
        if ours != theirs
    ]
    return found + list(_between(recorded.body, asked.body, ""))


def _between(recorded: Any, asked: Any, pointer: str) -> Iterator[str]:
    if isinstance(recorded, dict) and isinstance(asked, dict):
        old, new = cast("dict[str, Any]", recorded), cast("dict[str, Any]", asked)
        for name in [*old, *(name for name in new if name not in old)]:
            step = name.replace("~", "~0").replace("/", "~1")
            yield from _between(old.get(name, _MISSING), new.get(name, _MISSING), f"{pointer}/{step}")
    elif isinstance(recorded, list) and isinstance(asked, list):
        before_all, after_all = cast("list[object]", recorded), cast("list[object]", asked)
        pairs = itertools.zip_longest(before_all, after_all, fillvalue=_MISSING)
        for index, (before, after) in enumerate(pairs):
            yield from _between(before, after, f"{pointer}/{index}")
    elif not _same(recorded, asked):
        ours, theirs = _shown(recorded, asked), _shown(asked, recorded)
        yield f"{pointer or 'body'}: recorded {ours}, asked {theirs}"


def _same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and one == other


def _shown(value: Any, other: Any) -> str:
    """`value` in JSON; of two long texts, from shortly before where they part."""
    if value is _MISSING:
        return "nothing"
    text = json.dumps(value, ensure_ascii=False)
    if len(text) <= SHOWN_CHARS:
        return text
    beside = json.dumps(other, ensure_ascii=False) if other is not _MISSING else ""
    pairs = zip(text, beside, strict=False)
    parts_at = next((index for index, (ours, theirs) in enumerate(pairs) if ours != theirs), min(len(text), len(beside)))
    start = max(0, parts_at - SHOWN_CHARS // 3)
    return f"{'…' if start else ''}{text[start : start + SHOWN_CHARS]}{'…' if start + SHOWN_CHARS < len(text) else ''}"
