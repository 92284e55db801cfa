"""The runs of a runtime: graphs are deployed, run, streamed and talked with."""

from __future__ import annotations

import contextlib
import math
from collections.abc import AsyncGenerator, Mapping
from typing import Any

import trio

from actors.errors import UnderstudyError
from actors.graphs.conversations import Policy, TooLong
from actors.graphs.graph import Graph
from actors.graphs.tool_lists import Tools
from actors.graphs.toolboxes import Toolbox
from actors.lm import LM
from actors.typevars import In, Out
from runtime.core.events import DEFAULT_BUFFER, EventStream
from runtime.core.tracebacks import without_frames
from runtime.graphs.conversations.compacting import Compact
from runtime.graphs.conversations.conversations import Conversation
from runtime.graphs.conversations.open_talks import IDLE_S, KEEP
from runtime.graphs.deployment import Deployment
from runtime.graphs.handle import RunHandle
from runtime.graphs.records.labels import labelled
from runtime.graphs.records.run_events import AnyRunEvent
from runtime.graphs.runs.run import ActiveRun
from runtime.lm.limits.budget import Budget
from runtime.lm.predictors.loaded_predictors import PredictorStatistics
from runtime.lm.warming import warm_up as warm_up_libraries
from runtime.parts.part import RuntimeParts


class RuntimeRuns(RuntimeParts):
    """Runs of graphs, and the language models that they use."""

    async def run(
        self,
        graph: Graph[In, Out],
        message: In,
        *,
        max_steps: float = math.inf,
        budget: Budget | None = None,
        run_id: str | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> Out:
        """Run `graph` on `message` and return its output; deploys the graph first if need be.

        However it ends, no task of the run is left afterwards; cancelling the call cancels the run. Deadlines are the
        caller's: ``with trio.fail_after(10)``.

        Args:
            graph: the graph; it is checked when it is deployed.
            message: an instance of the graph's input type.
            max_steps: how many messages may be delivered to nodes before the run is given up.
            budget: what the language models of the run may use, besides what their clients and the runtime allow. A run that one
                of its nodes starts is charged to it too.
            run_id: names the run; with a store, the run is then kept in it, and cancelling the call cancels it there, too.
            labels: what its events say of it beside its id: at most 16 short texts by name. A run that one of its nodes starts
                has them too, unless it is given its own.

        Raises:
            RunFailed: nodes failed permanently; a group whose leaves are ``NodeFailed``.
            NoOutput: the run came to rest without output. StepsExceeded: more than `max_steps`.
            GraphInvalid: the graph has problems. DeclarationError: `message` is of a wrong type, or a language model is missing.
        """
        try:
            with self._charging(budget), labelled(labels):
                output: Out = await self._engine.run(graph, message, max_steps, run_id)
        except UnderstudyError as error:
            raise without_frames(error)  # noqa: B904 - the same error
        return output

    async def start(
        self,
        graph: Graph[In, Out],
        message: In,
        run_id: str | None = None,
        *,
        max_steps: float = math.inf,
        budget: Budget | None = None,
        deadline_s: float | None = None,
        durable: bool = True,
        here: bool = True,
        labels: Mapping[str, str] | None = None,
    ) -> RunHandle[Out]:
        """Start a run and return its handle once its first messages have found room; it goes on without the caller.

        With a store, the run is stored before this returns, and goes on in another runtime if this one ends. The same `run_id`,
        graph and message then give the handle of that run, no matter what has become of it.

        Args:
            graph: what to run.
            message: its input.
            run_id: names the run, and must not be that of another run that is in progress or in the store; None makes one.
            max_steps: how many messages may be delivered to nodes before the run is given up.
            budget: what the language models of the run may use.
            deadline_s: a durable run that is not over so many seconds after its start is cancelled, wherever it is by then.
            durable: whether the run is stored, if the runtime has a store.
            here: False leaves it to any worker that has deployed the graph.
            labels: see :meth:`run`.

        Raises:
            RunExists: the store has another run of this id. StoreError: the run could not be stored.
            UsageError: the id is taken, or cannot stand in a path. And what :meth:`run` raises at its start.
        """
        await trio.lowlevel.checkpoint()
        return await self._started(
            graph, message, run_id, max_steps, budget, labels, durable=durable, here=here, deadline_s=deadline_s
        )

    async def _started(
        self,
        graph: Graph[In, Out],
        message: In,
        run_id: str | None,
        max_steps: float,
        budget: Budget | None,
        labels: Mapping[str, str] | None,
        *,
        durable: bool = True,
        here: bool = True,
        deadline_s: float | None = None,
    ) -> RunHandle[Out]:
        """:meth:`start` for a caller that waits for the result next: it is no checkpoint where there is room."""
        try:
            with self._charging(budget), labelled(labels):
                started = await self._engine.start(
                    graph, message, run_id, max_steps, durable=durable, here=here, deadline_s=deadline_s
                )
                return RunHandle(started, self._engine.outside)
        except UnderstudyError as error:
            raise without_frames(error)  # noqa: B904 - the same error

    def _start_now(
        self, graph: Graph, message: object, run_id: str, max_steps: float, budget: Budget | None, labels: Mapping[str, str]
    ) -> ActiveRun | None:
        """:meth:`start`, if nothing of that has to wait; None, and nothing is done, if it has to, or if runs are stored."""
        try:
            with self._charging(budget), labelled(labels or None):
                return self._engine.start_now(graph, message, run_id, max_steps)
        except UnderstudyError as error:
            raise without_frames(error)  # noqa: B904 - the same error

    def stream(
        self,
        graph: Graph[In, Out],
        message: In,
        *,
        run_id: str | None = None,
        max_steps: float = math.inf,
        buffer: int = DEFAULT_BUFFER,
        budget: Budget | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> contextlib.AbstractAsyncContextManager[EventStream[AnyRunEvent[Out | None]]]:
        """A run as its typed events: ``async with runtime.stream(graph, message) as events: async for event in events``.

        The last event is always one ``RunFinished``, with the output or the error; after it the iteration ends. Leaving the block
        earlier cancels the run. A reader that lags more than `buffer` events behind loses the oldest, and finds ``EventsMissed``.
        """
        return self._streamed(self._engine.stream(graph, message, max_steps, buffer, run_id), budget, labels)

    def conversation(
        self,
        graph: Graph[In, Out],
        *,
        key: str,
        policy: Policy = Policy.ENQUEUE,
        keep: int = KEEP,
        compact: Compact | Graph[TooLong, Any] | None = None,
        idle_s: float = IDLE_S,
    ) -> Conversation[In, Out]:
        """The conversation over `graph` that `key` names: ``await talk.send(message)``, one message at a time.

        Nodes see the earlier turns by ``Annotated[list[Turn], Recall(conversation=True)]``. All handles of one graph and one key
        stand for one conversation, which lives as long as the runtime, or in its store until it is forgotten.

        Args:
            graph: what each message is run on.
            key: whose conversation it is, such as a user's id.
            policy: what becomes of a message that comes while an earlier one is worked on.
            keep: how many turns are kept; older ones are forgotten.
            compact: what is done with more than `keep` turns: an async function that makes fewer; or a graph that takes
                ``TooLong`` and makes one turn of the older half. If that fails, it is logged, and the oldest turns are forgotten.
            idle_s: how long after the last message the conversation's actor stops; what was said is kept.

        Raises:
            UsageError: `graph` isn't a graph, or `key` isn't a text. DeclarationError: another argument has a wrong value.
        """
        return self._conversations.of(graph, key, policy, keep, compact, idle_s)

    async def tools(self, toolbox: Toolbox | str) -> Tools:
        """What a toolbox offers now, to call it outside of runs: ``await (await runtime.tools("files")).call("read", path="a")``.

        Nodes get the same by ``Annotated[Tools, Dep(mcp("files", …))]``; their calls are steps of the run, these belong to none.

        Args:
            toolbox: the toolbox, whose actor is started if it has none yet; or the name of one that a deployed graph has.

        Raises:
            UsageError: there is no toolbox of this name, or several. ActorStartFailed: its actor could not be started.
            ToolServerLost: its server ended while it was asked; it is started again.
        """
        return await self._engine.tools(toolbox)

    @contextlib.asynccontextmanager
    async def _streamed(
        self,
        run: contextlib.AbstractAsyncContextManager[EventStream[Any]],
        budget: Budget | None,
        labels: Mapping[str, str] | None,
    ) -> AsyncGenerator[EventStream[Any]]:
        async with contextlib.AsyncExitStack() as stack:
            with self._charging(budget), labelled(labels):  # its start alone: the caller's block is not part of the run
                events = await stack.enter_async_context(run)
            yield events

    async def deploy(self, graph: Graph[In, Out], *, max_runs: float = math.inf) -> Deployment[In, Out]:
        """Start the actors of `graph`, so its first run need not wait for them.

        `max_runs` limits how many runs are in progress; further ones wait for their turn at their start.

        Raises:
            GraphInvalid: the graph has problems. UsageError: it is deployed already.
        """
        try:
            return await self._engine.deploy(graph, max_runs)
        except UnderstudyError as error:
            raise without_frames(error)  # noqa: B904 - the same error

    def runs(self) -> Mapping[str, RunHandle[Any]]:
        """The runs in progress by id, in the order of their start, those that wait for their turn among them.

        However they were started; nested graphs are parts of theirs. Each handle says its graph, times, status, trace and
        spending, and can cancel its run: ``await runtime.runs()["bills-7"].cancel()``.
        """
        return self._engine.runs()

    def cancel_runs(self, why: str) -> None:
        """Cancel every run in progress; returns immediately. `why` becomes part of their ``RunCancelled``."""
        self._engine.cancel_runs(why)

    @property
    def is_ready(self) -> bool:
        """Whether it takes runs: it does not drain, and its root supervisor has not spent its restarts."""
        return self._root.is_serving and not self._engine.is_draining

    async def drain(self, grace_s: float) -> None:
        """Take no more runs, let those in progress finish for `grace_s` seconds, then cancel them; return when all are over.

        What a shut-down calls first. Runs that actors or running nodes start are still taken; others get ``UsageError``. A second
        call with a shorter grace hurries the first.
        """
        await self._engine.drain(grace_s)

    @property
    def lm(self) -> LM:
        """The default language model, for use outside nodes.

        Raises:
            UsageError: the runtime was opened without one.
        """
        return self._models.default

    @property
    def lms(self) -> Mapping[str, LM]:
        """The named language models."""
        return self._models

    async def warm_up(self) -> None:
        """Import in worker threads what the first call of a language model would wait for: DSPy, and LiteLLM's part of a client.

        It takes seconds once in a process and nothing after that. A process that forks workers imports with
        ``runtime.lm.load_libraries()`` before it does.
        """
        await warm_up_libraries()

    def predictor_statistics(self) -> PredictorStatistics:
        """How often the predict nodes of the graphs deployed so far picked a trained predictor, and how often none."""
        return self._predictors.statistics()
