"""Answers that cannot be read: what is wrong with them, in words for the language model and for the author."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, final

import attrs

from actors.errors import LMReplyUnreadable, LMTruncated
from actors.lm import ChatMessage
from actors.words import words_of
from runtime.lm.dspy.plans import SignaturePlan
from runtime.messages import schemas
from runtime.messages.problems import MessageInvalid, fields_named, lines_of

correction: ContextVar[tuple[ChatMessage, ...]] = ContextVar("understudy_correction", default=())
_again: ContextVar[str | None] = ContextVar("understudy_again", default=None)
"""What is added to the messages of the next call: the answer that could not be read, and why."""


CHARACTERS_PER_TOKEN = 4
LEAST_TOKENS = 256
"""An answer that was cut below this is asked for again with twice as much."""
_CAPS = ("max_completion_tokens", "max_tokens")
_EFFORTS = ("low", "medium", "high")
MAX_REASONS = 20
"""How many lines of one field's problems are told."""
MAX_MADE = 16
"""How many of the answers of one run are remembered with what was made of them."""
MAX_RETURNED_CHARACTERS = 10_000
"""How much of an answer that cannot be read the model is shown again."""


@final
@attrs.frozen(eq=False)
class Made:
    """One answer, and what the output type has made of it. By the names of the signature."""

    message: Any
    said: Mapping[str, Any]
    typed: Mapping[str, Any]
    """The fields of the message."""


@final
@attrs.frozen(eq=False)
class Care:
    """How carefully an adapter reads: how many answers it asks for, and what the answers are for."""

    parse_attempts: int
    subject: str
    plan: SignaturePlan | None = None
    truncated: str | None = None
    made: deque[Made] = attrs.field(factory=lambda: deque[Made](maxlen=MAX_MADE), repr=False)
    """What the output type has made of the answers so far."""

    def result(self, answered: Mapping[str, Any]) -> Any:
        """The output type's instance for what a module `answered`.

        It is the one that was made when the answer was read, unless the module has changed a field.

        Raises:
            MessageInvalid: the output type rejects it.
        """
        assert self.plan is not None, "without a plan there is no output type"
        outputs = tuple(self.plan.outputs)
        for made in reversed(self.made):
            same = {name for name in outputs if name in answered and answered[name] is made.typed[name]}
            if len(same) == len(outputs):
                return made.message
            if same:
                rest = {name: answered[name] for name in outputs if name in answered and name not in same}
                kept = {name: made.said[name] for name in same if name in made.said}
                return self.plan.build(self.plan.values({**kept, **rest}))
        return self.plan.build(self.plan.values(answered))


class Unfit(Exception):
    """An answer was parsed and does not fit the output type; ``reasons`` has the reasons, one line for each field."""

    def __init__(self, reasons: list[str]) -> None:
        super().__init__("\n".join(reasons))
        self.reasons = reasons


@contextmanager
def correcting(hint: tuple[ChatMessage, ...], again: str | None) -> Generator[None]:
    """Add `hint` to the messages of the calls made inside, in this task only; `again` is what `asked_again` tells there."""
    token, why = correction.set(hint), _again.set(again)
    try:
        yield
    finally:
        correction.reset(token)
        _again.reset(why)


def asked_again() -> str | None:
    """Why calls of this task ask again what was asked before: ``"unreadable"``, ``"truncated"``, or None for the first time."""
    return _again.get()


def fitting(care: Care, wanted: Mapping[str, Any], said: Mapping[str, Any], parsed: dict[str, Any]) -> dict[str, Any]:
    """The fields of an answer as the output type of ``care.plan`` makes them.

    DSPy gives None for a field that may be None and that the answer does not have. By that any answer would do, so here such a
    field is missing.

    Args:
        care: the run's.
        wanted: the signature's output fields.
        said: the fields that the answer has, for the author's own validators and converters as they were written.
        parsed: the same as DSPy parses them, with its defaults for what the answer does not have.

    Raises:
        Unfit: a field is missing, or the output type rejects what came.
    """
    plan = care.plan
    assert plan is not None, "without a plan there is no output type"
    lines = [_missing(name, wanted[name]) for name in wanted if name not in said and (not said or wanted[name].is_required())]
    if lines:
        raise Unfit(lines)
    values = {**parsed, **said}
    for name in plan.outputs.keys() & values.keys():
        if _means_none(plan.outputs[name].type, values[name]):
            values[name] = None
    if not plan.outputs.keys() <= wanted.keys():
        return values
    given = {name: values[name] for name in plan.outputs if name in values}
    try:
        made = plan.build(plan.values(given))
    except MessageInvalid as error:
        raise Unfit(lines_of(error.problems)) from error
    typed = {name: getattr(made, field.attribute, values.get(name)) for name, field in plan.outputs.items()}
    care.made.append(Made(made, given, typed))
    return {**values, **typed}


def stands_in(name: str, completion: str) -> bool:
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
    told = [line for line in lines[1:] or lines if line]
    why = "; ".join(told[:MAX_REASONS]) + (f"; … and {len(told) - MAX_REASONS} more" if len(told) > MAX_REASONS else "")
    got = "" if value is None else f"got {schemas.shorten(value)}, "
    return [f"{name}: {got}expected {schemas.type_name(wanted[name].annotation)}: {why}"]


def _said(error: Any) -> str:
    empty = error.message.startswith("The LM returned an empty")  # then DSPy writes None, or an empty structure, as what came
    return "" if empty else str(error.lm_response)


def widened(error: LMTruncated, lm: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    """`options` for asking again after an answer that stopped in the middle.

    There is twice the room then, and one step less of reasoning where that took all there was.

    Args:
        error: what `lm` raised.
        lm: a ``TrioLM``, which knows whether to ask again.
        options: the call's; they come before those of `lm`.

    Raises:
        LMTruncated: `error`, where nothing is to be asked again.
    """
    if lm.truncated != "widen":
        raise error
    whole = {**lm.kwargs, **options}
    name = next((name for name in _CAPS if isinstance(whole.get(name), int)), _CAPS[-1])
    used = max(error.completion.usage.completion_tokens, len(error.completion.text) // CHARACTERS_PER_TOKEN)
    more = {name: 2 * max(used, whole.get(name) or LEAST_TOKENS)}
    effort = whole.get("reasoning_effort")
    if effort in _EFFORTS[1:] and not error.completion.text.strip():
        more["reasoning_effort"] = _EFFORTS[_EFFORTS.index(effort) - 1]
    return {**options, **more}


def hint_for(error: Any) -> tuple[ChatMessage, ...]:
    """What to add to the conversation after DSPy's parse error: the answer as it came, and what is wrong with it."""
    told = "\n".join(f"- {reason}" for reason in _reasons(error))
    again = {
        "role": "user",
        "content": f"Your answer cannot be read:\n{told}\nAnswer again, in full and in the format asked for.",
    }
    said = _said(error)
    if len(said) > MAX_RETURNED_CHARACTERS:
        half = MAX_RETURNED_CHARACTERS // 2
        said = f"{said[:half]}\n… ({len(said) - 2 * half} characters) …\n{said[-half:]}"
    return ({"role": "assistant", "content": said}, again) if said.strip() else (again,)


def ill_made(error: MessageInvalid, output: type, model: str, *, spent: bool) -> LMReplyUnreadable:
    """Our error for an answer of `model` that was read, and that `output` rejects."""
    told = "".join(f"\n  {line}" for line in lines_of(error.problems))
    named = fields_named(error.problems) or "the answer"
    return LMReplyUnreadable(
        f"The answer does not make a {output.__name__}:{told}\n"
        f"  Fix: say in the instruction how {named} must look, raise parse_attempts, or widen the types of {output.__name__}.",
        model=model,
        spent=spent,
    )


def unreadable(error: Any, model: str, care: Care, requests: int) -> LMReplyUnreadable:
    """Our error for DSPy's parse error, after the last of the attempts."""
    error.args = (words_of(error),)  # DSPy repeats the whole answer there, and keeps it as an attribute besides
    answers = "1 answer" if care.parse_attempts == 1 else f"{care.parse_attempts} answers"
    told = "\n".join(f"  {reason}" for reason in _reasons(error))
    return LMReplyUnreadable(
        f"{model!r} gave no readable {care.subject} in {answers}.\n{told}\n"
        f"  It answered: {schemas.shorten(_said(error))}\n"
        "  Fix: describe in the instruction how to answer, raise parse_attempts, widen the types, or take a stronger model.",
        model=model,
        attempt=max(requests, 1),
        spent=care.parse_attempts > 1,
    )
