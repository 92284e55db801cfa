"""What an annotation means for JSON: one classification, by which reading and writing go."""

from __future__ import annotations

import collections.abc
import enum
import types
import typing
import weakref
from collections.abc import Mapping
from typing import Any, Final, cast, final

import attrs

from runtime.messages.fields import MessageKind, fields_of, message_kind
from runtime.messages.scalars import SCALARS


class JsonForm(enum.Enum):
    """Which of JSON's forms a declared type takes."""

    ANY = "any JSON"
    SCALAR = "a row of SCALARS"
    ENUM = "the value of a member"
    LITERAL = "one of some values"
    UNION = "one of some types"
    ANNOTATED = "a type and what its author demands besides"
    LIST = "an array"
    TUPLE = "an array with a type for each place"
    SET = "an array without doubles"
    MAPPING = "an object with any names"
    MESSAGE = "an object with declared fields"
    ROOT = "what a pydantic root model holds"
    FOREIGN = "what pydantic makes of it"


@final
@attrs.frozen
class Declared:
    """An annotation, read."""

    kind: JsonForm
    type: Any
    """The annotation without its arguments, or the annotation itself."""
    parts: tuple[Any, ...] = ()
    """The types of what is in it; the values of a ``Literal``."""


_LISTS: Final = (list, collections.abc.Sequence, collections.abc.MutableSequence, collections.abc.Collection)
_SETS: Final = {set: set, collections.abc.MutableSet: set, frozenset: frozenset, collections.abc.Set: frozenset}
_MAPPINGS: Final = (dict, collections.abc.Mapping, collections.abc.MutableMapping)


_PLAIN: Final = {kind: Declared(JsonForm.SCALAR, kind) for kind in SCALARS}


_messages: weakref.WeakSet[Any] = weakref.WeakSet()
"""Classes of which it is known that they are message types: those that nothing but their own declaration says more of."""


def declared(annotation: Any) -> Declared:
    """What `annotation` means; a type that nothing here knows is left to pydantic."""
    if is_exactly(annotation, type):
        if (plain := _PLAIN.get(annotation)) is not None:
            return plain
        if annotation in _messages:
            return Declared(JsonForm.MESSAGE, annotation)
    if isinstance(annotation, typing.NewType):
        return declared(annotation.__supertype__)
    if isinstance(annotation, typing.TypeVar):
        return declared(annotation.__bound__) if annotation.__bound__ is not None else Declared(JsonForm.ANY, Any)
    if type(annotation).__name__ == "TypeAliasType":  # `type X = …`, from Python 3.12 on
        return declared(annotation.__value__)
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return Declared(JsonForm.ANNOTATED, annotation, arguments[:1])
    if origin in (typing.Union, types.UnionType):
        return Declared(JsonForm.UNION, annotation, arguments)
    if origin is typing.Literal:
        return Declared(JsonForm.LITERAL, annotation, arguments)
    return _of_class(annotation, annotation if origin is None else origin, arguments)


def _of_class(annotation: Any, plain: Any, arguments: tuple[Any, ...]) -> Declared:
    if annotation is None:
        return Declared(JsonForm.SCALAR, types.NoneType)
    if annotation is Any or annotation is object:
        return Declared(JsonForm.ANY, Any)
    if message_kind(plain) is not None:
        if message_kind(plain) is MessageKind.PYDANTIC and getattr(plain, "__pydantic_root_model__", False):
            return Declared(JsonForm.ROOT, plain, (fields_of(plain)[0].type,))
        if is_exactly(annotation, type):
            _messages.add(annotation)
        return Declared(JsonForm.MESSAGE, plain, arguments)
    if isinstance(plain, enum.EnumMeta):
        return Declared(JsonForm.ENUM, plain)
    try:
        hash(plain)
    except TypeError:
        return Declared(JsonForm.FOREIGN, annotation)
    if plain in SCALARS:
        return Declared(JsonForm.SCALAR, plain)
    if plain in _LISTS:
        return Declared(JsonForm.LIST, list, arguments or (Any,))
    if plain is tuple:
        return (
            Declared(JsonForm.TUPLE, tuple, arguments) if annotation is not tuple else Declared(JsonForm.TUPLE, tuple, (Any, ...))
        )
    if plain in _SETS:
        return Declared(JsonForm.SET, _SETS[plain], arguments or (Any,))
    if plain in _MAPPINGS:
        return Declared(JsonForm.MAPPING, dict, arguments or (str, Any))
    return Declared(JsonForm.FOREIGN, annotation)


def is_exactly(value: object, kind: Any) -> bool:
    """Whether `value` is of `kind` and of no subclass: True isn't an int here."""
    return type(value) is kind


def field_types(message: Declared) -> Mapping[str, Any]:
    """The types of the fields that the constructor takes, by name, with the arguments of a generic class put in."""
    types = shape_of(message.type).types
    if not message.parts:
        return types
    parameters: tuple[Any, ...] = getattr(message.type, "__parameters__", ())
    given = dict(zip(parameters, message.parts, strict=False))
    return {name: _filled(annotation, given) for name, annotation in types.items()}


@final
@attrs.frozen
class MessageShape:
    """What reading and writing ask of a message type each time."""

    types: Mapping[str, Any]
    """Those of the fields that the constructor takes, by name."""
    required: frozenset[str]
    """The fields that have no default."""
    attributes: Mapping[str, str]
    """What instances call the fields, by name."""


_shapes: weakref.WeakKeyDictionary[Any, MessageShape] = weakref.WeakKeyDictionary()


def shape_of(owner: Any) -> MessageShape:
    """That of a message type; found once for each.

    Raises:
        DeclarationError: as :func:`runtime.messages.fields.fields_of`.
    """
    shape = _shapes.get(owner)
    if shape is None:
        fields = fields_of(owner)
        shape = _shapes[owner] = MessageShape(
            {field.name: field.type for field in fields if field.init},
            frozenset(field.name for field in fields if field.required),
            {field.name: field.attribute for field in fields},
        )
    return shape


def _filled(annotation: Any, given: dict[Any, Any]) -> Any:
    if not given:
        return annotation
    if isinstance(annotation, typing.TypeVar):
        return given.get(annotation, annotation)
    open_parameters = cast("tuple[Any, ...]", getattr(annotation, "__parameters__", ()))
    if not open_parameters or isinstance(annotation, type):
        return annotation
    return annotation[tuple(given.get(parameter, parameter) for parameter in open_parameters)]


def union_of(kinds: collections.abc.Iterable[Any]) -> Any:
    """The annotation that takes each of `kinds`, of which there is one at least."""
    union: Any = None
    for kind in kinds:
        union = kind if union is None else union | kind
    return union
