"""What two processes must both have of an actor: what makes it, by name, and the types of what it is sent and answers.

Both sides read the types from the actor's own class and module, so neither takes the name of a type from the other.
"""

from __future__ import annotations

import contextlib
import enum
import inspect
import json
import sys
import types
import typing
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, cast, final

from actors.actor import Actor, Request
from actors.errors import DeclarationError
from actors.message_errors import MessageInvalid
from actors.placement_errors import NotPortable
from actors.portable import portable_name
from actors.store_errors import NotStorable, RecordTooLarge
from actors.words import repr_of
from runtime.messages.codec import MessageCodec
from runtime.messages.fields import message_kind
from runtime.messages.modules import name_of
from runtime.messages.references import Addresses, with_addresses
from runtime.messages.scalars import SCALARS
from runtime.messages.tags import Types
from runtime.placement.call_payloads import digest_of_fields, not_portable, too_large
from runtime.placement.frames import MAX_BODY_BYTES, too_long

_OURS: Final = ("actors", "runtime")
"""Packages whose classes are in every module that imports them; those that are messages say so in an annotation."""
_SCALARS: Final = {kind.__name__: kind for kind in SCALARS}
MAX_VALUE_BYTES: Final = MAX_BODY_BYTES - 2**16
"""A body has a head, too."""
_WIDE: Final = 2**63
_MESSAGE, _SCALAR, _MEMBER, _VALUE, _PLAIN = b"m", b"s", b"e", b"v", b"p"
"""What an encoded value begins with: how the rest is to be read."""


@final
class ActorCode:
    """One kind of actor: its factory, as both processes know it."""

    def __init__(self, factory: Any) -> None:
        self.factory = factory
        called = _called(factory)
        self.name = portable_name(called)
        self._types = types_of(called)
        self._codec = MessageCodec(self._types, MAX_VALUE_BYTES)
        self._enums = {name_of(each): each for each in enums_of(called)}

    def likeness(self) -> dict[str, str]:
        """One short digest of each type that it deals with, by their names; see ``call_payloads.likeness``."""
        return {f"type {name_of(kind)}": digest_of_fields(kind) for kind in Types(self._types).reachable}

    def type_named(self, name: str) -> type:
        """The class ``module:Class``, of those that it deals with, or of plain data.

        Raises:
            NotPortable: it is none of these.
        """
        plain: tuple[type, ...] = (object, str, int, float, bool, dict, list, tuple)
        found: dict[str, type] = {name_of(kind): kind for kind in (*plain, *self._enums.values(), *Types(self._types).reachable)}
        if name in found:
            return found[name]
        raise NotPortable(
            f"{name} is none of the types that actors made by {self.name} deal with.\n"
            "  Fix: import it at the top level of the actor's module."
        )

    # --- values -----------------------------------------------------------------------------------------------------------

    def written(self, value: object, what: str, addresses: Addresses) -> bytes:
        """`value` as bytes: a message of its module, plain data, or a ref. `what` begins the error's text.

        Raises:
            NotPortable: no JSON gives an equal value. MessageTooLarge: it has too many bytes.
        """
        try:
            with with_addresses(addresses):
                data = self._written(value, what)
        except NotStorable as error:
            raise _explained(not_portable(error, what), value) from error
        except RecordTooLarge as error:
            raise too_large(error) from error
        if len(data) > MAX_VALUE_BYTES:
            raise too_long(len(data), MAX_VALUE_BYTES)
        return data

    def _written(self, value: object, what: str) -> bytes:
        kind = type(value)
        if kind is str or value is None or kind is bool or (isinstance(value, int) and kind is int and -_WIDE < value < _WIDE):
            return _PLAIN + json.dumps(value).encode()  # the commonest, of which nothing can be lost
        if message_kind(kind) is not None:
            return _MESSAGE + self._codec.encode(value)
        if isinstance(value, enum.Enum) and name_of(kind) in self._enums:
            return _MEMBER + json.dumps([name_of(kind), value.name]).encode()
        if kind in SCALARS and kind not in (str, int, float, bool, type(None)):
            return _SCALAR + json.dumps([kind.__name__, SCALARS[kind].write(value)]).encode()
        return _VALUE + self._codec.encode_value(value, what)

    def read(self, data: bytes, addresses: Addresses) -> Any:
        """The value that :meth:`written` made `data` of, on either side.

        Raises:
            NotPortable: it is of no type that this side knows.
        """
        try:
            with with_addresses(addresses):
                return self._read(data[:1], data[1:])
        except MessageInvalid as error:
            raise NotPortable(
                f"what was sent for actors made by {self.name} cannot be read here: {error.problems[0]}.\n"
                "  Fix: declare the type in a module that both processes import, and run the same code in both."
            ) from error

    def _read(self, form: bytes, data: bytes) -> Any:
        if form == _PLAIN:
            return json.loads(data)
        if form == _MESSAGE:
            return self._codec.decode(data)
        if form == _VALUE:
            return self._codec.decode_value(data)
        name, value = json.loads(data)
        if form == _MEMBER:
            return self._enums[name][value]
        return SCALARS[_SCALARS[name]].read(value)

    def all_written(self, values: Iterable[object], addresses: Addresses, what: str) -> bytes:
        """Several values, such as the arguments of the factory.

        Raises:
            NotPortable: one or more cannot travel: all of them are named.
        """
        parts: list[str] = []
        problems: list[NotPortable] = []
        for number, value in enumerate(values, 1):
            try:
                parts.append(self.written(value, f"argument {number} of {what}", addresses).decode("utf-8"))
            except NotPortable as error:
                problems.append(error)
        if problems:
            raise problems[0] if len(problems) == 1 else NotPortable("\n".join(map(str, problems)))
        return json.dumps(parts).encode()

    def all_read(self, data: bytes, addresses: Addresses) -> list[Any]:
        """What :meth:`all_written` made `data` of."""
        return [self.read(part.encode(), addresses) for part in json.loads(data)]


def _explained(error: NotPortable, value: object) -> NotPortable:
    """Tell what to write, where the class of a message is not known."""
    if message_kind(type(value)) is None or error.field is not None:
        return error
    name = type(value).__name__
    fix = f"let the actor say that it takes or answers it, class …(Actor[{name}]), or import {name} in the actor's module."
    error.args = (f"{str(error).partition(chr(10))[0]}\n  Fix: {fix}",)
    return error


# --- types ----------------------------------------------------------------------------------------------------------------


def _called(factory: Any) -> Any:
    return typing.get_origin(factory) or factory


def types_of(called: Any) -> tuple[type, ...]:
    """The classes of messages that an actor, or a function that makes one, deals with: those that it declares or can name."""
    found = [*_declared(called), *_named(called)]
    return tuple(kind for kind in dict.fromkeys(found) if message_kind(kind) is not None and _is_readable(kind))


def enums_of(called: Any) -> tuple[type[enum.Enum], ...]:
    """The enums among what it declares or can name."""
    found = dict.fromkeys([*_declared(called), *_named(called)])
    return tuple(kind for kind in found if issubclass(kind, enum.Enum))


def _named(called: Any) -> Iterator[type]:
    """Classes that stand in the module, or around the function or class."""
    module = sys.modules.get(getattr(called, "__module__", ""))
    for each in list(vars(module).values()) if module is not None else ():
        if isinstance(each, type) and each.__module__.partition(".")[0] not in _OURS:
            yield each
    for function in _functions(called):
        with contextlib.suppress(ValueError, TypeError):
            for each in inspect.getclosurevars(function).nonlocals.values():
                if isinstance(each, type):
                    yield each


def _functions(called: Any) -> Iterator[types.FunctionType]:
    if isinstance(called, types.FunctionType):
        yield called
    elif isinstance(called, type):
        for base in called.__mro__:
            if base is not object and base is not Actor:
                yield from (each for each in vars(base).values() if isinstance(each, types.FunctionType))


def _declared(called: Any) -> Iterator[type]:
    """Classes in the annotations of what is called, of ``receive`` and of ``Actor[…]``; and the answers of those requests."""
    annotations: list[Any] = []
    if isinstance(called, type):
        for base in called.__mro__:
            if base is Actor or base is object:
                continue
            for written in getattr(base, "__orig_bases__", ()) if "__orig_bases__" in vars(base) else ():
                annotations += typing.get_args(written)
            for name in ("__init__", "receive"):
                if name in vars(base):
                    annotations += _hints(vars(base)[name])
    else:
        annotations += _hints(called)
    todo, seen = annotations, set[int]()
    while todo:
        each = todo.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        todo += typing.get_args(each)
        if isinstance(each, type):
            yield each
            if issubclass(each, Request):
                for written in getattr(cast("object", each), "__orig_bases__", ()):
                    todo += typing.get_args(written)


def _hints(function: Any) -> list[Any]:
    try:
        return list(typing.get_type_hints(function).values())
    except Exception:  # noqa: BLE001 - a name that stands inside a function, or only in the eyes of a type checker
        return [each for each in getattr(function, "__annotations__", {}).values() if not isinstance(each, str)]


def _is_readable(kind: type) -> bool:
    """Whether the annotations of all its fields can be evaluated."""
    try:
        Types([kind])
    except (DeclarationError, NameError, TypeError, AttributeError):
        return False
    return True


# --- by name --------------------------------------------------------------------------------------------------------------


def imported_factory(name: str) -> Callable[..., Actor[Any]]:
    """The class or function ``module:name``, on a host.

    Raises:
        ImportError: there is no such module. NotPortable: nothing in it can make an actor.
    """
    module, _, path = name.partition(":")
    found: Any = __import__(module, fromlist=["_"])
    for part in path.split("."):
        found = getattr(found, part, None)
    if (isinstance(found, type) and issubclass(found, Actor)) or isinstance(found, types.FunctionType):
        return cast("Callable[..., Actor[Any]]", found)
    raise NotPortable(
        f"{name} makes actors where the runtime runs, and here it is {repr_of(cast('object', found))}.\n"
        "  Fix: install the same version of your code where the runtime and its hosts run."
    )
