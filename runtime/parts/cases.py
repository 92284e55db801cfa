"""What a runtime does with the record of a run: it finds out what would have become of it."""

from __future__ import annotations

from typing import Any

from actors.errors import UnderstudyError, UsageError
from actors.graphs.graph import Graph
from runtime.graphs.handle import RunHandle
from runtime.graphs.records.history import History, history_of
from runtime.graphs.records.rehearsing import REHEARSAL
from runtime.graphs.records.supposing import Supposing, WhatIf, spent_after_fork
from runtime.journal.store import NewRun
from runtime.parts.part import RuntimeParts


class RuntimeCases(RuntimeParts):
    """Recorded runs, run again in part."""

    def _graph_of(self, case: History, graph: Graph[Any, Any] | None) -> Graph[Any, Any]:
        known = graph if graph is not None else self._engine.graph_named(case.run.graph)
        if known is None or known.name != case.run.graph:
            raise UsageError(
                f"what_if(): graph {case.run.graph!r} of run {case.run.id!r} is not deployed in this runtime.\n"
                "  Fix: pass it as graph=…, or open the runtime with graphs=[graph]."
            )
        return known

    async def _suppose(self, case: History, supposing: Supposing) -> WhatIf:
        """Have a fork of `case` run in this runtime, which was opened for that alone."""
        supposing.choose(self._models)
        store, run = self._engine.store("what_if()"), case.run
        await store.fork(NewRun(run.id, run.graph, run.version, run.fingerprint, label=run.label, here=False), case.records)
        token = REHEARSAL.set(supposing)
        try:
            forks = self._engine.reopening("what_if()")
            made = await forks.fork(run.id, before=supposing.paths, edit={}, run_id_new=None)
        finally:
            REHEARSAL.reset(token)
        handle: RunHandle[Any] = RunHandle(made, self._engine.outside)
        output, error = None, None
        try:
            output = await handle.result()
        except (UnderstudyError, ExceptionGroup) as raised:
            error = raised
        history = await history_of(store, handle.id)
        assert history is not None, "the fork is in the store"
        return WhatIf(output, error, tuple(supposing.ran), spent_after_fork(history), history)
