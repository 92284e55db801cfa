from __future__ import annotations

import ast
import importlib
import random
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeGuard

import attrs
import pytest
import trio

from actors.errors import InternalError
from runtime.testing import Simulation
from runtime.testing.schedules import private, schedule, threads
from runtime.testing.schedules.private import check_trio, missing_names
from runtime.testing.schedules.schedule import Loop, run_chosen
from runtime.testing.schedules.strategies import InTurn


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


def test_every_name_of_trio_that_the_harness_uses_is_looked_for() -> None:
    """What is private, and whatever is read from trio's modules and its runner, and is not the harness's own."""
    files = [Path(file) for file in (schedule.__file__, threads.__file__)]
    tree = ast.parse(
        "\n".join(file.read_text(encoding="utf-8").replace("from __future__ import annotations", "") for file in files)
    )
    read = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    used = {node.attr for node in read if node.attr.startswith("_") and node.attr not in {"__setattr__", "__version__"}}
    used |= {node.attr for node in read if isinstance(node.value, ast.Name) and node.value.id in {"run", "runner", "threads"}}
    classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    own = {node.attr for each in classes for node in ast.walk(each) if _is_of_self(node)}
    own |= {node.name for each in classes for node in each.body if isinstance(node, ast.FunctionDef)}
    known = {part for names in private.NAMES.values() for name in names for part in name.split(".")}

    assert used - own - known == set()


def _is_of_self(node: ast.AST) -> TypeGuard[ast.Attribute]:
    return isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self"


@pytest.mark.parametrize(("module", "name"), [(module, name) for module, names in private.NAMES.items() for name in names])
def test_each_name_that_trio_loses_is_reported(module: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    owner: Any = importlib.import_module(module)
    *path, last = name.split(".")
    for part in path:
        owner = getattr(owner, part)
    if attrs.has(owner):
        fields = tuple(field for field in attrs.fields(owner) if field.name != last)
        monkeypatch.setattr(owner, "__attrs_attrs__", fields)
    monkeypatch.delitem(getattr(owner, "__annotations__", {}), last, raising=False)
    monkeypatch.delattr(owner, last, raising=False)

    with pytest.raises(InternalError) as caught:
        run_chosen(last_one := Last(), three_tasks, last_one.begin)

    assert str(caught.value).startswith(
        f"trio {trio.__version__} cannot be scheduled by the test harness: it has no {module}.{name}"
    )


@pytest.mark.parametrize(("limit_s", "order"), [(10, 1), (1, -1)], ids=["deadline", "cancellation"])
def test_those_that_wake_at_once_do_so_in_a_fixed_order(limit_s: float, order: int) -> None:
    """Trio breaks ties of deadlines by ``id()`` and keeps the scopes in a scope in a set, which it walks from its end."""

    async def main() -> list[int]:
        woke: list[int] = []

        async def sleep(number: int) -> None:
            try:
                await trio.sleep(5)
            finally:
                woke.append(number)

        with trio.move_on_after(limit_s):
            async with trio.open_nursery() as nursery:
                for number in range(50):
                    nursery.start_soon(sleep, number)
        return woke

    assert Simulation(InTurn()).run(main) == list(range(50))[::order]


def test_a_name_that_moved_is_reported_with_trios_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(private.NAMES, "trio._threads", ("start_thread_sometime",))

    with pytest.raises(InternalError) as caught:
        check_trio()

    assert str(caught.value) == (
        f"trio {trio.__version__} cannot be scheduled by the test harness: it has no trio._threads.start_thread_sometime.\n"
        "  Fix: install a trio that this release of understudy knows, or a release that knows this trio."
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
