"""What a caller notes of a run, and when its events happened."""

from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import pytest
import trio

from actors import Graph
from actors.errors import UsageError
from runtime import RunStarted, Runtime, open_runtime


@attrs.frozen
class Word:
    text: str


@attrs.frozen
class Echo:
    text: str


def echo() -> Graph[Word, Echo]:
    graph = Graph("echo", input=Word, output=Echo)

    @graph.node
    async def repeat(word: Word) -> Echo:
        return Echo(word.text)

    return graph


async def test_labels_are_in_the_first_event_of_a_run_and_at_its_handle() -> None:
    seen: list[Any] = []
    async with open_runtime(instruments=[seen.append]) as runtime:
        await runtime.run(echo(), Word("a"), labels={"customer": "7"})
        handle = await runtime.start(echo(), Word("b"), labels={"customer": "8"})
        await handle.result()
        async with runtime.stream(echo(), Word("c"), labels={"customer": "9"}) as events:
            [event async for event in events]
        await runtime.run(echo(), Word("d"))

    started = [dict(event.labels) for event in seen if isinstance(event, RunStarted)]
    assert started == [{"customer": "7"}, {"customer": "8"}, {"customer": "9"}, {}]
    assert handle.labels == {"customer": "8"}


async def test_a_run_that_a_node_starts_has_the_labels_of_its_own_unless_it_is_given_others() -> None:
    seen: list[Any] = []
    outer = Graph("outer", input=Word, output=Echo)

    async with open_runtime(instruments=[seen.append]) as runtime:

        @outer.node
        async def ask(word: Word) -> Echo:
            await runtime.run(echo(), word)
            return await runtime.run(echo(), word, labels={"step": "2"})

        await runtime.run(outer, Word("a"), labels={"customer": "7"})

    started = [dict(event.labels) for event in seen if isinstance(event, RunStarted)]
    assert started == [{"customer": "7"}, {"customer": "7"}, {"step": "2"}]


@pytest.mark.parametrize(
    "labels", [{"n": 1}, {"": "a"}, {str(n): "" for n in range(17)}, {"a": "b" * 201}, "text", {1: "a"}], ids=str
)
async def test_labels_that_are_no_short_texts_are_rejected(labels: Any) -> None:
    async with open_runtime() as runtime:
        with pytest.raises(UsageError, match=r"expected at most 16 texts by name(.|\n)*Fix:"):
            await runtime.run(echo(), Word("a"), labels=labels)


async def test_an_event_has_a_time_of_day(virtual_clock: Any) -> None:
    """In virtual time it is counted from 1970, so that it is the same whenever a test runs."""
    async with open_runtime() as runtime:
        await trio.sleep(90)

        assert runtime.wall_time(trio.current_time()) == datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=trio.current_time())
        assert runtime.wall_time(90) == datetime(1970, 1, 1, 0, 1, 30, tzinfo=UTC)


def test_the_time_of_day_is_read_once_when_the_runtime_is_opened() -> None:
    async def main() -> tuple[datetime, datetime, datetime]:
        before = datetime.now(UTC)
        async with open_runtime() as runtime:
            assert isinstance(runtime, Runtime)
            return before, runtime.wall_time(trio.current_time()), datetime.now(UTC)

    before, told, after = trio.run(main)

    assert before - timedelta(seconds=5) <= told <= after + timedelta(seconds=5)
