"""Deploying graphs, what nodes are given, and how deployments live beside each other."""

import contextvars
import gc
import math
import re
import threading
import weakref
from typing import Any

import dspy  # noqa: F401 - loading it takes a thread, for which virtual time does not wait
import pytest
import trio

from actors import LM, Actor, Backoff, Graph, GraphInvalid, RestartType, Run, RunFailed, Supervision
from actors.errors import ActorFailed, ActorStopped, DeclarationError, RestartsExhausted, UsageError
from runtime import ActorStarted, open_runtime
from runtime.core.envelope import Envelope
from runtime.graphs.records.run_record import Spend
from runtime.graphs.runs.run import ActiveRun
from runtime.testing import ScriptedLM
from tests.runtime.graphs.stage import Ask, Done, Other, Part, graph_of, living

REQUEST: contextvars.ContextVar[str] = contextvars.ContextVar("REQUEST", default="nobody's")


async def echo(ask: Ask) -> Done:
    return Done(ask.n)


# --- deployments ------------------------------------------------------------------------------------------------------


async def test_deploying_starts_one_instance_per_node_under_one_supervisor(virtual_clock):
    async def more(part: Part) -> Done:
        return Done()

    async def part(ask: Ask) -> Part:
        return Part()

    async with open_runtime() as runtime:
        deployment = await runtime.deploy(graph_of(part, more))

        assert str(runtime.tree()).splitlines()[1:] == [
            "  g [supervisor, running, incarnation 1]",
            "    g/part [actor, running, incarnation 1]",
            "    g/more [actor, running, incarnation 1]",
        ]
        assert (deployment.address, deployment.is_running, deployment.active_runs) == ("g", True, 0)


async def test_runs_share_the_actors_of_their_graph(virtual_clock):
    happened: list[Any] = []
    graph = graph_of(echo)
    async with open_runtime(instruments=[happened.append]) as runtime:
        for n in range(5):
            assert await runtime.run(graph, Ask(n)) == Done(n)

    assert [event.address for event in happened if isinstance(event, ActorStarted)] == ["", "g", "g/echo"]


async def test_first_runs_that_begin_at_once_deploy_the_graph_once(virtual_clock):
    graph = graph_of(echo)
    async with open_runtime() as runtime, trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(runtime.run, graph, Ask())
        await trio.testing.wait_all_tasks_blocked()

        assert [node.address for node in runtime.tree().children] == ["g"]


async def test_a_graph_is_deployed_only_once(virtual_clock):
    graph = graph_of(echo)
    async with open_runtime() as runtime:
        await runtime.run(graph, Ask())
        with pytest.raises(UsageError) as caught:
            await runtime.deploy(graph)

    assert str(caught.value) == (
        "graph 'g' is deployed already, as 'g'.\n  Fix: deploy it once, before its first run; or stop() the other deployment."
    )


@pytest.mark.parametrize("wrong", [0, -1, 1.5, True, "2"])
async def test_a_bound_on_runs_that_is_none_is_refused(wrong, virtual_clock):
    async with open_runtime() as runtime:
        with pytest.raises(DeclarationError, match=r"max_runs.* a whole number >= 1 or math\.inf"):
            await runtime.deploy(graph_of(echo), max_runs=wrong)


@pytest.mark.parametrize("wrong", ["g", None, Ask()])
async def test_something_else_than_a_graph_is_refused(wrong, virtual_clock):
    async with open_runtime() as runtime:
        with pytest.raises(UsageError) as caught:
            await runtime.run(wrong, Ask())

    assert str(caught.value) == f"expected a Graph. Got: {wrong!r}.\n  Fix: runtime.run(graph, message), the graph first."


async def test_a_graph_with_problems_is_not_deployed(virtual_clock):
    async with open_runtime() as runtime:
        with pytest.raises(GraphInvalid):
            await runtime.run(Graph("empty", input=Ask, output=Done), Ask())

        assert runtime.tree().children == ()


async def test_two_graphs_of_one_name_live_side_by_side(virtual_clock):
    async def other(ask: Ask) -> Done:
        return Done("other")

    one, two = graph_of(echo), graph_of(other)
    async with open_runtime() as runtime:
        first, second = await runtime.start(one, Ask(1)), await runtime.start(two, Ask(1))

        assert (await first.result(), await second.result()) == (Done(1), Done("other"))
        assert (first.id, second.id) == ("g-1", "g-2")
        assert [node.address for node in runtime.tree().children] == ["g", "g-1"]


async def test_a_graph_that_was_changed_after_its_deployment_is_refused(virtual_clock):
    graph = graph_of(echo)
    async with open_runtime() as runtime:
        await runtime.run(graph, Ask())
        graph.node(name="late")(echo_too)
        with pytest.raises(UsageError) as caught:
            await runtime.run(graph, Ask())

    assert str(caught.value) == (
        "graph 'g' was changed after it was deployed as 'g'.\n  Fix: declare all nodes before the first run."
    )


async def echo_too(ask: Ask) -> Done:
    return Done(ask.n)


@pytest.mark.filterwarnings("ignore:run .* was never awaited:ResourceWarning")  # it is left on purpose
async def test_run_ids_are_the_callers_if_given_and_unique_while_they_live(virtual_clock):
    async def slow(ask: Ask) -> Done:
        await trio.sleep(1)
        return Done()

    graph, other = graph_of(slow), graph_of(echo)
    async with open_runtime() as runtime:
        mine = await runtime.start(graph, Ask(), "g-1")
        ours = await runtime.start(graph, Ask())
        with pytest.raises(UsageError, match=r"^a run 'g-1' is already in progress\.\n  Fix: give each run its own run_id\.$"):
            await runtime.start(other, Ask(), "g-1")
        await mine.result()

        assert (mine.id, ours.id) == ("g-1", "g-2")
        assert (await runtime.start(graph, Ask(), "g-1")).id == "g-1"


@pytest.mark.parametrize("wrong", ["", 5])
async def test_a_run_id_that_is_none_is_refused(wrong, virtual_clock):
    async with open_runtime() as runtime:
        with pytest.raises(UsageError, match=r"^run_id=.*: expected a non-empty string or None\."):
            await runtime.start(graph_of(echo), Ask(), wrong)


async def test_a_closed_runtime_runs_nothing(virtual_clock):
    graph = graph_of(echo)
    async with open_runtime() as runtime:
        await runtime.run(graph, Ask())

    with pytest.raises(Exception, match=r"supervisor '\(root\)' is not running|supervisor .* is not running"):
        await runtime.run(graph, Ask())


# --- the end of a graph -------------------------------------------------------------------------------------------------


async def test_a_graph_killed_by_its_own_budget_fails_its_runs_and_is_deployed_anew_for_the_next(virtual_clock):
    class Worker(Actor):
        async def receive(self, message: Part) -> Done:
            if message.n:
                raise OSError("rain")
            return Done()

    async def work(ask: Ask) -> Part:
        await trio.sleep(1 if ask.n else 9)
        return Part(ask.n)

    graph = graph_of(work, supervision=Supervision(max_restarts=0))
    graph.add(Worker)
    bystander = graph_of(echo)
    async with open_runtime() as runtime:
        await runtime.run(bystander, Ask())
        innocent, guilty = await runtime.start(graph, Ask(0)), await runtime.start(graph, Ask(1))
        with pytest.raises(RunFailed) as caught:
            await guilty.result()
        with pytest.raises(RunFailed) as caught_too:
            await innocent.result()

        cause = caught.value.exceptions[0].__cause__
        assert isinstance(cause, ActorFailed)
        assert isinstance(cause.__cause__, OSError)
        assert isinstance(caught_too.value.exceptions[0].__cause__, RestartsExhausted | ActorStopped)
        assert await runtime.run(bystander, Ask(5)) == Done(5)
        assert await runtime.run(graph, Ask(0)) == Done()


async def test_a_message_behind_one_that_ended_its_only_instance_is_still_handled(virtual_clock):
    async def work(ask: Ask) -> Done:
        await trio.sleep(1)
        if ask.n:
            raise ValueError("bug")
        return Done()

    graph = graph_of(work, concurrency=1, restart=RestartType.TEMPORARY)
    async with open_runtime() as runtime:
        bad, good = await runtime.start(graph, Ask(1)), await runtime.start(graph, Ask(0))
        with trio.fail_after(10):
            assert await good.result() == Done()

        assert bad.status == "failed"


# --- what nodes are given -------------------------------------------------------------------------------------------------


async def test_a_node_is_told_which_run_it_works_for(virtual_clock):
    async def work(part: Part, run: Run) -> Done:
        return Done((run.id, run.graph, run.node, run.path, run.attempt))

    async def part(ask: Ask) -> Part:
        return Part()

    async with open_runtime() as runtime:
        assert await runtime.run(graph_of(part, work), Ask()) == Done(("g-1", "g", "work", "g/work/0", 1))


async def test_each_node_gets_the_model_that_it_names_or_brings_or_the_default(virtual_clock):
    async def plain(ask: Ask, lm: LM) -> Part:
        return Part((await lm.chat([{"role": "user", "content": "?"}])).model)  # type: ignore[arg-type]

    async def named(part: Part, lm: LM) -> Other:
        return Other((part.n, lm.model))  # type: ignore[arg-type]

    async def brought(other: Other, lm: LM) -> Done:
        return Done((*other.n, lm.model))  # type: ignore[misc]

    graph = graph_of(plain)
    graph.node(lm="large")(named)
    graph.node(lm=ScriptedLM([], model="own"))(brought)
    models = {"large": ScriptedLM([], model="big")}
    async with open_runtime(lm=ScriptedLM(["!"], model="default"), lms=models) as runtime:
        assert await runtime.run(graph, Ask()) == Done(("default", "big", "own"))


async def wants(ask: Ask, lm: LM) -> Done:
    return Done()


async def test_a_missing_default_model_is_reported_at_deployment(virtual_clock):
    async with open_runtime() as runtime:
        with pytest.raises(DeclarationError) as caught:
            await runtime.deploy(graph_of(wants))

        assert runtime.tree().children == ()
    assert re.fullmatch(
        r"node 'wants' of graph 'g' \(.*test_engine\.py:\d+\) wants a language model, but the runtime has no default one\.\n"
        r'  Fix: open_runtime\(lm="openai/gpt-4o-mini"\), for example, or give the node its own lm\.',
        str(caught.value),
    )


async def test_a_missing_named_model_is_reported_at_deployment(virtual_clock):
    graph = graph_of(wants, lm="large")
    async with open_runtime(lms={"small": ScriptedLM([])}) as runtime:
        with pytest.raises(DeclarationError) as caught:
            await runtime.deploy(graph)

    assert re.fullmatch(
        r"node 'wants' of graph 'g' \(.*test_engine\.py:\d+\) wants the language model 'large'; the runtime has: 'small'\.\n"
        r"  Fix: open_runtime\(lms=\{'large': \"openai/gpt-4o-mini\"\}\), for example\.",
        str(caught.value),
    )


async def test_a_plain_function_works_in_a_thread_without_holding_the_loop():
    """Real time: a thread does not wait for a virtual clock. The node ends when the loop has gone on, and only then."""
    go = threading.Event()
    seen: list[Any] = []

    def work(ask: Ask, run: Run) -> Done:
        seen.append((threading.current_thread() is threading.main_thread(), REQUEST.get(), run.node))
        assert go.wait(5)
        return Done(ask.n)

    REQUEST.set("opener's")
    async with open_runtime() as runtime:
        handle = await runtime.start(graph_of(work), Ask(3))
        go.set()

        assert await handle.result() == Done(3)
    assert seen == [(False, "opener's", "work")]


async def test_a_node_sees_the_context_variables_of_whoever_started_its_run_and_of_no_other_run(virtual_clock):
    async def work(ask: Ask) -> Done:
        seen = REQUEST.get()
        REQUEST.set("left behind")
        await trio.sleep(1)
        return Done(seen)

    async def request(runtime: Any, graph: Graph, name: str) -> None:
        REQUEST.set(name)
        assert await runtime.run(graph, Ask()) == Done(name)
        assert REQUEST.get() == name

    graph = graph_of(work)
    async with open_runtime() as runtime, trio.open_nursery() as nursery:
        for name in ("ada", "bob", "eve"):
            nursery.start_soon(request, runtime, graph, name)


async def test_the_models_of_a_runtime_are_there_outside_of_nodes_too(virtual_clock):
    async with open_runtime(lm=ScriptedLM(["hello"]), lms={"large": ScriptedLM(["HELLO"])}) as runtime:
        said = [await lm.chat([{"role": "user", "content": "?"}]) for lm in (runtime.lm, runtime.lms["large"])]

        assert ([each.text for each in said], list(runtime.lms)) == (["hello", "HELLO"], ["large"])
    async with open_runtime() as runtime:
        with pytest.raises(UsageError, match=r"^this runtime has no default language model\.\n  Fix: open_runtime\("):
            _ = runtime.lm


@pytest.mark.filterwarnings("ignore:run .* was never awaited:ResourceWarning")  # it is left on purpose
async def test_what_a_run_spends_is_the_sum_of_its_calls(virtual_clock):
    async def work(ask: Ask, lm: LM) -> Done:
        await lm.chat([{"role": "user", "content": "one two"}])
        await lm.predict("question -> answer", question="?")
        return Done()

    lm = ScriptedLM(["three four five", {"answer": "!"}])
    async with open_runtime(lm=lm) as runtime:
        handle, idle = await runtime.start(graph_of(work), Ask()), await runtime.start(graph_of(echo), Ask())
        await handle.result()

    usages = [call.completion.usage for call in lm.calls if call.completion is not None]
    assert handle.spend == Spend(2, 2, sum(u.prompt_tokens for u in usages), sum(u.completion_tokens for u in usages), 0.0)
    assert idle.spend == Spend()


async def test_a_graph_may_run_inside_a_node_of_another_and_of_itself(virtual_clock):
    async def countdown(ask: Ask) -> Done:
        await trio.sleep(1)
        return Done(0) if ask.n == 0 else Done((await runtime.run(graph, Ask(ask.n - 1))).n + 1)

    graph = graph_of(countdown)
    async with open_runtime() as runtime:
        assert await runtime.run(graph, Ask(5)) == Done(5)
        assert trio.current_time() == 6.0


# --- memory ---------------------------------------------------------------------------------------------------------------


@pytest.mark.not_explored("a thousand runs")
async def test_a_thousand_runs_leave_nothing_behind(virtual_clock):
    async def work(ask: Ask) -> Part:
        return Part(ask.n)

    async def end(part: Part) -> Done:
        if part.n % 10 == 0:
            raise ValueError("bug")
        return Done()

    graph = graph_of(work, end, supervision=Supervision(max_restarts=math.inf, backoff=Backoff(first_s=0)))
    alive = living()
    gc.collect()
    before = {id(each) for each in gc.get_objects() if type(each) in (ActiveRun, Envelope)}
    async with open_runtime() as runtime:
        for n in range(1000):
            try:
                await runtime.run(graph, Ask(n))
            except RunFailed:
                assert n % 10 == 0
        await trio.testing.wait_all_tasks_blocked()

        gc.collect()
        left = [each for each in gc.get_objects() if type(each) in (ActiveRun, Envelope) and id(each) not in before]
        assert left == []
        assert len(runtime.tree().children[0].children) <= 3  # one more may have served while one was restarted
    assert living() == alive


async def test_a_handle_is_all_that_keeps_a_finished_run(virtual_clock):
    async with open_runtime() as runtime:
        handle = await runtime.start(graph_of(echo), Ask())
        await handle.result()
        kept = weakref.ref(handle._run)  # pyright: ignore[reportPrivateUsage]
        del handle
        await trio.testing.wait_all_tasks_blocked()
        gc.collect()

        assert kept() is None


async def test_a_stopped_graph_is_forgotten(virtual_clock):
    graph = graph_of(echo)
    kept = weakref.ref(graph)
    async with open_runtime() as runtime:
        deployment = await runtime.deploy(graph)
        await runtime.run(graph, Ask())
        await deployment.stop()
        del graph, deployment
        gc.collect()

        assert kept() is None
