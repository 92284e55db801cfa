"""A language model without HTTP: scripted answers and latencies on trio's clock, exact to the last digit under a virtual one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast, final

import attrs
import trio

from actors.checks import refuse
from actors.lm import ChatMessage, Completion, Usage
from runtime.lm.dspy_bridge import run_signature
from runtime.testing.answers import Answer, AnswerValue, completion_of, prompt_text

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
    """One call to a :class:`ScriptedLM`. It fills in while the call is under way."""

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
    """A language model that says what a test has written down. Satisfies ``actors.LM``.

    `answers` is one of

    - a list: one answer per call, in the order in which the calls begin;
    - a mapping from keys to answers, or to lists of answers: the first key (in the mapping's order) that is a substring of the
      prompt's text wins, so concurrent calls may come in any order. The text is the system messages and the last user message,
      one per line; in a DSPy prompt it holds the instruction (a node's docstring), the inputs with their values and the names of
      the output fields. The key ``""`` fits every prompt and belongs last. A key may also be a function of the text. A single
      answer is given each time, a list is used up;
    - a function of the messages.

    An answer is a text, a mapping (the output fields of a DSPy prompt, or a message with ``role`` or ``tool_calls``), a
    ``Completion``, an ``Answer`` (with a latency of its own), an exception to raise, or a function of the messages.

    Each call takes `latency_s` seconds: one number, or a mapping whose keys are looked up like those of `answers` (0 when none
    fits); also when it raises. A call that the script does not foresee raises :class:`UnscriptedCall` at once.
    """

    def __init__(
        self,
        answers: ScriptedAnswers,
        *,
        model: str = "scripted",
        latency_s: float | Mapping[Matcher, float] = 0.0,
        usage: Usage | None = None,
    ) -> None:
        if isinstance(answers, str):
            raise refuse(self, "answers", answers, "a list, a mapping or a function of answers")
        self._answers = answers
        self._model = model
        self._latency_s: Mapping[Matcher, float] = latency_s if isinstance(latency_s, Mapping) else {"": latency_s}
        self._usage = usage
        self._used: dict[Matcher | None, int] = {}
        self.calls: list[ScriptedCall] = []
        """All calls so far, in the order in which they began."""
        self.in_flight = 0
        """Calls under way now."""
        self.max_in_flight = 0
        """The most calls that ever were under way at once."""

    @property
    def model(self) -> str:
        """The name given at construction."""
        return self._model

    async def predict(self, signature: Any, /, **inputs: Any) -> Any:
        """Run a DSPy signature or module on `inputs`, as ``actors.LM.predict`` says; the prompts come to :meth:`chat`."""
        return await run_signature(self, signature, inputs)

    async def chat(self, messages: Sequence[ChatMessage], /, **options: Any) -> Completion:
        """Answer as scripted, after the scripted latency. Always a checkpoint.

        Raises:
            UnscriptedCall: the script has no answer for this call, or no more.
            Exception: the scripted one.
        """
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
                return (
                    self._take(key, cast("Sequence[ScriptedItem]", item), call) if _is_list(item) else cast("ScriptedItem", item)
                )
        keys = ", ".join(repr(key) for key in answers) or "none"
        raise UnscriptedCall(
            f"Call {call.number} to ScriptedLM({self._model!r}) was not expected: none of its keys occurs in the prompt.\n"
            f"  Keys: {keys}. Prompt: {_excerpt(call.text)!r}\n"
            "  Mend: add a key for it, or '' as the last key, which fits every prompt."
        )

    def _take(self, key: Matcher | None, items: Sequence[ScriptedItem], call: ScriptedCall) -> ScriptedItem:
        used = self._used.get(key, 0)
        if used < len(items):
            self._used[key] = used + 1
            return items[used]
        under = "" if key is None else f" of the key {key!r}"
        raise UnscriptedCall(
            f"Call {call.number} to ScriptedLM({self._model!r}) was not expected: "
            f"all {len(items)} answer(s){under} have been given.\n"
            f"  Prompt: {_excerpt(call.text)!r}\n"
            "  Mend: script one more answer, or find out who calls once too often."
        )


def _fits(key: Matcher, text: str) -> bool:
    return key in text if isinstance(key, str) else bool(key(text))


def _is_list(item: object) -> bool:
    return isinstance(item, Sequence) and not isinstance(item, str)


def _excerpt(text: str, most: int = 200) -> str:
    return text if len(text) <= most else f"{text[: most // 2]} … {text[-most // 2 :]}"
