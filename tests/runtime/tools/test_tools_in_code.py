"""The tools of a toolbox in an author's own code: in a node, in an agent of DSPy's, and outside of runs."""

from __future__ import annotations

import functools
from typing import Annotated, Any

import attrs
import dspy
import pytest
import trio

from actors import LM, Actor, Dep, Graph, Redelivery
from actors.errors import RunFailed, ToolFailed, ToolRefused, UsageError
from actors.graphs.placing import placing_problems
from actors.graphs.toolboxes import CallTool, CancelTool, ListTools, OfferedTool
from runtime import ToolCalled, open_runtime
from runtime.journal.memory import MemoryStore
from runtime.lm.tools.offering import with_schemas
from runtime.testing import ScriptedLM
from runtime.tools import Refused, Toolbox, Tools, tool


@attrs.frozen
class Question:
    text: str


@attrs.frozen
class Answer:
    text: str


class Shelf(Actor):
    """What stands behind a toolbox, such as an MCP server."""

    def __init__(self, seen: list[str]) -> None:
        self._seen = seen

    async def receive(self, message: ListTools | CallTool | CancelTool) -> Any:
        if isinstance(message, ListTools):
            schema: dict[str, Any] = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
            names = ("read_file", "write_file", "wait", "fail", "hidden")
            return tuple(OfferedTool(name, f"To {name}.", schema) for name in names)
        if isinstance(message, CancelTool):
            self._seen.append("cancelled")
            return None
        self._seen.append(message.name)
        if message.name == "fail":
            raise ToolFailed("the disk is full", tool="fail")
        if message.name == "wait":
            self.context.reply_later()
            return None
        return f"{message.name} {message.arguments['name']}"


def shelf(seen: list[str] | None = None) -> Toolbox:
    factory = functools.partial(Shelf, [] if seen is None else seen)
    return Toolbox("files", factory, allow=("read_*", "write_*", "wait", "fail"), approve=("write_*",))


def reading(box: Toolbox, *calls: str, **options: Any) -> Graph[Question, Answer]:
    """A graph of one node that calls the tools."""
    graph = Graph("reading", input=Question, output=Answer)

    @graph.node(**options)
    async def read(question: Question, files: Annotated[Tools, Dep(box)]) -> Answer:
        given = [await files.call(name, name=question.text) for name in calls]
        return Answer(" / ".join(given))

    return graph


async def test_each_call_of_a_nodes_code_is_a_step_with_an_event() -> None:
    async with open_runtime() as runtime, runtime.stream(reading(shelf(), "read_file", "read_file"), Question("a")) as events:
        seen: list[Any] = [event async for event in events]

    called = [(event.tool, event.path, event.error) for event in seen if isinstance(event, ToolCalled)]
    assert called == [("read_file", f"reading/read/0/tool/{at}", None) for at in range(2)]
    assert seen[-1].output == Answer("read_file a / read_file a")


async def test_what_is_not_allowed_is_not_there() -> None:
    async with open_runtime() as runtime:
        with pytest.raises(RunFailed) as caught:
            await runtime.run(reading(shelf(), "hidden"), Question("a"))

    error = caught.value.exceptions[0].__cause__
    assert isinstance(error, UsageError)
    assert str(error).startswith(
        "the toolbox 'files' has no tool 'hidden' that may be called; there are: read_file, write_file, wait, fail.\n  Fix: "
    )


async def test_a_failing_call_raises_in_the_node() -> None:
    async with open_runtime() as runtime:
        with pytest.raises(RunFailed) as caught:
            await runtime.run(reading(shelf(), "fail"), Question("a"))

    assert isinstance(caught.value.exceptions[0].__cause__, ToolFailed)


async def test_a_person_has_to_agree_to_calls_of_code_too(autojump_clock: object) -> None:
    seen: list[str] = []
    async with open_runtime() as runtime:
        handle = await runtime.start(reading(shelf(seen), "write_file"), Question("a"))
        await trio.sleep(1)
        [question] = await runtime.questions()
        await runtime.answer(question.id, Refused("not today"))
        with pytest.raises(RunFailed) as caught:
            await handle.result()

    assert isinstance(caught.value.exceptions[0].__cause__, ToolRefused)
    assert (question.path, seen) == ("reading/read/0/tool/0", [])


async def test_a_cancelled_run_tells_the_toolbox(autojump_clock: object) -> None:
    seen: list[str] = []
    async with open_runtime() as runtime:
        handle = await runtime.start(reading(shelf(seen), "wait"), Question("a"))
        await trio.sleep(1)
        await handle.cancel()
        await trio.sleep(1)

        assert [step.status for step in handle.trace if step.tool] == ["cancelled"]
    assert seen == ["wait", "cancelled"]


async def test_what_a_call_gave_is_kept_in_a_stored_run() -> None:
    seen: list[str] = []
    box, attempts = shelf(seen), [1]
    graph = Graph("reading", input=Question, output=Answer)

    @graph.node(redelivery=Redelivery(max_attempts=2, retry_on=(OSError,)))
    async def read(question: Question, files: Annotated[Tools, Dep(box)]) -> Answer:
        text = await files.call("read_file", name=question.text)
        if attempts:
            raise OSError(attempts.pop())
        return Answer(text)

    async with open_runtime(store=MemoryStore()) as runtime:
        assert await (await runtime.start(graph, Question("a"), run_id="it")).result() == Answer("read_file a")

    assert seen == ["read_file"]


async def test_an_agent_of_dspys_calls_them_on_trio_in_whatever_thread_it_runs() -> None:
    box = shelf()
    graph = Graph("reading", input=Question, output=Answer)

    @graph.node
    async def read(question: Question, lm: LM, files: Annotated[Tools, Dep(box)]) -> Answer:
        make: Any = dspy.ReAct  # whose annotation forgets that it takes a text
        agent = make("question -> answer", tools=files.dspy())
        in_a_thread = dspy.BestOfN(agent, N=1, reward_fn=lambda *_: 1.0, threshold=1.0)
        first = await lm.predict(agent, question=question.text)
        second = await lm.predict(in_a_thread, question=question.text)
        return Answer(f"{first.answer} {second.answer}")

    look = {"next_thought": "look", "next_tool_name": "read_file", "next_tool_args": {"name": "a"}}
    finish = {"next_thought": "done", "next_tool_name": "finish", "next_tool_args": {}}
    lm = ScriptedLM([look, finish, {"reasoning": "r", "answer": "one"}, look, finish, {"reasoning": "r", "answer": "two"}])
    async with open_runtime(lm=lm) as runtime, runtime.stream(graph, Question("a?")) as events:
        seen: list[Any] = [event async for event in events]

    assert seen[-1].output == Answer("one two")
    assert [event.path for event in seen if isinstance(event, ToolCalled)] == [f"reading/read/0/tool/{at}" for at in range(2)]
    assert "To read_file." in lm.calls[0].text
    assert "read_file a" in lm.calls[1].text
    assert "read_file a" in lm.calls[4].text


async def test_they_are_described_in_a_call_of_a_language_model() -> None:
    box = shelf()
    async with open_runtime() as runtime:
        tools = await runtime.tools(box)

        assert [each.name for each in tools] == ["read_file", "write_file", "wait", "fail"]
        assert await next(iter(tools))(name="a") == "read_file a"
    described = with_schemas({"tools": tools})["tools"][0]["function"]
    assert (described["name"], described["parameters"]["required"]) == ("read_file", ["name"])


async def test_outside_of_runs_they_are_found_by_the_name_of_the_toolbox() -> None:
    async with open_runtime() as runtime:
        await runtime.deploy(reading(shelf(), "read_file"))
        tools = await runtime.tools("files")

        assert await tools.call("read_file", name="b") == "read_file b"
        with pytest.raises(UsageError, match="a person has to agree to calls of 'write_file', and only a run can ask one"):
            await tools.call("write_file", name="b")
        with pytest.raises(UsageError, match=r"^tools\('flies'\): none of this name is served here, only 'files'"):
            await runtime.tools("flies")


def test_what_cannot_be_meant_is_a_problem_of_the_check() -> None:
    box = shelf()
    graph = Graph("wrong", input=Question, output=Answer)

    @graph.predict
    async def filled(question: Question, files: Annotated[Tools, Dep(box)]) -> Answer:
        """Answer."""
        raise NotImplementedError

    @graph.node
    async def bare(question: Question, files: Tools) -> Answer:
        return Answer("")

    @graph.node
    async def other(question: Question, files: Annotated[str, Dep(box)]) -> Answer:
        return Answer(files)

    @tool
    async def inside(name: str, files: Annotated[Tools, Dep(box)]) -> str:
        """Read."""
        return await files.call("read_file", name=name)

    @graph.predict(tools=[inside])
    async def agent(question: Question) -> Answer:
        """Answer."""
        raise NotImplementedError

    problems = {problem.node: problem for problem in graph.check() if problem.code in ("predict-tools", "dep-toolbox")}

    assert problems.keys() == {"filled", "bare", "other", "agent"}
    assert "write @graph.predict(tools=[…])" in problems["filled"].fix
    assert problems["bare"].fix == 'write Annotated[Tools, Dep(mcp("files", command=[…]))].'
    assert "the toolbox 'files' gives Tools, and str is wanted" in problems["other"].message
    assert "this isn't a node's parameter" in problems["agent"].message


def test_a_host_of_a_place_has_no_tools() -> None:
    graph = reading(shelf(), "read_file", place="gpu")

    [problem] = placing_problems(graph.plan().nodes["read"])
    assert problem.code == "placed-parameter"
    assert "parameter 'files' gets the tools of 'files', which its hosts don't have" in problem.message
