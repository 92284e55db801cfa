"""Pydantic AI's agents over a language model of ours, for systems whose nodes are types.

``Agent.run`` needs asyncio. So an agent runs in a worker thread on its own event loop, and each of its requests comes back
onto trio as one ``lm.chat``: with the client's limits, its budget, the caller's cancel scope, and its retries alone. What an
agent repeats is an answer that does not fit.

pydantic-ai-slim is the extra ``understudy[pydantic-ai]``; it is imported here only, when a backend is made.
"""

from __future__ import annotations

import functools
import importlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar, cast, final

import attrs
import trio

from actors.argument_checks import check_count
from actors.errors import DeclarationError, LMReplyUnreadable, UsageError
from actors.lm import ChatMessage, Completion
from actors.words import words_of
from runtime.lm.backends.typed import partial_type, what_follows
from runtime.lm.dspy.choosing import NOTHING, choice_of
from runtime.lm.dspy.dspy_calls import ChatLM, policy_of, reject_truncated
from runtime.messages import schemas

T = TypeVar("T")


@final
class PydanticAIBackend:
    """The four coroutines by Pydantic AI's agents over `lm`.

    One agent is kept for each set of types that is asked for. ``decide`` gives them all to the model at the same time, as output
    tools of one request, and None as one more; ``choose_type`` asks for a name, exactly.

    Args:
        lm: what answers; its model must be able to call tools.
        max_retries: how often an answer that does not fit is asked for again.

    Raises:
        UsageError: the extra is not installed.
    """

    def __init__(self, lm: ChatLM, *, max_retries: int = 1) -> None:
        check_count(self, "max_retries", max_retries, least=0)
        self._lm = lm
        self._max_retries = max_retries
        self._library = _library()
        self._agents: dict[tuple[type, ...], Any] = {}

    async def make(self, source: object, target: type[T]) -> T:
        """An instance of `target` made from `source`.

        Raises:
            LMReplyUnreadable: no answer fits `target`, after all attempts.
            LMError: the call failed.
        """
        return cast("T", await self._asked((target,), f"Make the {target.__name__}.", {"source": source}))

    async def decide(self, source: object) -> Any:
        """The next instance after `source`: of one of the types that its ``__call__`` returns, or None where that may be.

        Raises:
            DeclarationError: its ``__call__`` names no type and not None.
            LMReplyUnreadable: see :meth:`make`.
        """
        candidates, may_end = what_follows(source)
        if not candidates:
            await trio.lowlevel.checkpoint()
            return None
        types = (*candidates, *((_Nothing,) if may_end else ()))
        made = await self._asked(types, "Decide what follows, and make it.", {"source": source})
        return None if isinstance(made, _Nothing) else made

    async def choose_type(self, types: Sequence[type[T]], context: object) -> type[T]:
        """The one of `types` that fits `context`; without asking when there is only one.

        Raises:
            DeclarationError: there are none, or two that cannot be distinguished by their full names.
            LMReplyUnreadable: the model names none of them, after all attempts.
        """
        if len(types) == 1:
            await trio.lowlevel.checkpoint()
            return types[0]
        if not types:
            raise DeclarationError("choose_type([], …): there is nothing to choose from.\n  Fix: pass message types.")
        told, output = choice_of("", types, may_be_none=False)
        made = await self._asked((output,), told, {"context": context})
        return next(kind for kind in types if made.choice in (kind.__name__, f"{kind.__module__}.{kind.__qualname__}"))

    async def fill(self, target: type[T], resolved: Mapping[str, object], instruction: str, source: object | None = None) -> T:
        """An instance of `target` whose fields in `resolved` are given and whose other fields the model fills from all there is.

        Raises:
            DeclarationError: `target` has no field of a name in `resolved`.
            LMReplyUnreadable: see :meth:`make`.
        """
        output, build = partial_type(target, resolved)
        if output is not target and not attrs.fields(cast("Any", output)):
            await trio.lowlevel.checkpoint()
            return cast("T", build(output()))
        shown = {**resolved, **({} if source is None else {"source": source})}
        return cast("T", build(await self._asked((output,), instruction or f"Make the {target.__name__}.", shown)))

    async def _asked(self, types: tuple[type, ...], instruction: str, shown: Mapping[str, object]) -> Any:
        agent = self._agent(types)
        prompt = json.dumps({name: schemas.dump(value) for name, value in shown.items()}, ensure_ascii=False, indent=1)

        try:
            return await trio.to_thread.run_sync(_run, agent, prompt, instruction)
        except self._library.exceptions.UnexpectedModelBehavior as error:
            names = " | ".join(kind.__name__ for kind in types)
            raise LMReplyUnreadable(
                f"{self._lm.model!r} gave no readable {names} in {self._max_retries + 1} answers: {words_of(error)}\n"
                "  Fix: describe in the instruction how to answer, raise max_retries, or take a stronger model.",
                model=self._lm.model,
                spent=True,
            ) from error

    def _agent(self, types: tuple[type, ...]) -> Any:
        if types not in self._agents:
            function_model = importlib.import_module("pydantic_ai.models.function").FunctionModel
            model = function_model(functools.partial(_answer, self._library, self._lm), model_name=self._lm.model)
            outputs = [schemas.mirror(kind) for kind in types]
            self._agents[types] = self._library.Agent(model, output_type=outputs, retries=self._max_retries)
        return self._agents[types]


@final
@attrs.frozen
class _Nothing:
    """Nothing follows."""


_Nothing.__name__ = NOTHING


@functools.cache
def _library() -> Any:
    try:
        return importlib.import_module("pydantic_ai")
    except ImportError as error:
        raise UsageError(
            "PydanticAIBackend needs pydantic-ai-slim, which is not installed.\n  Fix: pip install 'understudy[pydantic-ai]'."
        ) from error


def _run(agent: Any, prompt: str, instruction: str) -> Any:
    """One run of an agent, which is shared by all calls; the instruction is this call's."""
    import asyncio  # noqa: PLC0415 - half of what `import runtime.lm` would take, and only these agents need it

    return asyncio.run(agent.run(prompt, instructions=instruction)).output


async def _answer(library: Any, lm: ChatLM, messages: list[Any], info: Any) -> Any:
    """One request of an agent, made by `lm` on trio. The agent's event loop waits meanwhile: it has nothing else to do."""
    tools = [_tool(each) for each in (*info.function_tools, *info.output_tools)]
    options: dict[str, Any] = {"tools": tools} if tools else {}
    if tools and not info.allow_text_output:
        options["tool_choice"] = "required"
    settings: Mapping[str, Any] = info.model_settings or {}
    options.update({name: settings[name] for name in ("temperature", "max_tokens", "top_p", "seed") if name in settings})
    sent = [*([{"role": "system", "content": info.instructions}] if info.instructions else []), *_messages(messages)]
    completion = trio.from_thread.run(functools.partial(lm.chat, sent, **options))
    reject_truncated(completion, policy_of(lm, None))
    return _response(library, completion)


def _tool(definition: Any) -> dict[str, Any]:
    function = {"name": definition.name, "parameters": definition.parameters_json_schema}
    if definition.description:
        function["description"] = definition.description
    return {"type": "function", "function": function}


def _messages(messages: list[Any]) -> list[ChatMessage]:
    """An agent's messages in OpenAI's form."""
    sent: list[ChatMessage] = []
    for message in messages:
        if message.kind == "response":
            sent.append(_said(message.parts))
            continue
        for part in message.parts:
            if part.part_kind == "system-prompt":
                sent.append({"role": "system", "content": part.content})
            elif part.part_kind == "user-prompt":
                sent.append({"role": "user", "content": part.content if isinstance(part.content, str) else str(part.content)})
            elif getattr(part, "tool_call_id", None):
                text = part.model_response_str() if part.part_kind == "tool-return" else part.model_response()
                sent.append({"role": "tool", "tool_call_id": part.tool_call_id, "content": text})
            elif hasattr(part, "model_response"):
                sent.append({"role": "user", "content": part.model_response()})
    return sent


def _said(parts: Sequence[Any]) -> ChatMessage:
    text = "".join(part.content for part in parts if part.part_kind == "text")
    calls = [
        {
            "id": part.tool_call_id,
            "type": "function",
            "function": {"name": part.tool_name, "arguments": part.args_as_json_str()},
        }
        for part in parts
        if part.part_kind == "tool-call"
    ]
    return {"role": "assistant", "content": text or None, **({"tool_calls": calls} if calls else {})}


def _response(library: Any, completion: Completion) -> Any:
    known = library.messages
    parts: list[Any] = [known.TextPart(completion.text)] if completion.text else []
    parts += [known.ToolCallPart(call.name, call.arguments, tool_call_id=call.id or "call") for call in completion.tool_calls]
    usage = library.usage.RequestUsage(
        input_tokens=completion.usage.prompt_tokens, output_tokens=completion.usage.completion_tokens
    )
    return known.ModelResponse(parts=parts, usage=usage, model_name=completion.model)
