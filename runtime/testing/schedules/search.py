"""The search for a failing schedule: one attempt after the other, and the first that fails made simple. Doesn't know about tests.

An attempt runs the same thing once under a :class:`Simulation` and gives back what it failed with; see ``explore`` for functions
and ``items`` for pytest's tests with their fixtures.
"""

from __future__ import annotations

import contextvars
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, final

import attrs

from actors.argument_checks import is_count, is_number, rejected
from actors.errors import UsageError
from actors.groups import leaves_of
from runtime.testing.schedules.failure import FoundFailure, Schedule
from runtime.testing.schedules.schedule import reject_nesting
from runtime.testing.schedules.shrink import shrink
from runtime.testing.schedules.simulation import MAX_STEPS, Simulation
from runtime.testing.schedules.strategies import InTurn, Replay, StrategyMaker, strategy_named

RUNS = 200
"""Schedules that a test is tried under by default."""
SHRINK_ATTEMPTS = 300
"""Runs spent on making a failure simple."""
SHRINK_STEPS = 300_000
"""Steps of tasks spent on it, in all of these runs."""
TIMER_RACES = 0.1
"""Chance of an early deadline, at each step, in the runs that have it by default."""
RACING = 4
"""One in so many runs has early deadlines by default: some faults show in no other."""
_USUAL_STEPS = 50


class ScheduleDiverged(AssertionError):
    """A recorded schedule does not fit the program any more, so it tests nothing; the message names the first difference."""


class NotExplored(UserWarning):
    """A test ran once only: its worker threads wait for the loop, so no schedule can wait for them."""


@final
@attrs.frozen
class Overrides:
    """What the command line sets for every exploration; None leaves it to the test."""

    runs: int | None = None
    seed: int | None = None
    replay: Schedule | None = None
    """Run nothing but this schedule."""
    save_to: Path | None = None
    """Where failures are written; None keeps none."""


overrides: contextvars.ContextVar[Overrides] = contextvars.ContextVar("overrides", default=Overrides())  # noqa: B039 - frozen


def _is_strategy(owner: object, attribute: attrs.Attribute[Any], value: str | StrategyMaker) -> None:
    strategy_named(value)


def _is_thread_rule(owner: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if value not in ("hold", "forbid"):
        raise rejected(owner, attribute.name, value, "'hold' or 'forbid'")


@final
@attrs.frozen(kw_only=True)
class Exploration:
    """How a test is explored."""

    runs: int = attrs.field(default=RUNS, validator=is_count(least=1))
    """Schedules to try. The first is arrival order."""
    strategy: str | StrategyMaker = attrs.field(default="portfolio", validator=_is_strategy)
    """A key of ``strategies.STRATEGIES``, or a function of seed and expected number of choices."""
    seed: int = 0
    """Run number i, counted from 0, has the seed ``seed + i``."""
    timer_races: float | None = attrs.field(default=None, validator=attrs.validators.optional(is_number(least=0, finite=True)))
    """Chance, at each step, that the next deadline passes before any task runs, as on a slow machine: by a second at
    most. None: 0.1 in every fourth run, 0 in the others."""
    threads: str = attrs.field(default="hold", validator=_is_thread_rule)
    """``"hold"``: the schedule waits for each worker thread. ``"forbid"``: starting one is an error."""
    max_steps: int = attrs.field(default=MAX_STEPS, validator=is_count(least=1))
    """Steps after which a run counts as a livelock."""
    shrink_attempts: int = attrs.field(default=SHRINK_ATTEMPTS, validator=is_count(least=0))
    crashes: int = attrs.field(default=0, validator=is_count(least=0))
    """How often the process ends within one run, at most: see ``Simulation.lives``. The first run has no crash."""


Attempt = Callable[[Simulation], BaseException | None]
"""Runs the same thing once more; what it failed with, or None."""


def overridden(plan: Exploration) -> Exploration:
    """`plan` with what the command line sets."""
    given = overrides.get()
    return attrs.evolve(
        plan,
        runs=given.runs if given.runs is not None else plan.runs,
        seed=given.seed if given.seed is not None else plan.seed,
    )


def searched(
    attempt: Attempt, plan: Exploration, sources: Sequence[str | Path] = (), *, name: str, file: Path | None = None
) -> FoundFailure | None:
    """What the command line asks for: one schedule replayed; else the schedules in `sources`, then those of `plan`.

    `sources` with relative paths are looked for near `file`, too.
    """
    given = overrides.get()
    if given.replay is not None:
        return repeated(attempt, given.replay, plan, name=name)
    recorded = (repeated(attempt, Schedule.load(source, file), plan, name=name) for source in sources)
    return next(filter(None, recorded), None) or first_failure(attempt, overridden(plan), name=name)


def raise_if_interrupted(error: BaseException) -> None:
    """Raise ``KeyboardInterrupt`` if that is among the leaves of `error`: the user wants the search to end."""
    if any(isinstance(leaf, KeyboardInterrupt) for leaf in leaves_of(error)):
        raise KeyboardInterrupt from error


def first_failure(attempt: Attempt, plan: Exploration, *, name: str) -> FoundFailure | None:
    """Try one schedule after the other; the first failure, simplified, or None."""
    reject_nesting()
    maker, expected, places = strategy_named(plan.strategy), _USUAL_STEPS, 0
    for index in range(plan.runs):
        seed = plan.seed + index
        strategy = InTurn() if index == 0 else maker(seed, expected)
        sim = _simulation(plan, strategy, seed, places=places)
        error = attempt(sim)
        expected, places = max(1, len(sim.choices)), max(places, sim.crash_points)
        found = _Found(name, strategy.name, index + 1, Schedule(seed, tuple(sim.choices)), error, sim.step)
        if sim.unsettled is not None:
            warnings.warn(_not_explored(name, sim.unsettled), NotExplored, stacklevel=2)
            return None if error is None else _failure(found, found.schedule, sim, error, repeats=False)
        if error is not None:
            return _simplified(attempt, plan, found)
        if plan.crashes and not places:
            raise UsageError(
                f"{name or 'the test'}: crashes={plan.crashes}, and it has led no lives that could end.\n"
                "  Fix: await sim.lives(life), with a life that opens a runtime with the store it is given."
            )
    return None


def _not_explored(name: str, stacks: str) -> str:
    return (
        f"{name or 'the test'}: not explored: threads wait for one another, or for what the loop does next.\n{stacks}\n"
        "  Fix: await in the task instead of waiting in the thread; or mark it not_explored, and it runs once as it is."
    )


def repeated(attempt: Attempt, schedule: Schedule, plan: Exploration, *, name: str) -> FoundFailure | None:
    """Try a recorded schedule once; its failure, or None when it passes."""
    reject_nesting()
    sim = _simulation(plan, Replay(schedule.choices), schedule.seed, explain=True)
    error = attempt(sim)
    if error is None and sim.divergence is not None:
        error = ScheduleDiverged(
            f"the recorded schedule {_short(schedule)} does not fit {name or 'the test'} any more, so it tests nothing: "
            f"{sim.divergence}.\n  Fix: look for the failure again (--understudy-save), or take the recorded one away."
        )
    if error is None:
        return None
    return _failure(_Found(name, "replay", 1, schedule, error), schedule, sim, error)


def _short(schedule: Schedule) -> str:
    text = str(schedule)
    return text if len(text) <= 60 else f"{text[:57]}…"


@final
@attrs.frozen
class _Found:
    name: str
    strategy: str
    run: int
    schedule: Schedule
    error: BaseException | None
    steps: int = 0


def _simulation(plan: Exploration, strategy: Any, seed: int, *, explain: bool = False, places: int = 0) -> Simulation:
    return Simulation(
        strategy,
        seed=seed,
        max_steps=plan.max_steps,
        timer_races=_races_of(plan, seed),
        threads=plan.threads,
        crashes=plan.crashes,
        crash_points=places,
        explain=explain,
    )


def _races_of(plan: Exploration, seed: int) -> float:
    """By the seed alone, so a replay knows it as well."""
    if plan.timer_races is not None:
        return plan.timer_races
    return TIMER_RACES if seed % RACING == RACING - 1 else 0.0


def _simplified(attempt: Attempt, plan: Exploration, found: _Found) -> FoundFailure:
    assert found.error is not None
    seed, kind = found.schedule.seed, _kind_of(found.error)

    def fails(choices: Sequence[int]) -> bool:
        error = attempt(_simulation(plan, Replay(choices), seed))
        return error is not None and _kind_of(error) == kind

    attempts = min(plan.shrink_attempts, SHRINK_STEPS // max(1, found.steps))
    simple = shrink(found.schedule.choices, fails, attempts=attempts)
    schedule = Schedule(seed, tuple(simple))
    sim = _simulation(plan, Replay(schedule.choices), seed, explain=True)
    error = attempt(sim)
    if error is None or _is_left_behind(attempt, plan, found, sim):  # something outside of the seed decides
        return _failure(found, found.schedule, sim, error or found.error, repeats=False)
    return _failure(found, schedule, sim, error)


def _is_left_behind(attempt: Attempt, plan: Exploration, found: _Found, simple: Simulation) -> bool:
    """Whether the very first run would fail now, which it did not: then an earlier run has left something behind.

    Asked only where arrival order is enough to fail, so it wasn't a schedule that found it.
    """
    if any(simple.choices) or found.run == 1:
        return False
    return attempt(_simulation(plan, InTurn(), plan.seed)) is not None


def _failure(found: _Found, schedule: Schedule, sim: Simulation, error: BaseException, *, repeats: bool = True) -> FoundFailure:
    return FoundFailure(
        test=found.name,
        error=error,
        schedule=schedule,
        strategy=found.strategy,
        run=found.run,
        own_choices=sim.own_choices if repeats else 0,
        choices_found=sum(1 for choice in found.schedule.choices if choice),
        steps=tuple(sim.steps) if repeats else (),
        notes=tuple(sim.notes) if repeats else (),
        happenings=tuple(sim.happenings) if repeats else (),
        divergence=sim.divergence if found.strategy == "replay" else None,
        repeats=repeats,
    )


def _kind_of(error: BaseException) -> tuple[str, ...]:
    """What has to stay the same while a failure is simplified: the types of its leaves."""
    return tuple(sorted({type(leaf).__qualname__ for leaf in leaves_of(error)}))
