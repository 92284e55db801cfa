from __future__ import annotations

import random
import uuid
from collections.abc import Sequence

import pytest
import trio

from actors.errors import InternalError
from runtime.testing import schedule
from runtime.testing.schedule import Loop, check_trio, missing_names, run_chosen


class Last:
    """Runs the task that came last; keeps the order."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.loop: Loop | None = None

    def begin(self, loop: Loop) -> None:
        self.loop = loop

    def before_wait(self) -> None:
        pass

    def pick(self, tasks: Sequence[trio.lowlevel.Task]) -> int | None:
        return len(tasks) - 1

    def before_step(self, task: trio.lowlevel.Task) -> None:
        if not task.name.startswith("<"):
            self.ran.append(task.name)

    def after_step(self, task: trio.lowlevel.Task) -> None:
        pass

    def idle(self) -> None:
        assert self.loop is not None
        self.loop.jump(self.loop.left_s)


async def three_tasks() -> float:
    async with trio.open_nursery() as nursery:
        for name in "abc":
            nursery.start_soon(trio.sleep, 5, name=name)
    return trio.current_time()


def test_the_controller_decides_who_runs() -> None:
    last = Last()

    ended_s = run_chosen(last, three_tasks, last.begin)

    assert [name for name in last.ran if len(name) == 1] == ["c", "b", "a", "a", "b", "c"]
    assert ended_s == 5.0


def test_no_name_of_trio_has_moved() -> None:
    assert missing_names() == []


def test_a_name_that_moved_is_reported_with_trios_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(schedule.NAMES, "trio._threads", ("start_thread_sometime",))

    with pytest.raises(InternalError) as caught:
        check_trio()

    assert str(caught.value) == (
        f"trio {trio.__version__} cannot be scheduled by the test harness: it has no trio._threads.start_thread_sometime.\n"
        "  Mend: install a trio that this release of understudy knows, or a release that knows this trio."
    )


def test_a_run_that_escapes_the_choices_fails_loudly(monkeypatch: pytest.MonkeyPatch) -> None:
    """As it would if trio no longer read its queue the way that it does now."""

    def everything(queue: schedule._ChosenQueue) -> object:  # pyright: ignore[reportPrivateUsage]
        queue.released = None
        return iter(list(queue._waiting))  # pyright: ignore[reportPrivateUsage]

    monkeypatch.setattr(schedule._ChosenQueue, "__iter__", everything)  # pyright: ignore[reportPrivateUsage]
    monkeypatch.setattr(schedule._ChosenQueue, "clear", lambda queue: queue._waiting.clear())  # pyright: ignore[reportPrivateUsage]
    last = Last()

    with pytest.raises(InternalError, match=r"it runs other tasks than those that were chosen\.$|it runs other tasks"):
        run_chosen(last, three_tasks, last.begin)


def test_chance_is_fixed_inside_and_left_alone_outside() -> None:
    async def draw() -> tuple[object, float]:
        return uuid.uuid4(), random.random()

    random.seed(7)
    expected = random.Random(7).random()
    makers = (uuid.uuid4, trio._core._run.CancelStatus)

    drawn = [run_chosen(last, draw, last.begin) for last in (Last(), Last())]

    assert drawn[0] == drawn[1]
    assert (uuid.uuid4, trio._core._run.CancelStatus) == makers
    assert random.random() == expected
