"""A resumed ``Gather(first=k)`` is given the items that it was given before the crash, whatever the schedule."""

from __future__ import annotations

from typing import Annotated

import pytest
import trio

from actors import Gather
from runtime import open_runtime
from runtime.journal.memory import MemoryStore
from runtime.testing import Simulation, SlowStore
from runtime.testing.schedules.strategies import portfolio
from tests.exploration.planted_durable import Ask, Done, Other, Part, graph_of, the_reducer_is_told_when_the_task_is_woken


async def given_before_and_after() -> list[list[int]]:
    """What the gathering node was given in a life that it ended, and in the next."""
    given: list[list[int]] = []
    memory = MemoryStore()

    async def split(ask: Ask) -> list[Part]:
        return [Part(n) for n in range(ask.n)]

    async def work(part: Part) -> Other:
        await trio.sleep(1)
        return Other(part.n)

    async def gather(others: Annotated[list[Other], Gather(first=3)]) -> Done:
        given.append([other.n for other in others])
        if len(given) == 1:
            memory.crash()
            life.cancel()
            await trio.sleep_forever()
        return Done(given[-1])

    graph = graph_of(split, work, gather)
    with trio.CancelScope() as life:
        async with open_runtime(store=SlowStore(memory, 0.1)) as runtime:
            await (await runtime.start(graph, Ask(6), run_id="it")).result()
    async with open_runtime(store=memory.beside()) as runtime:
        await (await runtime.start(graph, Ask(6), run_id="it")).result()
    return given


def different(trials: int) -> tuple[int, int]:
    """In how many of so many schedules the items were others, and how many different choices of items there were."""
    others, choices = 0, set[tuple[int, ...]]()
    for seed in range(trials):
        before, after = Simulation(portfolio(seed, 100), seed=seed).run(given_before_and_after)
        others += before != after
        choices.add(tuple(before))
    return others, len(choices)


def test_the_first_items_are_the_same_after_a_crash() -> None:
    others, choices = different(25)

    assert others == 0
    assert choices > 5  # the schedules do decide which they are


@pytest.mark.chaos
def test_the_first_items_are_the_same_after_a_crash_300_of_300() -> None:
    others, choices = different(300)

    assert others == 0
    assert choices > 5


def test_they_would_be_others_if_the_reducer_were_told_after_the_wait(monkeypatch) -> None:
    the_reducer_is_told_when_the_task_is_woken(monkeypatch)

    others, _ = different(25)

    assert others > 3
