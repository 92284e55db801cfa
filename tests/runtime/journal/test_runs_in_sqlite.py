"""Runs of graphs in a SQLite file: whole runtimes, one after another."""

from __future__ import annotations

import subprocess
import sys

import attrs
import pytest
import trio

from actors import Effect, Graph, Run, RunFailed, UsageError
from actors.store_errors import StoreInUse
from runtime import open_runtime


@attrs.frozen
class Order:
    number: int


@attrs.frozen
class Draft:
    text: str


@attrs.frozen
class Sent:
    text: str


def letters(begun: list[str], gate: trio.Event, sending: trio.Event | None = None) -> Graph[Order, Sent]:
    graph = Graph("letters", input=Order, output=Sent)

    @graph.node
    async def write(order: Order) -> Draft:
        begun.append("write")
        return Draft(f"letter {order.number}")

    @graph.node
    async def send(draft: Draft) -> Sent:
        begun.append("send")
        if sending is not None:
            sending.set()
        await gate.wait()
        return Sent(draft.text)

    return graph


async def test_a_run_goes_on_in_another_runtime_where_its_records_end(tmp_path):
    """No finished step begins again."""
    begun: list[str] = []
    closed, open_gate, sending = trio.Event(), trio.Event(), trio.Event()
    open_gate.set()
    async with open_runtime(store=tmp_path / "runs.db") as runtime:
        await runtime.start(letters(begun, closed, sending), Order(7), run_id="order-7")
        with trio.fail_after(60):
            await sending.wait()

    graph = letters(begun, open_gate)
    async with open_runtime(store=tmp_path / "runs.db", graphs=[graph]) as runtime:
        handle = await runtime.handle("order-7")
        with trio.fail_after(60):
            assert await handle.result() == Sent("letter 7")

    assert begun == ["write", "send", "send"]
    async with open_runtime(store=str(tmp_path / "runs.db")) as runtime:
        await runtime.deploy(graph)
        again = await runtime.start(graph, Order(7), run_id="order-7")
        with trio.fail_after(60):
            assert await again.result() == Sent("letter 7")
    assert begun == ["write", "send", "send"]


async def test_a_second_runtime_on_the_same_file_is_told_who_has_it(tmp_path):
    async with open_runtime(store=tmp_path / "runs.db"):
        with pytest.raises(StoreInUse, match="belongs to process"):
            async with open_runtime(store=tmp_path / "runs.db"):
                pass


@pytest.mark.slow
def test_killed_processes_lose_no_run_and_begin_no_finished_step_again():
    killed(4)


@pytest.mark.chaos
def test_a_thousand_kills_lose_no_run_and_begin_no_finished_step_again():
    killed(1_000)


@pytest.mark.chaos
def test_a_thousand_kills_of_a_writer_lose_nothing_that_was_acknowledged():
    done = subprocess.run(
        [sys.executable, "-m", "tests.runtime.journal.kills", "1000"], capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stdout) == (0, "1000 kills, 0 lost, 0 gaps, 0 damaged\n"), done.stderr


def killed(times: int) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.runtime.journal.chaos", str(times)], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith(": nothing lost or done again\n")
    assert "taken up 0 times" not in done.stdout
    assert "runs that were killed more than once" in done.stdout, "what was resumed is to be killed, too"


async def test_a_run_that_failed_is_resumed_where_it_failed(tmp_path):
    begun: list[str] = []
    broken = [True]
    graph = Graph("letters", input=Order, output=Sent)

    @graph.node
    async def write(order: Order, run: Run) -> Draft:
        begun.append("write")
        return Draft(await run.once("text", str, order.number))

    @graph.node(effect=Effect.ONCE)
    async def send(draft: Draft) -> Sent:
        begun.append("send")
        if broken[0]:
            raise OSError("away")
        return Sent(draft.text)

    async with open_runtime(store=tmp_path / "runs.db", graphs=[graph]) as runtime:
        with pytest.raises(RunFailed):
            await (await runtime.start(graph, Order(7), run_id="order-7")).result()
    async with open_runtime(store=tmp_path / "runs.db", graphs=[graph]) as runtime:
        handle = await runtime.resume("order-7")
        with pytest.raises(RunFailed):
            await handle.result()
        broken[0] = False
        assert await (await runtime.resume("order-7")).result() == Sent("7")
        await (await runtime.handle("order-7")).result()
        with pytest.raises(UsageError, match="is succeeded"):
            await runtime.resume("order-7")

    assert begun == ["write", "send", "send", "send"]
