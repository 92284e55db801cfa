"""What a gathering parameter folds into one value, ``Annotated[Total, Gather(reduce=add, initial=…)]``: its annotations. Pure."""

from __future__ import annotations

import inspect
import types
from typing import Any, Union, get_args, get_origin

from actors.graphs.annotations import Many, NameLookup, Unreadable, is_message_type, location, read, shown, split
from actors.graphs.dependencies import fits, names_of
from actors.graphs.markers import Gather
from actors.words import repr_of


def gathered_types(gather: Gather, wanted: object, names: NameLookup) -> tuple[type, ...]:
    """The message types that `gather` folds; `wanted` is the annotation of its parameter without the marker.

    Raises:
        Unreadable: the function does not fold messages into what is wanted.
    """
    reduce = gather.reduce
    assert isinstance(reduce, types.FunctionType), "only asked of a gather that reduces"
    who = f"the function {reduce.__name__} ({location(reduce)}) that reduces it"
    parameters = list(inspect.signature(reduce).parameters.values())
    example = f"def {reduce.__name__}(so_far: {shown(wanted)}, item: Message) -> {shown(wanted)}"
    missing = [each.name for each in parameters if each.annotation is each.empty and each.default is each.empty]
    if len([each for each in parameters if each.default is each.empty]) != 2 or missing:
        raise Unreadable("gather-reduce", f"{who} does not take two annotated values.", f"write {example}.")
    own = names_of(reduce, names)
    so_far, _ = split(parameters[0].annotation, own)
    made = inspect.signature(reduce).return_annotation
    made = made if made is inspect.Signature.empty else split(made, own)[0]
    if made is inspect.Signature.empty or not fits(made, so_far) or not fits(made, wanted):
        returned = "doesn't declare what it returns" if made is inspect.Signature.empty else f"returns {shown(made)}"
        raise Unreadable("gather-reduce", f"{who} {returned}, and {shown(wanted)} is wanted.", f"write {example}.")
    if not callable(gather.initial) and not _is_one(gather.initial, so_far):
        kind = shown(so_far)
        raise Unreadable(
            "gather-reduce", f"{who} begins with {repr_of(gather.initial)}, which is no {kind}.", f"pass a {kind} as initial."
        )
    items = read(parameters[1].annotation, own)
    if items.many is not Many.ONE or items.optional or not items.types or not all(map(is_message_type, items.types)):
        raise Unreadable("gather-reduce", f"{who} takes no message as its second value.", f"write {example}.")
    return items.types


def _is_one(value: object, kind: Any) -> bool:
    """Whether `value` is of the annotated kind; in doubt it is."""
    if get_origin(kind) in (Union, types.UnionType):
        return any(_is_one(value, member) for member in get_args(kind))
    plain = get_origin(kind) or kind
    if kind is None:
        return value is None
    return not isinstance(plain, type) or isinstance(value, plain) or (plain is float and isinstance(value, int))
