"""What is said into a running run: agents take it between two rounds, once, in order, in every life, unless it is withdrawn."""

from __future__ import annotations

from typing import Any

import attrs
import dspy  # noqa: F401 - loading it takes a thread, for which virtual time does not wait
import pytest
import trio

from actors import Graph, MessageInvalid, Redelivery, UnknownRun, UsageError
from runtime import RunHandle, RunSignalled, SignalTaken, open_runtime
from runtime.journal.memory import MemoryStore
from runtime.testing import ScriptedLM, explore, tool_answer
from tests.runtime.graphs.lives import Lives

pytestmark = pytest.mark.usefixtures("autojump_clock")


@attrs.frozen
class Question:
    text: str


@attrs.frozen
class Hint:
    text: str


@attrs.frozen
class Answer:
    text: str


def agent(takes_s: float = 2.0, **options: Any) -> Graph[Question, Answer]:
    graph = Graph("agents", input=Question, output=Answer, signals=Hint)

    async def look(at: str) -> str:
        """Look around."""
        await trio.sleep(takes_s)
        return f"a tree at {at}"

    @graph.predict(tools=[look], **options)
    async def answer(question: Question) -> Answer:
        """Answer."""
        raise NotImplementedError

    return graph


def script(rounds: int) -> list[Any]:
    return [*(tool_answer("look", at=str(at)) for at in range(rounds)), {"text": "ok"}]


def heard(lm: ScriptedLM, call: int = -1) -> list[str]:
    """What that call of the model was told of users and tools, after the prompt."""
    return [message["content"] for message in lm.calls[call].messages[2:] if message["role"] in ("user", "tool")]


STORES = pytest.mark.parametrize("store", [False, True], ids=["memory", "stored"])


@STORES
async def test_an_agent_hears_what_has_come_between_two_rounds(store: bool):
    lm, seen = ScriptedLM(script(2)), list[Any]()
    async with open_runtime(lm=lm, store=MemoryStore() if store else None, instruments=[seen.append]) as runtime:
        handle = await runtime.start(agent(), Question("x"))
        await trio.sleep(1)
        await handle.send(Hint("one"), key="1")
        await handle.send(Hint("two"), key="2")
        await handle.send(Hint("one again"), key="1")
        await handle.send({"text": "three"}, key="3")
        assert await handle.result() == Answer("ok")

    assert heard(lm, 1) == ["a tree at 0", '{"text": "one"}', '{"text": "two"}', '{"text": "three"}']
    assert heard(lm, 2) == [*heard(lm, 1), "a tree at 1"]
    assert [event.key for event in seen if isinstance(event, RunSignalled)] == ["1", "2", "3"]
    taken = [event for event in seen if isinstance(event, SignalTaken)]
    assert [(event.key, event.signal, event.path) for event in taken] == [
        (key, Hint(text), "agents/answer/0") for key, text in (("1", "one"), ("2", "two"), ("3", "three"))
    ]


async def test_what_came_before_the_agent_began_is_in_its_first_question():
    graph: Graph[Question, Answer] = Graph("later", input=Question, output=Answer, signals=Hint)

    @attrs.frozen
    class Ready:
        text: str

    @graph.node
    async def prepare(question: Question) -> Ready:
        await trio.sleep(5)
        return Ready(question.text)

    async def look() -> str:
        """Look around."""
        return ""

    @graph.predict(tools=[look])
    async def answer(ready: Ready) -> Answer:
        """Answer."""
        raise NotImplementedError

    lm = ScriptedLM([{"text": "ok"}])
    async with open_runtime(lm=lm) as runtime:
        handle = await runtime.start(graph, Question("x"))
        await handle.send(Hint("early"))
        await handle.result()

    assert heard(lm) == ['{"text": "early"}']


async def test_an_agent_in_a_nested_graph_hears_it():
    inner = agent()
    silent: Graph[Question, Answer] = Graph("silent", input=Question, output=Answer)
    silent.add(inner)
    assert "signals=…" in silent.check()[0].fix
    outer: Graph[Question, Answer] = Graph("outer", input=Question, output=Answer, signals=Hint)
    outer.add(inner)
    assert outer.check() == []

    lm = ScriptedLM(script(1))
    async with open_runtime(lm=lm) as runtime:
        handle = await runtime.start(outer, Question("x"))
        await trio.sleep(1)
        await handle.send(Hint("one"))
        await handle.result()

    assert heard(lm) == ["a tree at 0", '{"text": "one"}']


@STORES
async def test_it_can_be_withdrawn_until_it_is_taken(store: bool):
    lm = ScriptedLM(script(2))
    async with open_runtime(lm=lm, store=MemoryStore() if store else None) as runtime:
        handle = await runtime.start(agent(), Question("x"), run_id="it")
        await trio.sleep(1)
        for key in ("1", "2", "3"):
            await handle.send(Hint(key), key=key)
        assert await handle.withdraw("2")
        assert not await handle.withdraw("2")
        assert not await runtime.withdraw("it", "never sent")
        await trio.sleep(2)
        assert not await handle.withdraw("1")
        await handle.send(Hint("again"), key="2")  # a key stands for one message, withdrawn or not
        await handle.result()
        assert not await handle.withdraw("3")

    assert heard(lm) == ["a tree at 0", '{"text": "1"}', '{"text": "3"}', "a tree at 1"]


@explore(runs=15, timer_races=0)
async def test_a_message_is_withdrawn_or_taken_under_every_schedule():
    lm = ScriptedLM(script(1))
    withdrawn: list[bool] = []

    async def withdraw(handle: RunHandle[Answer], after_s: float) -> None:
        await trio.sleep(after_s)
        withdrawn.append(await handle.withdraw("1"))

    async with open_runtime(lm=lm, store=MemoryStore()) as runtime, trio.open_nursery() as nursery:
        handle = await runtime.start(agent(), Question("x"))
        await trio.sleep(1)
        await handle.send(Hint("one"), key="1")
        nursery.start_soon(withdraw, handle, 1)  # when the tool ends
        await handle.result()

    assert heard(lm) == (["a tree at 0"] if withdrawn == [True] else ["a tree at 0", '{"text": "one"}'])


async def test_a_further_attempt_hears_it_again():
    lm = ScriptedLM([tool_answer("look", at="0"), tool_answer("look", at="1"), tool_answer("look", at="2"), {"text": "ok"}])
    tries: list[int] = []
    graph = Graph("agents", input=Question, output=Answer, signals=Hint)

    async def look(at: str) -> str:
        """Look around."""
        tries.append(1)
        await trio.sleep(1)
        if len(tries) == 2:
            raise ConnectionError(at)
        return at

    @graph.predict(tools=[look], on_tool_error="fail", redelivery=Redelivery(max_attempts=2))
    async def answer(question: Question) -> Answer:
        """Answer."""
        raise NotImplementedError

    async with open_runtime(lm=lm) as runtime:
        handle = await runtime.start(graph, Question("x"))
        await trio.sleep(0.5)
        await handle.send(Hint("one"))
        await handle.result()

    assert heard(lm, 1) == ["0", '{"text": "one"}']
    assert heard(lm, 2) == ['{"text": "one"}']


# --- over the ends of processes ---------------------------------------------------------------------------------------


async def test_what_was_taken_is_told_again_in_the_same_place_and_what_comes_later_is_not_lost():
    lives = Lives(agent(takes_s=2), ScriptedLM(script(3)))
    store = lives.store
    async with open_runtime(store=store, lm=lives.lm) as runtime:
        handle = await runtime.start(lives.graph, Question("x"), run_id="it")
        await trio.sleep(3)  # in the second round
        await handle.send(Hint("one"), key="1")
        await trio.sleep(2)  # in the third
        await handle.send(Hint("two"), key="2")
        await handle.send(Hint("three"), key="3")
        assert await handle.withdraw("3")
        store.crash()
    before = lives.lm.calls[-1].messages

    lives.store = store.beside()
    assert await lives.last(Question("x")) == Answer("ok")

    assert lives.lm.calls[3].messages[: len(before)] == before
    assert len(lives.lm.calls) == 4  # nothing was asked twice
    assert heard(lives.lm) == ["a tree at 0", "a tree at 1", '{"text": "one"}', "a tree at 2", '{"text": "two"}']


async def test_a_message_for_a_run_that_no_process_has_is_heard_when_one_has_it():
    lives = Lives(agent(), ScriptedLM(script(1)))
    async with open_runtime(store=lives.store, lm=lives.lm) as runtime:
        await runtime.start(lives.graph, Question("x"), run_id="it")
        await trio.sleep(1)
        lives.store.crash()
    async with open_runtime(store=(between := lives.store.beside())) as elsewhere:
        await elsewhere.send("it", Hint("one"), key="1")
        with pytest.raises(UsageError, match="is not at work in this process"):
            await elsewhere.withdraw("it", "1")
        with pytest.raises(UnknownRun):
            await elsewhere.withdraw("another", "1")
    lives.store = between.beside()

    assert await lives.last(Question("x")) == Answer("ok")
    assert heard(lives.lm) == ["a tree at 0", '{"text": "one"}']


async def test_rounds_in_which_nothing_is_said_write_nothing():
    lives = Lives(agent(), ScriptedLM(script(2)))
    await lives.last(Question("x"))

    once = [record.path for record in await lives.records() if record.kind.value == "once"]
    assert len(once) == 2
    assert all("look" in path for path in once)


# --- what cannot be meant ---------------------------------------------------------------------------------------------


async def test_what_is_no_signal_is_rejected():
    async with open_runtime(lm=ScriptedLM([], unused="ok")) as runtime:
        graph = agent()
        handle = await runtime.start(graph, Question("x"))
        with pytest.raises(UsageError, match="takes as signals: Hint"):
            await handle.send(Question("x"))
        with pytest.raises(MessageInvalid, match="txt"):
            await handle.send({"txt": "x"})
        await handle.cancel()


def test_a_signal_that_neither_a_node_nor_an_agent_takes_is_a_problem_of_the_check():
    graph: Graph[Question, Answer] = Graph("none", input=Question, output=Answer, signals=Hint)

    @graph.predict
    async def answer(question: Question) -> Answer:
        """Answer."""
        raise NotImplementedError

    [problem] = graph.check()
    assert problem.code == "signal-not-taken"
    assert problem.message == "no node takes the graph's signal Hint, and it has no agent to hear it."
