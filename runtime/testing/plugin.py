"""The pytest plugin: fixtures for virtual time and for runtimes with a seed, exploration of ordinary async tests, and options.

Loaded through the entry point ``runtime.testing.plugin``; works beside pytest-trio, which runs the async tests, and without it
for ``@explore`` tests, which are plain functions. It imports what it needs when a fixture or an option asks for it.
"""

from __future__ import annotations

import contextlib
import inspect
import random
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from actors.errors import DeclarationError
from runtime.testing.models import checked_scripts

if TYPE_CHECKING:
    import trio.testing

    from actors.graphs.graph import Graph
    from runtime.app import Runtime
    from runtime.testing.schedules.items import ItemPlan

SEED = pytest.StashKey[int]()
USED = pytest.StashKey[int]()
SCRIPTS = pytest.StashKey[list[checked_scripts.CheckedScript]]()
PLAN: pytest.StashKey[ItemPlan] = pytest.StashKey()

OURS = frozenset({"virtual_clock", "virtual_runtime"})
RUNNERS = ("trio", "anyio", "asyncio")
"""Markers of plugins that run async tests."""

MARKERS = {
    "explore(**options)": "run the async test under many schedules, in virtual time, with its fixtures; options as of @explore",
    "not_explored(reason)": "run the async test once, as it is, also where its module or the command line explores",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    """The command-line options."""
    group = parser.getgroup("understudy", "deterministic tests of actors and graphs")
    group.addoption("--understudy-seed", type=int, help="seed of the first explored schedule and of the fixtures")
    group.addoption("--understudy-runs", type=int, help="schedules to try in each explored test, instead of its own number")
    group.addoption("--understudy-explore", type=int, metavar="RUNS", help="explore every async test, under RUNS schedules")
    group.addoption("--understudy-replay", help="run this one schedule: the word from a failure's report, or its JSON file")
    group.addoption("--understudy-journals", type=Path, metavar="DIR", help="also replay each exported run (*.jsonl) in DIR")
    group.addoption("--understudy-record", metavar="MODE", help="what record= does where it has no mode: none, once, new, all")
    group.addoption("--understudy-save", type=Path, metavar="DIR", help="write each failure that is found into DIR")


def pytest_configure(config: pytest.Config) -> None:
    """Hand the options to exploration."""
    for name, what in MARKERS.items():
        config.addinivalue_line("markers", f"{name}: {what}")
    seed, runs = config.getoption("--understudy-seed"), config.getoption("--understudy-runs")
    word, folder = config.getoption("--understudy-replay"), config.getoption("--understudy-save")
    config.stash[SEED] = seed if seed is not None else 0
    mode = config.getoption("--understudy-record")
    if mode is not None:
        from runtime.record.cassettes import DEFAULT_MODE, MODES  # noqa: PLC0415 - see the module's docstring

        if mode not in MODES:
            raise pytest.UsageError(f"--understudy-record={mode}: expected one of {', '.join(MODES)}.")
        DEFAULT_MODE.set(mode)
    if (seed, runs, word, folder, config.getoption("--understudy-explore")) != (None,) * 5:
        from runtime.testing.schedules.failure import Schedule  # noqa: PLC0415 - see the module's docstring
        from runtime.testing.schedules.search import Overrides, overrides  # noqa: PLC0415 - see the module's docstring

        try:
            replay = Schedule.load(word) if word is not None else None
        except DeclarationError as error:
            raise pytest.UsageError(f"--understudy-replay: {error}") from error
        for name, count in (("runs", runs), ("explore", config.getoption("--understudy-explore"))):
            if count is not None and count < 1:
                raise pytest.UsageError(f"--understudy-{name}={count}: expected a whole number >= 1.")
        overrides.set(Overrides(runs=runs, seed=seed, replay=replay, save_to=folder))


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Let a ``conftest.py`` say which graphs there are: ``def pytest_understudy_graphs(): return [letters, bills]``."""
    pluginmanager.add_hookspecs(Hooks)


class Hooks:
    """What a ``conftest.py`` may define for the plugin."""

    @pytest.hookspec
    def pytest_understudy_graphs(self) -> Iterable[Graph[Any, Any]]:  # type: ignore[empty-body]
        """The graphs that the journals in ``--understudy-journals`` are of."""


class JournalItem(pytest.Item):
    """An exported run that must replay."""

    journal: Path

    def runtest(self) -> None:
        """Replay it, in the graph of its name."""
        from runtime.graphs.records.history import History  # noqa: PLC0415 - see the module's docstring
        from runtime.testing.replays import assert_replays  # noqa: PLC0415 - see the module's docstring

        history = History.of_export(self.journal.read_text(encoding="utf-8"))
        graphs = [graph for found in self.config.hook.pytest_understudy_graphs() for graph in found or ()]
        graph = next((graph for graph in graphs if graph.name == history.run.graph), None)
        if graph is None:
            raise DeclarationError(
                f"{self.journal}: no graph {history.run.graph!r} is known here.\n"
                "  Fix: in conftest.py: def pytest_understudy_graphs(): return [graph]."
            )
        assert_replays(history, graph, str(self.journal))

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> str:
        """What is wrong, in words."""
        return str(excinfo.value)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """Where it is."""
        return self.journal, None, f"journal {self.journal.name}"


def _journals(session: pytest.Session) -> Iterator[JournalItem]:
    folder: Path | None = session.config.getoption("--understudy-journals")
    if folder is None:
        return
    if not folder.is_dir():
        raise pytest.UsageError(f"--understudy-journals={folder}: there is no such folder.")
    for path in sorted(folder.glob("*.jsonl")):
        make: Any = JournalItem.from_parent  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType] - pytest's is untyped
        item: JournalItem = make(session, name=f"journal:{path.name}")
        item.journal = path
        yield item


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(session: pytest.Session, items: list[pytest.Item]) -> None:
    """Run pytest-trio's tests as the harness does: on the virtual clock where they ask for it, or explored. Add journals."""
    items.extend(_journals(session))
    marked = [item for item in items if isinstance(item, pytest.Function) and item.get_closest_marker("trio")]
    if not marked:
        return
    import trio  # noqa: PLC0415 - see the module's docstring

    from runtime.testing.schedules.items import plan_of, runner_of  # noqa: PLC0415 - see the module's docstring

    for item in marked:
        chosen = (marker.kwargs.get("run") for marker in item.iter_markers("trio"))
        ordinary = next((run for run in chosen if run is not None), trio.run)
        item.add_marker(pytest.mark.trio(run=runner_of(item, ordinary)), append=False)
        try:
            plan = plan_of(item)
        except (TypeError, DeclarationError) as error:
            raise pytest.UsageError(f"{item.nodeid}: pytest.mark.explore: {error}") from error
        if plan is not None:
            item.stash[PLAN] = plan


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    """Run an explored test as often as it takes, and report it once."""
    plan = item.stash.get(PLAN, None)
    if plan is None:
        return None
    from runtime.testing.schedules.items import run_explored  # noqa: PLC0415 - see the module's docstring

    run_explored(item, nextitem, plan)
    return True


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Collect the scripted language models that the test and its fixtures make."""
    item.stash[SCRIPTS] = checked_scripts.begin()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Fail a test that has passed so far, if a script in it was not followed."""
    __tracebackhide__ = True
    result = yield
    checked_scripts.compare(item.stash[SCRIPTS])
    return result


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> None:
    """Tell what is missing when an async test that needs our fixtures or our marker has no plugin to run it."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj) or any(map(pyfuncitem.get_closest_marker, RUNNERS)):
        return
    needs = OURS.intersection(pyfuncitem.fixturenames) | {mark.name for mark in pyfuncitem.iter_markers("explore")}
    if needs:
        pytest.fail(
            f"{pyfuncitem.name} is async and uses {', '.join(sorted(needs))}, and nothing runs it on trio.\n"
            "  Fix: install pytest-trio and write trio_mode = true into pytest's configuration, or mark it @pytest.mark.trio.",
            pytrace=False,
        )


def pytest_runtest_teardown() -> None:
    """Collect no more."""
    checked_scripts.end()


@pytest.fixture
def understudy_seed(request: pytest.FixtureRequest) -> int:
    """The seed of this test: that of ``--understudy-seed``, or 0. It is shown when the test fails.

    In an explored test, the seed of the present run.
    """
    if PLAN in request.node.stash:
        from runtime.testing.schedules.items import SIMULATION  # noqa: PLC0415 - see the module's docstring

        simulation = request.node.stash.get(SIMULATION, None)
        if simulation is not None:
            return int(simulation.seed)
    seed = request.config.stash[SEED]
    request.node.stash[USED] = seed
    return seed


@pytest.fixture
def seeded(understudy_seed: int) -> random.Random:
    """Chance for a test that is the same in every run of the same seed."""
    return random.Random(f"test {understudy_seed}")


@pytest.fixture
def virtual_clock(request: pytest.FixtureRequest) -> Generator[trio.testing.MockClock]:
    """An autojump clock that holds while a worker thread runs. With pytest-trio, asking for it is enough.

    Unlike pytest-trio's ``autojump_clock``, it also ends a test that can never continue, with a report of who waits for whom.
    """
    import trio.testing  # noqa: PLC0415 - see the module's docstring

    from runtime.testing.schedules.virtual_time import thread_gate  # noqa: PLC0415 - see the module's docstring

    run_by_trio = request.node.get_closest_marker("trio") is not None  # whose run holds it, see `items`
    with contextlib.nullcontext() if run_by_trio else thread_gate():
        yield trio.testing.MockClock(autojump_threshold=0)


@pytest.fixture
def virtual_runtime(
    virtual_clock: trio.testing.MockClock, understudy_seed: int
) -> Callable[..., AbstractAsyncContextManager[Runtime]]:
    """Open runtimes with the test's seed, in virtual time, by ``async with`` and with the options of ``open_runtime``.

    When nothing can run and no deadline is pending, the test fails with a report of who waits for whom.
    """

    def opened(**options: Any) -> AbstractAsyncContextManager[Runtime]:
        from runtime.testing.schedules.deadlock_watch import open_watched_runtime  # noqa: PLC0415 - see the module's docstring

        return open_watched_runtime(virtual_clock, **{"seed": understudy_seed, **options})

    return opened


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the seed of a failed test that used one."""
    report = yield
    seed = item.stash.get(USED, None)
    if report.failed and seed is not None:
        report.sections.append(("understudy", f"seed {seed}; repeat with --understudy-seed={seed}"))
    return report
