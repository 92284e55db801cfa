"""A language model without HTTP: scripted answers and latencies on trio's clock, exact to the last digit under a virtual one."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Literal, Self, cast, final

import attrs
import trio

from actors.argument_checks import rejected
from actors.errors import UsageError
from actors.lm import ChatMessage, Completion, Delta, ReasoningDelta, TextDelta, ToolCallDelta, Usage
from actors.words import repr_of
from runtime.lm.arguments import checked_messages
from runtime.lm.dspy.bridge import run_signature
from runtime.testing.models.answers import Answer, AnswerValue, completion_of, prompt_text
from runtime.testing.models.checked_scripts import ScriptQuestion, Tolerance, Tolerances, difference, enroll, excerpt, marked
from runtime.testing.models.wire_forms import pieces_of

ScriptedValue = AnswerValue | Answer | Exception
"""What one call is answered with; an exception is raised."""

ScriptedFunction = Callable[[Sequence[ChatMessage]], ScriptedValue]

ScriptedItem = ScriptedValue | ScriptedFunction

Matcher = str | Callable[[str], object]
"""A substring of the prompt's text, or a function of it (``re.compile(...).search`` is one)."""

ScriptedAnswers = Sequence[ScriptedItem] | Mapping[Matcher, ScriptedItem | Sequence[ScriptedItem]] | ScriptedFunction


class UnscriptedCall(AssertionError):
    """The code under test made a call that the script does not foresee. No supervisor tries it again."""


@final
@attrs.define(eq=False)
class ScriptedCall:
    """One call to a :class:`ScriptedLM`. It fills in while the call is in progress."""

    number: int
    """1 for the first."""
    messages: tuple[ChatMessage, ...] = attrs.field(repr=False)
    options: Mapping[str, Any]
    started_s: float
    """On trio's clock, like all times here."""
    ended_s: float | None = None
    completion: Completion | None = attrs.field(default=None, repr=False)
    """What it was answered with; None while it runs, and when it failed."""
    error: Exception | None = None
    """What it raised."""
    cancelled: bool = False
    """Whether the caller was cancelled meanwhile."""

    @property
    def text(self) -> str:
        """The system messages and the last user message: what the keys of a script are looked for in."""
        return prompt_text(self.messages)


@final
class ScriptedLM:
    """A language model that returns the answers a test lists, on the test's clock. Satisfies ``actors.LM``.

    `answers` is one of

    - a list: one answer per call, in the order in which the calls begin;
    - a mapping from keys to answers, or to lists of answers: the first key (in the mapping's order) that is a substring of the
      prompt's text wins, so concurrent calls may come in any order. The text is the system messages and the last user message,
      one per line; in a DSPy prompt it holds the instruction (a node's docstring), the inputs with their values and the names of
      the output fields. The key ``""`` fits every prompt and belongs last. A key may also be a function of the text. A single
      answer is given each time, a list is used up;
    - a function of the messages.

    An answer is a text, a mapping (the output fields of a DSPy prompt, or a message with ``role`` or ``tool_calls``), a
    ``Completion``, an ``Answer`` (with its own latency), an exception to raise, or a function of the messages.

    Each call takes `latency_s` seconds: one number, or a mapping whose keys are looked up like those of `answers` (0 when none
    fits); also when it raises. A stream's pieces come `interval_s` seconds apart. A call that the script does not foresee raises
    :class:`UnscriptedCall` immediately.

    Under pytest, and in explored runs, a test that passes fails at its end all the same (``ScriptMismatch``) when answers are
    left that were never asked for, or when a call was not foreseen and the code under test managed without an answer.
    ``unused="ok"`` and ``unforeseen="ok"`` allow the one and the other.

    With ``tools="text"`` it is a model that cannot call tools: a node's tools are described in its prompts.
    """

    def __init__(
        self,
        answers: ScriptedAnswers,
        *,
        model: str = "scripted",
        latency_s: float | Mapping[Matcher, float] = 0.0,
        usage: Usage | None = None,
        interval_s: float = 0.0,
        tools: Literal["native", "text"] = "native",
        unused: Tolerance = "fail",
        unforeseen: Tolerance = "fail",
    ) -> None:
        if isinstance(answers, str):
            raise rejected(self, "answers", answers, "a list, a mapping or a function of answers")
        self._allowed = Tolerances.of("ScriptedLM", unused, unforeseen)
        self._answers = answers
        self._model = model
        self._latency_s: Mapping[Matcher, float] = latency_s if isinstance(latency_s, Mapping) else {"": latency_s}
        self._usage = usage
        self._interval_s = interval_s
        if tools not in ("native", "text"):
            raise rejected(self, "tools", tools, "'native' or 'text'")
        self.supports_function_calling = tools == "native"
        """Whether a node's tools are offered in ``options["tools"]``; otherwise in the text of the prompt."""
        self._used: dict[Matcher | None, int] = {}
        self.calls: list[ScriptedCall] = []
        """All calls so far, in the order in which they began."""
        self.in_flight = 0
        """Calls in progress now."""
        self.max_in_flight = 0
        """The most calls that ever were in progress at the same time."""
        enroll(self)

    @property
    def model(self) -> str:
        """The name given at construction."""
        return self._model

    async def predict(self, signature: Any, /, **inputs: Any) -> Any:
        """Run a DSPy signature or module on `inputs`, as ``actors.LM.predict`` does; the prompts come to :meth:`chat`."""
        return await run_signature(self, signature, inputs)

    async def chat(self, messages: Sequence[ChatMessage], /, **options: Any) -> Completion:
        """Answer as scripted, after the scripted latency. Always a checkpoint.

        Raises:
            UnscriptedCall: the script has no answer for this call, or no more.
            Exception: the scripted one.
        """
        checked_messages(messages)
        call = ScriptedCall(len(self.calls) + 1, tuple(messages), options, trio.current_time())
        self.calls.append(call)
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)
        try:
            call.completion = await self._answer(call)
        except trio.Cancelled:
            call.cancelled = True
            raise
        except Exception as error:
            call.error = error
            raise
        finally:
            self.in_flight -= 1
            call.ended_s = trio.current_time()
        return call.completion

    @asynccontextmanager
    async def stream(self, messages: Sequence[ChatMessage], /, **options: Any) -> AsyncGenerator[ScriptedStream]:
        """Answer as :meth:`chat` does, word by word: the first after the latency, the others `interval_s` apart.

        Raises what :meth:`chat` raises. The call counts as ended when its last piece has come or the block is left.
        """
        completion = await self.chat(messages, **options)
        call = self.calls[-1] if self.calls[-1].completion is completion else _call_of(completion, self.calls)
        call.ended_s = None
        self.in_flight += 1
        stream = ScriptedStream(completion, self._interval_s)
        try:
            yield stream
        except trio.Cancelled:
            call.cancelled = True
            raise
        finally:
            self.in_flight -= 1
            call.ended_s = trio.current_time()

    def assert_used_up(self) -> None:
        """Assert that every answer of a list was given and every key of a mapping was asked for at least once.

        Raises:
            AssertionError: some were not; it lists them beside the prompts that were sent.
        """
        unused = self._unused()
        if unused:
            lines = "\n".join(["unused (-) and asked (+):", *marked(unused, self._asked())])
            raise AssertionError(f"ScriptedLM({self._model!r}) has answers that were never asked for; {lines}")

    def mismatch(self) -> str | None:
        """How what was asked differs from what was scripted; None when it does not, or where that is ``"ok"``."""
        return difference(f"ScriptedLM({self._model!r})", "ScriptedLM", self._unused(), self._asked(), self._allowed)

    def _asked(self) -> list[ScriptQuestion]:
        return [ScriptQuestion(call.text, isinstance(call.error, UnscriptedCall)) for call in self.calls]

    def _unused(self) -> list[str]:
        answers = self._answers
        if callable(answers):
            return []
        if not isinstance(answers, Mapping):
            used = self._used.get(None, 0)
            return [f"answer {number}: {excerpt(repr_of(item))}" for number, item in enumerate(answers, 1) if number > used]
        unused: list[str] = []
        for key, item in answers.items():
            used = self._used.get(key, 0)
            if not _is_list(item):
                unused += [] if used else [f"{_key(key)}: {excerpt(repr_of(item))}"]
            else:
                items = cast("Sequence[ScriptedItem]", item)
                unused += [f"{_key(key)}, answer {at}: {excerpt(repr_of(each))}" for at, each in enumerate(items, 1) if at > used]
        return unused

    async def _answer(self, call: ScriptedCall) -> Completion:
        item = self._next_item(call)
        said = item(call.messages) if callable(item) else item
        answer = said if isinstance(said, Answer) else Answer(said)
        latency_s = answer.latency_s
        if latency_s is None:
            latency_s = next((each for key, each in self._latency_s.items() if _fits(key, call.text)), 0.0)
        await trio.sleep_until(call.started_s + latency_s)
        if isinstance(answer.value, Exception):
            # One instance may be scripted for many calls; its traceback must not grow from one to the next.
            raise answer.value.with_traceback(None)
        if answer.usage is None and not isinstance(answer.value, Completion):
            answer = attrs.evolve(answer, usage=self._usage)
        return completion_of(answer, model=self._model, messages=call.messages)

    def _next_item(self, call: ScriptedCall) -> ScriptedItem:
        answers = self._answers
        if callable(answers):
            return answers
        if not isinstance(answers, Mapping):
            return self._take(None, answers, call)
        for key, item in answers.items():
            if _fits(key, call.text):
                if _is_list(item):
                    return self._take(key, cast("Sequence[ScriptedItem]", item), call)
                self._used[key] = self._used.get(key, 0) + 1
                return cast("ScriptedItem", item)
        keys = ", ".join(map(_key, answers)) or "none"
        raise UnscriptedCall(
            f"Call {call.number} to ScriptedLM({self._model!r}) was not expected: none of its keys occurs in the prompt.\n"
            f"  Keys: {keys}. Prompt: {excerpt(call.text)!r}\n"
            "  Fix: add a key for it, or '' as the last key, which fits every prompt."
        )

    def _take(self, key: Matcher | None, items: Sequence[ScriptedItem], call: ScriptedCall) -> ScriptedItem:
        used = self._used.get(key, 0)
        if used < len(items):
            self._used[key] = used + 1
            return items[used]
        under = "" if key is None else f" of the key {_key(key)}"
        raise UnscriptedCall(
            f"Call {call.number} to ScriptedLM({self._model!r}) was not expected: "
            f"all {len(items)} answer(s){under} have been given.\n"
            f"  Prompt: {excerpt(call.text)!r}\n"
            "  Fix: script one more answer, or find out who calls once too often."
        )


@final
class ScriptedStream:
    """A scripted answer on its way; satisfies ``actors.LMStream``. Its pieces are words, then whole tool calls."""

    def __init__(self, completion: Completion, interval_s: float) -> None:
        self._completion = completion
        self._pieces = deque(_pieces_of(completion))
        self._interval_s = interval_s
        self._begun = self._ended = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Delta:
        """The next piece; a checkpoint."""
        if not self._pieces:
            self._ended = True
            raise StopAsyncIteration
        await trio.sleep(self._interval_s if self._begun else 0)
        self._begun = True
        return self._pieces.popleft()

    @property
    def completion(self) -> Completion:
        """The whole answer, when all pieces have come.

        Raises:
            UsageError: they have not.
        """
        if not self._ended:
            raise UsageError("the answer is still on its way.\n  Fix: read the stream to its end first.")
        return self._completion


def _pieces_of(completion: Completion) -> list[Delta]:
    pieces: list[Delta] = [ReasoningDelta(piece) for piece in pieces_of(completion.reasoning or "")]
    pieces += [TextDelta(piece) for piece in pieces_of(completion.text)]
    for index, call in enumerate(completion.tool_calls):
        pieces.append(ToolCallDelta(index, call.id or None, call.name, call.arguments))
    return pieces


def _call_of(completion: Completion, calls: Sequence[ScriptedCall]) -> ScriptedCall:
    return next(call for call in reversed(calls) if call.completion is completion)


def _fits(key: Matcher, text: str) -> bool:
    return key in text if isinstance(key, str) else bool(key(text))


def _key(key: Matcher) -> str:
    return repr(key) if isinstance(key, str) else getattr(key, "__name__", repr(key))


def _is_list(item: object) -> bool:
    return isinstance(item, Sequence) and not isinstance(item, str)
