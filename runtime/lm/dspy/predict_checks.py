"""What can be known of a predict node before it asks a model: its module can be made, and its fields have schemas.

The check of a graph asks for it (see :data:`actors.graphs.check.FURTHER_CHECKS`). DSPy is loaded only for a module of DSPy's that
was passed as a class, and then it is loaded already.
"""

from __future__ import annotations

from collections.abc import Iterator

from actors.errors import DeclarationError, Problem
from actors.graphs.node import Kind, NodeSpec
from actors.words import INTERRUPTS, said
from runtime.lm.dspy import bridge
from runtime.lm.dspy.import_dspy import is_loaded
from runtime.messages import schemas
from runtime.messages.fields import fields_of


def predict_problems(spec: NodeSpec) -> Iterator[Problem]:
    """What is wrong with one node, if a language model fills it."""
    if spec.kind is not Kind.PREDICT or spec.predict is None:
        return
    problems = list(_fields(spec))
    yield from problems
    yield from _module(spec, spec.predict.module, is_sound=not problems)


def _fields(spec: NodeSpec) -> Iterator[Problem]:
    taken = [kind for entry in spec.inputs for kind in entry.types]
    for kind in dict.fromkeys((*taken, *spec.outputs)):
        try:
            fields = fields_of(kind)
        except DeclarationError as error:
            yield _problem(spec, "predict-field", error)
            continue
        for field in (each for each in fields if each.init and kind in spec.outputs):
            try:
                schemas.mirror(field.type)
            except DeclarationError as error:
                yield _problem(spec, "predict-field", error, f"{kind.__name__}.{field.name}: ")


def _module(spec: NodeSpec, module: object, *, is_sound: bool) -> Iterator[Problem]:
    name = getattr(module, "__name__", repr(module))
    try:
        bridge.check_module(module)
        if isinstance(module, type) and not is_loaded():  # a class of DSPy's would have loaded it
            raise bridge.unknown_module(module)
        if isinstance(module, type) and is_sound and spec.outputs:
            kinds = {entry.name: entry.types[0] for entry in spec.inputs if entry.types}
            bridge.module_for(module, bridge.plan_of(kinds, spec.outputs[0], spec.instruction).signature)
    except DeclarationError as error:
        yield _problem(spec, "predict-module", error)
    except INTERRUPTS:
        raise
    except BaseException as error:  # noqa: BLE001 - the constructor is anybody's
        yield Problem(
            "predict-module",
            spec.name,
            f"module={name} could not be made: {said(error)}",
            "write a constructor that takes the signature as its one argument.",
            spec.location,
        )


def _problem(spec: NodeSpec, code: str, error: DeclarationError, where: str = "") -> Problem:
    what, _, fix = str(error).partition("\n  Fix: ")
    return Problem(code, spec.name, f"{where}{what}", fix or "see above.", spec.location)
