"""The signatures that a node asks a language model with, as its declaration has them: what predictors are trained for.

A node has one for each combination of message types that it can be given and each type that it can fill, and one more for the
choice where there are several. Two signatures with one fingerprint show a model the same fields under the same instruction.
"""

from __future__ import annotations

import enum
import hashlib
import itertools
import json
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast, final

import attrs

from actors.graphs.node import NodeSpec
from runtime.lm.dspy.bridge import module_for, plan_of
from runtime.lm.dspy.choosing import choice_of
from runtime.lm.dspy.plans import SignaturePlan
from runtime.lm.predictors.files import Signature
from runtime.messages.fields import fields_of, message_kind
from runtime.messages.schemas import type_name

CHOICE = "choice"
"""What the predictor of a node with several return types is called that chooses among them."""

MAX_COMBINATIONS = 256
"""How many combinations of a node's input types can be trained; the rest cannot."""

Kinds = frozenset[tuple[str, type | None]]
"""What a node is shown: parameter → message type, or None for a value that isn't a message."""


@final
@attrs.frozen(eq=False)
class NodeSignature:
    """One signature of a node."""

    purpose: str
    """The name of the type that it fills, or :data:`CHOICE`."""
    kinds: Mapping[str, type | None]
    output: type
    instruction: str
    plan: SignaturePlan
    described: Signature

    @property
    def key(self) -> tuple[Kinds, str]:
        """What it is found by when the node runs."""
        return frozenset(self.kinds.items()), self.purpose


def signatures_of(spec: NodeSpec) -> list[NodeSignature]:
    """The signatures of a predict node; dspy must be loaded.

    Raises:
        DeclarationError: a type cannot be shown to a language model, or the node's module is unknown.
    """
    assert spec.predict is not None, "only a predict node has signatures"
    has_choice = len(spec.outputs) > 1 or spec.may_end
    targets = [(purpose_of(spec, output), output, spec.instruction) for output in spec.outputs if has_fields(output)]
    if has_choice:
        told, output = choice_of(spec.instruction, spec.outputs, may_be_none=spec.may_end)
        targets.append((CHOICE, output, told))
    return [
        _signature(spec, kinds, purpose, output, instruction)
        for kinds in itertools.islice(_combinations(spec), MAX_COMBINATIONS)
        for purpose, output, instruction in targets
    ]


def purpose_of(spec: NodeSpec, output: type) -> str:
    """What the predictor that fills `output` is called: the type's name, or its full name where two share one."""
    shared = [each.__name__ for each in spec.outputs].count(output.__name__) > 1 or output.__name__ == CHOICE
    return f"{output.__module__}.{output.__qualname__}" if shared else output.__name__


def has_fields(output: type) -> bool:
    """Whether there is anything to fill."""
    return any(field.init for field in fields_of(output))


def shown_kinds(inputs: Mapping[str, object]) -> Kinds:
    """The part of :attr:`NodeSignature.key` that is made of the values which a node was given."""
    return frozenset((name, type(value) if message_kind(type(value)) is not None else None) for name, value in inputs.items())


def _combinations(spec: NodeSpec) -> Iterator[dict[str, type | None]]:
    choices: dict[str, tuple[type | None, ...]] = {}
    for at, entry in enumerate(spec.inputs):
        name = spec.message.__name__ if spec.message is not None and at == 0 else entry.name
        single: tuple[type | None, ...] = (*entry.types, *((None,) if entry.optional else ()))
        choices[name] = (None,) if entry.gather is not None else single
    for recalled in spec.recalls:
        choices[recalled.name] = (*recalled.types, *((None,) if recalled.optional else ()))
    for name, need in spec.needs.items():
        choices[name] = (_returned(need.function),)
    for values in itertools.product(*choices.values()):
        yield dict(zip(choices, values, strict=True))


def _returned(function: Callable[..., Any]) -> type | None:
    try:
        found: Any = typing.get_type_hints(function).get("return")
    except Exception:  # noqa: BLE001 - names that only the author's scope has: the value is then shown as it is
        return None
    return cast("type", found) if message_kind(found) is not None else None


def _signature(spec: NodeSpec, kinds: Mapping[str, type | None], purpose: str, output: type, instruction: str) -> NodeSignature:
    assert spec.predict is not None
    plan = plan_of({name: kind or object for name, kind in kinds.items()}, output, instruction)
    module = spec.predict.module
    name = module if isinstance(module, str) else f"{module.__module__}.{module.__qualname__}"
    shapes = {parameter: shape_of(kind) if kind is not None else "a value" for parameter, kind in sorted(kinds.items())}
    told = str(plan.signature.instructions)
    described = Signature(name, told, shapes, shape_of(output), fingerprint_of(name, told, shapes, shape_of(output)))
    return NodeSignature(purpose, kinds, output, instruction, plan, described)


def fingerprint_of(module: str, instruction: str, inputs: Mapping[str, str], output: str) -> str:
    """The digest of a signature: module, instruction, and the types of inputs and output with all their fields."""
    text = json.dumps([module, instruction, sorted(inputs.items()), output], ensure_ascii=True)
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def shape_of(annotation: Any, _within: tuple[Any, ...] = ()) -> str:
    """A type in words, with the fields of every message type and the values of every enum in it: ``Intent(text: str)``."""
    if message_kind(annotation) is not None:
        if annotation in _within:
            return str(annotation.__name__)
        inner = (*_within, annotation)
        fields = ", ".join(f"{field.name}: {shape_of(field.type, inner)}" for field in fields_of(annotation) if field.init)
        return f"{annotation.__name__}({fields})"
    if isinstance(annotation, enum.EnumMeta):
        members = cast("Any", annotation)
        return f"{annotation.__name__}[{', '.join(repr(member.value) for member in members)}]"
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is None or origin is typing.Literal:
        return type_name(annotation)
    if origin is typing.Annotated:
        return shape_of(arguments[0], _within)
    parts = [type_name(each) if each is Ellipsis else shape_of(each, _within) for each in arguments]
    return f"{getattr(origin, '__name__', origin)}[{', '.join(parts)}]"


def module_of_node(spec: NodeSpec, signature: NodeSignature) -> Any:
    """A new module that runs `signature` of the node."""
    assert spec.predict is not None
    return module_for(spec.predict.module, signature.plan.signature)
