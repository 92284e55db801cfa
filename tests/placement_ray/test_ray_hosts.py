"""Hosts that Ray places, on a cluster of three nodes: what they give, and what becomes of them when anything dies."""

from __future__ import annotations

import collections
import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from actors import ActorFailed, ChildSpec, HostLost, Redelivery, RunFailed
from runtime import NodeReported, Pool, open_runtime
from runtime.placement import Here, HostPending, HostStarted, Processes
from runtime.placement import HostLost as HostLostEvent
from runtime.placement.ray import RayHosts
from runtime.placement.ray.launcher import judged, probed
from runtime.testing import ScriptedLM
from runtime.testing.loopback_hosts import LoopbackHosts
from tests.placement_ray import reviews
from tests.placement_ray.conftest import ROOT, TestCluster, started_cluster
from tests.runtime.placement import parts
from tests.runtime.placement.parts import Counter, Paper
from tests.runtime.placement.test_processes import PATIENCE_S, is_alive, parents, until, until_gone

pytestmark = pytest.mark.ray


def hosts(cluster: TestCluster, number: int = 2, **options: Any) -> RayHosts:
    usual: dict[str, Any] = {"dead_after_s": PATIENCE_S, "start_timeout_s": PATIENCE_S, "token_path": cluster.token}
    return RayHosts(number, address=cluster.address, **usual | options)


def above(pid: int) -> int:
    return parents()[pid]


def launcher() -> int:
    """The child of this process that speaks with Ray; beside it there is the cluster's."""
    (found,) = [pid for pid, parent in parents().items() if parent == os.getpid() and b"launcher.py" in command(pid)]
    return found


def command(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


async def facts(runtime: Any, name: str, place: str = "cpu") -> dict[str, str]:
    ref = await runtime.spawn(reviews.Witness, name=name, place=place)
    found: dict[str, str] = await ref.ask("all")
    return found


# --- the same as elsewhere ------------------------------------------------------------------------------------------------

TIMES = {"at_s", "duration_s", "delivered_at_s", "started_at_s", "ended_at_s", "run_id", "waited_s", "host", "place", "put_off"}


def written(value: Any) -> Any:
    """A value as JSON, without what tells when and where."""
    if attrs.has(type(value)):
        fields = {field.name: getattr(value, field.name) for field in attrs.fields(type(value)) if field.name not in TIMES}
        return {"": type(value).__name__, **{name: written(each) for name, each in fields.items()}}
    if isinstance(value, (list, tuple)):
        return [written(each) for each in value]
    return value if isinstance(value, (str, int, float, type(None))) else repr(value)


async def all_of_a_run(place: Any) -> bytes:
    lm = ScriptedLM([{"word": "cross"}, "The next pot is on us."])
    async with open_runtime(lm=lm, places={"cpu": place}, seed=1) as runtime:
        async with runtime.stream(reviews.graph, reviews.Review("The tea came cold. Twice."), run_id="r") as stream:
            events = [event async for event in stream]
        handle = await runtime.start(parts.graph, Paper(5))
        output = await handle.result()
        trace = sorted((step.path, step.attempt, str(step.status)) for step in handle.trace)
    return json.dumps([written(events), written(attrs.evolve(output, pids=0)), trace]).encode()


async def test_a_graph_gives_the_same_bytes_wherever_its_nodes_run(cluster):
    at_home = await all_of_a_run(Here())

    assert b"The next pot is on us." in at_home
    assert at_home.count(b"NodeFinished") + at_home.count(b"StepEnded") > 0
    for place in (LoopbackHosts(2, by_name=True), Processes(2), hosts(cluster)):
        with trio.fail_after(PATIENCE_S):
            assert await all_of_a_run(place) == at_home


async def test_hosts_are_on_different_nodes_and_know_nothing_of_ray(cluster):
    options: dict[str, Any] = {"runtime_env": {"env_vars": {"GREETING": "hello"}}}
    async with open_runtime(places={"cpu": hosts(cluster, **options)}) as runtime:
        with trio.fail_after(PATIENCE_S):
            found = [await facts(runtime, name) for name in ("a", "b")]
            witness = await runtime.spawn(reviews.Witness, name="c", place="cpu")
            assert await witness.ask("GREETING") == {"GREETING": "hello"}
            assert await witness.ask("RAY_AUTH_TOKEN") == {"RAY_AUTH_TOKEN": "unset"}
            pool = await runtime.spawn(Pool(ChildSpec("w", reviews.Witness, place="cpu"), 4))
            assert {(await pool.ask("all"))["pid"] for _ in range(8)} == {each["pid"] for each in found}
        guardians = [int(each["above"]) for each in found]

        assert [(each["ray"], each["rays"]) for each in found] == [("False", "[]")] * 2
        assert {above(guardian) for guardian in guardians} == set(cluster.raylets)
        assert all(b"ray::Guardian" in command(guardian) for guardian in guardians)
        secrets = [command(pid) for pid in (launcher(), *guardians, *(int(each["pid"]) for each in found))]
        assert not any(b"secret" in each or b"0123456789abcdef" in each for each in secrets)
    await until_gone({int(each["pid"]) for each in found})
    assert "ray" not in sys.modules


# --- what dies ------------------------------------------------------------------------------------------------------------


async def test_a_thousand_asks_over_a_host_that_is_killed(cluster, tmp_path):
    events: list[Any] = []
    async with open_runtime(places={"cpu": hosts(cluster)}, instruments=[events.append]) as runtime:
        for attempts in (1, 3):
            file = tmp_path / f"handled-{attempts}"
            ends = await ends_of_a_thousand(runtime, attempts, file)

            handled = file.read_text().split()
            twice = len(handled) - len(set(handled))
            assert ends["reply"] + ends["failed"] == 1000
            assert (ends["failed"] <= 10, twice) == (True, 0) if attempts == 1 else (ends["failed"] == 0, twice <= 10)
            await until(lambda: sum(isinstance(event, HostStarted) for event in events) >= 3)


async def ends_of_a_thousand(runtime: Any, attempts: int, file: Path) -> collections.Counter[str]:
    ends: collections.Counter[str] = collections.Counter()
    redelivery = Redelivery(max_attempts=attempts)
    refs = [
        await runtime.spawn(Counter, str(file), name=f"{attempts}-{number}", place="cpu", redelivery=redelivery)
        for number in range(20)
    ]
    pids = {(await ref.ask(-1))[1] for ref in refs}
    assert len(pids) == 2
    await trio.Path(file).unlink()

    async def ask(number: int) -> None:
        try:
            assert (await refs[number % 20].ask(number))[0] == number
            ends["reply"] += 1
        except ActorFailed as error:
            ends["failed" if isinstance(error.__cause__, HostLost) else "wrong"] += 1

    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            for number in range(1000):
                nursery.start_soon(ask, number)
            await trio.sleep(0.25)
            os.kill(min(pids), signal.SIGKILL)
    for ref in refs:
        await runtime.stop(ref)
    return ends


@pytest.mark.parametrize("frozen", ["machine", "host"])
async def test_what_is_frozen_is_lost_and_does_not_come_back(cluster, frozen):
    """The signal stops the guardian and the host, as a machine that is frozen; or the host alone, as code that holds its loop."""
    events: list[Any] = []
    limits: dict[str, Any] = {"dead_after_s": 6.0} if frozen == "machine" else {"stuck_after_s": 6.0}
    async with open_runtime(places={"cpu": hosts(cluster, **limits)}, instruments=[events.append]) as runtime:
        with trio.fail_after(PATIENCE_S):
            found = await facts(runtime, "a")
            handle = await runtime.start(parts.graph, Paper(8, nap_s=2.0))
            await until(lambda: sum(isinstance(event, NodeReported) for event in events) == 8)
        stopped = {int(found["pid"]), int(found["above"])} if frozen == "machine" else {int(found["pid"])}
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        try:
            with trio.fail_after(PATIENCE_S):
                assert (await handle.result()).marks == tuple(range(8))
        finally:
            for pid in filter(is_alive, stopped):
                os.kill(pid, signal.SIGCONT)
        await until_gone(stopped)
    (lost,) = [event for event in events if isinstance(event, HostLostEvent)]
    assert lost.how.startswith(f"nothing was heard of {'its guardian' if frozen == 'machine' else 'it'} for 6")


async def test_a_launcher_that_is_killed_takes_its_hosts_and_both_come_back(cluster):
    events: list[Any] = []
    async with open_runtime(places={"cpu": hosts(cluster)}, instruments=[events.append]) as runtime:
        with trio.fail_after(PATIENCE_S):
            found = [await facts(runtime, name) for name in ("a", "b")]

        os.kill(launcher(), signal.SIGKILL)

        await until(lambda: sum(isinstance(event, HostStarted) for event in events) == 4)
        await until_gone({int(each["pid"]) for each in found})
        with trio.fail_after(PATIENCE_S):
            assert (await runtime.run(parts.graph, Paper(2))).marks == (0, 1)
    lost = [event.how for event in events if isinstance(event, HostLostEvent)]
    assert len(lost) == 2


async def test_a_runtime_that_is_killed_leaves_no_host(cluster, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        "import sys, trio\n"
        "from runtime import open_runtime\n"
        "from runtime.placement.ray import RayHosts\n"
        "from runtime.placement import HostStarted\n"
        "from tests.placement_ray import reviews\n"
        "async def main():\n"
        "    started, both = [], trio.Event()\n"
        "    def note(event):\n"
        "        if isinstance(event, HostStarted):\n"
        "            started.append(event)\n"
        "            if len(started) == 2:\n"
        "                both.set()\n"
        f"    places = {{'cpu': RayHosts(2, address={cluster.address!r}, token_path={str(cluster.token)!r}, dead_after_s=60)}}\n"
        "    async with open_runtime(places=places, instruments=[note]) as runtime:\n"
        "        one = await runtime.spawn(reviews.Witness, name='a', place='cpu')\n"
        "        await both.wait()\n"
        "        refs = [one, await runtime.spawn(reviews.Witness, name='b', place='cpu')]\n"
        "        print(*[(await ref.ask('all'))['pid'] for ref in refs], flush=True)\n"
        "        assert 'ray' not in sys.modules\n"
        "        await trio.sleep_forever()\n"
        "trio.run(main)\n"
    )
    process = await trio.lowlevel.open_process(
        [sys.executable, str(program)], stdout=-1, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert process.stdout is not None
    try:
        with trio.fail_after(PATIENCE_S):
            pids = {int(each) for each in (await process.stdout.receive_some()).split()}
        assert len(pids) == 2
    finally:  # else its hosts would take the room of other tests
        process.kill()

    await process.wait()
    await process.stdout.aclose()
    await until_gone(pids)


async def test_what_no_node_has_room_for_waits_and_starts_when_one_has(cluster):
    events: list[Any] = []
    place = hosts(cluster, 3, num_cpus=2)
    async with open_runtime(places={"cpu": place}, instruments=[events.append]) as runtime, trio.open_nursery() as nursery:
        nursery.start_soon(runtime.deploy, parts.graph)
        await until(lambda: sum(isinstance(event, HostStarted) for event in events) == 2)
        started = {event.host for event in events if isinstance(event, HostStarted)}
        (pending,) = [event for event in events if isinstance(event, HostPending) and event.host not in started]
        assert pending.needs == "2 CPU"
        assert pending.has.count("127.0.0.1: ") == 3

        raylet = await trio.to_thread.run_sync(cluster.add_node)

        await until(lambda: sum(isinstance(event, HostStarted) for event in events) == 3)
        with trio.fail_after(PATIENCE_S):
            assert (await runtime.run(parts.graph, Paper(2))).marks == (0, 1)
        last = next(reversed([event for event in events if isinstance(event, HostStarted)]))
        assert last.host == pending.host
        assert is_alive(raylet)


async def test_a_raylet_that_dies_costs_its_host(cluster):
    """Ray finds out after some fifteen seconds; until then the host works."""
    events: list[Any] = []
    async with open_runtime(places={"cpu": hosts(cluster)}, instruments=[events.append]) as runtime:
        with trio.fail_after(PATIENCE_S):
            found = [await facts(runtime, name) for name in ("a", "b")]
        victim = next(each for each in found if above(int(each["above"])) != cluster.raylets[0])

        os.kill(above(int(victim["above"])), signal.SIGKILL)

        await until(lambda: any(isinstance(event, HostLostEvent) for event in events))
        await until_gone({int(victim["pid"])})
        await until(lambda: sum(isinstance(event, HostStarted) for event in events) == 3)
        with trio.fail_after(PATIENCE_S):
            assert (await runtime.run(parts.graph, Paper(2))).marks == (0, 1)
    lost = [event for event in events if isinstance(event, HostLostEvent)]
    assert len(lost) == 1


# --- who may join ---------------------------------------------------------------------------------------------------------


async def test_a_cluster_that_asks_for_a_token_answers_nobody_else(cluster, tmp_path):
    environment = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(cluster.token)}
    with_none = await trio.to_thread.run_sync(lambda: probed(cluster.address, RAY_AUTH_MODE="disabled"))
    with_it = await trio.to_thread.run_sync(lambda: probed(cluster.address, **environment))

    assert with_none["closed"].startswith("AuthenticationError")
    assert set(with_it["nodes"]) == {"127.0.0.1"}


@pytest.fixture
def open_cluster() -> Iterator[TestCluster]:
    """Without a token, on the loopback; it gives up sooner on a head that is gone than the sixty seconds of Ray's default."""
    environment = {"RAY_AUTH_MODE": "disabled", "RAY_gcs_rpc_server_reconnect_timeout_s": "8"}
    os.environ.update(environment)
    try:
        with started_cluster(environment) as started:
            yield started
    finally:
        for name in environment:
            del os.environ[name]


async def test_a_head_that_dies_ends_no_runtime_and_hosts_come_back_with_it(open_cluster, monkeypatch):
    """The short form: a head that is away for as long as Ray waits for it, and some more."""
    monkeypatch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "1")
    assert await trio.to_thread.run_sync(judged, open_cluster.address)
    events: list[Any] = []
    async with open_runtime(places={"cpu": hosts(open_cluster)}, instruments=[events.append]) as runtime:
        with trio.fail_after(PATIENCE_S):
            await runtime.deploy(parts.graph)
        os.kill(open_cluster.gcs, signal.SIGKILL)

        answered = 0
        with trio.fail_after(PATIENCE_S):
            while not any(isinstance(event, HostLostEvent) for event in events):
                try:
                    assert (await runtime.run(parts.graph, Paper(2))).marks == (0, 1)
                    answered += 1
                except RunFailed:
                    break  # in the very moment in which the hosts ended
                await trio.sleep(0.2)
        assert answered > 10
        await until(lambda: sum(isinstance(event, HostLostEvent) for event in events) == 2)
        port = int(open_cluster.address.rpartition(":")[2])
        with started_cluster({"RAY_AUTH_MODE": "disabled"}, port=port) as anew:
            assert anew.address == open_cluster.address
            with trio.fail_after(PATIENCE_S):
                await until(lambda: sum(isinstance(event, HostStarted) for event in events) >= 4)
                assert (await runtime.run(parts.graph, Paper(2))).marks == (0, 1)
