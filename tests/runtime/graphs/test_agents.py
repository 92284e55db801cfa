"""The agent loop of predict nodes: rounds of tool calls, and what ends them."""

from __future__ import annotations

from typing import Annotated, Any

import attrs
import pytest
import trio

from actors import LM, Dep, Graph, Run
from actors.errors import LMReplyUnreadable, RoundsExceeded, RunFailed
from runtime import FieldDelta, NodeFinished, open_runtime
from runtime.graphs.records.run_events import NodeReported, ToolCalled, ToolCallStarted
from runtime.testing import ScriptedLM, field_answer, tool_answer
from runtime.tools import tool


@attrs.frozen
class Question:
    text: str


@attrs.frozen
class Answer:
    text: str


@attrs.frozen
class NeedsHuman:
    why: str


async def search(query: str, limit: int = 5) -> list[str]:
    """Search the archive.

    Args:
        query: what to look for
        limit: how many to give
    """
    return [f"{query} {number}" for number in range(limit)]


def agent(*tools: object, **options: Any) -> Graph[Question, Answer]:
    graph = Graph("agents", input=Question, output=Answer)

    @graph.predict(tools=list(tools), **options)
    async def answer(question: Question) -> Answer:
        """Answer from the archive."""
        raise NotImplementedError

    return graph


def two_calls(*calls: tuple[str, dict[str, object]]) -> dict[str, object]:
    return {"role": "assistant", "content": None, "tool_calls": [{"name": name, "arguments": given} for name, given in calls]}


async def test_a_model_calls_a_tool_and_answers_from_what_it_gave():
    lm = ScriptedLM([tool_answer("search", query="trio", limit=2), {"text": "two hits"}])

    async with open_runtime(lm=lm) as runtime:
        output = await runtime.run(agent(search), Question("what of trio?"))

    first, second = lm.calls
    assert output == Answer("two hits")
    assert [each["function"]["name"] for each in first.options["tools"]] == ["search"]
    assert [message["role"] for message in second.messages] == ["system", "user", "assistant", "tool"]
    assert second.messages[-1] == {"role": "tool", "tool_call_id": "call_1", "content": '["trio 0", "trio 1"]'}


async def test_each_call_is_a_step_with_a_path_and_an_event():
    lm = ScriptedLM([two_calls(("search", {"query": "a", "limit": 1}), ("search", {"query": "b", "limit": 1})), {"text": "done"}])

    async with open_runtime(lm=lm) as runtime, runtime.stream(agent(search), Question("x")) as events:
        seen = [event async for event in events]

    called = [event for event in seen if isinstance(event, ToolCalled)]
    assert sorted(event.path for event in called) == ["agents/answer/0/tool/0", "agents/answer/0/tool/1"]
    assert {(event.node, event.tool, event.error) for event in called} == {("answer", "search", None)}
    of_tools = [event for event in seen if isinstance(event, ToolCallStarted | ToolCalled)]
    for path in ("agents/answer/0/tool/0", "agents/answer/0/tool/1"):
        assert [type(event) for event in of_tools if event.path == path] == [ToolCallStarted, ToolCalled]


async def test_steps_of_calls_stand_in_the_trace_in_the_models_order():
    lm = ScriptedLM([two_calls(("search", {"query": "a"}), ("search", {"query": "b"})), {"text": "done"}])

    async with open_runtime(lm=lm) as runtime:
        handle = await runtime.start(agent(search), Question("x"))
        await handle.result()

    assert [(step.node, step.path, step.tool, step.status) for step in handle.trace] == [
        ("answer", "agents/answer/0", None, "done"),
        ("answer", "agents/answer/0/tool/0", "search", "done"),
        ("answer", "agents/answer/0/tool/1", "search", "done"),
    ]


async def test_calls_of_one_turn_run_at_the_same_time(autojump_clock: object):
    async def slow(seconds: float) -> str:
        await trio.sleep(seconds)
        return f"{seconds}"

    lm = ScriptedLM([two_calls(("slow", {"seconds": 3}), ("slow", {"seconds": 2})), {"text": "done"}])

    async with open_runtime(lm=lm) as runtime:
        started = trio.current_time()
        await runtime.run(agent(slow), Question("x"))
        took = trio.current_time() - started

    assert took == 3
    assert [message["content"] for message in lm.calls[1].messages[-2:]] == ["3.0", "2.0"]


async def test_wrong_arguments_come_back_to_the_model_as_words_that_it_can_use():
    lm = ScriptedLM([tool_answer("search", query=7), tool_answer("search", query="x", limit=0), {"text": "ok"}])

    async with open_runtime(lm=lm) as runtime:
        assert await runtime.run(agent(search), Question("x")) == Answer("ok")

    told = lm.calls[1].messages[-1]["content"]
    assert "query: got 7, expected str" in told or "query" in told
    assert '"limit"' in told


async def test_arguments_that_never_fit_are_an_answer_that_cannot_be_read():
    lm = ScriptedLM([tool_answer("search", query=7), tool_answer("look", at="x")], unused="ok")

    async with open_runtime(lm=lm) as runtime:
        with pytest.raises(RunFailed) as caught:
            await runtime.run(agent(search), Question("x"))

    cause = caught.value.exceptions[0].__cause__
    assert isinstance(cause, LMReplyUnreadable)
    assert "There is no tool 'look'; the tools are: search." in str(cause)


async def test_after_the_last_round_the_node_fails_with_what_there_is():
    lm = ScriptedLM([tool_answer("search", query="a", limit=0) for _ in range(3)])

    async with open_runtime(lm=lm) as runtime:
        with pytest.raises(RunFailed) as caught:
            await runtime.run(agent(search, max_rounds=2), Question("x"))

    cause = caught.value.exceptions[0].__cause__
    assert isinstance(cause, RoundsExceeded)
    assert cause.rounds == 2
    assert [message["role"] for message in cause.messages] == ["assistant", "tool"] * 2


async def test_after_the_last_round_a_fallback_answers():
    async def give_up(question: Question, error: Exception) -> Answer:
        return Answer(type(error).__name__)

    lm = ScriptedLM([tool_answer("search", query="a", limit=0) for _ in range(2)])

    async with open_runtime(lm=lm) as runtime:
        output = await runtime.run(agent(search, max_rounds=1, fallback=give_up), Question("x"))

    assert output == Answer("RoundsExceeded")


async def test_a_tool_that_fails_is_told_to_the_model():
    async def broken() -> str:
        raise LookupError("no such shelf")

    lm = ScriptedLM([tool_answer("broken"), {"text": "sorry"}])

    async with open_runtime(lm=lm) as runtime:
        assert await runtime.run(agent(broken), Question("x")) == Answer("sorry")

    assert lm.calls[1].messages[-1]["content"] == "Error: LookupError: no such shelf"


async def test_a_tool_that_fails_can_fail_the_node_and_ends_the_other_calls(autojump_clock: object):
    ended: list[str] = []

    async def broken() -> str:
        await trio.sleep(1)
        raise LookupError("no such shelf")

    async def endless() -> str:
        try:
            await trio.sleep_forever()
        finally:
            ended.append("endless")

    lm = ScriptedLM([two_calls(("endless", {}), ("broken", {}))])

    async with open_runtime(lm=lm) as runtime:
        with pytest.raises(RunFailed) as caught:
            await runtime.run(agent(broken, endless, on_tool_error="fail"), Question("x"))

    assert isinstance(caught.value.exceptions[0].__cause__, LookupError)
    assert ended == ["endless"]
    assert [step.status for step in caught.value.trace if step.tool] == ["cancelled", "failed"]


async def test_a_call_has_its_own_deadline(autojump_clock: object):
    @tool(timeout_s=2)
    async def endless() -> None:
        await trio.sleep_forever()

    lm = ScriptedLM([tool_answer("endless"), {"text": "late"}])

    async with open_runtime(lm=lm) as runtime:
        await runtime.run(agent(endless), Question("x"))

    assert lm.calls[1].messages[-1]["content"] == ("Error: ToolTimedOut: the tool 'endless' did not finish within timeout_s=2.")


async def test_cancelling_the_run_ends_its_calls(autojump_clock: object):
    ended = trio.Event()

    async def endless() -> str:
        try:
            await trio.sleep_forever()
        finally:
            ended.set()

    lm = ScriptedLM([tool_answer("endless")])

    async with open_runtime(lm=lm) as runtime:
        handle = await runtime.start(agent(endless), Question("x"))
        await trio.sleep(1)
        await handle.cancel()

        assert ended.is_set()
        assert [step.status for step in handle.trace] == ["cancelled", "cancelled"]


def shelf() -> str:
    return "shelf 7"


async def test_what_is_injected_is_hidden_from_the_model_and_given_to_the_tool():
    seen: list[object] = []

    async def look(at: str, lm: LM, run: Run, place: Annotated[str, Dep(shelf)]) -> str:
        seen.extend([lm.model, run.path, place])
        run.report("looking", done=1, of=2)
        return at

    lm = ScriptedLM([tool_answer("look", at="x"), {"text": "ok"}])

    async with open_runtime(lm=lm) as runtime, runtime.stream(agent(look), Question("x")) as events:
        reports = [event async for event in events if isinstance(event, NodeReported)]

    assert seen == ["scripted", "agents/answer/0/tool/0", "shelf 7"]
    assert list(lm.calls[0].options["tools"][0]["function"]["parameters"]["properties"]) == ["at"]
    assert [(event.path, event.text, event.done, event.of) for event in reports] == [("agents/answer/0/tool/0", "looking", 1, 2)]


async def test_a_plain_function_runs_in_a_thread():
    def add(one: int, other: int) -> int:
        trio.from_thread.check_cancelled()
        return one + other

    lm = ScriptedLM([tool_answer("add", one=1, other=2), {"text": "3"}])

    async with open_runtime(lm=lm) as runtime:
        await runtime.run(agent(add), Question("x"))

    assert lm.calls[1].messages[-1]["content"] == "3"


async def test_a_graph_is_a_tool():
    inner = Graph("lookup", input=Question, output=Answer)

    @inner.node
    async def look(question: Question) -> Answer:
        return Answer(question.text.upper())

    lm = ScriptedLM([two_calls(("lookup", {"text": "a"}), ("lookup", {"text": "b"})), {"text": "ok"}])

    async with open_runtime(lm=lm) as runtime:
        handle = await runtime.start(agent(tool(inner)), Question("x"))
        await handle.result()

    assert [message["content"] for message in lm.calls[1].messages[-2:]] == ['{"text": "A"}', '{"text": "B"}']
    assert "agents/answer/0/tool/1/look/0" in [step.path for step in handle.trace]


async def test_the_choice_among_types_comes_after_the_calls():
    graph = Graph[Question, Answer | NeedsHuman]("agents", input=Question, output=Answer | NeedsHuman)

    @graph.predict(tools=[search])
    async def answer(question: Question) -> Answer | NeedsHuman:
        """Answer, or say that you cannot."""
        raise NotImplementedError

    lm = ScriptedLM([tool_answer("search", query="a", limit=1), {"choice": "NeedsHuman"}, {"why": "too few"}])

    async with open_runtime(lm=lm) as runtime:
        assert await runtime.run(graph, Question("x")) == NeedsHuman("too few")

    assert [message["role"] for message in lm.calls[2].messages] == ["system", "user", "assistant", "tool"]


async def test_an_answer_that_cannot_be_read_is_asked_for_again_after_the_rounds():
    @attrs.frozen
    class Count:
        number: int

    graph = Graph("counts", input=Question, output=Count)

    @graph.predict(tools=[search])
    async def count(question: Question) -> Count:
        """Count."""
        raise NotImplementedError

    lm = ScriptedLM([tool_answer("search", query="a", limit=1), {"number": "many"}, {"number": 4}])

    async with open_runtime(lm=lm) as runtime:
        assert await runtime.run(graph, Question("x")) == Count(4)

    roles = [message["role"] for message in lm.calls[2].messages]
    assert roles == ["system", "user", "assistant", "tool", "assistant", "user"]


async def test_a_model_without_calls_of_its_own_calls_in_text():
    call = 'I look it up.\n[[ ## tool_calls ## ]]\n[{"name": "search", "arguments": {"query": "a", "limit": 1}}]'
    lm = ScriptedLM([call, {"text": "one"}], tools="text")

    async with open_runtime(lm=lm) as runtime:
        assert await runtime.run(agent(search), Question("x")) == Answer("one")

    first, second = lm.calls
    assert "tools" not in first.options
    assert ["Search the archive." in message["content"] for message in first.messages] == [False, True, False]
    assert second.messages[-1]["content"] == 'Result of search (call_1):\n["a 0"]'


async def test_hints_tell_the_model_how_far_it_may_go():
    lm = ScriptedLM([tool_answer("search", query="a", limit=0), {"text": "ok"}])

    async with open_runtime(lm=lm) as runtime:
        await runtime.run(agent(search, hints=True, max_rounds=3), Question("x"), max_steps=10)

    assert lm.calls[1].messages[-1]["content"] == "[]\n\n[You may call tools in 2 more turns; 9 steps of the run are left.]"


async def test_fields_are_streamed_from_the_last_round():
    lm = ScriptedLM([tool_answer("search", query="a", limit=0), field_answer(text="the end")])

    async with open_runtime(lm=lm) as runtime, runtime.stream(agent(search, stream=True), Question("x")) as events:
        seen = [event async for event in events]

    assert next(event for event in seen if isinstance(event, NodeFinished)).output == Answer("the end")
    assert "".join(event.text for event in seen if isinstance(event, FieldDelta)) == "the end"
