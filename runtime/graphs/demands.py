"""Runs a node that other nodes of its graph depend on: as a run of that one node, within the run that needs it.

It works in the actors of the deployed graph, so its instances, mailbox, attempts, timeouts, fallback and language model are those
that its author gave it; its step, its events and its spending are those of the run that it belongs to.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, final

import attrs

from actors.errors import NoOutput, RunFailed
from actors.graphs.annotations import Many
from actors.graphs.plan import Plan, compile_plan
from runtime.graphs.adopting import Level
from runtime.graphs.records.resuming import Past
from runtime.graphs.reducer.routing import RoutingTable
from runtime.graphs.reducer.state import RunState
from runtime.graphs.runs.dependencies import RunDependencies
from runtime.graphs.runs.launch import Launch
from runtime.graphs.runs.node_places import NodePlace
from runtime.graphs.runs.run import ActiveRun
from runtime.journal.records import RecordKind

_KEPT = frozenset({RecordKind.FINISHED, RecordKind.ASKED, RecordKind.ANSWERED})


@final
class Demands:
    """The nodes of one deployed graph that others depend on."""

    def __init__(self, plan: Plan, places: Mapping[str, NodePlace]) -> None:
        self._plan = plan
        self._places = places
        self._tables: dict[str, RoutingTable] = {}

    async def run(self, name: str, message: object, outer: ActiveRun, prefix: str, lender: RunDependencies) -> Any:
        """What the node `name` makes of `message`, which the run `outer` began with; None if it returns that.

        `prefix` begins the paths of `outer`; what the node depends on itself is shared with all of `outer`. Cancelled, nothing of
        the node's work is alive.

        Raises:
            NodeFailed: it gave up.
        """
        state = RunState(self._table_of(name), outer.id, prefix)
        journal, past = None, dict[str, Past]()
        if outer.journal is not None:
            journal, known = outer.journal.on_demand(name)
            told = [record for record in known if record.kind in _KEPT]  # attempts that failed are made again
            level = Level(state, journal.codec, journal.digests, told, outer.now(), adopt=True)  # and what no longer fits
            resumed = level.tell_all(message)
            commands, past = resumed.commands, resumed.past
        else:
            commands = state.start(message)
        run = ActiveRun(state, self._places, outer.audience, lambda _: None, math.inf, outer, outer.now)
        run.journal, run.past = journal, past
        run.dependencies = RunDependencies.borrowed(lender)
        try:
            return await Launch(run, message, commands).result("its result is no longer needed")
        except NoOutput:
            return None
        except RunFailed as failed:
            leaf = failed.exceptions[0]
            raise leaf from leaf.__cause__

    def _table_of(self, name: str) -> RoutingTable:
        """The graph of this one node, whose output is what it returns, of any type."""
        if name not in self._tables:
            spec = attrs.evolve(self._plan.nodes[name], is_on_demand=False)
            if spec.fan_out is Many.LIST:  # the list itself is wanted
                spec = attrs.evolve(spec, fan_out=Many.ONE, outputs=(list,))
            plan = compile_plan(self._plan.name, {name: spec}, self._plan.input_types, spec.outputs, ())
            self._tables[name] = RoutingTable(plan)
        return self._tables[name]
