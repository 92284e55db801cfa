"""Graphs that an agent of a stored run calls as tools: what is asked and done inside them outlives the process, too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import pytest
import trio

from actors import Effect, Graph, Redelivery, Run, RunChanged, StepUncertain
from runtime import QuestionAsked, open_runtime
from runtime.journal.memory import MemoryStore
from runtime.journal.records import RecordKind
from runtime.testing import ScriptedLM, answering, tool_answer
from runtime.tools import Approved, tool
from tests.runtime.graphs.lives import Lives

pytestmark = pytest.mark.usefixtures("autojump_clock")


@attrs.frozen
class Question:
    text: str


@attrs.frozen
class Answer:
    text: str


@attrs.frozen
class Order:
    """Buy something."""

    what: str


@attrs.frozen
class Priced:
    what: str
    price: int


@attrs.frozen
class Decision:
    is_yes: bool


@attrs.frozen
class Receipt:
    text: str


TWICE = Redelivery(max_attempts=2)


def agent(inner: Graph[Any, Any]) -> Graph[Question, Answer]:
    graph = Graph("agents", input=Question, output=Answer)

    @graph.predict(tools=[tool(inner, name="buy")])
    async def answer(question: Question) -> Answer:
        """Answer."""
        raise NotImplementedError

    return graph


def asking(priced: list[str], name: str = "price") -> Graph[Order, Receipt]:
    """A graph whose second node is a person; `name` is that of the first."""
    graph = Graph("buying", input=Order, output=Receipt)

    @graph.node(name=name)
    async def price(order: Order) -> Priced:
        priced.append(order.what)
        return Priced(order.what, 7)

    @graph.human
    async def decide(priced: Priced) -> Decision:
        """Is that worth it?"""
        raise NotImplementedError

    @graph.node
    async def note(decision: Decision) -> Receipt:
        return Receipt("bought" if decision.is_yes else "not bought")

    return graph


def approving(paid: list[int]) -> Graph[Order, Receipt]:
    """A graph with an agent whose tool a person has to agree to."""
    graph = Graph("buying", input=Order, output=Receipt)

    @tool(approve=True)
    async def pay(amount: int) -> str:
        """Pay."""
        paid.append(amount)
        return f"paid {amount}"

    @graph.predict(tools=[pay])
    async def settle(order: Order) -> Receipt:
        """Buy it."""
        raise NotImplementedError

    return graph


def careful(paid: list[str], die: Callable[[], Any]) -> Graph[Order, Receipt]:
    """A graph whose second node may run once only, and is cut short the first time."""
    graph = Graph("buying", input=Order, output=Receipt)

    @graph.node
    async def price(order: Order) -> Priced:
        return Priced(order.what, 7)

    @graph.node(effect=Effect.ONCE)
    async def pay(priced: Priced, run: Run) -> Receipt:
        paid.append(run.path)
        if len(paid) == 1:
            await die()
        return Receipt("paid")

    return graph


async def test_a_person_inside_a_graph_that_is_a_tool_is_asked_once_over_all_lives():
    priced: list[str] = []
    lm = ScriptedLM([tool_answer("buy", what="tea"), {"text": "ok"}])
    lives = Lives(agent(asking(priced)), lm)
    async with open_runtime(store=lives.store, lm=lm) as runtime:
        await runtime.start(lives.graph, Question("x"), run_id="it")
        await trio.sleep(1)
        [first] = await runtime.questions()
        lives.store.crash()
    lives.store = lives.store.beside()

    async with open_runtime(store=lives.store, lm=lm, graphs=[lives.graph], instruments=[lives.events.append]) as runtime:
        handle = await runtime.handle("it")
        await trio.sleep(60)  # it has been taken up
        [again] = await runtime.questions()
        await runtime.answer(again.id, Decision(is_yes=True))
        assert await handle.result() == Answer("ok")

    assert (again.id, again.asks) == (first.id, Priced("tea", 7))
    assert priced == ["tea"]
    assert [event for event in lives.events if isinstance(event, QuestionAsked)] == []
    assert lm.calls[-1].messages[-1]["content"] == '{"text": "bought"}'


async def test_an_answer_that_comes_while_no_process_has_the_run_reaches_the_graph_that_is_a_tool():
    lm = ScriptedLM([tool_answer("buy", what="tea"), {"text": "ok"}])
    lives = Lives(agent(asking([])), lm)
    async with open_runtime(store=lives.store, lm=lm) as runtime:
        await runtime.start(lives.graph, Question("x"), run_id="it")
        await trio.sleep(1)
        [question] = await runtime.questions()
        lives.store.crash()
    lives.store = lives.store.beside()

    async with open_runtime(store=lives.store) as elsewhere:
        await elsewhere.answer(question.id, {"is_yes": False})
    lives.store = lives.store.beside()

    assert await lives.last(Question("x")) == Answer("ok")
    assert lm.calls[-1].messages[-1]["content"] == '{"text": "not bought"}'


async def test_a_call_inside_a_graph_that_is_a_tool_waits_for_a_person_over_all_lives():
    paid: list[int] = []
    lm = ScriptedLM([tool_answer("buy", what="tea"), tool_answer("pay", amount=5), {"text": "bought"}, {"text": "ok"}])
    lives = Lives(agent(approving(paid)), lm)
    async with open_runtime(store=lives.store, lm=lm) as runtime:
        await runtime.start(lives.graph, Question("x"), run_id="it")
        await trio.sleep(1)
        [first] = await runtime.questions()
        lives.store.crash()
    lives.store = lives.store.beside()

    async with open_runtime(store=lives.store, lm=lm, graphs=[lives.graph]) as runtime:
        handle = await runtime.handle("it")
        await trio.sleep(60)
        [again] = await runtime.questions()
        await runtime.answer(again.id, Approved())
        assert await handle.result() == Answer("ok")

    assert again.id == first.id
    assert paid == [5]
    assert len(lm.calls) == 4  # none was made again


@pytest.mark.parametrize("decision", [Receipt("paid by hand"), "repeat"])
async def test_a_step_of_a_graph_that_is_a_tool_runs_once_only(decision: Any):
    paid: list[str] = []
    lm = ScriptedLM([tool_answer("buy", what="tea"), {"text": "ok"}])
    lives = Lives(Graph("unused", input=Question, output=Answer), lm)
    lives.graph = agent(careful(paid, lambda: lives.die()))
    await lives.one_that_is_killed(Question("x"))

    async with open_runtime(store=lives.store, lm=lm, graphs=[lives.graph]) as runtime:
        with pytest.raises(StepUncertain) as caught:
            await (await runtime.start(lives.graph, Question("x"), run_id="it")).result()
        assert caught.value.path == paid[0]
        handle = await runtime.resume("it", uncertain={caught.value.path: decision})
        assert await handle.result() == Answer("ok")

    text = "paid" if decision == "repeat" else "paid by hand"
    assert lm.calls[-1].messages[-1]["content"] == f'{{"text": "{text}"}}'
    assert len(paid) == (2 if decision == "repeat" else 1)


async def test_a_further_attempt_of_the_agent_calls_the_graph_afresh():
    """What an attempt that failed had called stays recorded, and is none of the next one's."""
    priced: list[str] = []
    graph = Graph("agents", input=Question, output=Answer)

    @graph.predict(tools=[tool(asking(priced), name="buy", timeout_s=5)], on_tool_error="fail", redelivery=TWICE)
    async def answer(question: Question) -> Answer:
        """Answer."""
        raise NotImplementedError

    lm = ScriptedLM({"": lambda messages: {"text": "ok"} if "bought" in str(messages) else tool_answer("buy", what="tea")})
    store = MemoryStore()
    async with open_runtime(store=store, lm=lm) as runtime:
        handle = await runtime.start(graph, Question("x"), run_id="it")
        await trio.sleep(7)
        store.crash()
    async with open_runtime(store=store.beside(), lm=lm, graphs=[graph]) as runtime:
        handle = await runtime.handle("it")
        await trio.sleep(1)
        [question] = await runtime.questions()
        await runtime.answer(question.id, Decision(is_yes=True))
        assert await handle.result() == Answer("ok")

    assert priced == ["tea", "tea"]


async def test_a_graph_that_is_called_and_was_changed_is_adopted_with_the_run_around_it():
    priced: list[str] = []
    lm = ScriptedLM([tool_answer("buy", what="tea"), {"text": "ok"}])
    lives = Lives(agent(asking(priced)), lm)
    async with open_runtime(store=lives.store, lm=lm) as runtime:
        await runtime.start(lives.graph, Question("x"), run_id="it")
        await trio.sleep(1)
        [first] = await runtime.questions()
        lives.store.crash()

    async with open_runtime(store=lives.store.beside(), lm=lm, graphs=[agent(asking(priced, "cost"))]) as runtime:
        with pytest.raises(RunChanged, match=r"dropped: .*/tool/0/price/0"):
            await (await runtime.handle("it")).result()
        handle = await runtime.resume("it", adopt=True)
        await trio.sleep(1)
        [again] = await runtime.questions()
        await runtime.answer(again.id, Decision(is_yes=True))
        assert await handle.result() == Answer("ok")

    assert again.id != first.id
    assert priced == ["tea", "tea"]
    assert len(lm.calls) == 2


async def test_a_fork_can_begin_inside_a_graph_that_is_called():
    priced: list[str] = []
    lm = ScriptedLM({"": lambda messages: told_last(messages) or tool_answer("buy", what="tea")})
    graph = agent(asking(priced))
    async with open_runtime(store=MemoryStore(), lm=lm) as runtime:
        with answering(Priced, Decision(is_yes=True)):
            assert await (await runtime.start(graph, Question("x"), run_id="it")).result() == Answer('{"text": "bought"}')
        records = (await runtime.history("it")).records
        [answered] = [record.path.rpartition("\n")[2] for record in records if record.kind is RecordKind.ANSWERED]
        fork = await runtime.fork("it", edit={answered: Decision(is_yes=False)})

        assert await fork.result() == Answer('{"text": "not bought"}')
    assert priced == ["tea"]


def told_last(messages: Any) -> Any:
    """An answer that repeats what the tool gave; None before it was called."""
    last = messages[-1]
    return {"text": last["content"]} if last["role"] == "tool" else None
