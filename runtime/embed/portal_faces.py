"""The runtime's objects for threads, which wait where a trio task would await.

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
from runtime.embed.portal_base import In, M, Out, PortalEventStream, PortalFace, PortalLMStream
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
class PortalRuntime(PortalFace[Runtime], of=Runtime):
    """``Runtime`` for threads."""

    def what_if(
        self,
        case: History | str | Path,
        replace: Mapping[str, Any],
        *,
        graph: Graph[Any, Any] | None = None,
        budget: Budget | None = None,
        timeout: float | None = None,
    ) -> WhatIf:
        """See ``Runtime.what_if``."""
        return self._cross(timeout, self._native.what_if, case, replace, graph=graph, budget=budget)

    def spawn(
        self,
        factory: Callable[..., Actor[M]],
        *args: Any,
        name: str | None = None,
        timeout: float | None = None,
        **options: Unpack[SpawnOptions],
    ) -> PortalActorRef[M]:
        """See ``Runtime.spawn``."""
        face: PortalActorRef[M] = self._face(self._cross(timeout, self._native.spawn, factory, *args, name=name, **options))
        return face

    def supervise(
        self,
        children: Iterable[ChildSpec | SupervisorSpec],
        supervision: Supervision | None = None,
        name: str | None = None,
        restart: RestartType = RestartType.PERMANENT,
        *,
        timeout: float | None = None,
    ) -> PortalSupervisorRef:
        """See ``Runtime.supervise``."""
        face: PortalSupervisorRef = self._face(self._cross(timeout, self._native.supervise, children, supervision, name, restart))
        return face

    def task(
        self,
        function: Callable[..., Awaitable[Out]],
        *args: Any,
        name: str | None = None,
        shutdown_s: float | None = None,
        timeout: float | None = None,
    ) -> PortalTaskHandle[Out]:
        """See ``Runtime.task``."""
        face: PortalTaskHandle[Out] = self._face(
            self._cross(timeout, self._native.task, function, *args, name=name, shutdown_s=shutdown_s)
        )
        return face

    def stop(self, ref: PortalActorRef[Any] | PortalSupervisorRef, *, timeout: float | None = None) -> None:
        """See ``Runtime.stop``."""
        return self._cross(timeout, self._native.stop, ref)

    def restart(self, ref: PortalActorRef[Any] | PortalSupervisorRef, *, timeout: float | None = None) -> None:
        """See ``Runtime.restart``."""
        return self._cross(timeout, self._native.restart, ref)

    def whereis(self, name: str) -> PortalActorRef[Any] | PortalSupervisorRef | None:
        """See ``Runtime.whereis``."""
        face: PortalActorRef[Any] | PortalSupervisorRef | None = self._face(self._call(self._native.whereis, name))
        return face

    def subscribe(self, kind: type, ref: PortalActorRef[Any], *, topic: Hashable | None = None) -> None:
        """See ``Runtime.subscribe``."""
        return self._call(self._native.subscribe, kind, ref, topic=topic)

    def unsubscribe(self, kind: type, ref: PortalActorRef[Any], *, topic: Hashable | None = None) -> None:
        """See ``Runtime.unsubscribe``."""
        return self._call(self._native.unsubscribe, kind, ref, topic=topic)

    def publish(self, message: Any, *, topic: Hashable | None = None, everywhere: bool = False) -> int:
        """See ``Runtime.publish``."""
        return self._call(self._native.publish, message, topic=topic, everywhere=everywhere)

    def run(
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
        result: Out = self._cross(
            timeout, self._native.run, graph, message, max_steps=max_steps, budget=budget, run_id=run_id, labels=labels
        )
        return result

    def start(
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
    ) -> PortalRunHandle[Out]:
        """See ``Runtime.start``."""
        face: PortalRunHandle[Out] = self._face(
            self._cross(
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
    ) -> PortalEventStream[AnyRunEvent[Out | None]]:
        """See ``Runtime.stream``."""
        result: PortalEventStream[AnyRunEvent[Out | None]] = self._stream(
            PortalEventStream,
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
    ) -> PortalConversation[In, Out]:
        """See ``Runtime.conversation``."""
        face: PortalConversation[In, Out] = self._face(
            self._call(self._native.conversation, graph, key=key, policy=policy, keep=keep, compact=compact, idle_s=idle_s)
        )
        return face

    def deploy(
        self, graph: Graph[In, Out], *, max_runs: float = math.inf, timeout: float | None = None
    ) -> PortalDeployment[In, Out]:
        """See ``Runtime.deploy``."""
        face: PortalDeployment[In, Out] = self._face(self._cross(timeout, self._native.deploy, graph, max_runs=max_runs))
        return face

    def runs(self) -> Mapping[str, PortalRunHandle[Any]]:
        """See ``Runtime.runs``."""
        face: Mapping[str, PortalRunHandle[Any]] = self._face(self._call(self._native.runs))
        return face

    def cancel_runs(self, why: str) -> None:
        """See ``Runtime.cancel_runs``."""
        return self._call(self._native.cancel_runs, why)

    @property
    def is_ready(self) -> bool:
        """See ``Runtime.is_ready``."""
        return self._native.is_ready

    def drain(self, grace_s: float, *, timeout: float | None = None) -> None:
        """See ``Runtime.drain``."""
        return self._cross(timeout, self._native.drain, grace_s)

    @property
    def lm(self) -> PortalLM:
        """See ``Runtime.lm``."""
        face: PortalLM = self._face(self._native.lm)
        return face

    @property
    def lms(self) -> Mapping[str, PortalLM]:
        """See ``Runtime.lms``."""
        face: Mapping[str, PortalLM] = self._face(self._native.lms)
        return face

    def warm_up(self, *, timeout: float | None = None) -> None:
        """See ``Runtime.warm_up``."""
        return self._cross(timeout, self._native.warm_up)

    def predictor_statistics(self) -> PredictorStatistics:
        """See ``Runtime.predictor_statistics``."""
        return self._call(self._native.predictor_statistics)

    def resume(
        self,
        run_id: str,
        *,
        adopt: bool = False,
        uncertain: Mapping[str, Any] | None = None,
        max_steps: float | None = None,
        budget: Budget | None = None,
        here: bool = True,
        timeout: float | None = None,
    ) -> PortalRunHandle[Any]:
        """See ``Runtime.resume``."""
        face: PortalRunHandle[Any] = self._face(
            self._cross(
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

    def handle(self, run_id: str, *, timeout: float | None = None) -> PortalRunHandle[Any]:
        """See ``Runtime.handle``."""
        face: PortalRunHandle[Any] = self._face(self._cross(timeout, self._native.handle, run_id))
        return face

    def fork(
        self,
        run_id: str,
        *,
        before: str | None = None,
        edit: Mapping[str, Any] | None = None,
        run_id_new: str | None = None,
        here: bool = True,
        timeout: float | None = None,
    ) -> PortalRunHandle[Any]:
        """See ``Runtime.fork``."""
        face: PortalRunHandle[Any] = self._face(
            self._cross(timeout, self._native.fork, run_id, before=before, edit=edit, run_id_new=run_id_new, here=here)
        )
        return face

    def stored(
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
        return self._cross(timeout, self._native.stored, graph, status, started_after, label, limit=limit, after=after)

    def history(self, run_id: str, *, timeout: float | None = None) -> History:
        """See ``Runtime.history``."""
        return self._cross(timeout, self._native.history, run_id)

    def forget(self, run_id: str, *, timeout: float | None = None) -> None:
        """See ``Runtime.forget``."""
        return self._cross(timeout, self._native.forget, run_id)

    def schedule(
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
        return self._cross(
            timeout, self._native.schedule, name, graph, message, every_s=every_s, cron=cron, at=at, zone=zone, catch_up=catch_up
        )

    def unschedule(self, name: str, *, timeout: float | None = None) -> bool:
        """See ``Runtime.unschedule``."""
        return self._cross(timeout, self._native.unschedule, name)

    def schedules(self, *, timeout: float | None = None) -> list[Schedule]:
        """See ``Runtime.schedules``."""
        return self._cross(timeout, self._native.schedules)

    def questions(self, run_id: str | None = None, *, timeout: float | None = None) -> list[Question]:
        """See ``Runtime.questions``."""
        return self._cross(timeout, self._native.questions, run_id)

    def answer(self, question_id: str, value: object, by: str | None = None, *, timeout: float | None = None) -> None:
        """See ``Runtime.answer``."""
        return self._cross(timeout, self._native.answer, question_id, value, by)

    def send(self, run_id: str, signal: object, key: str | None = None, *, timeout: float | None = None) -> None:
        """See ``Runtime.send``."""
        return self._cross(timeout, self._native.send, run_id, signal, key)

    def withdraw(self, run_id: str, key: str, *, timeout: float | None = None) -> bool:
        """See ``Runtime.withdraw``."""
        return self._cross(timeout, self._native.withdraw, run_id, key)

    def registered(self, name: str, *, timeout: float | None = None) -> str | None:
        """See ``Runtime.registered``."""
        return self._cross(timeout, self._native.registered, name)

    def events(
        self, keep: Callable[[AnyEvent], bool] | None = None, *, buffer: int = DEFAULT_BUFFER, timeout: float | None = None
    ) -> PortalEventStream[AnyEvent]:
        """See ``Runtime.events``."""
        result: PortalEventStream[AnyEvent] = self._stream(PortalEventStream, timeout, self._native.events, keep, buffer=buffer)
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

    def inspect(self, ref: PortalActorRef[Any]) -> Any:
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
class PortalRunHandle(PortalFace[RunHandle[Out]], Generic[Out], of=RunHandle):
    """``RunHandle`` for threads."""

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

    def result(self, *, timeout: float | None = None) -> Out:
        """See ``RunHandle.result``."""
        result: Out = self._cross(timeout, self._native.result)
        return result

    def send(self, signal: object, key: str | None = None, *, timeout: float | None = None) -> None:
        """See ``RunHandle.send``."""
        return self._cross(timeout, self._native.send, signal, key)

    def withdraw(self, key: str, *, timeout: float | None = None) -> bool:
        """See ``RunHandle.withdraw``."""
        return self._cross(timeout, self._native.withdraw, key)

    def cancel(self, *, timeout: float | None = None) -> None:
        """See ``RunHandle.cancel``."""
        return self._cross(timeout, self._native.cancel)


@final
class PortalDeployment(PortalFace[Deployment[In, Out]], Generic[In, Out], of=Deployment):
    """``Deployment`` for threads."""

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

    def stop(self, *, timeout: float | None = None) -> None:
        """See ``Deployment.stop``."""
        return self._cross(timeout, self._native.stop)


@final
class PortalConversation(PortalFace[Conversation[In, Out]], Generic[In, Out], of=Conversation):
    """``Conversation`` for threads."""

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

    def load(self, *, timeout: float | None = None) -> tuple[Turn, ...]:
        """See ``Conversation.load``."""
        return self._cross(timeout, self._native.load)

    @property
    def is_busy(self) -> bool:
        """See ``Conversation.is_busy``."""
        return self._native.is_busy

    def send(self, message: In, *, timeout: float | None = None) -> Out:
        """See ``Conversation.send``."""
        result: Out = self._cross(timeout, self._native.send, message)
        return result

    def go_on(self, talk: Talk, number: int, message: In, *, timeout: float | None = None) -> None:
        """See ``Conversation.go_on``."""
        return self._cross(timeout, self._native.go_on, talk, number, message)

    def stream(
        self, message: In, *, buffer: int = DEFAULT_BUFFER, timeout: float | None = None
    ) -> PortalEventStream[AnyRunEvent[Out | None]]:
        """See ``Conversation.stream``."""
        result: PortalEventStream[AnyRunEvent[Out | None]] = self._stream(
            PortalEventStream, timeout, self._native.stream, message, buffer=buffer
        )
        return result

    def forget(self, *, timeout: float | None = None) -> None:
        """See ``Conversation.forget``."""
        return self._cross(timeout, self._native.forget)


@final
class PortalTaskHandle(PortalFace[TaskHandle[Out]], Generic[Out], of=TaskHandle):
    """``TaskHandle`` for threads."""

    @property
    def address(self) -> str:
        """See ``TaskHandle.address``."""
        return self._native.address

    @property
    def ref(self) -> PortalActorRef[Any]:
        """See ``TaskHandle.ref``."""
        face: PortalActorRef[Any] = self._face(self._native.ref)
        return face

    def result(self, *, timeout: float | None = None) -> Out:
        """See ``TaskHandle.result``."""
        result: Out = self._cross(timeout, self._native.result)
        return result

    def ended(self, *, timeout: float | None = None) -> Terminated:
        """See ``TaskHandle.ended``."""
        return self._cross(timeout, self._native.ended)

    def cancel(self, *, timeout: float | None = None) -> None:
        """See ``TaskHandle.cancel``."""
        return self._cross(timeout, self._native.cancel)


@final
class PortalActorRef(PortalFace[ActorRef[M]], Generic[M], of=ActorRef):
    """``ActorRef`` for threads."""

    @property
    def address(self) -> str:
        """See ``ActorRef.address``."""
        return self._native.address

    def tell(self, message: M, *, timeout: float | None = None) -> None:
        """See ``ActorRef.tell``."""
        return self._cross(timeout, self._native.tell, message)

    def tell_nowait(self, message: M) -> None:
        """See ``ActorRef.tell_nowait``."""
        return self._call(self._native.tell_nowait, message)

    @overload
    def ask(self, message: Asked[M, R], *, detach: bool = False, timeout: float | None = None) -> R: ...
    @overload
    def ask(self, message: M, *, detach: bool = False, timeout: float | None = None) -> Any: ...
    def ask(self, message: Any, *, detach: bool = False, timeout: float | None = None) -> Any:
        """See ``ActorRef.ask``."""
        return self._cross(timeout, self._native.ask, message, detach=detach)

    def ended(self, *, timeout: float | None = None) -> Terminated:
        """See ``ActorRef.ended``."""
        return self._cross(timeout, self._native.ended)

    def statistics(self) -> ActorStatistics:
        """See ``ActorRef.statistics``."""
        return self._call(self._native.statistics)


@final
class PortalSupervisorRef(PortalFace[SupervisorRef], of=SupervisorRef):
    """``SupervisorRef`` for threads."""

    @property
    def address(self) -> str:
        """See ``SupervisorRef.address``."""
        return self._native.address

    def start_child(
        self, spec: ChildSpec | SupervisorSpec, *, timeout: float | None = None
    ) -> PortalActorRef[Any] | PortalSupervisorRef:
        """See ``SupervisorRef.start_child``."""
        face: PortalActorRef[Any] | PortalSupervisorRef = self._face(self._cross(timeout, self._native.start_child, spec))
        return face

    def terminate_child(self, id: str, *, timeout: float | None = None) -> None:  # noqa: A002
        """See ``SupervisorRef.terminate_child``."""
        return self._cross(timeout, self._native.terminate_child, id)

    def restart_child(self, id: str, *, timeout: float | None = None) -> PortalActorRef[Any] | PortalSupervisorRef:  # noqa: A002
        """See ``SupervisorRef.restart_child``."""
        face: PortalActorRef[Any] | PortalSupervisorRef = self._face(self._cross(timeout, self._native.restart_child, id))
        return face

    def delete_child(self, id: str, *, timeout: float | None = None) -> None:  # noqa: A002
        """See ``SupervisorRef.delete_child``."""
        return self._cross(timeout, self._native.delete_child, id)

    def which_children(self, *, timeout: float | None = None) -> list[ChildInfo]:
        """See ``SupervisorRef.which_children``."""
        return self._cross(timeout, self._native.which_children)

    def ended(self, *, timeout: float | None = None) -> Terminated:
        """See ``SupervisorRef.ended``."""
        return self._cross(timeout, self._native.ended)

    def count_children(self, *, timeout: float | None = None) -> ChildCounts:
        """See ``SupervisorRef.count_children``."""
        return self._cross(timeout, self._native.count_children)


@final
class PortalLM(PortalFace[LM], of=LM):
    """``LM`` for threads."""

    @property
    def model(self) -> str:
        """See ``LM.model``."""
        return self._native.model

    def predict(self, signature: Any, /, *, timeout: float | None = None, **inputs: Any) -> Any:
        """See ``LM.predict``."""
        return self._cross(timeout, self._native.predict, signature, **inputs)

    def chat(self, messages: Sequence[ChatMessage], /, *, timeout: float | None = None, **options: Any) -> Completion:
        """See ``LM.chat``."""
        return self._cross(timeout, self._native.chat, messages, **options)

    def stream(self, messages: Sequence[ChatMessage], /, *, timeout: float | None = None, **options: Any) -> PortalLMStream:
        """See ``LM.stream``."""
        result: PortalLMStream = self._stream(PortalLMStream, timeout, self._native.stream, messages, **options)
        return result
