"""What the nodes of one run depend on: functions called once per run, context managers kept open until the run is over.

A context manager is entered and left by its own task, since it may hold a nursery or a cancel scope. Those tasks live in
the nursery of :class:`Contexts`, an actor beside the graphs; a run is over only when all of its own tasks there have ended.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Protocol, final

import attrs
import outcome
import trio

from actors.actor import Actor
from actors.errors import DepError, InternalError, UsageError
from actors.graphs.dependencies import Dependency, Supply
from actors.groups import leaves_of
from actors.restarts import is_worth_another_attempt
from actors.words import repr_of, said
from runtime.core.foreign_errors import failure_in
from runtime.core.worker_threads import run_in_thread
from runtime.graphs.reducer.wording import MOST_SAID

CLOSE_CONTEXT_S = 5.0
"""How long the clean-up of a context manager may take at the end of its run."""


class ContextFailed(Exception):
    """A context manager ended before its run, or could not be left; the cause, if any, is chained."""


@final
class Contexts:
    """Where the context managers of all runs are kept open."""

    def __init__(self) -> None:
        self.nursery: trio.Nursery | None = None
        """Set while the actor :class:`ContextKeeper` runs."""


@final
class ContextKeeper(Actor):
    """Owns the nursery of the tasks that hold context managers. It takes no messages."""

    def __init__(self, contexts: Contexts) -> None:
        self._contexts = contexts

    @contextlib.asynccontextmanager
    async def lifespan(self) -> AsyncGenerator[None]:
        """Open the nursery; what still runs in it at the end is cancelled and waited for."""
        async with trio.open_nursery() as nursery:
            self._contexts.nursery = nursery
            try:
                yield
            finally:
                self._contexts.nursery = None
                nursery.cancel_scope.cancel()

    async def receive(self, message: object) -> None:
        """Reject it."""
        raise UsageError(f"this actor takes no messages. Got: {repr_of(message)}.\n  Fix: send it to another actor.")


class Owner(Protocol):
    """The run that dependencies belong to."""

    @property
    def id(self) -> str:
        """Its id."""
        ...

    def context_failed(self, node: str, path: str, error: Exception) -> None:
        """A context manager that `node` asked for failed while it was kept, or when it was left."""
        ...

    def context_cancelled(self, node: str, path: str, error: Exception) -> None:
        """A context manager that `node` asked for was closed from outside while the run went on."""
        ...

    def contexts_closed(self) -> None:
        """The last context manager has ended."""
        ...


@final
@attrs.define(eq=False)
class _Slot:
    """One dependency of one run."""

    lock: trio.Lock = attrs.field(factory=trio.Lock)
    """Held by the task that computes it; the next one that waits takes over when that task is cancelled."""
    is_done: bool = False
    value: Any = None
    failures: int = 0
    failed: _Failed | None = None


@final
@attrs.define(eq=False)
class _Held:
    """One context manager that is open."""

    closing: trio.Event = attrs.field(factory=trio.Event)


@final
class _Failed(Exception):
    """A dependency raised; carried to the node that needs it, directly or through others."""

    def __init__(self, dependency: Dependency, error: BaseException) -> None:
        super().__init__(dependency.name)
        self.dependency = dependency
        self.error = error


RunNode = Callable[[str, "RunDependencies"], Awaitable[Any]]
"""Runs a node of the graph, by its name; what it depends on itself comes from the same values."""


@final
class RunDependencies:
    """The values of one run, each computed once."""

    def __init__(self, run: Owner, message: object, contexts: Contexts, run_node: RunNode) -> None:
        self._run = run
        self.input = message
        """The message that the run began with."""
        self._contexts = contexts
        self._run_node = run_node
        self._lender: RunDependencies | None = None
        self._slots: dict[Callable[..., Any], _Slot] = {}
        self._open: list[_Held] = []
        self._is_closing = False

    @classmethod
    def borrowed(cls, lender: RunDependencies) -> RunDependencies:
        """For a run within the lender's: the same values, whose context managers stay open when that run is over."""
        made = cls(lender._run, lender.input, lender._contexts, lender._run_node)
        made._lender = lender
        return made

    @property
    def owner(self) -> RunDependencies:
        """Whose values they are: its own, or its lender's."""
        return self if self._lender is None else self._lender.owner

    async def resolve(self, needs: Mapping[str, Dependency], *, node: str, path: str) -> dict[str, Any]:
        """The value of each parameter; independent ones are computed concurrently, and one that fails cancels the others.

        Raises:
            DepError: a function failed; its cause is what it raised. Several that fail in one instant come as a group.
        """
        if self._lender is not None:
            return await self._lender.resolve(needs, node=node, path=path)
        errors: list[DepError] = []
        values: dict[str, Any] = {}
        try:
            values = await self._all(needs, node, path)
        except* _Failed as group:
            errors += [self._error(needs, leaf, node) for leaf in leaves_of(group) if isinstance(leaf, _Failed)]
        if not errors:
            return values
        if len(errors) == 1:
            raise errors[0]
        raise ExceptionGroup(f"dependencies of node {node!r} failed", errors)

    def _error(self, needs: Mapping[str, Dependency], failed: _Failed, node: str) -> DepError:
        guilty = failed.dependency
        parameter = next(
            (name for name, need in needs.items() if any(each.function is guilty.function for each in need.all())), ""
        )
        error = DepError(
            f"node {node!r} could not get {parameter!r}: its dependency {guilty.name} ({guilty.location}) failed: "
            f"{said(failed.error, MOST_SAID)}\n"
            f"  Fix: correct {guilty.name}, or catch the error in it and return a value that stands in.",
            run_id=self._run.id,
            node=node,
            parameter=parameter,
        )
        error.retryable = is_worth_another_attempt(failed.error)
        error.__cause__ = failed.error
        return error

    async def _all(self, needs: Mapping[str, Dependency], node: str, path: str) -> dict[str, Any]:
        values: dict[str, Any] = {}

        async def one(name: str, dependency: Dependency) -> None:
            values[name] = await self._get(dependency, node, path)

        async with trio.open_nursery() as nursery:
            for name, dependency in needs.items():
                nursery.start_soon(one, name, dependency)
        return {name: values[name] for name in needs}

    async def _get(self, dependency: Dependency, node: str, path: str) -> Any:
        slot = self._slots.setdefault(dependency.function, _Slot())
        failures = slot.failures
        async with slot.lock:
            if slot.failures > failures and slot.failed is not None:  # it failed while this task waited for it
                raise slot.failed.with_traceback(None)
            if not slot.is_done:
                await self._work_out(slot, dependency, node, path)
        return slot.value

    async def _work_out(self, slot: _Slot, dependency: Dependency, node: str, path: str) -> None:
        arguments = await self._all(dependency.needs, node, path) if dependency.needs else {}
        arguments.update(dict.fromkeys(dependency.inputs, self.input))
        try:
            slot.value = await self._call(dependency, arguments, node, path)
        except BaseException as error:
            failure = failure_in(error)
            if failure is None:
                raise
            slot.failures += 1
            slot.failed = _Failed(dependency, failure)
            raise slot.failed from failure
        slot.is_done, slot.failed = True, None

    async def _call(self, dependency: Dependency, arguments: Mapping[str, Any], node: str, path: str) -> Any:
        if dependency.node is not None:
            return await self._run_node(dependency.node, self)
        call = partial(dependency.call, **arguments)
        if dependency.supply is Supply.ASYNC:
            return await call()
        if dependency.supply is Supply.THREAD:
            return await run_in_thread(call)
        if self._contexts.nursery is None:
            raise InternalError(f"the context manager {dependency.name} has no task to be held by")
        entered: outcome.Outcome[Any] = await self._contexts.nursery.start(self._hold, call, dependency, node, path)
        return entered.unwrap()

    # --- context managers -----------------------------------------------------------------------------------------------

    async def _hold(
        self,
        make: Callable[[], contextlib.AbstractAsyncContextManager[Any]],
        dependency: Dependency,
        node: str,
        path: str,
        *,
        task_status: trio.TaskStatus[Any],
    ) -> None:
        """Enter a context manager and leave it when the run is over, or when this task is cancelled."""
        held = _Held()
        has_begun = False
        failure: ContextFailed | None = None
        # The scope is the outermost, so those which the context manager itself opens lie within it.
        with trio.CancelScope() as limit:
            try:
                async with make() as value:
                    task_status.started(outcome.Value(value))
                    has_begun = True
                    self._open.append(held)
                    try:
                        await held.closing.wait()
                    finally:
                        limit.deadline = trio.current_time() + CLOSE_CONTEXT_S
                        limit.shield = True
            except BaseException as error:
                raised = failure_in(error)
                if raised is None:
                    raise
                if not has_begun:  # not raised here, where trio itself would put it into text
                    task_status.started(outcome.Error(raised))
                    return
                when = "when it was left" if held.closing.is_set() else "while the run went on"
                failure = ContextFailed(
                    f"context manager {dependency.name} ({dependency.location}) failed {when}: {repr_of(raised)}"
                )
                failure.__cause__ = raised
            finally:
                if has_begun and failure is None and limit.cancel_called:
                    failure = ContextFailed(
                        f"context manager {dependency.name} ({dependency.location}) was not left within {CLOSE_CONTEXT_S:g} s."
                    )
                if has_begun:
                    self._ended(held, failure, node, path)

    def _ended(self, held: _Held, failure: ContextFailed | None, node: str, path: str) -> None:
        self._open.remove(held)
        if failure is not None:
            self._run.context_failed(node, path, failure)
        elif not held.closing.is_set():
            self._run.context_cancelled(node, path, ContextFailed("a context manager was closed before its run was over"))
        if self._is_closing and self.close():
            self._run.contexts_closed()

    def close(self) -> bool:
        """Leave the context managers one by one, the last one entered first; True when none is open any more.

        Those that were borrowed are their lender's to leave.
        """
        if self._open:
            self._is_closing = True
            self._open[-1].closing.set()
        return not self._open
