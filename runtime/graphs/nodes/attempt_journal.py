"""The part of a journal that one attempt writes itself: what it buys of language models.

An answer is found again by what was asked, not by when: concurrent calls of a node never get each other's. Each one that was
recorded is given out once, so the same request made twice gets two.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, final

import trio

from actors.lm import Completion, Embeddings
from runtime.graphs.records.journaling import Journal
from runtime.graphs.records.recorded_answers import decode_answer, digest_of_request, encode_answer, encode_spend
from runtime.graphs.records.recorded_errors import told_of_error
from runtime.graphs.records.rehearsing import Known
from runtime.graphs.records.run_record import Spend
from runtime.journal.records import RecordKind

_LOG = logging.getLogger("understudy.journal")


@final
class AttemptJournal:
    """What one attempt at one message has bought."""

    def __init__(
        self, journal: Journal, path: str, attempt: str, still: Callable[[], AbstractContextManager[None]] = nullcontext
    ) -> None:
        """That of the attempt called `attempt`, its number or ``"fallback"``, at the message of `path`.

        While `still` lasts, its time stands still.
        """
        self.journal = journal
        self.path = path
        self.attempt = attempt
        self._still = still

    async def confirm(self) -> None:
        """See ``RunLog.confirm``; what that waits for is not the attempt's time."""
        with self._still():
            await self.journal.log.confirm()

    async def written(self, kind: RecordKind, place: str, data: bytes | None = None) -> None:
        """Write something down and return when it is written; that is not the attempt's time either."""
        with self._still():
            await self.journal.append(kind, place, data).wait()

    @property
    def is_ahead(self) -> bool:
        """Whether an earlier life has bought answers for this attempt that were not asked for yet."""
        answers = self.journal.bought(self.path).answers
        return any(kept for key, kept in answers.items() if key.startswith(f"{self.attempt}:"))

    async def call(self, operation: str, model: str, what: object, options: Mapping[str, Any]) -> JournaledCall | None:
        """A call that is about to be made, or that an earlier life has made; None for one that cannot be found again.

        Returns when it is written that the call is about to be made: what may be paid for is counted, whenever the process ends.

        Raises:
            RunLost: this process no longer owns the run. StoreUnavailable: the store has not taken it for too long.
        """
        digest = digest_of_request(operation, model, what, options)
        if digest is None:
            await self.confirm()
            return None
        await trio.lowlevel.checkpoint_if_cancelled()  # before an answer is taken that no one would get
        known = self.journal.bought(self.path).answers.get(f"{self.attempt}:{digest}")
        place = f"{self.path}#{self.attempt}:{digest}"
        if known:
            return JournaledCall(self, place, decode_answer(known.popleft()))
        await self.confirm()
        rehearsal, known_end = self.journal.rehearsal, None
        if rehearsal is not None:
            known_end = rehearsal.call(self.journal.whole(f"{self.path}#{self.attempt}"), digest)
        entry = self.journal.append(RecordKind.CALLED, place, json.dumps({"model": model}).encode())
        if entry.result is None:  # it waits behind others: a crash would lose it, and not the request
            with self._still():
                await entry.wait()
        return JournaledCall(self, place, None, known_end)


@final
class JournaledCall:
    """One call of a language model, which begins or has its answer."""

    def __init__(
        self, attempt: AttemptJournal, place: str, answer: Completion | Embeddings | None, known: Known | None = None
    ) -> None:
        self._attempt = attempt
        self._place = place
        self.answer = answer
        """What an earlier life was answered; None: the model is to be asked, or it is `known`."""
        self.known = known
        """What becomes of it, in a run that is run again."""

    async def answered(self, answer: Completion | Embeddings, spend: Spend) -> None:
        """Write down `answer`, for which `spend` was used, and return when it is durable.

        One that cannot be stored is not kept, and what it cost is.

        Raises:
            StoreError: it is not written, and is not going to be. RunLost: the run is another worker's.
        """
        data = encode_answer(answer, spend)
        if data is None:
            _LOG.warning("an answer of %s has no JSON, or too much of it, and is not kept: %s", answer.model, self._place)
            self.unanswered(spend)
            await trio.lowlevel.cancel_shielded_checkpoint()
        else:
            await self._attempt.written(RecordKind.ANSWER, self._place, data)

    def unanswered(self, spend: Spend, error: BaseException | None = None) -> None:
        """Write down that the call has ended without an answer, with `error` if it failed, and has used `spend`.

        No one waits for that.
        """
        more = None if error is None else {"error": told_of_error(error)}
        self._attempt.journal.append(RecordKind.UNANSWERED, self._place, encode_spend(spend, more))
