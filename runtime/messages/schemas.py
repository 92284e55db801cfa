"""JSON schemas of message types, lenient reading, and what strict reading needs of pydantic.

A *mirror* is a type that pydantic, and so DSPy, can show as a JSON schema and parse; what it parses to is the author's own type.
An attrs class and a dataclass have one; a pydantic model is its own, unless it holds attrs classes. Nothing is ever built around
a constructor: the author's validators, converters and ``__post_init__`` run.

:func:`build` reads leniently, as a language model's answer wants to be read; ``runtime.messages.reader`` reads strictly.

pydantic is imported here only, inside the functions that need it.
"""

from __future__ import annotations

import base64
import enum
import functools
import inspect
import json
import types
import typing
import weakref
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, cast

import attrs

from actors.errors import DeclarationError
from actors.words import repr_of, words_of
from runtime.messages.fields import MessageField, MessageKind, fields_of, message_kind
from runtime.messages.problems import FieldProblem, invalid

SHOWN_CHARACTERS = 120
"""How much of a value an error message shows."""

_mirrors: weakref.WeakKeyDictionary[type, type] = weakref.WeakKeyDictionary()
_hooked: weakref.WeakKeyDictionary[type, frozenset[str]] = weakref.WeakKeyDictionary()


def shorten(value: object, limit: int = SHOWN_CHARACTERS) -> str:
    """``repr(value)``, its middle cut out when it is longer than `limit` characters."""
    shown = value if isinstance(value, str) and len(value) > 10 * limit else repr_of(value, 10 * limit)
    if len(shown) <= limit:
        return shown
    half = (limit - 3) // 2
    return f"{shown[:half]}…{shown[-half:]}"


def type_name(annotation: object) -> str:
    """`annotation` as its author wrote it, without module names."""
    if annotation is None or annotation is type(None):
        return "None"
    if annotation is Ellipsis:
        return "..."
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is None:
        return annotation.__name__ if isinstance(annotation, type) else str(annotation).removeprefix("typing.")
    if origin is typing.Annotated:
        return type_name(arguments[0])
    if origin in (typing.Union, types.UnionType):
        return " | ".join(type_name(argument) for argument in arguments)
    if origin is typing.Literal:
        return f"Literal[{', '.join(repr(argument) for argument in arguments)}]"
    return f"{getattr(origin, '__name__', origin)}[{', '.join(type_name(argument) for argument in arguments)}]"


def allows_none(annotation: object) -> bool:
    """Whether None is a value of `annotation`."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return allows_none(arguments[0])
    if origin in (typing.Union, types.UnionType):
        return any(allows_none(argument) for argument in arguments)
    if origin is typing.Literal:
        return None in arguments
    return annotation is None or annotation is type(None)


def mirror(annotation: Any) -> Any:
    """`annotation` with every message type in it, at any depth, exchanged for its mirror.

    Raises:
        DeclarationError: it holds a type that cannot be shown to a language model, such as a callable.
    """
    changed = _translate(annotation)
    _adapter(annotation, changed)
    return changed


def build(message_type: type, values: Mapping[str, object]) -> Any:
    """An instance of `message_type` from `values` by field name, each validated.

    Lax where pydantic is lax (``"3"`` for an int); unknown names are ignored; fields with defaults may be left out.

    Raises:
        MessageInvalid: a field is missing or does not fit, or the class refused the values; it names all of them.
        DeclarationError: `message_type` is no message type, or has a field that cannot be read from JSON.
    """
    from pydantic import TypeAdapter, ValidationError  # noqa: PLC0415

    fields = fields_of(message_type)
    adapter: TypeAdapter[Any] = _adapter(message_type, _translate(message_type))
    try:
        return adapter.validate_python(dict(values), by_name=True, by_alias=True)
    except ValidationError as error:
        details = cast("list[dict[str, Any]]", error.errors(include_url=False, include_context=False))
    raise invalid(
        f"The values do not make a {message_type.__name__}", [_problem(message_type, fields, detail) for detail in details]
    )


def validated(annotation: Any, value: object) -> Any:
    """`value` as a value of `annotation`, which is a mirror or holds none of the author's types.

    Raises:
        ValueError: it is none; pydantic's, with its reasons.
    """
    return _adapter(annotation, annotation).validate_python(value)


def json_schema(annotation: Any) -> dict[str, Any]:
    """The JSON schema of `annotation`, which is a mirror or holds none of the author's types, by the names of its fields."""
    schema: dict[str, Any] = _adapter(annotation, annotation).json_schema(by_alias=False)
    return schema


def schema_of(annotation: Any) -> dict[str, Any]:
    """The JSON schema (2020-12) of what strict reading takes for `annotation`: a message type or any type of its fields.

    Message types stand in ``$defs`` and take no fields but their own; bytes are base64 text. Converters and validators of the
    author's do not show: what they refuse besides, no schema knows.

    Raises:
        DeclarationError: it holds a type that has no JSON.
    """
    adapter = _adapter(annotation, _translate(annotation))
    schema: dict[str, Any] = adapter.json_schema(by_alias=False, mode="validation", schema_generator=_strict_schemas())
    return schema


@functools.cache
def _strict_schemas() -> Any:
    """The generator of schemas that say what strict reading takes: no fields but the declared ones, and base64 for bytes."""
    from pydantic.json_schema import GenerateJsonSchema  # noqa: PLC0415

    class Strict(GenerateJsonSchema):
        def bytes_schema(self, schema: Any) -> dict[str, Any]:
            del schema  # its bounds count bytes, and those of a schema would count characters
            return {"type": "string", "contentEncoding": "base64"}

        def encode_default(self, dft: Any) -> Any:
            return base64.b64encode(dft).decode("ascii") if isinstance(dft, bytes) else super().encode_default(dft)

        def model_schema(self, schema: Any) -> dict[str, Any]:
            return _closed(super().model_schema(schema))

        def dataclass_schema(self, schema: Any) -> dict[str, Any]:
            return _closed(super().dataclass_schema(schema))

        def typed_dict_schema(self, schema: Any) -> dict[str, Any]:
            return _closed(super().typed_dict_schema(schema))

    return Strict


def _closed(schema: dict[str, Any]) -> dict[str, Any]:
    if "properties" in schema:
        schema.setdefault("additionalProperties", False)
    return schema


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


def misfit(annotation: Any, value: object) -> str | None:
    """Why `value`, as JSON has it, is no value of `annotation`; None when it is one."""
    from pydantic import ValidationError  # noqa: PLC0415

    try:
        _adapter(annotation, _translate(annotation)).validate_python(value, by_name=True, by_alias=True)
    except ValidationError as error:
        detail = error.errors(include_url=False, include_context=False)[0]
        place = _place(detail["loc"])
        return f"{place + ': ' if place else ''}got {shorten(detail['input'])}, expected {type_name(annotation)}: {detail['msg']}"
    return None


def misgiven(annotation: Any, value: object) -> str | None:
    """Why `value`, which the author's own code gives, is no value of `annotation` as it stands; None when it is one.

    Nothing is converted, unlike what a model says: a text is no number.
    """
    from pydantic import ValidationError  # noqa: PLC0415

    try:
        read = _adapter(annotation, _translate(annotation)).validate_python(value, strict=True, by_name=True, by_alias=True)
    except ValidationError as error:
        detail = error.errors(include_url=False, include_context=False)[0]
        place = _place(detail["loc"])
        return f"{place + ': ' if place else ''}got {shorten(detail['input'])}, expected {type_name(annotation)}"
    try:
        is_same = read is value or bool(read == value)
    except Exception:  # noqa: BLE001 - an array, say, that does not compare as a whole: it was fit all the same
        is_same = True
    return None if is_same else f"got {shorten(value)}, expected {type_name(annotation)}"


def dump(value: object) -> Any:
    """`value` as JSON has it: what a prompt shows. Message types become objects, by field name; never raises."""
    if value is None or (isinstance(value, str | bool | int | float) and not isinstance(value, enum.Enum)):
        return value
    if message_kind(type(value)) is not None:
        return {field.name: dump(getattr(value, field.attribute, None)) for field in fields_of(type(value))}
    if isinstance(value, enum.Enum):
        return dump(value.value)
    if isinstance(value, Mapping):
        items = cast("Mapping[object, object]", value).items()
        return {key if isinstance(key, str) else str(dump(key)): dump(item) for key, item in items}
    if isinstance(value, set | frozenset):
        return sorted((dump(item) for item in cast("Collection[object]", value)), key=repr)
    if isinstance(value, list | tuple):
        return [dump(item) for item in cast("Collection[object]", value)]
    return _plain(value)


# --- for strict reading and writing ---------------------------------------------------------------------------------


def checked(annotation: Any, value: object) -> Any:
    """`value`, of the type in the ``Annotated`` that `annotation` is, as the rest of that makes it.

    Raises:
        ValueError: its constraints or its validators refuse it; see :func:`reasons`.
    """
    return _adapter(annotation, _translate(annotation)).validate_python(value, by_name=True, by_alias=True)


def foreign(annotation: Any, value: object) -> Any:
    """The JSON `value` as a type that only pydantic knows, strictly.

    Raises:
        ValueError: it is none; see :func:`reasons`.
        DeclarationError: pydantic does not know it either.
    """
    read = _adapter(annotation, _translate(annotation)).validate_json
    closed = {"extra": "forbid"} if "extra" in inspect.signature(read).parameters else {}  # pydantic has it from 2.12 on
    return read(json.dumps(value), strict=True, by_name=True, by_alias=True, **closed)


def foreign_json(annotation: Any, value: object) -> Any:
    """JSON of `value`, of a type that only pydantic knows.

    Raises:
        ValueError: it has none, or is none of that type.
    """
    return _adapter(annotation, _translate(annotation)).dump_python(value, mode="json", warnings="error")


def takes_any_field(message_type: type) -> bool:
    """Whether the author lets a pydantic model keep fields that it does not declare."""
    config: Mapping[str, object] = getattr(message_type, "model_config", {})
    return message_kind(message_type) is MessageKind.PYDANTIC and config.get("extra") == "allow"


@functools.cache
def plain_adapter(annotation: Any) -> Any:
    """The adapter of one of Python's own types, made once; for a handful of types, since it is kept."""
    from pydantic import TypeAdapter  # noqa: PLC0415

    return TypeAdapter(annotation)


def _plain(value: object) -> Any:
    try:
        return plain_adapter(Any).dump_python(value, mode="json", fallback=str, warnings=False)
    except Exception:  # noqa: BLE001 - bytes that are no text, or a __str__ that fails: a prompt shows what it can
        return repr_of(value)


# --- mirrors --------------------------------------------------------------------------------------------------------


def _translate(annotation: Any) -> Any:
    if isinstance(annotation, typing.NewType):
        return _translate(annotation.__supertype__)
    if isinstance(annotation, typing.TypeVar):
        return _translate(annotation.__bound__) if annotation.__bound__ is not None else Any
    if type(annotation).__name__ == "TypeAliasType":  # `type X = …`, from Python 3.12 on
        return _translate(annotation.__value__)
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is None:
        return _mirror_of(annotation) if _needs_mirror(annotation) else annotation
    if origin is typing.Literal or message_kind(origin) is MessageKind.PYDANTIC:
        return annotation
    if message_kind(origin) is not None:
        return _translate(origin)
    if origin is typing.Annotated:
        return typing.Annotated[(_translate(arguments[0]), *annotation.__metadata__)]
    if origin in (typing.Union, types.UnionType):
        return functools.reduce(lambda left, right: typing.Union[left, right], map(_translate, arguments))  # noqa: UP007
    translated = tuple(argument if argument is Ellipsis else _translate(argument) for argument in arguments)
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
    """Whether an attrs class, which pydantic cannot validate by itself, stands in `annotation` at any depth."""
    kind = message_kind(annotation)
    if kind is MessageKind.ATTRS:
        return True
    if kind is None:
        return any(_holds_attrs(argument, seen) for argument in typing.get_args(annotation))
    if annotation in seen:
        return False
    seen.add(annotation)
    return any(_holds_attrs(field.type, seen) for field in fields_of(annotation))


def _mirror_of(owner: type) -> type:
    found = _mirrors.get(owner)
    if found is None:
        # The mirror must not keep the author's class alive, or the cache would never let go of either.
        weak = weakref.ref(owner)

        @functools.cache  # one shape per mirror: by its identity pydantic notices that a type holds itself
        def shape() -> Any:
            return _shape_of(cast("type", weak()))

        def schema(_cls: type, _source: object, handler: Any) -> Any:
            return handler.generate_schema(_parsing(weak, shape))

        body: dict[str, Any] = {"__doc__": owner.__doc__, "__module__": owner.__module__}
        body["__get_pydantic_core_schema__"] = classmethod(schema)
        if issubclass(owner, enum.Enum):
            shown = [dump(member.value) for member in owner]
            body["__get_pydantic_json_schema__"] = staticmethod(_always({"enum": shown}))
        found = _mirrors[owner] = type(owner.__name__, (), body)
    return found


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


def _shape_of(owner: type) -> Any:
    """A pydantic model with the fields of `owner`.

    Its own attributes are called ``slot_0``, ``slot_1``, …: a field of the author's may have any name, such as ``schema`` or
    ``copy``, and pydantic would complain of those that shadow its own.
    """
    from pydantic import AliasChoices, ConfigDict, Field, WrapValidator, create_model  # noqa: PLC0415

    taken_raw = {field.name for field in fields_of(owner) if field.name in hooked(owner) and not _has_own_reader(field.type)}
    slots: dict[str, Any] = {}
    for index, field in enumerate(field for field in fields_of(owner) if field.init):
        alias = field.name if field.name == field.attribute else AliasChoices(field.name, field.attribute)
        options: dict[str, Any] = {"validation_alias": alias, "title": field.name, "description": field.description or None}
        if not field.required:
            options["default_factory"] = lambda: None  # never read: what was not given is left to the author's own default
        kind = _translate(field.type)
        if field.name in taken_raw:
            kind = typing.Annotated[kind, WrapValidator(_offer)]
        slots[f"slot_{index}"] = (kind, Field(**options))
    config = ConfigDict(
        defer_build=True, arbitrary_types_allowed=False, protected_namespaces=(), json_schema_extra=_without_slots
    )
    text = owner.__doc__ or ""
    told = None if text.startswith(f"{owner.__name__}(") else text  # dataclasses writes its own where the author wrote none
    created: Any = create_model(owner.__name__, __config__=config, __module__=owner.__module__, __doc__=told, **slots)
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
        raise ValueError(f"{owner.__name__} refused it: {problem}")
    return made_of(owner, fitting)


def _fits(annotation: Any, value: object) -> bool:
    """Whether `value` is one of `annotation` as it stands, without any conversion."""
    try:
        same = _adapter(annotation, _translate(annotation)).validate_python(value, strict=True)
        return bool(same == value) and (not isinstance(same, enum.Enum) or same is value)
    except Exception:  # noqa: BLE001 - pydantic's, or that of a comparison of the author's
        return False


def made_of(owner: type, given: Mapping[str, Any]) -> Any:
    """`owner` made by its own constructor, from values that are what their fields declare.

    Raises:
        ValueError: it refused them, with whatever it raised as the cause; :func:`reasons` tells them apart.
    """
    try:
        if message_kind(owner) is MessageKind.PYDANTIC:
            return cast("Any", owner).model_validate(dict(given), by_name=True, by_alias=True)
        return owner(**given)
    except Exception as error:
        raise ValueError(f"{owner.__name__} refused it: {words_of(error) or type(error).__name__}") from error


def _member(owner: type[enum.Enum], value: object) -> enum.Enum:
    members = list(owner)
    for member in members:
        if value is member or value == member.value:
            return member
    for member in members:
        if isinstance(value, str) and value.strip() in (str(member.value), member.name):
            return member
    raise ValueError(f"expected one of {', '.join(str(member.value) for member in members)}")


def _adapter(annotation: Any, translated: Any) -> Any:
    try:
        return _adapter_of(translated) if _hashable(translated) else _make_adapter(translated)
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
def _adapter_of(translated: Any) -> Any:
    return _make_adapter(translated)


def _make_adapter(translated: Any) -> Any:
    from pydantic import TypeAdapter  # noqa: PLC0415

    adapter: Any = TypeAdapter(translated)
    adapter.json_schema()
    return adapter


# --- what is wrong, in words ----------------------------------------------------------------------------------------


def shown(value: object) -> str:
    """A JSON value, or what was made of one, as a problem repeats it: shortened, and without what is in it."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "a list"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return shorten(value)


def reasons(error: Exception) -> list[FieldProblem]:
    """Why a value was refused, each place counted from that value: what pydantic found, or the words of the author's own code."""
    from pydantic import ValidationError  # noqa: PLC0415

    found = error if isinstance(error, ValidationError) else error.__cause__
    if not isinstance(found, ValidationError):
        return [FieldProblem((), words_of(error) or type(error).__name__)]
    details = found.errors(include_url=False, include_context=False)
    return [FieldProblem(_steps(each["loc"]), f"got {shown(each['input'])}: {_reason(each['msg'])}") for each in details]


def _reason(message: str) -> str:
    return message.removeprefix("Value error, ").removeprefix("Assertion failed, ")


def _steps(loc: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """The place of an error without the steps into our own validators, which no author wrote."""
    return tuple(part for part in loc if isinstance(part, int) or not part.startswith("function-"))


def _place(loc: tuple[int | str, ...]) -> str:
    return FieldProblem(_steps(loc), "").place


def _problem(message_type: type, fields: tuple[MessageField, ...], detail: Mapping[str, Any]) -> FieldProblem:
    steps = _steps(detail["loc"])
    types_by_name = {name: type_name(field.type) for field in fields for name in (field.name, field.attribute)}
    root = str(steps[0]) if steps else ""
    declared = types_by_name.get(root, "")
    is_deep = len(steps) > 1
    if detail["type"] == "missing":
        return FieldProblem(steps, "missing" + (f" ({root} is {declared})" if is_deep else f", expected {declared}"))
    expected = f" ({root} is {declared})" if is_deep else f", expected {declared}" if root else ""
    reason = str(detail["msg"]).removeprefix("Value error, ")
    return FieldProblem(steps, f"got {shorten(detail['input'])}{expected}: {reason}")
