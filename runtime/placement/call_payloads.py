"""What calls between a runtime and its hosts carry: a head of plain JSON, and values of declared types behind it.

Both sides make the codec of a node of the node's own declaration, so neither takes the name of a type from the other.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2s
from typing import Any, Final, cast, final

from actors.graphs.node import NodeSpec
from actors.graphs.placing import taken_types
from actors.message_errors import MessageInvalid
from actors.placement_errors import MessageTooLarge, NotPortable
from actors.store_errors import NotStorable, RecordTooLarge
from runtime.messages.codec import MessageCodec
from runtime.messages.fields import fields_of
from runtime.messages.kinds import declared, field_types
from runtime.messages.modules import name_of
from runtime.messages.references import Addresses, with_addresses
from runtime.messages.schemas import type_name
from runtime.messages.tags import Types
from runtime.placement.frames import MAX_BODY_BYTES

PROTOCOL: Final = 1
"""Both sides say it first; another number is another protocol."""
_LENGTH: Final = struct.Struct(">I")
LENGTH_BYTES: Final = _LENGTH.size
_ENCODE: Final = json.JSONEncoder(separators=(",", ":")).encode
_DECODE: Final = json.JSONDecoder().raw_decode
"""Made once: `json.dumps` with an option makes an encoder for each call; and `json.loads` looks for blanks around a value."""


def packed(head: Mapping[str, Any], rest: bytes = b"") -> bytes:
    """A body: `head`, of what JSON has, and bytes."""
    return with_head(_ENCODE(head).encode(), rest)


def with_head(told: bytes, rest: bytes) -> bytes:
    """The same with a head that is JSON already."""
    return _LENGTH.pack(len(told)) + told + rest


def unpacked(body: bytes) -> tuple[dict[str, Any], bytes]:
    """The head of a body, and the bytes behind it."""
    (size,) = _LENGTH.unpack_from(body)
    end = _LENGTH.size + size
    return _DECODE(str(memoryview(body)[_LENGTH.size : end], "utf-8"))[0], body[end:]


@final
class NodeCodec:
    """Bytes of what one node takes and makes, and back."""

    def __init__(self, spec: NodeSpec, addresses: Addresses) -> None:
        """`addresses` are what refs in its messages stand for on this side."""
        self._addresses = addresses
        self._what = f"node {spec.name!r}"
        self._names = tuple(entry.name for entry in spec.inputs) + tuple(entry.name for entry in spec.recalls)
        self._codec = MessageCodec(types_of(spec), MAX_BODY_BYTES)

    def arguments(self, values: Mapping[str, Any], more: Sequence[Any] = ()) -> bytes:
        """The messages that the node gets, by parameter, and what else is for it."""
        return self._bytes([*(values.get(name) for name in self._names), *more], "takes")

    def read_arguments(self, data: bytes) -> tuple[dict[str, Any], list[Any]]:
        """What :meth:`arguments` made `data` of."""
        parts = self._read_all(data)
        count = len(self._names)
        return dict(zip(self._names, parts[:count], strict=True)), parts[count:]

    def made(self, value: Any) -> bytes:
        """What the node has made: a message, a list of such, or None."""
        return self._bytes([value], "makes")

    def read_made(self, data: bytes) -> Any:
        """What :meth:`made` made `data` of."""
        (value,) = self._read_all(data)
        return value

    def any_value(self, value: object, what: str) -> bytes:
        """A value of plain data and messages: see ``MessageCodec.encode_value``."""
        try:
            with with_addresses(self._addresses):
                return self._codec.encode_value(value, what)
        except NotStorable as error:
            raise not_portable(error, what) from error
        except RecordTooLarge as error:
            raise too_large(error) from error

    def read_any(self, data: bytes) -> Any:
        """What :meth:`any_value` made `data` of."""
        with with_addresses(self._addresses):
            return self._codec.decode_value(data)

    def _bytes(self, values: Iterable[Any], does: str) -> bytes:
        try:
            with with_addresses(self._addresses):
                return b"[" + b",".join([self._codec.encode(value) for value in values]) + b"]"
        except NotStorable as error:
            raise not_portable(error, f"what {self._what} {does}") from error
        except RecordTooLarge as error:
            raise too_large(error) from error

    def _read_all(self, data: bytes) -> list[Any]:
        try:
            with with_addresses(self._addresses):
                return [self._codec.decode(part) for part in self._codec.parts(data)]
        except MessageInvalid as error:
            raise NotPortable(
                f"what was sent for {self._what} cannot be read here: {error.problems[0]}.\n"
                "  Fix: declare the type where both processes import it, and run the same code in both."
            ) from error


def not_portable(error: NotStorable, what: str) -> NotPortable:
    """The error for a value that cannot travel, which the codec has found."""
    reason = str(error).partition("\n")[0].replace("cannot be stored", "cannot go to another process").rstrip(".")
    words = reason if reason.startswith(what) else f"{what} cannot go to another process: {reason}"
    return NotPortable(
        f"{words}.\n  Fix: let the message declare what it holds, of types that have JSON; or leave out place=.",
        type=error.type,
        field=error.field,
    )


def too_large(error: RecordTooLarge) -> MessageTooLarge:
    """The error for a value with too many bytes, which the codec has found."""
    words = str(error).replace("a record may have", "a message to another process may have")
    return MessageTooLarge(words, size=error.size or 0, limit=error.limit or 0)


def types_of(spec: NodeSpec) -> list[type]:
    """The types of the messages that a node takes, makes, recalls, or has its dependencies made of."""
    entries = [kind for kinds in taken_types(spec) for kind in kinds]
    needed = [kind for need in spec.needs.values() for each in need.all() for kinds in each.inputs.values() for kind in kinds]
    return list(dict.fromkeys([*entries, *spec.outputs, *needed]))


def likeness(spec: NodeSpec) -> dict[str, str]:
    """A short digest of a node's parameters and results, and one of each type that it deals with, by their names.

    Two processes in which these are equal understand one another's messages. Bodies of functions are not looked at.
    """
    node = {
        "kind": spec.kind.name,
        "takes": [
            [entry.name, [name_of(kind) for kind in entry.types], entry.gather is not None, entry.optional]
            for entry in spec.inputs
        ],
        "recalls": [[entry.name, [name_of(kind) for kind in entry.types]] for entry in spec.recalls],
        "needs": sorted(spec.needs),
        "gets": {name: wanted.value for name, wanted in spec.injected.items()},
        "makes": [name_of(kind) for kind in spec.outputs],
        "many": spec.fan_out.name,
    }
    found = {f"node {spec.name!r}": _digest(node)}
    for kind in Types(types_of(spec)).reachable:
        found[f"type {name_of(kind)}"] = digest_of_fields(kind)
    return found


def _fields(kind: type) -> object:
    form = declared(kind)
    required = {field.name: field.required for field in fields_of(kind)}
    return [[name, type_name(annotation), required.get(name)] for name, annotation in field_types(form).items()]


def digest_of_fields(kind: type) -> str:
    """A short digest of the names and types of a message's fields."""
    return _digest(_fields(kind))


def _digest(told: object) -> str:
    return blake2s(json.dumps(told, sort_keys=True, default=repr).encode(), digest_size=8).hexdigest()


def differing(ours: Mapping[str, str], theirs: Mapping[str, object]) -> list[str]:
    """The names whose digests are not the same on both sides, sorted."""
    return sorted(name for name in {*ours, *cast("Mapping[str, str]", theirs)} if ours.get(name) != theirs.get(name))
