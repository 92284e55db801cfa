"""Every run of these tests has a shadow: a second reducer that is told the same through stored bytes, and must say the same.

With ``EVERY_RUN_STORED`` in the environment every run is also kept in a store: see ``test_every_run_stored.py``. With
``EVERY_RUN_CRASHED`` each graph is run again, without a shadow, and crashes everywhere: see ``test_every_run_crashed.py``.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.runtime.graphs import crashed, placed, stored
from tests.runtime.graphs.shadow import Shadows

UNSHADOWED = {
    "test_steps_of_chains_and_loops_go_the_short_way": "it counts the steps of one reducer",
    "test_a_step_that_goes_the_short_way_takes_few_calls": "it counts the calls of one reducer",
}


@pytest.fixture(autouse=True)
def shadows(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shadows]:
    found, name = Shadows(), request.node.originalname
    if crashed.is_wanted():
        runs = crashed.Crashed(name)
        runs.install(monkeypatch)
        yield found
        monkeypatch.undo()
        runs.crash()
        return
    if placed.is_wanted():
        placed.place_every_node(monkeypatch)
    if name not in UNSHADOWED:
        found.install(monkeypatch)
    if stored.is_wanted():
        if name in stored.OTHERWISE:
            pytest.skip(stored.OTHERWISE[name])
        stored.store_every_run(monkeypatch)
    yield found
    assert not found.differences, found.differences[:5]
