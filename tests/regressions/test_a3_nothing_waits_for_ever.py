"""Nodes and actors that run graphs and wait for them: places never run out, and a ring that only waits is named in the call."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import math
import random
import threading
import typing
from collections.abc import AsyncGenerator, Callable
from typing import Annotated, Any

import attrs
import pytest
import trio
import trio.testing

from actors import Actor, AskCycle, ChildSpec, Dep, Graph, MailboxSpec, RestartType, Run, RunFailed, Supervision
from runtime import Pool, Runtime, open_runtime
from runtime.embed.asyncio import open_runtime_asyncio
from runtime.embed.portal import open_runtime_portal
from tests.runtime.graphs.stage import Ask, Done, Other, Part, graph_of

SOON_S = 30
"""Of virtual time, in which nothing here takes any; of real time for threads."""


def causes(error: BaseException) -> list[BaseException]:
    """`error` and all that it came from."""
    found, line = [], [error]
    while line:
        each = line.pop()
        found.append(each)
        line += [*getattr(each, "exceptions", ()), *([each.__cause__] if each.__cause__ is not None else [])]
    return found


def ring_in(error: BaseException) -> tuple[str, ...]:
    (ring,) = {each.cycle for each in causes(error) if isinstance(each, AskCycle)}
    return ring


class Place:
    """Set by each test: what nodes need to run graphs."""

    runtime: Runtime


# --- places never run out -------------------------------------------------------------------------------------------------


def by_run(runtime: Callable[[], Runtime]) -> Callable[[Graph, Any], Any]:
    async def call(graph: Graph, message: Any) -> Any:
        return await runtime().run(graph, message)

    return call


def by_start(runtime: Callable[[], Runtime]) -> Callable[[Graph, Any], Any]:
    async def call(graph: Graph, message: Any) -> Any:
        return await (await runtime().start(graph, message)).result()

    return call


def by_stream(runtime: Callable[[], Runtime]) -> Callable[[Graph, Any], Any]:
    async def call(graph: Graph, message: Any) -> Any:
        async with runtime().stream(graph, message) as events:
            seen = [event async for event in events]
        return seen[-1].output  # type: ignore[union-attr]  # the last one is a RunFinished

    return call


WAYS = {"run": by_run, "start": by_start, "stream": by_stream}
Call = Callable[[Graph, Any], Any]


def function_node(call: Call) -> Graph:
    async def work(ask: Ask) -> Done:
        return Done(0) if ask.n == 0 else Done((await call(graph, Ask(ask.n - 1))).n + 1)

    graph = graph_of(work)
    return graph


def lonely_node(call: Call) -> Graph:
    async def work(ask: Ask) -> Done:
        return Done(0) if ask.n == 0 else Done((await call(graph, Ask(ask.n - 1))).n + 1)

    graph = graph_of(work, concurrency=1)
    return graph


def class_node(call: Call) -> Graph:
    graph = Graph("g", input=Ask, output=Done)

    @graph.node
    async def begin(ask: Ask) -> Step:
        return Step(ask.n, call, graph)

    graph.node(Step)
    return graph


@attrs.frozen
class Step:
    n: int
    call: Any
    graph: Any

    async def __call__(self) -> Done:
        return Done(0) if self.n == 0 else Done((await self.call(self.graph, Ask(self.n - 1))).n + 1)


def two_graphs(call: Call) -> Graph:
    """x → y → x, one instance each."""

    async def x(ask: Ask) -> Done:
        return Done(0) if ask.n == 0 else Done((await call(other, Ask(ask.n - 1))).n + 1)

    async def y(ask: Ask) -> Done:
        return Done(0) if ask.n == 0 else Done((await call(graph, Ask(ask.n - 1))).n + 1)

    graph, other = Graph("x", input=Ask, output=Done), Graph("y", input=Ask, output=Done)
    graph.node(concurrency=1)(x)
    other.node(concurrency=1)(y)
    return graph


def with_a_nested_graph(call: Call) -> Graph:
    """The graph that waits is a node of the one that it runs."""

    async def work(part: Part) -> Other:
        return Other(0) if part.n == 0 else Other((await call(graph, Ask(part.n - 1))).n + 1)

    async def split(ask: Ask) -> Part:
        return Part(ask.n)

    async def end(other: Other) -> Done:
        return Done(other.n)

    inner = Graph("inner", input=Part, output=Other)
    inner.node(concurrency=1)(work)
    graph = Graph("g", input=Ask, output=Done)
    graph.node(concurrency=1)(split)
    graph.add(inner, concurrency=1)
    graph.node(concurrency=1)(end)
    return graph


def with_a_needed_node(call: Call) -> Graph:
    """What waits is a node on which another depends."""

    async def asks(ask: Ask) -> Part:
        return Part(0) if ask.n == 0 else Part((await call(graph, Ask(ask.n - 1))).n + 1)

    async def end(ask: Ask, part: Annotated[Part, Dep(asks)]) -> Done:
        return Done(part.n)

    graph = Graph("g", input=Ask, output=Done)
    graph.node(concurrency=1)(asks)
    graph.node(concurrency=1)(end)
    return graph


def with_a_needed_function(call: Call) -> Graph:
    async def asks(ask: Ask) -> int:
        return 0 if ask.n == 0 else (await call(graph, Ask(ask.n - 1))).n + 1

    async def end(ask: Ask, number: Annotated[int, Dep(asks)]) -> Done:
        return Done(number)

    graph = graph_of(end, concurrency=1)
    return graph


GRAPHS = {
    "function": function_node,
    "one-instance": lonely_node,
    "class": class_node,
    "x-y-x": two_graphs,
    "nested": with_a_nested_graph,
    "needed-node": with_a_needed_node,
    "needed-function": with_a_needed_function,
}


@pytest.mark.not_explored("a thousand runs")
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", GRAPHS)
async def test_a3_a_graph_that_runs_itself_is_answered_at_depth_100(kind, way, virtual_clock):
    async with open_runtime() as runtime:
        graph = GRAPHS[kind](WAYS[way](lambda: runtime))
        with trio.fail_after(SOON_S):
            assert await runtime.run(graph, Ask(100)) == Done(100)

        assert runtime.runs() == {}


@pytest.mark.not_explored("a thousand runs")
@pytest.mark.parametrize(
    "kind", ["nested", *(pytest.param(kind, marks=pytest.mark.chaos) for kind in GRAPHS if kind != "nested")]
)
async def test_a3_a_graph_that_runs_itself_is_answered_at_depth_1000(kind, virtual_clock):
    async with open_runtime() as runtime:
        graph = GRAPHS[kind](by_run(lambda: runtime))
        with trio.fail_after(SOON_S):
            assert await runtime.run(graph, Ask(1000)) == Done(1000)


@pytest.mark.not_explored("a thousand runs")
@pytest.mark.parametrize("kind", GRAPHS)
@pytest.mark.chaos
async def test_a3_a_thousand_at_once_are_answered(kind, virtual_clock):
    async with open_runtime() as runtime:
        graph, results = GRAPHS[kind](by_run(lambda: runtime)), []

        async def one() -> None:
            results.append(await runtime.run(graph, Ask(1)))

        with trio.fail_after(SOON_S):
            async with trio.open_nursery() as nursery:
                for _ in range(1000):
                    nursery.start_soon(one)

        assert results == [Done(1)] * 1000


@pytest.mark.not_explored("a thousand runs")
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", ["one-instance", "x-y-x", "nested"])
@pytest.mark.chaos
async def test_a3_turns_do_not_run_out(kind, way, virtual_clock):
    async with open_runtime() as runtime:
        graph, results = GRAPHS[kind](WAYS[way](lambda: runtime)), []
        await runtime.deploy(graph, max_runs=1)

        async def one() -> None:
            results.append(await runtime.run(graph, Ask(5)))

        with trio.fail_after(SOON_S):
            assert await runtime.run(graph, Ask(1000 if way == "run" else 100)) == Done(1000 if way == "run" else 100)
            async with trio.open_nursery() as nursery:
                for _ in range(1000 if (kind, way) == ("one-instance", "run") else 100):
                    nursery.start_soon(one)

        assert set(results) == {Done(5)}


@pytest.mark.not_explored("a thousand runs")
@pytest.mark.parametrize("max_runs", [math.inf, 1, 3])
@pytest.mark.parametrize("way", WAYS)
async def test_a3_two_graphs_that_run_one_another_do_not_block_each_other(way, max_runs, virtual_clock):
    """Each holds what the other wants, and neither was started by the other: a ring of places, and of nothing else."""
    async with open_runtime() as runtime:
        call = WAYS[way](lambda: runtime)
        graph, other = Graph("x", input=Ask, output=Done), Graph("y", input=Ask, output=Done)

        @graph.node(concurrency=1)
        async def x(ask: Ask) -> Done:
            await trio.sleep(1)
            return Done(0) if ask.n == 0 else Done((await call(other, Ask(ask.n - 1))).n + 1)

        @other.node(concurrency=1)
        async def y(ask: Ask) -> Done:
            await trio.sleep(1)
            return Done(0) if ask.n == 0 else Done((await call(graph, Ask(ask.n - 1))).n + 1)

        await runtime.deploy(graph, max_runs=max_runs)
        await runtime.deploy(other, max_runs=max_runs)
        results = []

        async def one(which: Graph) -> None:
            results.append(await runtime.run(which, Ask(4)))

        with trio.fail_after(10_000):
            async with trio.open_nursery() as nursery:
                for _ in range(100):
                    nursery.start_soon(one, graph)
                    nursery.start_soon(one, other)

        assert results == [Done(4)] * 200


@pytest.mark.not_explored("threads take real time")
@pytest.mark.parametrize("way", WAYS)
async def test_a3_worker_threads_do_not_run_out(way):
    """trio lends 40 threads to a program, and each that waits for a run holds one."""
    before = trio.to_thread.current_default_thread_limiter().total_tokens
    async with open_runtime() as runtime:
        call = WAYS[way](lambda: runtime)

        def work(ask: Ask) -> Done:
            return Done(0) if ask.n == 0 else Done(trio.from_thread.run(call, graph, Ask(ask.n - 1)).n + 1)

        graph, results = graph_of(work, concurrency=8), []

        async def one() -> None:
            results.append(await runtime.run(graph, Ask(2)))

        with trio.fail_after(SOON_S):
            depth = 300 if way == "run" else 60
            assert await runtime.run(graph, Ask(depth)) == Done(depth)
            async with trio.open_nursery() as nursery:
                for _ in range(depth):
                    nursery.start_soon(one)

    assert set(results) == {Done(2)}
    assert trio.to_thread.current_default_thread_limiter().total_tokens == before


@pytest.mark.not_explored("threads take real time")
async def test_a3_threads_of_many_nodes_do_not_run_out():
    """Sixty-four instances each want a thread, forty are there, and every one of them waits for a run that wants another."""
    async with open_runtime() as runtime:

        def leaf(ask: Ask) -> Done:
            return Done(1)

        def work(ask: Ask) -> Done:
            return trio.from_thread.run(runtime.run, inner, Ask())  # type: ignore[no-any-return]  # a Done

        graph, inner, results = graph_of(work), graph_of(leaf), []

        async def one() -> None:
            results.append(await runtime.run(graph, Ask()))

        with trio.fail_after(SOON_S):
            async with trio.open_nursery() as nursery:
                for _ in range(300):
                    nursery.start_soon(one)

    assert results == [Done(1)] * 300


async def ask_of(ref: Any) -> int:
    return await ref.ask("on")  # type: ignore[no-any-return]  # a number


async def ask_late_of(ref: Any) -> int:
    """By a tell that may have to wait for room, and the end of an actor."""
    await ref.tell("on")
    return await ref.ask("on")  # type: ignore[no-any-return]  # a number


@pytest.mark.not_explored("threads take real time")
@pytest.mark.parametrize("way", [ask_of, ask_late_of])
async def test_a3_worker_threads_that_wait_for_actors_do_not_run_out(way):
    """Sixty plain nodes ask one actor, or wait for room in its mailbox, and its handler needs a thread."""
    before = trio.to_thread.current_default_thread_limiter().total_tokens
    async with open_runtime() as runtime:

        class Clerk(Actor):
            async def receive(self, message: str) -> int:
                return await trio.to_thread.run_sync(lambda: 1)

        def work(ask: Ask) -> Done:
            return Done(trio.from_thread.run(way, clerk))

        clerk, graph, results = await runtime.spawn(Clerk, mailbox=MailboxSpec(capacity=1)), graph_of(work), []

        async def one() -> None:
            results.append(await runtime.run(graph, Ask()))

        with trio.fail_after(SOON_S):
            async with trio.open_nursery() as nursery:
                for _ in range(60):
                    nursery.start_soon(one)

    assert results == [Done(1)] * 60
    assert trio.to_thread.current_default_thread_limiter().total_tokens == before


@pytest.mark.not_explored("threads take real time")
async def test_a3_worker_threads_that_wait_for_the_end_of_an_actor_do_not_run_out():
    async with open_runtime() as runtime:

        class Clerk(Actor):
            async def receive(self, message: str) -> None:
                await trio.to_thread.run_sync(lambda: None)
                self.context.stop()

        def work(ask: Ask) -> Done:
            return Done(trio.from_thread.run(clerk.ended).reason.value)

        clerk = await runtime.spawn(Clerk, restart=RestartType.TEMPORARY)
        graph, results = graph_of(work), []

        async def one() -> None:
            results.append(await runtime.run(graph, Ask()))

        with trio.fail_after(SOON_S):
            async with trio.open_nursery() as nursery:
                for _ in range(60):
                    nursery.start_soon(one)
                await trio.testing.wait_all_tasks_blocked(0.05)
                await clerk.tell("end")

    assert len(results) == 60


class Threaded(Actor):
    """Comes and goes in a worker thread."""

    async def receive(self, message: str) -> None: ...

    @contextlib.asynccontextmanager
    async def lifespan(self) -> AsyncGenerator[None]:
        await trio.to_thread.run_sync(lambda: None)
        yield
        await trio.to_thread.run_sync(lambda: None)


async def spawn_one(runtime: Runtime) -> None:
    await runtime.spawn(Threaded)


async def supervise_one(runtime: Runtime) -> None:
    await runtime.supervise(children=[ChildSpec("child", Threaded)])


async def spawn_and_stop_one(runtime: Runtime) -> None:
    await runtime.stop(await runtime.spawn(Threaded))


@pytest.mark.not_explored("threads take real time")
@pytest.mark.parametrize("way", [spawn_one, supervise_one, spawn_and_stop_one])
async def test_a3_worker_threads_that_start_and_stop_actors_do_not_run_out(way):
    """All forty threads are taken before the first of them starts an actor, which needs one itself."""
    before = trio.to_thread.current_default_thread_limiter().total_tokens
    all_taken = threading.Barrier(int(before))
    async with open_runtime() as runtime:

        def work(ask: Ask) -> Done:
            all_taken.wait(SOON_S)
            trio.from_thread.run(way, runtime)
            return Done(1)

        graph, results = graph_of(work), []

        async def one() -> None:
            results.append(await runtime.run(graph, Ask()))

        with trio.fail_after(SOON_S):
            async with trio.open_nursery() as nursery:
                for _ in range(int(before)):
                    nursery.start_soon(one)

    assert results == [Done(1)] * int(before)
    assert trio.to_thread.current_default_thread_limiter().total_tokens == before


@pytest.mark.not_explored("a thousand actors")
async def test_a3_actors_and_runs_may_take_turns_a_thousand_deep(virtual_clock):
    """Each actor handles one message, runs a graph for it, and a node of that asks the next actor."""
    async with open_runtime() as runtime:
        refs: list[Any] = []

        class Link(Actor):
            def __init__(self, number: int) -> None:
                self.number = number

            async def receive(self, message: str) -> int:
                return (await runtime.run(graph, Ask(self.number + 1))).n + 1  # type: ignore[no-any-return]  # a number

        async def work(ask: Ask) -> Done:
            return Done(0 if ask.n == len(refs) else await refs[ask.n].ask("on"))

        graph = graph_of(work, concurrency=1)
        refs += [await runtime.spawn(Link, number) for number in range(1000)]
        with trio.fail_after(SOON_S):
            assert await runtime.run(graph, Ask(0)) == Done(1000)


class Program:
    """Some graphs of some nodes, drawn by chance, whose nodes run some of the graphs for every message, ever less deep."""

    def __init__(self, seed: int, runtime: Runtime) -> None:
        self.rng = random.Random(seed)
        self.calls = [way(lambda: runtime) for way in WAYS.values()]
        self.graphs = [self.graph(number) for number in range(self.rng.randint(1, 3))]

    def graph(self, number: int) -> Graph:
        graph = Graph(f"g{number}", input=Ask, output=Done)
        for function in (self.first, self.second, self.third):
            mailbox = MailboxSpec(capacity=self.rng.choice([1, 2, 64]))
            graph.node(concurrency=self.rng.choice([1, 1, 2, 64]), mailbox=mailbox, name=function.__name__)(bare(function))
        return graph

    async def work(self, depth: int) -> None:
        await trio.sleep(self.rng.choice([0, 0, 0.1, 1]))
        if depth and self.rng.random() < 0.6:
            async with trio.open_nursery() as nursery:
                for _ in range(self.rng.choice([1, 1, 2])):
                    nursery.start_soon(self.rng.choice(self.calls), self.rng.choice(self.graphs), Ask(depth - 1))

    async def first(self, ask: Ask) -> Part:
        await self.work(ask.n)
        return Part(ask.n)

    async def second(self, part: Part) -> Other:
        await self.work(part.n)
        return Other(part.n)

    async def third(self, other: Other) -> Done:
        await self.work(other.n)
        return Done(other.n)


def bare(method: Any) -> Any:
    """A method as the plain function that a node is."""
    parameter, *_ = list(inspect.signature(method).parameters.values())

    async def node(message: Any) -> Any:
        return await method(message)

    hints = typing.get_type_hints(method)
    node.__annotations__ = {"message": hints[parameter.name], "return": hints["return"]}
    return node


@pytest.mark.not_explored("many runs")
@pytest.mark.parametrize("seed", [*range(5), *(pytest.param(seed, marks=pytest.mark.chaos) for seed in range(5, 20))])
async def test_a3_whatever_runs_whatever_all_of_it_ends(seed, virtual_clock):
    async with open_runtime(seed=1) as runtime:
        program = Program(seed, runtime)
        for graph in program.graphs:
            await runtime.deploy(graph, max_runs=program.rng.choice([math.inf, 1, 2]))
        ended = 0

        async def one(graph: Graph) -> None:
            nonlocal ended
            await runtime.run(graph, Ask(3))
            ended += 1

        with trio.move_on_after(100_000):
            async with trio.open_nursery() as nursery:
                for _ in range(20):
                    nursery.start_soon(one, program.rng.choice(program.graphs))

        assert ended == 20


# --- limits are still limits ----------------------------------------------------------------------------------------------


async def test_a3_a_limit_still_holds_for_runs_that_do_not_wait_for_one_another(virtual_clock):
    at_work, most = 0, 0

    async def leaf(ask: Ask) -> Done:
        nonlocal at_work, most
        at_work += 1
        most = max(most, at_work)
        await trio.sleep(1)
        at_work -= 1
        return Done()

    async with open_runtime() as runtime:

        async def work(ask: Ask) -> Done:
            return await runtime.run(inner, ask)

        inner, graph = graph_of(leaf), graph_of(work, concurrency=3)
        async with trio.open_nursery() as nursery:
            for _ in range(12):
                nursery.start_soon(runtime.run, graph, Ask())

        assert (most, trio.current_time()) == (3, 4.0)


async def test_a3_runs_that_a_node_starts_and_leaves_alone_count_as_any_other(virtual_clock):
    at_work, most = 0, 0
    async with open_runtime() as runtime:

        async def work(ask: Ask) -> Done:
            nonlocal at_work, most
            at_work += 1
            most = max(most, at_work)
            await trio.sleep(1)
            for _ in range(ask.n):
                await runtime.start(graph, Ask())
            at_work -= 1
            return Done()

        graph = graph_of(work, concurrency=2)
        await runtime.run(graph, Ask(20))
        for handle in runtime.runs().values():
            await handle.result()

        assert (most, runtime.runs()) == (2, {})


async def test_a3_a_node_may_start_any_number_of_runs_of_a_full_graph(virtual_clock):
    """Nobody would make room while it waits for some."""
    async with open_runtime() as runtime:

        async def work(ask: Ask) -> Done:
            for _ in range(ask.n):
                await runtime.start(graph, Ask())
            return Done()

        graph = graph_of(work, concurrency=1)
        with trio.fail_after(SOON_S):
            assert await runtime.run(graph, Ask(500)) == Done()
            await runtime.drain(SOON_S)


async def test_a3_instances_beyond_the_limit_are_gone_with_their_message(virtual_clock):
    async with open_runtime() as runtime:
        graph = lonely_node(by_run(lambda: runtime))
        await runtime.run(graph, Ask(50))
        await trio.sleep(1)

        (deployed,) = runtime.tree().children
        assert [child.address for child in deployed.children] == ["g/work"]


async def test_a3_a_message_beyond_the_limit_fails_and_is_tried_again_as_any_other(virtual_clock):
    from tests.runtime.graphs.stage import TWICE

    async with open_runtime() as runtime:

        async def work(ask: Ask, run: Run) -> Done:
            if ask.n:
                return await runtime.run(graph, Ask(0))
            if run.attempt == 1:
                raise ConnectionError("down")
            return Done(run.attempt)

        graph = graph_of(work, concurrency=1, redelivery=TWICE)
        assert await runtime.run(graph, Ask(1)) == Done(2)
        assert trio.current_time() == 3.0


async def test_a3_cancelling_a_run_ends_the_runs_that_it_waits_for(virtual_clock):
    async with open_runtime() as runtime:

        async def work(ask: Ask) -> Done:
            if ask.n:
                return await runtime.run(graph, Ask(ask.n - 1))
            await trio.sleep_forever()
            raise AssertionError

        graph = graph_of(work, concurrency=1)
        handle = await runtime.start(graph, Ask(20))
        await trio.sleep(1)
        assert len(runtime.runs()) == 21
        await handle.cancel()

        assert runtime.runs() == {}
        assert trio.current_time() == 1.0


async def test_a3_a_run_that_waits_for_its_turn_is_over_when_it_is_cancelled(virtual_clock):
    async with open_runtime() as runtime:

        async def work(ask: Ask) -> Done:
            await trio.sleep(100)
            return Done()

        graph = graph_of(work)
        await runtime.deploy(graph, max_runs=1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(runtime.run, graph, Ask())
            await trio.sleep(1)
            nursery.start_soon(runtime.start, graph, Ask(), "late")
            await trio.sleep(1)
            await runtime.runs()["late"].cancel()

            assert trio.current_time() == 2.0


# --- a ring is named ------------------------------------------------------------------------------------------------------


async def test_a3_a_node_that_waits_for_its_own_run_is_told_so(virtual_clock):
    async with open_runtime() as runtime:

        async def work(ask: Ask, run: Run) -> Done:
            return await runtime.runs()[run.id].result()  # type: ignore[no-any-return]  # never

        with trio.fail_after(SOON_S), pytest.raises(RunFailed) as caught:
            await runtime.run(graph_of(work), Ask())

        assert ring_in(caught.value) == ("g/work", "run 'g-1'", "g/work")
        assert trio.current_time() == 0.0
    (leaf,) = caught.value.exceptions
    assert str(leaf.__cause__) == (
        "'g/work' waits for the end of run 'g-1', of which it is a part: g/work -> run 'g-1' -> g/work.\n"
        "  Fix: return what the run is to go on with; or let a task outside of the run wait for its result."
    )


async def test_a3_a_node_of_a_nested_graph_that_waits_for_the_run_around_it_is_told_so(virtual_clock):
    async with open_runtime() as runtime:

        async def work(ask: Ask, run: Run) -> Done:
            return await runtime.runs()[run.id].result()  # type: ignore[no-any-return]  # never

        outer = Graph("outer", input=Ask, output=Done)
        outer.add(graph_of(work))
        with trio.fail_after(SOON_S), pytest.raises(RunFailed) as caught:
            await runtime.run(outer, Ask())

        assert ring_in(caught.value) == ("g/work", "run 'outer-1'", "g/work")


@pytest.mark.not_explored("a thread takes real time")
async def test_a3_a_plain_function_that_waits_for_its_own_run_is_told_so():
    async with open_runtime() as runtime:

        def work(ask: Ask, run: Run) -> Done:
            return trio.from_thread.run(runtime.runs()[run.id].result)  # type: ignore[no-any-return]  # never

        with trio.fail_after(SOON_S), pytest.raises(RunFailed) as caught:
            await runtime.run(graph_of(work), Ask())

        assert ring_in(caught.value) == ("g/work", "run 'g-1'", "g/work")


@pytest.mark.parametrize("way", WAYS)
async def test_a3_a_ring_of_an_actor_a_run_and_a_node_is_named(way, virtual_clock):
    async with open_runtime() as runtime:
        call = WAYS[way](lambda: runtime)

        class Clerk(Actor):
            async def receive(self, message: str) -> Any:
                return await call(graph, Ask())

        async def work(ask: Ask) -> Done:
            return Done(await clerk.ask("again"))

        graph, clerk = graph_of(work), await runtime.spawn(Clerk, name="clerk")
        with trio.fail_after(SOON_S):
            if way == "stream":  # the events of a run that fails are not an error
                await clerk.ask("begin")
                return
            with pytest.raises(Exception, match="failed while it handled") as caught:
                await clerk.ask("begin")

        assert ring_in(caught.value) == ("g/work", "clerk", "run 'g-1'", "g/work")


async def test_a3_a_ring_through_an_actor_that_is_a_node_is_named(virtual_clock):
    async with open_runtime() as runtime:

        class Clerk(Actor):
            async def receive(self, message: Ask) -> Done:
                return await runtime.run(graph, message)

        graph = Graph("g", input=Ask, output=Done)
        graph.add(Clerk)
        with trio.fail_after(SOON_S), pytest.raises(RunFailed) as caught:
            await runtime.run(graph, Ask())

        assert ring_in(caught.value) == ("g/Clerk#2", "g/Clerk-actor", "run 'g-2'", "g/Clerk#2")


async def test_a3_a_ring_through_a_pool_of_actors_is_named(virtual_clock):
    async with open_runtime() as runtime:

        class Clerk(Actor):
            async def receive(self, message: str) -> Any:
                return await runtime.run(graph, Ask())

        async def work(ask: Ask) -> Done:
            return Done(await pool.ask("again"))

        graph, pool = graph_of(work), await runtime.spawn(Pool(ChildSpec("clerk", Clerk), 2), name="pool")
        with trio.fail_after(SOON_S), pytest.raises(Exception, match="failed while it handled") as caught:
            await pool.ask("begin")

        assert "clerk-1" in " ".join(ring_in(caught.value))


async def test_a3_two_runs_that_wait_for_each_others_result_are_told_so(virtual_clock):
    async with open_runtime() as runtime:

        async def work(ask: Ask, run: Run) -> Done:
            await trio.sleep(ask.n)
            other = {"left": "right", "right": "left"}[run.id]
            return await runtime.runs()[other].result()  # type: ignore[no-any-return]  # never

        graph = graph_of(work)
        left, right = await runtime.start(graph, Ask(1), "left"), await runtime.start(graph, Ask(2), "right")
        with trio.fail_after(SOON_S):
            with pytest.raises(RunFailed) as caught:
                await right.result()
            with pytest.raises(RunFailed):
                await left.result()

        assert ring_in(caught.value) == ("g/work#2", "run 'left'", "g/work", "run 'right'", "g/work#2")
        assert trio.current_time() == 2.0


async def test_a3_what_another_branch_can_still_end_is_no_ring(virtual_clock):
    """The actor waits for a run, a node of which asks the actor; another node makes the output all the same."""
    async with open_runtime() as runtime:

        class Clerk(Actor):
            async def receive(self, message: str) -> Any:
                return await runtime.run(graph, Ask())

        async def asks(ask: Ask) -> Part:
            return Part(await clerk.ask("again"))

        async def takes(part: Part) -> None: ...

        async def works(ask: Ask) -> Done:
            await trio.sleep(5)
            return Done("by the other branch")

        graph, clerk = graph_of(asks, takes, works), await runtime.spawn(Clerk, name="clerk")
        with trio.fail_after(SOON_S):
            assert await clerk.ask("begin") == Done("by the other branch")


async def test_a3_a_ring_that_closes_when_the_other_branch_ends_is_named_then(virtual_clock):
    async with open_runtime() as runtime:

        class Clerk(Actor):
            async def receive(self, message: str) -> Any:
                return await runtime.run(graph, Ask())

        async def asks(ask: Ask) -> Done:
            return Done(await clerk.ask("again"))

        async def works(ask: Ask) -> Other | None:
            await trio.sleep(5)
            return None

        async def ends(other: Other) -> Done:
            return Done()

        graph, clerk = graph_of(asks, works, ends), await runtime.spawn(Clerk, name="clerk")
        with trio.fail_after(SOON_S), pytest.raises(Exception, match="failed while it handled") as caught:
            await clerk.ask("begin")

        assert trio.current_time() == 5.0
        assert ring_in(caught.value) == ("clerk", "run 'g-1'", "g/asks", "clerk")


async def test_a3_a_task_that_a_node_has_left_behind_may_wait_for_the_nodes_run(virtual_clock):
    """It holds nobody up: the node goes on."""
    results = []
    async with open_runtime() as runtime, trio.open_nursery() as nursery:

        async def look(run_id: str) -> None:
            results.append(await runtime.runs()[run_id].result())

        async def work(ask: Ask, run: Run) -> Done:
            nursery.start_soon(look, run.id)
            await trio.sleep(1)
            return Done("done")

        await runtime.run(graph_of(work), Ask())

    assert results == [Done("done")]


@pytest.mark.chaos
async def test_a3_a_ring_of_a_thousand_actors_is_named(virtual_clock):
    async with open_runtime(supervision=Supervision(max_restarts=math.inf)) as runtime:
        refs: list[Any] = []

        class Link(Actor):
            def __init__(self, number: int) -> None:
                self.number = number

            async def receive(self, message: str) -> Any:
                return await refs[(self.number + 1) % len(refs)].ask("on")

        refs += [await runtime.spawn(Link, number, name=f"a{number}") for number in range(1000)]
        with trio.fail_after(SOON_S), pytest.raises(Exception, match="failed while it handled") as caught:
            await refs[0].ask("on")

        assert len(ring_in(caught.value)) == 1001


@pytest.mark.parametrize("reads", ["before", "later"])
async def test_a3_a_ring_that_closes_late_around_a_stream_is_named_to_its_reader(reads, virtual_clock):
    """The last branch that could still make the output ends while the actor reads, or before it reads on."""
    async with open_runtime() as runtime:

        class Clerk(Actor):
            async def receive(self, message: str) -> Any:
                async with runtime.stream(graph, Ask()) as events:
                    await trio.sleep(0 if reads == "before" else 7)
                    return [event async for event in events]

        async def asks(ask: Ask) -> Done:
            return Done(await clerk.ask("again"))

        async def works(ask: Ask) -> Other | None:
            await trio.sleep(5)
            return None

        async def ends(other: Other) -> Done:
            return Done()

        graph, clerk = graph_of(asks, works, ends), await runtime.spawn(Clerk, name="clerk")
        with trio.fail_after(SOON_S), pytest.raises(Exception, match="failed while it handled") as caught:
            await clerk.ask("begin")

        assert trio.current_time() == (5.0 if reads == "before" else 7.0)
        assert ring_in(caught.value) == ("clerk", "run 'g-1'", "g/asks", "clerk")
        assert runtime.runs() == {}


async def test_a3_of_two_in_a_ring_one_gives_up_and_the_other_hears_the_end(virtual_clock):
    """What is left may go on then: only the first of those who wait for the run is failed."""
    async with open_runtime() as runtime:

        class Waits(Actor):
            async def receive(self, message: float | str) -> Any:
                if isinstance(message, str):
                    return 7
                await trio.sleep(message)
                try:
                    return await runtime.runs()["it"].result()
                except AskCycle:
                    return "gave up"

        async def asks(ask: Ask) -> Done:
            await trio.sleep(2)  # both wait by then
            return Done(await first.ask("again"))

        async def asks_too(ask: Ask) -> Other | None:
            await trio.sleep(2)
            await second.ask("again")
            return None

        async def works(ask: Ask) -> Other | None:
            await trio.sleep(5)
            return None

        async def ends(other: Other) -> Done:
            return Done()

        graph = graph_of(asks, asks_too, works, ends)
        first, second = await runtime.spawn(Waits, name="first"), await runtime.spawn(Waits, name="second")
        heard: dict[str, Any] = {}

        async def hear(name: str, ref: Any, after_s: float) -> None:
            heard[name] = await ref.ask(after_s)

        with trio.fail_after(SOON_S):
            await runtime.start(graph, Ask(), "it")
            async with trio.open_nursery() as nursery:
                nursery.start_soon(hear, "first", first, 0.5)
                nursery.start_soon(hear, "second", second, 1)

        assert heard == {"first": "gave up", "second": Done(7)}


async def test_a3_a_reader_that_leaves_its_stream_breaks_the_ring(virtual_clock):
    async with open_runtime() as runtime:

        class Clerk(Actor):
            async def receive(self, message: str) -> str:
                async with runtime.stream(graph, Ask()):
                    await trio.sleep(10)
                return "left"

        async def asks(ask: Ask) -> Done:
            return Done(await clerk.ask("again"))

        async def works(ask: Ask) -> Other | None:
            await trio.sleep(5)
            return None

        async def ends(other: Other) -> Done:
            return Done()

        graph, clerk = graph_of(asks, works, ends), await runtime.spawn(Clerk, name="clerk")
        with trio.fail_after(SOON_S):
            assert await clerk.ask("begin") == "left"


# --- from threads by the faces --------------------------------------------------------------------------------------------


def a_graph_that_runs_itself_by(face: Callable[[Graph, Ask], Done], **options: Any) -> Graph:
    def work(ask: Ask) -> Done:
        return Done(0) if ask.n == 0 else Done(face(graph, Ask(ask.n - 1)).n + 1)

    graph = graph_of(work, **options)
    return graph


@pytest.mark.parametrize("concurrency", [1, 64])
def test_a3_plain_nodes_may_run_graphs_by_the_portal(concurrency):
    with open_runtime_portal() as runtime:
        graph = a_graph_that_runs_itself_by(lambda graph, ask: runtime.run(graph, ask, timeout=SOON_S), concurrency=concurrency)

        assert runtime.run(graph, Ask(100), timeout=SOON_S) == Done(100)


def test_a3_a_plain_node_that_waits_for_its_own_run_by_the_portal_is_told_so():
    with open_runtime_portal() as runtime:

        def work(ask: Ask, run: Run) -> Done:
            return runtime.runs()[run.id].result(timeout=SOON_S)  # type: ignore[no-any-return]  # never

        with pytest.raises(RunFailed) as caught:
            runtime.run(graph_of(work), Ask(), timeout=SOON_S)

    assert ring_in(caught.value) == ("g/work", "run 'g-1'", "g/work")


def test_a3_a_ring_through_an_actor_that_is_asked_by_the_portal_is_named():
    with open_runtime_portal() as runtime:

        class Clerk(Actor):
            async def receive(self, message: str) -> Any:
                return await self.context.runtime.run(graph, Ask())

        def work(ask: Ask) -> Done:
            return Done(clerk.ask("again", timeout=SOON_S))

        graph, clerk = graph_of(work), runtime.spawn(Clerk, name="clerk")
        with pytest.raises(Exception, match="failed while it handled") as caught:
            clerk.ask("begin", timeout=SOON_S)

    assert ring_in(caught.value) == ("g/work", "clerk", "run 'g-1'", "g/work")


def test_a3_plain_nodes_may_run_graphs_by_the_face_for_asyncio():
    async def main() -> Done:
        loop = asyncio.get_running_loop()
        async with open_runtime_asyncio() as runtime:

            def face(graph: Graph, ask: Ask) -> Done:
                return asyncio.run_coroutine_threadsafe(runtime.run(graph, ask), loop).result(SOON_S)  # type: ignore[no-any-return]

            graph = a_graph_that_runs_itself_by(face, concurrency=1)
            return await runtime.run(graph, Ask(100), timeout=SOON_S)

    assert asyncio.run(main()) == Done(100)


def test_a3_a_plain_node_that_waits_for_its_own_run_by_the_face_for_asyncio_is_told_so():
    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with open_runtime_asyncio() as runtime:

            async def result(run_id: str) -> Any:
                return await runtime.runs()[run_id].result()

            def work(ask: Ask, run: Run) -> Done:
                return asyncio.run_coroutine_threadsafe(result(run.id), loop).result(SOON_S)  # type: ignore[no-any-return]  # never

            await runtime.run(graph_of(work), Ask(), timeout=SOON_S)

    with pytest.raises(RunFailed) as caught:
        asyncio.run(main())
    assert ring_in(caught.value) == ("g/work", "run 'g-1'", "g/work")
