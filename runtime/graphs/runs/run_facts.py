"""What is known of a run, no matter who asks: its name, its trace, what it has used, whom it tells, and how it ended."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from actors.errors import UnderstudyError
from runtime.core.events import Audience, Event
from runtime.graphs.records.carried import Carried, carried_from_here
from runtime.graphs.records.run_record import RunStatus, Spend, Step
from runtime.graphs.reducer.state import RunState


class RunFacts:
    """The facts of one run; those of a run inside another one are partly its outer run's."""

    def __init__(
        self, state: RunState, audience: Audience, max_steps: float, outer: RunFacts | None, now: Callable[[], float]
    ) -> None:
        self.state = state
        self.status = RunStatus.RUNNING
        self.outer = outer
        """The run of whose node this one is the work; its trace, its events and its spending are also that one's."""
        self.max_steps = max_steps
        self.carried: Carried = carried_from_here() if outer is None else outer.carried
        """The context variables of the task that started it, for its nodes."""
        self.trace: list[Step] = [] if outer is None else outer.trace
        self.spend = Spend()
        self.output: Any = None
        self.error: UnderstudyError | None = None
        self.now = now
        self.started_at_s = now()
        self.ended_at_s: float | None = None
        self.audience = audience
        """Whom it tells what happens."""
        self.shows_prompts: bool = outer is not None and outer.shows_prompts
        """Whether its events carry what language models are asked."""
        self.wall_time: Callable[[], datetime] = _system_time if outer is None else outer.wall_time
        """The store's clock, or the system's."""
        self.is_resumed: bool = outer is not None and outer.is_resumed
        """Whether it has had a life before this one."""
        self._calls = 0

    @property
    def id(self) -> str:
        """Unique within the runtime, and in its store."""
        return self.state.run_id

    @property
    def graph(self) -> str:
        """The graph's name."""
        return self.state.plan.name

    @property
    def steps_left(self) -> float:
        """How many more messages may be delivered to nodes."""
        return max(0, self.max_steps - self.state.steps)

    def wants(self, kind: type[Event]) -> bool:
        """Whether making an event of the class `kind` is worth it."""
        return self.audience.listening and self.audience.wants(kind)

    def number_call(self) -> int:
        """The number of the next call of a language model, counted from 1 over the run and those inside it."""
        if self.outer is not None:
            return self.outer.number_call()
        self._calls += 1
        return self._calls

    def book(self, used: Spend) -> None:
        """Add what was used of language models."""
        self.spend = self.spend.plus(used)
        if self.outer is not None:
            self.outer.book(used)


def _system_time() -> datetime:
    return datetime.now(UTC)
