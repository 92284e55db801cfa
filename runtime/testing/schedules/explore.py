"""Exploration: the same test under many schedules, until one fails; that one made simple, told as a trace, and kept.

``@explore()`` turns an async test into a plain one, which pytest runs without any plugin. Each run has its own event loop, its
own seed and its own strategy; see ``strategies`` for what is tried and ``schedule`` for how it is enforced.
"""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from actors.errors import UsageError
from runtime.graphs.records.history import History
from runtime.testing.cases.exploring import CaseRun
from runtime.testing.models.checked_scripts import followed_scripts
from runtime.testing.schedules.failure import FoundFailure, Schedule
from runtime.testing.schedules.search import (
    RUNS,
    SHRINK_ATTEMPTS,
    Attempt,
    Exploration,
    first_failure,
    overridden,
    overrides,
    raise_if_interrupted,
    repeated,
    searched,
)
from runtime.testing.schedules.simulation import MAX_STEPS, Simulation
from runtime.testing.schedules.strategies import StrategyMaker

TestFunction = Callable[[Simulation], Awaitable[Any]]


def find_failure(function: TestFunction, exploration: Exploration | None = None, *, name: str = "") -> FoundFailure | None:
    """Run `function` under one schedule after the other; the first failure, simplified, or None.

    What isn't a failure passes: ``KeyboardInterrupt``, and pytest's skip and exit.
    """
    return first_failure(_attempt(function), exploration if exploration is not None else Exploration(), name=name)


def replay(
    function: TestFunction, schedule: Schedule, exploration: Exploration | None = None, *, name: str = ""
) -> FoundFailure | None:
    """Run `function` once under a recorded schedule; its failure, or None when it passes."""
    return repeated(_attempt(function), schedule, exploration if exploration is not None else Exploration(), name=name)


def explore(
    *,
    runs: int = RUNS,
    strategy: str | StrategyMaker = "portfolio",
    seed: int = 0,
    timer_races: float | None = None,
    threads: str = "hold",
    max_steps: int = MAX_STEPS,
    shrink_attempts: int = SHRINK_ATTEMPTS,
    crashes: int = 0,
    replay_first: str | Path | Sequence[str | Path] = (),
    start: str | Path | History | None = None,
) -> Callable[[Callable[..., Awaitable[Any]]], Callable[..., None]]:
    """Try an async test under many schedules. The options are those of :class:`Exploration`.

    The first failure is simplified; the error of the simple run is raised, with the trace and the line that replays it in its
    notes. A parameter named ``sim`` receives the ``Simulation``; other parameters are pytest's fixtures (not async ones, which
    belong to one event loop). `replay_first` names committed failure files (or short forms) to be tried before all else; relative
    paths from the directory of the test, from one above it, or from the current one.

    `start` is a case, or the path of one: a recorded run, around which is explored. A parameter named ``case`` receives it, to be
    run with ``await case.run(graph)``. In the first run everything comes and ends as it is recorded, in all others the recorded
    answers come sooner or later by chance, and the schedule decides what is first.

    Raises:
        DeclarationError: an option is wrong. UsageError: what is decorated isn't an async function; or it is to crash, and leads
            no lives.
    """
    options = Exploration(
        runs=runs,
        strategy=strategy,
        seed=seed,
        timer_races=timer_races,
        threads=threads,
        max_steps=max_steps,
        shrink_attempts=shrink_attempts,
        crashes=crashes,
    )
    sources = [replay_first] if isinstance(replay_first, str | Path) else list(replay_first)

    def decorate(function: Callable[..., Awaitable[Any]]) -> Callable[..., None]:
        if not inspect.iscoroutinefunction(function):
            raise UsageError(
                f"@explore() takes an async function, and {function!r} isn't one.\n  Fix: async def, or no @explore()."
            )
        signature = inspect.signature(function)
        wants_sim = "sim" in signature.parameters
        history = start if isinstance(start, History) or start is None else _case(start, function)
        if (history is None) == ("case" in signature.parameters):
            raise UsageError(
                f"@explore(start=…) and the parameter `case` of {function.__qualname__}() go together, and one is missing.\n"
                "  Fix: @explore(start='case.jsonl'), and async def test(case): await case.run(graph)."
            )

        @functools.wraps(function)
        def explored(*args: Any, **kwargs: Any) -> None:
            __tracebackhide__ = True

            def once(sim: Simulation) -> Awaitable[Any]:
                more: dict[str, Any] = {"sim": sim} if wants_sim else {}
                if history is not None:
                    is_first = sim.seed == overridden(options).seed
                    more["case"] = CaseRun(history, None if is_first else sim.rng, sim.open_runtime)
                return function(*args, **kwargs, **more)

            _explore(once, options, sources, function)

        kept = [parameter for name, parameter in signature.parameters.items() if name not in ("sim", "case")]
        explored.__signature__ = signature.replace(parameters=kept, return_annotation=None)  # type: ignore[attr-defined]
        del explored.__wrapped__  # pytest would look through it, and find the parameter `sim` and a coroutine function
        return explored

    return decorate


def _case(path: str | Path, function: Callable[..., Any]) -> History:
    """The case in a file; a relative path is looked for beside the test, above that, and from here."""
    beside = Path(function.__code__.co_filename).parent if inspect.isfunction(function) else Path()
    found = next((each for each in (beside / path, beside.parent / path, Path(path)) if each.is_file()), None)
    if found is None:
        raise UsageError(
            f"@explore(start={str(path)!r}): there is no such file.\n"
            "  Fix: understudy trace capture RUN --store STORE > case.jsonl, beside the test."
        )
    return History.of_export(found.read_text(encoding="utf-8"))


def _explore(once: TestFunction, options: Exploration, sources: Sequence[str | Path], function: Callable[..., Any]) -> None:
    __tracebackhide__ = True
    file = Path(function.__code__.co_filename) if inspect.isfunction(function) else None
    failure = searched(_attempt(once), options, sources, name=_test_name(function), file=file)
    if failure is None:
        return
    failure.error.add_note(failure.report())
    given = overrides.get()
    if given.save_to is not None:
        failure.error.add_note(f"Kept in {failure.save(given.save_to)}; commit it, and name it in explore(replay_first=…).")
    raise failure.error


def _test_name(function: Callable[..., Any]) -> str:
    current = os.environ.get("PYTEST_CURRENT_TEST", "")  # pytest's documented way to say which test runs
    return current.rpartition(" ")[0] or f"{function.__module__}.{function.__qualname__}"


def _attempt(function: TestFunction) -> Attempt:
    def attempt(sim: Simulation) -> BaseException | None:
        __tracebackhide__ = True
        try:
            with followed_scripts():
                sim.run(lambda: function(sim))
        except (KeyboardInterrupt, SystemExit, GeneratorExit):
            raise
        except BaseException as error:  # pytest.fail() raises one: the test's failure is what we look for
            raise_if_interrupted(error)
            if type(error).__name__ in {"Skipped", "Exit"}:
                raise
            return error
        return None

    return attempt
