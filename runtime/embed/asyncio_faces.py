"""The runtime's objects for coroutines of asyncio.

Made by ``python -m runtime.embed.generate_faces``; not to be edited.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Awaitable, Callable, Hashable, Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Generic, Unpack, final, overload

from actors.actor import Actor, ActorRef, ActorStatistics, Asked, R, SpawnOptions, Terminated
from actors.graphs.conversations import Policy, TooLong, Turn
from actors.graphs.graph import Graph
from actors.lm import LM, ChatMessage, Completion
from actors.restarts import RestartType
from actors.supervision import ChildCounts, ChildInfo, ChildSpec, Supervision, SupervisorRef, SupervisorSpec
from runtime.app import Runtime
from runtime.core.dead_letters import DeadLetters
from runtime.core.events import DEFAULT_BUFFER, Event
from runtime.core.inspection import Look, RuntimeStatistics, TreeNode
from runtime.core.task_handle import TaskHandle
from runtime.embed.asyncio_base import AsyncioEventStream, AsyncioFace, AsyncioLMStream, In, M, Out
from runtime.graphs.conversations.compacting import Compact
from runtime.graphs.conversations.conversations import Conversation
from runtime.graphs.conversations.open_talks import IDLE_S, KEEP
from runtime.graphs.conversations.talks import Talk
from runtime.graphs.deployment import Deployment
from runtime.graphs.handle import RunHandle
from runtime.graphs.records.history import History
from runtime.graphs.records.questions import Question
from runtime.graphs.records.run_events import AnyEvent, AnyRunEvent
from runtime.graphs.records.run_record import RunStatus, Spend, Step
from runtime.graphs.records.supposing import WhatIf
from runtime.graphs.schedules import CatchUp, Schedule
from runtime.journal.store import Page, StoredRun, StoredStatus
from runtime.lm.limits.budget import Budget
from runtime.lm.predictors.loaded_predictors import PredictorStatistics
from runtime.lm.statistics import ModelStatistics


@final
class AsyncioRuntime(AsyncioFace[Runtime], of=Runtime):
    """``Runtime`` for coroutines of asyncio."""

    async def what_if(
        self,
        case: History | str | Path,
        replace: Mapping[str, Any],
        *,
        graph: Graph[Any, Any] | None = None,
        budget: Budget | None = None,
        timeout: float | None = None,
    ) -> WhatIf:
        """See ``Runtime.what_if``."""
        return await self._cross(timeout, self._native.what_if, case, replace, graph=graph, budget=budget)

    async def spawn(
        self,
        factory: Callable[..., Actor[M]],
        *args: Any,
        name: str | None = None,
        timeout: float | None = None,
        **options: Unpack[SpawnOptions],
    ) -> AsyncioActorRef[M]:
        """See ``Runtime.spawn``."""
        face: AsyncioActorRef[M] = self._face(
            await self._cross(timeout, self._native.spawn, factory, *args, name=name, **options)
        )
        return face

    async def supervise(
        self,
        children: Iterable[ChildSpec | SupervisorSpec],
        supervision: Supervision | None = None,
        name: str | None = None,
        restart: RestartType = RestartType.PERMANENT,
        *,
        timeout: float | None = None,
    ) -> AsyncioSupervisorRef:
        """See ``Runtime.supervise``."""
        face: AsyncioSupervisorRef = self._face(
            await self._cross(timeout, self._native.supervise, children, supervision, name, restart)
        )
        return face

    async def task(
        self,
        function: Callable[..., Awaitable[Out]],
        *args: Any,
        name: str | None = None,
        shutdown_s: float | None = None,
        timeout: float | None = None,
    ) -> AsyncioTaskHandle[Out]:
        """See ``Runtime.task``."""
        face: AsyncioTaskHandle[Out] = self._face(
            await self._cross(timeout, self._native.task, function, *args, name=name, shutdown_s=shutdown_s)
        )
        return face

    async def stop(self, ref: AsyncioActorRef[Any] | AsyncioSupervisorRef, *, timeout: float | None = None) -> None:
        """See ``Runtime.stop``."""
        return await self._cross(timeout, self._native.stop, ref)

    async def restart(self, ref: AsyncioActorRef[Any] | AsyncioSupervisorRef, *, timeout: float | None = None) -> None:
        """See ``Runtime.restart``."""
        return await self._cross(timeout, self._native.restart, ref)

    def whereis(self, name: str) -> AsyncioActorRef[Any] | AsyncioSupervisorRef | None:
        """See ``Runtime.whereis``."""
        face: AsyncioActorRef[Any] | AsyncioSupervisorRef | None = self._face(self._call(self._native.whereis, name))
        return face

    def subscribe(self, kind: type, ref: AsyncioActorRef[Any], *, topic: Hashable | None = None) -> None:
        """See ``Runtime.subscribe``."""
        return self._call(self._native.subscribe, kind, ref, topic=topic)

    def unsubscribe(self, kind: type, ref: AsyncioActorRef[Any], *, topic: Hashable | None = None) -> None:
        """See ``Runtime.unsubscribe``."""
        return self._call(self._native.unsubscribe, kind, ref, topic=topic)

    def publish(self, message: Any, *, topic: Hashable | None = None, everywhere: bool = False) -> int:
        """See ``Runtime.publish``."""
        return self._call(self._native.publish, message, topic=topic, everywhere=everywhere)

    async def run(
        self,
        graph: Graph[In, Out],
        message: In,
        *,
        max_steps: float = math.inf,
        budget: Budget | None = None,
        run_id: str | None = None,
        labels: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> Out:
        """See ``Runtime.run``."""
        result: Out = await self._cross(
            timeout, self._native.run, graph, message, max_steps=max_steps, budget=budget, run_id=run_id, labels=labels
        )
        return result

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
        timeout: float | None = None,
    ) -> AsyncioRunHandle[Out]:
        """See ``Runtime.start``."""
        face: AsyncioRunHandle[Out] = self._face(
            await self._cross(
                timeout,
                self._native.start,
                graph,
                message,
                run_id,
                max_steps=max_steps,
                budget=budget,
                deadline_s=deadline_s,
                durable=durable,
                here=here,
                labels=labels,
            )
        )
        return face

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
        timeout: float | None = None,
    ) -> AsyncioEventStream[AnyRunEvent[Out | None]]:
        """See ``Runtime.stream``."""
        result: AsyncioEventStream[AnyRunEvent[Out | None]] = self._stream(
            AsyncioEventStream,
            timeout,
            self._native.stream,
            graph,
            message,
            run_id=run_id,
            max_steps=max_steps,
            buffer=buffer,
            budget=budget,
            labels=labels,
        )
        return result

    def conversation(
        self,
        graph: Graph[In, Out],
        *,
        key: str,
        policy: Policy = Policy.ENQUEUE,
        keep: int = KEEP,
        compact: Compact | Graph[TooLong, Any] | None = None,
        idle_s: float = IDLE_S,
    ) -> AsyncioConversation[In, Out]:
        """See ``Runtime.conversation``."""
        face: AsyncioConversation[In, Out] = self._face(
            self._call(self._native.conversation, graph, key=key, policy=policy, keep=keep, compact=compact, idle_s=idle_s)
        )
        return face

    async def deploy(
        self, graph: Graph[In, Out], *, max_runs: float = math.inf, timeout: float | None = None
    ) -> AsyncioDeployment[In, Out]:
        """See ``Runtime.deploy``."""
        face: AsyncioDeployment[In, Out] = self._face(await self._cross(timeout, self._native.deploy, graph, max_runs=max_runs))
        return face

    def runs(self) -> Mapping[str, AsyncioRunHandle[Any]]:
        """See ``Runtime.runs``."""
        face: Mapping[str, AsyncioRunHandle[Any]] = self._face(self._call(self._native.runs))
        return face

    def cancel_runs(self, why: str) -> None:
        """See ``Runtime.cancel_runs``."""
        return self._call(self._native.cancel_runs, why)

    @property
    def is_ready(self) -> bool:
        """See ``Runtime.is_ready``."""
        return self._native.is_ready

    async def drain(self, grace_s: float, *, timeout: float | None = None) -> None:
        """See ``Runtime.drain``."""
        return await self._cross(timeout, self._native.drain, grace_s)

    @property
    def lm(self) -> AsyncioLM:
        """See ``Runtime.lm``."""
        face: AsyncioLM = self._face(self._native.lm)
        return face

    @property
    def lms(self) -> Mapping[str, AsyncioLM]:
        """See ``Runtime.lms``."""
        face: Mapping[str, AsyncioLM] = self._face(self._native.lms)
        return face

    async def warm_up(self, *, timeout: float | None = None) -> None:
        """See ``Runtime.warm_up``."""
        return await self._cross(timeout, self._native.warm_up)

    def predictor_statistics(self) -> PredictorStatistics:
        """See ``Runtime.predictor_statistics``."""
        return self._call(self._native.predictor_statistics)

    async def resume(
        self,
        run_id: str,
        *,
        adopt: bool = False,
        uncertain: Mapping[str, Any] | None = None,
        max_steps: float | None = None,
        budget: Budget | None = None,
        here: bool = True,
        timeout: float | None = None,
    ) -> AsyncioRunHandle[Any]:
        """See ``Runtime.resume``."""
        face: AsyncioRunHandle[Any] = self._face(
            await self._cross(
                timeout,
                self._native.resume,
                run_id,
                adopt=adopt,
                uncertain=uncertain,
                max_steps=max_steps,
                budget=budget,
                here=here,
            )
        )
        return face

    async def handle(self, run_id: str, *, timeout: float | None = None) -> AsyncioRunHandle[Any]:
        """See ``Runtime.handle``."""
        face: AsyncioRunHandle[Any] = self._face(await self._cross(timeout, self._native.handle, run_id))
        return face

    async def fork(
        self,
        run_id: str,
        *,
        before: str | None = None,
        edit: Mapping[str, Any] | None = None,
        run_id_new: str | None = None,
        here: bool = True,
        timeout: float | None = None,
    ) -> AsyncioRunHandle[Any]:
        """See ``Runtime.fork``."""
        face: AsyncioRunHandle[Any] = self._face(
            await self._cross(timeout, self._native.fork, run_id, before=before, edit=edit, run_id_new=run_id_new, here=here)
        )
        return face

    async def stored(
        self,
        graph: Graph[Any, Any] | str | None = None,
        status: StoredStatus | str | None = None,
        started_after: datetime | None = None,
        label: str | None = None,
        *,
        limit: int = 100,
        after: str | None = None,
        timeout: float | None = None,
    ) -> Page[StoredRun]:
        """See ``Runtime.stored``."""
        return await self._cross(timeout, self._native.stored, graph, status, started_after, label, limit=limit, after=after)

    async def history(self, run_id: str, *, timeout: float | None = None) -> History:
        """See ``Runtime.history``."""
        return await self._cross(timeout, self._native.history, run_id)

    async def forget(self, run_id: str, *, timeout: float | None = None) -> None:
        """See ``Runtime.forget``."""
        return await self._cross(timeout, self._native.forget, run_id)

    async def schedule(
        self,
        name: str,
        graph: Graph[In, Out],
        message: In,
        *,
        every_s: int | None = None,
        cron: str | None = None,
        at: datetime | None = None,
        zone: str = "UTC",
        catch_up: CatchUp = CatchUp.LAST,
        timeout: float | None = None,
    ) -> Schedule:
        """See ``Runtime.schedule``."""
        return await self._cross(
            timeout, self._native.schedule, name, graph, message, every_s=every_s, cron=cron, at=at, zone=zone, catch_up=catch_up
        )

    async def unschedule(self, name: str, *, timeout: float | None = None) -> bool:
        """See ``Runtime.unschedule``."""
        return await self._cross(timeout, self._native.unschedule, name)

    async def schedules(self, *, timeout: float | None = None) -> list[Schedule]:
        """See ``Runtime.schedules``."""
        return await self._cross(timeout, self._native.schedules)

    async def questions(self, run_id: str | None = None, *, timeout: float | None = None) -> list[Question]:
        """See ``Runtime.questions``."""
        return await self._cross(timeout, self._native.questions, run_id)

    async def answer(self, question_id: str, value: object, by: str | None = None, *, timeout: float | None = None) -> None:
        """See ``Runtime.answer``."""
        return await self._cross(timeout, self._native.answer, question_id, value, by)

    async def send(self, run_id: str, signal: object, key: str | None = None, *, timeout: float | None = None) -> None:
        """See ``Runtime.send``."""
        return await self._cross(timeout, self._native.send, run_id, signal, key)

    async def withdraw(self, run_id: str, key: str, *, timeout: float | None = None) -> bool:
        """See ``Runtime.withdraw``."""
        return await self._cross(timeout, self._native.withdraw, run_id, key)

    async def registered(self, name: str, *, timeout: float | None = None) -> str | None:
        """See ``Runtime.registered``."""
        return await self._cross(timeout, self._native.registered, name)

    def events(
        self, keep: Callable[[AnyEvent], bool] | None = None, *, buffer: int = DEFAULT_BUFFER, timeout: float | None = None
    ) -> AsyncioEventStream[AnyEvent]:
        """See ``Runtime.events``."""
        result: AsyncioEventStream[AnyEvent] = self._stream(AsyncioEventStream, timeout, self._native.events, keep, buffer=buffer)
        return result

    def observe(
        self, sink: Callable[[Any], object], kinds: Iterable[type[Event]] | None = None
    ) -> contextlib.AbstractContextManager[None]:
        """See ``Runtime.observe``."""
        return self._call(self._native.observe, sink, kinds)

    def wall_time(self, at_s: float) -> datetime:
        """See ``Runtime.wall_time``."""
        return self._call(self._native.wall_time, at_s)

    def close_event_streams(self) -> None:
        """See ``Runtime.close_event_streams``."""
        return self._call(self._native.close_event_streams)

    @property
    def dead_letters(self) -> DeadLetters:
        """See ``Runtime.dead_letters``."""
        return self._native.dead_letters

    def statistics(self) -> RuntimeStatistics:
        """See ``Runtime.statistics``."""
        return self._call(self._native.statistics)

    def inspect(self, ref: AsyncioActorRef[Any]) -> Any:
        """See ``Runtime.inspect``."""
        return self._call(self._native.inspect, ref)

    def tree(self) -> TreeNode:
        """See ``Runtime.tree``."""
        return self._call(self._native.tree)

    def look(self, address: str = "", *, skip: int = 0, limit: int = 0) -> Look | None:
        """See ``Runtime.look``."""
        return self._call(self._native.look, address, skip=skip, limit=limit)

    def model_statistics(self) -> tuple[ModelStatistics, ...]:
        """See ``Runtime.model_statistics``."""
        return self._call(self._native.model_statistics)


@final
class AsyncioRunHandle(AsyncioFace[RunHandle[Out]], Generic[Out], of=RunHandle):
    """``RunHandle`` for coroutines of asyncio."""

    @property
    def id(self) -> str:
        """See ``RunHandle.id``."""
        return self._native.id

    @property
    def graph(self) -> str:
        """See ``RunHandle.graph``."""
        return self._native.graph

    @property
    def durable(self) -> bool:
        """See ``RunHandle.durable``."""
        return self._native.durable

    @property
    def started_at_s(self) -> float:
        """See ``RunHandle.started_at_s``."""
        return self._native.started_at_s

    @property
    def ended_at_s(self) -> float | None:
        """See ``RunHandle.ended_at_s``."""
        return self._native.ended_at_s

    @property
    def status(self) -> RunStatus:
        """See ``RunHandle.status``."""
        return self._native.status

    @property
    def questions(self) -> tuple[Question, ...]:
        """See ``RunHandle.questions``."""
        return self._native.questions

    @property
    def trace(self) -> tuple[Step, ...]:
        """See ``RunHandle.trace``."""
        return self._native.trace

    @property
    def labels(self) -> Mapping[str, str]:
        """See ``RunHandle.labels``."""
        return self._native.labels

    @property
    def spend(self) -> Spend:
        """See ``RunHandle.spend``."""
        return self._native.spend

    async def result(self, *, timeout: float | None = None) -> Out:
        """See ``RunHandle.result``."""
        result: Out = await self._cross(timeout, self._native.result)
        return result

    async def send(self, signal: object, key: str | None = None, *, timeout: float | None = None) -> None:
        """See ``RunHandle.send``."""
        return await self._cross(timeout, self._native.send, signal, key)

    async def withdraw(self, key: str, *, timeout: float | None = None) -> bool:
        """See ``RunHandle.withdraw``."""
        return await self._cross(timeout, self._native.withdraw, key)

    async def cancel(self, *, timeout: float | None = None) -> None:
        """See ``RunHandle.cancel``."""
        return await self._cross(timeout, self._native.cancel)


@final
class AsyncioDeployment(AsyncioFace[Deployment[In, Out]], Generic[In, Out], of=Deployment):
    """``Deployment`` for coroutines of asyncio."""

    @property
    def address(self) -> str:
        """See ``Deployment.address``."""
        return self._native.address

    @property
    def is_running(self) -> bool:
        """See ``Deployment.is_running``."""
        return self._native.is_running

    @property
    def active_runs(self) -> int:
        """See ``Deployment.active_runs``."""
        return self._native.active_runs

    async def stop(self, *, timeout: float | None = None) -> None:
        """See ``Deployment.stop``."""
        return await self._cross(timeout, self._native.stop)


@final
class AsyncioConversation(AsyncioFace[Conversation[In, Out]], Generic[In, Out], of=Conversation):
    """``Conversation`` for coroutines of asyncio."""

    @property
    def key(self) -> str:
        """See ``Conversation.key``."""
        return self._native.key

    @property
    def policy(self) -> Policy:
        """See ``Conversation.policy``."""
        return self._native.policy

    @property
    def history(self) -> tuple[Turn, ...]:
        """See ``Conversation.history``."""
        return self._native.history

    async def load(self, *, timeout: float | None = None) -> tuple[Turn, ...]:
        """See ``Conversation.load``."""
        return await self._cross(timeout, self._native.load)

    @property
    def is_busy(self) -> bool:
        """See ``Conversation.is_busy``."""
        return self._native.is_busy

    async def send(self, message: In, *, timeout: float | None = None) -> Out:
        """See ``Conversation.send``."""
        result: Out = await self._cross(timeout, self._native.send, message)
        return result

    async def go_on(self, talk: Talk, number: int, message: In, *, timeout: float | None = None) -> None:
        """See ``Conversation.go_on``."""
        return await self._cross(timeout, self._native.go_on, talk, number, message)

    def stream(
        self, message: In, *, buffer: int = DEFAULT_BUFFER, timeout: float | None = None
    ) -> AsyncioEventStream[AnyRunEvent[Out | None]]:
        """See ``Conversation.stream``."""
        result: AsyncioEventStream[AnyRunEvent[Out | None]] = self._stream(
            AsyncioEventStream, timeout, self._native.stream, message, buffer=buffer
        )
        return result

    async def forget(self, *, timeout: float | None = None) -> None:
        """See ``Conversation.forget``."""
        return await self._cross(timeout, self._native.forget)


@final
class AsyncioTaskHandle(AsyncioFace[TaskHandle[Out]], Generic[Out], of=TaskHandle):
    """``TaskHandle`` for coroutines of asyncio."""

    @property
    def address(self) -> str:
        """See ``TaskHandle.address``."""
        return self._native.address

    @property
    def ref(self) -> AsyncioActorRef[Any]:
        """See ``TaskHandle.ref``."""
        face: AsyncioActorRef[Any] = self._face(self._native.ref)
        return face

    async def result(self, *, timeout: float | None = None) -> Out:
        """See ``TaskHandle.result``."""
        result: Out = await self._cross(timeout, self._native.result)
        return result

    async def ended(self, *, timeout: float | None = None) -> Terminated:
        """See ``TaskHandle.ended``."""
        return await self._cross(timeout, self._native.ended)

    async def cancel(self, *, timeout: float | None = None) -> None:
        """See ``TaskHandle.cancel``."""
        return await self._cross(timeout, self._native.cancel)


@final
class AsyncioActorRef(AsyncioFace[ActorRef[M]], Generic[M], of=ActorRef):
    """``ActorRef`` for coroutines of asyncio."""

    @property
    def address(self) -> str:
        """See ``ActorRef.address``."""
        return self._native.address

    async def tell(self, message: M, *, timeout: float | None = None) -> None:
        """See ``ActorRef.tell``."""
        return await self._cross(timeout, self._native.tell, message)

    def tell_nowait(self, message: M) -> None:
        """See ``ActorRef.tell_nowait``."""
        return self._call(self._native.tell_nowait, message)

    @overload
    async def ask(self, message: Asked[M, R], *, detach: bool = False, timeout: float | None = None) -> R: ...
    @overload
    async def ask(self, message: M, *, detach: bool = False, timeout: float | None = None) -> Any: ...
    async def ask(self, message: Any, *, detach: bool = False, timeout: float | None = None) -> Any:
        """See ``ActorRef.ask``."""
        return await self._cross(timeout, self._native.ask, message, detach=detach)

    async def ended(self, *, timeout: float | None = None) -> Terminated:
        """See ``ActorRef.ended``."""
        return await self._cross(timeout, self._native.ended)

    def statistics(self) -> ActorStatistics:
        """See ``ActorRef.statistics``."""
        return self._call(self._native.statistics)


@final
class AsyncioSupervisorRef(AsyncioFace[SupervisorRef], of=SupervisorRef):
    """``SupervisorRef`` for coroutines of asyncio."""

    @property
    def address(self) -> str:
        """See ``SupervisorRef.address``."""
        return self._native.address

    async def start_child(
        self, spec: ChildSpec | SupervisorSpec, *, timeout: float | None = None
    ) -> AsyncioActorRef[Any] | AsyncioSupervisorRef:
        """See ``SupervisorRef.start_child``."""
        face: AsyncioActorRef[Any] | AsyncioSupervisorRef = self._face(await self._cross(timeout, self._native.start_child, spec))
        return face

    async def terminate_child(self, id: str, *, timeout: float | None = None) -> None:  # noqa: A002
        """See ``SupervisorRef.terminate_child``."""
        return await self._cross(timeout, self._native.terminate_child, id)

    async def restart_child(self, id: str, *, timeout: float | None = None) -> AsyncioActorRef[Any] | AsyncioSupervisorRef:  # noqa: A002
        """See ``SupervisorRef.restart_child``."""
        face: AsyncioActorRef[Any] | AsyncioSupervisorRef = self._face(await self._cross(timeout, self._native.restart_child, id))
        return face

    async def delete_child(self, id: str, *, timeout: float | None = None) -> None:  # noqa: A002
        """See ``SupervisorRef.delete_child``."""
        return await self._cross(timeout, self._native.delete_child, id)

    async def which_children(self, *, timeout: float | None = None) -> list[ChildInfo]:
        """See ``SupervisorRef.which_children``."""
        return await self._cross(timeout, self._native.which_children)

    async def ended(self, *, timeout: float | None = None) -> Terminated:
        """See ``SupervisorRef.ended``."""
        return await self._cross(timeout, self._native.ended)

    async def count_children(self, *, timeout: float | None = None) -> ChildCounts:
        """See ``SupervisorRef.count_children``."""
        return await self._cross(timeout, self._native.count_children)


@final
class AsyncioLM(AsyncioFace[LM], of=LM):
    """``LM`` for coroutines of asyncio."""

    @property
    def model(self) -> str:
        """See ``LM.model``."""
        return self._native.model

    async def predict(self, signature: Any, /, *, timeout: float | None = None, **inputs: Any) -> Any:
        """See ``LM.predict``."""
        return await self._cross(timeout, self._native.predict, signature, **inputs)

    async def chat(self, messages: Sequence[ChatMessage], /, *, timeout: float | None = None, **options: Any) -> Completion:
        """See ``LM.chat``."""
        return await self._cross(timeout, self._native.chat, messages, **options)

    def stream(self, messages: Sequence[ChatMessage], /, *, timeout: float | None = None, **options: Any) -> AsyncioLMStream:
        """See ``LM.stream``."""
        result: AsyncioLMStream = self._stream(AsyncioLMStream, timeout, self._native.stream, messages, **options)
        return result
