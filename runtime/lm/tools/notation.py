"""How a model is offered tools and how its calls and their results are written: the provider's own way, or as text."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, final

import attrs

from actors.lm import ChatMessage, Completion, ToolCall
from runtime.lm.tools.tool_schemas import ToolSchema
from runtime.messages.json_text import parse
from runtime.messages.problems import MessageInvalid
from runtime.messages.shapes import as_list, as_object

_MARK = "[[ ## tool_calls ## ]]"
_CALLS = re.compile(r"\[\[ ## tool_calls ## \]\]\s*(.*?)\s*(?=\[\[ ## |\Z)", re.DOTALL)
_FENCE = re.compile(r"^```(?:json)?\s*|\s*```$")


class Notation(Protocol):
    """One way of writing calls."""

    def asked(
        self, messages: Sequence[ChatMessage], tools: Sequence[ToolSchema], options: Mapping[str, Any]
    ) -> tuple[list[ChatMessage], dict[str, Any]]:
        """`messages` and `options` of a call that offers `tools`."""
        ...

    def calls(self, completion: Completion) -> tuple[ToolCall, ...]:
        """The calls that an answer asks for; none where it is the last."""
        ...

    def told(self, completion: Completion, calls: Sequence[ToolCall], results: Sequence[str]) -> list[ChatMessage]:
        """The answer that asked for `calls`, and what came of each, as messages of the conversation."""
        ...


@final
class Native:
    """The provider's own: ``tools`` in the request, ``tool_calls`` in the answer, messages of the role ``tool``."""

    def asked(
        self, messages: Sequence[ChatMessage], tools: Sequence[ToolSchema], options: Mapping[str, Any]
    ) -> tuple[list[ChatMessage], dict[str, Any]]:
        """See :class:`Notation`."""
        return list(messages), {**options, "tools": [tool.as_openai() for tool in tools]}

    def calls(self, completion: Completion) -> tuple[ToolCall, ...]:
        """See :class:`Notation`. An id that is missing, or given twice, is made again."""
        made: dict[str, ToolCall] = {}
        for number, call in enumerate(completion.tool_calls, 1):
            own = call if call.id and call.id not in made else attrs.evolve(call, id=f"call_{number}_{call.name}"[:40])
            made[own.id] = own
        return tuple(made.values())

    def told(self, completion: Completion, calls: Sequence[ToolCall], results: Sequence[str]) -> list[ChatMessage]:
        """See :class:`Notation`."""
        said = attrs.evolve(completion, tool_calls=tuple(calls)).message()
        answers = zip(calls, results, strict=True)
        return [said, *({"role": "tool", "tool_call_id": call.id, "content": result} for call, result in answers)]


@final
class TextNotation:
    """As text, for models that cannot call tools: reason and act by turns (ReAct)."""

    def asked(
        self, messages: Sequence[ChatMessage], tools: Sequence[ToolSchema], options: Mapping[str, Any]
    ) -> tuple[list[ChatMessage], dict[str, Any]]:
        """See :class:`Notation`."""
        listed = "\n".join(json.dumps(tool.as_openai()["function"], ensure_ascii=False) for tool in tools)
        words = (
            f"Before you answer, you may call tools:\n{listed}\n\n"
            f"To call them, write your thoughts and then, instead of the answer, the line {_MARK} followed by nothing but a JSON "
            'list such as [{"name": "…", "arguments": {…}}]. You will be told the results. When you know enough, answer in the '
            "format asked for, without that line."
        )
        at = next((index for index, message in enumerate(messages) if message.get("role") != "system"), len(messages))
        # Not in the system's message: what a server says of its tools is anybody's text.
        return [*messages[:at], {"role": "user", "content": words}, *messages[at:]], dict(options)

    def calls(self, completion: Completion) -> tuple[ToolCall, ...]:
        """See :class:`Notation`."""
        if completion.tool_calls:  # it could, after all
            return Native().calls(completion)
        found = _CALLS.search(completion.text)
        if found is None:
            return ()
        written = _FENCE.sub("", found.group(1))
        try:
            calls: object = parse(written)
        except MessageInvalid:
            return (ToolCall("call_1", "", written),)
        return tuple(_read(call, number) for number, call in enumerate(as_list(calls) or [calls], 1))

    def told(self, completion: Completion, calls: Sequence[ToolCall], results: Sequence[str]) -> list[ChatMessage]:
        """See :class:`Notation`."""
        if completion.tool_calls:
            return Native().told(completion, calls, results)
        answers = "\n\n".join(
            f"Result of {call.name or 'the call'} ({call.id}):\n{result}" for call, result in zip(calls, results, strict=True)
        )
        return [{"role": "assistant", "content": completion.text}, {"role": "user", "content": answers}]


def _read(call: object, number: int) -> ToolCall:
    given = as_object(call)
    name: object = given.get("name")
    arguments: object = given.get("arguments", given.get("args", {}))
    text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    return ToolCall(f"call_{number}", name if isinstance(name, str) else "", text)
