"""What a system of typed nodes promises its authors of results, prompts, errors, models and runs, by its row."""

# mypy: disable-error-code="empty-body"
# pyright: reportReturnType=false

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import attrs
import dspy  # noqa: F401 - loading it takes a thread, for which virtual time does not wait
import pytest
import trio
import trio.testing

from actors import (
    LM,
    DeclarationError,
    Dep,
    DepError,
    Graph,
    NodeFailed,
    NodeTimedOut,
    NoOutput,
    Recall,
    RecallError,
    Redelivery,
    Run,
    RunCancelled,
    RunError,
    RunFailed,
    StepsExceeded,
    UnderstudyError,
)
from runtime import open_runtime
from runtime.graphs.records.run_record import RunStatus
from runtime.lm.backends.claude_cli import ClaudeCLI
from runtime.testing import ScriptedLM
from tests.runtime.graphs.stage import TWICE, Ask, Done, Other, Part, graph_of

ONCE = Redelivery(max_attempts=1)


async def echo(ask: Ask) -> Done:
    await trio.sleep(1)
    return Done(ask.n)


async def test_a24_the_result_is_an_instance_of_the_output_and_may_be_asked_for_again(virtual_clock):
    async with open_runtime() as runtime:
        handle = await runtime.start(graph_of(echo), Ask(3))
        assert handle.status is RunStatus.RUNNING
        first = await handle.result()
        assert await handle.result() is first

    assert (first, handle.status) == (Done(3), RunStatus.SUCCEEDED)


@attrs.frozen
class TravelPlan:
    city: str
    days: int


async def test_a28_the_types_of_a_node_are_the_signature_and_its_docstring_is_the_instruction(virtual_clock):
    graph = Graph("g", input=Ask, output=TravelPlan)

    @graph.predict
    async def plan_the_journey(ask: Ask) -> TravelPlan:
        """Plan the journey that was asked for."""
        ...

    lm = ScriptedLM([{"city": "Bergen", "days": "3"}])
    async with open_runtime(lm=lm) as runtime:
        assert await runtime.run(graph, Ask(4711)) == TravelPlan("Bergen", 3)

    (call,) = lm.calls
    for expected in ("[[ ## n ## ]]\n4711", "`city` (str)", "`days` (int)", "Plan the journey that was asked for."):
        assert expected in call.text


async def never(ask: Ask) -> Done | None:
    return None


async def again(ask: Ask) -> Ask | Done:
    return Ask(ask.n + 1)


async def raises(ask: Ask) -> Done:
    raise ConnectionError("down")


def broken() -> int:
    raise KeyError("shelf")


async def needs(ask: Ask, shelf: Annotated[int, Dep(broken)]) -> Done:
    return Done(shelf)


@pytest.mark.parametrize(
    ("node", "kind", "status"),
    [(never, NoOutput, "done"), (again, StepsExceeded, "done"), (raises, RunFailed, "failed"), (needs, RunFailed, "failed")],
)
async def test_a30_every_error_of_a_run_is_of_one_family_and_the_trace_of_the_run_is_kept(node, kind, status, virtual_clock):
    async with open_runtime() as runtime:
        handle = await runtime.start(graph_of(node, redelivery=ONCE), Ask(), max_steps=3)
        with pytest.raises(kind) as caught:
            await handle.result()

    assert isinstance(caught.value, RunError)
    assert isinstance(caught.value, UnderstudyError)
    assert caught.value.run_id == handle.id
    assert caught.value.trace == handle.trace
    assert (handle.trace[0].node, handle.trace[0].status) == (node.__name__, status)


async def test_a30_the_causes_lead_to_what_was_raised_first():
    async with open_runtime() as runtime:
        with pytest.raises(RunFailed) as caught:
            await runtime.run(graph_of(needs, redelivery=ONCE), Ask())

    (leaf,) = caught.value.exceptions
    assert isinstance(leaf, NodeFailed)
    assert isinstance(leaf.__cause__, DepError)
    assert isinstance(leaf.__cause__.__cause__, KeyError)
    assert [step.node for step in leaf.trace] == ["needs"]


async def test_a38_a_run_that_is_cancelled_tells_what_was_done_before(virtual_clock):
    async with open_runtime() as runtime:
        handle = await runtime.start(graph_of(echo), Ask())
        await trio.sleep(0.5)
        await handle.cancel()
        with pytest.raises(RunCancelled) as caught:
            await handle.result()

    assert [(step.node, step.status, step.ended_at_s) for step in caught.value.trace] == [("echo", "cancelled", 0.5)]


async def recalls(ask: Ask, part: Annotated[Part, Recall()]) -> Done | Part:
    raise NotImplementedError


async def slow(ask: Ask) -> Done:
    await trio.sleep(2)
    return Done()


async def take(part: Part) -> Ask | None: ...


@pytest.mark.parametrize(("nodes", "kind"), [([needs], DepError), ([recalls, take], RecallError), ([slow], NodeTimedOut)])
async def test_a38_the_error_of_the_runtime_in_which_a_node_failed_has_the_trace_too(nodes, kind, virtual_clock):
    async with open_runtime() as runtime:
        with pytest.raises(RunFailed) as caught:
            await runtime.run(graph_of(*nodes, redelivery=ONCE, timeout_s=1), Ask())

    (leaf,) = caught.value.exceptions
    assert isinstance(leaf, NodeFailed)
    assert isinstance(leaf.__cause__, kind)
    assert isinstance(leaf.__cause__, RunError)
    assert leaf.__cause__.trace == leaf.trace == caught.value.trace
    assert [step.status for step in leaf.trace] == ["failed"]


async def test_a33_a_language_model_may_be_a_program(tmp_path: Path):
    program = tmp_path / "program.py"
    program.write_text("""import json; print(json.dumps({"type": "result", "is_error": False, "result": "Good day."}))""")

    async def ask_it(ask: Ask) -> Done:
        answer = await ClaudeCLI("m", command=(sys.executable, str(program))).chat([{"role": "user", "content": "?"}])
        return Done(answer.text)

    async with open_runtime() as runtime:
        assert await runtime.run(graph_of(ask_it), Ask()) == Done("Good day.")


async def test_a34_the_default_language_model_serves_nodes_that_name_none(virtual_clock):
    async def unnamed(ask: Ask, lm: LM) -> Part:
        return Part(int((await lm.chat([{"role": "user", "content": "?"}])).text))

    async def named(part: Part, lm: LM) -> Done:
        return Done((part.n, lm.model))

    graph = graph_of(unnamed)
    graph.node(lm="large")(named)
    async with open_runtime(lm=ScriptedLM(["5"]), lms={"large": ScriptedLM([], model="big")}) as runtime:
        assert await runtime.run(graph, Ask()) == Done((5, "big"))


async def test_a34_without_one_the_graph_is_refused_before_anything_runs(virtual_clock):
    async def unnamed(ask: Ask, lm: LM) -> Done:
        return Done(lm.model)

    async with open_runtime() as runtime:
        with pytest.raises(DeclarationError, match="wants a language model, but the runtime has no default one"):
            await runtime.run(graph_of(unnamed), Ask())


async def test_a35_runs_have_states_times_and_a_bound_and_are_cancelled_one_by_one(virtual_clock):
    graph = graph_of(echo)
    async with open_runtime() as runtime, trio.open_nursery() as nursery:
        deployment = await runtime.deploy(graph, max_runs=2)
        one, two = await runtime.start(graph, Ask(1)), await runtime.start(graph, Ask(2), "two")
        nursery.start_soon(runtime.run, graph, Ask(3))
        await trio.testing.wait_all_tasks_blocked()
        assert deployment.active_runs == 3

        await trio.sleep(0.5)
        await two.cancel()
        assert await one.result() == Done(1)
        with pytest.raises(RunCancelled):
            await two.result()

    assert [(run.id, run.status) for run in (one, two)] == [("g-1", RunStatus.SUCCEEDED), ("two", RunStatus.CANCELLED)]
    assert [(run.trace[0].started_at_s, run.trace[0].ended_at_s) for run in (one, two)] == [(0, 1), (0, 0.5)]
    assert (deployment.active_runs, trio.current_time()) == (0, 1.5)


async def test_a35_the_runs_under_way_are_listed_with_their_times_and_any_of_them_is_cancelled_by_its_id(virtual_clock):
    graph = graph_of(echo)
    async with open_runtime() as runtime, trio.open_nursery() as nursery:
        assert runtime.runs() == {}
        nursery.start_soon(runtime.run, graph, Ask(1))
        await trio.sleep(0.5)
        mine = await runtime.start(graph, Ask(2), "mine")
        assert [(run.id, run.graph, run.status, run.started_at_s, run.ended_at_s) for run in runtime.runs().values()] == [
            ("g-1", "g", "running", 0, None),
            ("mine", "g", "running", 0.5, None),
        ]

        await runtime.runs()["mine"].cancel()
        assert list(runtime.runs()) == ["g-1"]
        await trio.sleep(1)
        assert runtime.runs() == {}

    assert (mine.status, mine.ended_at_s) == (RunStatus.CANCELLED, 0.5)


async def test_a36_what_a_run_begins_with_is_written_with_keywords_and_a_graph_is_a_node_that_takes_it(virtual_clock):
    inner = graph_of(echo)

    async def begin(part: Part) -> Ask:
        return Ask(n=part.n)

    async def finish(done: Done) -> Other:
        return Other(n=done.n)

    outer = Graph("outer", input=Part, output=Other)
    outer.node(begin)
    outer.node(finish)
    outer.add(inner)
    with pytest.raises(TypeError, match="unexpected keyword argument 'm'"):
        Part(m=1)  # type: ignore[call-arg]
    async with open_runtime() as runtime:
        assert await runtime.run(outer, Part(n=4)) == Other(n=4)
        with pytest.raises(DeclarationError, match=r"graph 'outer' takes Part as its input\. Got: an Ask\."):
            await runtime.run(outer, Ask(n=4))  # type: ignore[misc]  # so do type checkers


async def test_a37_a_node_is_a_dependency_run_once_by_its_own_actors(virtual_clock):
    attempts: list[int] = []

    async def loads(ask: Ask, run: Run) -> Part:
        attempts.append(run.attempt)
        if run.attempt == 1:
            raise ConnectionError("once")
        return Part(ask.n + 1)

    async def first(ask: Ask, loaded: Annotated[Part, Dep(loads)]) -> Part:
        return loaded

    async def end(part: Part, loaded: Annotated[Part, Dep(loads)]) -> Done:
        return Done((part.n, loaded.n))

    async with open_runtime() as runtime:
        handle = await runtime.start(graph_of(loads, first, end, redelivery=TWICE), Ask(1))
        assert await handle.result() == Done((2, 2))

    assert attempts == [1, 2]
    assert [(step.path, step.attempt) for step in handle.trace] == [("g/first/0", 1), ("g/loads/0", 2), ("g/end/0", 1)]


async def test_a37_an_effect_on_an_edge_is_a_node_that_takes_what_goes_along_it(virtual_clock):
    mailed: list[int] = []

    async def make(ask: Ask) -> Part:
        return Part(ask.n)

    async def mail(part: Part) -> None:
        mailed.append(part.n)

    async def end(part: Part) -> Done:
        await trio.sleep(1)
        return Done(part.n)

    async with open_runtime() as runtime:
        assert await runtime.run(graph_of(make, mail, end), Ask(5)) == Done(5)

    assert mailed == [5]


async def test_a38_a_run_that_fails_half_way_tells_what_was_done_before(virtual_clock):
    async def first(ask: Ask) -> Part:
        await trio.sleep(1)
        return Part(ask.n)

    async def second(part: Part) -> Done:
        await trio.sleep(1)
        raise ConnectionError("down")

    async with open_runtime() as runtime:
        with pytest.raises(RunFailed) as caught:
            await runtime.run(graph_of(first, second, redelivery=TWICE), Ask())

    (leaf,) = caught.value.exceptions
    assert isinstance(leaf, NodeFailed)
    assert [(step.node, step.attempt, step.status, step.ended_at_s) for step in leaf.trace] == [
        ("first", 1, "done", 1),
        ("second", 2, "failed", 6),
    ]
