"""A small process above one host: starts it, tells how it is, and ends it. Standard library only, and none of it is the user's.

It is run as a file. A host may be busy, or hold its interpreter for minutes in C code: neither keeps this process from telling
that it runs, or from killing it. It kills the host when the runtime wants that, when the runtime is gone, and when that
has been silent for so long that it is about to count the host as lost.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from typing import Any

BEAT, KILL, RUNS, ENDED = b"b", b"k", b"r", b"x"
BOOT = (
    "import sys, json; told = json.loads(sys.stdin.buffer.readline()); sys.path[:] = told['path']; "
    "from runtime.placement.host.main import main; main(told)"
)
"""What the host runs: it is told where its modules are before it imports any."""
_POLL_S = 0.2
_PR_SET_PDEATHSIG = 1


def main(control_fd: int, link_fd: int) -> None:
    """Guard one host, as told in one line on the control socket; answer there until either end is gone."""
    control = socket.socket(fileno=control_fd)
    told, heard_at = _first_line(control), time.monotonic()
    host = subprocess.Popen(
        [sys.executable, *told["flags"], "-c", BOOT], stdin=subprocess.PIPE, pass_fds=[link_fd], preexec_fn=_die_with_parent
    )
    os.close(link_fd)
    assert host.stdin is not None, "it was asked for"
    with contextlib.suppress(OSError):
        host.stdin.write(json.dumps({**told, "link": link_fd}).encode() + b"\n")
        host.stdin.flush()  # and stays open: its end tells the host that this process has ended
    _watch(control, host, heard_at, told["silent_after_s"])
    host.kill()
    code = host.wait()
    with contextlib.suppress(OSError):
        control.sendall(ENDED + code.to_bytes(4, "big", signed=True))
    os._exit(0)


def _watch(control: socket.socket, host: subprocess.Popen[bytes], heard_at: float, silent_after_s: float) -> None:
    """Return when the host has ended, or is to end."""
    ends = _end_of(host)
    watched: list[Any] = [control] if ends is None else [control, ends]
    while host.poll() is None:
        wait_s = min(silent_after_s / 4, _POLL_S if ends is None else silent_after_s)
        ready, _, _ = select.select(watched, [], [], wait_s)
        if time.monotonic() - heard_at > silent_after_s:  # also when this process was stopped for so long
            return
        if control not in ready:
            continue
        said = control.recv(64)
        if not said or KILL in said:
            return
        heard_at = time.monotonic()
        control.sendall(RUNS)


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


def _first_line(control: socket.socket) -> dict[str, Any]:
    data = b""
    while b"\n" not in data:  # and what may follow is a sign of life, as this is one
        more = control.recv(65536)
        if not more:
            os._exit(0)
        data += more
    told: dict[str, Any] = json.loads(data.partition(b"\n")[0])
    return told


def _die_with_parent() -> None:
    """In the host, before it is one: let Linux kill it when this process ends, even by SIGKILL."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
