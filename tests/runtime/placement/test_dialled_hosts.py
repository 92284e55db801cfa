"""Hosts that dial in, over TCP and TLS, started by a launcher without Ray: what it and they do, and what becomes of both."""

from __future__ import annotations

import json
import operator
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from actors import HostLost, PlaceUnavailable, RunFailed, UsageError
from runtime import ActorCrashed, NodeReported, open_runtime
from runtime.placement import HostLost as HostLostEvent
from runtime.placement import HostPending, HostStarted, OpenedPlace
from runtime.placement.ray import RayHosts, cluster, dialled_hosts, launcher
from tests.runtime.placement import fake_launcher, parts
from tests.runtime.placement.parts import Paper
from tests.runtime.placement.test_processes import PATIENCE_S, is_alive, parents, until, until_gone

ROOT = Path(__file__).resolve().parents[3]
pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="the tests find hosts in /proc")


def _like(name: str) -> Any:
    """What the hosts that it is like have; a protocol is looked for without asking ``__getattr__`` from Python 3.12 on."""
    return property(operator.attrgetter(f"like.{name}"))


@attrs.frozen
class FakeRay:
    """`RayHosts` with another launcher."""

    like: RayHosts
    hosts = _like("hosts")
    window = _like("window")
    start_timeout_s = _like("start_timeout_s")
    dead_after_s = _like("dead_after_s")
    stuck_after_s = _like("stuck_after_s")
    cancel_grace_s = _like("cancel_grace_s")
    problems = _like("problems")

    def open(self) -> AbstractAsyncContextManager[OpenedPlace]:
        return cluster.opened_cluster(self.like, fake_launcher.COMMAND)


def fake(hosts: int = 1, **options: Any) -> Any:
    usual: dict[str, Any] = {"dead_after_s": PATIENCE_S, "start_timeout_s": PATIENCE_S, "address": "127.0.0.1:6379"}
    return FakeRay(RayHosts(hosts, **usual | options))


def below(pid: int) -> Iterator[int]:
    """All processes that it has started, and those that these have."""
    for child in [each for each, parent in parents().items() if parent == pid]:
        yield child
        yield from below(child)


@pytest.mark.parametrize("tls", [True, pytest.param(False, marks=pytest.mark.chaos)])
async def test_a_graph_runs_on_hosts_that_dial_in_and_nothing_of_it_is_left(tls):
    events: list[Any] = []
    places = {"cpu": fake(2, tls=tls)}
    async with open_runtime(places=places, instruments=[events.append]) as runtime:
        with trio.fail_after(PATIENCE_S):
            assert (await runtime.run(parts.graph, Paper(4))).marks == (0, 1, 2, 3)
        pids = set(below(os.getpid()))
        assert len(pids) == 5  # the launcher, and two guardians with a host each
        tree = [
            each.address for place in runtime.tree().children if place.address == "places" for each in place.children[0].children
        ]
    await until_gone(pids)

    assert tree[0] == "places/cpu/engine"
    assert sorted(tree[1:]) == ["places/cpu/host-1", "places/cpu/host-2"]
    assert sorted(event.host for event in events if isinstance(event, HostStarted)) == ["host-1", "host-2"]
    assert "ray" not in sys.modules


async def test_what_no_node_has_room_for_is_told_immediately():
    events: list[HostPending] = []
    place = fake(1, resources={"nowhere": 1})
    async with open_runtime(places={"cpu": place}) as runtime, trio.open_nursery() as nursery:
        runtime._services.events.add_sink(events.append, (HostPending,))
        nursery.start_soon(runtime.deploy, parts.graph)
        await until(lambda: events)
        nursery.cancel_scope.cancel()

    (pending,) = events
    assert (pending.place, pending.host, pending.needs) == ("cpu", "host-1", "1 nowhere")
    assert pending.has == "127.0.0.1: 0 of 0 nowhere"


@pytest.mark.chaos
async def test_what_no_node_has_room_for_is_waited_for_no_longer_than_allowed():
    async with open_runtime(places={"cpu": fake(1, resources={"nowhere": 1}, start_timeout_s=5.0)}) as runtime:
        with pytest.raises(PlaceUnavailable) as failure, trio.fail_after(PATIENCE_S):
            await runtime.deploy(parts.graph)

    assert "; it needs 1 nowhere, and free there was: 127.0.0.1: 0 of 0 nowhere" in str(failure.value)


async def test_a_start_that_is_cancelled_waits_for_no_time_to_pass_and_leaves_nothing(monkeypatch):
    """Its guardian is there, and the host has not dialled in yet: the end of both is heard although the task is cancelled."""
    for name in ("END_S", "KILL_S"):
        monkeypatch.setattr(dialled_hosts, name, PATIENCE_S)
    with trio.fail_after(PATIENCE_S):
        async with open_runtime(places={"cpu": fake(1)}) as runtime, trio.open_nursery() as nursery:
            nursery.start_soon(runtime.deploy, parts.graph)
            await until(lambda: len(set(below(os.getpid()))) == 3)  # the launcher, the guardian and the host
            nursery.cancel_scope.cancel()
    assert list(below(os.getpid())) == []


async def test_a_cluster_that_lets_everybody_in_is_not_used():
    async with open_runtime(places={"cpu": fake(1, resources={"open": 1})}) as runtime:
        with pytest.raises(UsageError, match="runs the code of anybody who reaches it"), trio.fail_after(PATIENCE_S):
            await runtime.deploy(parts.graph)


async def test_a_cluster_that_cannot_be_joined_says_why():
    async with open_runtime(places={"cpu": fake(1, resources={"away": 1})}) as runtime:
        with pytest.raises(PlaceUnavailable, match="cannot be joined: RpcError: nobody answers"), trio.fail_after(PATIENCE_S):
            await runtime.deploy(parts.graph)


async def test_the_path_of_a_token_comes_before_a_token_in_the_environment(monkeypatch):
    monkeypatch.setenv("RAY_AUTH_TOKEN", "another cluster's")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    asked = '{"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": "/run/token"}'
    async with open_runtime(places={"cpu": fake(1, resources={"away": 1}, token_path="/run/token")}) as runtime:
        with pytest.raises(PlaceUnavailable, match=f"nobody answers {asked}"), trio.fail_after(PATIENCE_S):
            await runtime.deploy(parts.graph)


async def test_a_guardian_that_ends_before_it_dials_says_why():
    crashes: list[ActorCrashed] = []
    place = fake(1, resources={"broken": 1})
    async with open_runtime(places={"cpu": place}) as runtime, trio.open_nursery() as nursery:
        runtime._services.events.add_sink(crashes.append, (ActorCrashed,))
        nursery.start_soon(runtime.deploy, parts.graph)
        await until(lambda: crashes)
        nursery.cancel_scope.cancel()

    crash = crashes[0]
    assert isinstance(crash.error, HostLost)
    assert "was not started: its guardian ended with code 0.\n  Fix: see the cause. Its node must have this" in str(crash.error)


async def test_ray_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setattr(cluster, "find_spec", lambda name: None)
    async with open_runtime(places={"cpu": RayHosts(1, address="h:1")}) as runtime:
        with pytest.raises(UsageError) as failure, trio.fail_after(PATIENCE_S):
            await runtime.deploy(parts.graph)
    assert str(failure.value) == "RayHosts() needs Ray, which isn't installed.\n  Fix: pip install 'understudy[ray]'"


@pytest.mark.chaos
@pytest.mark.parametrize("victim", ["host", "guardian", "launcher"])
async def test_whoever_is_killed_the_run_ends_and_nothing_is_left(victim):
    events: list[Any] = []
    async with open_runtime(places={"cpu": fake(2)}, instruments=[events.append]) as runtime:
        await runtime.deploy(parts.graph)
        handle = await runtime.start(parts.graph, Paper(8, nap_s=3.0))  # all of it is out while processes are looked for
        await until(lambda: sum(isinstance(event, NodeReported) for event in events) == 8)
        (launching,) = [each for each, parent in parents().items() if parent == os.getpid()]
        guardians = [each for each, parent in parents().items() if parent == launching]
        host = next(each for each, parent in parents().items() if parent == guardians[0])
        pids = set(below(os.getpid()))

        os.kill({"host": host, "guardian": guardians[0], "launcher": launching}[victim], signal.SIGKILL)

        with trio.fail_after(PATIENCE_S):
            try:
                assert (await handle.result()).marks == tuple(range(8))
            except RunFailed as failure:  # a node without redelivery was out there
                assert victim == "launcher", failure  # noqa: PT017 - the others lose one host of two
        await until(lambda: sum(isinstance(event, HostStarted) for event in events) == (4 if victim == "launcher" else 3))
        with trio.fail_after(PATIENCE_S):
            assert (await runtime.run(parts.graph, Paper(2))).marks == (0, 1)
        pids |= set(below(os.getpid()))
    await until_gone(pids)
    lost = [event for event in events if isinstance(event, HostLostEvent)]
    assert len(lost) == (2 if victim == "launcher" else 1)


@pytest.mark.chaos
async def test_a_runtime_that_is_killed_leaves_nothing(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        "import trio\n"
        "from runtime import open_runtime\n"
        "from tests.runtime.placement import parts\n"
        "from tests.runtime.placement.test_dialled_hosts import fake\n"
        "async def main():\n"
        "    async with open_runtime(places={'cpu': fake(2)}) as runtime:\n"
        "        await runtime.deploy(parts.graph)\n"
        "        print('ready', flush=True)\n"
        "        await trio.sleep_forever()\n"
        "trio.run(main)\n"
    )
    process = await trio.lowlevel.open_process(
        [sys.executable, str(program)], stdout=-1, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert process.stdout is not None
    with trio.fail_after(PATIENCE_S):
        assert (await process.stdout.receive_some()).startswith(b"ready")
    pids = set(below(process.pid))
    assert len(pids) == 5

    process.kill()

    await process.wait()
    await process.stdout.aclose()
    await until_gone(pids)
    assert not is_alive(process.pid)


# --- which clusters are used ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "answers", "is_open"),
    [
        ("127.0.0.1:1", [{"nodes": ["127.0.0.1", "::1"]}], True),
        ("10.0.0.2:1", [{"closed": "AuthenticationError"}], False),
        ("localhost:1", [{"closed": "AuthenticationError"}, {"nodes": ["127.0.0.1"]}], False),
        ("127.0.0.1:1", [{"closed": "AuthenticationError"}, {"nodes": ["10.0.0.2"]}], False),
    ],
)
def test_a_cluster_is_used_that_asks_for_a_token_or_that_nobody_else_reaches(address, answers, is_open, monkeypatch):
    monkeypatch.setattr(launcher, "probed", lambda address, RAY_AUTH_MODE="": answers[0] if RAY_AUTH_MODE else answers[-1])
    monkeypatch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "1")

    assert launcher.judged(address) is is_open

    all_here = answers[-1].get("nodes", ["elsewhere"])[0] == "127.0.0.1"
    assert os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] == ("0" if all_here else "1")


@pytest.mark.parametrize("nodes", [["127.0.0.1", "10.0.0.3"], ["10.0.0.2"]])
@pytest.mark.parametrize("address", ["127.0.0.1:1", "10.0.0.2:1"])
def test_a_cluster_that_others_reach_without_a_token_is_not_used(address, nodes, monkeypatch):
    monkeypatch.setattr(launcher, "probed", lambda address, **_: {"nodes": nodes})

    with pytest.raises(
        launcher.OpenToAll, match=r"the cluster runs the code of anybody who reaches 10\.0\.0\.\d: it asks for no token"
    ):
        launcher.judged(address)


def test_a_cluster_of_which_nothing_is_known_is_not_used(monkeypatch):
    monkeypatch.setattr(launcher, "probed", lambda address, **_: {"failed": "ImportError: no GcsClient"})

    with pytest.raises(ConnectionError, match="no GcsClient"):
        launcher.judged("10.0.0.2:1")


def test_a_probe_without_ray_fails_and_says_so():
    assert "failed" in launcher.probe("127.0.0.1:1")


# --- values ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"address": "ray-head"}, "'HOST:PORT' of the cluster's head"),
        ({"address": "ray://ray-head:10001"}, "'HOST:PORT' of the cluster's head"),
        ({"address": "auto"}, "'HOST:PORT' of the cluster's head"),
        ({"address": "h:99999"}, "'HOST:PORT' of the cluster's head"),
        ({"listen": ""}, "'ADDRESS' or 'ADDRESS:PORT' of this machine"),
        ({"resources": {"GPU": 0}}, "a mapping from names to amounts above 0"),
        ({"resources": {"CPU": 1}}, "everything but CPUs"),
        ({"resources": [1]}, "a mapping from names to amounts above 0"),
        ({"num_cpus": -1}, "num_cpus"),
        ({"runtime_env": {"pip": object()}}, "a mapping that JSON can hold"),
        ({"tls": 1}, "tls"),
        ({"token_path": 1}, "token_path"),
    ],
)
def test_a_wrong_option_is_named(options, words):
    with pytest.raises(Exception, match="RayHosts") as failure:
        RayHosts(1, **{"address": "h:1", **options})
    assert words in str(failure.value)
    assert "Fix: " in str(failure.value)


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        ("h:1", ("h", 1)),
        ("h", ("h", 0)),
        ("[::1]:7", ("::1", 7)),
        ("::1", ("::1", 0)),
        ("[::1]", ("::1", 0)),
        ("h:x", ("", 0)),
        ("0.0.0.0:70000", ("", 0)),
    ],
)
def test_an_address_is_taken_apart(address, parts):
    assert cluster.parted(address) == parts


def test_the_file_of_the_token_is_in_no_text():
    assert "secret" not in repr(RayHosts(1, address="h:1", token_path="/secret/token"))


def test_how_a_guardian_ended_is_one_line():
    assert launcher.how(None) == "its guardian has finished"
    assert (
        launcher.how(ValueError("died\nbecause its node is gone\nmore"))
        == "Ray says of its guardian: ValueError: because its node is gone"
    )
    assert json.dumps(launcher.how(ValueError("x" * 1000))).count("x") < 400
