"""One simulated run of an async function: a seed, a strategy, the choices made, a trace, and an error when it hangs.

Flow: ``explore`` makes a :class:`Simulation` per schedule and calls :meth:`Simulation.run`; ``schedule`` asks it for each choice.
"""

from __future__ import annotations

import itertools
import math
import random
import time
import weakref
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Any, cast, final

import attrs
import trio
import trio.testing

from runtime.app import Runtime, open_runtime
from runtime.core.actor_cell import ActorCell
from runtime.core.cell import current_cell
from runtime.core.envelope import content_of
from runtime.core.events import ActorCrashed, ActorEvent, Event, MessageDeadLettered
from runtime.journal.memory import MemoryStore
from runtime.journal.store import Store
from runtime.testing.schedules.crash_points import Crashing
from runtime.testing.schedules.deadlock import TaskNames, TestLine, place_of, report_on, waits_of
from runtime.testing.schedules.schedule import Loop, run_chosen
from runtime.testing.schedules.strategies import InTurn, Replay, Strategy
from runtime.testing.schedules.taps import Handler, tap
from runtime.testing.schedules.threads import watched_threads
from runtime.testing.schedules.virtual_time import ThreadHold
from runtime.testing.stores.crashing_store import KILLED, Ending
from runtime.testing.stores.lives import WITHIN_S, Lives

MAX_STEPS = 20_000
"""Steps of tasks after which a run is taken for a livelock."""
IO_LOOKS = 200
"""Looks for I/O, a millisecond apart, before tasks that wait for sockets are taken for stuck."""
THREAD_LOOKS = 40
"""Looks, 50 ms apart, at worker threads that wait for a loop that has nothing to do, before both are taken for stuck."""
RACE_S = 1.0
"""A deadline comes at most so many seconds early: a slow machine is late by a moment, not by the five minutes of a timeout."""

_BEGINS = datetime(2026, 1, 1, tzinfo=UTC)
"""What the clock of a simulated store says at first."""


class Deadlock(AssertionError):
    """Nothing can run and no deadline is pending. The message shows who waits for whom."""


class Livelock(AssertionError):
    """The run used up its steps without coming to its end."""


@final
@attrs.frozen
class Step:
    """One step of a task, from where it stood to where it stopped. Recorded only for reports: it costs a walk over frames."""

    number: int
    at_s: float
    task: str
    before: TestLine | None
    after: TestLine | None
    choice: int
    """0: it was its turn; n: it overtook n others."""
    ended: bool = False
    handled: tuple[str, ...] = ()
    """What the actor took from its mailbox in this step."""


@final
class Simulation:
    """One run under a chosen schedule. A test that takes a parameter named ``sim`` gets it."""

    def __init__(
        self,
        strategy: Strategy,
        *,
        seed: int = 0,
        max_steps: int = MAX_STEPS,
        timer_races: float = 0.0,
        threads: str = "hold",
        crashes: int = 0,
        crash_points: int = 0,
        explain: bool = False,
    ) -> None:
        self.seed = seed
        self.rng = random.Random(f"program {seed}")
        """Chance for the test itself: latencies, faults, message orders."""
        self.choices: list[int] = []
        """Every choice so far; replaying them repeats the run."""
        self.trace: list[str] = []
        """Every step, note and event, in order: the same for the same seed, on every machine."""
        self.steps: list[Step] = []
        """Filled only when the run is to be explained."""
        self.notes: list[str] = []
        """The notes and events of the trace, alone."""
        self.own_choices = 0
        """How many of the choices were not 0 and not about which task runs: the test's own, and deadlines that came early."""
        self.step = 0
        self._strategy = strategy
        self._max_steps = max_steps
        self._timer_races = timer_races
        self._threads = threads
        self._explain = explain
        self._hold = ThreadHold()
        self._names = TaskNames()
        self._recent: list[str] = []
        self._looks = self._stuck = 0
        self._finding: BaseException | None = None
        self._before: TestLine | None = None
        self._chosen = 0
        self._handled: list[str] = []
        self._loop: Loop | None = None
        self._scope = trio.CancelScope()
        self._replayed = strategy if isinstance(strategy, Replay) else None
        self._services: set[Any] = set()
        self._current: weakref.WeakKeyDictionary[trio.lowlevel.Task, Any] = weakref.WeakKeyDictionary()
        self._crashing = Crashing(strategy, seed, crashes, crash_points)
        self.divergence: str | None = None
        """Where a replayed schedule no longer fits the program; None while it does."""
        self.unsettled: str | None = None
        """Where the worker threads stood that wait for the loop, so the run was not explored; None as a rule."""
        self.happenings: list[tuple[int, str]] = []
        """Crashes and dead letters with the step in which they came; filled only when the run is to be explained."""

    # --- for tests --------------------------------------------------------------------------------------------------------

    def choose(self, count: int) -> int:
        """One of `count` ways, recorded and replayed like the schedule; the shrinker prefers 0."""
        if count <= 1:
            return 0
        choice = self._strategy.choose(count)
        self.choices.append(choice)
        self.own_choices += bool(choice)
        return choice

    async def lives(
        self,
        run: Callable[[Store], Awaitable[Any]],
        *,
        endings: Sequence[Ending] = (*KILLED, Ending.FROZEN),
        within_s: float = WITHIN_S,
        store: MemoryStore | None = None,
    ) -> Any:
        """Lead lives of a program on one store until one comes to its own end; what that one has made.

        Where ``explore(crashes=…)`` says so, lives end earlier: at a record, or at another call that writes to the store, which
        is a choice like that of the next task. `run` opens a runtime with the store that it is given, starts its runs by
        ``run_id``, and returns what they make; it is called again for each life.

        Args:
            run: one life.
            endings: how a life may end; the shrinker prefers the first.
            within_s: how long a life may take, in seconds of virtual time.
            store: what the first life finds; None: an empty store.

        Raises:
            AssertionError: what was acknowledged is lost, something was recorded again, a life does not end, or a worker that
                had lost its runs wrote on.
        """
        lives = Lives(run, within_s)
        first = MemoryStore(begins=_BEGINS) if store is None else store
        return await lives.through(itertools.repeat(partial(self._decide_end, endings)), first)

    def _decide_end(self, endings: Sequence[Ending], rows: int) -> Ending | None:
        choice = self._crashing.choose(len(endings) + 1)
        if choice is None:
            return None
        self.choices.append(choice)
        self.own_choices += bool(choice)
        if not choice:
            return None
        ending, what = endings[choice - 1], "a record" if rows else "a call of the store"
        self.note(f"the process ends: {ending} {what}")
        if self._explain:
            self.happenings.append((self.step, f"the process ends: {ending} {what}"))
        return ending

    @property
    def crash_points(self) -> int:
        """At how many places the process could have ended so far."""
        return self._crashing.points

    def note(self, text: str) -> None:
        """Write a line into the trace."""
        line = f"{self.step:05d} {trio.current_time():.6f} {text}"
        self.trace.append(line)
        self.notes.append(line)

    def calm(self) -> None:
        """From here on a fair schedule, without timer races and crashes, so a test may assert that something comes about."""
        self._timer_races = 0.0
        self._crashing.stop()
        if not isinstance(self._strategy, Replay):
            self._strategy = InTurn()

    def open_runtime(self, **options: Any) -> AbstractAsyncContextManager[Runtime]:
        """``open_runtime`` with this run's seed, and its events in the trace."""
        instruments: Iterable[Callable[[Event], None]] = options.pop("instruments", ())
        return _traced_runtime(self, {"seed": self.seed, **options}, [*instruments, self._record])

    def tap(self, address: str, handler: Handler) -> Handler:
        """A tap that writes into the trace what each actor begins to handle; ``open_runtime`` sets it."""

        async def handle(message: Any) -> Any:
            kind = _kind_of(message)
            self.note(f"{address} handles {kind}")
            self._handled.append(kind)
            return await handler(message)

        return handle

    def _listen(self, task: trio.lowlevel.Task) -> None:
        """Hear what goes wrong in the runtime that `task` belongs to, wherever it was opened."""
        cell = task.context.get(current_cell)
        if cell is not None and cell.services not in self._services:
            self._services.add(cell.services)
            cell.services.events.add_sink(self._hear)

    def _hear(self, event: Event) -> None:
        match event:
            case ActorCrashed(address=address, error=error):
                self.happenings.append((self.step, f"{address} crashes: {type(error).__name__}"))
            case MessageDeadLettered(letter=letter):
                kind = _kind_of(letter.message)
                self.happenings.append((self.step, f"dead letter: {kind} to {letter.recipient} ({letter.reason.value})"))
            case _:
                pass

    def _look_at_current(self, task: trio.lowlevel.Task) -> None:
        """What the actor whose task this is has begun to handle, where no tap says so."""
        frame = task.coro.cr_frame
        cell = frame.f_locals.get("self") if frame is not None else None
        if isinstance(cell, ActorCell):
            envelope = cell.hand.envelope
            if envelope is not None and self._current.get(task) is not envelope and not self._handled:
                self._handled.append(_kind_of(envelope.message))
            self._current[task] = envelope

    def _record(self, event: Event) -> None:
        where = f" {event.address}" if isinstance(event, ActorEvent) else ""
        self.note(f"{type(event).__name__}{where}")

    @property
    def explains(self) -> bool:
        """Whether the run is to be explained: it fills :attr:`steps`."""
        return self._explain

    # --- running ----------------------------------------------------------------------------------------------------------

    def run(
        self,
        async_fn: Callable[[], Awaitable[Any]],
        *,
        clock: trio.testing.MockClock | None = None,
        instruments: Sequence[trio.abc.Instrument] = (),
    ) -> Any:
        """Run `async_fn` to its end, on `clock` if it is given.

        Raises:
            Deadlock: it stopped permanently. Livelock: it does not stop.
            Exception: the one it raised.
        """
        __tracebackhide__ = True

        async def main() -> Any:
            __tracebackhide__ = True
            with self._scope:
                return await async_fn()

        with watched_threads(self._hold, forbid=self._threads == "forbid"):
            try:
                result = run_chosen(self, main, self._begin, seed=self.seed, clock=clock, instruments=instruments)
            except BaseException as error:
                if self._finding is not None and error is not self._finding:
                    raise self._finding from error
                raise
            finally:
                self._end()
        if self._finding is not None:
            raise self._finding
        return result

    def _end(self) -> None:
        if self._replayed is not None:
            self._replayed.end()
            self._note_divergence()
        self._services.clear()

    def _note_divergence(self) -> None:
        if self._replayed is not None and self.divergence is None and self._replayed.divergence is not None:
            self.divergence = f"{self._replayed.divergence} (step {self.step})"

    def _begin(self, loop: Loop) -> None:
        self._loop = loop

    @property
    def loop(self) -> Loop:
        """The loop under control; only while it runs."""
        assert self._loop is not None, "the run has not begun"
        return self._loop

    # --- Controller -------------------------------------------------------------------------------------------------------

    def before_wait(self) -> None:
        """See ``Controller``: worker threads come back first, so what they send is always seen at the same step."""
        if not self._hold.settle():
            self.unsettled = self._hold.stacks()
            self._hold.release()

    def pick(self, tasks: Sequence[trio.lowlevel.Task]) -> int | None:
        """See ``Controller``."""
        self._looks = 0
        if self.step >= self._max_steps:
            self._give_up_on_livelock()
        if self._timer_races and self._timer_first():
            return None
        self._chosen = 0
        if len(tasks) > 1:
            self._chosen = self._strategy.pick(tasks)
            self.choices.append(self._chosen)
            if self._replayed is not None:
                self._note_divergence()
        return self._chosen

    def _timer_first(self) -> bool:
        """Whether a slow machine would see the next deadline pass before any task runs."""
        left_s = self.loop.left_s
        if not 0 < left_s <= RACE_S or not self.loop.jumps:
            return False
        choice = self._strategy.choose(1000)
        fires = choice > 0 if isinstance(self._strategy, Replay) else choice >= 1000 * (1 - self._timer_races)
        self.choices.append(int(fires))
        self.own_choices += fires
        if fires:
            self.loop.jump(left_s)
        return fires

    def before_step(self, task: trio.lowlevel.Task) -> None:
        """See ``Controller``."""
        self.step += 1
        name = self._names[task]
        self.trace.append(f"{self.step:05d} {self.loop.now_s:.6f} {name}")
        if self._explain:
            self._before = place_of(task)
            self._handled.clear()
            self._listen(task)
        if self.step > self._max_steps - 100:
            self._recent.append(name)

    def after_step(self, task: trio.lowlevel.Task) -> None:
        """See ``Controller``."""
        if self._explain and self._finding is None:
            ended = task.coro.cr_frame is None
            self._look_at_current(task)
            after = None if ended else place_of(task)
            if self._before is not None or after is not None or self._handled or self._chosen:
                handled, name = tuple(self._handled), self._names[task]
                step = Step(self.step, self.loop.now_s, name, self._before, after, self._chosen, ended, handled)
                self.steps.append(step)

    def idle(self) -> None:
        """See ``Controller``: the clock jumps to the next deadline; without one this is a deadlock."""
        left_s = self.loop.left_s
        if left_s < math.inf and self.loop.jumps:
            if left_s > 0:
                self.loop.jump(left_s)
        elif self.unsettled is not None and self._looks <= THREAD_LOOKS and not self._hold.is_busy:
            # The last thread may have ended after the loop has looked, and what it made is on its way: one more look shows it.
            self._looks = THREAD_LOOKS + 1
        elif self.unsettled is not None and self._hold.is_busy and self._finding is None and self._looks < THREAD_LOOKS:
            self._looks += 1
            self._hold.wait(0.05)
        elif sockets_waited_for() and self._looks < IO_LOOKS:
            self._looks += 1
            time.sleep(0.001)  # noqa: TID251 - the kernel has no virtual clock
        else:
            self._give_up_on_deadlock()

    # --- failures ---------------------------------------------------------------------------------------------------------

    def _give_up_on_deadlock(self) -> None:
        self._stuck += 1
        if self._stuck > 3:
            raise trio.TrioInternalError("the deadlock survived every cancellation")
        now_s = self.loop.now_s
        why = "no deadline is pending" if self.loop.jumps else "the test's clock stands still"
        title = f"nothing can run and {why}, at {now_s:g} s, after {self.step} steps:"
        stands = f"\n  A worker thread waits:\n{self._hold.stacks()}" if self._hold.is_busy else ""
        self._fail(Deadlock(f"{title}\n{self._report()}{stands}"))

    def _give_up_on_livelock(self) -> None:
        if self._finding is not None:
            if self.step > 2 * self._max_steps:
                self.loop.unshield()
            return
        busiest = ", ".join(f"{name} ({count}×)" for name, count in Counter(self._recent).most_common(5))
        title = f"no end after {self._max_steps} steps, at {self.loop.now_s:g} s. The last 100 steps: {busiest}."
        self._fail(Livelock(f"{title}\n{self._report()}"))

    def _report(self) -> str:
        return report_on(waits_of(self.loop.tasks(), self._names))

    def _fail(self, finding: BaseException) -> None:
        if self._finding is None:
            self._finding = finding
            self._scope.cancel()
        else:
            self.loop.unshield()


def _kind_of(message: object) -> str:
    """The type of what was sent; of the messages of a join, all of them."""
    content = content_of(message)
    if content is message or not isinstance(content, Mapping):
        return type(content).__name__
    return " + ".join(type(part).__name__ for part in cast("Mapping[str, object]", content).values())


def sockets_waited_for() -> bool:
    """Whether a task waits for a socket; trio's own wake-up socket is always waited for."""
    figures = trio.lowlevel.current_statistics().io_statistics
    reading, writing = getattr(figures, "tasks_waiting_read", 0), getattr(figures, "tasks_waiting_write", 0)
    return bool(reading + writing > 1)


@asynccontextmanager
async def _traced_runtime(
    sim: Simulation, options: dict[str, Any], instruments: Sequence[Callable[[Event], None]]
) -> AsyncGenerator[Runtime]:
    async with open_runtime(**options, instruments=instruments) as runtime:
        tap(runtime, sim.tap)
        sim.note("runtime open")
        yield runtime
    sim.note("runtime closed")
