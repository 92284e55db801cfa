"""Dead letters hold a bounded amount of memory, however large the messages are that reached nobody."""

from __future__ import annotations

import gc
import math
import weakref
from typing import Any

import attrs
import pytest
import trio

from actors import Actor, DeclarationError, Graph, RunFailed
from runtime import DeadLetterPolicy, MessageDeadLettered, MessageSummary, open_runtime
from tests.runtime.cast import PATIENT, Boom, Echo, settled, stage

KB = 1024


@attrs.frozen
class Input:
    body: str


@attrs.frozen
class Output:
    body: str


def failing_graph() -> Graph:
    graph = Graph("failing", input=Input, output=Output)

    @graph.node
    async def fail(message: Input) -> Output:
        raise Boom(message)

    return graph


async def inputs_of_failing_runs(runtime: Any, count: int, size: int) -> list[weakref.ref[Input]]:
    graph, kept = failing_graph(), []
    for number in range(count):
        message = Input(f"{number:10}" * (size // 10))
        kept.append(weakref.ref(message))
        with pytest.raises(RunFailed):
            await runtime.run(graph, message)
        del message
    gc.collect()
    return kept


@pytest.mark.slow
@pytest.mark.chaos
async def test_a4_the_inputs_of_failing_runs_die(autojump_clock):
    async with open_runtime(supervision=PATIENT) as runtime:
        kept = await inputs_of_failing_runs(runtime, count=3000, size=100 * KB)

        assert sum(each() is not None for each in kept) == 0
        assert runtime.dead_letters.total == 3000


async def test_a4_small_inputs_die_once_newer_letters_have_their_place(autojump_clock):
    async with open_runtime(supervision=PATIENT, dead_letters=DeadLetterPolicy(keep=10)) as runtime:
        kept = await inputs_of_failing_runs(runtime, count=100, size=100)

        assert len(runtime.dead_letters) == 10
        assert [index for index, each in enumerate(kept) if each() is not None] == list(range(90, 100))


async def test_a4_a_large_message_is_kept_as_its_summary(autojump_clock):
    async with stage() as runtime:
        ref = await runtime.spawn(Echo, name="gone")
        await runtime.stop(ref)
        await ref.tell(Input("x" * 1024 * KB))

        [letter] = runtime.dead_letters
        assert isinstance(letter.message, MessageSummary)
        assert letter.message.kind == "Input"
        assert letter.message.size_bytes > 1024 * KB
        assert letter.message.text == f"Input(body='{'x' * 40}'… (1,048,576 in all))"


async def test_a4_the_oldest_letters_go_when_their_messages_take_more_than_the_policy_allows(autojump_clock):
    async with stage(dead_letters=DeadLetterPolicy(bytes=50 * KB)) as runtime:
        ref = await runtime.spawn(Echo)
        await runtime.stop(ref)
        for number in range(20):
            await ref.tell(f"{number:02}" * 5_000)

        kept = [letter.message[:2] for letter in runtime.dead_letters]
        assert kept == ["16", "17", "18", "19"]
        assert runtime.dead_letters.total == 20


async def test_a4_keep_0_keeps_none_and_an_instrument_may_still_get_whole_messages(autojump_clock):
    heard: list[Any] = []
    nothing = DeadLetterPolicy(keep=0, bytes=math.inf, large_bytes=math.inf)
    async with stage(dead_letters=nothing, instruments=[heard.append]) as runtime:
        ref = await runtime.spawn(Echo)
        await runtime.stop(ref)
        await ref.tell("x" * 100 * KB)

        assert list(runtime.dead_letters) == []
    [letter] = [event.letter for event in heard if isinstance(event, MessageDeadLettered)]
    assert letter.message == "x" * 100 * KB


class Hostile:
    """Everything that an author can write raises."""

    __slots__ = ("blob", "unset")

    def __init__(self, size: int) -> None:
        object.__setattr__(self, "blob", "x" * size)

    def __getattr__(self, name: str) -> Any:
        raise Boom(name)

    def __repr__(self) -> str:
        raise Boom

    def __sizeof__(self) -> int:
        raise Boom

    @property
    def __class__(self) -> Any:
        raise Boom

    @__class__.setter
    def __class__(self, value: Any) -> None:
        raise Boom

    __eq__ = __hash__ = __bool__ = __len__ = __iter__ = lambda *_: 1 / 0  # type: ignore[assignment]


@pytest.mark.parametrize("size", [10, 100 * KB])
async def test_a4_a_hostile_message_is_a_dead_letter_like_any(size, autojump_clock):
    async with stage() as runtime:
        ref = await runtime.spawn(Echo)
        await runtime.stop(ref)
        message = Hostile(size)
        await ref.tell(message)

        [letter] = runtime.dead_letters
        assert (letter.message is message) == (size == 10)


def endless() -> list[Any]:
    ring: list[Any] = []
    ring.append(ring)
    return ring


def deep() -> list[Any]:
    nested: list[Any] = []
    for _ in range(100_000):
        nested = [nested]
    return nested


@pytest.mark.parametrize(
    ("make", "large"),
    [
        (endless, False),
        (deep, True),
        (lambda: {"key": "x" * 100 * KB}, True),
        (lambda: [bytearray(100 * KB)], True),
        (lambda: memoryview(bytearray(100 * KB)), True),
        (lambda: 10 ** (100 * KB), True),
        (lambda: list(range(1_000_000)), True),
        (lambda: Boom("x" * 100 * KB), False),
        (lambda: lambda: None, False),
    ],
)
async def test_a4_messages_of_any_shape_are_measured(make, large, autojump_clock):
    async with stage() as runtime:
        ref = await runtime.spawn(Echo)
        await runtime.stop(ref)
        await ref.tell(make())

        [letter] = runtime.dead_letters
        assert isinstance(letter.message, MessageSummary) == large


async def test_a4_a_message_that_holds_a_ref_does_not_count_the_runtime_behind_it(autojump_clock):
    async with stage() as runtime:
        ref = await runtime.spawn(Echo)
        await runtime.stop(ref)
        await ref.tell(("reply to", ref))

        [letter] = runtime.dead_letters
        assert letter.message == ("reply to", ref)


async def test_a4_an_error_that_holds_the_message_does_not_keep_it(autojump_clock):
    class Fails(Actor):
        async def receive(self, message: Any) -> None:
            raise Boom("refused:", message)

    async with stage(supervision=PATIENT) as runtime:
        ref = await runtime.spawn(Fails)
        message = Input("x" * 100 * KB)
        alive = weakref.ref(message)
        await ref.tell(message)
        del message
        await settled()
        gc.collect()

        [letter] = runtime.dead_letters
        assert alive() is None
        assert str(letter.error) == "Boom: 'refused:'"


async def test_a4_a_wrong_policy_is_named():
    with pytest.raises(DeclarationError, match=r"^DeadLetterPolicy\(keep=-1\): expected a whole number >= 0"):
        DeadLetterPolicy(keep=-1)
    with pytest.raises(DeclarationError, match=r"^open_runtime\(dead_letters=10\): expected a DeadLetterPolicy\."):
        async with stage(dead_letters=10):
            await trio.lowlevel.checkpoint()
