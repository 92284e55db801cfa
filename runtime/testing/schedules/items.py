"""Ordinary async tests under chosen schedules: the same pytest item run again and again, with its fixtures.

A test is explored where ``@pytest.mark.explore(…)`` or ``--understudy-explore`` says so and pytest-trio runs it. Every round is a
whole one (setup, call, teardown), so fixtures are as fresh as in a first run; async fixtures are in the simulated run itself.
Only the last round is reported: one test, one result.
"""

from __future__ import annotations

import bdb
import copy
import subprocess
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Literal, cast, final

import attrs
import pytest

from actors.errors import DeclarationError
from runtime.testing.schedules.deadlock_watch import run_watched
from runtime.testing.schedules.failure import FoundFailure, Schedule
from runtime.testing.schedules.search import Exploration, overrides, raise_if_interrupted, searched
from runtime.testing.schedules.simulation import Deadlock, Livelock, Simulation

SIMULATION = pytest.StashKey[Simulation]()
"""On an item: what it runs under at this moment."""

When = Literal["setup", "call", "teardown"]
Phase = tuple[pytest.CallInfo[None], pytest.TestReport]


@final
@attrs.frozen
class ItemPlan:
    """How one item is explored."""

    exploration: Exploration
    sources: tuple[str | Path, ...] = ()
    """Committed failures, tried before all else."""


def plan_of(item: pytest.Item) -> ItemPlan | None:
    """How `item` is explored; None when it is not.

    Raises:
        DeclarationError, TypeError: its marker has an option that an ``Exploration`` does not know.
    """
    marker, runs = item.get_closest_marker("explore"), item.config.getoption("--understudy-explore")
    asked_for = marker is not None or runs is not None or overrides.get().replay is not None
    if not asked_for or not _can_be_explored(item):
        return None
    options: dict[str, Any] = dict(marker.kwargs) if marker is not None else {}
    given: str | Path | Sequence[str | Path] = options.pop("replay_first", ())
    if runs is not None:
        options["runs"] = runs
    if options.get("crashes"):
        raise DeclarationError(
            f"{item.nodeid}: pytest.mark.explore(crashes={options['crashes']!r}): only @explore() leads lives.\n"
            "  Fix: @explore(crashes=1), and a parameter named sim: await sim.lives(life)."
        )
    sources = (given,) if isinstance(given, str | Path) else tuple(given)
    for source in sources:
        Schedule.load(source, item.path)  # an error in it is reported before anything runs
    return ItemPlan(Exploration(**options), sources)


def _can_be_explored(item: pytest.Item) -> bool:
    return (
        isinstance(item, pytest.Function)
        and item.get_closest_marker("trio") is not None
        and item.get_closest_marker("not_explored") is None
        and item.get_closest_marker("xfail") is None  # a schedule in which it passes isn't news
        and not hasattr(item.obj, "hypothesis")  # which runs it itself
        and not any(item.config.getoption(name, False) for name in ("setuponly", "setupshow", "setupplan"))
    )


# --- in pytest-trio's place -------------------------------------------------------------------------------------------


def runner_of(item: pytest.Item, ordinary: Callable[..., Any]) -> Callable[..., Any]:
    """What pytest-trio calls instead of `ordinary`, which is ``trio.run`` as a rule."""

    def run(function: Callable[..., Any], *, clock: Any = None, instruments: Any = ()) -> Any:
        __tracebackhide__ = True
        ours = cast("Any", item).funcargs.get("virtual_clock")
        if clock is None:
            clock = ours  # only another fixture asks for it, which pytest-trio does not see
        simulation = item.stash.get(SIMULATION, None)
        if simulation is not None:
            try:
                return simulation.run(function, clock=clock, instruments=instruments)
            except (Deadlock, Livelock) as finding:
                raise finding from None  # pytest-trio's errors about fixtures that were cancelled for it would hide it
            except BaseExceptionGroup as group:
                raise_if_interrupted(group)
                raise
        if ours is None or clock is not ours:
            return ordinary(function, clock=clock, instruments=instruments)

        return run_watched(ordinary, ours, function, instruments=instruments)

    return run


# --- rounds -----------------------------------------------------------------------------------------------------------


@final
class _Over(Exception):
    """A round whose outcome no schedule decides."""


@final
class _Rounds:
    """Runs an item as often as it takes, and keeps what there is to report."""

    def __init__(self, item: pytest.Item, nextitem: pytest.Item | None, runs: int) -> None:
        self._item = item
        self._nextitem = nextitem
        self._runs = runs
        self._count = 0
        self._duration_s = 0.0
        self.latest: list[Phase] = []
        self._parameters: dict[str, Any] = {}
        self.failed: list[Phase] = []
        """The first that failed."""

    def __call__(self, sim: Simulation) -> BaseException | None:
        """One round under `sim`.

        Raises:
            _Over: it was skipped, its setup failed, or it left the process.
        """
        self._count += 1
        self._item.stash[SIMULATION] = sim
        # Fixtures of the module, the class and the session stay in place while rounds are to come.
        stay = self._count < self._runs and not sim.explains
        try:
            with _noticing_processes() as started:
                self.latest = self._round(cast("pytest.Item", self._item.parent) if stay else self._nextitem)
        finally:
            del self._item.stash[SIMULATION]
        if started:
            self.latest = self._round(self._nextitem)
            raise _Over
        return self._error()

    def _error(self) -> BaseException | None:
        for call, report in self.latest:
            if report.skipped or (report.failed and call.when == "setup"):
                raise _Over
            if report.failed and call.excinfo is not None:
                self.failed = self.failed or self.latest
                return call.excinfo.value
        return None

    def _round(self, nextitem: pytest.Item | None) -> list[Phase]:
        item: Any = self._item
        if not item._request:
            item._initrequest()  # as for pytest-rerunfailures
        item._report_sections.clear()  # what an earlier round has printed
        self._renew_parameters()
        try:
            phases = [self._phase("setup")]
            if phases[0][1].passed:
                phases.append(self._phase("call"))
                phases[-1][1].duration = self._duration_s = self._duration_s + phases[-1][1].duration
            phases.append(self._phase("teardown", nextitem=nextitem))
        finally:
            item._request, item.funcargs = False, None
        return phases

    def _renew_parameters(self) -> None:
        """Every round gets the parameters as they were written: what one round appends to a list is not the next one's."""
        callspec: Any = getattr(self._item, "callspec", None)
        if callspec is None:
            return
        if self._count == 1:
            self._parameters = dict(callspec.params)
        callspec.params.update({name: _fresh(value) for name, value in self._parameters.items()})

    def _phase(self, when: When, **options: Any) -> Phase:
        hooks = self._item.ihook
        hook = {"setup": hooks.pytest_runtest_setup, "call": hooks.pytest_runtest_call, "teardown": hooks.pytest_runtest_teardown}
        run: Callable[[], None] = partial(hook[when], item=self._item, **options)
        from_call: Callable[..., pytest.CallInfo[None]] = pytest.CallInfo.from_call
        call = from_call(run, when=when, reraise=(KeyboardInterrupt, pytest.exit.Exception))
        return call, hooks.pytest_runtest_makereport(item=self._item, call=call)


_CONTAINERS: tuple[type, ...] = (list, dict, set, bytearray, deque)


def _fresh(value: Any) -> Any:
    """A copy of a container, with all that is in it. What else there is may be known by its identity, and stays itself."""
    if not isinstance(value, _CONTAINERS):
        return value
    try:
        return copy.deepcopy(value)
    except Exception:  # noqa: BLE001 - something in it cannot be copied; a difference is reported as not the schedule's
        return value


@contextmanager
def _noticing_processes() -> Generator[list[object]]:
    """The commands of the processes that are started while the block runs: no schedule controls what they do."""
    started: list[object] = []
    former = subprocess.Popen.__init__

    def begin(self: Any, args: Any, *rest: Any, **options: Any) -> None:
        started.append(args)
        former(self, args, *rest, **options)

    subprocess.Popen.__init__ = begin  # type: ignore[method-assign]
    try:
        yield started
    finally:
        subprocess.Popen.__init__ = former  # type: ignore[method-assign]


# --- the protocol -----------------------------------------------------------------------------------------------------


def run_explored(item: pytest.Item, nextitem: pytest.Item | None, plan: ItemPlan) -> None:
    """Run `item` by `plan` and report it once."""
    hooks = item.ihook
    hooks.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    runs = overrides.get().runs
    rounds = _Rounds(item, nextitem, runs if runs is not None else plan.exploration.runs)
    failure = None
    with suppress(_Over):
        failure = searched(rounds, plan.exploration, plan.sources, name=item.nodeid, file=item.path)
    repeats = failure is not None and failure.repeats
    phases = rounds.latest if repeats or not rounds.failed else rounds.failed
    if failure is not None and not any(report.failed for _, report in phases):  # a replay that passed, and tested nothing
        _fail(phases, failure)
        failure = None
    for call, report in phases:
        if failure is not None and report.failed:
            _explain(report, failure)
            failure = None
        hooks.pytest_runtest_logreport(report=report)
        if _is_for_a_debugger(call, report):
            hooks.pytest_exception_interact(node=item, call=call, report=report)
    hooks.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)


def _fail(phases: Sequence[Phase], failure: FoundFailure) -> None:
    for call, report in phases:
        if call.when == "call":
            report.outcome, report.longrepr = "failed", f"{type(failure.error).__name__}: {failure.error}"


def _explain(report: pytest.TestReport, failure: FoundFailure) -> None:
    text, folder = failure.report(), overrides.get().save_to
    if folder is not None:
        text += f"\nKept in {failure.save(folder)}; commit it, and name it in pytest.mark.explore(replay_first=…)."
    add = getattr(report.longrepr, "addsection", None)  # is shown for any value of --show-capture
    if add is not None:
        add("explored", text)
    else:
        report.sections.append(("explored", text))


def _is_for_a_debugger(call: pytest.CallInfo[None], report: pytest.TestReport) -> bool:
    if call.excinfo is None or report.outcome != "failed":
        return False
    return not isinstance(call.excinfo.value, pytest.skip.Exception | bdb.BdbQuit)
