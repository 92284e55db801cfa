"""What the suites of other graph frameworks check of routing, joins, steps, streams and draining, by their row."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import AsyncIterator

import attrs
import pydantic
import pytest
import trio
import trio.testing

from actors import DeclarationError, Graph, NodeFailed, NoOutput, Redelivery, RunCancelled, RunFailed, StepsExceeded, UsageError
from runtime import open_runtime
from runtime.graphs.records.run_events import NodeGaveUp, RunFinished
from tests.runtime.graphs.stage import EXACT, Ask, Done, Other, Part, graph_of, living

ONCE = Redelivery(max_attempts=1)


async def test_l11_a_node_that_two_unrelated_nodes_feed_works_on_what_each_of_them_makes(virtual_clock):
    took: list[int] = []

    async def one(ask: Ask) -> Part:
        await trio.sleep(2)
        return Part(1)

    async def two(ask: Ask) -> Part:
        await trio.sleep(1)
        return Part(2)

    async def take(part: Part) -> Done | None:
        took.append(part.n)
        return Done(took) if len(took) == 2 else None

    async with open_runtime() as runtime:
        assert await runtime.run(graph_of(one, two, take), Ask()) == Done([2, 1])
        assert trio.current_time() == 2


async def test_l11_what_two_unrelated_nodes_make_of_one_item_is_gathered_in_the_order_of_declaration(virtual_clock):
    async def split(ask: Ask) -> list[Part]:
        return [Part(1), Part(2)]

    async def one(part: Part) -> Other:
        await trio.sleep(2)
        return Other(part.n)

    async def two(part: Part) -> Other:
        await trio.sleep(1)
        return Other(10 * part.n)

    async def gather(others: list[Other]) -> Done:
        return Done([other.n for other in others])

    async with open_runtime() as runtime:
        assert await runtime.run(graph_of(split, one, two, gather), Ask()) == Done([1, 10, 2, 20])


def test_l11_two_unrelated_makers_of_what_a_join_takes_are_refused_by_name_and_type():
    async def one(ask: Ask) -> Part:
        return Part(ask.n)

    async def two(ask: Ask) -> Part:
        return Part(ask.n)

    async def join(ask: Ask, part: Part) -> Done:
        return Done(part.n)

    (problem,) = graph_of(one, two, join).check()

    assert str(problem) == (
        f"node 'join' ({__file__}:{join.__code__.co_firstlineno}): it joins the Part in 'part' with its other inputs, and 'one' "
        "and 'two' make one side by side: which comes first depends on timing.\n"
        "    Fix: give what each of them makes its own type; or send one elsewhere: graph.connect(two, …); or let one node "
        "return them all as list[Part], and gather list[Part] here. [join-by-timing]"
    )


async def test_l14_a_node_that_takes_what_others_may_make_runs_after_everything_else(virtual_clock):
    async def quick(ask: Ask) -> Part | None:
        await trio.sleep(1)
        return None

    async def slow(ask: Ask) -> Other | None:
        await trio.sleep(5)
        return Other(5) if ask.n else None

    async def last(ask: Ask, part: Part | None, other: Other | None) -> Done:
        return Done((part, other, trio.current_time()))

    async with open_runtime() as runtime:
        graph = graph_of(quick, slow, last)
        assert await runtime.run(graph, Ask(1)) == Done((None, Other(5), 5))
        assert await runtime.run(graph, Ask(0)) == Done((None, None, 10))


async def test_l17_the_items_of_a_list_go_different_ways_and_are_gathered(virtual_clock):
    async def split(ask: Ask) -> list[Part]:
        return [Part(n) for n in range(6)]

    async def sort(part: Part) -> Odd | Even:
        return Odd(part.n) if part.n % 2 else Even(part.n)

    async def odd(message: Odd) -> Other:
        return Other(-message.n)

    async def even(message: Even) -> Other:
        await trio.sleep(1)
        return Other(message.n)

    async def gather(others: list[Other]) -> Done:
        return Done([other.n for other in others])

    async with open_runtime() as runtime:
        assert await runtime.run(graph_of(split, sort, odd, even, gather), Ask()) == Done([0, -1, 2, -3, 4, -5])


@attrs.frozen
class Odd:
    n: int


@attrs.frozen
class Even:
    n: int


def sorting(name: str) -> Graph:
    """A graph whose output says which way a message of the graph around it goes."""
    inner = Graph(name, input=Part, output=Odd | Even)

    @inner.node
    async def sort(part: Part) -> Odd | Even:
        return Odd(part.n) if part.n % 2 else Even(part.n)

    return inner


async def test_l18_a_message_carries_the_update_and_its_type_is_where_it_goes(virtual_clock):
    visited: list[str] = []

    async def choose(ask: Ask) -> Odd | Even:
        return Odd(ask.n + 1) if ask.n % 2 else Even(ask.n + 1)

    async def odd(message: Odd) -> Done:
        visited.append("odd")
        return Done(message.n)

    async def even(message: Even) -> Done:
        visited.append("even")
        return Done(message.n)

    async with open_runtime() as runtime:
        graph = graph_of(choose, odd, even)
        assert [await runtime.run(graph, Ask(n)) for n in (1, 2)] == [Done(2), Done(3)]

    assert visited == ["odd", "even"]


async def test_l18_a_graph_within_a_graph_chooses_the_way_in_the_graphs_around_it(virtual_clock):
    middle = Graph("middle", input=Part, output=Odd | Even)
    middle.add(sorting("inner"))
    outer = Graph("outer", input=Ask, output=Done)

    @outer.node
    async def begin(ask: Ask) -> Part:
        return Part(ask.n)

    outer.add(middle)

    @outer.node
    async def odd(message: Odd) -> Done:
        return Done(("odd", message.n))

    @outer.node
    async def even(message: Even) -> Done:
        return Done(("even", message.n))

    async with open_runtime() as runtime:
        assert [await runtime.run(outer, Ask(n)) for n in (3, 4)] == [Done(("odd", 3)), Done(("even", 4))]


async def test_l18_a_list_goes_to_several_nodes_at_once(virtual_clock):
    async def spread(ask: Ask) -> list[Odd | Even]:
        return [Odd(1), Even(2), Odd(3)]

    async def odd(message: Odd) -> Other:
        await trio.sleep(1)
        return Other(message.n)

    async def even(message: Even) -> Other:
        await trio.sleep(1)
        return Other(10 * message.n)

    async def gather(others: list[Other]) -> Done:
        return Done([other.n for other in others])

    async with open_runtime() as runtime:
        assert await runtime.run(graph_of(spread, odd, even, gather), Ask()) == Done([1, 20, 3])
        assert trio.current_time() == 1


async def test_l20_all_that_one_node_makes_is_gathered_in_the_order_in_which_it_made_it(virtual_clock):
    async def writes(ask: Ask) -> AsyncIterator[Part]:
        for n in (3, 1, 2, 1):
            yield Part(n)

    async def work(part: Part) -> Other:
        await trio.sleep(part.n)
        return Other(part.n)

    async def gather(others: list[Other]) -> Done:
        return Done([other.n for other in others])

    async with open_runtime() as runtime:
        assert await runtime.run(graph_of(writes, work, gather), Ask()) == Done([3, 1, 2, 1])
        assert trio.current_time() == 3


async def test_l22_max_steps_counts_exactly_and_a_stream_ends_with_the_error(virtual_clock):
    async def loop(ask: Ask) -> Ask | Done:
        return Ask(ask.n + 1) if ask.n < 4 else Done(ask.n)

    async with open_runtime() as runtime:
        graph = graph_of(loop)
        assert await runtime.run(graph, Ask(), max_steps=5) == Done(4)
        async with runtime.stream(graph, Ask(), max_steps=4) as events:
            *_, last = [event async for event in events]

    assert isinstance(last, RunFinished)
    assert isinstance(last.error, StepsExceeded)
    assert str(last.error).startswith("run 'g-2' of 'g' made more than 4 steps.")


async def test_l23_a_first_node_that_goes_nowhere_ends_the_run(virtual_clock):
    async def nowhere(ask: Ask) -> list[Part | Other]:
        return []

    async def part(message: Part) -> Done:
        return Done()

    async def other(message: Other) -> Done:
        return Done()

    async with open_runtime() as runtime:
        handle = await runtime.start(graph_of(nowhere, part, other), Ask())
        with pytest.raises(NoOutput, match=r"^graph 'g' came to rest after 1 step, and nothing had made its output Done\."):
            await handle.result()

    assert [(step.node, step.status) for step in handle.trace] == [("nowhere", "done")]


async def test_l28_a_timeout_ends_its_node_while_the_reader_of_the_stream_does_something_else(virtual_clock):
    async def slow(ask: Ask) -> Done:
        await trio.sleep_forever()

    async with open_runtime() as runtime:
        async with runtime.stream(graph_of(slow, timeout_s=1, redelivery=ONCE), Ask()) as events:
            await trio.sleep(100)
            seen = [event async for event in events]

    assert [event.at_s for event in seen if isinstance(event, NodeGaveUp | RunFinished)] == [1, 1]


async def test_l29_cancelling_the_reader_of_a_stream_cancels_the_run_and_leaves_no_task(virtual_clock):
    ended: list[float] = []

    async def slow(ask: Ask) -> Done:
        try:
            await trio.sleep_forever()
        finally:
            ended.append(trio.current_time())

    graph = graph_of(slow)
    async with open_runtime() as runtime:
        await runtime.deploy(graph)
        await trio.testing.wait_all_tasks_blocked()
        alive = living()
        with trio.move_on_after(2):
            async with runtime.stream(graph, Ask()) as events:
                async for _ in events:
                    pass
        assert (ended, living()) == ([2], alive)


async def test_l31_a_run_that_was_cancelled_says_so_to_all_who_wait_for_it(virtual_clock):
    told: list[str] = []

    async def slow(ask: Ask) -> Done:
        await trio.sleep_forever()

    async with open_runtime() as runtime, trio.open_nursery() as nursery:
        handle = await runtime.start(graph_of(slow), Ask())

        async def wait() -> None:
            with pytest.raises(RunCancelled) as caught:
                await handle.result()
            told.append(f"{caught.value.run_id} at {trio.current_time():g}")

        for _ in range(2):
            nursery.start_soon(wait)
        await trio.sleep(1)
        await handle.cancel()

    assert told == ["g-1 at 1", "g-1 at 1"]
    assert [step.status for step in handle.trace] == ["cancelled"]


async def test_l32_a_plain_function_among_asynchronous_nodes_works_in_a_thread():
    threads: list[bool] = []

    def plain(ask: Ask) -> Part:
        threads.append(threading.current_thread() is threading.main_thread())
        return Part(ask.n + 1)

    async def end(part: Part) -> Done:
        threads.append(threading.current_thread() is threading.main_thread())
        return Done(part.n)

    async with open_runtime() as runtime:
        assert await runtime.run(graph_of(plain, end), Ask(1)) == Done(2)

    assert threads == [False, True]


async def slowly(ask: Ask) -> Part:
    await trio.sleep(ask.n)
    return Part(ask.n)


async def end(part: Part) -> Done:
    await trio.sleep(1)
    return Done(part.n)


async def test_l36_a_drain_takes_no_run_more_and_lets_many_finish(virtual_clock):
    async with open_runtime() as runtime:
        graph = graph_of(slowly, end)
        handles = [await runtime.start(graph, Ask(n)) for n in range(1, 6)]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(runtime.drain, 10)
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(UsageError, match="the runtime is draining: it takes no more runs"):
                await runtime.run(graph, Ask())
        assert trio.current_time() == 6
        assert [await handle.result() for handle in handles] == [Done(n) for n in range(1, 6)]


async def test_l36_a_drain_cancels_what_is_left_after_its_grace(virtual_clock):
    async with open_runtime() as runtime:
        graph = graph_of(slowly, end)
        short, long = await runtime.start(graph, Ask(1)), await runtime.start(graph, Ask(9))
        await runtime.drain(grace_s=3)
        assert trio.current_time() == 3
        assert await short.result() == Done(1)
        with pytest.raises(RunCancelled, match="it was not over after grace_s=3 s"):
            await long.result()


async def test_l36_a_run_that_drains_may_still_run_a_graph_within(virtual_clock):
    inner = Graph("inner", input=Part, output=Other, supervision=EXACT)

    @inner.node
    async def work(part: Part) -> Other:
        await trio.sleep(1)
        return Other(part.n)

    outer = graph_of(slowly)
    outer.add(inner)

    @outer.node
    async def last(other: Other) -> Done:
        return Done(other.n)

    async with open_runtime() as runtime:
        handle = await runtime.start(outer, Ask(1))
        await runtime.drain(grace_s=5)
        assert (await handle.result(), trio.current_time()) == (Done(1), 2)


async def test_l36_a_drain_during_the_last_node_lets_it_finish(virtual_clock):
    async with open_runtime() as runtime:
        handle = await runtime.start(graph_of(slowly, end), Ask(1))
        await trio.sleep(1.5)
        await runtime.drain(grace_s=1)
        assert (await handle.result(), trio.current_time()) == (Done(1), 2)


async def test_l06_the_fields_of_a_message_between_nodes_are_no_input_of_the_graph(virtual_clock):
    async with open_runtime() as runtime:
        graph = graph_of(slowly, end)
        assert (graph.input_types, graph.output_types) == ((Ask,), (Done,))
        with pytest.raises(DeclarationError, match=r"^graph 'g' takes Ask as its input\. Got: a Part\."):
            await runtime.run(graph, Part())


@dataclasses.dataclass(frozen=True)
class Draft:
    words: int
    title: str = "untitled"


class Checked(pydantic.BaseModel):
    words: int = pydantic.Field(ge=1)
    title: str


async def test_l07_attrs_classes_dataclasses_and_pydantic_models_are_messages_with_their_defaults_and_checks(virtual_clock):
    async def draft(ask: Ask) -> Draft:
        return Draft(ask.n)

    async def check(made: Draft) -> Checked:
        return Checked(words=made.words, title=made.title)

    async def finish(checked: Checked) -> Done:
        return Done((checked.words, checked.title))

    async with open_runtime() as runtime:
        graph = graph_of(draft, check, finish)
        assert await runtime.run(graph, Ask(3)) == Done((3, "untitled"))
        with pytest.raises(RunFailed) as caught:
            await runtime.run(graph, Ask(0))
        async with runtime.stream(graph, Ask(0)) as events:
            *_, last = [event async for event in events]

    assert isinstance(caught.value.exceptions[0].__cause__, pydantic.ValidationError)
    assert isinstance(last, RunFinished)
    assert isinstance(last.error, RunFailed)
    assert isinstance(last.error.exceptions[0].__cause__, pydantic.ValidationError)


async def test_l07_a_plain_class_is_no_message():
    class Plain:
        pass

    with pytest.raises(DeclarationError, match=r"input=Plain\): expected a message type"):
        Graph("g", input=Plain, output=Done)


async def test_l09_nodes_of_two_graphs_made_of_the_same_functions_are_independent(virtual_clock):
    async def fails_at_nine(ask: Ask) -> Done:
        if ask.n == 9:
            raise ValueError("nine")
        return Done(ask.n)

    one, two = graph_of(fails_at_nine, redelivery=ONCE), graph_of(fails_at_nine, timeout_s=1)
    async with open_runtime() as runtime:
        with pytest.raises(RunFailed) as caught:
            await runtime.run(one, Ask(9))
        assert await runtime.run(two, Ask(1)) == Done(1)

    assert [leaf.node for leaf in caught.value.exceptions if isinstance(leaf, NodeFailed)] == ["fails_at_nine"]
    assert (one.nodes["fails_at_nine"].options.timeout_s, two.nodes["fails_at_nine"].options.timeout_s) == (None, 1)


async def test_l08_an_empty_or_falsy_message_is_a_message(virtual_clock):
    @attrs.frozen
    class Empty:
        def __bool__(self) -> bool:
            return False

    async def make(ask: Ask) -> Empty:
        return Empty()

    async def take(empty: Empty | None, ask: Ask) -> Done:
        return Done(empty is not None)

    async with open_runtime() as runtime:
        assert await runtime.run(graph_of(make, take), Ask()) == Done(n=True)


async def test_l02_what_is_no_store_of_runs_is_refused_before_anything_starts():
    with pytest.raises(UsageError, match="expected a path, 'postgresql://…', or a Store"):
        async with open_runtime(store=3):  # type: ignore[arg-type]
            raise AssertionError("not reached")


async def test_l16_an_item_that_goes_into_a_graph_is_gathered_with_those_that_do_not(virtual_clock):
    inner = Graph("inner", input=Odd, output=Other)

    @inner.node
    async def negate(odd: Odd) -> Other:
        await trio.sleep(1)
        return Other(-odd.n)

    async def split(ask: Ask) -> list[Odd | Even]:
        return [Odd(n) if n % 2 else Even(n) for n in range(4)]

    async def even(message: Even) -> Other:
        return Other(message.n)

    async def gather(others: list[Other]) -> Done:
        return Done([other.n for other in others])

    graph = graph_of(split, even, gather)
    graph.add(inner)
    async with open_runtime() as runtime:
        assert await runtime.run(graph, Ask()) == Done([0, -1, 2, -3])


async def test_l27_a_node_that_waits_for_an_answer_from_outside_holds_up_only_what_needs_it(virtual_clock):
    answer = trio.Event()
    log: list[tuple[str, float]] = []

    async def asks(ask: Ask) -> Part:
        log.append(("asked", trio.current_time()))
        await answer.wait()
        return Part(1)

    async def sibling(ask: Ask) -> Other:
        await trio.sleep(1)
        log.append(("sibling", trio.current_time()))
        return Other(2)

    async def end(part: Part, other: Other) -> Done:
        return Done((part.n, other.n))

    async with open_runtime() as runtime:
        handle = await runtime.start(graph_of(asks, sibling, end), Ask())
        await trio.sleep(3600)
        answer.set()
        assert await handle.result() == Done((1, 2))

    assert log == [("asked", 0), ("sibling", 1)]


NOTHING = "return what it declares, or add None to its return annotation."


async def returns_a_dict(ask: Ask) -> Done:
    return {"n": 1}  # type: ignore[return-value]  # pyright: ignore[reportReturnType]


async def returns_a_tuple(ask: Ask) -> list[Part]:
    return (Part(1),)  # type: ignore[return-value]  # pyright: ignore[reportReturnType]


async def forgets_to_return(ask: Ask) -> Done:  # type: ignore[return]  # pyright: ignore[reportReturnType]
    Done(ask)


async def gathers(parts: list[Part]) -> Done:
    return Done(parts)


@pytest.mark.parametrize(
    ("nodes", "said"),
    [
        ([returns_a_dict], "returned a dict; it declares Done.\n  Fix: return one of its type: Done(…)."),
        ([returns_a_tuple, gathers], "returned a tuple; it declares list[Part].\n  Fix: return a list."),
        ([forgets_to_return], "returned None; it declares Done.\n  Fix: " + NOTHING),
    ],
)
async def test_what_a_node_may_not_return_is_told_with_what_to_return_instead(nodes, said, virtual_clock):
    async with open_runtime() as runtime:
        with pytest.raises(RunFailed) as caught:
            await runtime.run(graph_of(*nodes, redelivery=ONCE), Ask())

    (leaf,) = caught.value.exceptions
    place = f"{__file__}:{nodes[0].__code__.co_firstlineno}"
    assert str(leaf.__cause__) == f"node '{nodes[0].__name__}' ({place}) {said}"


async def test_a_class_in_place_of_a_message_is_told():
    async with open_runtime() as runtime:
        with pytest.raises(DeclarationError) as caught:
            await runtime.run(graph_of(forgets_to_return), Ask)

    assert str(caught.value) == "graph 'g' takes Ask as its input. Got: the class Ask itself.\n  Fix: run(graph, Ask(…))."
