"""Questions and answers as they are stored: one JSON object each, with the messages in it as the codec writes them."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any, Final, cast, final
from weakref import WeakValueDictionary

import attrs

from runtime.messages import reader
from runtime.messages.codec import MessageCodec
from runtime.messages.fields import message_kind
from runtime.messages.modules import modules_called
from runtime.messages.problems import MessageInvalid
from runtime.messages.shapes import as_list, as_object
from runtime.messages.tags import tag_of

ANSWERED: Final = "answered"
TIMED_OUT: Final = "timed out"
WITHDRAWN: Final = "withdrawn"
"""How a question ended."""


def is_object(value: object) -> bool:
    """Whether it may be the fields of a message."""
    return isinstance(value, dict)


def union_of(kinds: Sequence[type], *, or_none: bool = False) -> Any:
    """One annotation for all of `kinds`, of which there is one at least."""
    first: Any = kinds[0]
    for kind in kinds[1:]:
        first = first | kind
    return first | None if or_none else first


def read_one_of(kinds: Sequence[type], fields: Mapping[str, Any]) -> Any:
    """The message of one of `kinds` that `fields` make; ``{"Approved": {…}}`` tells which is meant.

    Raises:
        MessageInvalid: they make none.
    """
    by_name = {kind.__name__: kind for kind in kinds}
    name, inside = next(iter(fields.items())) if len(fields) == 1 and len(kinds) > 1 else ("", None)
    if name in by_name and is_object(inside):
        return reader.read(by_name[name], as_object(inside))
    return reader.read(union_of(kinds), fields)


@final
@attrs.frozen(eq=False)
class PersonAnswer:
    """What became of a question that is no longer open."""

    value: Any
    by: str | None
    is_late: bool
    """There was no answer in time."""
    record: bytes | None
    """The data of the record ``answered``; None in a run without a journal."""
    question: str
    """The question's id."""


@functools.lru_cache(maxsize=256)
def _codec(kinds: tuple[Any, ...]) -> MessageCodec:
    return MessageCodec(kinds)


def codec_for(*kinds: type) -> MessageCodec:
    """What stores messages of `kinds`."""
    return _codec(kinds)


def _is_list(value: object) -> bool:
    return type(value) is list


def message_data(value: Any) -> bytes:
    """What a node was given: a message, a list of them, None, or a dict of these by parameter.

    Raises:
        NotStorable: one of them cannot be stored.
    """
    if type(value) is dict:
        by_name = as_object(cast("object", value))
        return b"{" + b",".join(json.dumps(name).encode() + b":" + message_data(each) for name, each in by_name.items()) + b"}"
    if _is_list(value):
        return b"[" + b",".join(map(message_data, as_list(value))) + b"]"
    kind: type = value.__class__
    return b"null" if value is None else codec_for(kind).encode(value)


def question_data(node: str, text: str, due_s: float | None, to: str | None, asks: Any) -> bytes:
    """The data of a record ``asked``, and of the question in the store."""
    told = json.dumps({"node": node, "text": text, "due": due_s, "to": to}).encode()
    return told[:-1] + b', "asks": ' + message_data(asks) + b"}"


def answer_data(how: str, answer: bytes = b"null", by: str | None = None) -> bytes:
    """The data of a record ``answered``, with the answer as the codec has written it."""
    return _head(how, by) + answer + b"}"


def _head(how: str, by: str | None) -> bytes:
    return json.dumps({"how": how, "by": by}).encode()[:-1] + b', "answer": '


def read_answer(data: bytes | None) -> tuple[str, bytes]:
    """How a question ended, by the data of its record ``answered``, and the answer as the codec has written it."""
    told = as_object(json.loads(data or b"{}"))
    how, by = str(told.get("how")), told.get("by")
    head = _head(how, by)
    if data is None or not data.startswith(head):  # written by another release
        return how, json.dumps(told.get("answer")).encode()
    return how, data[len(head) : -1]


def read_question(data: bytes | None) -> Mapping[str, Any]:
    """What a question asks: its ``node``, ``text`` and ``asks``; of the messages those whose classes are loaded here are made."""
    told = as_object(json.loads(data or b"{}"))
    return {**told, "asks": _made(told.get("asks"))}


def _made(found: Any) -> Any:
    if type(found) is list:
        return [_made(each) for each in as_list(cast("object", found))]
    if not is_object(found):
        return found
    parts = as_object(found)
    if len(parts) == 1 and ":" in (tag := next(iter(parts))):
        kind = loaded(tag)
        try:
            return parts if kind is None else codec_for(kind).decode(json.dumps(parts).encode())
        except MessageInvalid:  # its class has changed
            return parts
    return {name: _made(each) for name, each in parts.items()}


_REMEMBERED: WeakValueDictionary[str, type] = WeakValueDictionary()


def remember(*kinds: type) -> None:
    """Let :func:`loaded` find classes that no name in a module leads to, such as those made in a function."""
    for kind in kinds:
        _REMEMBERED[tag_of(kind)] = kind


def loaded(tag: str) -> type | None:
    """The message class of that ``module:Class``, if this process has loaded it. Nothing is imported, and no code is run."""
    module, _, name = tag.partition(":")
    known = _REMEMBERED.get(tag)
    places: list[Any] = modules_called(module)
    for found in [known] if known is not None else (_named_in(place, name) for place in places):
        if isinstance(found, type) and tag_of(found) == tag and message_kind(found) is not None:
            return found
    return None


def _named_in(place: Any, name: str) -> Any:
    """What a module has under a dotted name."""
    for part in name.split("."):
        place = vars(place).get(part) if isinstance(place, type | ModuleType) else None
    return place
