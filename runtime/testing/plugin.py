"""The pytest plugin: fixtures for virtual time and for runtimes with a seed, and the options that repeat a failure.

Loaded through the entry point ``runtime.testing.plugin``; works beside pytest-trio, which runs the async tests, and without it
for ``@explore`` tests, which are plain functions. It imports what it needs when a fixture or an option asks for it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Generator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import trio.testing

    from runtime.app import Runtime

SEED = pytest.StashKey[int]()
USED = pytest.StashKey[int]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """The command-line options."""
    group = parser.getgroup("understudy", "deterministic tests of actors and graphs")
    group.addoption("--understudy-seed", type=int, help="seed of the first explored schedule and of the `runtime` fixture")
    group.addoption("--understudy-runs", type=int, help="schedules to try in each @explore test, instead of what it says")
    group.addoption("--understudy-replay", help="run this one schedule: the word from a failure's report, or its JSON file")
    group.addoption("--understudy-save", type=Path, metavar="DIR", help="write each failure that @explore finds into DIR")


def pytest_configure(config: pytest.Config) -> None:
    """Hand the options to exploration."""
    seed, runs = config.getoption("--understudy-seed"), config.getoption("--understudy-runs")
    word, folder = config.getoption("--understudy-replay"), config.getoption("--understudy-save")
    config.stash[SEED] = seed if seed is not None else 0
    if (seed, runs, word, folder) != (None, None, None, None):
        from runtime.testing.explore import Overrides, overrides  # noqa: PLC0415 - see the module's docstring
        from runtime.testing.failure import Schedule  # noqa: PLC0415 - see the module's docstring

        replay = Schedule.load(word) if word is not None else None
        overrides.set(Overrides(runs=runs, seed=seed, replay=replay, save_to=folder))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run a test on the virtual clock also when it asks for it only through another fixture, which pytest-trio does not see."""
    for item in items:
        if isinstance(item, pytest.Function) and "virtual_clock" in item.fixturenames and item.get_closest_marker("trio"):
            item.add_marker(pytest.mark.trio(run=_runner_of(item)), append=False)


def _runner_of(item: pytest.Function) -> Callable[..., Any]:
    def run(function: Callable[..., Any], *, clock: Any = None, instruments: Any = ()) -> Any:
        import trio  # noqa: PLC0415 - see the module's docstring

        chosen: Any = clock if clock is not None else item.funcargs["virtual_clock"]
        return trio.run(function, clock=chosen, instruments=instruments)

    return run


@pytest.fixture
def understudy_seed(request: pytest.FixtureRequest) -> int:
    """The seed of this test: that of ``--understudy-seed``, or 0. It is shown when the test fails."""
    seed = request.config.stash[SEED]
    request.node.stash[USED] = seed
    return seed


@pytest.fixture
def seeded(understudy_seed: int) -> random.Random:
    """Chance for a test that is the same in every run of the same seed."""
    return random.Random(f"test {understudy_seed}")


@pytest.fixture
def virtual_clock() -> Generator[trio.testing.MockClock]:
    """An autojump clock that holds while a worker thread runs. With pytest-trio, asking for it is enough."""
    import trio.testing  # noqa: PLC0415 - see the module's docstring

    from runtime.testing.virtual_time import thread_gate  # noqa: PLC0415 - see the module's docstring

    with thread_gate():
        yield trio.testing.MockClock(autojump_threshold=0)


@pytest.fixture
def virtual_runtime(
    virtual_clock: trio.testing.MockClock, understudy_seed: int
) -> Callable[..., AbstractAsyncContextManager[Runtime]]:
    """Open runtimes with the test's seed, in virtual time, by ``async with`` and with the options of ``open_runtime``.

    When nothing can run and no deadline is pending, the test fails with a report of who waits for whom.
    """

    def opened(**options: Any) -> AbstractAsyncContextManager[Runtime]:
        from runtime.testing.watchdog import open_watched_runtime  # noqa: PLC0415 - see the module's docstring

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
