"""A stored run as its handle sees it: how it went, wherever it runs, and how it ended."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any, Final, final

import trio

from actors.store_errors import RunUndecodable, StoreDamaged, UnknownRun
from actors.words import repr_of
from runtime.core.tracebacks import without_frames
from runtime.graphs.records.outcomes import recorded_error
from runtime.graphs.records.questions import Question
from runtime.graphs.records.recorded_answers import Costs
from runtime.graphs.records.resuming import parked_by
from runtime.graphs.records.run_record import RunStatus, Spend
from runtime.graphs.runs.run import ActiveRun
from runtime.journal.records import Record, RecordKind
from runtime.journal.store import Posted, PostedKind, Store, StoredRun, StoredStatus
from runtime.messages.codec import MessageCodec
from runtime.messages.problems import MessageInvalid

LOOK_S: Final = 1.0
LONGEST_LOOK_S: Final = 15.0
"""How often a run that is not here is looked at while somebody waits for it: at first, and in the end."""

_STATUS: Final = {
    StoredStatus.READY: RunStatus.WAITING,
    StoredStatus.RUNNING: RunStatus.RUNNING,
    StoredStatus.WAITING: RunStatus.WAITING,
    StoredStatus.PARKED: RunStatus.PARKED,
    StoredStatus.SUCCEEDED: RunStatus.SUCCEEDED,
    StoredStatus.FAILED: RunStatus.FAILED,
    StoredStatus.CANCELLED: RunStatus.CANCELLED,
}


@final
class StoredView:
    """One stored run, which this worker need not have."""

    def __init__(
        self,
        store: Store,
        run_id: str,
        graph: str,
        status: StoredStatus,
        codec: MessageCodec | None,
        find: Callable[[str], ActiveRun | None],
        returning: dict[str, list[trio.Event]],
        active: ActiveRun | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> None:
        """What `store` knows of a run, and `active`, if it is here.

        `codec` reads its output (None: its graph is not deployed here), `find` finds it if it is here by then; the events
        under its id in `returning` are set when it is here again.
        """
        self.id = run_id
        """Unique in the store."""
        self.graph = graph
        """The graph's name."""
        self._labels: Mapping[str, str] = labels or {}
        self._store = store
        self._status = _STATUS[status]
        self._codec = codec
        self._find = find
        self._returning = returning
        self._active: ActiveRun | None = None
        self._questions: tuple[Question, ...] = ()
        self._hold(active)
        self._spend = Spend()

    def _hold(self, active: ActiveRun | None) -> None:
        self._active = active
        if active is not None:
            active.when_over(self._left)

    def _left(self) -> None:
        """The run here is over, or it only waited and has left memory; then nothing here keeps it."""
        active = self._active
        if active is not None and active.is_evicted:
            self._active, self._status, self._questions = None, RunStatus.WAITING, active.questions
            self._labels = active.labels

    @property
    def active(self) -> ActiveRun | None:
        """The run itself, while this runtime has it; also when it has ended here."""
        if self._active is None:
            self._hold(self._find(self.id))
        return self._active

    @property
    def status(self) -> RunStatus:
        """Where it was when it was looked at last."""
        active = self.active
        return self._status if active is None else active.seen_status

    @property
    def questions(self) -> tuple[Question, ...]:
        """Its open questions, as far as this process knows them."""
        active = self.active
        return self._questions if active is None else active.questions

    @property
    def labels(self) -> Mapping[str, str]:
        """What its caller noted of it."""
        active = self.active
        return self._labels if active is None else active.labels

    @property
    def spend(self) -> Spend:
        """What it has used of language models: so far if it is here, else as ``result`` has found it."""
        active = self.active
        return self._spend if active is None else active.spend

    async def look(self) -> StoredRun:
        """See where it is now.

        Raises:
            UnknownRun: it was forgotten.
        """
        found = await self._store.run(self.id)
        if found is None:
            raise unknown(self.id)
        self._status = _STATUS[found.status]
        if found.status.is_over:
            self._questions = ()
        return found

    async def result(self) -> Any:
        """Wait for its end, wherever it runs, and return the output or raise the error that is recorded."""
        delay_s = LOOK_S
        while True:
            active = self.active
            if active is not None:
                try:
                    await active.ended()
                finally:
                    self._spend = active.spend
                if not active.is_evicted:
                    return active.outcome()
                delay_s = LOOK_S
                continue
            with self._returns() as returned:  # from before the look on: it may return, and end, while that is on its way
                stored = await self.look()
                if stored.status.is_over or stored.status is StoredStatus.PARKED:
                    last = await self._last(stored)
                    if last is None:
                        continue
                    return self._ended_with(last)
                with trio.move_on_after(delay_s):
                    await returned.wait()
            delay_s = min(2 * delay_s, LONGEST_LOOK_S)

    @contextmanager
    def _returns(self) -> Generator[trio.Event]:
        """What is set when it is here again."""
        returned = trio.Event()
        self._returning.setdefault(self.id, []).append(returned)
        try:
            yield returned
        finally:
            if not returned.is_set():
                waiting = self._returning[self.id]
                waiting.remove(returned)
                if not waiting:
                    del self._returning[self.id]

    async def _last(self, stored: StoredRun) -> Record | None:
        """The record that tells how it has ended; None: it has gone on since it was looked at."""
        last: Record | None = None
        costs = Costs()
        async for record in self._store.read(self.id):
            costs.add(record)
            last = record
        self._spend = costs.spend
        if last is None or last.kind not in (RecordKind.OVER, RecordKind.PARKED) or not last.is_intact:
            now = await self.look()
            if (now.status, now.lives) != (stored.status, stored.lives):  # somebody had it resumed meanwhile
                return None
            raise StoreDamaged(
                f"run {self.id!r} is over, and its last record does not say how.\n  Fix: restore the store from a backup.",
                run_id=self.id,
                seq=stored.last_seq,
            )
        return last

    def _ended_with(self, last: Record) -> Any:
        if last.kind is RecordKind.PARKED:
            raise without_frames(parked_by(last))
        if last.path != RunStatus.SUCCEEDED:
            raise without_frames(recorded_error(last))
        try:
            if self._codec is None:
                raise RunUndecodable(
                    f"the output of run {self.id!r} cannot be read: its graph {self.graph!r} is not deployed in this runtime.\n"
                    "  Fix: await runtime.deploy(graph) first, or open the runtime with graphs=[graph].",
                    run_id=self.id,
                    reason="undecodable",
                )
            return self._codec.decode(last.data or b"null")
        except MessageInvalid as error:
            raise RunUndecodable(
                f"the output of run {self.id!r} cannot be read as its type any more: {error.problems[0]}.\n"
                "  Fix: give the field back, or a default; or run the code that wrote it.",
                run_id=self.id,
                reason="undecodable",
            ) from error

    async def cancel(self) -> None:
        """Cancel it wherever it is, and return when it is over."""
        active = self.active
        if active is None or active.is_evicted:
            await self._ask_to_cancel()
        while True:
            active = self.active
            if active is not None:
                active.waits.mark_awaited()
                active.cancel()
                if active.journal is not None and not active.over.is_set():
                    await active.journal.log.ask_to_cancel()  # so it is cancelled in its next life, should this one end now
                await active.over.wait()
                if not active.is_evicted:
                    return
                await self._ask_to_cancel()
                continue
            stored = await self.look()
            if stored.status.is_over or stored.status is StoredStatus.PARKED:
                return
            await trio.sleep(LOOK_S)

    async def _ask_to_cancel(self) -> None:
        await self._store.post(Posted(self.id, PostedKind.CANCEL, f"cancel {(await self.look()).lives}"))  # once in each life


def unknown(run_id: str) -> UnknownRun:
    """The error for an id that no stored run has."""
    return UnknownRun(f"no run {repr_of(run_id)} is stored.\n  Fix: give the run_id that it was started with.")
