"""A guest of an asyncio loop that waits in the loop's own selector: trio's epoll descriptor is one more that the loop watches.

Trio's own guest mode hands every wait to a thread and takes its end back from there, which costs more than all the rest of a
call. The only module that knows the names of trio's that this needs. Where one of them is missing, or the loop or the system is
another, :func:`start` takes trio's own way.
"""

from __future__ import annotations

import asyncio
import functools
import importlib
from collections.abc import Awaitable, Callable
from typing import Any, Final, final

import trio
from outcome import Error, Outcome, Value, capture

TURNS: Final = 5
"""How often trio may run what is ready before the loop has its turn. An ask takes three: the call, the actor, the answer."""

_NAMES: Final = {
    "GuestState": ("done_callback", "run_sync_soon_not_threadsafe", "runner", "unrolled_run_gen", "unrolled_run_next_send"),
    "Runner": ("force_guest_tick_asap", "guest_tick_scheduled", "io_manager", "main_task_outcome"),
}
_run: Any = importlib.import_module("trio._core._run")


def start(
    main: Callable[[], Awaitable[None]],
    loop: asyncio.AbstractEventLoop,
    post: Callable[[Callable[[], object]], object],
    done: Callable[[Outcome[Any]], object],
) -> None:
    """Run `main` as a guest of `loop`, in whose thread this is called.

    Args:
        main: trio's main task.
        loop: the host.
        post: calls something on the loop, from any thread.
        done: called with the outcome when trio has ended.
    """
    first: Callable[[Callable[[], object]], object] = _SelectorGuest(loop, done).begin if fits(loop) else loop.call_soon
    trio.lowlevel.start_guest_run(
        main,
        run_sync_soon_threadsafe=post,
        run_sync_soon_not_threadsafe=first,
        done_callback=done,
        # Asyncio and uvloop both set it when they handle signals; trio needs it for Ctrl-C only, which is theirs here.
        host_uses_signal_set_wakeup_fd=True,
    )


def fits(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether `loop` can watch trio's descriptor, and trio is made as this module knows it."""
    return isinstance(loop, asyncio.SelectorEventLoop) and _is_as_known(_run)


def _is_as_known(run: Any) -> bool:
    """Whether trio's module `run` has what is used of it, and waits by epoll."""
    for kind, names in _NAMES.items():
        if not all(hasattr(getattr(run, kind, None), name) for name in names):
            return False
    manager: Any = getattr(run, "TheIOManager", None)
    has_epoll = "_epoll" in getattr(manager, "__slots__", ()) and hasattr(manager, "get_events")
    return has_epoll and hasattr(run, "sniffio_library") and _hurried_runner(run) is not None


@functools.cache
def _hurried_runner(run: Any) -> Any:
    """Trio's runner, which has its next turn called by the loop where its own would write to a socket that wakes the thread."""

    def force_guest_tick_asap(runner: Any) -> None:
        if not runner.guest_tick_scheduled:
            runner.guest_tick_scheduled = True
            _guests[id(runner)].hurry()

    made = type("HurriedRunner", (run.Runner,), {"__slots__": (), "force_guest_tick_asap": force_guest_tick_asap})
    # The class of a runner that runs can be exchanged only for one of the same form.
    return made if made.__basicsize__ == run.Runner.__basicsize__ else None


_guests: Final[dict[int, _SelectorGuest]] = {}
"""Those that run, by their runner's identity: it has no place to note one."""


@final
class _SelectorGuest:
    """What stands in for trio's ``GuestState.guest_tick``, for one guest."""

    def __init__(self, loop: asyncio.AbstractEventLoop, done: Callable[[Outcome[Any]], object]) -> None:
        self._loop = loop
        self._done = done
        self._state: Any = None
        self._runner: Any = None
        self._descriptor = -1
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        """When trio wants its turn at the latest, on the loop's clock."""

    def begin(self, tick: Callable[[], object]) -> None:
        """Take over from trio, which has got as far as its first turn; `tick` is a method of its guest's state."""
        self._state = state = tick.__self__  # type: ignore[attr-defined]  # a bound method
        self._runner = runner = state.runner
        runner.__class__ = _hurried_runner(_run)
        _guests[id(runner)] = self
        self._descriptor = runner.io_manager._epoll.fileno()
        self._loop.add_reader(self._descriptor, self._readable)
        self._loop.call_soon(self._turns)

    def hurry(self) -> None:
        """Something was made ready from outside of trio."""
        self._state.unrolled_run_next_send = Value([])  # what the system has to report is seen in the turn after the next
        self._loop.call_soon(self._turns)

    def _readable(self) -> None:
        if not self._runner.guest_tick_scheduled:
            self._go_on()

    def _ring(self) -> None:
        self._timer = None
        if self._runner.guest_tick_scheduled:
            return
        if self._loop.time() < self._due:  # it was set for an earlier wait
            self._wake_at(self._due)
        else:
            self._go_on()

    def _go_on(self) -> None:
        self._runner.guest_tick_scheduled = True
        self._look()
        self._turns()

    def _look(self) -> None:
        self._state.unrolled_run_next_send = capture(self._runner.io_manager.get_events, 0)

    def _turns(self) -> None:
        state, library = self._state, _run.sniffio_library
        for _ in range(TURNS):
            before, library.name = library.name, "trio"
            try:
                timeout: float = state.unrolled_run_next_send.send(state.unrolled_run_gen)
            except StopIteration:
                return self._end(self._runner.main_task_outcome)
            except trio.TrioInternalError as error:
                return self._end(Error(error))
            finally:
                library.name = before
            if timeout > 0:
                self._runner.guest_tick_scheduled = False
                return self._wait(timeout)
            self._look()
        self._loop.call_soon(self._turns)
        return None

    def _wait(self, timeout: float) -> None:
        self._due = self._loop.time() + timeout
        if self._timer is None or self._timer.when() > self._due:
            self._wake_at(self._due)

    def _wake_at(self, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(due, self._ring)

    def _end(self, outcome: Outcome[Any]) -> None:
        del _guests[id(self._runner)]
        if self._timer is not None:
            self._timer.cancel()
        self._loop.remove_reader(self._descriptor)
        self._done(outcome)
