"""Language models as nodes see them: a protocol and the values that cross it. The clients live in ``runtime.lm``."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol, Self, cast, final, runtime_checkable

import attrs

ChatMessage = Mapping[str, Any]
"""One message in OpenAI's form: ``{"role": "user", "content": "…"}``."""


@final
@attrs.frozen
class Usage:
    """What one call consumed."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float | None = None
    """In US dollars by LiteLLM's price table; None for a model that has no price there."""
    cached_tokens: int = 0
    """Those of the prompt's tokens that the provider read from its own cache."""
    reasoning_tokens: int = 0
    """Those of the completion's tokens that were reasoning."""
    is_estimate: bool = False
    """Whether it was counted by the length of the prompt and of what was seen of the answer."""

    @property
    def total_tokens(self) -> int:
        """Prompt and completion together."""
        return self.prompt_tokens + self.completion_tokens

    def plus(self, other: Usage) -> Usage:
        """Both together; the cost is that of those whose price is known, an estimate in it makes an estimate of both."""
        costs = [usage.cost_usd for usage in (self, other) if usage.cost_usd is not None]
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            sum(costs) if costs else None,
            self.cached_tokens + other.cached_tokens,
            self.reasoning_tokens + other.reasoning_tokens,
            self.is_estimate or other.is_estimate,
        )


@final
@attrs.frozen
class LMRequest:
    """One HTTP request of a call. Times in seconds since the call began."""

    model: str
    """As it was asked for; another than the call's where a fallback was asked."""
    asked_s: float
    """When the call wanted to send it. From then until `sent_s` it waited for a connection, or for the account's limits."""
    sent_s: float | None
    """None when it was never sent."""
    ended_s: float
    error: str | None
    """The class of what it failed with; None when it was answered, or given up because its answer was no longer wanted."""
    is_answered: bool
    usage: Usage
    """What it used, as far as that is known."""


@final
@attrs.frozen
class ToolCall:
    """One call of a tool that a model asks for."""

    id: str
    """The provider's name for the call, by which its result is told; empty when it gave none."""
    name: str
    """The tool's."""
    arguments: str = "{}"
    """JSON, as the model wrote it: not yet read, and perhaps wrong. :meth:`values` reads it."""
    more: Mapping[str, Any] = attrs.field(factory=dict[str, Any], repr=False)
    """What else the provider sent with the call, a signature perhaps; it goes back unchanged."""

    def values(self) -> dict[str, Any]:
        """The arguments by name.

        Raises:
            ValueError: what the model wrote isn't a JSON object.
        """
        try:
            found: object = json.loads(self.arguments or "{}")
        except RecursionError:
            raise ValueError(f"the arguments of {self.name!r} are nested too deeply") from None
        if not isinstance(found, dict):
            raise ValueError(  # noqa: TRY004 - of what came, not of what the caller gave
                f"the arguments of {self.name!r} are not a JSON object: {self.arguments[:200]!r}"
            )
        return cast("dict[str, Any]", found)

    def as_openai(self) -> dict[str, Any]:
        """The call in OpenAI's form: ``{"id": …, "type": "function", "function": {"name": …, "arguments": "…"}}``."""
        more = copy.deepcopy(dict(self.more))
        function = {"name": self.name, "arguments": self.arguments, **more.pop("function", {})}
        return {"id": self.id, "type": "function", "function": function, **more}


def tool_calls_of(calls: Iterable[ToolCall | Mapping[str, Any]]) -> tuple[ToolCall, ...]:
    """Tool calls out of what a provider sends in OpenAI's form, or a file holds by the names of the fields."""
    return tuple(call if isinstance(call, ToolCall) else _tool_call_of(call) for call in calls)


def _tool_call_of(call: Mapping[str, Any]) -> ToolCall:
    if "function" not in call:
        return ToolCall(**call)
    own = ("id", "type", "function")
    function = {name: value for name, value in call["function"].items() if name not in ("name", "arguments")}
    more = {**{name: value for name, value in call.items() if name not in own}, **({"function": function} if function else {})}
    name, arguments = call["function"].get("name"), call["function"].get("arguments")
    return ToolCall(call.get("id") or "", name or "", "{}" if arguments is None else arguments, more)


@final
@attrs.frozen
class Completion:
    """One answer of a language model."""

    text: str
    """The answer's text; empty when the model only called tools."""
    model: str
    """The model as it was asked for, for example ``"openai/gpt-4o-mini"``."""
    finish_reason: str = "stop"
    """``"stop"``, ``"length"``, ``"tool_calls"`` or ``"content_filter"``."""
    usage: Usage = attrs.field(factory=Usage)
    tool_calls: tuple[ToolCall, ...] = attrs.field(default=(), converter=tool_calls_of)
    """The calls of tools that the model asks for. Mappings in OpenAI's form may be given, too."""
    reasoning: str | None = None
    """The model's visible reasoning, from providers that send it."""
    attempts: int = 1
    """How many HTTP requests it took."""
    is_cancellable: bool = True
    """False when a worker thread made the call, as for providers that only LiteLLM itself can ask: cancelling waits for it."""
    thinking: tuple[Mapping[str, Any], ...] = attrs.field(default=(), repr=False)
    """Blocks of reasoning as the provider signed them; :meth:`message` sends them back unchanged."""
    logprobs: Mapping[str, Any] | None = attrs.field(default=None, repr=False)
    """OpenAI's form, where ``logprobs=True`` was asked for."""
    citations: tuple[Any, ...] = attrs.field(default=(), repr=False)
    """What the answer cites, as the provider writes it."""
    audio: Mapping[str, Any] | None = attrs.field(default=None, repr=False)
    """The spoken answer, in OpenAI's form."""
    id: str | None = attrs.field(default=None, eq=False)
    """The provider's name for this answer."""
    raw: Mapping[str, Any] | None = attrs.field(default=None, eq=False, repr=False)
    """The reply as it came, for what has no field here. None for a streamed answer, which came in pieces."""

    @property
    def is_truncated(self) -> bool:
        """Whether the answer stops in the middle, because it reached the longest length that was allowed."""
        return self.finish_reason == "length"

    def message(self) -> dict[str, Any]:
        """The answer as a message of the conversation, for the next call of a tool loop.

        It holds the tool calls and the signed blocks of :attr:`thinking` unchanged: a provider that signs its reasoning rejects
        the tools' results without them.
        """
        message: dict[str, Any] = {"role": "assistant", "content": self.text}
        if self.tool_calls:
            message["tool_calls"] = [call.as_openai() for call in self.tool_calls]
        if self.thinking:
            message["thinking_blocks"] = [copy.deepcopy(dict(block)) for block in self.thinking]
        return message


@final
@attrs.frozen
class Embeddings:
    """What texts mean, as vectors: one for each text, in the texts' order."""

    vectors: tuple[tuple[float, ...], ...] = attrs.field(repr=lambda vectors: f"<{len(vectors)} vectors>")
    model: str
    """The model as it was asked for, for example ``"openai/text-embedding-3-small"``."""
    usage: Usage = attrs.field(factory=Usage)
    attempts: int = 1
    """How many HTTP requests it took."""


@final
@attrs.frozen
class TextDelta:
    """A piece of a streamed answer's text."""

    text: str


@final
@attrs.frozen
class ReasoningDelta:
    """A piece of a streamed answer's visible reasoning."""

    text: str


@final
@attrs.frozen
class ToolCallDelta:
    """A piece of one of a streamed answer's tool calls."""

    index: int
    """Which call, counted from 0."""
    id: str | None
    """With the first piece of a call; None later."""
    name: str | None
    """With the first piece of a call; None later."""
    arguments: str
    """The next characters of the arguments' JSON; may be empty."""


Delta = TextDelta | ReasoningDelta | ToolCallDelta
"""One piece of a streamed answer. None is empty, except for the first piece of a tool call."""


class LMStream(Protocol):
    """An answer on its way: ``async for delta in stream``, then :attr:`completion`."""

    def __aiter__(self) -> Self:
        """Itself: an answer comes once."""
        ...

    async def __anext__(self) -> Delta:
        """The next piece.

        Raises:
            LMError: the answer breaks off. Nothing is asked again once a piece has come.
        """
        ...

    @property
    def completion(self) -> Completion:
        """The whole answer, with its usage, when all pieces have come.

        Raises:
            UsageError: they have not.
        """
        ...


@runtime_checkable
class LM(Protocol):
    """A language model, as a node receives it: annotate a parameter with ``LM`` and it is injected."""

    @property
    def model(self) -> str:
        """The model's name, for example ``"openai/gpt-4o-mini"``."""
        ...

    async def predict(self, signature: Any, /, **inputs: Any) -> Any:
        """Run a DSPy signature (a class or a string such as ``"question -> answer"``) or module on `inputs`.

        Returns: a ``dspy.Prediction`` whose attributes are the signature's outputs, parsed to their types.

        Raises:
            LMReplyUnreadable: the model's answer does not fit the outputs, after all parse attempts.
            LMTruncated: the answer stops in the middle, and that was not to be accepted.
            LMError: the call failed; see ``actors.errors``.
        """
        ...

    async def chat(self, messages: Sequence[ChatMessage], /, **options: Any) -> Completion:
        """Send `messages` and return the model's answer. `options` are OpenAI's: ``temperature``, ``max_tokens``, ``tools``.

        Cancelling it closes the request at the provider.

        Raises:
            LMError: the call failed after at most ``Retry.max_attempts`` requests; see ``actors.errors``.
        """
        ...

    def stream(self, messages: Sequence[ChatMessage], /, **options: Any) -> AbstractAsyncContextManager[LMStream]:
        """Send `messages` and give the answer as it comes: ``async with lm.stream(messages) as stream``.

        The block starts with the first piece. Leaving it early, and cancelling it, closes the request at the provider.

        Raises:
            LMError: no answer began, after at most ``Retry.max_attempts`` requests; see ``actors.errors``.
        """
        ...


@runtime_checkable
class Embedder(Protocol):
    """A model that turns texts into vectors. Apart from :class:`LM`: many language models cannot, and a test's need not."""

    @property
    def model(self) -> str:
        """The model's name, for example ``"openai/text-embedding-3-small"``."""
        ...

    async def embed(self, texts: Sequence[str], /, **options: Any) -> Embeddings:
        """The vectors of `texts`. `options` are OpenAI's: ``dimensions``, ``user``.

        Raises:
            LMError: the call failed after at most ``Retry.max_attempts`` requests; see ``actors.errors``.
        """
        ...
