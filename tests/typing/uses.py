"""What authors write, right and wrong, as mypy and pyright judge it: see ``tests/typing/judge.py``. Never run.

Both must report each line that ends in a mark ``error:``, in words that match what follows it, and no other line.
"""

from __future__ import annotations

import json
from typing import Any, assert_never, assert_type

import attrs

from actors import Actor, ActorRef, Completion, Graph, Request, Terminated, ToolCall
from runtime import (
    ActorCrashed,
    ActorEnded,
    ActorEvent,
    ActorRestarting,
    ActorStarted,
    ActorUnresponsive,
    AnyActorEvent,
    AnyEvent,
    AnyRunEvent,
    Deployment,
    Event,
    EventsMissed,
    EventStream,
    FieldDelta,
    InstrumentFailed,
    LMAsked,
    LMCalled,
    LMCallStarted,
    LMDelta,
    LoopBlocked,
    MessageDeadLettered,
    MessageRedelivering,
    NodeCancelled,
    NodeEmitted,
    NodeEvent,
    NodeFellBack,
    NodeFinished,
    NodeGaveUp,
    NodeReported,
    NodeRetrying,
    NodeSlowToStop,
    NodeStarted,
    QuestionAnswered,
    QuestionAsked,
    RunAbandoned,
    RunAdopted,
    RunEvent,
    RunFinished,
    RunHandle,
    RunParkedEvent,
    RunResumed,
    RunSignalled,
    RunStarted,
    RunStatus,
    RunTakenOver,
    Runtime,
    ScheduleFailed,
    SignalTaken,
    Step,
    StepStatus,
    StoreRecovered,
    StoreStalled,
    SupervisorParked,
    TaskHandle,
    ToolCalled,
    ToolCallStarted,
    ToolsChanged,
    open_runtime,
)
from runtime.embed.asyncio import AsyncioActorRef, AsyncioDeployment, AsyncioRunHandle, AsyncioRuntime
from runtime.embed.portal import PortalActorRef, PortalDeployment, PortalRunHandle, PortalRuntime
from runtime.placement import HostLost, HostStarted

# --- actors -----------------------------------------------------------------------------------------------------------------


@attrs.frozen
class Deposit:
    amount: int


@attrs.frozen
class Total(Request[int]):
    account: str


@attrs.frozen
class Weather(Request[str]):
    place: str


class Ledger(Actor[Deposit | Total]):
    def __init__(self, start: int = 0) -> None:
        self.sum = start

    async def receive(self, message: Deposit | Total) -> int | None:
        match message:
            case Deposit(amount):
                self.sum += amount
                return None
            case Total():
                return self.sum


class Narrow(Actor[Deposit | Total]):
    async def receive(self, message: Deposit) -> None:  # error: receive
        pass


class Wide(Actor[Deposit]):
    async def receive(self, message: object) -> None:
        await super().receive(Deposit(1))
        await super().receive(Total(""))  # error: Total


class Watcher(Actor[Deposit | Terminated]):
    async def receive(self, message: Deposit | Terminated) -> None:
        ledger = await self.context.spawn(Ledger, 3, name="ledger")
        assert_type(ledger, ActorRef[Deposit | Total])
        self.context.watch(ledger)
        await ledger.tell(3.14)  # error: float


class Anything(Actor):
    async def receive(self, message: Deposit) -> None:
        pass


def made(start: int) -> Ledger:
    return Ledger(start)


async def actors(runtime: Runtime) -> None:
    ledger = await runtime.spawn(Ledger, 3)
    assert_type(ledger, ActorRef[Deposit | Total])
    await ledger.tell(Deposit(1))
    await ledger.tell(3.14)  # error: float
    ledger.tell_nowait(Total("a"))
    ledger.tell_nowait(Weather("a"))  # error: Weather
    assert_type(await ledger.ask(Total("a")), int)
    assert_type(await ledger.ask(Total("a"), detach=True), int)
    assert_type(await ledger.ask(Deposit(3)), Any)
    await ledger.ask(Weather("a"))  # error: Weather
    await ledger.ask(3.14)  # error: float
    assert_type(await runtime.spawn(made, 3), ActorRef[Deposit | Total])
    assert_type(await runtime.spawn(lambda: Ledger(3), name="other"), ActorRef[Deposit | Total])
    only_deposits: ActorRef[Deposit] = ledger
    await only_deposits.tell(Deposit(1))
    more: ActorRef[Deposit | Total | Weather] = ledger  # error: Weather
    await more.tell(Deposit(1))
    await runtime.spawn(Deposit, 1)  # error: Deposit
    await runtime.stop(ledger)


async def bare_actors(runtime: Runtime, ref: ActorRef) -> None:
    anything = await runtime.spawn(Anything)
    assert_type(anything, ActorRef[Any])
    await anything.tell(3.14)
    await ref.tell("x")
    assert_type(await anything.ask(Weather("a")), str)
    assert_type(await anything.ask(Deposit(1)), Any)


async def forwarded(ref: ActorRef[Any], request: Request[int]) -> int:
    return await ref.ask(request)


async def length(text: str) -> int:
    return len(text)


async def tasks(runtime: Runtime) -> None:
    handle = await runtime.task(length, "text")
    assert_type(handle, TaskHandle[int])
    assert_type(await handle.result(), int)


# --- graphs -----------------------------------------------------------------------------------------------------------------


@attrs.frozen
class Question:
    text: str


@attrs.frozen
class Hard(Question):
    pass


@attrs.frozen
class Answer:
    text: str


@attrs.frozen
class Refusal:
    why: str


graph = Graph("answering", input=Question, output=Answer)
assert_type(graph, Graph[Question, Answer])
either: Graph[Question, Answer | Refusal] = Graph("either", input=Question, output=Answer | Refusal)
some_output = Graph("either", input=Question, output=Answer | Refusal)  # exact in pyright; to mypy, a union is no type
both = Graph[Question | Answer, Answer]("both", input=Question | Answer, output=Answer)
assert_type(both, Graph[Question | Answer, Answer])
Graph("nothing", input=Question)  # error: No overload
Graph(3, input=Question, output=Answer)  # error: int|overload


@graph.node
async def answer(question: Question) -> Answer:
    return Answer(question.text)


async def called() -> None:
    assert_type(await answer(Question("")), Answer)  # the function stays as it is


async def graphs(runtime: Runtime) -> None:
    assert_type(await runtime.run(graph, Question("x")), Answer)
    assert_type(await runtime.run(graph, Hard("x"), max_steps=5), Answer)
    assert_type(await runtime.run(either, Question("x")), Answer | Refusal)
    assert_type(await runtime.run(both, Answer("x")), Answer)
    await runtime.run(graph, 3)  # error: In|int
    await runtime.run(graph, "x")  # error: In|str
    await runtime.run(both, Refusal("x"))  # error: In|Refusal
    assert (await runtime.run(graph, Question("x"))).why == ""  # error: why
    wrong: Refusal = await runtime.run(graph, Question("x"))  # error: Refusal
    assert wrong.why == ""

    handle = await runtime.start(graph, Question("x"), "run-1")
    assert_type(handle, RunHandle[Answer])
    assert_type(await handle.result(), Answer)
    await runtime.start(graph, Answer("x"))  # error: In|Answer

    deployment = await runtime.deploy(graph, max_runs=3)
    assert_type(deployment, Deployment[Question, Answer])
    assert_type(deployment.graph, Graph[Question, Answer])

    async with runtime.stream(graph, Question("x")) as events:
        async for event in events:
            assert_type(event, AnyRunEvent[Answer | None])
            if isinstance(event, RunFinished):
                assert_type(event.output, Answer | None)
    runtime.stream(graph, 3)  # error: In|int


async def narrower(runtime: Runtime, one: Graph[Hard, Answer | Refusal]) -> None:
    await runtime.run(one, Hard("x"))
    await runtime.run(one, Question("x"))  # error: In|Question


async def bare_graphs(runtime: Runtime, some: Graph, handle: RunHandle, deployment: Deployment) -> None:
    await narrower(runtime, graph)
    assert_type(await runtime.run(some, 3), Any)
    assert_type(await handle.result(), Any)
    await deployment.stop()


# --- other event loops, and threads -----------------------------------------------------------------------------------------


async def asyncio_faces(runtime: AsyncioRuntime) -> None:
    ledger = await runtime.spawn(Ledger, timeout=3)
    assert_type(ledger, AsyncioActorRef[Deposit | Total])
    await ledger.tell(Deposit(1), timeout=3)
    await ledger.tell(3.14)  # error: float
    assert_type(await ledger.ask(Total("a")), int)
    await ledger.ask(Weather("a"))  # error: Weather
    assert_type(await runtime.run(graph, Question("x")), Answer)
    await runtime.run(graph, 3)  # error: In|int
    handle = await runtime.start(graph, Question("x"))
    assert_type(handle, AsyncioRunHandle[Answer])
    assert_type(await handle.result(timeout=3), Answer)
    assert_type(await runtime.deploy(graph), AsyncioDeployment[Question, Answer])
    assert_type(await (await runtime.task(length, "text")).result(), int)
    async with runtime.stream(graph, Question("x")) as events:
        async for event in events:
            assert_type(event, AnyRunEvent[Answer | None])


def portal_faces(runtime: PortalRuntime) -> None:
    ledger = runtime.spawn(Ledger, timeout=3)
    assert_type(ledger, PortalActorRef[Deposit | Total])
    ledger.tell(Deposit(1), timeout=3)
    ledger.tell(3.14)  # error: float
    assert_type(ledger.ask(Total("a")), int)
    ledger.ask(Weather("a"))  # error: Weather
    assert_type(runtime.run(graph, Question("x")), Answer)
    runtime.run(graph, 3)  # error: In|int
    handle = runtime.start(graph, Question("x"))
    assert_type(handle, PortalRunHandle[Answer])
    assert_type(handle.result(timeout=3), Answer)
    assert_type(runtime.deploy(graph), PortalDeployment[Question, Answer])
    assert_type(runtime.task(length, "text").result(), int)
    with runtime.stream(graph, Question("x")) as events:
        for event in events:
            assert_type(event, AnyRunEvent[Answer | None])


# --- events -----------------------------------------------------------------------------------------------------------------


def all_events(event: AnyEvent) -> str:
    match event:
        case ActorStarted() | ActorCrashed() | ActorRestarting() | ActorEnded() | ActorUnresponsive():
            return event.address
        case SupervisorParked() | MessageRedelivering():
            return event.address
        case RunStarted() | RunResumed() | RunTakenOver() | RunAdopted() | RunParkedEvent() | RunAbandoned():
            return event.graph
        case HostStarted() | HostLost():
            return event.host
        case ScheduleFailed():
            return event.name
        case RunSignalled():
            return event.key
        case QuestionAsked() | QuestionAnswered():
            return event.node
        case RunFinished(status=status):
            assert_type(status, RunStatus)
            return status
        case NodeStarted() | NodeFinished() | NodeEmitted() | NodeRetrying() | NodeFellBack() | NodeGaveUp() | NodeCancelled():
            return event.node
        case NodeSlowToStop() | LMDelta() | FieldDelta() | LMAsked() | LMCallStarted() | LMCalled():
            return event.node
        case NodeReported() | ToolCallStarted() | ToolCalled() | ToolsChanged() | SignalTaken():
            return event.node
        case StoreStalled() | StoreRecovered() | MessageDeadLettered() | LoopBlocked() | InstrumentFailed() | EventsMissed():
            return ""


def by_base(event: AnyEvent) -> str:
    match event:
        case ActorEvent():
            return event.address
        case NodeEvent():
            return event.node
        case RunEvent():
            return event.run_id
        case ScheduleFailed():
            return event.name
        case HostStarted() | HostLost():
            return event.host
        case StoreStalled() | StoreRecovered() | MessageDeadLettered() | LoopBlocked() | InstrumentFailed() | EventsMissed():
            return ""


def one_is_missing(event: AnyActorEvent) -> None:
    match event:
        case ActorStarted() | ActorCrashed() | ActorRestarting() | ActorEnded() | ActorUnresponsive():
            pass
        case MessageRedelivering():
            pass
        case _:
            assert_never(event)  # error: SupervisorParked


def logged(event: Event) -> None:
    assert event.at_s >= 0


def logged_too(event: AnyEvent) -> None:
    assert event.at_s >= 0


def kept(event: Event) -> bool:
    return isinstance(event, ActorEvent)


async def streams(stream: EventStream) -> None:
    async for event in stream:
        assert_type(event, Event)
    async with open_runtime(instruments=[logged, logged_too]) as runtime, runtime.events(kept) as events:
        async for any_event in events:
            assert_type(any_event, AnyEvent)
            logged(any_event)


# --- statuses and answers ---------------------------------------------------------------------------------------------------


def statuses(handle: RunHandle[Answer], step: Step) -> bool:
    match step.status:
        case StepStatus.QUEUED | StepStatus.RUNNING | StepStatus.ASKED | StepStatus.RETRYING | StepStatus.FALLING_BACK:
            pass
        case StepStatus.DONE | StepStatus.FAILED | StepStatus.CANCELLED:
            pass
    step.status = "finished"  # error: StepStatus
    return handle.status == "succeeded" or step.status == "done"


def tool_calls(completion: Completion) -> Any:
    for call in completion.tool_calls:
        assert_type(call, ToolCall)
        assert_type(call.name, str)
        assert call.names  # error: names
        return json.loads(call.arguments)
