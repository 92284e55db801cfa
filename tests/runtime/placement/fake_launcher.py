"""A launcher without Ray: it speaks the same lines, and starts the same guardians, as processes of this machine.

What hosts are to hold decides what it does: `{"nowhere": 1}` fits on no node, `{"open": 1}` is a cluster that anybody may use,
`{"away": 1}` is one that does not answer, and says how it was to be asked; with `{"broken": 1}` each guardian ends before it
dials.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

LAUNCHER = Path(__file__).resolve().parents[3] / "runtime" / "placement" / "ray" / "launcher.py"
COMMAND = (sys.executable, "-P", str(Path(__file__).resolve()), "--launch")
GUARD = "--guard"


def say(**words: Any) -> None:
    os.write(1, json.dumps(words).encode() + b"\n")


class Fake:
    def __init__(self, told: dict[str, Any]) -> None:
        self.resources = told["resources"]
        self.guardians: dict[int, subprocess.Popen[bytes]] = {}

    def take(self, line: dict[str, Any]) -> None:
        number = line["id"]
        if line["op"] == "end":
            if number in self.guardians:
                self.guardians[number].kill()
            else:
                say(said="gone", id=number, how="it was not placed")
        elif "nowhere" in self.resources:
            say(said="pending", id=number, needs="1 nowhere", has="127.0.0.1: 0 of 0 nowhere")
        else:
            guardian = subprocess.Popen([sys.executable, "-P", __file__, GUARD], stdin=subprocess.PIPE, stdout=sys.stderr)
            assert guardian.stdin is not None
            guardian.stdin.write(json.dumps(line["ticket"] | {"broken": "broken" in self.resources}).encode() + b"\n")
            guardian.stdin.close()
            self.guardians[number] = guardian
            threading.Thread(target=self.watch, args=(number, guardian), daemon=True).start()

    def watch(self, number: int, guardian: subprocess.Popen[bytes]) -> None:
        code = guardian.wait()
        say(said="gone", id=number, how=f"its guardian ended with code {code}")


def launch() -> None:
    told = json.loads(sys.stdin.buffer.readline())
    if "away" in told["resources"]:
        asked = {name: value for name, value in os.environ.items() if name.startswith("RAY_AUTH")}
        say(said="failed", why=f"RpcError: nobody answers {json.dumps(asked, sort_keys=True)}")
        return
    if "open" in told["resources"]:
        say(said="unfit", why="the cluster runs the code of anybody who reaches it")
        return
    fake = Fake(told)
    say(said="joined", address="127.0.0.1")
    for line in sys.stdin.buffer:
        fake.take(json.loads(line))
    for guardian in fake.guardians.values():  # as Ray does when its driver ends
        guardian.kill()


def guard() -> None:
    spec = spec_from_file_location("launcher", LAUNCHER)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    ticket = json.loads(sys.stdin.buffer.readline())
    if not ticket.pop("broken"):
        module.Guardian().guard(ticket)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    guard() if sys.argv[1] == GUARD else launch()
