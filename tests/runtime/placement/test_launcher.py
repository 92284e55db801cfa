"""The launcher with a Ray that raises: it logs that, asks again or gives one host up, and goes on for the others."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import time
from concurrent.futures import Future
from typing import Any

import pytest

from runtime.placement.ray import launcher
from runtime.placement.ray.launcher import Launcher

TICKET = {"address": "127.0.0.1"}


class Script:
    """An inbox that gives what it holds, line by line; `tick` is half a second without a line."""

    def __init__(self, *lines: Any) -> None:
        self.lines = list(lines)

    def get(self, timeout: float | None = None) -> Any:
        line = self.lines.pop(0)
        if callable(line):
            line()
            return self.get(timeout)
        if line == "tick":
            assert timeout is not None, "the launcher waits for a line and for nothing else"
            raise queue.Empty
        return line

    def put(self, line: Any) -> None:
        self.lines.insert(0, line)


class Call:
    def __init__(self) -> None:
        self.done: Future[Any] = Future()

    def future(self) -> Future[Any]:
        return self.done


class RaisingRay:
    """Raises what it is told to, by the name of what is called."""

    def __init__(self) -> None:
        self.raising: dict[str, Exception] = {}
        self.calls: list[str] = []
        self.placed, self.guarded = Call(), Call()

    def _call(self, name: str) -> None:
        self.calls.append(name)
        if name in self.raising:
            raise self.raising[name]

    def nodes(self) -> list[dict[str, Any]]:
        self._call("nodes")
        return [{"NodeID": "n", "Alive": True, "NodeManagerAddress": "127.0.0.1", "Resources": {"CPU": 1.0}}]

    def kill(self, actor: Any, *, no_restart: bool) -> None:
        self._call("kill")

    def remote(self, kind: Any) -> Any:
        self._call("remote")
        return self

    def options(self, **_: Any) -> Any:
        ray = self

        class Maker:
            def remote(self) -> Any:
                return Actor()

        class Method:
            def __init__(self, call: Call) -> None:
                self.call = call

            def remote(self, *_: Any) -> Call:
                return self.call

        class Actor:
            where = Method(ray.placed)
            guard = Method(ray.guarded)

        return Maker()


@pytest.fixture
def ray() -> RaisingRay:
    return RaisingRay()


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    words: list[dict[str, Any]] = []
    monkeypatch.setattr(launcher, "say", lambda **each: words.append(each))
    monkeypatch.setattr(Launcher, "_free", lambda self: {"n": {"CPU": 0.0}})
    return words


def work(ray: RaisingRay, *lines: Any, is_open: bool = False) -> None:
    told = {"address": "h:1", "num_cpus": 1, "resources": {}, "runtime_env": None}
    inbox: Any = Script(*lines, None)
    Launcher(ray, told, inbox, is_open).work()


def start(number: int = 1) -> dict[str, Any]:
    return {"op": "start", "id": number, "ticket": TICKET}


def raises(ray: RaisingRay, call: str, error: Exception | None) -> Any:
    def change() -> None:
        if error is None:
            del ray.raising[call]
        else:
            ray.raising[call] = error

    return change


def test_nodes_that_cannot_be_looked_at_are_looked_at_again(ray, said, capsys):
    down = ConnectionError("the head is away")

    work(ray, raises(ray, "nodes", down), start(), "tick", "tick", raises(ray, "nodes", None), "tick")

    assert [each["said"] for each in said] == ["pending"]
    assert ray.calls.count("remote") == 1
    (line,) = capsys.readouterr().err.splitlines()
    words = "Ray did not tell which nodes have room, and is asked again: ConnectionError: the head is away"
    assert line == f"understudy: the launcher of h:1: {words}"


def test_what_is_said_of_free_resources_may_fail_too(ray, said, monkeypatch, capsys):
    def broken(self: Any) -> Any:
        raise AttributeError("no such thing in this release")

    monkeypatch.setattr(Launcher, "_free", broken)
    work(ray, start(), "tick", "tick")

    assert ray.calls.count("remote") == 1
    assert "no such thing in this release" in capsys.readouterr().err


def test_a_guardian_that_cannot_be_ended_is_ended_later(ray, said, capsys):
    lines = (start(), raises(ray, "kill", RuntimeError("not now")), {"op": "end", "id": 1}, "tick", "tick")

    work(ray, *lines, raises(ray, "kill", None), "tick", lambda: ray.guarded.done.set_exception(ValueError("killed")))

    assert ray.calls.count("kill") == 4
    assert said[-1]["said"] == "gone"
    assert "Ray did not end a guardian, and is asked again: RuntimeError: not now" in capsys.readouterr().err


def test_one_that_has_ended_meanwhile_is_ended_no_more(ray, said):
    ended = {"op": "gone", "id": 1, "how": "its node is gone"}

    work(ray, start(), raises(ray, "kill", RuntimeError("not now")), {"op": "end", "id": 1}, ended)

    assert ray.calls.count("kill") == 1
    assert [each["said"] for each in said] == ["pending", "gone"]


def test_addresses_that_are_not_known_give_that_host_up_and_no_other(ray, said):
    lines = (raises(ray, "nodes", OSError("the head is away")), start(1), raises(ray, "nodes", None), start(2))

    work(ray, *lines, is_open=True)

    assert [(each["said"], each["id"]) for each in said] == [("gone", 1), ("pending", 2)]
    assert said[0]["how"] == "Ray does not start its guardian: OSError: the head is away"


def test_a_start_that_fails_gives_that_host_up(ray, said):
    work(ray, raises(ray, "remote", TypeError("cannot be sent")), start())

    assert [each["said"] for each in said] == ["pending", "gone"]
    assert said[-1]["how"] == "Ray does not start its guardian: TypeError: cannot be sent"


def test_a_call_that_was_cancelled_is_an_end_too(ray, said):
    work(ray, start(), ray.placed.done.cancel, ray.guarded.done.cancel)

    assert [each["said"] for each in said] == ["pending", "gone"]
    assert "CancelledError" in said[-1]["how"]


def test_a_process_that_looks_ends_with_the_launcher(tmp_path):
    """The launcher is told to end while it looks whether a cluster lets everybody in."""
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "__init__.py").write_text("")
    (tmp_path / "ray" / "_raylet.py").write_text(
        f"import time, pathlib; pathlib.Path({str(tmp_path / 'looks')!r}).write_text('')\ntime.sleep(1000)\n"
    )
    told = {"address": "10.0.0.2:1", "path": [str(tmp_path), *sys.path], "num_cpus": 1, "resources": {}, "runtime_env": None}
    with subprocess.Popen(
        [sys.executable, "-P", launcher.__file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        process.stdin.write(json.dumps(told).encode() + b"\n")
        process.stdin.flush()
        while not (tmp_path / "looks").exists():
            assert process.poll() is None
            time.sleep(0.01)

        said, _ = process.communicate(timeout=60)  # which ends only when nothing holds its output any more

    assert json.loads(said)["said"] == "failed"
