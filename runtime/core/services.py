"""What every cell of one runtime shares: chance, timers, events, dead letters and the registry of addresses."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Protocol, final

import attrs
import trio

from actors.actor import ActorRef
from actors.errors import UsageError
from actors.mailbox import DeadLetterPolicy
from actors.supervision import ChildSpec, SupervisorRef
from runtime.core.dead_letters import DeadLetters
from runtime.core.events import EventBus
from runtime.core.timekeeper import Timekeeper
from runtime.core.wall_clock import WallClock, read_wall_clock


class Addressed(Protocol):
    """What the registry holds."""

    @property
    def ref(self) -> ActorRef[Any] | SupervisorRef:
        """The handle that ``whereis`` gives out."""
        ...


def not_placed(spec: ChildSpec) -> ChildSpec:
    """For a runtime without places."""
    raise unknown_place(spec, ())


def unknown_place(spec: ChildSpec, known: Iterable[str]) -> UsageError:
    """The error for a child whose place the runtime, which has the `known` ones, does not have."""
    names = ", ".join(map(repr, known))
    has = f"the places of this runtime are {names}" if names else "this runtime has none"
    return UsageError(
        f"{spec.id!r} has place={spec.place!r}, and {has}.\n"
        f"  Fix: open_runtime(places={{{spec.place!r}: Here()}}), where Here() of runtime.placement lets it live in this process."
    )


@final
@attrs.define(eq=False)
class Services:
    """The services below the cells. One per runtime; no part of it is global."""

    rng: random.Random
    now: Callable[[], float] = trio.current_time
    """The clock of the event loop. Every message is stamped, so a runtime binds its clock once and asks it directly."""
    wall_clock: WallClock = attrs.field(factory=read_wall_clock)
    events: EventBus = attrs.field(factory=EventBus)
    timekeeper: Timekeeper = attrs.field(factory=Timekeeper)
    dead_letters: DeadLetters = attrs.field(init=False)
    registry: dict[str, Addressed] = attrs.field(factory=dict[str, Addressed])
    dead_letter_policy: DeadLetterPolicy | None = None
    """How many dead letters are kept; None: the default."""
    around_receive: Callable[[str, Callable[[Any], Awaitable[Any]]], Callable[[Any], Awaitable[Any]]] | None = None
    """Wraps the handler of each actor by its address: where test harnesses watch messages and plant faults."""
    placed: Callable[[ChildSpec], ChildSpec] = attrs.field(default=not_placed)
    """What is started for a child that has a place.

    Raises:
        UsageError: the runtime has no place of that name.
    """
    watchdog_s: float | None = None
    """After how many seconds of one step of a task ``LoopBlocked`` is published; None: no one looks."""
    shows_prompts: bool = False
    """Whether the events of runs carry what language models are asked."""
    fellows: Any = None
    """The ``FellowOwners`` of its store; typed Any because they lie above this layer. None: the cells are of no whole runtime."""
    facade: Any = None
    """The ``Runtime`` above, for ``context.runtime``; typed Any because it lies above this layer."""

    def __attrs_post_init__(self) -> None:
        self.dead_letters = DeadLetters(self.events, self.dead_letter_policy)


@final
class Doorbell:
    """Wakes the one task that waits; a ring before the wait is not lost."""

    __slots__ = ("_rung", "_task")

    def __init__(self) -> None:
        self._rung = False
        self._task: trio.lowlevel.Task | None = None

    def ring(self) -> None:
        """Wake the waiting task, or let the next wait return immediately."""
        self._rung = True
        task, self._task = self._task, None
        if task is not None:
            trio.lowlevel.reschedule(task)

    async def wait(self) -> None:
        """Return once it was rung since the last wait. A checkpoint."""
        if self._rung:
            await trio.lowlevel.checkpoint()
        else:
            self._task = trio.lowlevel.current_task()

            def abort(_: Any) -> trio.lowlevel.Abort:
                self._task = None
                return trio.lowlevel.Abort.SUCCEEDED

            await trio.lowlevel.wait_task_rescheduled(abort)
        self._rung = False
