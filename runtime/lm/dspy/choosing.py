"""A language model chooses among message types, and fills the one it chose: what nodes with several return types do.

The choice is its own fill, of one field whose type is a ``Literal`` of the names. So it goes through the same adapter,
validation and parse attempts as any other fill: only an exact name is an answer, and anything else is asked for again, with the
bad answer and what is wrong with it in the prompt.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol, cast

import attrs

from actors.errors import DeclarationError
from actors.graphs.annotations import description_of
from runtime.lm.dspy.bridge import FieldTeller, fill
from runtime.lm.dspy.dspy_calls import ChatLM
from runtime.lm.dspy.trained import Trained

NOTHING = "None"
"""The name under which None can be chosen."""


async def choose(
    lm: ChatLM,
    *,
    instruction: str,
    inputs: Mapping[str, object],
    among: Sequence[type],
    may_be_none: bool = False,
    module: str | type = "Predict",
    parse_attempts: int = 2,
    trained: Trained | None = None,
    truncated: str | None = None,
) -> type | None:
    """One of the types `among`, or None if that `may_be_none`; a single candidate is returned without a call.

    Args:
        lm: what answers.
        instruction: what the types are chosen for; may be empty.
        inputs: message instances by parameter name, as for ``fill``.
        among: message types; shown by name, with the first line of their docstring and their fields.
        may_be_none: None is one of the candidates.
        module: the DSPy module that chooses.
        parse_attempts: how many answers it may take to get one of the names.
        trained: what an optimiser has made of the module for this very choice.
        truncated: see ``run_signature``.

    Raises:
        LMReplyUnreadable: no answer was one of the names; it shows what came.
        LMError: `lm` failed.
        DeclarationError: there is nothing to choose from, or the types cannot be distinguished by their names.
    """
    names = _names(tuple(among))
    if not names:
        raise DeclarationError("choose(…, among=()): there is nothing to choose from.\n  Fix: pass message types.")
    if len(names) == 1 and not may_be_none:
        return among[0]
    told, output = choice_of(instruction, among, may_be_none=may_be_none)
    chosen = await fill(
        lm,
        instruction=told,
        inputs=inputs,
        output=output,
        module=module,
        parse_attempts=parse_attempts,
        trained=trained,
        truncated=truncated,
    )
    return names.get(chosen.choice)


def choice_of(instruction: str, among: Sequence[type], *, may_be_none: bool) -> tuple[str, type]:
    """The instruction that a choice is asked with, and the type of its answer: one field ``choice``, a ``Literal`` of names."""
    names = _names(tuple(among))
    told = _instruction(instruction, names, may_be_none=may_be_none)
    return told, _choice((*names, NOTHING) if may_be_none else tuple(names))


def name_among(kind: type | None, among: Sequence[type]) -> str:
    """The name by which `kind`, or None, is chosen."""
    return NOTHING if kind is None else next(name for name, each in _names(tuple(among)).items() if each is kind)


class Picking(Protocol):
    """Picks trained predictors; ``runtime.lm.predictors.loaded_predictors`` has it."""

    def for_choice(self, inputs: Mapping[str, object]) -> Trained | None:
        """What is to choose."""
        ...

    def for_filling(self, inputs: Mapping[str, object], output: type) -> Trained | None:
        """What is to fill `output`."""
        ...


async def fill_one_of(
    lm: ChatLM,
    *,
    instruction: str,
    inputs: Mapping[str, object],
    outputs: Sequence[type],
    may_be_none: bool,
    module: str | type = "Predict",
    parse_attempts: int = 2,
    predictors: Picking | None = None,
    on_field: FieldTeller | None = None,
    truncated: str | None = None,
) -> Any:
    """An instance of one of `outputs`, chosen and filled by `lm`; None if that was allowed and chosen.

    Args:
        lm: see :func:`choose`.
        instruction: see :func:`choose`.
        inputs: see :func:`choose`.
        outputs: the types.
        may_be_none: see :func:`choose`.
        module: the DSPy module that chooses and that fills.
        parse_attempts: see ``fill``.
        predictors: what picks trained ones for both.
        on_field: see ``fill``; the choice is not told.
        truncated: see ``run_signature``.

    Raises:
        LMReplyUnreadable: no answer was one of the names, or fits the chosen type.
        LMError: `lm` failed.
        DeclarationError: `module` is unknown, or a type cannot be shown to a language model.
    """
    chosen = await choose(
        lm,
        instruction=instruction,
        inputs=inputs,
        among=outputs,
        may_be_none=may_be_none,
        module=module,
        parse_attempts=parse_attempts,
        trained=None if predictors is None else predictors.for_choice(inputs),
        truncated=truncated,
    )
    if chosen is None:
        return None
    return await fill(
        lm,
        instruction=instruction,
        inputs=inputs,
        output=chosen,
        module=module,
        parse_attempts=parse_attempts,
        trained=None if predictors is None else predictors.for_filling(inputs, chosen),
        on_field=on_field,
        truncated=truncated,
    )


def _names(kinds: Sequence[type]) -> dict[str, type]:
    """The types by name; those that share one, by their full name."""
    short = [kind.__name__ for kind in kinds]
    names = {
        kind.__name__ if short.count(kind.__name__) == 1 else f"{kind.__module__}.{kind.__qualname__}": kind for kind in kinds
    }
    if len(names) < len(kinds) or NOTHING in names:
        raise DeclarationError(
            f"{short!r}: expected types of different names, and none that is called {NOTHING!r}.\n"
            "  Fix: rename those that share a name."
        )
    return names


def _instruction(instruction: str, names: Mapping[str, type], *, may_be_none: bool) -> str:
    lines = [f"- {name}: {_described(kind)}" for name, kind in names.items()]
    if may_be_none:
        lines.append(f"- {NOTHING}: nothing more is to be done.")
    return "\n".join([*([instruction, ""] if instruction else []), "Choose what comes next, by its exact name:", *lines])


def _described(kind: type) -> str:
    first = description_of(kind).partition("\n")[0]
    fields = ", ".join(getattr(kind, "__annotations__", {}))
    return f"{first} ({fields})" if first and fields else first or (f"has {fields}." if fields else "has no fields.")


@functools.lru_cache(maxsize=256)
def _choice(names: tuple[str, ...]) -> type:
    field = attrs.field(type=cast("Any", Literal[names]), metadata={"description": "one of these names, exactly"})
    return attrs.make_class("Choice", {"choice": field}, frozen=True)
