"""What it costs to look at many actors, and whether what errors say is so."""

from __future__ import annotations

import gc
import math
import pickle
import traceback
import typing
import weakref
from collections.abc import AsyncIterator
from typing import Annotated, Any

import attrs
import pytest
import trio

from actors import (
    Actor,
    ActorFailed,
    ActorStartFailed,
    ActorStopped,
    ChildAlreadyPresent,
    ChildSpec,
    Dep,
    Graph,
    RestartsExhausted,
    RestartType,
    Supervision,
    supervisor_spec,
)
from actors.actor import ActorState
from runtime import TreeNode, open_runtime
from tests.runtime.cast import Boom, Echo, Recorder, settled, stage


async def test_f8_statistics_reads_no_actor_until_its_figures_are_wanted(autojump_clock, monkeypatch):
    async with stage() as runtime:
        children = [ChildSpec(f"c{number}", Echo) for number in range(1200)]
        await runtime.supervise(children, name="s")
        read: list[str] = []
        cells = type(runtime.whereis("s/c0").cell)
        original = cells.statistics

        def noted(cell: Any) -> Any:
            read.append(cell.address)
            return original(cell)

        monkeypatch.setattr(cells, "statistics", noted)

        seen = runtime.statistics()
        assert (len(seen.actors), read) == (1200, [])
        assert seen.actors["s/c7"].address == "s/c7"
        assert read == ["s/c7"]
        sizes = [len(some) for some in seen.slices()]
        assert sizes == [500, 500, 200]


async def test_f8_a_tree_makes_no_node_until_somebody_looks_at_it(autojump_clock, monkeypatch):
    async with stage() as runtime:
        for name in ("s", "t"):
            await runtime.supervise([ChildSpec(f"c{number}", Echo) for number in range(1000)], name=name)
        made: list[str] = []
        original = TreeNode.__init__

        def noted(self: Any, address: str, *rest: Any) -> None:
            made.append(address)
            original(self, address, *rest)

        monkeypatch.setattr(TreeNode, "__init__", noted)

        tree = runtime.tree()
        assert made == [""]
        assert (tree.children[1].children[-1].address, len(tree.children[0].children)) == ("t/c999", 1000)
        assert made == ["", "t", "t/c999", "s"]


async def test_f8_a_tree_stays_as_it_was_when_it_was_made(autojump_clock):
    async with stage() as runtime:
        await runtime.supervise([ChildSpec("a", Echo), ChildSpec("b", Echo)], name="s")
        tree = runtime.tree()
        await runtime.stop(runtime.whereis("s/b"))
        await runtime.spawn(Echo, name="late")

        assert [(child.address, child.state) for child in tree.children[0].children] == [("s/a", "running"), ("s/b", "running")]
        assert str(tree) == (
            "(root) [supervisor, running, incarnation 1]\n"
            "  s [supervisor, running, incarnation 1]\n"
            "    s/a [actor, running, incarnation 1]\n"
            "    s/b [actor, running, incarnation 1]"
        )
        assert tree == pickle.loads(pickle.dumps(tree))
        assert tree != runtime.tree()
        assert tree.children[0].children[:1] == (TreeNode("s/a", "actor", ActorState.RUNNING, 1),)
        assert hash(tree.children) == hash(tuple(tree.children))


async def test_f8_which_children_of_very_many_lets_other_tasks_have_their_turn(autojump_clock):
    async with stage() as runtime:
        supervisor = await runtime.supervise([ChildSpec(f"c{number}", Echo) for number in range(3500)], name="s")
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                turns += 1
                await trio.lowlevel.checkpoint()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(count)
            await trio.lowlevel.checkpoint()
            before, found = turns, await supervisor.which_children()
            nursery.cancel_scope.cancel()

        assert turns - before >= 3
        assert [child.id for child in found] == [f"c{number}" for number in reversed(range(3500))]


def nested(depth: int) -> Any:
    if not depth:
        return ChildSpec("bad", Echo)
    return supervisor_spec(f"s{depth}", [nested(depth - 1)], Supervision(max_restarts=0))


async def test_f8_supervisors_that_give_up_one_after_the_other_are_told_as_one_path(autojump_clock):
    async def give_up() -> None:
        async with stage(supervision=Supervision(max_restarts=0)) as runtime:
            await runtime.supervise([nested(7)], Supervision(max_restarts=0), name="top")
            runtime.whereis("top/s7/s6/s5/s4/s3/s2/s1/bad").tell_nowait(Boom("the cause"))
            await trio.sleep_forever()

    with pytest.raises(RestartsExhausted) as caught:
        await give_up()

    error = caught.value
    addresses = ["top" + "".join(f"/s{depth}" for depth in range(7, low, -1)) for low in range(8)]
    assert error.path == (*addresses, "")
    assert repr(error.__cause__) == "Boom('the cause')"
    lines = "".join(traceback.format_exception(error)).splitlines()
    assert sum("gave up:" in line for line in lines) == 1
    assert sum("Path: 'top/s7/s6/s5/s4/s3/s2/s1' -> 'top/s7/s6/s5/s4/s3/s2' -> " in line for line in lines) == 1


async def test_f8_what_gave_up_alone_says_so_without_a_path(autojump_clock):
    async def give_up() -> None:
        async with stage(supervision=Supervision(max_restarts=0)) as runtime:
            (await runtime.spawn(Echo, name="bad")).tell_nowait(Boom())
            await trio.sleep_forever()

    with pytest.raises(RestartsExhausted) as caught:
        await give_up()

    assert caught.value.path == ("",)
    assert "Path:" not in str(caught.value)


@attrs.frozen
class Question:
    text: str


@attrs.frozen
class Answer:
    text: str


async def test_f8_a_dependency_dies_with_the_graph_that_names_it():
    class Heavy:
        pass

    def declare() -> weakref.ref[Any]:
        heavy = Heavy()

        async def connection() -> AsyncIterator[str]:
            yield str(heavy)

        graph = Graph("g", input=Question, output=Answer)

        @graph.node
        async def node(question: Question, link: Annotated[str, Dep(connection)]) -> Answer:
            return Answer(link)

        assert graph.check() == []
        return weakref.ref(heavy)

    alive = declare()
    for clear in typing._cleanups:  # type: ignore[attr-defined]  # typing itself keeps the newest 128 annotations of a kind
        clear()
    gc.collect()

    assert alive() is None


async def test_f8_two_markers_of_one_context_manager_share_its_value(autojump_clock):
    opened: list[str] = []

    async def connection() -> AsyncIterator[int]:
        opened.append("open")
        yield len(opened)
        opened.append("close")

    graph = Graph("g", input=Question, output=Answer)

    async def between(link: Annotated[int, Dep(connection)]) -> str:
        return f"between {link}"

    @graph.node
    async def node(question: Question, link: Annotated[int, Dep(connection)], other: Annotated[str, Dep(between)]) -> Answer:
        return Answer(f"{link} {other}")

    async with open_runtime() as runtime:
        assert await runtime.run(graph, Question("?")) == Answer("1 between 1")
    assert opened == ["open", "close"]


async def test_f8_errors_point_to_where_python_prints_the_cause(autojump_clock):
    def fails() -> Actor:
        raise Boom("no")

    async with stage() as runtime:
        with pytest.raises(ActorStartFailed, match="see the cause above") as caught:
            await runtime.spawn(fails)

    text = "".join(traceback.format_exception(caught.value))
    assert text.index("Boom: no") < text.index("see the cause above")


async def test_f8_what_the_error_of_a_stopped_actor_advises_works(autojump_clock):
    async with stage() as runtime:
        supervisor = await runtime.supervise([ChildSpec("a", Echo)], name="s")
        ref = runtime.whereis("s/a")
        await supervisor.terminate_child("a")
        with pytest.raises(ActorStopped) as caught:
            await ref.ask(1)
        assert "whereis" not in str(caught.value)
        assert "restart_child()" in str(caught.value)

        await supervisor.restart_child("a")
        assert await ref.ask(1) == 1


async def test_f8_a_name_that_a_finished_actor_still_has_is_free_after_what_the_error_advises(autojump_clock):
    async with stage() as runtime:
        ref = await runtime.spawn(Recorder, [], name="job", restart=RestartType.TRANSIENT)
        await ref.tell(("stop",))
        await settled()
        with pytest.raises(ChildAlreadyPresent, match=r"await runtime\.stop\(ref\)"):
            await runtime.spawn(Echo, name="job")

        await runtime.stop(ref)
        assert await (await runtime.spawn(Echo, name="job")).ask(1) == 1


async def test_f8_statistics_can_be_read_outside_of_the_event_loop(autojump_clock):
    """As the faces for threads do."""
    async with stage() as runtime:
        ref = await runtime.spawn(Echo, name="a")
        await ref.ask(1)
        seen = runtime.statistics()

        found = await trio.to_thread.run_sync(lambda: seen.actors["a"].handled)

        assert found == 1
        assert seen.actors["a"].mailbox.capacity < math.inf
        with pytest.raises(ActorFailed):
            await ref.ask(Boom())
