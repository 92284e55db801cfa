"""What one attempt at one message hands to the node's code: its ``Run``, its ``LM``, and the pulse that both keep going."""

from __future__ import annotations

import functools
import math
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any, Self, final

import attrs
import trio

from actors.errors import LMError, UsageError
from actors.lm import LM, ChatMessage, Completion, Delta, Embedder, Embeddings, LMStream, Usage
from runtime.graphs.events import LMAsked, LMCalled, LMDelta, NodeReported
from runtime.graphs.prompts import shown_prompt
from runtime.graphs.record import Spend
from runtime.graphs.run import Work
from runtime.lm.dspy.bridge import run_signature
from runtime.lm.limits.abilities import PassesAbilities
from runtime.lm.limits.budget import listening


@final
class Pulse:
    """Signs of life of one attempt; without one for `idle_s` seconds, :attr:`scope` is cancelled."""

    def __init__(self, idle_s: float) -> None:
        self.scope = trio.CancelScope()
        self._idle_s = idle_s
        self.beat()

    def beat(self) -> None:
        """The attempt is alive. Without effect once it has ended."""
        if self._idle_s != math.inf:
            self.scope.deadline = trio.current_time() + self._idle_s


@final
@attrs.frozen
class NodeRun:
    """The ``Run`` that a node receives; see ``actors.Run``."""

    id: str
    graph: str
    node: str
    path: str
    attempt: int
    _beat: Callable[[], None] = attrs.field(repr=False, eq=False)
    _steps_left: Callable[[], float] = attrs.field(repr=False, eq=False)
    _report: Callable[[str, float | None, float | None], None] | None = attrs.field(default=None, repr=False, eq=False)

    @classmethod
    def of(cls, work: Work, beat: Callable[[], None], path: str) -> NodeRun:
        """That of `work`, or of a part of it that has a path of its own."""
        run, step = work.run, work.step

        def report(text: str, done: float | None, of: float | None) -> None:
            beat()
            if run.is_listened_to:
                run.publish(
                    NodeReported(run_id=run.id, node=step.node, path=path, attempt=step.attempt, text=text, done=done, of=of)
                )

        return cls(run.id, run.state.plan.name, step.node, path, step.attempt, beat, lambda: run.steps_left, report)

    def report(self, text: str, *, done: float | None = None, of: float | None = None) -> None:
        """See ``actors.Run.report``."""
        if self._report is None:
            return
        if trio.lowlevel.in_trio_task():
            self._report(text, done, of)
        else:  # in the worker thread of a plain function
            trio.from_thread.run_sync(self._report, text, done, of)

    @property
    def steps_left(self) -> float:
        """See ``actors.Run.steps_left``."""
        return self._steps_left()

    def heartbeat(self) -> None:
        """See ``actors.Run.heartbeat``."""
        if trio.lowlevel.in_trio_task():
            self._beat()
        else:  # in the worker thread of a plain function
            trio.from_thread.run_sync(self._beat)


@final
class NodeStream:
    """An answer on its way to a node; see ``actors.LMStream``."""

    def __init__(
        self,
        answer: LMStream,
        on_piece: Callable[[Delta], None],
        on_end: Callable[[], None],
        on_failure: Callable[[LMError], None],
    ) -> None:
        self._answer = answer
        self._on_piece = on_piece
        self._on_end = on_end
        self._on_failure = on_failure
        self._has_ended = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Delta:
        """The next piece."""
        try:
            delta = await anext(self._answer)
        except StopAsyncIteration:
            if not self._has_ended:
                self._has_ended = True
                self._on_end()
            raise
        except LMError as error:
            if not self._has_ended:
                self._has_ended = True
                self._on_failure(error)
            raise
        self._on_piece(delta)
        return delta

    @property
    def completion(self) -> Completion:
        """The whole answer, when all pieces have come."""
        return self._answer.completion


@final
@attrs.define(eq=False)
class Losses:
    """What one call uses without an answer; its tokens are booked on the run at once."""

    _work: Work
    _requests: int = 0
    is_booked: bool = False
    """Whether its requests are: an answer and an error say how many there were."""

    def lost(self, usage: Usage) -> None:
        """One request has brought no whole answer, and used so much."""
        self._requests += 1
        self._work.run.book(
            Spend(
                prompt_tokens=usage.prompt_tokens,
                completion_tokens=usage.completion_tokens,
                cost_usd=usage.cost_usd or 0.0,
                estimated_tokens=usage.total_tokens if usage.is_estimate else 0,
            )
        )

    def book_requests(self) -> None:
        """Of a call that ended with neither answer nor error. Twice is fine."""
        if not self.is_booked:
            self.is_booked = True
            self._work.run.book(Spend(requests=self._requests))


@final
class NodeLM(PassesAbilities):
    """The language model as one message at one node sees it: what it uses is booked on the run."""

    _lm: LM

    def __init__(self, lm: LM, work: Work, pulse: Pulse) -> None:
        self._lm = lm
        self._work = work
        self._pulse = pulse

    @property
    def model(self) -> str:
        """The model's name."""
        return self._lm.model

    @property
    def truncated(self) -> str | None:
        """What becomes of an answer that stops in the middle, as the model's own client is set; see ``run_signature``."""
        found: str | None = getattr(self._lm, "truncated", None)
        return found

    async def chat(self, messages: Sequence[ChatMessage], /, **options: Any) -> Completion:
        """See ``actors.LM.chat``. Of a call that fails or is cancelled, the requests are booked, and what they used."""
        self._ask(messages)
        started_s = trio.current_time()
        with self._booking_losses():
            completion = await self._lm.chat(messages, **options)
        self._book(completion, trio.current_time() - started_s)
        return completion

    @asynccontextmanager
    async def stream(self, messages: Sequence[ChatMessage], /, **options: Any) -> AsyncGenerator[NodeStream]:
        """See ``actors.LM.stream``; each piece is an event of the run. Of an answer that fails, the requests are booked.

        An answer that is left before its end is booked as far as it came.
        """
        self._ask(messages)
        started_s = trio.current_time()
        losses = Losses(self._work)
        try:
            async with AsyncExitStack() as stack:
                try:
                    with listening(losses.lost):
                        answer = await stack.enter_async_context(self._lm.stream(messages, **options))
                except LMError as error:
                    losses.is_booked = True
                    self._failed(error)
                    raise
                ended = functools.partial(self._streamed, answer, started_s, losses)
                # What the block raises on its own account, an LMError of another call perhaps, is none of this answer's.
                yield NodeStream(answer, self._piece, ended, functools.partial(self._broke_off, losses))
        finally:
            losses.book_requests()

    async def embed(self, texts: Sequence[str], /, **options: Any) -> Embeddings:
        """See ``actors.lm.Embedder.embed``. Of a call that fails, the requests are booked.

        Raises:
            UsageError: the node's model makes no embeddings.
        """
        if not isinstance(self._lm, Embedder):
            raise UsageError(
                f"the language model {self._lm.model!r} makes no embeddings: a {type(self._lm).__name__} has no method embed().\n"
                "  Fix: give the node an LMClient of a model that does, by its option lm."
            )
        started_s = trio.current_time()
        with self._booking_losses():
            embeddings = await self._lm.embed(texts, **options)
        self._book(embeddings, trio.current_time() - started_s)
        return embeddings

    def _ask(self, messages: Sequence[ChatMessage]) -> None:
        if self._work.run.shows_prompts:
            self._work.tell(LMAsked, model=self.model, prompt=shown_prompt(messages))

    def _piece(self, delta: Delta) -> None:
        self._pulse.beat()
        self._work.tell(LMDelta, delta=delta)

    async def predict(self, signature: Any, /, **inputs: Any) -> Any:
        """See ``actors.LM.predict``."""
        return await run_signature(self, signature, inputs)

    @contextmanager
    def _booking_losses(self) -> Generator[None]:
        """Of a call in the block that fails or is cancelled, book the requests, and what they used."""
        losses = Losses(self._work)
        try:
            with listening(losses.lost):
                yield
        except LMError as error:
            self._failed(error)
            raise
        except trio.Cancelled:
            losses.book_requests()
            raise

    def _failed(self, error: LMError) -> None:
        self._work.run.book(Spend(requests=error.attempt))

    def _broke_off(self, losses: Losses, error: LMError) -> None:
        losses.is_booked = True
        self._failed(error)

    def _streamed(self, answer: LMStream, started_s: float, losses: Losses) -> None:
        losses.is_booked = True
        self._book(answer.completion, trio.current_time() - started_s)

    def _book(self, completion: Completion | Embeddings, duration_s: float) -> None:
        run, usage = self._work.run, completion.usage
        self._pulse.beat()
        run.book(
            Spend(
                calls=1,
                requests=completion.attempts,
                prompt_tokens=usage.prompt_tokens,
                completion_tokens=usage.completion_tokens,
                cost_usd=usage.cost_usd or 0.0,
            )
        )
        if run.is_listened_to:
            run.publish(
                LMCalled(
                    run_id=run.id,
                    node=self._work.step.node,
                    path=self._work.step.path,
                    attempt=self._work.step.attempt,
                    model=completion.model,
                    prompt_tokens=usage.prompt_tokens,
                    completion_tokens=usage.completion_tokens,
                    cost_usd=usage.cost_usd,
                    requests=completion.attempts,
                    duration_s=duration_s,
                    finish_reason=completion.finish_reason if isinstance(completion, Completion) else None,
                )
            )
