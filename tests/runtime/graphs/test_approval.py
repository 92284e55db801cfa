"""Calls of tools that a person has to agree to: in memory, over the ends of processes, in time, in any order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import dspy
import pytest
import trio

from actors import Actor, DeclarationError, Graph, MessageInvalid, Request, RunCancelled, RunFailed
from actors.errors import ToolRefused, ToolTimedOut
from actors.graphs.toolboxes import CallTool, ListTools, OfferedTool
from runtime import QuestionAsked, ToolCalled, open_runtime
from runtime.app import Runtime
from runtime.graphs.records.questions import Question as Asked
from runtime.journal.memory import MemoryStore
from runtime.testing import ScriptedLM, answering, tool_answer
from runtime.tools import Approved, Arguments, Refused, Toolbox, tool
from tests.runtime.graphs.lives import Lives


@attrs.frozen
class Question:
    text: str


@attrs.frozen
class Answer:
    text: str


def agent(*tools: object, **options: Any) -> Graph[Question, Answer]:
    graph = Graph("agents", input=Question, output=Answer)

    @graph.predict(tools=list(tools), **options)
    async def answer(question: Question) -> Answer:
        """Answer."""
        raise NotImplementedError

    return graph


@attrs.define(eq=False)
class Bank:
    """A tool that notes what it did."""

    paid: list[str] = attrs.field(factory=list)

    def tool(self, **options: Any) -> Any:
        @tool(**options)
        async def pay(to: str, amount: int = 5) -> str:
            """Pay somebody."""
            self.paid.append(f"{amount} to {to}")
            return f"paid {amount}"

        return pay


def two_calls(*arguments: dict[str, object]) -> dict[str, object]:
    calls = [{"id": f"c{at}", "name": "pay", "arguments": each} for at, each in enumerate(arguments)]
    return {"role": "assistant", "content": None, "tool_calls": calls}


def told(lm: ScriptedLM) -> list[Any]:
    """What the last call of the model was told of tools."""
    return [message["content"] for message in lm.calls[-1].messages if message["role"] == "tool"]


async def asked(runtime: Runtime, number: int = 1) -> Sequence[Asked]:
    """The open questions, when there are so many."""
    await trio.sleep(1)
    found = await runtime.questions()
    assert len(found) == number
    return found


ENDED: list[tuple[Any, list[str], str, str]] = [
    (Approved(), ["5 to anna"], "paid 5", "done"),
    ({"Approved": {}}, ["5 to anna"], "paid 5", "done"),
    ({"to": "anna", "amount": 5}, ["5 to anna"], "paid 5", "done"),
    (
        {"to": "bert", "amount": 3},
        ["3 to bert"],
        '[A person has changed the arguments to {"to": "bert", "amount": 3}.]\npaid 3',
        "done",
    ),
    (
        Refused("we never pay anna"),
        [],
        "Error: ToolRefused: a person has declined the call of 'pay': we never pay anna",
        "failed",
    ),
    ({"reason": ""}, [], "Error: ToolRefused: a person has declined the call of 'pay', without a reason", "failed"),
]


@pytest.mark.parametrize(("store", "on_tool_error"), [(False, "fail"), (True, "tell")], ids=["memory", "stored"])
@pytest.mark.parametrize(("answer", "paid", "read", "status"), ENDED)
async def test_a_person_decides_on_a_call(
    answer: Any, paid: list[str], read: str, status: str, store: bool, on_tool_error: str, autojump_clock: object
):
    bank, lm = Bank(), ScriptedLM([tool_answer("pay", to="anna"), {"text": "ok"}])
    seen: list[Any] = []
    graph = agent(bank.tool(approve=True, approve_to="cashier"), on_tool_error=on_tool_error)
    kept = MemoryStore() if store else None
    async with open_runtime(lm=lm, store=kept, instruments=[seen.append]) as runtime:
        handle = await runtime.start(graph, Question("x"))
        [question] = await asked(runtime)
        assert (question.node, question.path, question.to) == ("answer", "agents/answer/0/tool/0", "cashier")
        assert question.text == "May the tool 'pay' be called? Pay somebody."
        assert (question.asks.to, question.asks.amount) == ("anna", 5)
        assert [str(step.status) for step in handle.trace if step.tool] == ["asked"]
        assert bank.paid == []

        await runtime.answer(question.id, answer, by="bea")

        assert await handle.result() == Answer("ok")
        assert [str(step.status) for step in handle.trace if step.tool] == [status]
        assert await runtime.questions() == []
    assert bank.paid == paid
    assert told(lm) == [read]
    [called] = [event for event in seen if isinstance(event, ToolCalled)]
    assert isinstance(called.error, ToolRefused) == (status == "failed")


async def test_an_answer_that_does_not_fit_names_the_field_and_the_question_stays_open(autojump_clock: object):
    bank, lm = Bank(), ScriptedLM([tool_answer("pay", to="anna")])
    async with open_runtime(lm=lm) as runtime:
        handle = await runtime.start(agent(bank.tool(approve=True)), Question("x"))
        [question] = await asked(runtime)

        with pytest.raises(MessageInvalid, match="amount"):
            await runtime.answer(question.id, {"Pay": {"to": "anna", "amount": "much"}})

        assert await runtime.questions() == [question]
        assert bank.paid == []
        await handle.cancel()
        with pytest.raises(RunCancelled):
            await handle.result()
        assert await runtime.questions() == []


async def test_a_predicate_of_some_arguments_says_which_calls_wait(autojump_clock: object):
    bank = Bank()
    lm = ScriptedLM([two_calls({"to": "anna", "amount": 9}, {"to": "bert", "amount": 900}), {"text": "ok"}])
    async with open_runtime(lm=lm) as runtime:
        handle = await runtime.start(agent(bank.tool(approve=lambda amount: amount > 100)), Question("x"))
        [question] = await asked(runtime)
        assert question.asks.to == "bert"
        assert bank.paid == ["9 to anna"]
        await runtime.answer(question.id, Approved())
        await handle.result()

    assert bank.paid == ["9 to anna", "900 to bert"]


async def test_a_predicate_that_raises_lets_no_call_through(autojump_clock: object):
    bank, lm = Bank(), ScriptedLM([tool_answer("pay", to="anna"), {"text": "ok"}])
    async with open_runtime(lm=lm) as runtime:
        await runtime.run(agent(bank.tool(approve=lambda amount: amount < 1 / 0)), Question("x"))

    assert bank.paid == []
    assert told(lm) == ["Error: ZeroDivisionError: division by zero"]


@pytest.mark.parametrize("store", [False, True], ids=["memory", "stored"])
async def test_a_call_that_nobody_agrees_to_in_time_is_not_made(store: bool, autojump_clock: object):
    bank, lm = Bank(), ScriptedLM([tool_answer("pay", to="anna"), {"text": "ok"}])
    graph = agent(bank.tool(approve=True, approve_s=60, timeout_s=1))
    async with open_runtime(lm=lm, store=MemoryStore() if store else None) as runtime:
        handle = await runtime.start(graph, Question("x"))
        await handle.result()

    assert trio.current_time() >= 60
    assert bank.paid == []
    assert told(lm)[0].startswith("Error: ToolTimedOut: no one has agreed to the call of the tool 'pay' within approve_s=60")


async def test_that_nobody_agrees_in_time_fails_the_node_that_fails_with_its_tools(autojump_clock: object):
    bank, lm = Bank(), ScriptedLM([tool_answer("pay", to="anna")])
    async with open_runtime(lm=lm) as runtime:
        with pytest.raises(RunFailed) as caught:
            await runtime.run(agent(bank.tool(approve=True, approve_s=60), on_tool_error="fail"), Question("x"))

    assert isinstance(caught.value.exceptions[0].__cause__, ToolTimedOut)


async def test_a_person_may_think_for_longer_than_a_node_may_be_silent(autojump_clock: object):
    bank, lm = Bank(), ScriptedLM([tool_answer("pay", to="anna"), {"text": "ok"}])
    async with open_runtime(lm=lm) as runtime:
        handle = await runtime.start(agent(bank.tool(approve=True), idle_timeout_s=1), Question("x"))
        [question] = await asked(runtime)
        await trio.sleep(500)
        await runtime.answer(question.id, Approved())
        assert await handle.result() == Answer("ok")


async def test_equal_calls_of_one_turn_are_two_questions_answered_in_any_order(autojump_clock: object):
    bank = Bank()
    lm = ScriptedLM([two_calls({"to": "anna"}, {"to": "anna"}), {"text": "ok"}])
    async with open_runtime(lm=lm) as runtime:
        handle = await runtime.start(agent(bank.tool(approve=True)), Question("x"))
        questions = {question.path[-1]: question for question in await asked(runtime, 2)}
        await runtime.answer(questions["1"].id, Refused("once is enough"))
        await runtime.answer(questions["0"].id, Approved())
        await handle.result()

    assert bank.paid == ["5 to anna"]
    assert [text.partition(": ")[0] for text in told(lm)] == ["paid 5", "Error"]


async def test_tests_have_answers_ready_by_the_function_that_is_the_tool(autojump_clock: object):
    bank, lm = Bank(), ScriptedLM([tool_answer("pay", to="anna"), {"text": "ok"}])
    pay = bank.tool(approve=True)
    with answering(pay, lambda call: attrs.evolve(call, amount=call.amount + 1)):
        async with open_runtime(lm=lm) as runtime:
            await runtime.run(agent(pay), Question("x"))

    assert bank.paid == ["6 to anna"]


# --- other forms of tools ---------------------------------------------------------------------------------------------


@attrs.frozen
class Withdraw(Request[str]):
    amount: int


class Account(Actor):
    async def receive(self, message: Withdraw) -> str:
        return f"gave {message.amount}"


async def test_actors_graphs_and_tools_of_dspys_wait_for_people_too(autojump_clock: object):
    inner = Graph("inner", input=Question, output=Answer)

    @inner.node
    async def echo(question: Question) -> Answer:
        return Answer(f"echo of {question.text}")

    def shelf(number: int) -> str:
        """Name a shelf."""
        return f"shelf {number}"

    calls = [("withdraw", {"amount": 1}), ("inner", {"text": "a"}), ("shelf", {"number": 7})]
    turn = {"role": "assistant", "content": None, "tool_calls": [{"name": name, "arguments": given} for name, given in calls]}
    lm = ScriptedLM([turn, {"text": "ok"}])
    async with open_runtime(lm=lm) as runtime:
        account = await runtime.spawn(Account)
        tools = [
            tool(account, Withdraw, approve=lambda call: call.amount > 0),
            tool(inner, approve=True),
            tool(dspy.Tool(shelf), approve=lambda values: values["number"] > 0),
        ]
        handle = await runtime.start(agent(*tools), Question("x"))
        given: dict[str, Any] = {"0": {"Withdraw": {"amount": 2}}, "1": {"text": "b"}, "2": {"values": {"number": 8}}}
        for question in await asked(runtime, 3):
            await runtime.answer(question.id, given[question.path[-1]])
        await handle.result()

    assert [text.rpartition("\n")[2] for text in told(lm)] == ["gave 2", '{"text": "echo of b"}', "shelf 8"]


class Shelf(Actor):
    """What stands behind a toolbox, such as an MCP server."""

    async def receive(self, message: ListTools | CallTool) -> Any:
        if isinstance(message, ListTools):
            schema: dict[str, Any] = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
            return tuple(OfferedTool(name, "", schema) for name in ("read_file", "write_file"))
        return f"{message.name} {message.arguments['name']}"


async def test_a_toolbox_says_which_of_its_calls_wait(autojump_clock: object):
    calls = [{"name": name, "arguments": {"name": "a"}} for name in ("read_file", "write_file")]
    lm = ScriptedLM([{"role": "assistant", "content": None, "tool_calls": calls}, {"text": "ok"}])
    async with open_runtime(lm=lm) as runtime:
        handle = await runtime.start(agent(Toolbox("files", Shelf, approve=("write_*",))), Question("x"))
        [question] = await asked(runtime)
        assert question.asks == Arguments({"name": "a"})
        await runtime.answer(question.id, {"values": {"name": "b"}})
        await handle.result()

    assert [text.rpartition("\n")[2] for text in told(lm)] == ["read_file a", "write_file b"]


# --- over the ends of processes ---------------------------------------------------------------------------------------


async def killed_while_asked(lives: Lives) -> Asked:
    """A life that ends while a person is asked."""
    async with open_runtime(store=lives.store, lm=lives.lm, instruments=[lives.events.append]) as runtime:
        await runtime.start(lives.graph, Question("x"), run_id="it")
        [question] = await asked(runtime)
        lives.store.crash()
    lives.store = lives.store.beside()
    return question


async def test_a_question_outlives_its_process_and_is_the_same_one(autojump_clock: object):
    bank, lm = Bank(), ScriptedLM([tool_answer("pay", to="anna"), {"text": "ok"}])
    lives = Lives(agent(bank.tool(approve=True)), lm)
    first = await killed_while_asked(lives)
    lives.events.clear()

    async with open_runtime(store=lives.store, lm=lm, graphs=[lives.graph], instruments=[lives.events.append]) as runtime:
        handle = await runtime.handle("it")
        await trio.sleep(60)  # it has been taken up
        [again] = await asked(runtime)
        assert handle.status == "running"
        await runtime.answer(again.id, {"amount": 7, "to": "carl"})
        assert await handle.result() == Answer("ok")

    assert again.id == first.id
    assert bank.paid == ["7 to carl"]
    assert len(lm.calls) == 2
    assert [event for event in lives.events if isinstance(event, QuestionAsked)] == []


async def test_an_answer_that_comes_while_no_process_has_the_run_is_taken(autojump_clock: object):
    bank, lm = Bank(), ScriptedLM([tool_answer("pay", to="anna"), {"text": "ok"}])
    lives = Lives(agent(bank.tool(approve=True)), lm)
    question = await killed_while_asked(lives)
    other = agent(bank.tool(approve=True))

    async with open_runtime(store=lives.store) as elsewhere:
        await elsewhere.answer(question.id, Refused("too late"))
    lives.store = lives.store.beside()
    async with open_runtime(store=lives.store, lm=lm, graphs=[other]) as runtime:
        assert await (await runtime.handle("it")).result() == Answer("ok")

    assert bank.paid == []
    assert told(lm) == ["Error: ToolRefused: a person has declined the call of 'pay': too late"]


async def test_what_a_person_has_agreed_to_is_not_asked_again_after_a_crash(autojump_clock: object):
    paid: list[int] = []

    @tool(approve=True)
    async def pay(amount: int) -> str:
        """Pay."""
        paid.append(amount)
        if len(paid) == 1:
            await lives.die()
        return f"paid {amount}"

    lm = ScriptedLM([tool_answer("pay", amount=5), {"text": "ok"}])
    lives = Lives(agent(pay), lm)
    with answering(pay, {"amount": 6}):
        await lives.one_that_is_killed(Question("x"))

    assert await lives.last(Question("x")) == Answer("ok")
    assert paid == [6, 6]
    assert [event for event in lives.events if isinstance(event, QuestionAsked)] == []
    assert told(lm) == ['[A person has changed the arguments to {"amount": 6}.]\npaid 6']


# --- what cannot be meant ---------------------------------------------------------------------------------------------


async def _later(amount: int) -> bool:
    return amount > 1


WRONG: list[dict[str, Any]] = [
    {"approve": "always"},
    {"approve": _later},
    {"approve_s": 0, "approve": True},
    {"approve_to": 7, "approve": True},
]


@pytest.mark.parametrize("options", WRONG)
def test_options_that_cannot_be_meant_are_rejected(options: dict[str, Any]):
    with pytest.raises(DeclarationError, match=next(iter(options))):
        Bank().tool(**options)


def test_a_predicate_of_what_no_model_gives_is_a_problem_of_the_check():
    [problem] = agent(Bank().tool(approve=lambda total: total > 1)).check()

    assert problem.code == "tool-approve"
    assert "takes 'total', and the arguments that a model gives are to, amount" in problem.message
    assert problem.fix.startswith("write approve=lambda to: …")
