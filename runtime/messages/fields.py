"""The fields of a message type, whichever of attrs, dataclasses or pydantic it was written with.

Nothing here validates or builds anything: ``runtime.messages.schemas`` does. pydantic is not imported: a pydantic model is known
by the attributes that its metaclass gives it.
"""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import enum
import inspect
import itertools
import re
import textwrap
import typing
import weakref
from collections.abc import Iterator, Mapping
from types import FrameType
from typing import Any, cast, final

import attrs

from actors.errors import DeclarationError
from actors.words import repr_of


class MessageKind(enum.Enum):
    """How a message type was written."""

    ATTRS = "attrs"
    DATACLASS = "dataclass"
    PYDANTIC = "pydantic"


@final
@attrs.frozen
class MessageField:
    """One field of a message type."""

    name: str
    """What the constructor and a language model call it: for a private attribute of attrs without its underscore."""
    attribute: str
    """What an instance calls it."""
    type: Any
    """Its annotation, resolved: no strings left."""
    description: str
    """What the author says of it (metadata, pydantic's ``description``, or the text under the field); may be empty."""
    required: bool
    """False for a field with a default."""
    init: bool
    """False for a field that the class computes and the constructor does not take."""
    default: Any = attrs.NOTHING
    """Its default; ``attrs.NOTHING`` when it has none, or only an instance can compute it."""
    default_factory: Any = None
    """What makes its default, called without arguments; None when it has none."""


_cache: weakref.WeakKeyDictionary[type, tuple[MessageField, ...]] = weakref.WeakKeyDictionary()


def message_kind(annotation: object) -> MessageKind | None:
    """How `annotation` was written; None when it isn't a message type."""
    if not isinstance(annotation, type) or typing.get_origin(annotation) is not None:
        return None
    if hasattr(annotation, "__pydantic_fields__") and hasattr(annotation, "model_validate"):
        return MessageKind.PYDANTIC
    if attrs.has(annotation):
        return MessageKind.ATTRS
    return MessageKind.DATACLASS if dataclasses.is_dataclass(annotation) else None


def fields_of(message_type: type) -> tuple[MessageField, ...]:
    """The fields of a message type in the order in which they were written; computed once per type.

    Raises:
        DeclarationError: it isn't a message type, or an annotation names something that cannot be found.
    """
    known = _cache.get(message_type)
    if known is None:
        known = _cache[message_type] = tuple(_read(message_type))
    return known


def _read(message_type: type) -> Iterator[MessageField]:
    kind = message_kind(message_type)
    if kind is MessageKind.PYDANTIC:
        yield from _read_pydantic(message_type)
    elif kind is MessageKind.ATTRS:
        yield from _read_attrs(message_type)
    elif kind is MessageKind.DATACLASS:
        yield from _read_dataclass(message_type)
    else:
        raise DeclarationError(
            f"{repr_of(message_type)} isn't a message type: it has no declared fields.\n"
            "  Fix: decorate the class with @attrs.frozen or @dataclass, or derive it from pydantic.BaseModel."
        )


def _read_attrs(message_type: type) -> Iterator[MessageField]:
    hints, texts = _hints(message_type), _texts(message_type)
    for field in attrs.fields(cast("type[attrs.AttrsInstance]", message_type)):
        factory: Any = None
        default: Any = field.default
        if isinstance(default, attrs.Factory):  # type: ignore[arg-type]  # a class, which the stubs type as a function
            made: Any = default
            factory, default = (None if made.takes_self else made.factory), attrs.NOTHING
        yield MessageField(
            name=field.alias or field.name.lstrip("_"),
            attribute=field.name,
            type=hints.get(field.name, Any),
            description=_described(field.metadata, texts.get(field.name, "")),
            required=field.default is attrs.NOTHING,
            init=field.init,
            default=default,
            default_factory=factory,
        )


def _read_dataclass(message_type: type) -> Iterator[MessageField]:
    hints, texts = _hints(message_type), _texts(message_type)
    for field in dataclasses.fields(cast("Any", message_type)):
        made = field.default_factory is not dataclasses.MISSING
        given = field.default is not dataclasses.MISSING
        yield MessageField(
            name=field.name,
            attribute=field.name,
            type=hints.get(field.name, Any),
            description=_described(field.metadata, texts.get(field.name, "")),
            required=not made and not given,
            init=field.init,
            default=field.default if given else attrs.NOTHING,
            default_factory=field.default_factory if made else None,
        )


def _read_pydantic(message_type: type) -> Iterator[MessageField]:
    texts = _texts(message_type)
    model = cast("Any", message_type)
    if not model.__pydantic_complete__:
        model.model_rebuild(raise_errors=True, _types_namespace=_callers_names())
    for name, info in model.model_fields.items():
        has_default = not info.is_required() and info.default_factory is None
        yield MessageField(
            name=name,
            attribute=name,
            type=info.rebuild_annotation(),
            description=info.description or texts.get(name, ""),
            required=info.is_required(),
            init=True,
            default=info.default if has_default else attrs.NOTHING,
            default_factory=None if info.default_factory_takes_validated_data else info.default_factory,
        )


def _described(metadata: Mapping[Any, Any], text: str) -> str:
    for key in ("description", "desc", "doc"):
        if isinstance(metadata.get(key), str):
            return str(metadata[key])
    return text


def _hints(message_type: type) -> dict[str, Any]:
    try:
        return typing.get_type_hints(message_type, include_extras=True)
    except NameError:
        # A type defined inside a function is in no module: it is in the locals of our caller.
        pass
    try:
        return typing.get_type_hints(message_type, localns=_callers_names(), include_extras=True)
    except NameError as error:
        raise DeclarationError(
            f"{message_type.__qualname__} has a field whose annotation cannot be resolved: {error}.\n"
            f"  Fix: define {error.name!r} at the top of module {message_type.__module__!r}, or import it there "
            "outside `if TYPE_CHECKING:`."
        ) from error


def _callers_names() -> dict[str, Any]:
    """The local names of every calling function; a nearer caller's win."""
    frames: list[FrameType] = []
    caller = inspect.currentframe()
    while caller is not None:
        frames.append(caller)
        caller = caller.f_back
    names: dict[str, Any] = {}
    for frame in reversed(frames):
        if frame.f_locals is not frame.f_globals:
            names.update(frame.f_locals)
    return names


_ATTRIBUTES = re.compile(r"^Attributes:\n((?:[ \t]+.*(?:\n|$)|\n)+)", re.MULTILINE)
_ATTRIBUTE = re.compile(r"^ {2,4}(\w+)(?: \(.*?\))?: (.+)$", re.MULTILINE)


def _texts(message_type: type) -> dict[str, str]:
    """What the source says of each field: ``Attributes:`` in the docstring, or a string right under the field."""
    texts: dict[str, str] = {}
    for base in reversed(message_type.__mro__):
        if base is object or base.__module__.partition(".")[0] in {"pydantic", "typing"}:
            continue
        section = _ATTRIBUTES.search(inspect.cleandoc(base.__dict__.get("__doc__") or ""))
        if section is not None:
            texts.update(_ATTRIBUTE.findall(section.group(1)))
        texts.update(_strings_under_fields(base))
    return texts


def _strings_under_fields(message_type: type) -> dict[str, str]:
    with contextlib.suppress(OSError, TypeError, SyntaxError):  # no source: typed at a prompt, or made by a function
        tree = ast.parse(textwrap.dedent(inspect.getsource(message_type)))
        body = tree.body[0].body if tree.body and isinstance(tree.body[0], ast.ClassDef) else []
        return {
            field.target.id: inspect.cleandoc(text.value.value)
            for field, text in itertools.pairwise(body)
            if isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(text, ast.Expr)
            and isinstance(text.value, ast.Constant)
            and isinstance(text.value.value, str)
        }
    return {}
