"""A stored run as its handle sees it: how it went, wherever it runs, and how it ended."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, final

import trio

from actors.store_errors import RunUndecodable, StoreDamaged, UnknownRun
from actors.words import repr_of
from runtime.core.frames import without_frames
from runtime.graphs.answers import Costs
from runtime.graphs.outcomes import recorded_error
from runtime.graphs.record import RunStatus, Spend
from runtime.graphs.resuming import parked_by
from runtime.graphs.run import ActiveRun
from runtime.journal.records import Record, RecordKind
from runtime.journal.store import Posted, PostedKind, Store, StoredRun, StoredStatus
from runtime.messages.codec import MessageCodec
from runtime.messages.problems import MessageInvalid

LOOK_S: Final = 1.0
"""How often a run that another worker has is looked at, while somebody waits for it."""

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
        self, store: Store, stored: StoredRun, codec: MessageCodec | None, find: Callable[[str], ActiveRun | None]
    ) -> None:
        """What `store` knows; `codec` reads its output (None: its graph is not deployed here), `find` finds it if it is here."""
        self._store = store
        self._stored = stored
        self._codec = codec
        self._find = find
        self._spend = Spend()

    @property
    def id(self) -> str:
        """Unique in the store."""
        return self._stored.id

    @property
    def graph(self) -> str:
        """The graph's name."""
        return self._stored.graph

    @property
    def active(self) -> ActiveRun | None:
        """The run itself, while this runtime has it."""
        return self._find(self.id)

    @property
    def status(self) -> RunStatus:
        """Where it was when it was looked at last."""
        active = self.active
        return _STATUS[self._stored.status] if active is None else active.status

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
        self._stored = found
        return found

    async def result(self) -> Any:
        """Wait for its end, wherever it runs, and return the output or raise the error that is recorded."""
        while True:
            active = self.active
            if active is not None:
                try:
                    return await active.result()
                finally:
                    self._spend = active.spend
            stored = await self.look()
            if stored.status.is_over or stored.status is StoredStatus.PARKED:
                return self._ended_with(await self._last(stored))
            await trio.sleep(LOOK_S)

    async def _last(self, stored: StoredRun) -> Record:
        last: Record | None = None
        costs = Costs()
        async for record in self._store.read(self.id):
            costs.add(record)
            last = record
        self._spend = costs.spend
        if last is None or last.kind not in (RecordKind.OVER, RecordKind.PARKED) or not last.is_intact:
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
        await self._store.post(Posted(self.id, PostedKind.CANCEL, f"cancel {(await self.look()).lives}"))  # once in each life
        while True:
            active = self.active
            if active is not None:
                active.waits.mark_awaited()
                active.cancel()
                await active.over.wait()
                return
            stored = await self.look()
            if stored.status.is_over or stored.status is StoredStatus.PARKED:
                return
            await trio.sleep(LOOK_S)


def unknown(run_id: str) -> UnknownRun:
    """The error for an id that no stored run has."""
    return UnknownRun(f"no run {repr_of(run_id)} is stored.\n  Fix: give the run_id that it was started with.")
