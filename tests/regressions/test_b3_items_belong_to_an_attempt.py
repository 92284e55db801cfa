"""What a generator yields belongs to an attempt: a later one never mixes its items with those of an earlier one."""

from __future__ import annotations

import contextlib
import pickle
from collections.abc import AsyncIterator
from typing import Annotated, Any

import attrs
import pytest
import trio

from actors import Backoff, DeclarationError, Gather, Graph, Redelivery, Run, RunFailed, StreamBroken
from runtime import NodeEmitted, open_runtime
from tests.runtime.graphs.stage import EXACT, TWICE, Ask, Done, Other, Part, graph_of


@attrs.frozen
class Word:
    text: str


@attrs.frozen
class Joined:
    text: str


async def dictates(ask: Ask, run: Run) -> AsyncIterator[Word]:
    if run.attempt == 1:
        yield Word("the")
        yield Word("cat")
        raise ConnectionError("lost")
    for text in ("a", "dog", "barks"):
        yield Word(text)


async def writes(words: list[Word]) -> Done:
    return Done(" ".join(word.text for word in words))


async def test_b3_a_gathered_sentence_is_that_of_one_attempt(virtual_clock):
    async with open_runtime() as runtime:
        assert await runtime.run(graph_of(dictates, writes, redelivery=TWICE), Ask()) == Done("a dog barks")


async def test_b3_items_that_were_taken_refuse_another_attempt_and_the_error_says_so(virtual_clock):
    async def hears(word: Word) -> Other:
        return Other()

    async def ends(others: list[Other]) -> Done:
        return Done(len(others))

    graph = graph_of(dictates, hears, ends, redelivery=TWICE)
    async with open_runtime() as runtime:
        with pytest.raises(RunFailed) as caught:
            await runtime.run(graph, Ask())

    (leaf,) = caught.value.exceptions
    broken = leaf.__cause__
    assert isinstance(broken, StreamBroken)
    assert isinstance(broken.__cause__, ConnectionError)
    assert (broken.node, broken.path, broken.emitted, broken.retryable) == ("dictates", "g/dictates/0", 2, False)
    assert "failed with ConnectionError after 2 items, and nodes have begun to work on them" in str(broken)
    assert "repeatable=True" in str(broken)
    assert trio.current_time() == 0  # no backoff is waited out
    assert pickle.loads(pickle.dumps(broken)).emitted == 2


async def test_b3_the_last_attempt_fails_with_its_own_error(virtual_clock):
    async def yields(ask: Ask) -> AsyncIterator[Part]:
        yield Part()
        raise ConnectionError("lost")

    async def takes(part: Part) -> Done | None:
        return None

    async with open_runtime() as runtime:
        with pytest.raises(RunFailed) as caught:
            await runtime.run(graph_of(yields, takes, redelivery=Redelivery(max_attempts=1)), Ask())

    assert isinstance(caught.value.exceptions[0].__cause__, ConnectionError)


async def spread(ask: Ask, run: Run) -> AsyncIterator[Part]:
    """Yields three items, and fails the first time if it is told to; the only item of Ask(9) takes long."""
    for n in range(1 if ask.n == 9 else 3):
        yield Part(ask.n or 10 * run.attempt + n)
    if ask.n == 0 and run.attempt == 1:
        raise ConnectionError("lost")


async def collects(words: list[Word]) -> Done:
    return Done([word.text for word in words])


async def test_b3_items_that_wait_in_a_mailbox_are_withdrawn(virtual_clock):
    taken: list[int] = []

    async def works(part: Part) -> Word:
        taken.append(part.n)
        await trio.sleep(10 if part.n == 9 else 0)
        return Word(f"{part.n}")

    graph = Graph("g", input=Ask, output=Done, supervision=EXACT)
    graph.node(redelivery=TWICE)(spread)
    graph.node(concurrency=1)(works)
    graph.node(collects)
    async with open_runtime() as runtime:
        busy = await runtime.start(graph, Ask(9))
        await trio.sleep(1)
        async with runtime.stream(graph, Ask(0)) as stream:
            handle = runtime.runs()["g-2"]
            events: list[Any] = [event async for event in stream]
        await busy.result()

    assert events[-1].output == Done(["20", "21", "22"])
    assert taken == [9, 20, 21, 22]
    assert [step.status for step in handle.trace if step.node == "works"] == ["cancelled"] * 3 + ["done"] * 3
    assert [event.output.n for event in events if isinstance(event, NodeEmitted)] == [10, 11, 12, 20, 21, 22]


async def test_b3_a_join_that_waits_in_a_mailbox_is_withdrawn_and_its_other_value_joins_again(virtual_clock):
    async def key(ask: Ask) -> Other:
        return Other(ask.n)

    async def works(part: Part, other: Other | None) -> Word:
        await trio.sleep(10 if part.n == 9 else 0)
        return Word(f"{part.n}{other.n if other else None}")

    graph = Graph("g", input=Ask, output=Done, supervision=EXACT)
    graph.node(key)
    graph.node(redelivery=TWICE)(spread)
    graph.node(concurrency=1)(works)
    graph.node(collects)
    async with open_runtime() as runtime:
        busy = await runtime.start(graph, Ask(9))
        await trio.sleep(1)
        assert await runtime.run(graph, Ask(0)) == Done(["200", "210", "220"])
        assert await busy.result() == Done(["99"])


async def test_b3_a_repeatable_generator_goes_on_behind_what_it_has_yielded(virtual_clock):
    made: list[int] = []

    async def counts(ask: Ask, run: Run) -> AsyncIterator[Part]:
        for n in range(4):
            yield Part(n)
            if n == run.attempt:
                raise ConnectionError("lost")

    async def works(part: Part) -> Other:
        made.append(part.n)
        return Other(part.n)

    async def ends(others: list[Other]) -> Done:
        return Done([other.n for other in others])

    graph = graph_of(works, ends)
    graph.node(repeatable=True, redelivery=Redelivery(max_attempts=4, backoff=Backoff(first_s=1)))(counts)
    async with open_runtime() as runtime:
        assert await runtime.run(graph, Ask()) == Done([0, 1, 2, 3])
    assert made == [0, 1, 2, 3]


@pytest.mark.parametrize("limit", [{"timeout_s": 5}, {"idle_timeout_s": 5}])
@pytest.mark.parametrize("repeatable", [False, True])
async def test_b3_items_after_the_time_of_an_attempt_never_count(limit, repeatable, virtual_clock):
    async def stubborn(ask: Ask, run: Run) -> AsyncIterator[Word]:
        yield Word(f"{run.attempt}a" if not repeatable else "a")
        if run.attempt == 1:
            with contextlib.suppress(trio.Cancelled):
                await trio.sleep(10)
            for _ in range(5):
                yield Word("late")
        yield Word("b")

    async with open_runtime() as runtime:
        graph = graph_of(writes)
        graph.node(repeatable=repeatable, redelivery=TWICE, **limit)(stubborn)
        assert await runtime.run(graph, Ask()) == Done("a b" if repeatable else "2a b")


async def test_b3_the_first_so_many_are_those_of_one_attempt(virtual_clock):
    async def writes_two(words: Annotated[list[Word], Gather(first=3)]) -> Done:
        return Done(" ".join(word.text for word in words))

    async with open_runtime() as runtime:
        assert await runtime.run(graph_of(dictates, writes_two, redelivery=TWICE), Ask()) == Done("a dog barks")


@pytest.mark.parametrize("attempts", [1, 2, 3])
async def test_b3_a_stream_within_a_branch_is_taken_back_alone(attempts, virtual_clock):
    async def spread(ask: Ask) -> list[Part]:
        return [Part(n) for n in range(3)]

    async def dictate(part: Part, run: Run) -> AsyncIterator[Word]:
        for n in range(2):
            yield Word(f"{part.n}{run.attempt}{n}")
        if run.attempt < attempts and part.n == 1:
            raise ConnectionError("lost")

    async def inner(words: list[Word]) -> Joined:
        return Joined(" ".join(word.text for word in words))

    async def outer(parts: list[Joined]) -> Done:
        return Done([part.text for part in parts])

    graph = graph_of(spread, inner, outer)
    graph.node(redelivery=Redelivery(max_attempts=3, backoff=Backoff(first_s=1)))(dictate)
    async with open_runtime() as runtime:
        assert await runtime.run(graph, Ask()) == Done(["010 011", f"1{attempts}0 1{attempts}1", "210 211"])


async def test_b3_a_none_that_ended_its_branch_is_taken_back_too(virtual_clock):
    async def yields(ask: Ask, run: Run) -> AsyncIterator[Word | None]:
        yield None
        yield Word("x")
        if run.attempt == 1:
            raise ConnectionError("lost")
        yield Word("y")

    async with open_runtime() as runtime:
        assert await runtime.run(graph_of(yields, writes, redelivery=TWICE), Ask()) == Done("x y")


def test_b3_only_a_generator_can_be_repeatable():
    graph = Graph("g", input=Ask, output=Done)

    with pytest.raises(DeclarationError, match=r"node 'work' .*repeatable=True.*isn't an async generator"):

        @graph.node(repeatable=True)
        async def work(ask: Ask) -> Done:
            return Done()
