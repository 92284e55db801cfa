"""Ten incidents of a service on a virtual network, each with what is found in its log the next morning."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import attrs
import httpx
import trio

from actors import Graph, Redelivery, ToolFailed
from runtime import open_runtime
from runtime.app import Runtime
from runtime.graphs.handle import RunHandle
from runtime.graphs.records.history import History
from runtime.journal.memory import MemoryStore
from runtime.lm import Budget, Retry
from runtime.testing import Answer, Failure, ModelScript, field_answer, tool_answer
from runtime.testing.network import VirtualNetwork

ONCE = Redelivery(max_attempts=1)


@attrs.frozen
class Ticket:
    text: str


@attrs.frozen
class Topic:
    name: str


@attrs.frozen
class Mood:
    name: str


@attrs.frozen
class Reply:
    text: str


@attrs.frozen
class Offer:
    text: str


def triage(**options: Any) -> Graph[Ticket, Reply]:
    """Two models at the same time, and a node that joins what they found."""
    graph: Graph[Ticket, Reply] = Graph("triage", input=Ticket, output=Reply)
    given = {"redelivery": ONCE, **options}

    @graph.predict(**given)
    async def topic(ticket: Ticket) -> Topic:
        """Say what the ticket is about."""
        raise NotImplementedError

    @graph.predict(lm="mood", redelivery=ONCE)
    async def mood(ticket: Ticket) -> Mood:
        """Say how its writer feels."""
        raise NotImplementedError

    @graph.node
    async def reply(topic: Topic, mood: Mood) -> Reply:
        if topic.name == "poison":
            raise ValueError(f"no template for {topic.name!r}")
        return Reply(f"{topic.name}, {mood.name}")

    return graph


async def look_up(order: str) -> str:
    """Look up an order."""
    raise ToolFailed("the shop answers 500", tool="look_up")


def helpful() -> Graph[Ticket, Reply]:
    """An agent whose tool fails."""
    graph: Graph[Ticket, Reply] = Graph("helpful", input=Ticket, output=Reply)

    @graph.predict(tools=[look_up], on_tool_error="fail", redelivery=ONCE)
    async def answer(ticket: Ticket) -> Reply:
        """Answer the ticket."""
        raise NotImplementedError

    return graph


SHARED: dict[str, str] = {}


def racing() -> Graph[Ticket, Reply]:
    """The branch that ends second finds what the first one left: nothing but the order of two answers decides."""
    graph: Graph[Ticket, Reply] = Graph("racing", input=Ticket, output=Reply)

    @graph.predict(redelivery=ONCE)
    async def topic(ticket: Ticket) -> Topic:
        """Say what the ticket is about."""
        raise NotImplementedError

    @graph.predict(lm="mood", redelivery=ONCE)
    async def mood(ticket: Ticket) -> Mood:
        """Say how its writer feels."""
        raise NotImplementedError

    @graph.node
    async def keep(topic: Topic) -> Offer:
        SHARED["offer"] = topic.name
        return Offer(topic.name)

    @graph.node
    async def take(mood: Mood) -> Ticket | Offer:
        return Offer(SHARED.pop("offer"))

    @graph.node
    async def close(offers: Offer) -> Reply | None:
        return Reply(offers.text) if offers.text == "none" else None

    return graph


def hosting() -> Graph[Ticket, Reply]:
    """A node with its own connection to a host, which a replay takes from the record."""
    graph: Graph[Ticket, Reply] = Graph("hosting", input=Ticket, output=Reply)

    @graph.node
    async def fetch(ticket: Ticket) -> Topic:
        async with httpx.AsyncClient(transport=VirtualNetwork().transport()) as client:
            await client.get("http://orders.test/")
        return Topic("never")

    @graph.node
    async def reply(topic: Topic) -> Reply:
        return Reply(topic.name)

    return graph


GOOD: Mapping[str, Any] = {
    "gpt-4o-mini": ModelScript(field_answer(name="refund"), latency_s=1.5),
    "gpt-4o": ModelScript(field_answer(name="angry"), latency_s=0.5),
}
Then = Callable[[Runtime, RunHandle[Any]], Awaitable[None]]


@attrs.frozen
class Incident:
    """What happened."""

    graph: Callable[[], Graph[Ticket, Reply]]
    models: Mapping[str, Any] = GOOD
    budget: Budget | None = None
    deadline_s: float | None = None
    taken: tuple[str, ...] = ()
    then: Then | None = None
    """What somebody does meanwhile."""
    cause: str = ""
    """What the error says."""

    async def happen(self) -> History:
        """Have it, and keep the record."""
        SHARED.clear()
        network, graph = VirtualNetwork(), self.graph()
        network.provider("api.openai.com", self.models, unused="ok")  # the end may come before a call
        retry = Retry(max_attempts=2)
        async with (
            network.client("openai/gpt-4o-mini", retry=retry) as lm,
            network.client("openai/gpt-4o", retry=retry) as mood,
            open_runtime(lm=lm, lms={"mood": mood}, store=MemoryStore(), graphs=[graph], seed=3) as runtime,
        ):
            handle = await runtime.start(graph, Ticket("where is it?"), "case", budget=self.budget, deadline_s=self.deadline_s)
            if self.then is not None:
                await self.then(runtime, handle)
            with contextlib.suppress(Exception):
                await handle.result()
            return await runtime.history("case")


async def give_up(runtime: Runtime, handle: RunHandle[Any]) -> None:
    """The client has left."""
    await trio.sleep(0.7)
    await handle.cancel()


def failing(*failures: Failure) -> Mapping[str, Any]:
    return {**GOOD, "gpt-4o-mini": ModelScript(field_answer(name="refund"), latency_s=1.5, failures=failures)}


def saying(answer: Any, latency_s: float = 1.5) -> Mapping[str, Any]:
    return {**GOOD, "gpt-4o-mini": ModelScript(answer, latency_s=latency_s)}


STORM = [Failure.status(429, retry_after_s=2)] * 2
CUT = Answer("[[ ## name ## ]]\nref", finish_reason="length")
CALL = tool_answer("look_up", order="7")
INCIDENTS: Mapping[str, Incident] = {
    "a storm of 429": Incident(triage, failing(*STORM), cause="LMRateLimited"),
    "a truncated answer": Incident(triage, saying(CUT), cause="LMTruncated"),
    "a parse failure": Incident(triage, saying("I would say a refund."), cause="LMReplyUnreadable"),
    "an error of a tool": Incident(helpful, {"gpt-4o-mini": CALL}, cause="ToolFailed: the shop answers 500"),
    "a timeout": Incident(lambda: triage(timeout_s=1.0), cause="NodeTimedOut"),
    "a race between branches": Incident(racing, cause="KeyError: 'offer'"),
    "a spent budget": Incident(triage, budget=Budget(max_tokens=10), cause="LMBudgetExhausted"),
    "a client that left": Incident(triage, then=give_up, cause="RunCancelled"),
    "a host that is gone": Incident(hosting, {}, taken=("fetch",), cause="ConnectError"),
    "a poisoned input": Incident(triage, saying(field_answer(name="poison")), cause="no template for 'poison'"),
}
