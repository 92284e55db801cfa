"""Who waits for whom: the report on tasks that can never run again, read from the frames in which they wait.

Uses public parts of trio only. Knows mailboxes, asks, stops and joins of actors, trio's locks, semaphores, limiters, channels,
events and nurseries; anything else is shown by the name of the function that waits.
"""

from __future__ import annotations

import importlib.util
import linecache
import sysconfig
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, cast, final

import attrs
import outcome
import trio

from runtime.core.cell import Cell, current_cell
from runtime.core.mailbox import Mailbox
from runtime.core.refs import LocalRef
from runtime.graphs.handle import RunHandle
from runtime.graphs.runs.launch import Launch
from runtime.graphs.runs.run_waits import RunWaits


def _folders_of(*names: str) -> list[Path]:
    specs = (importlib.util.find_spec(name) for name in names)
    return [Path(spec.origin).resolve().parent for spec in specs if spec is not None and spec.origin is not None]


_LIBRARIES = tuple(
    str(folder)
    for folder in (
        Path(__file__).resolve().parents[2],
        Path(__file__).resolve().parents[3] / "actors",
        Path(trio.__file__).resolve().parent,
        Path(outcome.__file__).resolve().parent,
        *(sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")),
        *(Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "purelib", "platlib")),
        *_folders_of("pytest_trio", "_pytest", "pluggy"),  # wherever they are installed: they stand around every test
    )
)
_OWN_TESTS = str(Path(__file__).resolve().parents[3] / "tests")


@final
@attrs.frozen
class TestLine:
    """A line of the code under test."""

    file: str
    line: int
    function: str

    @property
    def source(self) -> str:
        """The text of the line, stripped."""
        return linecache.getline(self.file, self.line).strip()

    def __str__(self) -> str:
        return f"{Path(self.file).name}:{self.line}"


@final
@attrs.frozen
class Wait:
    """One task that waits."""

    waiter: str
    what: str
    """As it reads after "waits for"."""
    on: tuple[str, ...] = ()
    """The waiters that could end it."""
    place: TestLine | None = None
    idle: bool = False
    """Whether it only stands by: an actor without a message, the runtime's own tasks."""

    def __str__(self) -> str:
        place = f"   [{self.place} in {self.place.function}]" if self.place is not None else ""
        return f"{self.waiter} waits for {self.what}{place}"


@final
class TaskNames:
    """Readable names of tasks, unique and the same in every run: an actor's address, else the function, numbered."""

    def __init__(self) -> None:
        # Weak, so a test can see what a task that has ended releases.
        self._names: weakref.WeakKeyDictionary[trio.lowlevel.Task, str] = weakref.WeakKeyDictionary()
        self._taken: dict[str, int] = {}

    def __getitem__(self, task: trio.lowlevel.Task) -> str:
        name = self._names.get(task)
        if name is None:
            stem = _stem(task)
            count = self._taken[stem] = self._taken.get(stem, 0) + 1
            name = self._names[task] = stem if count == 1 else f"{stem}#{count}"
        return name


def _stem(task: trio.lowlevel.Task) -> str:
    if task.name.startswith("<"):
        return _special(task.name)
    frame = task.coro.cr_frame
    cell = frame.f_locals.get("self") if frame is not None else None
    if isinstance(cell, Cell):  # the task of an incarnation
        return cell.address or "(root)"
    function = task.name.rpartition(".")[2]
    owner = task.context.get(current_cell)
    return function if owner is None or not owner.address else f"{owner.address}: {function}"


def _special(name: str) -> str:
    """What a task is whose name no function has given: one of pytest-trio's, or of trio itself."""
    if name.startswith("<test "):
        return "test"
    return name.strip("<>").replace("'", "") if name.startswith("<fixture ") else "(trio)"


def place_of(task: trio.lowlevel.Task) -> TestLine | None:
    """The innermost line of the code under test in which `task` waits; None when it waits outside of any."""
    for frame, line in reversed(list(task.iter_await_frames())):
        if _is_ours(frame.f_code.co_filename):
            return TestLine(frame.f_code.co_filename, line, frame.f_code.co_name)
    return None


def _is_ours(file: str) -> bool:
    """Whether a file holds code under test."""
    return not file.startswith("<") and (file.startswith(_OWN_TESTS) or not file.startswith(_LIBRARIES))


def waits_of(tasks: Iterable[trio.lowlevel.Task], names: TaskNames) -> list[Wait]:
    """What each of `tasks` waits for."""
    return [_wait_of(task, names) for task in tasks]


def report_on(waits: Sequence[Wait]) -> str:
    """The waits that matter, one per line, and the cycle if there is one."""
    lines = [f"  {wait}" for wait in waits if not wait.idle]
    idle = [wait.waiter for wait in waits if wait.idle and not wait.waiter.startswith(("(", "understudy"))]
    if idle:
        lines.append(f"  idle: {', '.join(idle)}")
    cycle = cycle_in({wait.waiter: wait.on for wait in waits})
    if cycle:
        lines.append(f"  Cycle: {' -> '.join(cycle)}")
    return "\n".join(lines)


def cycle_in(edges: Mapping[str, Sequence[str]]) -> list[str]:
    """The first cycle of `edges`, its first and last name the same; empty when there is none."""

    def walk(name: str, path: list[str]) -> list[str]:
        if name in path:
            return [*path[path.index(name) :], name]
        if name in done:
            return []
        for other in edges.get(name, ()):
            found = walk(other, [*path, name])
            if found:
                return found
        done.add(name)
        return []

    done: set[str] = set()
    for name in edges:
        found = walk(name, [])
        if found:
            return found
    return []


def _wait_of(task: trio.lowlevel.Task, names: TaskNames) -> Wait:
    frames = [frame for frame, _ in task.iter_await_frames()]
    place = place_of(task)
    waiter = names[task]
    for frame in reversed(frames):
        owner = frame.f_locals.get("self")
        for kind, describe in _DESCRIPTIONS:
            if isinstance(owner, kind):
                found = describe(owner, frame, frames, names)
                if found is not None:
                    stands_by = found[2] or (place is None and waiter.startswith("fixture "))
                    return Wait(waiter, found[0], tuple(found[1]), place, idle=stands_by)
    return Wait(waiter, _call_in(frames), (), place, idle=place is None)


def _call_in(frames: Sequence[FrameType]) -> str:
    """The function that the code under test called and that has not returned."""
    called = "its turn"
    for frame in reversed(frames):
        if _is_ours(frame.f_code.co_filename):
            return called
        called = f"{frame.f_code.co_name}()"
    return called


Description = tuple[str, Sequence[str], bool]


def _mailbox(mailbox: Mailbox, frame: FrameType, frames: Sequence[FrameType], names: TaskNames) -> Description | None:
    if frame.f_code.co_name == "wait":
        return "its next message", (), True
    ref = _ref_in(frames)
    if ref is None:
        return "room in a full mailbox", (), False
    full = mailbox.statistics()
    return f"room in the mailbox of {ref.address!r} ({full.depth} of {full.capacity:g} full)", (ref.address,), False


def _ref(ref: LocalRef, frame: FrameType, frames: Sequence[FrameType], names: TaskNames) -> Description | None:
    message = type(frame.f_locals.get("message")).__name__
    if frame.f_code.co_name == "tell":  # waits in no mailbox
        return f"its turn, after its {message} to {ref.address!r}", (), False
    if frame.f_code.co_name == "ended":
        return f"the end of {ref.address!r}", (ref.address,), False
    return f"the answer of {ref.address!r} to its {message}", (ref.address,), False


def _handle(handle: RunHandle, frame: FrameType, frames: Sequence[FrameType], names: TaskNames) -> Description | None:
    run = handle._run  # pyright: ignore[reportPrivateUsage]
    return None if run is None else _run(run.waits, frame, frames, names)


def _launch(launch: Launch, frame: FrameType, frames: Sequence[FrameType], names: TaskNames) -> Description | None:
    return _run(launch.run.waits, frame, frames, names) if frame.f_code.co_name == "end" else None


def _run(waits: RunWaits, frame: FrameType, frames: Sequence[FrameType], names: TaskNames) -> Description | None:
    if frame.f_code.co_name not in _WAITS_FOR_A_RUN:
        return None  # a node that delivers what it has made
    cells = [each.label for each in waits.awaits() if isinstance(each, Cell)]
    what = f"the end of {waits.label} of {waits.state.plan.name!r}, in which these are at work: {_list(waits.state.live_paths)}"
    return what, cells, False


_WAITS_FOR_A_RUN = frozenset({"wait_over", "result", "cancel", "end"})


def _ref_in(frames: Sequence[FrameType]) -> LocalRef | None:
    owners = (frame.f_locals.get("self") for frame in reversed(frames))
    return next((owner for owner in owners if isinstance(owner, LocalRef)), None)


def _lock(lock: trio.Lock, frame: FrameType, frames: Sequence[FrameType], names: TaskNames) -> Description | None:
    owner = lock.statistics().owner
    if owner is None:
        return f"a {type(lock).__name__} that is free", (), False
    return f"the {type(lock).__name__} that {names[owner]} holds", (names[owner],), False


def _limiter(
    limiter: trio.CapacityLimiter, frame: FrameType, frames: Sequence[FrameType], names: TaskNames
) -> Description | None:
    holders = [names[each] for each in limiter.statistics().borrowers if isinstance(each, trio.lowlevel.Task)]
    return f"a token of a CapacityLimiter({limiter.total_tokens:g}) that {_list(holders)} hold", holders, False


def _semaphore(semaphore: trio.Semaphore, frame: FrameType, frames: Sequence[FrameType], names: TaskNames) -> Description | None:
    return f"a Semaphore at {semaphore.value}", (), False


def _event(event: trio.Event, frame: FrameType, frames: Sequence[FrameType], names: TaskNames) -> Description | None:
    for outer in reversed(frames):
        cell = outer.f_locals.get("self")
        if isinstance(cell, RunHandle | Launch):
            return None  # it says more
        if isinstance(cell, Cell) and outer.f_code.co_name in {"wait_exited", "wait_started"}:
            what = "end" if outer.f_code.co_name == "wait_exited" else "start"
            return f"the {what} of {cell.address!r}", (cell.address,), False
    return "an Event that was not set", (), False


def _sending(channel: Any, frame: FrameType, frames: Sequence[FrameType], names: TaskNames) -> Description | None:
    full = channel.statistics()
    used, size = full.current_buffer_used, full.max_buffer_size
    return f"room in a memory channel ({used} of {size:g} full)", (), False


def _receiving(channel: Any, frame: FrameType, frames: Sequence[FrameType], names: TaskNames) -> Description | None:
    return f"an item of a memory channel (open senders: {channel.statistics().open_send_channels})", (), False


def _nursery(nursery: trio.Nursery, frame: FrameType, frames: Sequence[FrameType], names: TaskNames) -> Description | None:
    children = sorted(names[child] for child in nursery.child_tasks)
    stands_by = _is_of_the_runtime(frames)
    return f"the tasks of its nursery: {_list(children)}", children, stands_by


def _is_of_the_runtime(frames: Sequence[FrameType]) -> bool:
    return not any(_is_ours(frame.f_code.co_filename) for frame in frames)


def _list(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"


_DESCRIPTIONS = cast(
    "Sequence[tuple[type[Any], Callable[[Any, FrameType, Sequence[FrameType], TaskNames], Description | None]]]",
    (
        (Mailbox, _mailbox),
        (LocalRef, _ref),
        (RunHandle, _handle),
        (RunWaits, _run),
        (Launch, _launch),
        (trio.Lock, _lock),
        (trio.StrictFIFOLock, _lock),
        (trio.CapacityLimiter, _limiter),
        (trio.Semaphore, _semaphore),
        (trio.Event, _event),
        (trio.MemorySendChannel, _sending),
        (trio.MemoryReceiveChannel, _receiving),
        (trio.Nursery, _nursery),
    ),
)
