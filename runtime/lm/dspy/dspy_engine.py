"""A language model of ours as an engine of DSPy's: one ``Request`` in, one ``Response`` out.

From DSPy 3.5 on this is the only way for a language model of another make; in 3.4 it stands beside ``TrioLM``. The two share how
a call is made and how it comes back to trio. DSPy's own converter translates requests and responses to and from OpenAI's form.
"""

from __future__ import annotations

import functools
from typing import Any, final

from actors.errors import LMContextTooLong
from actors.lm import Completion
from runtime.lm.dspy.dspy_calls import ChatLM, Home, on_trio
from runtime.lm.dspy.from_threads import Crossing
from runtime.lm.dspy.import_dspy import library, part
from runtime.lm.limits.abilities import PassesAbilities


async def _complete(lm: ChatLM, request: Any) -> Any:
    """One response of `lm`; what fails is the client's error, which DSPy does not ask again for."""
    asked: dict[str, Any] = part("clients.lm15_boundary").request_kwargs(request, "chat")
    messages = asked.pop("messages")
    if request.config.top_k is not None:  # OpenAI's form has no place for it
        asked["top_k"] = request.config.top_k
    try:
        completion = await lm.chat(messages, **asked)
    except LMContextTooLong as error:
        # DSPy's agents shorten their history when they see their own error.
        raise part("lm15").ContextLengthError(str(error)) from error
    return part("clients.lm15_boundary").response_value(_as_openai(completion), "chat", request)


def _as_openai(completion: Completion) -> dict[str, Any]:
    message = {
        "role": "assistant",
        "content": completion.text or None,
        "reasoning_content": completion.reasoning,
        "tool_calls": [call.as_openai() for call in completion.tool_calls] or None,
    }
    usage = completion.usage
    return {
        "id": None,
        "model": completion.model,
        "choices": [{"index": 0, "finish_reason": completion.finish_reason, "message": message}],
        "usage": {
            "prompt_tokens": usage.prompt_tokens,
            "completion_tokens": usage.completion_tokens,
            "total_tokens": usage.total_tokens,
        },
    }


@final
class TrioEngine(PassesAbilities):
    """`lm` as a synchronous engine: ``dspy.LM(lm.model, engine=TrioEngine(lm), cache=False, num_retries=0)``.

    It works in a thread that trio started, and in the threads that such a module starts, as the synchronous calls of ``TrioLM``
    do. Caching and retries belong to `lm`, so DSPy's are to be off. It owns nothing and closes nothing.
    """

    def __init__(self, lm: ChatLM) -> None:
        self._lm = lm
        self._home = Home.here()

    def complete(self, request: Any) -> Any:
        """The ``dspy.lm15.Response`` to `request`, a ``dspy.lm15.Request``.

        Raises:
            LMError: `lm` failed; a prompt that is too long is ``dspy.lm15.ContextLengthError``.
            UsageError: there is no run of trio to go to, or it could not answer.
            BridgeMisused: the same, where DSPy would swallow an Exception.
        """
        crossing = getattr(library().settings.lm, "crossing", None)
        call = functools.partial(_complete, self._lm, request)
        return on_trio(crossing if isinstance(crossing, Crossing) else None, self._home, call)

    def close(self) -> None:
        """Nothing: `lm` is its owner's."""


@final
class AsyncTrioEngine(PassesAbilities):
    """`lm` as an asynchronous engine, whose ``complete`` is awaited on trio."""

    def __init__(self, lm: ChatLM) -> None:
        self._lm = lm

    async def complete(self, request: Any) -> Any:
        """The ``dspy.lm15.Response`` to `request`, a ``dspy.lm15.Request``.

        Raises:
            LMError: `lm` failed; a prompt that is too long is ``dspy.lm15.ContextLengthError``.
        """
        return await _complete(self._lm, request)

    async def aclose(self) -> None:
        """Nothing: `lm` is its owner's."""
