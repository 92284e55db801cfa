"""The reducer alone: taking back what an attempt emitted leaves the run as if that attempt had never been."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from typing import Annotated

import pytest

from actors import Gather, Graph
from actors.graphs.annotations import Many
from tests.runtime.graphs.driving import Driven, begin, drive
from tests.runtime.graphs.reducer.test_state import A, B, C
from tests.runtime.graphs.stage import Ask, Done, Other, Part


def of(*functions: object) -> Graph:
    graph = Graph("g", input=Ask, output=Done)
    for function in functions:
        graph.node(function)  # type: ignore[call-overload]
    return graph


async def stream(ask: Ask) -> AsyncIterator[Part]:
    for n in range(4):
        yield Part(n)


async def stream_with_gaps(ask: Ask) -> AsyncIterator[Part | None]:
    for n in range(4):
        yield Part(n) if n % 2 else None


async def key(ask: Ask) -> Other:
    return Other(7)


async def maybe_key(ask: Ask) -> Other | None:
    return None


async def joined(part: Part, other: Other) -> A:
    return A(part.n * other.n)


async def perhaps_joined(part: Part, other: Other | None) -> A:
    return A(part.n * (other.n if other else 100))


async def direct(parts: list[Part]) -> Done:
    return Done([part.n for part in parts])


async def three(parts: Annotated[list[Part], Gather(first=3)]) -> Done:
    return Done(sorted(part.n for part in parts))


async def collected(parts: list[A]) -> Done:
    return Done([part.n for part in parts])


async def beside(parts: list[Part], other: Other) -> Done:
    return Done(([part.n for part in parts], other.n))


async def split(ask: Ask) -> list[B]:
    return [B(n) for n in range(3)]


async def inner_stream(b: B) -> AsyncIterator[Part]:
    for n in range(3):
        yield Part(10 * b.n + n)


async def inner_work(part: Part) -> A:
    return A(part.n)


async def inner_gather(parts: list[A]) -> C:
    return C(sum(part.n for part in parts))


async def outer_gather(parts: list[C]) -> Done:
    return Done([part.n for part in parts])


GRAPHS = {
    "gathered at once": of(stream, direct),
    "with items that end": of(stream_with_gaps, direct),
    "the first three": of(stream, three),
    "joined with a value from outside": of(stream, key, joined, collected),
    "joined with an optional one": of(stream, key, perhaps_joined, collected),
    "joined with one that never comes": of(stream, maybe_key, perhaps_joined, collected),
    "gathered for a join": of(stream, key, beside),
    "within a fan-out": of(split, inner_stream, inner_work, inner_gather, outer_gather),
}


def take_back_one(driven: Driven, rng: random.Random) -> bool:
    """Let an attempt of some generator fail, if what it emitted can be taken back."""
    nodes = driven.state.plan.nodes
    begun = [path for path, at in driven.waiting.items() if at and nodes[driven.deliveries[path].node].fan_out is Many.STREAM]
    if not begun:
        return False
    path = rng.choice(begun)
    commands = driven.state.retracted(path, lambda _: False)
    if commands is None:
        return False
    assert not commands.deliveries
    driven.obey(commands)
    for cancelled in commands.cancelled:
        del driven.deliveries[cancelled]
    driven.waiting[path] = None
    return True


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("seed", range(25))
def test_b3_attempts_that_were_taken_back_change_neither_output_nor_paths(name, seed):
    rng, graph = random.Random(seed), GRAPHS[name]
    plain = drive(graph, Ask())
    driven, left = begin(graph, Ask()), 5
    while driven.waiting:
        if left and rng.random() < 0.4 and take_back_one(driven, rng):
            left -= 1
            continue
        driven.step(rng.choice(list(driven.waiting)))

    assert (driven.output, driven.state.is_at_rest) == (plain.output, True)
    if name != "the first three":
        assert sorted(driven.deliveries) == sorted(plain.deliveries)
        assert all(driven.deliveries[path] == plain.deliveries[path] for path in plain.deliveries)


async def nothing(parts: list[A]) -> Done | None:
    return None


def test_b3_a_value_from_outside_counts_as_waiting_again():
    """What a run without output says of it: the join was left waiting, although a branch that was taken back had used it."""
    said = []
    for emits in (0, 2):
        driven = begin(of(key, stream, joined, nothing), Ask())
        driven.step("g/key/0")
        for index in range(emits):
            driven.obey(driven.state.emitted("g/stream/0", Part(index), index))
        commands = driven.state.retracted("g/stream/0", lambda _: False)
        assert commands is not None
        assert len(commands.cancelled) == emits
        driven.obey(commands)
        driven.obey(driven.state.finished("g/stream/0"))
        driven.step("g/nothing/0")
        assert driven.state.is_at_rest
        said.append(driven.state.no_output().partition(" steps")[2])

    assert said[0] == said[1]
    assert "'joined' was left waiting: it had other: Other; never came: part: Part." in said[0]
