"""What a run ends as, and the errors with which it does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

from actors.errors import NodeFailed, NoOutput, RunCancelled, RunError, RunFailed, StepsExceeded, UnderstudyError
from actors.groups import leaves_of
from actors.store_errors import RunParked
from actors.words import said
from runtime.core.tracebacks import raised_at, trim
from runtime.graphs.records.run_record import RunStatus, Step
from runtime.graphs.reducer.state import RunState
from runtime.graphs.reducer.wording import MOST_SAID, gave_up


@final
class RunEnding:
    """What is known of the end of a run while it still goes on.

    Invariant: the first of output, failure and `reason` decides what the run ends as; only failures gather others of their kind.
    """

    def __init__(self, state: RunState) -> None:
        self._state = state
        self.failures: list[NodeFailed] = []
        self.reason: RunError | None = None
        """Why it is being taken down, when it is neither for the failures nor for the output."""
        self.loss: UnderstudyError | None = None
        """Why nothing more of it can be written down: it ends with this here, no matter what was decided."""

    @property
    def is_decided(self) -> bool:
        """Whether it is known what the run ends as."""
        return self.loss is not None or bool(self.failures) or self.reason is not None or self._state.output is not None

    def outcome(self, trace: Sequence[Step]) -> tuple[RunStatus, Any, UnderstudyError | None]:
        """The status, the output and the error of the run, which is over and has left `trace`."""
        state, reason = self._state, self.reason
        if self.loss is not None:
            return RunStatus.FAILED, None, self.loss
        if self.failures:
            order = {step.path: index for index, step in enumerate(trace)}
            self.failures.sort(key=lambda failure: order.get(failure.path, len(order)))  # not in the order of chance
            nodes = ", ".join(dict.fromkeys(repr(failure.node) for failure in self.failures))
            text = f"run {state.run_id!r} of {state.plan.name!r} failed at {nodes}"
            return RunStatus.FAILED, None, RunFailed(text, self.failures)
        if isinstance(reason, RunParked):
            return RunStatus.PARKED, None, reason
        if reason is not None:
            return RunStatus.CANCELLED if isinstance(reason, RunCancelled) else RunStatus.FAILED, None, reason
        if state.output is not None:
            return RunStatus.SUCCEEDED, state.output, None
        return RunStatus.FAILED, None, NoOutput(state.no_output(), run_id=state.run_id)


def node_failed(run_id: str, step: Step, message: object, error: BaseException, trace: Sequence[Step]) -> NodeFailed:
    """The error of the node that gives up on `message`, recorded as `step`, because of `error`."""
    attempt = max(step.attempt, 1)
    failure = NodeFailed(
        gave_up(step.node, attempt, error, raised_at(error)),
        run_id=run_id,
        node=step.node,
        path=step.path,
        attempt=attempt,
        input=message,
        trace=tuple(trace),
    )
    failure.__cause__ = trim(error)
    for leaf in leaves_of(error):
        if isinstance(leaf, RunError) and not leaf.trace:
            leaf.trace = failure.trace
    return failure


def dependency_failed(run_id: str, node: str, path: str, error: Exception, trace: Sequence[Step]) -> NodeFailed:
    """The error for a context manager that `node` asked for, and that failed outside of any attempt."""
    failure = NodeFailed(
        f"a dependency of node {node!r} failed: {said(error, MOST_SAID)}{raised_at(error)}",
        run_id=run_id,
        node=node,
        path=path,
        trace=tuple(trace),
    )
    failure.__cause__ = trim(error)
    return failure


def too_many_steps(state: RunState, max_steps: float) -> StepsExceeded:
    """The error for a run that has made more than `max_steps` steps."""
    return StepsExceeded(
        f"run {state.run_id!r} of {state.plan.name!r} made more than {max_steps:g} steps.\n"
        "  Cause: most likely a cycle that returns neither None nor the output.\n"
        "  Fix: let the cycle end, or give more with max_steps=….",
        run_id=state.run_id,
    )
