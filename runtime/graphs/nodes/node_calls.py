"""A call of a node to a language model: what it uses is booked on the run, its end is recorded, and both ends are events."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

import attrs
import trio

from actors.errors import LMError
from actors.lm import Completion, Embeddings, LMRequest, Usage
from runtime.graphs.nodes.attempt_journal import JournaledCall
from runtime.graphs.nodes.prompt_text import shown_text
from runtime.graphs.records.run_events import LMCalled, LMCallStarted
from runtime.graphs.records.run_record import Spend
from runtime.graphs.runs.run import ActiveDelivery
from runtime.lm.dspy.unreadable import asked_again


@final
class NodeCall:
    """One call of a node to a language model: what it uses is booked on the run, and its begin and its end are events."""

    def __init__(self, active: ActiveDelivery, model: str, operation: str, recorded: JournaledCall | None = None) -> None:
        """A call that begins now; `operation` is the method's name, `recorded` is its place in the journal."""
        self._active = active
        self._recorded = recorded
        self._model = model
        self._started_s = trio.current_time()
        self._first_s: float | None = None
        self._requests = 0
        self._made: list[LMRequest] = []
        self._used = Usage()
        """What requests without a whole answer have used."""
        self._error: LMError | None = None
        self._spend = Spend()
        self._has_ended = False
        self._number = active.run.number_call()
        if active.run.audience.listening:
            active.tell(LMCallStarted, call=self._number, model=model, operation=operation, again=asked_again())

    def requested(self, request: LMRequest) -> None:
        """A request of it has ended."""
        if self._active.run.audience.listening:
            asked_s, ended_s = request.asked_s - self._started_s, request.ended_s - self._started_s
            sent_s = None if request.sent_s is None else request.sent_s - self._started_s
            self._made.append(attrs.evolve(request, asked_s=asked_s, sent_s=sent_s, ended_s=ended_s))

    def lost(self, usage: Usage) -> None:
        """One request has brought no whole answer, and used so much: it is booked immediately."""
        self._requests += 1
        self._used = self._used.plus(usage)
        self._book(
            Spend(
                prompt_tokens=usage.prompt_tokens,
                completion_tokens=usage.completion_tokens,
                cost_usd=usage.cost_usd or 0.0,
                estimated_tokens=usage.total_tokens if usage.is_estimate else 0,
            )
        )

    def piece(self) -> None:
        """A piece of a streamed answer has come."""
        if self._first_s is None:
            self._first_s = trio.current_time() - self._started_s

    async def answered(self, answer: Completion | Embeddings) -> None:
        """The call has ended with `answer`. In a durable run: return when that is recorded."""
        if self._has_ended:
            return
        self._has_ended = True
        usage = answer.usage
        self._book(
            Spend(
                calls=1,
                requests=answer.attempts,
                prompt_tokens=usage.prompt_tokens,
                completion_tokens=usage.completion_tokens,
                cost_usd=usage.cost_usd or 0.0,
            )
        )
        self._tell_answer(answer, usage, answer.attempts)
        if self._recorded is not None:
            await self._recorded.answered(answer, self._spend)

    def found(self, answer: Completion | Embeddings) -> None:
        """The call has ended with an `answer` that an earlier life of the run has paid for."""
        if self._has_ended:
            return
        self._has_ended = True
        self._tell_answer(answer, Usage(cost_usd=0.0), 0)

    def _tell_answer(self, answer: Completion | Embeddings, usage: Usage, requests: int) -> None:
        if self._active.run.audience.listening:
            reason = answer.finish_reason if isinstance(answer, Completion) else None
            raw = answer.raw if isinstance(answer, Completion) else None
            whole = self._used.plus(usage) if self._used.total_tokens else usage
            text = shown_text(answer.text) if isinstance(answer, Completion) and self._active.run.shows_prompts else None
            self._tell(whole, requests, model=answer.model, finish_reason=reason, response_model=_named_by(raw), text=text)

    def failed(self, error: LMError) -> None:
        """The call has ended with `error`, which knows how many requests there were."""
        self._end_without_answer(error.attempt, error)

    def breaks_off(self, error: LMError) -> None:
        """A streamed answer ends with `error`; what it has used is known when its request is closed, with :meth:`cut_short`."""
        self._error = error

    def cut_short(self, why: Exception | None = None) -> None:
        """The call has ended without an answer, and its requests are closed; `why`, if the model's own code raised that.

        Ended before: no effect.
        """
        if self._error is not None:
            self.failed(self._error)
        self._end_without_answer(self._requests, None, why)

    def _end_without_answer(self, requests: int, error: LMError | None, why: Exception | None = None) -> None:
        if self._has_ended:
            return
        self._has_ended = True
        self._book(Spend(requests=requests))
        if self._recorded is not None:
            self._recorded.unanswered(self._spend, why if error is None else error)
        if self._active.run.audience.listening:
            self._tell(self._used, requests, model=self._model, error=error)

    def _book(self, used: Spend) -> None:
        self._active.run.book(used)
        if self._recorded is not None:
            self._spend = self._spend.plus(used)

    def _tell(self, usage: Usage, requests: int, *, model: str, **more: Any) -> None:
        self._active.tell(
            LMCalled,
            call=self._number,
            model=model,
            provider=model.partition("/")[0] if "/" in model else None,
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            cached_tokens=usage.cached_tokens,
            reasoning_tokens=usage.reasoning_tokens,
            cost_usd=usage.cost_usd,
            requests=requests,
            duration_s=trio.current_time() - self._started_s,
            first_token_s=self._first_s,
            made=tuple(self._made),
            **more,
        )


def _named_by(reply: Mapping[str, Any] | None) -> str | None:
    """The model's name in a provider's reply."""
    name = None if reply is None else reply.get("model")
    return name if isinstance(name, str) else None
