"""The language model that DSPy sees: a ``dspy.BaseLM`` whose calls are ours, on trio.

DSPy's history, usage tracker and callbacks see every call as they see those of ``dspy.LM``. Its retries are off: they belong to
the client below. So does the cache; what DSPy sets for it (``cache=False``, ``rollout_id``) is passed on to it.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, cast, final

import attrs

from actors.errors import LMContextTooLong
from actors.lm import ChatMessage, Completion, Delta
from runtime.lm.dspy.dspy_calls import ChatLM, Home, ask, on_trio, openai_shaped, options_of, policy_of, reject_truncated
from runtime.lm.dspy.from_threads import Crossing
from runtime.lm.dspy.import_dspy import library, part
from runtime.lm.dspy.pieces import Chunks
from runtime.lm.dspy.unreadable import correction
from runtime.lm.limits.cache import caching


@final
@attrs.define
class Meter:
    """What one run of a module has asked for."""

    requests: int = 0


class AnswerListener(Protocol):
    """Is told of one answer as it comes."""

    def piece(self, delta: Delta) -> None:
        """The next piece."""
        ...

    def end(self) -> None:
        """The answer is whole."""
        ...


def trio_lm(
    lm: ChatLM,
    *,
    crossing: Crossing | None = None,
    listening: Callable[[], AnswerListener] | None = None,
    truncated: str | None = None,
) -> Any:
    """`lm` as a ``dspy.BaseLM`` whose ``acall`` runs on trio: for ``dspy.context(lm=…)`` in your own code.

    Args:
        lm: what answers.
        crossing: the way back for threads that a module starts itself.
        listening: makes what is told of the pieces of one answer; answers are then streamed.
        truncated: what happens to answers that stop in the middle; see ``run_signature``.
    """
    bridge = trio_lm_class()(lm)
    bridge.crossing, bridge.listening, bridge.truncated = crossing, listening, policy_of(lm, truncated)
    return bridge


@functools.cache
def trio_lm_class() -> Any:
    """``TrioLM``, made when it is first asked for, because its base class is DSPy's."""
    base: Any = library().BaseLM
    with_callbacks: Any = part("utils.callback").with_callbacks

    class TrioLM(base):  # type: ignore[misc]  # the base is known at run time only
        """A ``dspy.BaseLM`` whose calls are ``await lm.chat(…)`` on trio.

        DSPy's history, usage tracker and callbacks see every call. Its retries and its cache are off: they belong to `lm`. The
        synchronous call works in a thread that trio started, or that such a thread started.
        """

        def __init__(self, lm: ChatLM) -> None:
            base.__init__(self, lm.model, cache=False, num_retries=0)
            self.lm = lm
            self.meter = Meter()
            self.truncated = policy_of(lm, None)
            self.crossing: Crossing | None = None
            self.listening: Callable[[], AnswerListener] | None = None
            self.is_private = False
            """Its calls are kept in its own history only, not in the one that DSPy has for the whole process."""
            self.home = Home.here()

        @property
        def supports_function_calling(self) -> bool:
            return bool(getattr(self.lm, "supports_function_calling", False))

        @property
        def supports_reasoning(self) -> bool:
            return bool(getattr(self.lm, "supports_reasoning", False))

        @property
        def supports_response_schema(self) -> bool:
            return bool(getattr(self.lm, "supports_response_schema", False))

        @property
        def supported_params(self) -> set[str]:
            return set(getattr(self.lm, "supported_params", ()))

        async def acall(self, prompt: Any = None, *, messages: Any = None, **kwargs: Any) -> Any:
            response = await self.aforward(prompt, messages, **kwargs)
            return base._process_lm_response(self, response, prompt, messages, **kwargs)

        def __call__(self, prompt: Any = None, *, messages: Any = None, **kwargs: Any) -> Any:
            response = self.forward(prompt, messages, **kwargs)
            return base._process_lm_response(self, response, prompt, messages, **kwargs)

        async def aforward(self, prompt: Any = None, messages: Any = None, **kwargs: Any) -> Any:
            chat, count = self._call(prompt, messages, kwargs)
            return openai_shaped(await ask(chat, count))

        def forward(self, prompt: Any = None, messages: Any = None, **kwargs: Any) -> Any:
            chat, count = self._call(prompt, messages, kwargs)
            return openai_shaped(on_trio(self.crossing, self.home, functools.partial(ask, chat, count)))

        def _call(self, prompt: Any, messages: Any, kwargs: dict[str, Any]) -> tuple[Callable[[], Awaitable[Completion]], int]:
            sent = [*(messages or [{"role": "user", "content": prompt}]), *correction.get()]
            merged = {**cast("Any", self).kwargs, **kwargs}
            options, count = options_of(merged)
            # Read here, in the caller's context: the call itself may run in another task.
            listener = self.listening() if self.listening is not None and count == 1 else None
            chunks = Chunks.of(library().settings, self.lm.model) if count == 1 else None

            async def chat() -> Completion:
                try:
                    with caching(rollout=merged.get("rollout_id"), is_wanted=merged.get("cache", True) is not False):
                        completion = await _answer(self.lm, sent, options, listener, chunks)
                except LMContextTooLong as error:
                    # DSPy's agents shorten their history when they see their own error; the bridge gives ours back to the caller.
                    raise library().ContextWindowExceededError(model=self.lm.model, message=str(error)) from error
                self.meter.requests += completion.attempts
                reject_truncated(completion, self.truncated)
                return completion

            return chat, count

        def update_history(self, entry: dict[str, Any]) -> None:
            if not self.is_private:
                base.update_history(self, entry)
                return
            settings, history = library().settings, cast("Any", self).history
            if settings.disable_history or settings.max_history_size == 0:
                return
            history.append(entry)
            del history[: -settings.max_history_size]

        def __deepcopy__(self, memo: dict[int, Any]) -> Any:
            return cast("Any", self).copy()  # a deep copy of a module must not copy the client and its connections

    for name in ("acall", "__call__"):
        setattr(TrioLM, name, with_callbacks(getattr(TrioLM, name)))
    return TrioLM


async def _answer(
    lm: Any, sent: list[ChatMessage], options: dict[str, Any], listener: AnswerListener | None, chunks: Chunks | None
) -> Completion:
    """One answer, streamed if there is a listener and `lm` can."""
    if (listener is None and chunks is None) or not hasattr(lm, "stream"):
        whole: Completion = await lm.chat(sent, **options)
        return whole
    async with lm.stream(sent, **options) as stream:
        async for delta in stream:
            if listener is not None:
                listener.piece(delta)
            if chunks is not None:
                await chunks.send(delta)
    whole = stream.completion
    if listener is not None:
        listener.end()
    if chunks is not None:
        await chunks.end(whole.finish_reason)
    return whole
