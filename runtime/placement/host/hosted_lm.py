"""A language model as code on a host sees it: each call goes over the link, and no key ever does."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Protocol, Self, cast, final

import trio

from actors.errors import UsageError
from actors.lm import ChatMessage, Completion, Delta, Embeddings
from runtime.lm.dspy.bridge import run_signature
from runtime.placement.link import Hear
from runtime.placement.lm_calls import asked_data, delta_of, read_answer


class AskLM(Protocol):
    """Asks the runtime something of a model."""

    def __call__(self, what: str, data: bytes = b"", *, hear: Hear | None = None) -> Awaitable[bytes]:
        """The answer; `hear` takes the pieces of one that is streamed."""
        ...


@final
class HostedLM:
    """Satisfies ``actors.LM`` and ``Embedder``; what it costs is booked by the runtime, on the run or the actor that asks."""

    def __init__(self, model: str, ask: AskLM) -> None:
        self.model = model
        self._ask = ask
        self._abilities: dict[str, Any] = {}

    async def chat(self, messages: Sequence[ChatMessage], /, **options: Any) -> Completion:
        """See ``actors.LM.chat``. Cancelling it closes the request at the provider."""
        return cast("Completion", read_answer(await self._ask("chat", asked_data(messages, options))))

    async def embed(self, texts: Sequence[str], /, **options: Any) -> Embeddings:
        """See ``actors.lm.Embedder.embed``."""
        return cast("Embeddings", read_answer(await self._ask("embed", asked_data(texts, options))))

    async def predict(self, signature: Any, /, **inputs: Any) -> Any:
        """See ``actors.LM.predict``: DSPy runs here, and its prompts come to :meth:`chat`."""
        return await run_signature(self, signature, inputs)

    @asynccontextmanager
    async def stream(self, messages: Sequence[ChatMessage], /, **options: Any) -> AsyncGenerator[HostedStream]:
        """See ``actors.LM.stream``."""
        stream, ended = HostedStream(), None
        data = asked_data(messages, options)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.run, self._ask, data)
            try:
                await stream.begun()
                yield stream
            except BaseException as error:  # noqa: BLE001 - raised below: the nursery would make a group of it
                ended = error
            nursery.cancel_scope.cancel()
        if ended is not None:
            raise ended

    # --- what it can do ---------------------------------------------------------------------------------------------------

    async def warm_up(self) -> None:
        """Learn what the model can do; DSPy's formats ask for that without waiting."""
        if not self._abilities:
            self._abilities = json.loads(await self._ask("abilities"))

    @property
    def supports_function_calling(self) -> bool:
        """Whether the model takes ``tools``."""
        return bool(self._abilities.get("supports_function_calling"))

    @property
    def supports_reasoning(self) -> bool:
        """Whether the model can be asked to think before it answers."""
        return bool(self._abilities.get("supports_reasoning"))

    @property
    def supports_response_schema(self) -> bool:
        """Whether the model can be held to a JSON schema."""
        return bool(self._abilities.get("supports_response_schema"))

    @property
    def supported_params(self) -> frozenset[str]:
        """OpenAI's names of the options that the model takes."""
        return frozenset(self._abilities.get("supported_params", ()))

    @property
    def truncated(self) -> str | None:
        """What becomes of an answer that stops in the middle, as the model's own client is set."""
        return self._abilities.get("truncated")

    def __repr__(self) -> str:
        return f"<HostedLM {self.model!r}>"


@final
class HostedStream:
    """An answer on its way from the runtime; see ``actors.lm.LMStream``."""

    def __init__(self) -> None:
        self._pieces: deque[Delta] = deque()
        self._news = trio.Event()
        self._completion: Completion | None = None
        self._error: Exception | None = None

    async def run(self, ask: AskLM, data: bytes) -> None:
        """Ask, and take what comes."""
        try:
            self._completion = cast("Completion", read_answer(await ask("stream", data, hear=self._hear)))
        except Exception as error:  # noqa: BLE001 - raised where the pieces are read
            self._error = error
        self._news.set()

    def _hear(self, body: bytes) -> None:
        self._pieces.append(delta_of(body))
        self._news.set()

    async def begun(self) -> None:
        """Wait for the first piece.

        Raises:
            LMError: no answer began.
        """
        await self._news.wait()
        if not self._pieces and self._error is not None:
            raise self._error

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Delta:
        """The next piece.

        Raises:
            LMError: the answer breaks off.
        """
        while not self._pieces:
            if self._error is not None:
                raise self._error
            if self._completion is not None:
                await trio.lowlevel.checkpoint()
                raise StopAsyncIteration
            self._news = trio.Event()
            await self._news.wait()
        await trio.lowlevel.checkpoint()
        return self._pieces.popleft()

    @property
    def completion(self) -> Completion:
        """The whole answer.

        Raises:
            UsageError: not all of its pieces have come.
        """
        if self._completion is None or self._pieces:
            raise UsageError("the answer is not complete yet.\n  Fix: read the stream to its end first: async for … in stream.")
        return self._completion
