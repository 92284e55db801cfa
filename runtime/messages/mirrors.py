"""Mirrors: types that pydantic, and so DSPy, can show as a JSON schema and parse; what they parse to is the author's own type.

An attrs class and a dataclass have one; a pydantic model is its own, unless it holds attrs classes. Nothing is ever built around
a constructor: the author's validators, converters and ``__post_init__`` run, on what was said where they read it themselves.
"""

from __future__ import annotations

import enum
import functools
import types
import typing
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

import attrs

from actors.errors import DeclarationError
from actors.words import words_of
from runtime.messages.fields import MessageKind, fields_of, message_kind
from runtime.messages.kinds import Declared, JsonForm, field_types
from runtime.messages.showing import dump, type_name

_mirrors: weakref.WeakKeyDictionary[type, dict[tuple[Any, ...], type]] = weakref.WeakKeyDictionary()
"""The mirrors of each class, by the arguments that a generic one is given."""
_MAX_NESTING = 8
"""How deep the arguments of a generic class may be nested: beyond anything that an author writes."""
_hooked: weakref.WeakKeyDictionary[type, frozenset[str]] = weakref.WeakKeyDictionary()


def translate(annotation: Any) -> Any:
    """`annotation` with the mirrors of what pydantic would not validate as its author means it."""
    if isinstance(annotation, typing.NewType):
        return translate(annotation.__supertype__)
    if isinstance(annotation, typing.TypeVar):
        return translate(annotation.__bound__) if annotation.__bound__ is not None else Any
    if type(annotation).__name__ == "TypeAliasType":  # `type X = …`, from Python 3.12 on
        return translate(annotation.__value__)
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is None:
        return _mirror_of(annotation) if _needs_mirror(annotation) else annotation
    if origin is typing.Literal or message_kind(origin) is MessageKind.PYDANTIC:
        return annotation
    if message_kind(origin) is not None:
        return _mirror_of(origin, arguments)
    if origin is typing.Annotated:
        return typing.Annotated[(translate(arguments[0]), *annotation.__metadata__)]
    if origin in (typing.Union, types.UnionType):
        return functools.reduce(lambda left, right: typing.Union[left, right], map(translate, arguments))  # noqa: UP007
    translated = tuple(argument if argument is Ellipsis else translate(argument) for argument in arguments)
    return annotation if translated == arguments else origin[translated]


def _needs_mirror(annotation: Any) -> bool:
    kind = message_kind(annotation)
    if kind is MessageKind.PYDANTIC:
        return _holds_attrs(annotation, set())
    if isinstance(annotation, enum.EnumMeta):
        # DSPy compares an answer's text with the values: only text ever equals text.
        return not all(isinstance(member.value, str) for member in cast("Any", annotation))
    return kind is not None


def _holds_attrs(annotation: Any, seen: set[Any]) -> bool:
    """Whether an attrs class, which pydantic cannot validate on its own, stands in `annotation` at any depth."""
    kind = message_kind(annotation)
    if kind is MessageKind.ATTRS:
        return True
    if kind is None:
        return any(_holds_attrs(argument, seen) for argument in typing.get_args(annotation))
    if annotation in seen:
        return False
    seen.add(annotation)
    return any(_holds_attrs(field.type, seen) for field in fields_of(annotation))


def _mirror_of(owner: type, arguments: tuple[Any, ...] = ()) -> type:
    if arguments == getattr(owner, "__parameters__", ()):  # Box[T] within Box
        arguments = ()
    if _nesting(arguments) > _MAX_NESTING:
        raise DeclarationError(
            f"{owner.__name__} holds itself with ever larger arguments, so it has no JSON schema of finite size.\n"
            f"  Fix: let {owner.__name__} hold itself with its own type variables only."
        )
    known = _mirrors.setdefault(owner, {})
    found = known.get(arguments)
    if found is None:
        # The mirror must not keep the author's class alive, or the cache would never release either.
        weak = weakref.ref(owner)

        @functools.cache  # one shape per mirror: by its identity pydantic notices that a type holds itself
        def shape() -> Any:
            return _shape_of(cast("type", weak()), arguments)

        def schema(_cls: type, _source: object, handler: Any) -> Any:
            return handler.generate_schema(_parsing(weak, shape))

        body: dict[str, Any] = {"__doc__": owner.__doc__, "__module__": owner.__module__}
        body["__get_pydantic_core_schema__"] = classmethod(schema)
        if issubclass(owner, enum.Enum):
            shown = [dump(member.value) for member in owner]
            body["__get_pydantic_json_schema__"] = staticmethod(_always({"enum": shown}))
        found = known[arguments] = type(owner.__name__, (), body)
    return found


def _nesting(arguments: tuple[Any, ...]) -> int:
    return max((1 + _nesting(typing.get_args(argument)) for argument in arguments), default=0)


def _always(schema: dict[str, Any]) -> Callable[[object, object], dict[str, Any]]:
    return lambda _schema, _handler: schema


def _parsing(weak: weakref.ref[type], shape: Callable[[], Any]) -> Any:
    """An annotation by which pydantic parses to the type that `weak` refers to."""
    from pydantic import PlainValidator, WrapValidator  # noqa: PLC0415

    def to_member(value: object) -> enum.Enum:
        return _member(cast("type[enum.Enum]", weak()), value)

    def to_message(value: object, parse: Callable[[object], Any]) -> Any:
        owner = cast("type", weak())
        if isinstance(value, owner):
            return value
        parsed = parse(value)
        names = [field.name for field in fields_of(owner) if field.init]
        return _made(owner, {names[int(slot[5:])]: getattr(parsed, slot) for slot in parsed.model_fields_set})

    if issubclass(cast("type", weak()), enum.Enum):
        return typing.Annotated[Any, PlainValidator(to_member)]
    return typing.Annotated[shape(), WrapValidator(to_message)]


def _shape_of(owner: type, arguments: tuple[Any, ...]) -> Any:
    """A pydantic model with the fields of `owner`, whose type variables stand for `arguments`.

    Its own attributes are called ``slot_0``, ``slot_1``, …: a field of the author's may have any name, such as ``schema`` or
    ``copy``, and pydantic would complain of those that shadow its own.
    """
    from pydantic import AliasChoices, ConfigDict, Field, WrapValidator, create_model  # noqa: PLC0415

    taken_raw = {field.name for field in fields_of(owner) if field.name in hooked(owner) and not _has_own_reader(field.type)}
    kinds = field_types(Declared(JsonForm.MESSAGE, owner, arguments))
    slots: dict[str, Any] = {}
    for index, field in enumerate(field for field in fields_of(owner) if field.init):
        alias = field.name if field.name == field.attribute else AliasChoices(field.name, field.attribute)
        options: dict[str, Any] = {"validation_alias": alias, "title": field.name, "description": field.description or None}
        if not field.required:
            options["default_factory"] = lambda: None  # never read: what was not given is left to the author's own default
        kind = translate(kinds[field.name])
        if field.name in taken_raw:
            kind = typing.Annotated[kind, WrapValidator(_offer)]
        slots[f"slot_{index}"] = (kind, Field(**options))
    config = ConfigDict(
        defer_build=True, arbitrary_types_allowed=False, protected_namespaces=(), json_schema_extra=_without_slots
    )
    text = owner.__doc__ or ""
    told = None if text.startswith(f"{owner.__name__}(") else text  # dataclasses writes its own where the author wrote none
    name = owner.__name__ + (f"[{', '.join(map(type_name, arguments))}]" if arguments else "")
    created: Any = create_model(name, __config__=config, __module__=owner.__module__, __doc__=told, **slots)
    return created


def _without_slots(schema: dict[str, Any]) -> None:
    """Let a schema that was asked for without aliases name the author's fields, which are the titles of the slots."""
    properties = schema.get("properties", {})
    names = {name: cast("str", each.get("title", name)) for name, each in properties.items()}
    schema["properties"] = {names[name]: each for name, each in properties.items()}
    if "required" in schema:
        schema["required"] = [names.get(name, name) for name in schema["required"]]


@attrs.frozen
class _Offered:
    """A value for a field whose author reads it: as it was said, and as the field's type takes it."""

    said: Any
    fitting: Any
    problem: str | None
    """Why the type does not take it."""


def _offer(said: object, parse: Callable[[object], Any]) -> _Offered:
    """What a field with a reader of its author's is offered; not yet wrong when its type does not take it."""
    from pydantic import ValidationError  # noqa: PLC0415

    try:
        return _Offered(said, parse(said), None)
    except ValidationError as error:
        return _Offered(said, None, str(error.errors(include_url=False, include_context=False)[0]["msg"]))


def _made(owner: type, given: Mapping[str, Any]) -> Any:
    """`owner` made of `given`: what was said goes to the author's own readers first, and what they make must fit the types.

    Where it does not, they get what the types make of it, which is what a converter such as ``tuple`` is written for.
    """
    offered = {name: value for name, value in given.items() if isinstance(value, _Offered)}
    if not offered:
        return made_of(owner, given)
    problem = next((f"{name}: {each.problem}" for name, each in offered.items() if each.problem is not None), None)
    fitting = {name: value.fitting if isinstance(value, _Offered) else value for name, value in given.items()}
    try:
        made = made_of(owner, {name: value.said if isinstance(value, _Offered) else value for name, value in given.items()})
    except ValueError:
        if problem is not None:
            raise
        return made_of(owner, fitting)
    kinds = {field.name: field for field in fields_of(owner)}
    if all(_fits(kinds[name].type, getattr(made, kinds[name].attribute, None)) for name in offered):
        return made
    if problem is not None:
        raise ValueError(f"{owner.__name__} rejected it: {problem}")
    return made_of(owner, fitting)


def _fits(annotation: Any, value: object) -> bool:
    """Whether `value` is one of `annotation` as it stands, without any conversion."""
    try:
        same = adapter_of(annotation, translate(annotation)).validate_python(value, strict=True)
        return bool(same == value) and (not isinstance(same, enum.Enum) or same is value)
    except Exception:  # noqa: BLE001 - pydantic's, or that of a comparison of the author's
        return False


def made_of(owner: type, given: Mapping[str, Any]) -> Any:
    """`owner` made by its own constructor, from values that are what their fields declare.

    Raises:
        ValueError: it rejected them, with what it raised as the cause; :func:`reasons` distinguishes them.
    """
    try:
        if message_kind(owner) is MessageKind.PYDANTIC:
            return cast("Any", owner).model_validate(dict(given), by_name=True, by_alias=True)
        return owner(**given)
    except Exception as error:
        raise ValueError(f"{owner.__name__} rejected it: {words_of(error) or type(error).__name__}") from error


def _member(owner: type[enum.Enum], value: object) -> enum.Enum:
    members = list(owner)
    for member in members:
        if value is member or value == member.value:
            return member
    for member in members:
        if isinstance(value, str) and value.strip() in (str(member.value), member.name):
            return member
    raise ValueError(f"expected one of {', '.join(str(member.value) for member in members)}")


def adapter_of(annotation: Any, translated: Any) -> Any:
    """The adapter of pydantic for `translated`, which is `annotation` with its mirrors.

    Raises:
        DeclarationError: it holds a type that cannot be read from JSON.
    """
    try:
        return _kept_adapter_of(translated) if _hashable(translated) else _make_adapter(translated)
    except DeclarationError:
        raise
    except Exception as error:
        from pydantic import PydanticSchemaGenerationError, PydanticUndefinedAnnotation, PydanticUserError  # noqa: PLC0415

        if not isinstance(error, PydanticSchemaGenerationError | PydanticUndefinedAnnotation | PydanticUserError):
            raise
        raise DeclarationError(
            f"{type_name(annotation)} cannot be read from JSON: {words_of(error).partition(chr(10))[0]}\n"
            "  Fix: build message types of str, numbers, bool, enums, Literal, dates, lists, dicts, unions and message types."
        ) from error


def _hashable(annotation: Any) -> bool:
    try:
        hash(annotation)
    except TypeError:  # Annotated with a list, for one
        return False
    return True


@functools.lru_cache(maxsize=512)
def _kept_adapter_of(translated: Any) -> Any:
    return _make_adapter(translated)


def _make_adapter(translated: Any) -> Any:
    from pydantic import TypeAdapter  # noqa: PLC0415

    made: Any = TypeAdapter(translated)
    made.json_schema()
    return made


# --- what the author reads ---


def hooked(message_type: type) -> frozenset[str]:
    """The fields whose author reads the answer as it was said.

    By a converter of attrs, or by a validator that runs before pydantic's own.
    """
    found = _hooked.get(message_type)
    if found is None:
        found = _hooked[message_type] = frozenset(_hooked_fields(message_type))
    return found


def _hooked_fields(message_type: type) -> Iterator[str]:
    marks: Any = getattr(message_type, "__pydantic_decorators__", None)
    modes = {"before", "wrap", "plain"}
    named: set[str] = set()
    if marks is not None:
        models = [each.info.mode for each in marks.model_validators.values()]
        models += ["before" for each in marks.root_validators.values() if each.info.mode == "before"]
        fields = [each.info for each in marks.field_validators.values() if each.info.mode in modes]
        fields += [each.info for each in marks.validators.values() if each.info.mode in modes]
        named = {name for info in fields for name in info.fields} | ({"*"} if modes.intersection(models) else set())
    converted: set[str] = set()
    if message_kind(message_type) is MessageKind.ATTRS:
        own: Any = attrs.fields(cast("Any", message_type))
        converted = {field.name for field in own if field.converter is not None}
    for field in fields_of(message_type):
        if "*" in named or field.attribute in named | converted or _has_own_reader(field.type):
            yield field.name


def _has_own_reader(annotation: Any) -> bool:
    """Whether a validator that runs before pydantic's own stands in an ``Annotated``."""
    metadata: tuple[Any, ...] = getattr(annotation, "__metadata__", ())
    return any(type(each).__name__ in {"BeforeValidator", "WrapValidator", "PlainValidator"} for each in metadata)


def plain(annotation: Any) -> Any:
    """`annotation` without validators of its author's that run before pydantic's own."""
    return typing.get_args(annotation)[0] if _has_own_reader(annotation) else annotation
