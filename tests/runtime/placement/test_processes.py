"""Hosts that are processes: `kill -9`, a loop that is held, and the end of the runtime. Few, since each starts processes."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import trio

from actors import DeclarationError, HostLost, RunFailed
from runtime import ActorRestarting, NodeReported, RunHandle, open_runtime
from runtime.lm import LMClient
from runtime.placement import HostLost as HostLostEvent
from runtime.placement import HostStarted, Processes
from runtime.testing import ModelScript, open_loopback
from tests.patience import first_line
from tests.runtime.graphs.stage import leaves
from tests.runtime.placement import parts
from tests.runtime.placement.parts import Paper

ROOT = Path(__file__).resolve().parents[3]
pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="the tests find hosts in /proc")
PATIENCE_S = 120.0
"""No host is taken for dead because this machine is slow."""


def is_alive(pid: int) -> bool:
    """Whether a process runs: neither gone nor only waiting for its parent to look."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


async def until_gone(pids: set[int]) -> None:
    with trio.fail_after(PATIENCE_S):
        while any(map(is_alive, pids)):  # noqa: ASYNC110 - another process tells no one
            await trio.sleep(0.02)


async def test_a_host_that_is_killed_costs_one_restart_and_its_calls_are_made_elsewhere():
    events: list[object] = []
    place = Processes(2, dead_after_s=PATIENCE_S, start_timeout_s=PATIENCE_S)
    async with open_runtime(places={"cpu": place}, instruments=[events.append]) as runtime:
        await runtime.deploy(parts.graph)
        handle = await runtime.start(parts.graph, Paper(8, nap_s=0.5))
        await until(lambda: sum(isinstance(event, NodeReported) for event in events) == 8)
        pids = children()

        os.kill(min(pids), signal.SIGKILL)

        with trio.fail_after(PATIENCE_S):
            grade = await handle.result()
        assert grade.marks == tuple(range(8))
        await until(lambda: sum(isinstance(event, HostStarted) for event in events) == 3)
        pids |= children()
    await until_gone(pids)
    assert os.getpid() not in pids
    assert len(pids) == 3
    assert len([event for event in events if isinstance(event, HostLostEvent)]) == 1
    restarts = [event.address for event in events if isinstance(event, ActorRestarting) and event.address.startswith("places")]
    assert len(restarts) == 1
    assert max(step.attempt for step in handle.trace) == 2


@pytest.mark.chaos
async def test_hosts_that_are_killed_again_and_again_lose_no_item():
    """Only the one attempt of a node without redelivery may be lost, and then its run says so."""
    chance, ends, attempts = random.Random(3), set[object](), set[int]()
    place = Processes(3, dead_after_s=PATIENCE_S, start_timeout_s=PATIENCE_S)
    async with open_runtime(places={"cpu": place}) as runtime:
        await runtime.deploy(parts.graph)
        for _ in range(8):
            handle = await runtime.start(parts.graph, Paper(12, nap_s=0.3))
            await trio.sleep(chance.uniform(0.1, 0.5))
            os.kill(chance.choice(sorted(children())), signal.SIGKILL)
            ends |= await ended(handle)
            attempts.add(max(step.attempt for step in handle.trace))
            await until(lambda: len(children()) == 3)
        pids = children()
    await until_gone(pids)

    assert tuple(range(12)) in ends
    assert ends <= {tuple(range(12)), ("split", HostLost), ("grade", HostLost)}
    assert max(attempts) > 1


async def ended(handle: RunHandle) -> set[object]:
    """The marks of a run, or the nodes that gave up, each with the class of the cause."""
    with trio.fail_after(PATIENCE_S):
        try:
            return {(await handle.result()).marks}
        except RunFailed as failure:
            return {(leaf.node, type(leaf.__cause__)) for leaf in leaves(failure)}


@pytest.mark.chaos
async def test_a_stopped_host_is_killed_and_lost_when_its_loop_has_been_silent_for_long_enough():
    events: list[object] = []
    place = Processes(2, dead_after_s=PATIENCE_S, start_timeout_s=PATIENCE_S, stuck_after_s=10.0)
    async with open_runtime(places={"cpu": place}, instruments=[events.append]) as runtime:
        handle = await runtime.start(parts.graph, Paper(8, nap_s=1.0))
        await until(lambda: sum(isinstance(event, NodeReported) for event in events) == 8)
        pids = children()

        os.kill(min(pids), signal.SIGSTOP)

        with trio.fail_after(PATIENCE_S):
            assert (await handle.result()).marks == tuple(range(8))
        await until_gone({min(pids)})
    (lost,) = [event for event in events if isinstance(event, HostLostEvent)]
    assert lost.how == "nothing was heard of it for 10 s"


async def until(holds) -> None:
    with trio.fail_after(PATIENCE_S):
        while not holds():  # noqa: ASYNC110 - the same
            await trio.sleep(0.01)


def children() -> set[int]:
    """The host processes of this one: the children of its guardians."""
    guardians = [pid for pid, parent in parents().items() if parent == os.getpid()]
    return {pid for pid, parent in parents().items() if parent in guardians}


def parents() -> dict[int, int]:
    """The parent of each process, but for the warm ones of other tests: these outlive a test, and are nobody's hosts."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if b"tests.warm" not in (entry / "cmdline").read_bytes():
                    found[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
    return found


@pytest.mark.chaos
async def test_a_function_that_holds_the_loop_of_its_host_ends_with_the_host():
    """No local runtime could stop it; the guardian does, which is another process."""
    events: list[object] = []
    place = Processes(1, dead_after_s=PATIENCE_S, start_timeout_s=PATIENCE_S, cancel_grace_s=0.2)
    async with open_runtime(places={"cpu": place}, instruments=[events.append]) as runtime:
        await runtime.deploy(parts.burning)
        pids = children()

        with pytest.raises(RunFailed) as failure, trio.fail_after(PATIENCE_S):
            await runtime.run(parts.burning, Paper(1))

        assert type(leaves(failure.value)[0].__cause__).__name__ in {"NodeTimedOut", HostLost.__name__}
        await until_gone(pids)
    (lost,) = [event for event in events if isinstance(event, HostLostEvent)]
    assert lost.how == "what was cancelled there had not ended 0.2 s later, so it was killed"


OWNER = """
import sys, trio
from runtime import open_runtime
from runtime.placement import Processes
from tests.runtime.placement import parts
from tests.runtime.placement.test_processes import children

async def main():
    async with open_runtime(places={"cpu": Processes(1, dead_after_s=120, start_timeout_s=120)}) as runtime:
        await runtime.deploy(parts.burning)
        print(*children(), flush=True)
        await runtime.run(parts.burning, parts.Paper(1))

trio.run(main)
"""


@pytest.mark.chaos
def test_a_runtime_that_is_killed_leaves_no_host_behind_even_one_whose_loop_is_held():
    owner = subprocess.Popen([sys.executable, "-c", OWNER], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    pids = set(map(int, first_line(owner).split()))
    assert len(pids) == 1
    assert all(map(is_alive, pids))

    owner.kill()
    owner.communicate(timeout=PATIENCE_S)

    deadline = time.monotonic() + PATIENCE_S
    while any(map(is_alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not any(map(is_alive, pids))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Processes(0), "Processes(hosts=0): expected a whole number >= 1."),
        (lambda: Processes(2, window=0), "Processes(window=0): expected a whole number >= 1."),
        (lambda: Processes(2, dead_after_s=0), "Processes(dead_after_s=0): expected a finite number > 0."),
    ],
)
def test_wrong_numbers_are_said_when_they_are_written(make, words):
    with pytest.raises(DeclarationError) as failure:
        make()

    assert str(failure.value).startswith(words)


@pytest.mark.chaos
@pytest.mark.parametrize("how", ["sleep in a thread", "busy in a thread", "holds the interpreter", "holds the loop"])
async def test_work_that_nothing_can_stop_ends_with_its_host_and_others_are_served_elsewhere(how):
    """A plain function that never returns, also one in C that lets no other thread of its process run."""
    events: list[object] = []
    place = Processes(2, dead_after_s=PATIENCE_S, start_timeout_s=PATIENCE_S, cancel_grace_s=0.2)
    async with open_runtime(places={"cpu": place}, instruments=[events.append]) as runtime:
        await runtime.deploy(parts.stuck)
        await runtime.deploy(parts.graph)
        pids = children()
        handle = await runtime.start(parts.stuck, parts.Stuck(how))
        await until(lambda: any(isinstance(event, NodeReported) for event in events))
        await trio.sleep(0.5)  # it reports, and then hangs: what hangs tells no one

        with trio.fail_after(PATIENCE_S):
            other = await runtime.start(parts.graph, Paper(3))
            await handle.cancel()
            assert (await other.result()).marks == (0, 1, 2)

        await until(lambda: not all(map(is_alive, pids)))
        assert len([pid for pid in pids if is_alive(pid)]) == 1
    assert len([event for event in events if isinstance(event, HostLostEvent)]) == 1


@pytest.mark.chaos
async def test_a_host_that_is_killed_under_a_call_of_a_model_closes_the_socket_to_the_provider():
    """A real one: the provider sees its client go, and no answer is paid for that no one waits for."""
    place = Processes(1, dead_after_s=PATIENCE_S, start_timeout_s=PATIENCE_S)
    script = ModelScript("never", latency_s=PATIENCE_S)
    async with open_loopback({"slow": script}) as provider:
        lm = LMClient("openai/slow", api_key="none", api_base=provider.api_base)
        async with open_runtime(lm=lm, places={"cpu": place}) as runtime:
            handle = await runtime.start(parts.talking, Paper(1))
            await until(lambda: len(provider.requests) == 1)

            os.kill(min(children()), signal.SIGKILL)

            with trio.fail_after(PATIENCE_S), pytest.raises(RunFailed) as failure:
                await handle.result()
            await until(lambda: provider.requests[0].ended_s is not None)
            assert provider.requests[0].cancelled_by_client
            assert len(provider.requests) == 1
    assert isinstance(leaves(failure.value)[0].__cause__, HostLost)
