import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import httpx
import pytest
import trio

from actors.errors import DeclarationError, LMUnavailable, UsageError
from actors.lm import Completion, ReasoningDelta, TextDelta, ToolCallDelta, Usage
from runtime.lm.client import LMClient
from runtime.lm.kept import KeptStream
from runtime.lm.limits.cache import AnswerCache, MemoryCache, SqliteCache
from runtime.lm.limits.retry import Retry
from runtime.testing.loopback import Failure, ModelScript, open_loopback
from tests.runtime.lm.faking import HELLO, faking, said

WHOLE = Completion(
    "text",
    "openai/m",
    "tool_calls",
    Usage(3, 4, 0.5),
    ({"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}},),
    "why",
    2,
)


class Counting:
    def __init__(self) -> None:
        self.asked = 0

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked += 1
        return said(f"answer {self.asked}")


@pytest.fixture(params=["memory", "sqlite"])
def cache(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    if request.param == "memory":
        yield MemoryCache()
    else:
        with contextlib.closing(SqliteCache(tmp_path / "answers.db")) as cache:
            yield cache


async def test_the_same_request_is_asked_once_and_costs_nothing_the_second_time(cache: AnswerCache):
    provider = Counting()
    async with faking(provider, {"cache": cache}) as (lm,):
        first = await lm.chat(HELLO, temperature=0)
        second = await lm.chat(HELLO, temperature=0)

    assert provider.asked == 1
    assert second == attrs.evolve(first, usage=Usage(0, 0, 0.0), attempts=0)


@pytest.mark.parametrize("other", [{"temperature": 0, "max_tokens": 5}, {"temperature": 0, "seed": 1}])
async def test_another_request_is_another_question(cache: AnswerCache, other: dict[str, Any]):
    provider = Counting()
    async with faking(provider, {"cache": cache}, {"cache": cache, "model": "openai/other"}) as (lm, another):
        await lm.chat(HELLO, temperature=0)
        await lm.chat(HELLO, **other)
        await another.chat(HELLO, temperature=0)

    assert provider.asked == 3


@pytest.mark.parametrize(("keeps_sampled", "asked"), [(False, 2), (True, 1)])
async def test_answers_that_may_differ_are_kept_only_where_that_is_wanted(keeps_sampled: bool, asked: int):
    provider = Counting()
    async with faking(provider, {"cache": MemoryCache(keeps_sampled=keeps_sampled)}) as (lm,):
        for _ in range(2):
            await lm.chat(HELLO)

    assert provider.asked == asked


def test_the_answer_used_last_stays_longest():
    cache = MemoryCache(max_entries=2)
    cache.put("a", WHOLE)
    cache.put("b", WHOLE)
    cache.get("a")
    cache.put("c", WHOLE)

    assert [cache.get(key) is not None for key in "abc"] == [True, False, True]


def test_a_file_keeps_everything_of_an_answer_for_the_next_process(tmp_path: Path):
    first = SqliteCache(tmp_path / "answers.db")
    first.put("key", WHOLE)
    first.close()

    with contextlib.closing(SqliteCache(tmp_path / "answers.db")) as second:
        assert second.get("key") == WHOLE


def test_a_file_that_is_locked_counts_as_having_no_answer(tmp_path: Path):
    path = tmp_path / "answers.db"
    with contextlib.closing(SqliteCache(path)) as holder, contextlib.closing(SqliteCache(path)) as cache:
        holder._connection.execute("BEGIN EXCLUSIVE")

        cache.put("key", WHOLE)

        holder._connection.execute("ROLLBACK")
        assert cache.get("key") is None


def no_database(path: Path) -> None:
    path.write_text("These are notes, and no database at all.\n" * 100)


def a_folder(path: Path) -> None:
    path.mkdir()


def in_no_folder(path: Path) -> None:
    path.symlink_to(path.parent / "nowhere" / "answers.db")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (no_database, "file is not a database"),
        (a_folder, "unable to open database file"),
        (in_no_folder, "unable to open database file"),
    ],
)
def test_a_file_that_cannot_be_a_cache_is_refused_when_it_is_opened(make: Any, words: str, tmp_path: Path):
    path = tmp_path / "answers.db"
    make(path)
    before = path.read_bytes() if path.is_file() else None

    with pytest.raises(DeclarationError) as caught:
        SqliteCache(path)

    assert str(caught.value) == (
        f"SqliteCache({str(path)!r}): the file cannot be used: {words}.\n"
        "  Fix: name a file that is not there yet, or one that SqliteCache has made, in a folder that may be written to."
    )
    assert (path.read_bytes() if path.is_file() else None) == before


async def test_a_cache_made_in_another_thread_than_trios_serves(tmp_path: Path):
    cache = await trio.to_thread.run_sync(SqliteCache, tmp_path / "answers.db")
    with contextlib.closing(cache):
        cache.put("key", WHOLE)
        assert cache.get("key") == WHOLE


def damaged(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:1024] + b"damaged" * 2000)


@pytest.mark.parametrize("pragma", ["query_only = ON", "max_page_count = 1"], ids=["read-only", "full"])
def test_a_file_that_takes_no_more_keeps_nothing_and_fails_nothing(pragma: str, tmp_path: Path):
    with contextlib.closing(SqliteCache(tmp_path / "answers.db")) as cache:
        cache._connection.execute(f"PRAGMA {pragma}")

        cache.put("key", attrs.evolve(WHOLE, text="long " * 100_000))

        assert cache.get("key") is None


def test_a_damaged_file_counts_as_having_no_answer(tmp_path: Path):
    path = tmp_path / "answers.db"
    with contextlib.closing(SqliteCache(path)) as cache:
        for number in range(200):
            cache.put(str(number), WHOLE)
        cache._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    damaged(path)

    connection = sqlite3.connect(path, isolation_level=None)
    cache._connection = connection
    with contextlib.closing(connection):
        assert cache.get("7") is None
        cache.put("7", WHOLE)


@pytest.mark.parametrize("kept", ["not JSON", "[]", "{}", '{"text": 1}'])
def test_what_another_release_has_kept_counts_as_no_answer(kept: str, tmp_path: Path):
    with contextlib.closing(SqliteCache(tmp_path / "answers.db")) as cache:
        cache._connection.execute("INSERT INTO answers VALUES ('key', ?)", (kept,))

        assert cache.get("key") is None


def test_an_answer_that_no_file_can_hold_is_not_kept(tmp_path: Path):
    with contextlib.closing(SqliteCache(tmp_path / "answers.db")) as cache:
        cache.put("key", attrs.evolve(WHOLE, text="half a pair: \ud800"))

        assert cache.get("key") is None


def test_a_cache_keeps_at_least_one_answer():
    with pytest.raises(DeclarationError, match="max_entries"):
        MemoryCache(0)


async def test_a_kept_answer_is_streamed_and_a_whole_stream_is_kept(cache: AnswerCache):
    provider = Counting()
    async with faking(provider, {"cache": cache}) as (lm,):
        async with lm.stream(HELLO, temperature=0) as first:
            pieces = [piece async for piece in first]
        async with lm.stream(HELLO, temperature=0) as again:
            with pytest.raises(UsageError, match="the answer is not complete"):
                _ = again.completion
            kept = [piece async for piece in again]
        whole = await lm.chat(HELLO, temperature=0)

    assert provider.asked == 1
    assert kept == pieces == [TextDelta("answer 1")]
    assert again.completion == whole == attrs.evolve(first.completion, usage=Usage(0, 0, 0.0), attempts=0)


async def test_a_stream_that_breaks_off_or_is_left_early_is_not_kept():
    failures = (Failure.disconnect_mid_body(),)
    async with open_loopback({"m": ModelScript("one two three", failures=failures, interval_s=0.001)}) as server:
        options: dict[str, Any] = {"api_base": server.api_base, "cache": MemoryCache(), "retry": Retry(max_attempts=1)}
        async with LMClient("openai/m", api_key="k", **options) as lm:
            with pytest.raises(LMUnavailable):
                async with lm.stream(HELLO, temperature=0) as broken:
                    [_ async for _ in broken]
            async with lm.stream(HELLO, temperature=0) as left:
                await anext(left)
            async with lm.stream(HELLO, temperature=0) as whole:
                [_ async for _ in whole]
            assert (await lm.chat(HELLO, temperature=0)).text == "one two three"

    assert len(server.requests) == 3


async def test_tool_calls_and_reasoning_are_streamed_from_the_cache_as_they_were_kept():
    stream = KeptStream(WHOLE)

    pieces = [piece async for piece in stream]

    assert pieces == [ReasoningDelta("why"), TextDelta("text"), ToolCallDelta(0, "1", "f", "{}")]
    assert stream.completion is WHOLE
