"""The runs of a runtime that are not over: how one is made, by which id it is found, and what is left of it."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable
from typing import Any, Final, final

import trio

from actors.argument_checks import is_seconds
from actors.errors import RuntimeDraining, UsageError
from actors.graphs.graph import Graph
from actors.words import repr_of
from runtime.core.cell import current_cell
from runtime.core.events import Audience, EventStream
from runtime.core.services import Services
from runtime.core.stream_audience import WithStream
from runtime.graphs.deployed_graphs import Deployments
from runtime.graphs.deployment import Deployment
from runtime.graphs.keeper import Keeping
from runtime.graphs.records.questions import Desk
from runtime.graphs.records.run_record import RunStatus
from runtime.graphs.reducer.state import RunState
from runtime.graphs.runs.dependencies import RunDependencies
from runtime.graphs.runs.run import ActiveRun
from runtime.graphs.runs.unheard import Unheard

_MAX_RUN_ID: Final = 200
"""Characters. An id stands in every event, path and message of its run, and becomes part of file names and addresses."""
_FARTHEST_S: Final = 100 * 366 * 86_400.0
"""A deadline stands in the store as a date."""


def check_run_id(wanted: object) -> None:
    """Reject an id that could not stand in a path, a log line or a file name as it is."""
    if not isinstance(wanted, str) or not wanted:
        raise UsageError(f"run_id={repr_of(wanted)}: expected a non-empty string or None.\n  Fix: leave it out, and one is made.")
    if len(wanted) > _MAX_RUN_ID:
        raise UsageError(
            f"run_id={repr_of(wanted, 60)}: it has {len(wanted)} characters, at most {_MAX_RUN_ID} are allowed.\n"
            "  Fix: name the run by a key, and put what describes it into the input."
        )
    wrong = [part for part in wanted if part in "/\\" or not part.isprintable()]
    if wrong or wanted in {".", ".."} or not wanted.strip():
        what = f"{wrong[0]!r} cannot stand in it" if wrong else "it cannot stand in a path"
        raise UsageError(
            f"run_id={repr_of(wanted)}: {what}: expected printable characters without '/' and '\\'.\n"
            "  Fix: use letters, digits, '-' and '_', such as run_id='order-7'."
        )


@final
class ActiveRuns:
    """The runs of all graphs that are not over."""

    def __init__(self, services: Services, deployments: Deployments, desk: Desk) -> None:
        """None yet."""
        self._desk = desk
        self._services = services
        self._deployments = deployments
        self._numbers = itertools.count(1)
        self.by_id: dict[str, ActiveRun] = {}
        """In the order of their start."""
        self.returning: dict[str, list[trio.Event]] = {}
        """By the id of each stored run whose end is awaited here: set when it is here again."""
        self.put_down: Callable[[ActiveRun], Awaitable[None]] | None = None
        """Releases a run that has left memory, since it only waits."""
        self.unheard = Unheard()
        self.is_draining = False
        self.is_closing = False
        self.keeping: Keeping | None = None
        """Set when the runtime has a store."""

    async def taking(self, graph: Graph, max_steps: float) -> Deployment:
        """The deployed graph, if runs are taken."""
        self._check_taken(max_steps)
        return await self._deployments.of(graph)

    def taking_now(self, graph: Graph, max_steps: float) -> Deployment | None:
        """The same of a graph that is deployed already; None if it is not."""
        self._check_taken(max_steps)
        return self._deployments.known(graph)

    def _check_taken(self, max_steps: float) -> None:
        if self.is_draining and current_cell.get() is None:  # a run that drains may still need runs inside it
            raise RuntimeDraining("the runtime is draining: it takes no more runs.\n  Fix: start runs before drain() is called.")
        check_max_steps(max_steps)

    def activate(
        self, deployment: Deployment, state: RunState, message: object, max_steps: float, events: EventStream | None = None
    ) -> ActiveRun:
        """A run of `deployment` that has not begun; `events` is told what happens in it, too."""

        def dismiss(run: ActiveRun) -> None:
            del self.by_id[run.id]
            deployment.dismiss(run)
            if run.is_evicted and run.journal is not None and self.keeping is not None and self.put_down is not None:
                self.keeping.close_log(run.journal.log)
                if run.journal.log.error is None and self.keeping.nursery is not None:
                    self.keeping.nursery.start_soon(self.put_down, run)
            elif run.journal is not None and self.keeping is not None:
                self.keeping.put_away(run.id, run.journal.log, handed_back=run.is_handed_back)
            elif run.status is RunStatus.FAILED and not run.waits.is_awaited:
                self.unheard.add(run)

        run = self.by_id[state.run_id] = ActiveRun(
            state, deployment.pools, self._audience(events), dismiss, max_steps, now=self._services.now
        )
        run.shows_prompts, run.desk = self._services.shows_prompts, self._desk
        for returned in self.returning.pop(state.run_id, ()):
            returned.set()
        if self.keeping is not None:
            run.wall_time = self.keeping.store.wall_time
        if deployment.has_needs:
            run.dependencies = self.dependencies(deployment, run, message, deployment.plan.name)
        return run

    def dependencies(self, deployment: Deployment, run: ActiveRun, message: object, prefix: str) -> RunDependencies:
        """What the nodes of `run`, which begins with `message`, depend on; `prefix` is before the paths of what it runs."""

        async def run_node(name: str, lender: RunDependencies) -> Any:
            return await deployment.demands.run(name, message, run, prefix, lender)

        return RunDependencies(run, message, self._deployments.contexts, run_node)

    def new_id(self, graph: Graph, wanted: str | None) -> str:
        """The id of a run that is not stored."""
        if wanted is None:
            numbered = (f"{graph.name}-{number}" for number in self._numbers)
            return next(run_id for run_id in numbered if run_id not in self.by_id)
        check_run_id(wanted)
        if wanted in self.by_id:
            raise UsageError(f"a run {repr_of(wanted)} is already in progress.\n  Fix: give each run its own run_id.")
        return wanted

    def _audience(self, stream: EventStream | None) -> Audience:
        bus = self._services.events
        return bus if stream is None else WithStream(stream, bus)


def check_max_steps(max_steps: object) -> None:
    """Reject what isn't a number of steps."""
    if not isinstance(max_steps, int | float) or isinstance(max_steps, bool) or not max_steps >= 1:
        raise UsageError(f"max_steps={repr_of(max_steps)}: expected a number >= 1.\n  Fix: leave it out for no limit.")


def check_deadline(deadline_s: object) -> None:
    """Reject what isn't a number of seconds that a calendar can count."""
    if deadline_s is not None and not (is_seconds(deadline_s, zero=False) and deadline_s <= _FARTHEST_S):
        raise UsageError(
            f"deadline_s={repr_of(deadline_s)}: expected a number of seconds > 0, a hundred years at most.\n"
            "  Fix: leave it out for no deadline."
        )
