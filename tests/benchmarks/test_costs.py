"""What a message costs, counted and not timed: steps of tasks, and objects that nobody needs."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import trio
import trio.lowlevel
import trio.testing

from actors import Actor, MailboxSpec
from runtime import Runtime, open_runtime
from tests.effort import counted_calls

UNBOUNDED = MailboxSpec(capacity=math.inf)


class Steps(trio.abc.Instrument):
    """Counts the steps of all tasks, by the name of the task, and the tasks that were started."""

    def __init__(self) -> None:
        self.taken = Counter[str]()
        self.spawned = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.taken[task.name] += 1

    def task_spawned(self, task: trio.lowlevel.Task) -> None:
        self.spawned += 1


class counted:
    """Counts within the block."""

    def __enter__(self) -> Steps:
        self.steps = Steps()
        trio.lowlevel.add_instrument(self.steps)
        return self.steps

    def __exit__(self, *_: object) -> None:
        trio.lowlevel.remove_instrument(self.steps)


def counting(counts: Counter[str], kind: type[Any]) -> Callable[..., None]:
    """The ``__init__`` of `kind`, which also counts its objects under its name."""
    init = kind.__init__

    def count_and_init(self: Any, *args: Any, **options: Any) -> None:
        counts[kind.__name__] += 1
        init(self, *args, **options)

    return count_and_init


@pytest.fixture
async def made(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How many of trio's costlier objects were made, by class."""
    counts = Counter[str]()
    for kind in (trio.CancelScope, trio.Event, trio.Lock, trio.MemorySendChannel, type(trio.open_nursery())):
        monkeypatch.setattr(kind, "__init__", counting(counts, kind))
    return counts


class Echo(Actor):
    async def receive(self, message: int) -> int:
        return message


class Tally(Actor):
    """Rings when it has counted so many."""

    def __init__(self, expected: int, done: trio.Event) -> None:
        self.left, self.done = expected, done

    async def receive(self, message: int) -> None:
        self.left -= 1
        if not self.left:
            self.done.set()


async def test_an_ask_takes_one_step_of_the_actor_and_one_of_the_asker() -> None:
    async with open_runtime(seed=1) as runtime:
        echo = await runtime.spawn(Echo)
        await echo.ask(0)

        with counted() as steps:
            for number in range(100):
                assert await echo.ask(number) == number

    assert sum(steps.taken.values()) == 200
    assert sorted(steps.taken.values()) == [100, 100]


async def test_a_burst_of_tells_is_drained_in_one_step_for_every_64() -> None:
    async with open_runtime(seed=1) as runtime:
        done = trio.Event()
        tally = await runtime.spawn(Tally, 640, done, mailbox=UNBOUNDED)

        with counted() as steps:
            for _ in range(640):
                tally.tell_nowait(1)
            await done.wait()

    assert sum(steps.taken.values()) <= 640 / 64 + 2


async def test_a_tell_takes_one_step_of_the_sender_and_at_most_one_of_the_actor() -> None:
    async with open_runtime(seed=1) as runtime:
        done = trio.Event()
        tally = await runtime.spawn(Tally, 100, done)

        with counted() as steps:
            for _ in range(100):
                await tally.tell(1)
            await done.wait()

    assert sum(steps.taken.values()) <= 201


async def busy(runtime: Runtime, messages: int) -> None:
    done = trio.Event()
    echo, tally = await runtime.spawn(Echo), await runtime.spawn(Tally, 2 * messages, done)
    for _ in range(messages):
        assert await echo.ask(1) == 1
        tally.tell_nowait(1)
        await tally.tell(1)
    await done.wait()


async def test_messages_make_no_tasks_scopes_events_or_nurseries(made: Counter[str]) -> None:
    """The same set for ten messages as for a thousand: what there is belongs to the actors."""
    costs = list[tuple[int, Counter[str]]]()
    for messages in (10, 1000):
        async with open_runtime(seed=1) as runtime:
            await trio.testing.wait_all_tasks_blocked()  # what the runtime itself needs is there
            made.clear()
            with counted() as steps:
                await busy(runtime, messages)
            costs.append((steps.spawned, made.copy()))

    assert costs[0] == costs[1]
    assert made["CancelScope"] > 0, "the counting does not work"


async def test_a_spawn_calls_no_more_functions_than_it_did() -> None:
    """205 were seen, where 227 had crept in."""
    async with open_runtime(seed=1) as runtime:
        await runtime.spawn(Echo)
        with counted_calls() as calls:
            for _ in range(50):
                await runtime.spawn(Echo)

    assert calls.count / 50 < 222
