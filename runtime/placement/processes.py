"""Hosts on the runtime's own machine: spawned processes, each with a guardian above it. The standard library starts them."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from collections.abc import AsyncGenerator, Iterable
from pathlib import Path
from typing import Final, final

import attrs
import trio

from actors.argument_checks import is_count, is_number
from actors.errors import Problem, UsageError
from actors.graphs.node import NodeSpec
from actors.graphs.placing import naming_problems
from actors.supervision import ChildSpec
from runtime.placement.guardian_line import KILL, GuardianLine, told_line
from runtime.placement.places import Gone, Invitation

GUARDIAN: Final = Path(__file__).parent / "host" / "guardian.py"
END_S: Final = 5.0
"""How long a host may take to end when its link does."""
KILL_S: Final = 2.0
"""How long the guardian may take to kill it."""


@final
@attrs.frozen
class Processes:
    """Processes on this machine: ``places={"cpu": Processes(4)}``. For nodes that compute, and code that may need killing.

    They are spawned, not forked, import the modules of the nodes by name, and inherit environment, output and working directory.
    They end with the runtime, however it ends. On POSIX systems only.
    """

    hosts: int = attrs.field(validator=is_count(least=1))
    """How many."""
    window: int = attrs.field(default=64, kw_only=True, validator=is_count(least=1))
    """How many calls may be out to one host."""
    start_timeout_s: float = attrs.field(default=60.0, kw_only=True, validator=is_number(above=0))
    """How many seconds a host may take to start; so long, what is to run here waits for one."""
    dead_after_s: float = attrs.field(default=10.0, kw_only=True, validator=is_number(above=0, finite=True))
    """After how many seconds without a sign of life of its guardian a host is lost."""
    stuck_after_s: float = attrs.field(default=60.0, kw_only=True, validator=is_number(above=0, finite=True))
    """After how many seconds without a sign of life of its event loop a host is killed: it is stopped, or a function holds it."""
    cancel_grace_s: float = attrs.field(default=5.0, kw_only=True, validator=is_number(least=0, finite=True))
    """How many seconds code that was cancelled may take to end before its host is killed."""

    def problems(self, spec: NodeSpec | ChildSpec, /) -> Iterable[Problem]:
        """See ``Place.problems``."""
        return naming_problems(spec)

    @contextlib.asynccontextmanager
    async def start(self, host_id: str, invitation: Invitation, /) -> AsyncGenerator[_Process]:
        """See ``Place.start``."""
        if os.name != "posix":
            raise UsageError("Processes() starts hosts on POSIX systems only.\n  Fix: places={…: Here()} on this system.")
        near, far = socket.socketpair()
        control, told = socket.socketpair()
        with far, told, contextlib.ExitStack() as unused:
            unused.enter_context(near)
            unused.enter_context(control)
            guardian = await trio.lowlevel.open_process(
                [sys.executable, "-I", "-S", str(GUARDIAN), str(told.fileno()), str(far.fileno())],
                stdin=None,
                pass_fds=[told.fileno(), far.fileno()],
                start_new_session=True,  # a Ctrl-C in the terminal is the runtime's
            )
            unused.pop_all()
        stream, line = (trio.SocketStream(trio.socket.from_stdlib_socket(each)) for each in (near, control))
        host = _Process(stream, line, guardian, self.dead_after_s)
        try:
            await line.send_all(told_line(invitation))
            yield host
        finally:
            with trio.CancelScope(shield=True):
                await host.end()


@final
class _Process:
    """See ``StartedHost``."""

    def __init__(
        self, stream: trio.SocketStream, control: trio.SocketStream, guardian: trio.Process, dead_after_s: float
    ) -> None:
        self.stream = stream
        self._control = control
        self._guardian = guardian
        self._dead_after_s = dead_after_s
        self._ended: Gone | None = None

    def kill(self) -> None:
        """See ``StartedHost.kill``: the guardian does it, which knows the process for certain."""
        with contextlib.suppress(OSError):
            os.write(self._control.socket.fileno(), KILL)

    async def gone(self) -> Gone:
        """See ``StartedHost.gone``."""
        if self._ended is None:
            self._ended = await GuardianLine(self._control, self._dead_after_s).carry()
        return self._ended

    async def end(self) -> None:
        """End the host by the end of its link; kill it if it does not, and the guardian if that does not."""
        await self.stream.aclose()
        with trio.move_on_after(END_S):
            await self._guardian.wait()
        if self._guardian.returncode is None:
            self.kill()
            with trio.move_on_after(KILL_S):
                await self._guardian.wait()
        await self._control.aclose()
        if self._guardian.returncode is None:
            self._guardian.kill()  # the host ends with it
            await self._guardian.wait()
