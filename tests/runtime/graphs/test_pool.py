"""Instances of one node: when they start, what they are called, when one is replaced."""

from typing import Any

import pytest
import trio

from actors import Actor, ChildSpec, Graph, RestartType
from runtime import open_runtime
from tests.runtime.graphs.stage import EXACT, Ask, Done, Part, graph_of, living


async def slow(ask: Ask) -> Done:
    await trio.sleep(1)
    if ask.n == 99:
        raise ValueError("bug")
    return Done(ask.n)


class Echo(Actor):
    async def receive(self, message: Any) -> Any:
        return message


def instances(runtime: Any) -> list[str]:
    (graph,) = runtime.tree().children
    return [node.address for node in graph.children]


async def test_another_instance_starts_only_when_none_is_idle(virtual_clock):
    graph = graph_of(slow)
    async with open_runtime() as runtime:
        await runtime.run(graph, Ask())
        await runtime.run(graph, Ask())
        alone = instances(runtime)
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(runtime.run, graph, Ask())

        assert (alone, instances(runtime)) == (["g/slow"], ["g/slow", "g/slow#2", "g/slow#3"])
        assert trio.current_time() == 3.0


async def test_all_instances_are_one_address_to_senders_and_share_one_mailbox(virtual_clock):
    graph = graph_of(slow, concurrency=2)
    async with open_runtime() as runtime, trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(runtime.run, graph, Ask())
        await trio.sleep(0.5)
        seen = runtime.statistics().actors

        assert [(each.state, each.mailbox.depth) for each in (seen["g/slow"], seen["g/slow#2"])] == [("running", 3)] * 2


async def test_an_instance_has_a_name_of_its_own_even_if_a_node_already_has_that_one(virtual_clock):
    async def first(ask: Ask) -> Part:
        await trio.sleep(1)
        return Part()

    async def second(part: Part) -> Done:
        return Done()

    graph = Graph("g", input=Ask, output=Done, supervision=EXACT)
    graph.node(name="a")(first)
    graph.node(name="a#2")(second)
    async with open_runtime() as runtime, trio.open_nursery() as nursery:
        for _ in range(2):
            nursery.start_soon(runtime.run, graph, Ask())
        await trio.sleep(0.5)

        assert instances(runtime) == ["g/a", "g/a#2", "g/a#3"]


@pytest.mark.parametrize("restart", RestartType)
async def test_a_node_serves_on_after_a_failure_whatever_its_restart_type(restart, virtual_clock):
    graph = graph_of(slow, concurrency=1, restart=restart)
    async with open_runtime() as runtime:
        bad = await runtime.start(graph, Ask(99))
        good = [await runtime.start(graph, Ask(n)) for n in range(3)]
        with trio.fail_after(20):
            results = [await handle.result() for handle in good]

        assert (bad.status, results) == ("failed", [Done(0), Done(1), Done(2)])
        assert instances(runtime) == ["g/slow"]


async def test_others_serve_while_one_instance_waits_for_its_restart(virtual_clock):
    graph = graph_of(slow, concurrency=2)
    async with open_runtime() as runtime:
        bad = await runtime.start(graph, Ask(99))
        with pytest.raises(ExceptionGroup):
            await bad.result()
        await runtime.run(graph, Ask(1))

        assert trio.current_time() == 2.0
        assert runtime.statistics().actors["g/slow"].restarts == 1


async def test_an_instance_that_is_started_again_by_hand_is_one_of_the_pool_again(virtual_clock):
    alive = living()
    graph = graph_of(slow, concurrency=1)
    async with open_runtime() as runtime:
        await runtime.deploy(graph)
        supervisor: Any = runtime.whereis("g")
        await supervisor.terminate_child("slow")
        await supervisor.restart_child("slow")
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(runtime.run, graph, Ask())

        assert (instances(runtime), trio.current_time()) == (["g/slow"], 3.0)
        await supervisor.terminate_child("slow")
        assert await runtime.run(graph, Ask(5)) == Done(5)
    assert living() == alive


async def test_the_name_of_an_instance_that_is_gone_is_left_to_whoever_has_taken_it(virtual_clock):
    graph = graph_of(slow, concurrency=1)
    async with open_runtime() as runtime:
        await runtime.deploy(graph)
        supervisor: Any = runtime.whereis("g")
        await supervisor.terminate_child("slow")
        await supervisor.delete_child("slow")
        other = await supervisor.start_child(ChildSpec("slow", Echo))

        assert await runtime.run(graph, Ask(1)) == Done(1)
        assert await other.ask("still there") == "still there"
        assert instances(runtime) == ["g/slow", "g/slow#2"]
