"""Exploration: the same test under many schedules, until one fails; that one made simple, told as a trace, and kept.

``@explore()`` turns an async test into a plain one, which pytest runs without any plugin. Each run has its own event loop, its
own seed and its own strategy; see ``strategies`` for what is tried and ``schedule`` for how it is enforced.
"""

from __future__ import annotations

import contextvars
import functools
import inspect
import os
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, final

import attrs

from actors.checks import is_count, is_number
from actors.groups import leaves_of
from runtime.testing.failure import FoundFailure, Schedule
from runtime.testing.shrink import shrink
from runtime.testing.simulation import MAX_STEPS, Simulation
from runtime.testing.strategies import InTurn, Replay, StrategyMaker, strategy_named

RUNS = 200
"""Schedules that a test is tried under unless it says otherwise."""
SHRINK_ATTEMPTS = 300
"""Runs spent on making a failure simple."""
_USUAL_STEPS = 50


@final
@attrs.frozen
class Overrides:
    """What the command line says about every exploration; None leaves it to the test."""

    runs: int | None = None
    seed: int | None = None
    replay: Schedule | None = None
    """Run nothing but this schedule."""
    save_to: Path | None = None
    """Where failures are written; None keeps none."""


overrides: contextvars.ContextVar[Overrides] = contextvars.ContextVar("overrides", default=Overrides())  # noqa: B039 - frozen


@final
@attrs.frozen(kw_only=True)
class Exploration:
    """How a test is explored."""

    runs: int = attrs.field(default=RUNS, validator=is_count(least=1))
    """Schedules to try. The first is arrival order."""
    strategy: str | StrategyMaker = "portfolio"
    """A key of ``strategies.STRATEGIES``, or a function of seed and expected number of choices."""
    seed: int = 0
    """Run number i, counted from 0, has the seed ``seed + i``."""
    timer_races: float = attrs.field(default=0.0, validator=is_number(least=0, finite=True))
    """Chance, at each step, that the next deadline passes before any task runs, as on a slow machine."""
    threads: str = "hold"
    """``"hold"``: the schedule waits for each worker thread. ``"forbid"``: starting one is an error."""
    max_steps: int = attrs.field(default=MAX_STEPS, validator=is_count(least=1))
    """Steps after which a run counts as a livelock."""
    shrink_attempts: int = attrs.field(default=SHRINK_ATTEMPTS, validator=is_count(least=0))


TestFunction = Callable[[Simulation], Awaitable[Any]]


def find_failure(function: TestFunction, exploration: Exploration | None = None, *, name: str = "") -> FoundFailure | None:
    """Run `function` under one schedule after the other; the first failure, simplified, or None.

    What is no failure passes: ``KeyboardInterrupt``, and pytest's skip and exit.
    """
    plan = exploration if exploration is not None else Exploration()
    maker, expected = strategy_named(plan.strategy), _USUAL_STEPS
    for index in range(plan.runs):
        seed = plan.seed + index
        strategy = InTurn() if index == 0 else maker(seed, expected)
        sim = _simulation(plan, strategy, seed)
        error = _error_of(sim, function)
        expected = max(1, len(sim.choices))
        if error is not None:
            found = _Found(name, strategy.name, index + 1, Schedule(seed, tuple(sim.choices)), error)
            return _simplified(function, plan, found)
    return None


def replay(
    function: TestFunction, schedule: Schedule, exploration: Exploration | None = None, *, name: str = ""
) -> FoundFailure | None:
    """Run `function` once under a recorded schedule; its failure, or None when it passes."""
    plan = exploration if exploration is not None else Exploration()
    sim = _simulation(plan, Replay(schedule.choices), schedule.seed, explain=True)
    error = _error_of(sim, function)
    if error is None:
        return None
    return _failure(_Found(name, "replay", 1, schedule, error), schedule, sim, error)


def explore(
    *,
    runs: int = RUNS,
    strategy: str | StrategyMaker = "portfolio",
    seed: int = 0,
    timer_races: float = 0.0,
    threads: str = "hold",
    max_steps: int = MAX_STEPS,
    shrink_attempts: int = SHRINK_ATTEMPTS,
    replay_first: str | Path | Sequence[str | Path] = (),
) -> Callable[[Callable[..., Awaitable[Any]]], Callable[..., None]]:
    """Try an async test under many schedules. The options are those of :class:`Exploration`.

    The first failure is simplified; the error of the simple run is raised, with the trace and the line that replays it in its
    notes. A parameter named ``sim`` receives the ``Simulation``; other parameters are pytest's fixtures (not async ones, which
    belong to one event loop). `replay_first` names committed failure files (or short forms) to be tried before all else.
    """
    options = Exploration(
        runs=runs,
        strategy=strategy,
        seed=seed,
        timer_races=timer_races,
        threads=threads,
        max_steps=max_steps,
        shrink_attempts=shrink_attempts,
    )
    sources = [replay_first] if isinstance(replay_first, str | Path) else list(replay_first)

    def decorate(function: Callable[..., Awaitable[Any]]) -> Callable[..., None]:
        signature = inspect.signature(function)
        wants_sim = "sim" in signature.parameters

        @functools.wraps(function)
        def explored(*args: Any, **kwargs: Any) -> None:
            __tracebackhide__ = True

            def once(sim: Simulation) -> Awaitable[Any]:
                return function(*args, **kwargs, sim=sim) if wants_sim else function(*args, **kwargs)

            _explore(once, options, sources, _test_name(function))

        kept = [parameter for name, parameter in signature.parameters.items() if name != "sim"]
        explored.__signature__ = signature.replace(parameters=kept, return_annotation=None)  # type: ignore[attr-defined]
        del explored.__wrapped__  # pytest would look through it, and find the parameter `sim` and a coroutine function
        return explored

    return decorate


def _explore(once: TestFunction, options: Exploration, sources: Sequence[str | Path], name: str) -> None:
    __tracebackhide__ = True
    given = overrides.get()
    if given.replay is not None:
        failure = replay(once, given.replay, options, name=name)
    else:
        recorded = (replay(once, Schedule.load(source), options, name=name) for source in sources)
        failure = next(filter(None, recorded), None) or find_failure(once, _overridden(options, given), name=name)
    if failure is None:
        return
    failure.error.add_note(failure.report())
    if given.save_to is not None:
        failure.error.add_note(f"Kept in {failure.save(given.save_to)}; commit it, and name it in explore(replay_first=…).")
    raise failure.error


def _overridden(options: Exploration, given: Overrides) -> Exploration:
    return attrs.evolve(
        options,
        runs=given.runs if given.runs is not None else options.runs,
        seed=given.seed if given.seed is not None else options.seed,
    )


def _test_name(function: Callable[..., Any]) -> str:
    current = os.environ.get("PYTEST_CURRENT_TEST", "")  # pytest's documented way to say which test runs
    return current.rpartition(" ")[0] or f"{function.__module__}.{function.__qualname__}"


# --- one run ----------------------------------------------------------------------------------------------------------


@final
@attrs.frozen
class _Found:
    name: str
    strategy: str
    run: int
    schedule: Schedule
    error: BaseException


def _simulation(plan: Exploration, strategy: Any, seed: int, *, explain: bool = False) -> Simulation:
    return Simulation(
        strategy,
        seed=seed,
        max_steps=plan.max_steps,
        timer_races=plan.timer_races,
        threads=plan.threads,
        explain=explain,
    )


def _error_of(sim: Simulation, function: TestFunction) -> BaseException | None:
    try:
        sim.run(lambda: function(sim))
    except (KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:  # pytest.fail() raises one: the test's failure is what we look for
        if type(error).__name__ in {"Skipped", "Exit"}:
            raise
        return error
    return None


def _simplified(function: TestFunction, plan: Exploration, found: _Found) -> FoundFailure:
    seed, kind = found.schedule.seed, _kind_of(found.error)

    def fails(choices: Sequence[int]) -> bool:
        error = _error_of(_simulation(plan, Replay(choices), seed), function)
        return error is not None and _kind_of(error) == kind

    simple = shrink(found.schedule.choices, fails, attempts=plan.shrink_attempts)
    schedule = Schedule(seed, tuple(simple))
    sim = _simulation(plan, Replay(schedule.choices), seed, explain=True)
    error = _error_of(sim, function)
    return _failure(found, schedule, sim, error if error is not None else found.error)


def _failure(found: _Found, schedule: Schedule, sim: Simulation, error: BaseException) -> FoundFailure:
    return FoundFailure(
        test=found.name,
        error=error,
        schedule=schedule,
        strategy=found.strategy,
        run=found.run,
        choices_found=sum(1 for choice in found.schedule.choices if choice),
        steps=tuple(sim.steps),
        notes=tuple(sim.notes),
    )


def _kind_of(error: BaseException) -> tuple[str, ...]:
    """What has to stay the same while a failure is simplified: the types of its leaves."""
    return tuple(sorted({type(leaf).__qualname__ for leaf in leaves_of(error)}))
