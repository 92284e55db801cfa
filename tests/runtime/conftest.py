from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest

from tests.runtime import placed_actors

HERE = Path(__file__).parent
EXPLORED = (HERE, HERE / "core", HERE / "graphs")
"""Folders whose async tests run under several schedules: these in each run of the suite, many more under ``make explore``."""
SCHEDULES = 3


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent in EXPLORED and inspect.iscoroutinefunction(getattr(item, "obj", None)):
            # They assert exact times, which a slow machine would not keep.
            item.add_marker(pytest.mark.explore(runs=SCHEDULES, timer_races=0))


@pytest.fixture
def log() -> list[Any]:
    """What the actors of ``tests.runtime.cast`` note, as (time, text)."""
    return []


@pytest.fixture(autouse=placed_actors.is_wanted())
def every_actor_placed(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With ``EVERY_ACTOR_PLACED`` in the environment; see ``test_every_actor_placed.py``."""
    why = placed_actors.OTHERWISE.get(request.node.originalname)
    if why is not None:
        pytest.skip(why)
    placed_actors.place_every_actor(monkeypatch)
