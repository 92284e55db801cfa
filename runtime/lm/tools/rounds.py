"""The rounds of an agent: a language model in front of another, which lets that one call tools before it answers.

It stands where the model stands, so everything above it is as it is without tools: the prompt, the choice among several types,
the reading of the answer, the asking again for one that cannot be read. What a call does is not known here.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Self, final

import attrs
import trio

from actors.errors import LMReplyUnreadable, RoundsExceeded, UsageError
from actors.graphs.toolboxes import OfferedTool
from actors.graphs.tools import ToolSpec
from actors.lm import ChatMessage, Completion, Delta, ToolCall, ToolCallDelta
from actors.words import cut
from runtime.lm.limits.abilities import PassesAbilities
from runtime.lm.tools.notation import Native, Notation, TextNotation
from runtime.lm.tools.tool_schemas import WrongArguments, read_arguments, result_text, schema_of

Offered = ToolSpec | OfferedTool


@final
@attrs.frozen(eq=False)
class ToolRequest:
    """One call of a tool with arguments that fit."""

    index: int
    """Which call of the agent it is, counted from 0; those that did not fit have numbers too."""
    tool: Offered
    arguments: Any
    """A message of the tool's class of arguments; a mapping where only a schema is known."""


Perform = Callable[[Sequence[ToolRequest]], Awaitable[Sequence[str]]]
"""Does the calls of one round, concurrently; what each gave, or a text for the model."""
Offer = Callable[[], Awaitable[Sequence[Offered]]]
"""The tools that there are now."""


@final
class Rounds(PassesAbilities):
    """`lm` with tools. For one attempt of one node; its answers follow on all the rounds before."""

    _lm: Any

    def __init__(
        self,
        lm: Any,
        offer: Offer,
        perform: Perform,
        *,
        max_rounds: int,
        wrong_rounds: int,
        hint: Callable[[int], str] | None = None,
        hear: Callable[[], Awaitable[Sequence[Any]]] | None = None,
        who: str = "the agent",
    ) -> None:
        """Up to `max_rounds` rounds of calls.

        After `wrong_rounds` rounds in succession in which no call fits, the answer counts as unreadable. `hint` is told how many
        rounds are left, and tells what the model reads of it. `hear` takes what was said into the run since the last round.
        """
        self._lm = lm
        self._offer = offer
        self._perform = perform
        self._max_rounds = max_rounds
        self._wrong_rounds = wrong_rounds
        self._hint = hint
        self._hear = hear
        self._who = who
        self._base: list[ChatMessage] = []
        """The prompt that is asked now, without what is said of an answer that could not be read."""
        self.transcript: list[ChatMessage] = []
        """The rounds so far: what the model asked for, and what came of it."""
        self.rounds = 0
        self._calls = 0
        self._wrong = 0
        self._has_begun = False

    @property
    def model(self) -> str:
        """The model's name."""
        name: str = self._lm.model
        return name

    @property
    def truncated(self) -> str | None:
        """See ``run_signature``."""
        found: str | None = getattr(self._lm, "truncated", None)
        return found

    async def chat(self, messages: Sequence[ChatMessage], /, **options: Any) -> Completion:
        """The answer that comes when the model calls no more tools.

        Raises:
            RoundsExceeded: it goes on calling them after the last round.
            LMReplyUnreadable: it cannot call them with arguments that fit.
        """
        if options.get("tools"):  # a module with its own tools
            own: Completion = await self._lm.chat(messages, **options)
            return own
        await self.begin()
        conversation = _Conversation(self, messages)
        while True:
            tools = await self._offer()
            sent, more = conversation.asked(tools, options)
            completion: Completion = await self._lm.chat(sent, **more)
            if not await conversation.goes_on(completion, tools):
                return completion

    @asynccontextmanager
    async def stream(self, messages: Sequence[ChatMessage], /, **options: Any) -> AsyncGenerator[Any]:
        """The rounds as one stream: the texts of all of them, without the calls."""
        if options.get("tools"):
            async with self._lm.stream(messages, **options) as own:
                yield own
            return
        await self.begin()
        async with AsyncExitStack() as stack:
            yield _Stream(self._lm, _Conversation(self, messages), self._offer, options, stack)

    # --- what a conversation needs --------------------------------------------------------------------------------------

    @property
    def notation(self) -> Notation:
        """How calls are written."""
        return Native() if self.supports_function_calling else TextNotation()

    def apart(self, messages: Sequence[ChatMessage]) -> tuple[list[ChatMessage], list[ChatMessage]]:
        """The prompt in `messages`, and what is said of the last answer; the rounds so far stand between the two."""
        given = list(messages)
        if not self._base or given[: len(self._base)] != self._base:
            self._base = given
        return self._base, given[len(self._base) :]

    async def round(self, notation: Notation, completion: Completion, tools: Sequence[Offered]) -> list[ChatMessage]:
        """Do what the model calls for; nothing, if it calls for nothing.

        Raises:
            RoundsExceeded: there have been all rounds already.
            LMReplyUnreadable: no call has fitted for too many rounds.
        """
        calls = notation.calls(completion)
        if not calls:
            return []
        if self.rounds >= self._max_rounds:
            raise self._exceeded(calls)
        self.rounds += 1
        known = {tool.name: tool for tool in tools}
        results: list[str | None] = [None] * len(calls)
        requests: list[tuple[int, ToolRequest]] = []
        for at, call in enumerate(calls):
            index, self._calls = self._calls, self._calls + 1
            try:
                tool = _found(known, call)
                requests.append((at, ToolRequest(index, tool, read_arguments(tool, call))))
            except WrongArguments as error:
                results[at] = str(error)
        self._wrong = 0 if requests else self._wrong + 1
        if self._wrong >= self._wrong_rounds:
            raise self._unreadable([text for text in results if text is not None], completion)
        if requests:
            for (at, _), text in zip(requests, await self._perform([request for _, request in requests]), strict=True):
                results[at] = text
        told = [text or "" for text in results]
        if self._hint is not None:
            told[-1] = f"{told[-1]}\n\n{self._hint(self._max_rounds - self.rounds)}"
        said = notation.told(completion, calls, told)
        said += await self._heard()
        self.transcript += said
        return said

    async def begin(self) -> None:
        """Hear what was said before the first call of the model."""
        if not self._has_begun:
            self._has_begun = True
            self.transcript += await self._heard()

    async def _heard(self) -> list[ChatMessage]:
        heard = () if self._hear is None else await self._hear()
        return [{"role": "user", "content": result_text(message)} for message in heard]

    def _exceeded(self, calls: Sequence[ToolCall]) -> RoundsExceeded:
        wanted = ", ".join(call.name for call in calls)
        rounds = "1 round" if self._max_rounds == 1 else f"{self._max_rounds} rounds"
        return RoundsExceeded(
            f"{self._who} called tools in {rounds}, and instead of an answer it wants to call {wanted}.\n"
            "  Fix: raise max_rounds, say in the instruction when to answer, or give the node a fallback.",
            rounds=self.rounds,
            messages=self.transcript,
        )

    def _unreadable(self, told: Sequence[str], completion: Completion) -> LMReplyUnreadable:
        rounds = "1 round" if self._wrong == 1 else f"{self._wrong} rounds"
        return LMReplyUnreadable(
            f"{self.model!r} gave {self._who} no call of a tool that fits in {rounds}:\n  {cut(told[-1], 500)}\n"
            "  Fix: describe the tool's parameters in its docstring, raise parse_attempts, or take a stronger model.",
            model=self.model,
            attempt=max(completion.attempts, 1),
            spent=True,
        )


def _found(known: Mapping[str, Offered], call: ToolCall) -> Offered:
    tool = known.get(call.name)
    if tool is None:
        names = ", ".join(known) or "none"
        asked = f"There is no tool {call.name!r}" if call.name else f"That isn't a JSON list of calls: {cut(call.arguments, 200)}"
        raise WrongArguments(f"{asked}; the tools are: {names}.")
    return tool


@final
class _Conversation:
    """One prompt, with the rounds before it and those that follow it."""

    def __init__(self, rounds: Rounds, messages: Sequence[ChatMessage]) -> None:
        self._rounds = rounds
        self._notation = rounds.notation
        base, said = rounds.apart(messages)
        self._messages = [*base, *rounds.transcript, *said]

    def asked(self, tools: Sequence[Offered], options: Mapping[str, Any]) -> tuple[list[ChatMessage], dict[str, Any]]:
        """What the model is sent."""
        if not tools:
            return list(self._messages), dict(options)
        return self._notation.asked(self._messages, [schema_of(tool) for tool in tools], options)

    async def goes_on(self, completion: Completion, tools: Sequence[Offered]) -> bool:
        """Do what the model calls for; whether it called for anything."""
        said = await self._rounds.round(self._notation, completion, tools)
        self._messages += said
        return bool(said)


@final
class _Stream:
    """The answers of all rounds, one after the other."""

    def __init__(
        self, lm: Any, conversation: _Conversation, offer: Offer, options: Mapping[str, Any], stack: AsyncExitStack
    ) -> None:
        self._lm = lm
        self._conversation = conversation
        self._offer = offer
        self._options = options
        self._stack = stack
        self._tools: Sequence[Offered] = ()
        self._answer: Any = None
        self._completion: Completion | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Delta:
        """The next piece of text."""
        while self._completion is None:
            if self._answer is None:
                self._tools = await self._offer()
                sent, more = self._conversation.asked(self._tools, self._options)
                self._answer = await self._stack.enter_async_context(self._lm.stream(sent, **more))
            delta: Delta | None = await anext(self._answer, None)
            if delta is None:
                await self._end_round()
            elif not isinstance(delta, ToolCallDelta):
                return delta
        await trio.lowlevel.checkpoint()
        raise StopAsyncIteration

    async def _end_round(self) -> None:
        completion: Completion = self._answer.completion
        self._answer = None
        await self._stack.aclose()
        if not await self._conversation.goes_on(completion, self._tools):
            self._completion = completion

    @property
    def completion(self) -> Completion:
        """The last answer."""
        if self._completion is None:
            raise UsageError("the answer is not complete.\n  Fix: read the stream to its end first.")
        return self._completion


def hint_text(rounds_left: int, steps_left: float) -> str:
    """What a model is told of how far it may still go."""
    rounds = "You may call tools in 1 more turn" if rounds_left == 1 else f"You may call tools in {rounds_left} more turns"
    steps = "" if steps_left == float("inf") else f"; {int(steps_left)} steps of the run are left"
    return f"[{rounds}{steps}.]" if rounds_left else f"[No more calls: answer now{steps}.]"
