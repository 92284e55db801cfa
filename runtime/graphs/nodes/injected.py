"""What one attempt at one message hands to the node's code: its ``Run``, its ``LM``, and the pulse that both keep going."""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from datetime import datetime
from typing import Any, Self, TypeVar, final

import attrs
import trio

from actors.errors import LMError, UsageError
from actors.lm import LM, ChatMessage, Completion, Delta, Embedder, Embeddings, LMStream, Usage
from runtime.graphs.nodes.asking import ask
from runtime.graphs.nodes.attempt_journal import AttemptJournal, JournaledCall
from runtime.graphs.nodes.leaving import Leaving
from runtime.graphs.nodes.node_calls import NodeCall
from runtime.graphs.nodes.once import Once
from runtime.graphs.nodes.prompt_text import shown_prompt
from runtime.graphs.records.rehearsing import CaseDiverged, Known
from runtime.graphs.records.run_events import LMAsked, LMDelta, NodeReported
from runtime.graphs.runs.pulse import Pulse
from runtime.graphs.runs.run import ActiveDelivery
from runtime.lm.dspy.bridge import run_signature
from runtime.lm.kept import KeptStream
from runtime.lm.limits.abilities import PassesAbilities
from runtime.lm.limits.budget import listening

A = TypeVar("A")
Answered = TypeVar("Answered", Completion, Embeddings)


@final
@attrs.frozen
class NodeRun:
    """The ``Run`` that a node receives; see ``actors.Run``."""

    id: str
    graph: str
    node: str
    path: str
    attempt: int
    is_resumed: bool
    fence: int
    _beat: Callable[[], None] = attrs.field(repr=False, eq=False)
    _wall_time: Callable[[], datetime] = attrs.field(repr=False, eq=False)
    _steps_left: Callable[[], float] = attrs.field(repr=False, eq=False)
    _once: Once = attrs.field(repr=False, eq=False)
    _report: Callable[[str, float | None, float | None], None] | None = attrs.field(default=None, repr=False, eq=False)
    _ask: Callable[[object, Any, float | None], Awaitable[Any]] | None = attrs.field(default=None, repr=False, eq=False)

    @classmethod
    def of(cls, active: ActiveDelivery, pulse: Pulse, path: str) -> NodeRun:
        """That of `active`, or of a part of it with a path below it."""
        run, step = active.run, active.step

        def report(text: str, done: float | None, of: float | None) -> None:
            pulse.beat()
            if run.wants(NodeReported):
                run.audience.publish(
                    NodeReported(run_id=run.id, node=step.node, path=path, attempt=step.attempt, text=text, done=done, of=of)
                )

        async def ask_person(question: object, answer: Any, timeout_s: float | None) -> Any:
            with pulse.rest():  # a person who thinks isn't a sign of a node that hangs
                return await ask(active, question, answer, timeout_s)

        return cls(
            run.id,
            run.state.plan.name,
            step.node,
            path,
            step.attempt,
            run.is_resumed,
            run.fence,
            pulse.beat,
            run.wall_time,
            lambda: run.steps_left,
            Once(
                attempt_journal(active, path),
                pulse.rest,
                Leaving(active, pulse) if run.journal is not None and path == active.delivery.path else None,
            ),
            report,
            ask_person,
        )

    def report(self, text: str, *, done: float | None = None, of: float | None = None) -> None:
        """See ``actors.Run.report``."""
        if self._report is None:
            return
        if trio.lowlevel.in_trio_task():
            self._report(text, done, of)
        else:  # in the worker thread of a plain function
            trio.from_thread.run_sync(self._report, text, done, of)

    async def once(self, name: str, function: Callable[..., Any], *args: Any) -> Any:
        """See ``actors.Run.once``."""
        return await self._once.call(name, function, args)

    async def sleep(self, seconds: float, *, begin_again: bool = False) -> None:
        """See ``actors.Run.sleep``."""
        await self._once.sleep(seconds, begin_again)

    @property
    def steps_left(self) -> float:
        """See ``actors.Run.steps_left``."""
        return self._steps_left()

    @property
    def key(self) -> str:
        """See ``actors.Run.key``."""
        return f"{self.id}/{self.path}"

    def wall_time(self) -> datetime:
        """See ``actors.Run.wall_time``."""
        return self._wall_time()

    async def ask(self, question: object, answer: type[A], timeout_s: float | None = None) -> A:
        """See ``actors.Run.ask``."""
        assert self._ask is not None, "the run of a node can ask"
        found: A = await self._ask(question, answer, timeout_s)
        return found

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
        on_end: Callable[[], Awaitable[None]],
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
                await self._on_end()  # of a durable run: the answer is recorded before the node knows that it is whole
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
class NodeLM(PassesAbilities):
    """The language model as one message at one node sees it: what it uses is booked on the run."""

    _lm: LM

    def __init__(self, lm: LM, active: ActiveDelivery, pulse: Pulse) -> None:
        self._lm = lm
        self._active = active
        self._pulse = pulse
        self._has_found = True
        """Whether the last call was answered from the journal, or there was none yet."""

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
        """See ``actors.LM.chat``. If the call fails or is cancelled, its requests are booked, and what they used."""
        recorded = None if self._active.run.journal is None else await self._recorded("chat", messages, options)
        if recorded is not None and isinstance(recorded.answer, Completion):
            await self._found(NodeCall(self._active, self.model, "chat"), recorded.answer)
            return recorded.answer
        self._ask(messages)
        if recorded is not None and recorded.known is not None:
            return await self._come(recorded, recorded.known, "chat", Completion)
        with self._call("chat", recorded) as call:
            completion = await self._lm.chat(messages, **options)
        await call.answered(completion)
        self._pulse.beat()
        return completion

    @asynccontextmanager
    async def stream(self, messages: Sequence[ChatMessage], /, **options: Any) -> AsyncGenerator[NodeStream]:
        """See ``actors.LM.stream``; each piece is an event of the run. If the answer fails, its requests are booked.

        An answer that is left before its end is booked as far as it came.
        """
        # Under the name of the other: an answer is the same, in pieces or whole.
        recorded = None if self._active.run.journal is None else await self._recorded("chat", messages, options)
        if recorded is not None and isinstance(recorded.answer, Completion):
            call = NodeCall(self._active, self.model, "stream")
            found = functools.partial(self._found, call, recorded.answer)
            try:
                yield NodeStream(KeptStream(recorded.answer), functools.partial(self._piece, call), found, call.failed)
            finally:
                await found()
            return
        self._ask(messages)
        if recorded is not None and recorded.known is not None:
            completion = await self._come(recorded, recorded.known, "stream", Completion)
            yield NodeStream(KeptStream(completion), lambda delta: self._active.tell(LMDelta, delta=delta), _nothing, _ignored)
            return
        call = NodeCall(self._active, self.model, "stream", recorded)
        try:
            async with AsyncExitStack() as stack:
                try:
                    with listening(call):
                        answer = await stack.enter_async_context(self._lm.stream(messages, **options))
                except LMError as error:
                    call.breaks_off(error)
                    raise
                # What the block raises on its own account, an LMError of another call perhaps, is none of this answer's.
                yield NodeStream(
                    answer, functools.partial(self._piece, call), functools.partial(self._streamed, call, answer), call.breaks_off
                )
        finally:
            call.cut_short()

    async def embed(self, texts: Sequence[str], /, **options: Any) -> Embeddings:
        """See ``actors.lm.Embedder.embed``. If the call fails, its requests are booked.

        Raises:
            UsageError: the node's model makes no embeddings.
        """
        if not isinstance(self._lm, Embedder):
            raise UsageError(
                f"the language model {self._lm.model!r} makes no embeddings: a {type(self._lm).__name__} has no method embed().\n"
                "  Fix: give the node an LMClient of a model that does, by its option lm."
            )
        recorded = None if self._active.run.journal is None else await self._recorded("embed", texts, options)
        if recorded is not None and isinstance(recorded.answer, Embeddings):
            await self._found(NodeCall(self._active, self.model, "embed"), recorded.answer)
            return recorded.answer
        if recorded is not None and recorded.known is not None:
            return await self._come(recorded, recorded.known, "embed", Embeddings)
        with self._call("embed", recorded) as call:
            embeddings = await self._lm.embed(texts, **options)
        await call.answered(embeddings)
        self._pulse.beat()
        return embeddings

    @property
    def is_replayed(self) -> bool:
        """Whether the last answer is of an earlier life, and more of that attempt's answers are left to be asked for."""
        journal = attempt_journal(self._active, self._active.delivery.path)
        return self._has_found and journal is not None and journal.is_ahead

    async def _recorded(self, operation: str, what: object, options: Mapping[str, Any]) -> JournaledCall | None:
        journal = attempt_journal(self._active, self._active.delivery.path)
        call = None if journal is None else await journal.call(operation, self.model, what, options)
        self._has_found = call is not None and call.answer is not None
        return call

    def _ask(self, messages: Sequence[ChatMessage]) -> None:
        if self._active.run.shows_prompts and self._active.run.wants(LMAsked):
            self._active.tell(LMAsked, model=self.model, prompt=shown_prompt(messages))

    def _piece(self, call: NodeCall, delta: Delta) -> None:
        self._pulse.beat()
        call.piece()
        self._active.tell(LMDelta, delta=delta)

    async def predict(self, signature: Any, /, **inputs: Any) -> Any:
        """See ``actors.LM.predict``."""
        return await run_signature(self, signature, inputs)

    async def _streamed(self, call: NodeCall, answer: LMStream) -> None:
        await call.answered(answer.completion)
        self._pulse.beat()

    async def _come(self, recorded: JournaledCall, known: Known, operation: str, kind: type[Answered]) -> Answered:
        """What a call that was recorded was answered, when it is time; nothing is used of any model."""
        with self._call(operation, recorded) as call:
            answer = await known.come()
            if not isinstance(answer, kind):
                raise CaseDiverged(f"{known.place} was answered with a {type(answer).__name__}, not a {kind.__name__}.")
        await call.answered(attrs.evolve(answer, attempts=0, usage=Usage(cost_usd=0.0)))
        self._pulse.beat()
        return answer

    async def _found(self, call: NodeCall, answer: Completion | Embeddings) -> None:
        """An earlier life has paid for `answer`: that is the end of the call."""
        call.found(answer)
        self._pulse.beat()
        await trio.lowlevel.cancel_shielded_checkpoint()

    @contextmanager
    def _call(self, operation: str, recorded: JournaledCall | None) -> Generator[NodeCall]:
        """A call made in the block; one that fails or is cancelled there has ended with the block."""
        call = NodeCall(self._active, self.model, operation, recorded)
        try:
            with listening(call):
                yield call
        except LMError as error:
            call.failed(error)
            raise
        except BaseException as error:
            call.cut_short(error if isinstance(error, Exception) else None)
            raise


def attempt_journal(active: ActiveDelivery, path: str) -> AttemptJournal | None:
    """Where the attempt at `active`, or a part of it, of that path, writes what it buys; None for a run that is not durable."""
    journal = active.run.journal
    if journal is None:
        return None
    return AttemptJournal(journal, path, str(active.step.attempt) if active.error is None else "fallback", active.still)


async def _nothing() -> None:
    """Ends a stream whose answer was booked before."""
    await trio.lowlevel.checkpoint()


def _ignored(_: LMError) -> None:
    pass
