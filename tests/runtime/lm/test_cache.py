import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import httpx
import pytest

from actors.errors import DeclarationError
from actors.lm import Completion, Usage
from runtime.lm.cache import AnswerCache, MemoryCache, SqliteCache
from tests.runtime.lm.faking import HELLO, faking, said

WHOLE = Completion(
    "text", "openai/m", "tool_calls", Usage(3, 4, 0.5), ({"id": "1", "function": {"name": "f", "arguments": "{}"}},), "why", 2
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


def test_a_cache_keeps_at_least_one_answer():
    with pytest.raises(DeclarationError, match="max_entries"):
        MemoryCache(0)
