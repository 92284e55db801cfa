"""The runtime in a program of threads: ``with open_runtime_portal(...) as runtime: runtime.run(graph, message, timeout=10)``."""

from __future__ import annotations

import contextlib
import inspect
import os
import threading
from collections.abc import Callable, Generator
from functools import partial, wraps
from typing import Final, ParamSpec, final

from runtime.app import Runtime, open_runtime
from runtime.embed.crossing import OpenRuntime
from runtime.embed.portal_base import PortalEventStream as PortalEventStream
from runtime.embed.portal_faces import PortalActorRef as PortalActorRef
from runtime.embed.portal_faces import PortalDeployment as PortalDeployment
from runtime.embed.portal_faces import PortalLM as PortalLM
from runtime.embed.portal_faces import PortalRunHandle as PortalRunHandle
from runtime.embed.portal_faces import PortalRuntime as PortalRuntime
from runtime.embed.portal_faces import PortalSupervisorRef as PortalSupervisorRef
from runtime.embed.portal_host import PortalHost

P = ParamSpec("P")


def _for_threads(
    opens: Callable[P, contextlib.AbstractAsyncContextManager[Runtime]],
) -> Callable[P, contextlib.AbstractContextManager[PortalRuntime]]:
    """`opens` for threads: the same parameters, by construction."""

    @wraps(opens)
    @contextlib.contextmanager
    def opened(*args: P.args, **kwargs: P.kwargs) -> Generator[PortalRuntime]:
        host = PortalHost(partial(opens, *args, **kwargs), interrupts=True)
        runtime = PortalRuntime(host, host.open())
        is_abrupt = True
        try:
            try:
                yield runtime
                is_abrupt = False
            finally:
                host.close(abrupt=is_abrupt)
        except KeyboardInterrupt:
            if not host.has_interrupted:
                raise
        if host.error is not None:
            raise host.error

    return opened


def _once_per_process(
    opens: Callable[P, contextlib.AbstractAsyncContextManager[Runtime]],
) -> Callable[P, RuntimePerProcess]:
    """`opens`, put off until a process needs it: the same parameters, by construction."""

    @wraps(opens)
    def deferred(*args: P.args, **kwargs: P.kwargs) -> RuntimePerProcess:
        inspect.signature(opens).bind(*args, **kwargs)  # a misspelt option shall fail here, not at the first request
        return RuntimePerProcess(partial(opens, *args, **kwargs))

    return deferred


@final
class RuntimePerProcess:
    """One runtime for each process that asks for it: call it to get the runtime. Made by :data:`runtime_per_process`.

    For servers that fork: declare it at the top of a module, call it where a request is handled. The first call in a process
    opens the runtime, later ones return the same, unless it has given up on its own meanwhile; the process's exit closes it,
    cancelling what runs. Any thread may call it.
    """

    def __init__(self, opens: OpenRuntime) -> None:
        self._opens = opens
        self._opening = threading.Lock()
        self._runtime: tuple[int, PortalHost, PortalRuntime] | None = None
        if hasattr(os, "register_at_fork"):  # another thread may hold the lock at the moment of the fork
            os.register_at_fork(after_in_child=self._forked)

    def _forked(self) -> None:
        self._opening = threading.Lock()
        self._runtime = None

    def __call__(self) -> PortalRuntime:
        """This process's runtime.

        Raises:
            ActorStartFailed: it did not open, and what else ``open_runtime`` raises.
        """
        pid = os.getpid()
        current = self._runtime
        if current is not None and current[0] == pid and not current[1].is_over:
            return current[2]
        with self._opening:
            if self._runtime is None or self._runtime[0] != pid or self._runtime[1].is_over:
                host = PortalHost(self._opens)
                self._runtime = (pid, host, PortalRuntime(host, host.open()))
            return self._runtime[2]

    def close(self, *, grace_s: float | None = None) -> None:
        """Close this process's runtime, if it was opened; the next call opens another.

        With `grace_s` its runs have so many seconds to finish first; without, they are cancelled at the same time.
        """
        with self._opening:
            current, self._runtime = self._runtime, None
        if current is not None and current[0] == os.getpid():
            if grace_s is not None:
                current[2].drain(grace_s)
            current[1].close(abrupt=False)


open_runtime_portal: Final = _for_threads(open_runtime)
"""Open a runtime in its own thread: ``with open_runtime_portal(lm="openai/gpt-4o-mini") as runtime``.

Takes what :func:`runtime.open_runtime` takes and promises what it promises. Any thread may call the runtime, and waits for what
it has called. ``KeyboardInterrupt`` (and anything else a signal handler raises) interrupts the waiting call: its work is
cancelled and has stopped before the exception continues. A process forked from this one cannot use the runtime, and is told so.

A runtime that ends on its own (its root supervisor gives up, an actor raises ``KeyboardInterrupt``) raises its error at the end
of the block, and ends the block, if the main thread is in it, by a ``KeyboardInterrupt`` there. Calls raise ``UsageError``.
"""

runtime_per_process: Final = _once_per_process(open_runtime)
"""Declare a runtime that each process opens when it needs it: ``understudy = runtime_per_process(lm=...)``.

Takes what :func:`runtime.open_runtime` takes; see :class:`RuntimePerProcess`.
"""
