"""The DSPy signature that a fill asks a language model with, and how its fields correspond to those of the message types."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, final

import attrs

from actors.errors import DeclarationError
from runtime.messages import schemas
from runtime.messages.fields import MessageField, fields_of, message_kind

_TAKEN_BY_PREDICT = frozenset(
    {"signature", "new_signature", "demos", "config", "lm", "prediction", "self", "completed", "trajectory"}
)
"""Names that ``dspy.Predict`` or an adapter keeps for itself: an input of that name would never reach the prompt."""


@final
@attrs.define
class SignaturePrompt:
    """What every prompt of one signature has in common, written when the first of them is."""

    instructions: str | None = None
    """The signature's at that time, by which a change of them shows; None until then."""
    system: str = ""
    requirements: str = ""


@final
@attrs.frozen(eq=False)
class SignaturePlan:
    """How message types and one DSPy signature correspond."""

    signature: Any
    inputs: Mapping[str, tuple[str, str | None]]
    """Signature name → parameter, and the attribute of its value; None for the value itself."""
    outputs: Mapping[str, MessageField]
    """Signature name → the output type's field."""
    build: Callable[[Mapping[str, Any]], Any]
    as_said: frozenset[str] = frozenset()
    """Signature names of the outputs that the author's own validators and converters read."""
    prompt: SignaturePrompt = attrs.field(factory=SignaturePrompt, repr=False)
    """What an adapter has written of the signature."""

    def shown(self, inputs: Mapping[str, object]) -> dict[str, Any]:
        """The signature's inputs, as JSON has them."""
        return {
            wire: schemas.dump(inputs[parameter] if attribute is None else getattr(inputs[parameter], attribute))
            for wire, (parameter, attribute) in self.inputs.items()
        }

    def values(self, answered: Mapping[str, Any]) -> dict[str, Any]:
        """The output type's fields out of what the module gave."""
        return {field.name: answered[wire] for wire, field in self.outputs.items() if wire in answered}


def make_plan(dspy: Any, kinds: Sequence[tuple[str, type]], output: type, instruction: str) -> SignaturePlan:
    """Lay out the signature of one fill.

    A field keeps its name where it can. Its owner's name goes in front when two inputs, or an input and an output, have a field
    of that name, or when DSPy needs the name for itself.

    Args:
        dspy: the library; only the bridge imports it.
        kinds: parameter name and type of each input, in order.
        output: the message type to fill.
        instruction: what to do; when empty, a sentence made of the type names.

    Raises:
        DeclarationError: an output field has a type that no language model can fill.
    """
    shown: list[tuple[str, MessageField | None, Any]] = []
    for parameter, kind in kinds:
        if message_kind(kind) is None:
            shown.append((parameter, None, kind))
        else:
            shown.extend((parameter, field, field.type) for field in fields_of(kind))
    filled = [field for field in fields_of(output) if field.init]
    outputs: dict[str, MessageField] = {}
    for field in filled:
        outputs[_free(dspy, field.name, _snake(output.__name__), outputs, crowded=False)] = field
    names = [parameter if field is None else field.name for parameter, field, _ in shown]
    inputs: dict[str, tuple[str, str | None]] = {}
    columns: dict[str, Any] = {}
    for (parameter, source, annotation), name in zip(shown, names, strict=True):
        wire = _free(dspy, name, parameter, {**outputs, **inputs}, crowded=names.count(name) > 1)
        inputs[wire] = (parameter, None if source is None else source.attribute)
        columns[wire] = (_showable(annotation), dspy.InputField(**_described(source)))
    for wire, field in outputs.items():
        columns[wire] = (schemas.mirror(field.type), dspy.OutputField(**_described(field), **_defaulted(field)))
    told = instruction or _sentence([kind for _, kind in kinds], output)
    signature = dspy.Signature(columns, told, signature_name=output.__name__)
    read_by_author = schemas.hooked(output)
    as_said = frozenset(wire for wire, field in outputs.items() if field.name in read_by_author)
    return SignaturePlan(signature, inputs, outputs, functools.partial(schemas.build, output), as_said)


def _free(dspy: Any, name: str, owner: str, taken: Mapping[str, Any], *, crowded: bool) -> str:
    """`name`, with its owner in front when the signature cannot have a field of that name."""
    blocked = name in _TAKEN_BY_PREDICT or name.startswith(("_", "model_")) or hasattr(dspy.Signature, name)
    wire = f"{owner}_{name.lstrip('_')}" if crowded or blocked or name in taken else name
    while wire in taken:
        wire += "_"
    return wire


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower().lstrip("_")


def _sentence(kinds: Sequence[type], output: type) -> str:
    made_of = " and the ".join(kind.__name__ for kind in kinds)
    return f"Make the {output.__name__} from the {made_of}." if made_of else f"Make the {output.__name__}."


def _described(field: MessageField | None) -> dict[str, Any]:
    return {"desc": field.description} if field is not None and field.description else {}


def _defaulted(field: MessageField) -> dict[str, Any]:
    if field.default is not attrs.NOTHING:
        return {"default": field.default}
    return {} if field.default_factory is None else {"default_factory": field.default_factory}


def _showable(annotation: Any) -> Any:
    """The annotation of an input; text for one that pydantic does not know, since an input is shown and never parsed."""
    try:
        return schemas.mirror(annotation)
    except DeclarationError:
        return str
