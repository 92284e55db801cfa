"""Errors that go through a record: what decides by the class of an error decides the same in a later life."""

from __future__ import annotations

import json
import sys
from typing import Any

import attrs
import pytest

from actors import LMRateLimited, LMUnavailable, NodeFailed, NodeTimedOut, Run, RunFailed, StreamBroken
from runtime.graphs.records.recorded_errors import RecordedError, error_of, told_of_error
from tests.runtime.graphs.lives import Lives
from tests.runtime.graphs.stage import Ask, Done, graph_of


class OutOfStock(Exception):
    """Of an author, made of what it was called with."""

    def __init__(self, item: str, left: int = 0) -> None:
        super().__init__(item, left)
        self.item = item


class Strange(Exception):
    """Of an author; nobody can make it again."""

    def __init__(self, one: object, *, other: object) -> None:
        super().__init__(f"{one} and {other}")


def through_a_record(error: BaseException) -> Any:
    return error_of(json.loads(json.dumps(told_of_error(error))))


@pytest.mark.parametrize(
    "error",
    [
        ValueError("wrong"),
        KeyError("name"),
        OSError(2, "no such file"),
        OutOfStock("tea", left=3),
        LMRateLimited("wait", model="openai/x", attempt=3, status=429, spent=True, retry_after_s=2.5),
        NodeTimedOut("node 'work' did not finish.\n  Fix: give it more time.", run_id="it"),
        StreamBroken("broken", run_id="it", node="n", path="g/n/0", emitted=2),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_is_made_again_with_its_class_its_words_and_what_it_knows(error: Exception):
    again = through_a_record(error)

    assert (type(again), str(again), again.args) == (type(error), str(error), error.args)
    assert {**vars(again), "__notes__": None} == {**vars(error), "__notes__": None}
    assert again.__notes__ == ["It was raised in an earlier life of the run; its traceback ended with that process."]


def test_its_causes_come_with_it():
    error = LMUnavailable("away", model="x")
    error.__cause__ = ConnectionError("refused")

    again = through_a_record(error)

    assert (type(again.__cause__), str(again.__cause__)) == (ConnectionError, "refused")


def local() -> Exception:
    class Local(Exception):
        pass

    return Local("inside a function")


@pytest.mark.parametrize(
    "error",
    [
        Strange(1, other=2),
        local(),
        ValueError(object()),
        ValueError("x" * 5_000),
        ExceptionGroup("several", [ValueError("1")]),
        KeyboardInterrupt("stop"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_cannot_be_made_again_is_there_in_words(error: BaseException):
    again = through_a_record(error)

    assert type(again) is RecordedError
    assert str(again).startswith(f"{type(error).__name__}: ")


@pytest.mark.parametrize(
    "name", ["json:loads", "os:system", "antigravity:Error", "actors.errors:UnderstudyError.page", ":", "json"]
)
def test_nothing_is_imported_or_called_by_a_name_in_the_data(name: str):
    told = {"error": "ValueError: x", "made": {"class": name, "of": ["x"]}}

    assert type(error_of(told)) is RecordedError
    assert "antigravity" not in sys.modules


@pytest.mark.parametrize("damaged", [{"class": "builtins:ValueError", "of": 7}, {"class": 3}, [], {"class": "builtins:OSError"}])
def test_a_record_of_another_form_is_there_in_words(damaged: Any):
    assert type(error_of({"error": "ValueError: x", "made": damaged})) is RecordedError


@attrs.define(eq=False)
class Deciding:
    """A node that fails, and a fallback that decides by the class of the error; its process ends in the middle of that."""

    error: Exception
    dies: bool = True
    seen: list[Any] = attrs.field(factory=list[Any])

    def lives(self) -> Lives:
        async def work(ask: Ask) -> Done:
            raise self.error

        async def decide(ask: Ask, error: Exception, run: Run) -> Done:
            self.seen.append(error)
            if not run.is_resumed:
                await lives.die()
            return Done(-1 if isinstance(error, type(self.error)) else 0)

        lives = Lives(graph_of(work, fallback=decide))
        return lives


@pytest.mark.parametrize("error", [LMUnavailable("away", model="x", spent=True), OutOfStock("tea")], ids=["ours", "theirs"])
async def test_a_fallback_decides_by_the_class_of_the_error_in_a_later_life_too(error: Exception, autojump_clock):
    deciding = Deciding(error)
    lives = deciding.lives()
    await lives.one_that_is_killed()

    assert await lives.last() == Done(-1)
    assert [type(each) for each in deciding.seen] == [type(error)] * 2


async def test_the_causes_of_a_run_that_has_failed_are_of_their_classes_for_whoever_reads_its_end(autojump_clock):
    async def work(ask: Ask) -> Done:
        raise OutOfStock("tea")

    lives = Lives(graph_of(work))
    for _ in range(2):
        with pytest.raises(RunFailed) as failed:
            await lives.last()
        [leaf] = failed.value.exceptions
        assert isinstance(leaf, NodeFailed)
        assert isinstance(leaf.__cause__, OutOfStock)
        assert leaf.__cause__.item == "tea"
