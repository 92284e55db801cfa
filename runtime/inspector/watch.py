"""What an inspector knows of one runtime: its events' figures, its incidents, and one short summary for all who look."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, Final, final

import trio

from actors.actor import ActorState
from actors.graphs.graph import Graph
from runtime.app import Runtime
from runtime.graphs.records.run_record import RunStatus
from runtime.inspector.incidents import Incidents
from runtime.inspector.tally import Tally
from runtime.traces.event_json import Encoder
from runtime.traces.kept_run import RunRecord
from runtime.traces.recorder import Recorder

PAGE: Final = 200
"""Rows that are shown together."""
SLICE: Final = 250
"""Actors that are looked at before other tasks get their turn: about a millisecond."""
TICK_S: Final = 0.25
"""How often a view is sent at most, in seconds; what all views show is made once for all of them in that time."""
BUSY: Final = 20.0
"""What took some time to make is not made again for so many times as long: looking may not hold up what is looked at."""
RESTED: Final = 30.0
"""The same for the summary, which looks at every actor: with that of a view together it takes less than 5 % of a core."""
_OVER: Final = (RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.CANCELLED)


@final
class Watch:
    """One runtime as inspectors see it. Costs nothing while no one looks but a few words for each crash and each run's end.

    Args:
        runtime: what is looked at.
        graphs: those that are served, by name.
        recorder: what is kept of its runs.
        encoder: how messages and errors are shown.
    """

    def __init__(self, runtime: Runtime, graphs: Mapping[str, Graph], recorder: Recorder, encoder: Encoder) -> None:
        self.runtime = runtime
        self.graphs = graphs
        self.recorder = recorder
        self.encoder = encoder
        self.opened_s = trio.current_time()
        self.incidents = Incidents()
        self.tally = Tally(recorder)
        self.ended: Counter[str] = Counter()
        """Runs that are over, by status."""
        self.cost_usd = 0.0
        """What they have cost, and their tokens."""
        self.tokens = 0
        self._summary: dict[str, Any] = {}
        self._due_s = float("-inf")
        """When the summary is made again; the runtime's clock, in seconds."""
        self._looking = trio.Lock()
        recorder.on_over.append(self._count)

    def time(self, at_s: float) -> float:
        """The time of day at which the runtime's clock showed `at_s`, in seconds since 1970."""
        return round(self.runtime.wall_time(at_s).timestamp(), 3)

    def _count(self, record: RunRecord) -> None:
        self.ended[str(record.status)] += 1
        self.cost_usd += record.spend.cost_usd
        self.tokens += record.spend.prompt_tokens + record.spend.completion_tokens

    async def summary(self) -> dict[str, Any]:
        """What the head of every view says. A checkpoint.

        It walks through all actors, which takes long where there are many: it is made again after a rest of ``RESTED`` times as
        long, and meanwhile everyone gets the one that there is.
        """
        await trio.lowlevel.checkpoint()
        begun = trio.current_time()
        if begun < self._due_s or (self._summary and self._looking.locked()):
            return self._summary
        async with self._looking:
            if begun >= self._due_s:
                await self.tally.catch_up()
                self._summary = await self._summed()
                now = trio.current_time()
                self._due_s = now + max(TICK_S, RESTED * (now - begun))
        return self._summary

    async def _summed(self) -> dict[str, Any]:
        states: Counter[str] = Counter()
        mail = handled = failed = restarts = blocked = 0
        for some in self.runtime.statistics().slices(SLICE):
            for actor in some.values():
                states[str(actor.state)] += 1
                mail += actor.mailbox.depth
                blocked += actor.mailbox.blocked_senders
                handled += actor.handled
                failed += actor.failed
                restarts += actor.restarts
            await trio.lowlevel.checkpoint()
        running = list(self.runtime.runs().values())
        in_progress = Counter(str(run.status) for run in running if run.status not in _OVER)
        queued = sum(record.status == "queued" for record in self.recorder.newest_first())
        return {
            "graphs": len(self.graphs),
            "ready": self.runtime.is_ready,
            "runs": {**in_progress, **({"queued": queued} if queued else {})},
            "ended": dict(self.ended),
            "actors": sum(states.values()),
            "states": dict(states),
            "restarting": states[str(ActorState.BACKING_OFF)],
            "waiting": mail,
            "blocked_senders": blocked,
            "handled": handled,
            "failed": failed,
            "restarts": restarts,
            "crashes": self.incidents.crashes,
            "loop_blocks": self.incidents.blocks,
            "letters": self.runtime.dead_letters.total,
            "cost_usd": round(self.cost_usd + sum(run.spend.cost_usd for run in running), 8),
            "tokens": self.tokens + sum(run.spend.prompt_tokens + run.spend.completion_tokens for run in running),
            "calls": sum(model.calls for model in self.tally.models.values()),
            "calls_in_flight": sum(model.in_flight for model in self.tally.models.values()),
        }
