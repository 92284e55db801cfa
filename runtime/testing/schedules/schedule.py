"""Trio's scheduler in a test's hands: which task runs next, and when the clock moves.

:func:`run_chosen` is ``trio.run`` with one runnable task chosen per tick by a :class:`Controller`. With
``runtime.testing.schedules.threads`` the only file that uses trio's private names, which ``private`` lists. Both first look
whether trio still has every one, and a run compares each step with the choice it belongs to: a harness that silently stops
controlling the schedule would be worse than none.

What else makes two runs differ is taken away here as well: ties between equal deadlines, the order in sets of tasks; and, by
``chance``, what draws at random.
"""

from __future__ import annotations

# pyright: reportPrivateUsage=false
import contextlib
import functools
import importlib
import itertools
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Generator, Iterable, Iterator, Sequence
from typing import Any, Protocol, cast, final

import trio
import trio.testing

from actors.errors import UsageError
from runtime.testing.schedules.chance import chance_of
from runtime.testing.schedules.private import check_trio, moved


class Controller(Protocol):
    """Who decides in a chosen run. Nothing here may raise: an error would be taken for one of trio's own."""

    def before_wait(self) -> None:
        """The loop is about to look for I/O."""
        ...

    def pick(self, tasks: Sequence[trio.lowlevel.Task]) -> int | None:
        """The index of the task to run next, of those that can run, longest waiting first; None to run none in this tick."""
        ...

    def before_step(self, task: trio.lowlevel.Task) -> None:
        """`task` is about to run to its next checkpoint."""
        ...

    def after_step(self, task: trio.lowlevel.Task) -> None:
        """It has."""
        ...

    def idle(self) -> None:
        """No task can run and no I/O is there. Jump to the next deadline, or do something about it."""
        ...


@final
class Loop:
    """The run that is being controlled: its clock and its scopes."""

    def __init__(self, runner: Any, clock: trio.testing.MockClock) -> None:
        self._runner = runner
        self._clock = clock

    @property
    def now_s(self) -> float:
        """The virtual time, in seconds."""
        return self._clock.current_time()

    @property
    def left_s(self) -> float:
        """Seconds to the next deadline; ``math.inf`` when there is none."""
        return float(self._runner.deadlines.next_deadline()) - self.now_s

    @property
    def jumps(self) -> bool:
        """Whether the clock jumps on its own; False while only the test moves it."""
        return self._clock.autojump_threshold < float("inf")

    def jump(self, seconds: float) -> None:
        """Move the clock on."""
        self._clock.jump(seconds)

    def unshield(self) -> None:
        """Take away every shield, so a cancellation reaches every task."""
        unshield(self.tasks())

    def tasks(self) -> list[trio.lowlevel.Task]:
        """Every task below the main one, parents first, in the order of their start."""
        return tasks_below(trio.lowlevel.current_root_task())


def tasks_below(task: trio.lowlevel.Task | None) -> list[trio.lowlevel.Task]:
    """The tasks in the nurseries of `task` and in theirs, in the order of their start."""
    return [] if task is None else sorted(_below(task), key=_age)


def unshield(tasks: Iterable[trio.lowlevel.Task]) -> None:
    """Take away every shield around `tasks`."""
    statuses: dict[int, Any] = {}
    for task in tasks:
        status: Any = cast("Any", task)._cancel_status
        while status is not None and id(status) not in statuses:
            statuses[id(status)] = status
            status = status._parent
    for status in statuses.values():
        status._scope.shield = False


def _below(task: trio.lowlevel.Task) -> Iterator[trio.lowlevel.Task]:
    for nursery in task.child_nurseries:
        for child in nursery.child_tasks:
            yield child
            yield from _below(child)


def _age(task: trio.lowlevel.Task) -> int:
    return int(cast("Any", task)._counter)


# --- the run queue ----------------------------------------------------------------------------------------------------


@final
class _ChosenQueue:
    """Stands in for the runner's queue of runnable tasks: each time it is read it gives out one task, or none."""

    def __init__(self, tasks: Iterable[trio.lowlevel.Task], pick: Callable[[Sequence[trio.lowlevel.Task]], int | None]) -> None:
        self._waiting = deque(tasks)
        self._pick = pick
        self.released: trio.lowlevel.Task | None = None

    def append(self, task: trio.lowlevel.Task) -> None:
        self._waiting.append(task)

    def __len__(self) -> int:
        return len(self._waiting)

    def __iter__(self) -> Iterator[trio.lowlevel.Task]:
        self.released = None
        if self._waiting:
            index = self._pick(self._waiting)
            if index is not None:
                self.released = self._waiting[index]
                yield self.released

    def clear(self) -> None:
        if self.released is not None:
            self._waiting.remove(self.released)


class _Ordered(dict[Any, None]):
    """A set that keeps the order of arrival."""

    def add(self, item: Any) -> None:
        self[item] = None

    def remove(self, item: Any) -> None:
        del self[item]

    def discard(self, item: Any) -> None:
        self.pop(item, None)


@functools.cache
def _ordered_classes() -> tuple[type[Any], type[Any]]:
    """Trio's deadlines with ties in the order of arrival, and its cancel statuses with ordered sets."""
    run: Any = importlib.import_module("trio._core._run")
    base, sequence = run.CancelStatus, itertools.count()

    def add(self: Any, deadline: float, scope: trio.CancelScope) -> None:
        run.heappush(self._heap, (deadline, next(sequence), scope))
        self._active += 1

    def begin(self: Any) -> None:
        self._tasks, self._children = _Ordered(), _Ordered()
        base.__attrs_post_init__(self)

    deadlines = type("OrderedDeadlines", (run.Deadlines,), {"add": add, "__slots__": ()})
    statuses = type("OrderedCancelStatus", (base,), {"__attrs_post_init__": begin, "__slots__": ()})
    # The generated __init__ calls the hook of the class it was made for, through self: the subclass's is found.
    return deadlines, statuses


@final
class _Takeover(trio.abc.Instrument):
    """Puts the controller in charge when the run begins, and compares every step with the choice."""

    def __init__(self, controller: Controller, clock: trio.testing.MockClock, begun: Callable[[Loop], None]) -> None:
        self._controller = controller
        self._clock = clock
        self._begun = begun
        self.steps = 0
        self.strayed = False
        self._queue: _ChosenQueue | None = None
        self._runner: Any = None

    def before_run(self) -> None:
        run: Any = importlib.import_module("trio._core._run")
        runner = run.GLOBAL_RUN_CONTEXT.runner
        runner.runq = self._queue = _ChosenQueue(runner.runq, self._controller.pick)
        runner.deadlines = _ordered_classes()[0]()
        self._runner = runner
        cast("Any", self._clock)._autojump = self._controller.idle  # shadows the method
        self._begun(Loop(runner, self._clock))

    def before_io_wait(self, timeout: float) -> None:
        self._controller.before_wait()

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.steps += 1
        # Idleness is for the controller, also on a clock that the test moves by hand; that clock sets this to its own liking.
        self._runner.clock_autojump_threshold = 0
        if self._queue is None or task is not self._queue.released:
            self.strayed = True
        self._controller.before_step(task)

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        self._controller.after_step(task)


def run_chosen(
    controller: Controller,
    async_fn: Callable[[], Awaitable[Any]],
    begun: Callable[[Loop], None],
    *,
    seed: int = 0,
    clock: trio.testing.MockClock | None = None,
    instruments: Sequence[trio.abc.Instrument] = (),
) -> Any:
    """``trio.run(async_fn)`` on a virtual clock, each step chosen by `controller`; `begun` gets the loop first.

    One such run at a time in a process: those of other threads wait. `clock` is a new one, from 0.0, unless given.

    Raises:
        InternalError: this trio is not the one that this module knows, or escaped the control.
        UsageError: this thread is in such a run already.
    """
    __tracebackhide__ = True
    check_trio()
    clock = clock if clock is not None else trio.testing.MockClock(autojump_threshold=0)
    takeover = _Takeover(controller, clock, begun)
    reject_nesting()
    with _ALONE, chance_of(seed), _ordered_statuses():
        try:
            return trio.run(async_fn, clock=clock, instruments=[takeover, *instruments])
        finally:
            if takeover.strayed or not takeover.steps:
                raise moved("it runs other tasks than those that were chosen")


def in_chosen_run() -> bool:
    """Whether the caller is in a run of :func:`run_chosen`, where clock and threads are held already."""
    run: Any = importlib.import_module("trio._core._run")
    runner = getattr(run.GLOBAL_RUN_CONTEXT, "runner", None)
    return runner is not None and isinstance(runner.runq, _ChosenQueue)


def reject_nesting() -> None:
    """Raise ``UsageError`` in a run of :func:`run_chosen`: it has replaced names that all of the process sees."""
    if in_chosen_run():
        raise UsageError(
            "an explored run was begun inside another one.\n"
            "  Fix: call the inner test's body instead, or explore it in its own test."
        )


_ALONE = threading.Lock()


@contextlib.contextmanager
def _ordered_statuses() -> Generator[None]:
    """Cancel statuses keep the order of their tasks while the block runs."""
    run: Any = importlib.import_module("trio._core._run")
    former = run.CancelStatus
    run.CancelStatus = _ordered_classes()[1]
    try:
        yield
    finally:
        run.CancelStatus = former


@contextlib.contextmanager
def when_stuck(clock: trio.testing.MockClock, call: Callable[[], None]) -> Generator[None]:
    """While the block runs, call `call` each time the autojump of `clock` finds no deadline to jump to.

    Trio itself would look again immediately, forever.
    """
    check_trio()
    private = cast("Any", clock)
    jump = private._autojump

    def jump_or_call() -> None:
        if trio.lowlevel.current_statistics().seconds_to_next_deadline < float("inf"):
            jump()
        else:
            call()

    private._autojump = jump_or_call
    try:
        yield
    finally:
        private._autojump = jump
