"""How a node that sleeps lets its run leave memory: it begins again when the time has come."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import final

import trio

from actors.errors import UsageError
from actors.graphs.annotations import Many
from actors.graphs.effects import Effect
from actors.graphs.node import NodeSpec
from runtime.graphs.runs.pulse import Pulse
from runtime.graphs.runs.run import ActiveDelivery


@final
class Leaving:
    """For one attempt of a durable run. To be made in the task that works on it."""

    def __init__(self, active: ActiveDelivery, pulse: Pulse) -> None:
        """For the attempt at `active` that has this `pulse`."""
        self._active = active
        self._pulse = pulse
        self._task = trio.lowlevel.current_task()
        self._nurseries = len(self._task.child_nurseries)

    @contextmanager
    def until(self, left_s: float) -> Generator[None]:
        """For the time of the block, which ends in `left_s` seconds, nothing of the attempt keeps its run in memory.

        Without effect where the attempt does something else besides, or is to give the sleep up sooner: by a time limit of the
        node's own code, which would begin again with the node.

        Raises:
            UsageError: the node cannot begin again.
        """
        run, path = self._active.run, self._active.delivery.path
        self._check(run.state.plan.nodes[self._active.node])
        if not self._is_all(left_s):
            yield
            return
        run.sleeping[path] = run.wall_time().timestamp() + left_s
        run.rests()
        try:
            yield
        finally:
            run.sleeping.pop(path, None)

    def _check(self, spec: NodeSpec) -> None:
        is_stream = spec.fan_out is Many.STREAM and not spec.options.repeatable
        if not is_stream and spec.options.effect is not Effect.ONCE:
            return
        why = "it is an async generator whose items need not be the same again" if is_stream else "it may run once only"
        raise UsageError(
            f"run.sleep(…, begin_again=True) in node {spec.name!r}, which cannot begin again: {why}.\n"
            "  Fix: leave begin_again out, and the run stays in memory; or sleep in a node before it."
        )

    def _is_all(self, left_s: float) -> bool:
        """Whether nothing but the sleep is left of the attempt."""
        task, limit = trio.lowlevel.current_task(), self._pulse.limit
        if task is not self._task or len(task.child_nurseries) > self._nurseries:
            return False
        ends_s = trio.current_effective_deadline()
        return ends_s >= trio.current_time() + left_s or (limit is not None and ends_s >= limit.deadline)
