"""``Recall``: the latest message on the way here, whatever the timing."""

from __future__ import annotations

from typing import Annotated

import attrs
import pytest
import trio

from actors import Graph, NodeFailed, Recall, RecallError, Redelivery, RunFailed
from runtime import open_runtime
from tests.runtime.graphs.driving import by_chance, drive, newest, oldest
from tests.runtime.graphs.stage import Ask, Done, Other, Part, graph_of


@attrs.frozen
class Draft:
    text: str
    round: int


async def test_the_input_and_the_latest_draft_are_recalled_over_a_loop(virtual_clock):
    graph = Graph("g", input=Ask, output=Done)

    @graph.node
    async def begin(ask: Ask) -> Draft:
        return Draft("a", 0)

    @graph.node
    async def judge(draft: Draft, before: Annotated[Draft | None, Recall()]) -> Part | Done:
        seen = [before.round if before else None, draft.round]
        return Done(seen) if draft.round == 2 else Part(draft.round)

    @graph.node
    async def improve(part: Part, draft: Annotated[Draft, Recall()], ask: Annotated[Ask, Recall()]) -> Draft:
        return Draft(f"{draft.text}{ask.n}", part.n + 1)

    async with open_runtime() as runtime:
        assert await runtime.run(graph, Ask(7)) == Done([1, 2])


def test_what_is_recalled_does_not_depend_on_the_order_of_completion():
    graph = Graph("g", input=Ask, output=Done)

    @graph.node
    async def split(ask: Ask) -> list[Draft]:
        return [Draft("x", i) for i in range(3)]

    @graph.node
    async def short(draft: Draft) -> Part:
        return Part(draft.round)

    @graph.node
    async def gather(parts: list[Part]) -> Other:
        return Other(len(parts))

    @graph.node
    async def end(other: Other, draft: Annotated[Draft, Recall()], part: Annotated[Part, Recall()]) -> Done:
        return Done((draft.round, part.n))

    seen = {drive(graph, Ask(), choose).output for choose in (oldest, newest, *(by_chance(seed) for seed in range(20)))}

    assert seen == {Done((2, 2))}


def test_a_branch_recalls_what_led_to_it_and_not_what_its_neighbours_made():
    graph = Graph("g", input=Ask, output=Done)

    @graph.node
    async def split(ask: Ask) -> list[Draft]:
        return [Draft("x", i) for i in range(4)]

    @graph.node
    async def step(draft: Draft) -> Part:
        return Part(draft.round)

    @graph.node
    async def back(part: Part, draft: Annotated[Draft, Recall()]) -> Other:
        return Other(10 * part.n + draft.round)

    @graph.node
    async def gather(others: list[Other]) -> Done:
        return Done([other.n for other in others])

    for seed in range(10):
        assert drive(graph, Ask(), by_chance(seed)).output == Done([0, 11, 22, 33])


def test_the_longest_way_is_the_latest_in_a_join():
    graph = Graph("g", input=Ask, output=Done)

    @graph.node
    async def quick(ask: Ask) -> Part:
        return Part()

    @graph.node
    async def first(ask: Ask) -> Draft:
        return Draft("first", 0)

    @graph.node
    async def second(draft: Draft) -> Draft | Other:
        return Other(1) if draft.round else Draft("second", 1)

    @graph.node
    async def end(part: Part, other: Other, draft: Annotated[Draft, Recall()]) -> Done:
        return Done(draft.text)

    for seed in range(10):
        assert drive(graph, Ask(), by_chance(seed)).output == Done("second")


async def test_without_one_the_run_fails_and_says_how_to_allow_it(virtual_clock):
    async def begin(ask: Ask) -> Part | Other:
        return Other()

    async def middle(part: Part) -> Other:
        return Other()

    async def end(other: Other, part: Annotated[Part, Recall()]) -> Done:
        return Done()

    async with open_runtime() as runtime:
        with pytest.raises(RunFailed) as caught:
            await runtime.run(graph_of(begin, middle, end, redelivery=Redelivery(max_attempts=3)), Ask())
        assert trio.current_time() == 0

    (leaf,) = caught.value.exceptions
    assert isinstance(leaf, NodeFailed)
    error = leaf.__cause__
    assert isinstance(error, RecallError)
    assert (error.node, error.parameter, leaf.attempt) == ("end", "part", 1)
    assert str(error) == (
        f"node 'end' ({__file__}:{end.__code__.co_firstlineno}) recalls Part in 'part', and none was made on the way to "
        "g/end/0.\n  Fix: write Annotated[Part | None, Recall()], and expect None."
    )


def test_memory_stays_as_large_as_the_number_of_recalled_types():
    graph = Graph("g", input=Ask, output=Done)

    @graph.node
    async def loop(ask: Ask, before: Annotated[Ask | None, Recall()]) -> Ask | Done:
        return Ask(ask.n + 1) if ask.n < 200 else Done(before.n if before else None)

    driven = drive(graph, Ask(), oldest)

    assert driven.output == Done(199)
