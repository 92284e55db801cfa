"""The JSON that is stored: ``{"module:Class": {…}}``, read back and compared before it is believed.

A tag is looked up among the types that the codec was made for, the types of their fields, and the loaded subclasses of both;
nothing is imported by a name found in the data. Most messages are written and read by msgspec, which knows attrs classes and
dataclasses and takes 2 µs for one. What msgspec would lose silently, or does not know, goes through ``runtime.messages.tagged``:
pydantic models, unions of several messages, ``Any``, generics, sets.

msgspec is imported here only, when the first codec is made.
"""

from __future__ import annotations

import datetime
import enum
import json
import typing
from collections.abc import Callable, Iterable
from typing import Any, Final, cast, final

import attrs

from actors.store_errors import NotStorable, RecordTooLarge
from actors.words import kind_of
from runtime.messages import schemas
from runtime.messages.fields import MessageKind, fields_of, message_kind
from runtime.messages.json_text import MAX_BYTES, MAX_DEPTH, parse
from runtime.messages.kinds import JsonForm, declared, is_exactly
from runtime.messages.problems import FieldProblem, MessageInvalid, invalid
from runtime.messages.sameness import is_same
from runtime.messages.scalars import SCALARS
from runtime.messages.tagged import TaggedReading, TaggedWriting, TooDeep
from runtime.messages.tags import Types

_QUICK: Final = frozenset(SCALARS) - {datetime.time, datetime.datetime}
"""Of the plain types those that msgspec gives back as they were; of two equal times one may have lost its ``fold``."""


@final
@attrs.frozen(eq=False)
class _Form:
    """How values of one class are stored."""

    type: type
    head: bytes
    """``{"module:Class":``"""
    decode: Callable[[bytes], Any] | None
    """msgspec's reader; None for a class whose values it does not give back as they were."""


@final
class MessageCodec:
    """Bytes of messages of some declared types, and back. One codec serves any number of runs."""

    def __init__(self, declared_types: Iterable[type], max_bytes: int = MAX_BYTES, max_depth: int = MAX_DEPTH) -> None:
        """A codec for `declared_types`; no data may have more than `max_bytes`, nor be nested deeper than `max_depth`."""
        import msgspec  # noqa: PLC0415 - loaded by the first store that is opened

        self._json = msgspec.json
        self._raw_list = msgspec.json.Decoder(list[msgspec.Raw])
        self._encode = msgspec.json.Encoder().encode
        self._failures = (msgspec.MsgspecError, TypeError, ValueError, OverflowError, RecursionError)
        self._types = Types(declared_types)
        self._forms: dict[type, _Form] = {}
        self._max_bytes = max_bytes
        self._max_depth = max_depth

    def encode(self, value: object) -> bytes:
        """`value` as it is stored: a message of a declared type or a subclass, a list of such, or None.

        Raises:
            NotStorable: no JSON gives an equal value; ``type`` and ``field`` say where.
            RecordTooLarge: it has more than the codec's bytes, or is nested too deeply.
        """
        form = self._forms.get(type(value))
        if form is not None and form.decode is not None:  # what most messages are: as in _one, without its calls
            try:
                body = self._encode(value)
                read = form.decode(body)
                if read == value and self._encode(read) == body and len(body) + len(form.head) < self._max_bytes:
                    return form.head + body + b"}"
            except Exception:  # noqa: BLE001 - the longer way tells what it is
                pass
        if value is None:
            return b"null"
        if is_exactly(value, list):
            items = [b"null" if item is None else self._one(item) for item in cast("list[object]", value)]
            data = b"[" + b",".join(items) + b"]"
        else:
            data = self._one(value)
        self._check_size(value, data)
        return data

    def _check_size(self, value: object, data: bytes) -> None:
        if len(data) > self._max_bytes:
            raise RecordTooLarge(
                f"{_what(value)} has {len(data):,} bytes as JSON; a record may have {self._max_bytes:,}.\n"
                "  Fix: keep it elsewhere, in a file or a blob store, and let the message say where.",
                size=len(data),
                limit=self._max_bytes,
            )

    def decode(self, data: bytes) -> Any:
        """The value that :meth:`encode` made `data` of.

        Raises:
            MessageInvalid: it is none of the types as they are now; ``problems`` tells where.
        """
        if data == b"null":
            return None
        if len(data) > self._max_bytes:
            raise invalid("A stored value cannot be read", [FieldProblem((), f"it has more than {self._max_bytes:,} bytes")])
        if data[:1] != b"[":
            return self._decode_one(data)
        return [None if part == b"null" else self._decode_one(part) for part in self.parts(data)]

    def parts(self, data: bytes) -> list[bytes]:
        """What each item of a list is stored as, of which `data` was made."""
        try:
            return [bytes(raw) for raw in self._raw_list.decode(data)]
        except self._failures:
            parse(data, max_bytes=self._max_bytes, max_depth=self._max_depth)  # tells what is wrong with it
            raise

    # --- any value --------------------------------------------------------------------------------------------------------

    def encode_value(self, value: object, what: str) -> bytes:
        """`value` as it is stored: text, a number, a bool, None, a message of a declared type, or lists and dicts of these.

        Raises:
            NotStorable: no JSON gives an equal value; `what` begins its text.
            RecordTooLarge: it has more than the codec's bytes, or is nested too deeply.
        """
        try:
            writing = TaggedWriting(self._types)
            written = writing.value(Any, value, (), self._max_depth)
            if writing.problems:
                raise _value_not_storable(what, value, writing.problems[0])
            data = json.dumps(written, separators=(",", ":"), allow_nan=False, ensure_ascii=False).encode("utf-8")
        except (TooDeep, RecursionError) as error:
            raise self._too_deep(value) from error
        self._check_size(value, data)
        try:
            place = is_same(value, self.decode_value(data))
        except MessageInvalid as error:
            raise _value_not_storable(what, value, error.problems[0]) from error
        if place is not None:
            raise _value_not_storable(what, value, FieldProblem(place, "it comes back from JSON as something else"))
        return data

    def decode_value(self, data: bytes) -> Any:
        """The value that :meth:`encode_value` made `data` of.

        Raises:
            MessageInvalid: a message in it is none of the types as they are now.
        """
        reading = TaggedReading(self._types)
        value = reading.value(Any, parse(data, max_bytes=self._max_bytes, max_depth=self._max_depth), ())
        if reading.problems:
            raise invalid("A stored value cannot be read", reading.problems)
        return value

    # --- one message ------------------------------------------------------------------------------------------------------

    def _one(self, value: object) -> bytes:
        form = self._forms.get(type(value)) or self._form_of(value)
        if form.decode is not None:
            try:
                body = self._encode(value)
                read = form.decode(body)
                if read == value and self._encode(read) == body:
                    return form.head + body + b"}"
            except self._failures:
                pass  # the slower way finds the place
            except Exception:  # noqa: BLE001 - a validator or a comparison of its author's, which will be asked again
                pass
        return form.head + self._tagged(form, value) + b"}"

    def _tagged(self, form: _Form, value: object) -> bytes:
        try:
            writing = TaggedWriting(self._types)
            written = writing.message(form.type, value, (), self._max_depth)
            if writing.problems:
                raise _not_storable(form.type, writing.problems[0])
            text = json.dumps(written, separators=(",", ":"), allow_nan=False, ensure_ascii=False).encode("utf-8")
        except TooDeep as error:
            raise self._too_deep(value) from error
        except RecursionError as error:
            raise self._too_deep(value) from error
        try:
            read = self._read(form, text)
        except MessageInvalid as error:
            raise _not_storable(form.type, error.problems[0]) from error
        place = is_same(value, read)
        if place is not None:
            raise _not_storable(form.type, FieldProblem(place, "comes back from JSON as something else"))
        return text

    def _too_deep(self, value: object) -> RecordTooLarge:
        return RecordTooLarge(
            f"{_what(value)} is nested more than {self._max_depth} deep.\n  Fix: keep it flat: a list of parts, say.",
            limit=self._max_depth,
        )

    def _decode_one(self, data: bytes) -> Any:
        end = data.find(b'":')
        if data[:2] != b'{"' or end < 0 or data[-1:] != b"}":
            raise invalid("A stored value cannot be read", [FieldProblem((), "it does not begin with the name of a type")])
        found = self._types.find_bytes(data[1 : end + 1])
        if found is None:
            name = data[2:end].decode("utf-8", "replace")[:200]
            raise invalid("A stored value cannot be read", [FieldProblem((), f"{name!r} is none of the graph's types")])
        return self._read(self._forms.get(found) or self._form(found), data[end + 2 : -1])

    def _read(self, form: _Form, body: bytes) -> Any:
        """The message whose fields `body` gives."""
        if form.decode is not None:
            try:
                read = form.decode(body)
                if self._encode(read) == body:  # msgspec passes over fields that are no more
                    return read
            except self._failures:
                pass
        reading = TaggedReading(self._types)
        made = reading.message(form.type, parse(body, max_bytes=self._max_bytes, max_depth=self._max_depth), ())
        if reading.problems:
            name = schemas.type_name(form.type)
            raise invalid(f"What is stored as {name} does not make one", reading.problems)
        return made

    def _form_of(self, value: object) -> _Form:
        kind = type(value)
        if message_kind(kind) is None or self._types.tag_of(kind) is None:
            names = ", ".join(sorted(each.__name__ for each in self._types.declared))
            raise NotStorable(
                f"a {kind_of(value)} cannot be stored: it is none of the graph's message types ({names}), nor of a class derived "
                "from one.\n  Fix: return a declared message type.",
                type=kind_of(value),
            )
        return self._form(kind)

    def _form(self, kind: type) -> _Form:
        tag = self._types.tag_of(kind)
        assert tag is not None, "forms are made of known types"
        decode: Callable[[bytes], Any] | None = None
        if _is_quick(kind, ()) and _is_compared(kind):
            try:
                decode = self._json.Decoder(kind).decode
            except (TypeError, ValueError):  # something that msgspec does not distinguish
                decode = None
        form = self._forms[kind] = _Form(kind, b"{" + json.dumps(tag).encode("ascii") + b":", decode)
        return form


def _is_quick(annotation: Any, around: tuple[Any, ...]) -> bool:
    """Whether msgspec gives values of `annotation` back as they were, or fails; a class that holds itself is not looked at."""
    kind = declared(annotation)
    match kind.kind:
        case JsonForm.SCALAR:
            return kind.type in _QUICK
        case JsonForm.ENUM:
            return all(type(member.value) in (str, int) for member in cast("list[enum.Enum]", list(kind.type)))
        case JsonForm.LITERAL:
            return all(type(part) in (str, int, type(None)) for part in kind.parts)
        case JsonForm.UNION:
            return all(_is_quick(part, around) for part in kind.parts)
        case JsonForm.LIST:
            return typing.get_origin(annotation) is list and _is_quick(kind.parts[0], around)
        case JsonForm.TUPLE:
            return annotation is not tuple and all(part is Ellipsis or _is_quick(part, around) for part in kind.parts)
        case JsonForm.MAPPING:
            return typing.get_origin(annotation) is dict and kind.parts[0] is str and _is_quick(kind.parts[1], around)
        case JsonForm.MESSAGE:
            owner = kind.type
            if owner in around or message_kind(owner) is MessageKind.PYDANTIC or annotation is not owner:
                return False
            if getattr(owner, "__parameters__", ()) or hasattr(owner, "_attrs_cached_hash"):
                return False
            fields = fields_of(owner)
            plain = all(f.init and f.name == f.attribute and not f.attribute.startswith("_") for f in fields)
            return plain and all(_is_quick(field.type, (*around, owner)) for field in fields)
        case _:
            return False


def _is_compared(kind: Any) -> bool:
    """Whether values of `kind` are compared by what they hold."""
    return kind.__eq__ is not object.__eq__


def _what(value: object) -> str:
    return f"a {kind_of(value)}"


def _not_storable(kind: type, problem: FieldProblem) -> NotStorable:
    name = schemas.type_name(kind)
    where = f"field {problem.place!r} of a {name}" if problem.path else f"a {name}"
    return NotStorable(
        f"{where} cannot be stored: {problem.message}.\n"
        f"  Fix: let {name} declare what it holds, of types that have JSON, or start the run with durable=False.",
        type=name,
        field=problem.place or None,
    )


def _value_not_storable(what: str, value: object, problem: FieldProblem) -> NotStorable:
    where = f" at {problem.place}" if problem.path else ""
    return NotStorable(
        f"{what} cannot be stored{where}: {problem.message}.\n"
        "  Fix: return text, numbers, lists and dicts of these, or messages of the graph.",
        type=kind_of(value),
        field=problem.place or None,
    )
