"""Answers that cannot be read: what is wrong with them, in words for the language model and for the author."""

from __future__ import annotations

import re
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, final

import attrs

from actors.errors import LMReplyUnreadable
from actors.lm import ChatMessage
from runtime.lm.dspy import schemas
from runtime.lm.dspy.plans import Plan

correction: ContextVar[tuple[ChatMessage, ...]] = ContextVar("understudy_correction", default=())
"""What is added to the messages of the next call: the answer that could not be read, and why."""


@final
@attrs.frozen(eq=False)
class Care:
    """How carefully an adapter reads: how many answers it asks for, and what the answers are for."""

    parse_attempts: int
    subject: str
    plan: Plan | None = None


class Unfit(Exception):
    """An answer was parsed and does not fit the output type; ``reasons`` says why, one line for each field."""

    def __init__(self, reasons: list[str]) -> None:
        super().__init__("\n".join(reasons))
        self.reasons = reasons


@contextmanager
def correcting(hint: tuple[ChatMessage, ...]) -> Generator[None]:
    """Add `hint` to the messages of the calls made inside, in this task only."""
    token = correction.set(hint)
    try:
        yield
    finally:
        correction.reset(token)


def fitting(plan: Plan, signature: Any, completion: str, fields: dict[str, Any]) -> dict[str, Any]:
    """`fields`, as an adapter parsed them, as the output type takes them.

    DSPy gives None for a field that may be None and that the answer does not have. By that any answer would do, so here such a
    field is missing.

    Raises:
        Unfit: a field is missing, or the output type refuses what came.
    """
    wanted = signature.output_fields
    present = {name for name in wanted if _stands_in(name, completion)}
    lines = [
        _missing(name, wanted[name])
        for name in wanted
        if name not in present and (not present or (wanted[name].is_required() and fields.get(name) is None))
    ]
    for name in plan.outputs.keys() & fields.keys():
        if _means_none(plan.outputs[name].type, fields[name]):
            fields[name] = None
    if not lines and plan.outputs.keys() <= wanted.keys():
        try:
            plan.build(plan.values(fields))
        except LMReplyUnreadable as error:
            lines = [line.strip() for line in str(error).partition("\n  Mend: ")[0].splitlines()[1:]]
    if lines:
        raise Unfit(lines)
    return fields


def _stands_in(name: str, completion: str) -> bool:
    """Whether `completion` has the field in any of the formats of DSPy's adapters: ``[[ ## name ## ]]``, JSON or XML."""
    return re.search(rf"\[\[ ## {name} ## \]\]|[\"']?\b{name}\b[\"']?\s*:|<{name}>", completion) is not None


def _means_none(annotation: Any, value: object) -> bool:
    """Whether a text stands for None: DSPy's chat format writes every value as text, so None comes as one of these."""
    return isinstance(value, str) and schemas.allows_none(annotation) and value.strip().lower() in {"", "none", "null"}


def _missing(name: str, info: Any) -> str:
    return f"{name}: missing, expected {schemas.type_name(info.annotation)}"


_FAILED_FIELD = re.compile(
    r"Failed to parse field (\w+)(?: with value (.*) from the LM response\. Error message)?: (.*)", re.DOTALL
)


def _reasons(error: Any) -> list[str]:
    """What is wrong with an answer, one line for each field, out of DSPy's parse error."""
    if isinstance(error.__cause__, Unfit):
        return error.__cause__.reasons
    wanted = error.signature.output_fields
    if error.parsed_result is not None:
        absent = [_missing(name, info) for name, info in wanted.items() if name not in error.parsed_result]
        if absent:
            return absent
    said = error.message.partition("\n\nAdapter ")[0]
    match = _FAILED_FIELD.match(said)
    if match is None:
        return [said.partition(". ")[0].strip().rstrip(".")]
    name, value, reason = match.groups()
    lines = [line.strip().partition(" [type=")[0] for line in reason.splitlines() if "errors.pydantic.dev" not in line]
    why = "; ".join(line for line in lines[1:] or lines if line)
    got = "" if value is None else f"got {schemas.shorten(value)}, "
    return [f"{name}: {got}expected {schemas.type_name(wanted[name].annotation)}: {why}"]


def _said(error: Any) -> str:
    empty = error.message.startswith("The LM returned an empty")  # then DSPy writes None, or an empty structure, as what came
    return "" if empty else str(error.lm_response)


def hint_for(error: Any) -> tuple[ChatMessage, ...]:
    """What to add to the conversation after DSPy's parse error: the answer as it came, and what is wrong with it."""
    told = "\n".join(f"- {reason}" for reason in _reasons(error))
    again = {
        "role": "user",
        "content": f"Your answer cannot be read:\n{told}\nAnswer again, in full and in the format asked for.",
    }
    said = _said(error)
    return ({"role": "assistant", "content": said}, again) if said.strip() else (again,)


def unreadable(error: Any, model: str, care: Care, requests: int) -> LMReplyUnreadable:
    """Our error for DSPy's parse error, after the last of the attempts."""
    answers = "1 answer" if care.parse_attempts == 1 else f"{care.parse_attempts} answers"
    told = "\n".join(f"  {reason}" for reason in _reasons(error))
    return LMReplyUnreadable(
        f"{model!r} gave no readable {care.subject} in {answers}.\n{told}\n"
        f"  It said: {schemas.shorten(_said(error))}\n"
        "  Mend: say in the instruction how to answer, raise parse_attempts, widen the types, or take a stronger model.",
        model=model,
        attempt=max(requests, 1),
        spent=care.parse_attempts > 1,
    )
