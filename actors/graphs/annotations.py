"""What a node's annotations declare: which message types, how many of them, and whether None is among them.

Annotations are read when a graph is checked, not when it is written, so forward references and types defined inside
functions work, with and without ``from __future__ import annotations``. :func:`capture` copies, at decoration, the few local
names that the annotations mention; :func:`read` turns one annotation into a :class:`Shape`. Which types are messages and which
are injected is decided in ``actors.graphs.node``.
"""

from __future__ import annotations

import ast
import builtins
import collections.abc
import contextlib
import dataclasses
import enum
import inspect
import types
import typing
from collections.abc import Callable, Iterator
from typing import Annotated, Any, ForwardRef, Union, cast, final, get_args, get_origin

import attrs

from actors.errors import DeclarationError
from actors.words import said

_STREAMS: tuple[object, ...] = (collections.abc.AsyncIterator, collections.abc.AsyncGenerator, collections.abc.AsyncIterable)
_SYNC_STREAMS: tuple[object, ...] = (collections.abc.Iterator, collections.abc.Generator, collections.abc.Iterable)
_OTHER_LISTS = (tuple, set, frozenset, dict, collections.abc.Sequence, collections.abc.Mapping, collections.abc.Set)


@final
class Many(enum.Enum):
    """How many messages an annotation stands for."""

    ONE = "one"
    LIST = "list"
    """``list[A]``: a fan-out as a return type, a gather as a parameter."""
    STREAM = "stream"
    """``AsyncIterator[A]``: a fan-out whose items leave while the generator still runs."""


@final
@attrs.frozen
class Shape:
    """One annotation, read."""

    types: tuple[type, ...] = ()
    """The classes it names, in the order written, without None; for a list or stream, those of its items."""
    optional: bool = False
    """None is allowed."""
    many: Many = Many.ONE
    item_optional: bool = False
    """For a list or stream: None is allowed among the items."""
    markers: tuple[object, ...] = ()
    """The metadata of ``Annotated[…]``."""


class Unreadable(Exception):
    """An annotation that cannot be read; the check turns it into a ``Problem``."""

    def __init__(self, code: str, text: str, fix: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text
        self.fix = fix


@final
@attrs.define(eq=False)
class NameLookup:
    """Where the names in one function's annotations are looked up: local names first, then the function's globals."""

    globals: dict[str, Any]
    local: dict[str, Any] = attrs.field(factory=dict[str, Any])
    pending: list[types.FrameType] = attrs.field(factory=list[types.FrameType], repr=False)
    """Frames kept only while a name is still to be defined in them (a forward reference inside a function)."""

    def evaluate(self, text: str) -> Any:
        """The object that the annotation `text` names.

        Raises:
            Unreadable: a name in it is not known, or evaluating it failed.
        """
        for frame in self.pending:
            for name in _names_in(text):
                if name not in self.local and name in frame.f_locals:
                    self.local[name] = frame.f_locals[name]
        try:
            return eval(text, self.globals, self.local)
        except NameError as error:
            raise Unreadable(
                "unresolved-annotation",
                f"the name {error.name!r} in the annotation {text!r} is not defined where the node is.",
                f"import or define {error.name!r} before the graph is checked (an import under TYPE_CHECKING does not count).",
            ) from error
        except DeclarationError as error:  # of a marker in it, which names the fix itself
            what, _, fix = str(error).partition("\n  Fix: ")
            raise Unreadable("unusable-annotation", what, fix) from error
        except Exception as error:
            raise Unreadable(
                "unresolved-annotation",
                f"the annotation {text!r} cannot be evaluated: {said(error)}.",
                "write a type there.",
            ) from error


def capture(function: types.FunctionType, frame: types.FrameType | None) -> NameLookup:
    """Copy the local names that `function`'s annotations mention, from its closure and the frames around its definition.

    `frame` is the one that applies the decorator. Only names that the annotations use are copied; a frame itself is kept only
    when one of them is not defined yet, and released by :func:`release`.
    """
    names = NameLookup(function.__globals__)
    frames = list(_frames_around(function, frame))
    queue, seen = [function], {function}
    while queue:  # the function, then those that its annotations name, as dependencies, and that are as local as it is
        found = _capture_one(queue.pop(0), names, frames)
        new = [plain for plain in found if plain not in seen]
        seen.update(new)
        queue.extend(new)
    return names


def _capture_one(function: types.FunctionType, names: NameLookup, frames: list[types.FrameType]) -> list[types.FunctionType]:
    """Copy what one function's annotations mention; returns the local functions among it."""
    wanted = {name for annotation in _raw(function).values() for text in _texts(annotation) for name in _names_in(text)}
    new = wanted - names.local.keys()
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        with contextlib.suppress(ValueError):  # an empty cell: the name is defined further down, and found in the frame by then
            if name in new:
                names.local[name] = cell.cell_contents
    for around in frames:
        for name in sorted(new - names.local.keys()):
            if name in around.f_locals:
                names.local[name] = around.f_locals[name]
    if any(name not in names.globals and not hasattr(builtins, name) for name in wanted - names.local.keys()):
        names.pending[:] = frames
    functions = [inspect.unwrap(names.local[name]) for name in sorted(new & names.local.keys()) if callable(names.local[name])]
    return [plain for plain in functions if isinstance(plain, types.FunctionType)]


def release(names: NameLookup) -> None:
    """Release the frames that were kept for forward references."""
    names.pending.clear()


def read(annotation: object, names: NameLookup) -> Shape:
    """Read one annotation.

    Raises:
        Unreadable: it names something unknown, or is of a form that no node can have.
    """
    annotation = _evaluated(annotation, names)
    if get_origin(annotation) is Annotated:
        inner, *markers = get_args(annotation)
        shape = read(inner, names)
        return attrs.evolve(shape, markers=(*shape.markers, *markers))
    if get_origin(annotation) in (Union, types.UnionType):
        return _read_union([read(member, names) for member in get_args(annotation)])
    if annotation is None or annotation is type(None):
        return Shape(optional=True)
    many = _many(annotation)
    if many is not Many.ONE:
        return _read_items(annotation, many, names)
    if isinstance(annotation, type) and get_origin(annotation) is None:
        return Shape((annotation,))
    raise _unusable(annotation)


def split(annotation: object, names: NameLookup) -> tuple[Any, tuple[object, ...]]:
    """An annotation without the ``Annotated`` around it, evaluated, and the metadata that stood there.

    Raises:
        Unreadable: it names something unknown.
    """
    annotation = _evaluated(annotation, names)
    if get_origin(annotation) is not Annotated:
        return annotation, ()
    inner, *markers = get_args(annotation)
    plain, more = split(inner, names)
    return plain, (*more, *markers)


def is_message_type(kind: type) -> bool:
    """Whether instances of `kind` can travel along edges: attrs classes, dataclasses and pydantic models."""
    pydantic_fields: object = getattr(kind, "model_fields", None)
    return isinstance(pydantic_fields, dict) or attrs.has(kind) or dataclasses.is_dataclass(kind)


def how_to_make_message(kind: type) -> str:
    """What to write instead of a class that isn't a message type."""
    is_protocol = bool(getattr(kind, "_is_protocol", False))
    if issubclass(kind, enum.Enum):
        return f"put it into a message as a field: @attrs.frozen class Message: value: {kind.__name__}"
    if is_protocol:
        return f"messages are routed by their classes: name those that have what {kind.__name__} asks for: A | B."
    if issubclass(kind, tuple | dict | list | set):
        return f"write {kind.__name__} as a class with fields: @attrs.frozen class {kind.__name__}: …"
    if kind.__module__ == "builtins":
        return f"wrap it: @attrs.frozen class Name: value: {kind.__name__}"
    return f"put @attrs.frozen on the class {kind.__name__}."


def description_of(kind: type) -> str:
    """The docstring that the author of `kind` wrote, with its indentation removed; not an inherited or a generated one."""
    text = inspect.cleandoc(kind.__dict__.get("__doc__") or "")
    return "" if dataclasses.is_dataclass(kind) and text.startswith(f"{kind.__name__}(") else text


def location(function: types.FunctionType) -> str:
    """``file.py:line`` of `function`, decorators included."""
    return f"{function.__code__.co_filename}:{function.__code__.co_firstlineno}"


def _evaluated(annotation: object, names: NameLookup) -> Any:
    while True:
        if isinstance(annotation, ForwardRef):
            annotation = annotation.__forward_arg__
        if isinstance(annotation, str):
            annotation = names.evaluate(annotation)
        elif type(annotation).__name__ == "TypeAliasType":  # `type Reply = A | B`, from Python 3.12 on
            annotation = typing.cast("Any", annotation).__value__
        else:
            return annotation


def _many(annotation: object) -> Many:
    plain: object = get_origin(annotation) or annotation
    if plain is list:
        return Many.LIST
    if any(plain is stream for stream in _STREAMS):
        return Many.STREAM
    return Many.ONE


def _read_items(annotation: Any, many: Many, names: NameLookup) -> Shape:
    arguments = get_args(annotation)
    if not arguments:
        name = "list" if many is Many.LIST else "AsyncIterator"
        raise Unreadable(
            "unusable-annotation",
            f"{name} doesn't declare the type of its items.",
            f"write {name}[Message] with the message type.",
        )
    items = read(arguments[0], names)
    if items.many is not Many.ONE:
        raise Unreadable(
            "unusable-annotation",
            "a list of lists is not a message or a list of messages.",
            "wrap the inner list in its own message type.",
        )
    return Shape(items.types, many=many, item_optional=items.optional, markers=items.markers)


def _read_union(members: list[Shape]) -> Shape:
    lists = [shape for shape in members if shape.many is not Many.ONE]
    singles = [shape for shape in members if shape.types and shape.many is Many.ONE]
    if lists and (singles or len(lists) > 1):
        raise Unreadable(
            "unusable-annotation",
            "a union of a list and something else doesn't determine whether the messages fan out.",
            "use list[A | B], or wrap the single message in a list of one.",
        )
    kinds = dict.fromkeys(kind for shape in members for kind in shape.types)
    markers = tuple(marker for shape in members for marker in shape.markers)
    optional = any(shape.optional for shape in members)
    if lists:
        return attrs.evolve(lists[0], optional=optional, markers=markers)
    return Shape(tuple(kinds), optional=optional, markers=markers)


def shown(annotation: object) -> str:
    """The annotation as an author writes it, without the names of modules."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation is None or annotation is type(None):
        return "None"
    if origin in (Union, types.UnionType):
        return " | ".join(map(shown, arguments))
    if isinstance(origin, type) and arguments:
        return f"{origin.__name__}[{', '.join(map(shown, arguments))}]"
    if isinstance(annotation, list):
        return f"[{', '.join(map(shown, cast('list[object]', annotation)))}]"
    if annotation is ...:
        return "..."
    return annotation.__name__ if isinstance(annotation, type) else str(annotation).replace("typing.", "")


def _unusable(annotation: Any) -> Unreadable:
    origin, name = get_origin(annotation), shown(annotation)
    if origin in _SYNC_STREAMS:
        return Unreadable(
            "unusable-annotation",
            f"{name} is a synchronous stream.",
            "return list[A], or make the node an async generator that returns AsyncIterator[A].",
        )
    if origin in _OTHER_LISTS:
        return Unreadable(
            "unusable-annotation",
            f"{name} is neither a message type nor a list of messages.",
            "use list[A], or a message type with that as a field.",
        )
    if isinstance(origin, type):
        return Unreadable(
            "unusable-annotation",
            f"{name} is a generic with arguments, which its instances do not carry, so it cannot be routed by type.",
            f"derive a message type from it: class My{origin.__name__}({name}).",
        )
    return Unreadable("unusable-annotation", f"{name} is not a type that can be routed by.", "write a message type there.")


def _raw(function: types.FunctionType) -> dict[str, object]:
    return dict(inspect.get_annotations(function))


def _texts(annotation: object) -> Iterator[str]:
    """The parts of an annotation that are still text."""
    if isinstance(annotation, ForwardRef):
        annotation = annotation.__forward_arg__
    if isinstance(annotation, str):
        yield annotation
        return
    for argument in get_args(annotation):
        if not (get_origin(annotation) is Annotated and isinstance(argument, str)):
            yield from _texts(argument)


def _names_in(text: str) -> list[str]:
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except SyntaxError:
        return []
    found = [node.id for node in ast.walk(tree) if isinstance(node, ast.Name)]
    inner = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    return [*found, *(name for constant in inner if constant != text for name in _names_in(constant))]


def _frames_around(function: Callable[..., Any], frame: types.FrameType | None) -> Iterator[types.FrameType]:
    """The decorating frame, then the frames of the functions in whose text `function` stands."""
    first = True
    while frame is not None:
        encloses = function.__qualname__.startswith(f"{frame.f_code.co_qualname}.<locals>.")
        if frame.f_locals is not frame.f_globals and (first or (encloses and frame.f_globals is function.__globals__)):
            yield frame
        first = False
        frame = frame.f_back
