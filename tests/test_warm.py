"""The warm process that the tests fork programs from: what is left of it."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

from tests.runtime.cli.command import is_alive
from tests.warm import Warm


def test_its_visitors_end_with_it(tmp_path: Path) -> None:
    """One that waits for something that never comes would outlive the tests, with its share of the memory."""
    script = tmp_path / "waits.py"
    script.write_text("import signal\nprint('here', flush=True)\nsignal.pause()\n")
    job = {"run": "file", "what": str(script), "name": "__main__", "argv": ["waits"], "folder": str(tmp_path), "environ": {}}
    warm = Warm()
    come, write = os.pipe()
    with socket.socket(socket.AF_UNIX) as door, open(os.devnull, "r+b") as nothing:
        door.connect(str(warm.door))
        socket.send_fds(door, [b"x"], [nothing.fileno(), write, nothing.fileno()])
        os.close(write)
        door.sendall(json.dumps(job).encode())
        door.shutdown(socket.SHUT_WR)
        pid = int(door.makefile().readline())
        with open(come) as said:
            assert said.readline() == "here\n"

        warm.end()

        assert not is_alive(pid)
