"""Resuming by hand: somebody lets a run go on that has failed, was cancelled, or waits for a decision."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, final

import trio

from actors.errors import UnderstudyError, UsageError
from actors.store_errors import StoreError
from runtime.graphs.accepting import DurableRuns
from runtime.graphs.carried import in_context
from runtime.graphs.deployment import Deployment
from runtime.graphs.journaling import by_frame
from runtime.graphs.launch import Launch
from runtime.graphs.reducer.state import RunState
from runtime.graphs.resuming import check, read_input, replay
from runtime.graphs.run import ActiveRun
from runtime.graphs.stored import StoredView, unknown
from runtime.graphs.uncertain import Decided, decided
from runtime.journal.log import nothing
from runtime.journal.records import Record, RecordKind
from runtime.journal.store import StoredRun, StoredStatus

_RESUMABLE: Final = (StoredStatus.FAILED, StoredStatus.CANCELLED, StoredStatus.PARKED)


@final
class Reopening:
    """What lets stored runs go on that would not by themselves."""

    def __init__(self, runs: DurableRuns) -> None:
        self._runs = runs

    async def resume(self, run_id: str, decisions: Mapping[str, Any]) -> ActiveRun | StoredView:
        """See ``Runtime.resume``."""
        keeping, store = self._runs.keeping, self._runs.keeping.store
        stored = await store.run(run_id)
        if stored is None:
            raise unknown(run_id)
        deployment = self._check(stored)
        records = [record async for record in store.read(run_id)]
        check(run_id, records, stored.last_seq)
        heard = max((item.id for item in await store.inbox(run_id)), default=0)
        assert keeping.lease is not None, "the store is open"
        told: Any = {"worker": keeping.worker, "epoch": keeping.lease.epoch, "heard": heard}
        data, at = json.dumps(told).encode(), store.wall_time().timestamp()
        own, frames = by_frame([*records, Record.of(run_id, len(records) + 1, RecordKind.RESUMED, "", at, data)])
        state, message = RunState(deployment.routing, run_id), read_input(deployment.codec, records[0])
        resumed = replay(state, message, own[1:], deployment.codec, trio.current_time())
        written = decided(run_id, await self._runs.uncertain(deployment, resumed, frames), decisions)
        launch: Launch | None = None
        taken: StoredRun | None = None
        with trio.CancelScope(shield=True):  # or it would be this worker's, and nobody would have it
            taken = await store.take(run_id, stored.status)
            if taken is None:
                raise UsageError(f"resume({run_id!r}): somebody else has just resumed it.\n  Fix: nothing; it goes on there.")
            await self._write(taken, [(RecordKind.RESUMED, "", data), *written], stored.status)
            launch = await self._runs.revive(deployment, taken)
        assert taken is not None, "nobody cancels the scope"
        if launch is None or keeping.nursery is None:
            return self._runs.view(taken)
        keeping.nursery.start_soon(self._go_on, launch)
        return launch.run

    def _check(self, stored: StoredRun) -> Deployment:
        """The deployment of its graph, if it is a run that can be resumed."""
        is_under_way = stored.id in self._runs.active.by_id or stored.owner is not None
        if is_under_way or stored.status not in _RESUMABLE:
            what = "is under way" if is_under_way else f"is {stored.status.value}"
            raise UsageError(
                f"resume({stored.id!r}): the run {what}, and only one that has failed, was cancelled or was parked is resumed.\n"
                "  Fix: await (await runtime.handle(run_id)).result() tells what becomes of it."
            )
        for deployment in self._runs.deployments.running():
            if (deployment.graph.name, deployment.graph.version) == (stored.graph, stored.version):
                return deployment
        raise UsageError(
            f"resume({stored.id!r}): its graph {stored.graph!r}, version {stored.version!r}, is not deployed in this runtime.\n"
            "  Fix: await runtime.deploy(graph) first."
        )

    async def _write(self, taken: StoredRun, written: Sequence[Decided], before: StoredStatus) -> None:
        """Write down that it was resumed, and what was decided."""
        log = self._runs.keeping.open_log(taken.id, taken.last_seq, lambda _: None)
        try:
            entries = [log.append(kind, path, data, nothing, is_paid=True) for kind, path, data in written]
            await entries[-1].wait()
        except UnderstudyError:
            with contextlib.suppress(StoreError):
                await self._runs.keeping.store.release(taken.id, before, None)
            raise
        finally:
            self._runs.keeping.close_log(log)

    async def _go_on(self, launch: Launch) -> None:
        async with in_context(self._runs.deployments.context):
            await launch.begin()
