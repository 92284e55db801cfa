"""Events as JSON: one encoder for event streams, files, traces and pages. Pure.

A class of events has its name here and its fields from its declaration, so an event that is declared is one that can be sent.
What a field means for readers (a time, an error, the content of a message) is decided by its type and its name, in one place.
"""

from __future__ import annotations

import enum
import json
import logging
import math
import re
import typing
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Any, Final, Literal, cast, final

import attrs

from actors.errors import NodeFailed, UnderstudyError
from actors.groups import leaves_of
from actors.lm import Delta, ReasoningDelta, TextDelta, ToolCallDelta
from actors.words import kind_of, words_of
from runtime.core.events import Event, EventsMissed
from runtime.graphs.records.labels import public
from runtime.graphs.records.run_events import LMCalled, LMCallStarted, LMDelta, RunEvent, RunParkedEvent
from runtime.messages import schemas

_LOG: Final = logging.getLogger("understudy.events")

VERSION: Final = 1
"""The version of the form of events, in each as ``v``."""
Content = Literal["full", "none"]
"""Whether events show what messages, prompts and answers hold."""
Redact = Callable[[Any], Any]
"""Gets the JSON of a message's content and gives what is shown of it."""

_NAMED: Final[Mapping[type[Event], str]] = {
    LMDelta: "lm.delta",
    LMCallStarted: "lm.started",
    LMCalled: "lm.finished",
    RunParkedEvent: "run.parked",
}
"""Those whose names are not made of their class's words."""
_WORDS: Final = re.compile(r"LM|[A-Z][a-z]*")
_CONTENT: Final = frozenset({"input", "output", "text", "delta", "prompt", "letter", "answer", "asks"})
"""Fields that hold what messages, prompts and answers do."""
_INSIDE: Final = frozenset({"stack"})
"""Fields that show the inside of the program."""


def name_of(kind: type[Event]) -> str:
    """What events of the class `kind` are called outside: ``"node.slow_to_stop"`` for ``NodeSlowToStop``."""
    known: Any = kind  # mypy takes a class of attrs for one that cannot be hashed
    return _name_of(known)


@cache
def _name_of(kind: Any) -> str:
    if kind in _NAMED:
        return _NAMED[kind]
    first, *rest = _WORDS.findall(kind.__name__)
    return f"{first}.{'_'.join(rest)}".lower()


def event_classes() -> Iterator[type[Event]]:
    """Every class of events that is made: those that no other is derived from."""
    left: list[type[Event]] = [Event]
    while left:
        kind = left.pop()
        below = [each for each in kind.__subclasses__() if each.__module__.startswith("runtime.")]
        left += below
        if not below:
            yield kind


@cache
def _kinds() -> Mapping[str, type[Event]]:
    return {name_of(kind): kind for kind in event_classes()}


def kind_named(name: str) -> type[Event] | None:
    """The class of the events of that name; None if there is none."""
    return _kinds().get(name)


def _fields(kind: type[Event]) -> tuple[str, ...]:
    known: Any = kind
    return _names_of_fields(known)


@cache
def _names_of_fields(kind: Any) -> tuple[str, ...]:
    return tuple(field.name for field in attrs.fields(kind) if field.name not in {"at_s", "run_id"})


def is_sensitive(kind: type[Event]) -> bool:
    """Whether events of the class show errors or stacks, of which not every reader may see all."""
    known: Any = kind
    return _is_sensitive(known)


@cache
def _is_sensitive(kind: Any) -> bool:
    return any(name == "error" or name in _INSIDE for name in _fields(kind))


@final
@attrs.frozen
class Encoder:
    """How one runtime's events are written."""

    wall_time: Callable[[float], datetime]
    """See ``Runtime.wall_time``."""
    content: Content = "full"
    redact: Redact | None = None
    _failed: set[type[Exception]] = attrs.field(factory=set[type[Exception]], init=False, eq=False, repr=False)
    """Of what `redact` raised; each class is logged once."""

    def encode(self, event: Event, seq: int, since_s: float, *, inside: bool) -> bytes:
        """`event` as one line of ASCII JSON, without its end.

        Args:
            event: what happened.
            seq: its number in its run.
            since_s: the runtime's clock when its run was accepted, in seconds.
            inside: whether the reader may see what errors say, and stacks.
        """
        return dumps(self.told(event, seq, since_s, inside=inside))

    def told(self, event: Event, seq: int, since_s: float, *, inside: bool) -> dict[str, Any]:
        """The same before it is written."""
        told: dict[str, Any] = {
            "v": VERSION,
            "seq": seq,
            "event": name_of(type(event)),
            "at": time_text(self.wall_time(event.at_s)),
            "elapsed_s": round(event.at_s - since_s, 6),
        }
        if isinstance(event, RunEvent):
            told["run"] = event.run_id
        for name in _fields(type(event)):
            told[name] = self._field(name, getattr(event, name), inside=inside)
        return told

    def _field(self, name: str, value: Any, *, inside: bool) -> Any:
        if value is None or type(value) in (bool, int):
            return value
        if isinstance(value, BaseException):
            return error_told(value, inside=inside)
        if name in _INSIDE:
            return value if inside else None
        if name == "labels":
            return dict(public(value))
        return self.content_told(value) if name in _CONTENT else plain(value)

    def content_told(self, value: object) -> Any:
        """What a message, a prompt or an answer holds, as readers see it; None if they do not."""
        if self.content == "none":
            return None
        told = plain(value)
        if self.redact is None:
            return told
        try:
            return plain(self.redact(told))
        except Exception as error:  # noqa: BLE001 - the author's: neither what reads nor what writes may fail for it
            if type(error) not in self._failed:
                self._failed.add(type(error))
                _LOG.error(
                    "redact raised %s: the content is left out.\n  Fix: redact gets any JSON, and must return JSON.",
                    kind_of(error),
                )
            return None


def error_told(error: BaseException, *, inside: bool) -> dict[str, Any]:
    """An error for readers: for a run that failed, each node with its path and attempt.

    What the error says, and what caused it, can hold anything that the program works with, so it is for readers inside alone.
    Others learn the class, if it is one of ours.
    """
    told: dict[str, Any] = {"type": kind_of(error) if inside or isinstance(error, UnderstudyError) else "Error"}
    if inside:
        told["message"] = words_of(error)
        if error.__cause__ is not None:
            told["cause"] = f"{kind_of(error.__cause__)}: {words_of(error.__cause__)}"
    nodes = [leaf for leaf in leaves_of(error) if isinstance(leaf, NodeFailed)]
    if nodes:
        told["nodes"] = [
            {"node": leaf.node, "path": leaf.path, "attempt": leaf.attempt, "error": _cause_told(leaf, inside=inside)}
            for leaf in nodes
        ]
    return told


def _cause_told(failed: NodeFailed, *, inside: bool) -> dict[str, Any] | None:
    cause = failed.__cause__
    if cause is None:
        return None
    told: dict[str, Any] = {"type": kind_of(cause) if inside or isinstance(cause, UnderstudyError) else "Error"}
    if inside:
        told["message"] = words_of(cause)
    return told


def plain(value: object) -> Any:
    """`value` as JSON, no matter what it is; never raises."""
    if isinstance(value, str | bool | int | None) and not isinstance(value, enum.Enum):
        return value
    try:
        return _plain(value)
    except Exception:  # noqa: BLE001 - a message holds itself, or an author's property raises
        return {"unreadable": kind_of(value)}


def _plain(value: object) -> Any:
    match value:
        case TextDelta(text=text):
            return {"kind": "text", "text": text}
        case ReasoningDelta(text=text):
            return {"kind": "reasoning", "text": text}
        case ToolCallDelta():
            return {"kind": "tool_call", **attrs.asdict(value)}
        case BaseException():
            return {"type": kind_of(value)}
        case _ if attrs.has(type(value)) and type(value).__module__.startswith("runtime."):
            instance = cast("attrs.AttrsInstance", value)
            return {field.name: _plain(getattr(instance, field.name)) for field in attrs.fields(type(instance))}
        case tuple() | list():
            return [_plain(item) for item in cast("list[object]", value)]
        case _:
            return schemas.dump(value)


def dumps(value: object) -> bytes:
    """ASCII JSON on one line: neither a line end of Unicode nor half a surrogate pair can break what it stands in."""
    try:
        return json.dumps(value, separators=(",", ":"), allow_nan=False).encode("ascii")
    except ValueError:  # NaN and the infinities, which JSON does not have
        return json.dumps(_finite(value), separators=(",", ":"), allow_nan=False, default=kind_of).encode("ascii")
    except (TypeError, RecursionError):
        return json.dumps({"unreadable": kind_of(value)}).encode("ascii")


def _finite(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(name): _finite(item) for name, item in cast("dict[object, object]", value).items()}
    if isinstance(value, list):
        return [_finite(item) for item in cast("list[object]", value)]
    return value


def time_text(time: datetime) -> str:
    """``2026-11-28T18:41:53.123456Z``."""
    return f"{time.astimezone(UTC).replace(tzinfo=None).isoformat(timespec='microseconds')}Z"


# --- schemas ----------------------------------------------------------------------------------------------------------

ERROR_SCHEMA: Final[Mapping[str, Any]] = {
    "type": "object",
    "properties": {
        "type": {"type": "string"},
        "message": {"type": "string"},
        "cause": {"type": "string"},
        "nodes": {"type": "array", "items": {"type": "object"}},
    },
    "required": ["type"],
}
"""What ``error_told`` makes."""


def schema_of_event(kind: type[Event]) -> dict[str, Any]:
    """The JSON schema of the ``data`` of such events."""
    properties: dict[str, Any] = {
        "v": {"const": VERSION},
        "seq": {"type": "integer"},
        "event": {"const": name_of(kind)},
        "at": {"type": "string", "format": "date-time"},
        "elapsed_s": {"type": "number"},
    }
    if issubclass(kind, RunEvent):
        properties["run"] = {"type": "string"}
    hints = typing.get_type_hints(kind)
    for name in _fields(kind):
        properties[name] = _schema(name, hints[name])
    return {"type": "object", "title": name_of(kind), "description": kind.__doc__ or "", "properties": properties}


def _schema(name: str, hint: Any) -> dict[str, Any]:
    if name == "error":
        return {"anyOf": [dict(ERROR_SCHEMA), {"type": "null"}]}
    if name in _CONTENT:
        return {}
    parts = typing.get_args(hint)
    if type(None) in parts:
        rest = next(part for part in parts if part is not type(None))
        return {"anyOf": [_schema(name, rest), {"type": "null"}]}
    if name in _INSIDE:
        return {"anyOf": [{"type": "string"}, {"type": "null"}]}
    return _schema_of(hint)


def _schema_of(hint: Any) -> dict[str, Any]:
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return {"type": "string", "enum": [member.value for member in hint]}
    simple = {str: "string", bool: "boolean", int: "integer", float: "number"}
    if hint in simple:
        return {"type": simple[hint]}
    origin = typing.get_origin(hint)
    if origin in (tuple, list):
        return {"type": "array"}
    return {"type": "object"} if hint is not Any and not isinstance(hint, typing.TypeVar) else {}


EVENTS_MISSED: Final = name_of(EventsMissed)
"""What a reader finds in place of events that are not kept any more."""
AnyDelta = Delta
