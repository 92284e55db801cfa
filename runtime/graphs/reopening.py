"""Resuming by hand: somebody lets a run go on that has failed, was cancelled, or waits for a decision; or forks one."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from typing import Any, Final, final

import attrs
import trio

from actors.errors import UnderstudyError, UsageError
from actors.store_errors import RunExists, RunParked
from runtime.graphs.accepting import DurableRuns
from runtime.graphs.active_runs import check_max_steps, check_run_id
from runtime.graphs.adopting import restored
from runtime.graphs.deployment import Deployment
from runtime.graphs.forking import forked
from runtime.graphs.records.resuming import check
from runtime.graphs.runs.launch import Launch
from runtime.graphs.runs.run import ActiveRun
from runtime.graphs.runs.terms import Terms, terms_of
from runtime.graphs.stored import StoredView, unknown
from runtime.graphs.uncertain import Decided, decided
from runtime.journal.log import nothing
from runtime.journal.records import Record, RecordKind
from runtime.journal.store import Created, Existing, NewRun, StoredRun, StoredStatus
from runtime.lm.limits.budget import Budget

_UNFINISHED: Final = (StoredStatus.READY, StoredStatus.WAITING)
"""What may be taken over by another version, although it continues on its own."""
_RESUMABLE: Final = (StoredStatus.FAILED, StoredStatus.CANCELLED, StoredStatus.PARKED)


@final
class Reopening:
    """What lets stored runs go on that would not by themselves."""

    def __init__(self, runs: DurableRuns) -> None:
        self._runs = runs

    async def resume(
        self,
        run_id: str,
        decisions: Mapping[str, Any],
        *,
        adopt: bool = False,
        max_steps: float | None = None,
        budget: Budget | None = None,
        here: bool = True,
    ) -> ActiveRun | StoredView:
        """See ``Runtime.resume``."""
        if max_steps is not None:
            check_max_steps(max_steps)
        keeping, store = self._runs.keeping, self._runs.keeping.store
        stored = await store.run(run_id)
        if stored is None:
            raise unknown(run_id)
        deployment = self._check(stored, adopt=adopt)
        records = [record async for record in store.read(run_id)]
        check(run_id, records, stored.last_seq)
        heard = max((item.id for item in await store.inbox(run_id)), default=0)
        assert keeping.lease is not None, "the store is open"
        told: Any = {"worker": keeping.worker, "epoch": keeping.lease.epoch, "heard": heard}
        terms = self._terms(records, max_steps, budget)
        if terms is not None:
            told["terms"] = terms.written()
        data, at = json.dumps(told).encode(), store.wall_time().timestamp()
        resumed = [*records, Record.of(run_id, len(records) + 1, RecordKind.RESUMED, "", at, data)]
        back = restored(run_id, resumed, deployment.terrain, stored.fingerprint, trio.current_time(), adopt=adopt)
        written = decided(run_id, await self._runs.uncertain(deployment, back), decisions)
        launch: Launch | RunParked | None = None
        taken: StoredRun | None = None
        with trio.CancelScope(shield=True):  # or it would be this worker's, and no one would have it
            taken = await store.take(run_id, stored.status)
            if taken is None:
                raise UsageError(f"resume({run_id!r}): somebody else has just resumed it.\n  Fix: nothing; it goes on there.")
            if not here and back.adopted is not None:  # before the decisions, which its order does not know
                written.insert(0, (RecordKind.ADOPTED, deployment.graph.version, back.adopted))
            await self._write(taken, [(RecordKind.RESUMED, "", data), *written], stored.status)
            if here:
                launch = await self._runs.revive(deployment, taken, adopt=adopt)
            else:
                await self._runs.keeping.release(run_id, taken.lives)
            if isinstance(launch, Launch):
                await self._runs.go_on(launch)
        assert taken is not None, "no one cancels the scope"
        return self._going_on(launch, taken)

    async def fork(
        self, run_id: str, *, before: Sequence[str], edit: Mapping[str, Any], run_id_new: str | None, here: bool = True
    ) -> ActiveRun | StoredView:
        """See ``Runtime.fork``."""
        await trio.lowlevel.checkpoint()
        if run_id_new is not None:
            check_run_id(run_id_new)
        store = self._runs.keeping.store
        stored = await store.run(run_id)
        if stored is None:
            raise unknown(run_id)
        deployment = self._deployed(stored, "fork()")
        records = [record async for record in store.read(run_id)]
        check(run_id, records, stored.last_seq)
        graph, new_id = deployment.graph, run_id_new or f"{stored.graph}-{secrets.token_hex(8)}"
        made = forked(run_id, new_id, records, deployment.terrain, before, edit)
        new = NewRun(
            new_id, graph.name, graph.version, deployment.fingerprint, None, run_id, len(records), stored.label, here=False
        )
        found: Created | Existing | None = None
        launch: Launch | RunParked | None = None
        with trio.CancelScope(shield=True):  # or no one would know whether there is such a run
            found = await store.fork(new, made)
            if isinstance(found, Existing) and found.run.parent != run_id:
                raise RunExists(
                    f"run {new_id!r} is stored already, and isn't a fork of {run_id!r}.\n  Fix: give the fork its own id.",
                    run_id=new_id,
                )
            taken = await store.take(new_id, StoredStatus.READY) if here else None
            if taken is not None:
                launch = await self._runs.revive(deployment, taken)
            if isinstance(launch, Launch):
                await self._runs.go_on(launch)
        assert found is not None, "no one cancels the scope"
        return self._going_on(launch, found.run)

    def _terms(self, records: Sequence[Record], max_steps: float | None, budget: Budget | None) -> Terms | None:
        """On what terms a run goes on from now; None: on those that it had."""
        if max_steps is None and budget is None:
            return None
        terms = terms_of(records)
        if max_steps is not None:
            terms = attrs.evolve(terms, max_steps=max_steps)
        if budget is not None:
            terms = attrs.evolve(terms, budgets=(self._runs.purse.limits_of(budget),))
        return terms

    def _going_on(self, launch: Launch | RunParked | None, stored: StoredRun) -> ActiveRun | StoredView:
        if isinstance(launch, RunParked):
            raise launch
        active = launch.run if launch is not None else self._runs.active.by_id.get(stored.id)
        return self._runs.view(stored) if active is None else self._runs.seen(active)

    def _check(self, stored: StoredRun, *, adopt: bool) -> Deployment:
        """The deployment of its graph, if it is a run that can be resumed."""
        is_in_progress = stored.id in self._runs.active.by_id or stored.owner is not None
        if is_in_progress or not (stored.status in _RESUMABLE or (adopt and stored.status in _UNFINISHED)):
            what = "is in progress" if is_in_progress else f"is {stored.status.value}"
            fix = "await (await runtime.handle(run_id)).result() tells what becomes of it"
            if stored.status in _UNFINISHED and not is_in_progress:
                fix = "nothing: it continues on its own with what it waits for; adopt=True takes it over from another version"
            raise UsageError(
                f"resume({stored.id!r}): the run {what}, and only one that has failed, was cancelled or was parked is resumed.\n"
                f"  Fix: {fix}."
            )
        deployment = self._deployed(stored, "resume()")
        if deployment.graph.version != stored.version and not adopt:
            raise UsageError(
                f"resume({stored.id!r}): version {stored.version!r} of graph {stored.graph!r} has begun it, and version "
                f"{deployment.graph.version!r} is deployed in this runtime.\n"
                "  Fix: leave it to a worker that has its version; or await runtime.resume(run_id, adopt=True)."
            )
        return deployment

    def _deployed(self, stored: StoredRun, call: str) -> Deployment:
        found = [each for each in self._runs.deployments.running() if each.graph.name == stored.graph]
        if not found:
            raise UsageError(
                f"{call}: graph {stored.graph!r} of run {stored.id!r} is not deployed in this runtime.\n"
                "  Fix: await runtime.deploy(graph) first, or open the runtime with graphs=[graph]."
            )
        return next((each for each in found if each.graph.version == stored.version), found[0])

    async def _write(self, taken: StoredRun, written: Sequence[Decided], before: StoredStatus) -> None:
        """Write down that it was resumed, and what was decided."""
        log = self._runs.keeping.open_log(taken.id, taken.last_seq, lambda _: None, taken.lives)
        try:
            entries = [log.append(kind, path, data, nothing, is_paid=True) for kind, path, data in written]
            await entries[-1].wait()
        except UnderstudyError:
            await self._runs.keeping.release(taken.id, taken.lives, before)
            raise
        finally:
            self._runs.keeping.close_log(log)
