"""A store under every run, although its test asks for none: durable runs do whatever runs do."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

from runtime import app
from runtime.graphs.engine import Engine
from runtime.journal.memory import MemoryStore

IS_WANTED = "EVERY_RUN_STORED"
"""The environment variable that wants it."""

_TREE = "the store is one more actor in the tree that it looks at"
OTHERWISE = {
    "test_a_graph_with_problems_is_not_deployed": _TREE,
    "test_two_graphs_of_one_name_live_side_by_side": _TREE,
    "test_deploying_starts_one_instance_per_node_under_one_supervisor": _TREE,
    "test_runs_share_the_actors_of_their_graph": _TREE,
    "test_first_runs_that_begin_at_once_deploy_the_graph_once": _TREE,
    "test_a_missing_default_model_is_reported_at_deployment": _TREE,
    "test_another_instance_starts_only_when_none_is_idle": _TREE,
    "test_an_instance_has_a_name_of_its_own_even_if_a_node_already_has_that_one": _TREE,
    "test_a_node_serves_on_after_a_failure_whatever_its_restart_type": _TREE,
    "test_an_instance_that_is_started_again_by_hand_is_one_of_the_pool_again": _TREE,
    "test_the_name_of_an_instance_that_is_gone_is_left_to_whoever_has_taken_it": _TREE,
    "test_a_graph_may_be_stopped_by_two_at_once": _TREE,
    "test_a_stop_that_is_cancelled_still_stops_the_graph": _TREE,
    "test_runs_that_are_cancelled_and_instances_that_are_stopped_leave_every_mailbox_attended": _TREE,
    "test_run_ids_are_the_callers_if_given_and_unique_while_they_live": "the same id again is the same durable run",
    "test_what_is_not_durable_is_not_stored": "it has runs that are not stored",
    "test_a_result_that_has_no_json_is_an_error_that_says_so": "it has runs that are not stored, which take any result",
    "test_what_cannot_be_resumed_says_why": "it has a runtime that keeps no runs",
    "test_what_cannot_be_forked_says_why": "it has a runtime that keeps no runs",
    "test_a_person_is_asked_in_a_graph_three_deep": "it has runs that are not stored, which do not leave memory",
    "test_a_drain_ends_a_run_that_waits_for_a_person_when_its_grace_is_over": "a stored one waits on, out of memory",
    "test_a_run_that_is_cancelled_at_any_point_does_too": "it counts the steps that only a run without a store takes",
    "test_each_node_gets_the_model_that_it_names_or_brings_or_the_default": "its message contradicts its annotation",
}
"""Tests that say something else of runs that are stored, by name, with the reason."""


def store_every_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Open each runtime with a store in memory, and give each run the id that it would have without one."""
    prepare: Callable[..., Any] = app._prepare
    engine: Any = Engine
    run, start, stream = engine.run, engine.start, engine.stream

    async def prepared(runtime: Any, models: Any, *, warm_up: bool) -> None:
        if runtime._engine._durable is None:
            await app._keep(runtime, runtime._engine, runtime._scheduler, MemoryStore(), None, None, take_up=True)
        await prepare(runtime, models, warm_up=warm_up)

    def named(self: Any, graph: Any, run_id: str | None) -> str | None:
        return self._active.new_id(graph, None) if run_id is None and hasattr(graph, "name") else run_id

    async def run_stored(self: Any, graph: Any, message: object, max_steps: float, run_id: str | None = None, **more: Any) -> Any:
        if more:  # a conversation's, which are not stored
            return await run(self, graph, message, max_steps, run_id, **more)
        return await run(self, graph, message, max_steps, named(self, graph, run_id))

    async def start_stored(self: Any, graph: Any, message: object, run_id: str | None, max_steps: float, **more: Any) -> Any:
        return await start(self, graph, message, named(self, graph, run_id), max_steps, **more)

    def stream_stored(
        self: Any, graph: Any, message: object, max_steps: float, buffer: int, run_id: str | None = None, **more: Any
    ) -> Any:
        return stream(self, graph, message, max_steps, buffer, run_id if more else named(self, graph, run_id), **more)

    monkeypatch.setattr(app, "_prepare", prepared)
    monkeypatch.setattr(Engine, "run", run_stored)
    monkeypatch.setattr(Engine, "start", start_stored)
    monkeypatch.setattr(Engine, "stream", stream_stored)


def is_wanted() -> bool:
    """Whether this run of the suite is to store every run."""
    return bool(os.environ.get(IS_WANTED))
