"""What a scripted model answers: values that tests write, and their one normal form, :class:`actors.lm.Completion`.

Shared by the loopback provider (``provider``) and ``ScriptedLM`` (``scripted_lm``). Pure: no I/O, no
clock, no chance.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, cast, final

import attrs

from actors.argument_checks import is_a, is_number
from actors.errors import DeclarationError
from actors.lm import ChatMessage, Completion, ToolCall, Usage
from actors.words import repr_of

COMPLETED: Final = "[[ ## completed ## ]]"

AnswerValue = str | Mapping[str, Any] | Completion
"""A text, a message or fields as a mapping (see :class:`Answer`), or a whole completion."""


def _is_latency(owner: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if value is not None:
        is_number(least=0, finite=True)(owner, attribute, value)


@final
@attrs.frozen
class Answer:
    """One scripted answer, when its value alone does not say enough.

    `value` is a text; a mapping with ``role`` or ``tool_calls`` in it, which is a whole message in OpenAI's form; any other
    mapping, which is the output fields of a DSPy prompt (:func:`field_answer` formats them); or a ``Completion``.
    """

    value: AnswerValue | Exception = attrs.field(validator=is_a(str, Mapping, Completion, Exception))
    """An exception is for ``ScriptedLM`` alone, which raises it; a provider fails by ``Failure``."""
    latency_s: float | None = attrs.field(default=None, kw_only=True, validator=_is_latency)
    """Seconds until the first byte; None: what the model's script says."""
    usage: Usage | None = attrs.field(default=None, kw_only=True)
    """None: one token per word of prompt and answer."""
    finish_reason: str | None = attrs.field(default=None, kw_only=True)
    """None: ``"tool_calls"`` when the message has any, else ``"stop"``."""


@final
@attrs.frozen
class ChatRequest:
    """A chat request as a scripted answer function gets it, the same for both dialects."""

    model: str
    messages: tuple[ChatMessage, ...]
    """In OpenAI's form; Anthropic's top-level ``system`` is the first of them."""
    stream: bool
    body: Mapping[str, Any] = attrs.field(repr=False)
    """The whole body as it came."""

    @property
    def text(self) -> str:
        """The system messages and the last user message, as :func:`prompt_text` joins them."""
        return prompt_text(self.messages)


AnswerFunction = Callable[[ChatRequest], "AnswerValue | Answer"]


def field_answer(**fields: object) -> str:
    r"""`fields` as DSPy's ``ChatAdapter`` wants a model to write them.

    A string stands as it is, anything else as JSON (attrs instances too). A field that is None is left out: DSPy reads a missing
    optional field as None, and the word ``null`` in a ``str | None`` field as those four letters. For a predict node a field
    without a default must be there, and ``"null"`` stands for None.

    >>> field_answer(filters=["a", "b"], query=None)
    '[[ ## filters ## ]]\n["a", "b"]\n\n[[ ## completed ## ]]'
    """
    sections = [f"[[ ## {name} ## ]]\n{_field_text(value)}" for name, value in fields.items() if value is not None]
    return "\n\n".join([*sections, COMPLETED])


def json_answer(**fields: object) -> str:
    """`fields` as one JSON object, which is what DSPy's ``JSONAdapter`` and ``response_format`` ask for.

    >>> json_answer(query=None)
    '{"query": null}'
    """
    return json.dumps(fields, ensure_ascii=False, default=_plain)


def tool_answer(name: str, /, **arguments: object) -> Mapping[str, Any]:
    """A message in which the model calls the tool `name` with `arguments` without any text."""
    return {"role": "assistant", "content": None, "tool_calls": [{"name": name, "arguments": arguments}]}


def completion_of(answer: AnswerValue | Answer, *, model: str, messages: Sequence[ChatMessage]) -> Completion:
    """The completion that `answer` stands for, from `model`, to `messages`.

    Raises:
        DeclarationError: `answer` is none of the allowed forms.
    """
    wrapped = answer if isinstance(answer, Answer) else Answer(answer)
    value = wrapped.value
    if isinstance(value, Exception):
        raise DeclarationError(
            f"A scripted answer is the exception {repr_of(value)}, which only ScriptedLM can raise.\n"
            "  Fix: let the provider fail by ModelScript(answer, failures=[Failure.status(500)])."
        )
    if not isinstance(value, Completion):
        value = _completion_of_value(value, model)
        said = f"{value.reasoning or ''} {value.text}"
        value = attrs.evolve(value, usage=Usage(words_in(messages), len(said.split())))
    return attrs.evolve(value, usage=wrapped.usage or value.usage, finish_reason=wrapped.finish_reason or value.finish_reason)


def is_message(value: Mapping[str, Any]) -> bool:
    """Whether a mapping is a message in OpenAI's form rather than the fields of a DSPy answer."""
    return "role" in value or "tool_calls" in value


def content_text(message: ChatMessage) -> str:
    """The text of one message; of a list of parts, the text parts one after the other."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    parts = [cast("Mapping[str, Any]", part) for part in cast("list[object]", content) if isinstance(part, Mapping)]
    return "\n".join(part["text"] for part in parts if isinstance(part.get("text"), str))


def prompt_text(messages: Sequence[ChatMessage]) -> str:
    """The texts of the system messages and of the last user message, in this order, one per line."""
    system = [content_text(message) for message in messages if message.get("role") in {"system", "developer"}]
    user = [content_text(message) for message in messages if message.get("role") == "user"]
    return "\n".join([*system, *user[-1:]])


def words_in(messages: Sequence[ChatMessage]) -> int:
    """How many words `messages` hold: the prompt's tokens, where there is no better count."""
    return sum(len(content_text(message).split()) for message in messages)


def _completion_of_value(value: str | Mapping[str, Any], model: str) -> Completion:
    if isinstance(value, str):
        return Completion(value, model)
    if not is_message(value):
        return Completion(field_answer(**value), model)
    calls = tuple(_tool_call(call, index) for index, call in enumerate(value.get("tool_calls") or ()))
    return Completion(
        content_text(value),
        model,
        finish_reason="tool_calls" if calls else "stop",
        tool_calls=calls,
        reasoning=value.get("reasoning_content"),
    )


def _tool_call(call: Mapping[str, Any], index: int) -> ToolCall:
    function = call.get("function", call)
    name, arguments = function.get("name"), function.get("arguments", {})
    if not isinstance(name, str):
        raise DeclarationError(
            f"A scripted tool call has no name: {repr_of(dict(call))}.\n"
            "  Fix: write tool_answer(name, **arguments), or a call in OpenAI's form."
        )
    text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False, default=_plain)
    identifier = call.get("id") or f"call_{index + 1}"
    return ToolCall(identifier, name, text)


def _field_text(value: object) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, default=_plain)


def _plain(value: object) -> object:
    """JSON for what ``json`` does not know; anything left over is a mistake in the script."""
    if attrs.has(type(value)):
        return attrs.asdict(cast("attrs.AttrsInstance", value))
    if isinstance(value, set | frozenset):
        return sorted(cast("frozenset[str]", value))
    raise DeclarationError(
        f"A scripted answer holds {repr_of(value)}, which has no JSON form.\n"
        "  Fix: use strings, numbers, booleans, None, lists, mappings or attrs instances."
    )


def shortest_decimal(number: float) -> str:
    """A number as a header writes it: ``2`` for 2.0, ``0.5`` for 0.5."""
    return str(int(number)) if math.isfinite(number) and number == int(number) else repr(number)
