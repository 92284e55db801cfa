"""Trio's scheduler in a test's hands: which task runs next, when the clock moves, when a worker thread counts as running.

The only file that uses trio's private names. :func:`run_chosen` is ``trio.run`` with one runnable task chosen per tick by a
:class:`Controller`; :func:`watched_threads` tells a :class:`ThreadWatch` when worker threads run. Both first look whether trio
still has every name they need, and a run compares each step with the choice it belongs to: a harness that silently stops
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
import queue
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Generator, Iterable, Iterator, Sequence
from typing import Any, Protocol, cast, final

import attrs
import trio
import trio.testing

from actors.errors import InternalError, UsageError
from runtime.testing.schedules.chance import chance_of

NAMES = {
    "trio._core._run": (
        "CancelStatus",
        "CancelStatus._children",
        "CancelStatus._parent",
        "CancelStatus._scope",
        "CancelStatus._tasks",
        "CancelStatus.__attrs_post_init__",
        "Deadlines._active",
        "Deadlines._heap",
        "Deadlines.add",
        "Deadlines.next_deadline",
        "GLOBAL_RUN_CONTEXT.runner",
        "Runner.clock_autojump_threshold",
        "Runner.deadlines",
        "Runner.runq",
        "Task._cancel_status",
        "Task._counter",
        "heappush",
    ),
    "trio._threads": ("Run.queue", "RunSync.queue", "_send_message_to_trio", "start_thread_soon"),
    "trio.testing": ("MockClock._autojump",),
}
"""Every private name this file uses, by module."""


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


class ThreadWatch(Protocol):
    """Who is told about worker threads."""

    def running(self) -> None:
        """One more worker thread runs: it was started, or continues after it waited for the loop. Called in the loop's thread."""
        ...

    def paused(self) -> None:
        """One worker thread has ended or waits for the loop, which has its message already. Called in that thread."""
        ...

    def entered(self) -> None:
        """The calling thread begins to work for trio. Called in that thread."""
        ...

    def left(self) -> None:
        """It has done its work. Called in that thread."""
        ...

    def stranger_waits(self, token: trio.lowlevel.TrioToken) -> None:
        """A thread that trio did not start waits for the loop of `token`. Called in that thread."""
        ...

    def stranger_goes_on(self, token: trio.lowlevel.TrioToken) -> None:
        """It has its answer. Called in the loop's thread."""
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
    refuse_nesting()
    with _ALONE, chance_of(seed), _ordered_statuses():
        try:
            return trio.run(async_fn, clock=clock, instruments=[takeover, *instruments])
        finally:
            if takeover.strayed or not takeover.steps:
                raise _moved("it runs other tasks than those that were chosen")


def in_chosen_run() -> bool:
    """Whether the caller is in a run of :func:`run_chosen`, where clock and threads are held already."""
    run: Any = importlib.import_module("trio._core._run")
    runner = getattr(run.GLOBAL_RUN_CONTEXT, "runner", None)
    return runner is not None and isinstance(runner.runq, _ChosenQueue)


def refuse_nesting() -> None:
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


# --- worker threads ---------------------------------------------------------------------------------------------------


@final
class _AnswerQueue:
    """Stands in for the queue in which a thread waits for the loop's answer."""

    def __init__(self, waits: Callable[[], None], goes_on: Callable[[], None]) -> None:
        self._waits = waits
        self._goes_on = goes_on
        self._queue: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def get(self) -> Any:
        self._waits()
        return self._queue.get()

    def put_nowait(self, answer: Any) -> None:
        self._goes_on()
        self._queue.put_nowait(answer)


@contextlib.contextmanager
def watched_threads(watch: ThreadWatch, *, forbid: bool = False) -> Generator[None]:
    """Tell `watch` about the threads that ``trio.to_thread`` starts for runs of the calling thread, while the block runs.

    With `forbid`, none is started: ``trio.to_thread.run_sync`` raises ``UsageError`` instead.
    """
    check_trio()
    threads: Any = importlib.import_module("trio._threads")
    former_start, former_send = threads.start_thread_soon, threads._send_message_to_trio
    home, ours = threading.get_ident(), threading.local()

    def start(function: Callable[[], Any], deliver: Callable[[Any], object], name: str | None = None) -> None:
        if threading.get_ident() != home:
            former_start(function, deliver, name)
            return
        if forbid:
            raise UsageError(
                f"worker threads are forbidden in this test, and {name or 'trio.to_thread.run_sync'} wants one.\n"
                "  Fix: make the function async, or allow threads with threads='hold'."
            )

        def work() -> Any:
            ours.watched = True
            watch.entered()
            try:
                return function()
            finally:
                watch.left()
                ours.watched = False

        def delivered(result: Any) -> None:
            try:
                deliver(result)
            finally:
                watch.paused()

        watch.running()
        former_start(work, delivered, name)

    def send(token: Any, message: Any) -> Any:
        if getattr(ours, "watched", False):
            object.__setattr__(message, "queue", _AnswerQueue(watch.paused, watch.running))
        elif token is not None:
            stranger = functools.partial(watch.stranger_waits, token), functools.partial(watch.stranger_goes_on, token)
            object.__setattr__(message, "queue", _AnswerQueue(*stranger))
        return former_send(token, message)

    threads.start_thread_soon, threads._send_message_to_trio = start, send
    try:
        yield
    finally:
        threads.start_thread_soon, threads._send_message_to_trio = former_start, former_send


# --- is this the trio we know? ----------------------------------------------------------------------------------------


def missing_names() -> list[str]:
    """The names of :data:`NAMES` that the installed trio lacks; empty while all is well."""
    return [f"{module}.{name}" for module, names in NAMES.items() for name in names if not _has(module, name)]


def check_trio() -> None:
    """Raise ``InternalError`` unless the installed trio has everything that this module takes hold of."""
    missing = missing_names()
    if missing:
        raise _moved(f"it has no {', '.join(missing)}")


def _has(module: str, name: str) -> bool:
    found: Any = importlib.import_module(module)
    for part in name.split("."):
        fields: Sequence[str] = [each.name for each in attrs.fields(found)] if attrs.has(found) else ()
        if part in fields:
            return True
        slots = getattr(found, "__annotations__", {})
        if not hasattr(found, part) and part not in slots:
            return False
        found = getattr(found, part, None)
    return True


def _moved(what: str) -> InternalError:
    return InternalError(
        f"trio {trio.__version__} cannot be scheduled by the test harness: {what}.\n"
        "  Fix: install a trio that this release of understudy knows, or a release that knows this trio."
    )
