"""A small process above one host: starts it, tells how it is, and ends it. Standard library only, and none of it is the user's.

It is run as a file, or loaded by its path into a process that an engine has started on another machine. A host may be busy, or
hold its interpreter for minutes in C code: neither keeps this process from telling that it runs, or from killing it. It kills the
host when the runtime wants that, when the runtime is gone, and when that has been silent for so long that it is about to count
the host as lost.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

BEAT, KILL, RUNS, ENDED = b"b", b"k", b"r", b"x"
BOOT = (
    "import sys, json; told = json.loads(sys.stdin.buffer.readline()); sys.path[:] = told['path']; "
    "from runtime.placement.host.main import main; main(told)"
)
"""What the host runs: it is told where its modules are before it imports any."""
KEPT_BACK = frozenset({"RAY_AUTH_TOKEN"})
"""What a host does not inherit: with it, it could do all that its engine may."""
_POLL_S = 0.2
_MOST = 4096
_NOT_NOW = (BlockingIOError,)


def main(control_fd: int, link_fd: int) -> None:
    """Guard one host, whose link is inherited; see :func:`guard`."""
    guard(socket.socket(fileno=control_fd), link_fd)
    os._exit(0)


def _as_told(told: dict[str, Any]) -> dict[str, Any]:
    return told


def guard(
    control: socket.socket,
    link_fd: int | None = None,
    *,
    not_now: tuple[type[OSError], ...] = _NOT_NOW,
    here: Callable[[dict[str, Any]], dict[str, Any]] = _as_told,
) -> None:
    """Guard one host, as told in one line on the control socket; answer there until either end is gone.

    The host inherits `link_fd`; without one it dials on its own. `here` corrects what was told by what this machine knows better,
    and `not_now` are the errors of a control socket that would have to wait.
    """
    line, more = _first_line(control)
    told: dict[str, Any] = {**here(json.loads(line)), "guardian": os.getpid()}
    heard_at = time.monotonic()
    environment = {name: value for name, value in os.environ.items() if name not in KEPT_BACK}
    host = subprocess.Popen(
        [sys.executable, *told["flags"], "-c", BOOT],
        stdin=subprocess.PIPE,
        pass_fds=[] if link_fd is None else [link_fd],
        env=environment,
    )
    assert host.stdin is not None, "it was asked for"
    try:
        if link_fd is not None:
            os.close(link_fd)
        with contextlib.suppress(OSError):
            host.stdin.write(json.dumps({**told, "link": link_fd}).encode() + b"\n")
            host.stdin.flush()  # and stays open: its end tells the host that this process has ended
        control.setblocking(False)  # a part of a record of TLS is readable, and gives nothing
        if KILL not in more:
            _watch(control, host, heard_at, told["silent_after_s"], not_now)
    finally:
        host.kill()
        code = host.wait()
        with contextlib.suppress(OSError):
            host.stdin.close()
    control.settimeout(_POLL_S)
    with contextlib.suppress(OSError):
        control.sendall(ENDED + code.to_bytes(4, "big", signed=True))
    control.close()


def _watch(
    control: socket.socket,
    host: subprocess.Popen[bytes],
    heard_at: float,
    silent_after_s: float,
    not_now: tuple[type[OSError], ...],
) -> None:
    """Return when the host has ended, or is to end."""
    ends = _end_of(host)
    watched: list[Any] = [control] if ends is None else [control, ends]
    try:
        while host.poll() is None:
            wait_s = min(silent_after_s / 4, _POLL_S if ends is None else silent_after_s)
            ready, _, _ = select.select(watched, [], [], wait_s)
            if time.monotonic() - heard_at > silent_after_s:  # also when this process was stopped for so long
                return
            if control not in ready:
                continue
            try:
                said = _heard(control)
            except not_now:
                continue
            if not said or KILL in said:
                return
            heard_at = time.monotonic()
            with contextlib.suppress(*not_now):  # the runtime reads nothing: then it hears nothing, either
                control.sendall(RUNS)
    except OSError:
        return  # the line is broken: the runtime is gone
    finally:
        if ends is not None:
            os.close(ends)


def _heard(control: socket.socket) -> bytes:
    """What has come; nothing at the end of the line."""
    said = control.recv(_MOST)
    decrypted: Any = getattr(control, "pending", lambda: 0)  # of TLS: what it holds already makes nothing readable
    while said and decrypted():
        said += control.recv(_MOST)
    return said


def _end_of(host: subprocess.Popen[bytes]) -> int | None:
    """What becomes readable when the host ends, where there is such a thing."""
    opened: Any = getattr(os, "pidfd_open", None)
    if opened is None:
        return None
    try:
        found: int = opened(host.pid)
    except OSError:
        return None
    return found


def _first_line(control: socket.socket) -> tuple[bytes, bytes]:
    """The first line, and what has come behind it: signs of life, and perhaps the wish for the host's end."""
    data = b""
    while b"\n" not in data:
        more = control.recv(65536)
        if not more:
            raise SystemExit(0)
        data += more
    line, _, rest = data.partition(b"\n")
    return line, rest


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
