"""What messages are stored as, by the message itself: so a record says of what stored bytes its result was made.

Digests are of bytes as they were stored, never of a message encoded again: a field that gets a default changes the encoding of
every message of that class, and must not make results look as if they had been made of something else.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from hashlib import blake2s
from typing import Any, Final, cast, final

from actors.errors import UnderstudyError
from runtime.graphs.reducer.branches import Delivery
from runtime.journal.records import digest_of

_UNKNOWN: Final = b"?" * 8
_NOTHING: Final = digest_of(b"null")


@final
class Digests:
    """The digests of the messages of one run, and of the runs inside it, as long as each is alive."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[weakref.ref[Any], bytes]] = {}

    def note(self, message: object, digest: bytes) -> None:
        """`message` is stored as bytes of this digest."""
        key = id(message)
        try:  # no contextlib.suppress, which costs as much as the rest
            self._known[key] = weakref.KeyedRef(message, self._forget, key), digest
        except TypeError:  # of a class with slots and without a place for weak references
            return

    def _forget(self, gone: Any) -> None:
        ref: weakref.KeyedRef[int, Any] = gone
        known = self._known.get(ref.key)
        if known is not None and known[0] is ref:
            del self._known[ref.key]

    def of_inputs(self, delivery: Delivery, encode: Callable[[object], bytes]) -> bytes:
        """The digest of the digests of what a step takes, in the order of its parameters; `encode` helps with what is unknown."""
        if delivery.recalled or len(delivery.arguments) != 1:
            taken = [*delivery.arguments.values(), *delivery.recalled.values()]
            return blake2s(b"".join([self._of(value, encode) for value in taken]), digest_size=8).digest()
        (value,) = delivery.arguments.values()  # of most steps
        known = self._known.get(id(value))
        parts = known[1] if known is not None and known[0]() is value else self._of(value, encode)
        return blake2s(parts, digest_size=8).digest()

    def _of(self, value: object, encode: Callable[[object], bytes]) -> bytes:
        if value is None:
            return _NOTHING
        known = self._known.get(id(value))
        if known is not None and known[0]() is value:
            return known[1]
        if type(value) is list:  # gathered
            parts = b"".join(self._of(item, encode) for item in cast("list[object]", value))
            return blake2s(parts, digest_size=8, person=b"list").digest()
        try:
            return digest_of(encode(value))
        except UnderstudyError:
            return _UNKNOWN
