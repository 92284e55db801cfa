"""Reopening: somebody lets a stored run go on that had ended or waits for a decision, or forks one."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any, final

import trio

from actors.errors import UsageError
from actors.store_errors import RunExists, RunParked
from runtime.graphs.accepting import DurableRuns
from runtime.graphs.active_runs import check_run_id
from runtime.graphs.deployment import Deployment
from runtime.graphs.forking import forked
from runtime.graphs.launch import Launch
from runtime.graphs.resuming import check
from runtime.graphs.run import ActiveRun
from runtime.graphs.stored import StoredView, unknown
from runtime.journal.store import Created, Existing, NewRun, StoredRun, StoredStatus


@final
class Reopening:
    """Lets stored runs go on when somebody asks for it."""

    def __init__(self, runs: DurableRuns) -> None:
        self._runs = runs
        self._store = runs.keeping.store

    async def resume(self, run_id: str, *, adopt: bool = False) -> ActiveRun | StoredView:
        """See ``Runtime.resume``."""
        await trio.lowlevel.checkpoint()
        active = self._runs.active.by_id.get(run_id)
        if active is not None:
            return active
        stored = await self._found(run_id)
        if stored.status is StoredStatus.SUCCEEDED:
            raise UsageError(f"run {run_id!r} has succeeded.\n  Fix: await runtime.fork({run_id!r}, before=…) for another end.")
        deployment = self._deployed(stored, "resume()")
        if stored.version != deployment.graph.version and not adopt:
            raise UsageError(
                f"run {run_id!r} was begun by version {stored.version!r} of graph {stored.graph!r}; "
                f"version {deployment.graph.version!r} is deployed here.\n"
                f"  Fix: leave it to a worker that has version {stored.version!r}; or "
                f"await runtime.resume({run_id!r}, adopt=True)."
            )
        launch: Launch | RunParked | None = None
        with trio.CancelScope(shield=True):  # once it is taken, it must go on or be given back
            taken = await self._store.take(run_id)
            if taken is not None:
                launch = await self._runs.revive(deployment, taken, adopt=adopt, fresh=True)
            if isinstance(launch, Launch):
                await self._runs.go_on(launch)
        return self._going_on(launch, stored)

    async def fork(
        self, run_id: str, *, before: str | None, edit: Mapping[str, Any], run_id_new: str | None
    ) -> ActiveRun | StoredView:
        """See ``Runtime.fork``."""
        await trio.lowlevel.checkpoint()
        if run_id_new is not None:
            check_run_id(run_id_new)
        stored = await self._found(run_id)
        deployment = self._deployed(stored, "fork()")
        records = [record async for record in self._store.read(run_id)]
        check(run_id, records, stored.last_seq)
        graph, new_id = deployment.graph, run_id_new or f"{stored.graph}-{secrets.token_hex(8)}"
        made = forked(run_id, new_id, records, deployment.terrain, before, edit)
        new = NewRun(
            new_id, graph.name, graph.version, deployment.fingerprint, None, run_id, len(records), stored.label, here=False
        )
        found: Created | Existing | None = None
        launch: Launch | RunParked | None = None
        with trio.CancelScope(shield=True):  # or nobody would know whether there is such a run
            found = await self._store.fork(new, made)
            if isinstance(found, Existing) and found.run.parent != run_id:
                raise RunExists(
                    f"run {new_id!r} is stored already, and is no fork of {run_id!r}.\n  Fix: give the fork an id of its own.",
                    run_id=new_id,
                )
            taken = await self._store.take(new_id, StoredStatus.READY)
            if taken is not None:
                launch = await self._runs.revive(deployment, taken)
            if isinstance(launch, Launch):
                await self._runs.go_on(launch)
        assert found is not None, "nobody cancels the scope"
        return self._going_on(launch, found.run)

    async def _found(self, run_id: str) -> StoredRun:
        stored = await self._store.run(run_id)
        if stored is None:
            raise unknown(run_id)
        return stored

    def _going_on(self, launch: Launch | RunParked | None, stored: StoredRun) -> ActiveRun | StoredView:
        if isinstance(launch, RunParked):
            raise launch
        active = launch.run if launch is not None else self._runs.active.by_id.get(stored.id)
        return active or self._runs.view(stored)

    def _deployed(self, stored: StoredRun, call: str) -> Deployment:
        found = self._runs.deployments.named(stored.graph)
        if found is None:
            raise UsageError(
                f"{call}: run {stored.id!r} is of graph {stored.graph!r}, which is not deployed in this runtime.\n"
                "  Fix: await runtime.deploy(graph) first, or open the runtime with graphs=[graph]."
            )
        return found
