"""One call as DSPy makes it, made as ours: options and messages in, ``lm.chat`` on trio, OpenAI's shape out."""

from __future__ import annotations

import contextvars
import functools
import inspect
import sys
import threading
import types
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar, final

import attrs
import trio

from actors.argument_checks import rejected
from actors.errors import LMTruncated, UsageError
from actors.groups import failure_besides
from actors.lm import ChatMessage, Completion
from runtime.lm.dspy.from_threads import Crossing
from runtime.lm.dspy.import_dspy import library

T = TypeVar("T")
_SWALLOWS = "dspy.utils.parallelizer"
"""The module of DSPy's that counts any Exception of a call as a wrong answer: for ``dspy.Evaluate`` and ``dspy.Parallel``."""
_NOT_FOR_THE_PROVIDER = frozenset({"cache", "rollout_id", "num_retries", "n", "num_generations", "model"})


class ChatLM(Protocol):
    """What the bridge needs of a language model; ``actors.lm.LM`` has it."""

    @property
    def model(self) -> str:
        """The model's name."""
        ...

    async def chat(self, messages: Sequence[ChatMessage], /, **options: Any) -> Completion:
        """Send `messages` and return the answer."""
        ...


def options_of(merged: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
    """What the provider is asked, and for how many answers; options that DSPy leaves unset or keeps for itself are left out."""
    count = merged.get("n") or merged.get("num_generations") or 1
    return {name: value for name, value in merged.items() if value is not None and name not in _NOT_FOR_THE_PROVIDER}, count


async def ask(chat: Callable[[], Awaitable[Completion]], count: int) -> list[Completion]:
    """`count` answers of `chat`, asked for immediately. The first failure cancels the rest and is raised as it is."""
    if count == 1:
        return [await chat()]
    answers: list[Completion] = []
    failures: list[BaseException] = []

    async def one() -> None:
        try:
            answers.append(await chat())
        except BaseException as error:
            failure = failure_besides(error, trio.Cancelled)
            if failure is None:
                raise
            failures.append(failure)  # raised below, without a group around it: `except LMError` must see it
            nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        for _ in range(count):
            nursery.start_soon(one)
    if failures:
        raise failures[0]
    return answers


class BridgeMisused(BaseException):
    """A language model was called where it cannot work, by code of DSPy's that would count an ``Exception`` as a wrong answer.

    ``dspy.Evaluate`` and ``dspy.Parallel`` do: a score of 0.0 would be all that is seen of the mistake. Elsewhere the same
    mistake is a ``UsageError``.
    """


@final
@attrs.frozen(eq=False)
class Home:
    """Where a language model of DSPy's was made: the run of trio that its calls come back to, and the context they have there."""

    token: trio.lowlevel.TrioToken
    context: contextvars.Context
    thread_id: int | None
    """The thread of the run, where it is known."""

    @classmethod
    def here(cls) -> Home | None:
        """That of the calling task, or of the task that the calling thread works for; None outside of trio."""
        if trio.lowlevel.in_trio_run():
            return cls(trio.lowlevel.current_trio_token(), contextvars.copy_context(), threading.get_ident())
        try:
            token, thread_id = trio.from_thread.run_sync(lambda: (trio.lowlevel.current_trio_token(), threading.get_ident()))
        except RuntimeError:  # not a thread of trio's
            return None
        return cls(token, contextvars.copy_context(), thread_id)

    @property
    def is_held(self) -> bool:
        """Whether DSPy waits on the thread of the run for its own threads: no call of theirs could ever be answered."""
        if self.thread_id is None:
            return False
        frames = sys._current_frames()  # pyright: ignore[reportPrivateUsage]  # documented, in spite of its name
        return _is_within(_SWALLOWS, frames.get(self.thread_id))

    def run(self, call: Callable[[], Awaitable[T]]) -> T:
        """What `call` gives, run as a system task, which no nursery of the caller owns, in the context of the place."""
        result: T = self.context.copy().run(functools.partial(trio.from_thread.run, call, trio_token=self.token))
        return result


def on_trio(crossing: Crossing | None, home: Home | None, call: Callable[[], Awaitable[T]]) -> T:
    """Run `call` on trio from the thread of a synchronous module.

    In the task that started the thread, where trio started it; else as a task of `crossing`, whose cancel scope and context it
    has then; without one as a system task, in the context of `home`.

    Raises:
        UsageError: there is no run of trio to go to, or it could not answer.
        BridgeMisused: the same, where DSPy would swallow an Exception.
    """
    if trio.lowlevel.in_trio_run():
        raise misused(
            f"{_caller()} was called synchronously on trio's own thread: the call would wait for the loop that it holds.\n"
            "  Fix: `await module.acall(…)` instead of `module(…)`; or, for an evaluation and other synchronous code, "
            "`await run_dspy(lm, function)`."
        )
    try:
        trio.from_thread.check_cancelled()
    except RuntimeError:  # not a thread of trio's: one that a module such as dspy.Parallel started
        if crossing is not None:
            return crossing.run(call)
        if home is None:
            raise misused(
                f"{_caller()} was called in a thread that knows no trio run.\n"
                "  Fix: `await run_dspy(lm, function)`; or make the TrioLM inside trio.run, or in a thread that "
                "`trio.to_thread.run_sync` has started."
            ) from None
        if home.is_held:
            raise misused(
                f"{_caller()} was called in a thread for which DSPy waits on trio's own thread: neither could continue.\n"
                "  Fix: `await run_dspy(lm, function)`."
            ) from None
        return home.run(call)
    return trio.from_thread.run(call)


def _caller() -> str:
    modules: Sequence[Any] = library().settings.caller_modules or ()
    names = [type(module).__name__ for module in modules]
    return f"The DSPy module {' > '.join(names)}" if names else "A DSPy language model"


def misused(words: str) -> UsageError | BridgeMisused:
    """The error in `words` for code of DSPy's that calls where it must not: one that DSPy does not swallow."""
    return BridgeMisused(words) if _is_within(_SWALLOWS, inspect.currentframe()) else UsageError(words)


def _is_within(module: str, frame: types.FrameType | None) -> bool:
    while frame is not None:
        if frame.f_globals.get("__name__") == module:
            return True
        frame = frame.f_back
    return False


TRUNCATED = ("error", "accept", "widen")
"""What may become of an answer that stops in the middle."""


def check_truncated(owner: object, truncated: object) -> None:
    """DeclarationError unless `truncated` is one of :data:`TRUNCATED`, or None for what the language model itself is set to."""
    if truncated is not None and truncated not in TRUNCATED:
        raise rejected(owner, "truncated", truncated, f"one of {', '.join(map(repr, TRUNCATED))}, or None")


def policy_of(lm: object, truncated: str | None) -> str:
    """What happens to `lm`'s answers that stop in the middle: as set by the call, or by the model, or else they are errors."""
    return truncated or getattr(lm, "truncated", None) or "error"


def reject_truncated(completion: Completion, policy: str) -> None:
    """Raises LMTruncated when `completion` stops in the middle, unless that is to be accepted.

    What would be read out of it is not what the model meant to say: a list that is cut is a shorter list.
    """
    if not completion.is_truncated or policy == "accept":
        return
    used = completion.usage.completion_tokens
    length = f" after {used} tokens" if used else ""
    error = LMTruncated(
        f"the answer of {completion.model!r} stops in the middle{length} (finish reason 'length'): …{completion.text[-60:]!r}\n"
        "  Fix: raise max_tokens or ask for less reasoning; truncated='widen' asks again with more room, "
        "truncated='accept' takes what there is.",
        model=completion.model,
        attempt=max(completion.attempts, 1),
    )
    error.completion = completion
    raise error


def openai_shaped(answers: Sequence[Completion]) -> types.SimpleNamespace:
    """The answers in the shape in which DSPy reads a provider's: OpenAI's."""
    costs = [answer.usage.cost_usd for answer in answers if answer.usage.cost_usd is not None]
    usage = {
        "prompt_tokens": sum(answer.usage.prompt_tokens for answer in answers),
        "completion_tokens": sum(answer.usage.completion_tokens for answer in answers),
        "total_tokens": sum(answer.usage.total_tokens for answer in answers),
    }
    choices = [
        types.SimpleNamespace(
            finish_reason=answer.finish_reason,
            logprobs=answer.logprobs,
            message=types.SimpleNamespace(
                content=answer.text or None,
                reasoning_content=answer.reasoning,
                tool_calls=[call.as_openai() for call in answer.tool_calls],
                provider_specific_fields={"citations": list(answer.citations)} if answer.citations else None,
            ),
        )
        for answer in answers
    ]
    cost = {"response_cost": sum(costs) if costs else None}
    # DSPy counts no usage for an answer that no model was asked for.
    is_kept = all(answer.attempts == 0 for answer in answers)
    return types.SimpleNamespace(choices=choices, usage=usage, model=answers[0].model, cache_hit=is_kept, _hidden_params=cost)
