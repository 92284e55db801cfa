"""``python -m tests.benchmarks.sizing``: how many cores a load takes, from measured constants; ``--measure`` measures them.

The arithmetic is pure and tested; the table in ``docs/design/sizing.md`` is what it makes of the constants below.
"""

from __future__ import annotations

import argparse
import math
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from time import process_time
from typing import Any, Final

import attrs
import trio

from runtime import open_runtime
from runtime.journal.postgres import PostgresStore
from runtime.journal.store import Store
from runtime.placement import Processes
from runtime.testing.models.process import loopback_process
from tests.benchmarks.durable_steps import STEPS, TEXT, Over, There, to_and_fro
from tests.benchmarks.hosted_works import Echo
from tests.benchmarks.lm_calls import load_all, measured
from tests.benchmarks.lm_works import LATENCY_S, MODELS
from tests.benchmarks.placement_costs import item_us
from tests.runtime.journal.postgres_server import Server, programs

LOADS: Final = (100, 1_000, 10_000, 40_000, 1_000_000)
"""Runs a second."""


@attrs.frozen(kw_only=True)
class Constants:
    """What one of each costs. CPU is of one core."""

    predict_ms: float = 1.15
    """CPU of the service for a predict call, prompt and answer included."""
    step_us: float = 130.0
    """CPU of the service for a step that is stored in PostgreSQL."""
    server_step_us: float = 48.0
    """CPU of PostgreSQL for it, with 100 runs in progress in one service process."""
    placed_item_us: float = 83.0
    """CPU of the owner for an item that a host works on."""
    host_mb: float = 49.0
    """Memory of a host that has imported no library for language models."""
    guardian_mb: float = 13.0
    calls: int = 5
    """Predict calls of a run."""
    steps: int = 7
    """Records of such a run: its calls, its start and its end."""
    latency_s: float = 2.0
    """Of a call, at the provider."""
    busy: float = 0.6
    """How busy a core may be, so that what comes at once still finds room."""
    server_cores: int = 64
    """Of the largest server of one store."""
    store_runs_per_s: float = 43_000
    """What one PostgreSQL is known to take; published by DBOS for runs of one step, on 96 cores."""


@attrs.frozen
class Needs:
    """What one load takes."""

    runs_per_s: float
    calls_in_flight: float
    service_cores: float
    server_cores: float
    stores: int
    gives: str
    """What gives first."""


def needs(runs_per_s: float, constants: Constants) -> Needs:
    """What `runs_per_s` take."""
    in_flight = runs_per_s * constants.calls * constants.latency_s
    service = runs_per_s * (constants.calls * constants.predict_ms / 1e3 + constants.steps * constants.step_us / 1e6)
    server = runs_per_s * constants.steps * constants.server_step_us / 1e6
    cores, server_cores = service / constants.busy, server / constants.busy
    stores = max(1, math.ceil(server_cores / constants.server_cores), math.ceil(runs_per_s / constants.store_runs_per_s))
    if cores <= 2:
        gives = "nothing: one or two processes"
    elif in_flight < 100_000:
        gives = "nothing: start the command on more machines"
    elif stores == 1:
        gives = "the provider's limits"
    else:
        gives = "the one writer of a store: split runs by their ids over several"
    return Needs(runs_per_s, in_flight, cores, server_cores, stores, gives)


def table(constants: Constants, loads: Sequence[float] = LOADS) -> str:
    """The loads as a table of Markdown."""
    lines = [
        "| runs/s | calls of models in flight | cores of the service | cores of PostgreSQL | stores | what gives first |",
        "|---|---|---|---|---|---|",
    ]
    for load in loads:
        need = needs(load, constants)
        lines.append(
            f"| {need.runs_per_s:,.0f} | {need.calls_in_flight:,.0f} | {rounded(need.service_cores)} | "
            f"{rounded(need.server_cores)} | {need.stores} | {need.gives} |"
        )
    return "\n".join(lines)


def hosts(constants: Constants) -> str:
    """What one core of an owner feeds, as lines of Markdown."""
    most = 1e6 / constants.placed_item_us
    steady = most * constants.busy
    return "\n".join(
        (
            "| work of an item | items/s of one owner core | cores of hosts that these keep busy |",
            "|---|---|---|",
            *(f"| {ms} ms | {rounded(steady)} | {rounded(steady * ms / 1e3)} |" for ms in (1, 5, 50)),
        )
    )


def rounded(value: float) -> str:
    """Two digits that say something, or whole cores."""
    if value >= 100:
        return f"{float(f'{value:.2g}'):,.0f}"
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}"


# --- measuring ------------------------------------------------------------------------------------------------------------


def _left_out(module: str, reason: str) -> None:
    sys.stdout.write(f"left out: {module}: {reason}\n")


def predict_ms(rounds: int) -> float:
    """CPU of a predict call, a hundred together."""
    (ours,) = load_all(_left_out, ["ours"])
    with loopback_process(MODELS, latency_s=LATENCY_S) as provider:
        opened = ours.jobs["predict"]
        return min(measured(ours.loop, opened, provider.api_base, 100, 300).cpu_s for _ in range(rounds)) * 1e3


async def step_costs(store: Store, pid: int, runs: int, at_once: int = 100) -> tuple[float, float]:
    """CPU microseconds of a stored step, here and in the server whose first process is `pid`."""
    graph, names = to_and_fro(), count()
    async with open_runtime(store=store, graphs=[graph]) as runtime:

        async def once() -> None:
            assert await runtime.run(graph, There(TEXT, 0), run_id=f"run-{next(names)}") == Over(TEXT)

        await once()
        here, there = process_time(), cpu_s_below(pid)
        for _ in range(max(1, runs // at_once)):
            async with trio.open_nursery() as nursery:
                for _ in range(at_once):
                    nursery.start_soon(once)
        steps = (next(names) - 1) * STEPS
        return (process_time() - here) / steps * 1e6, (cpu_s_below(pid) - there) / steps * 1e6


def cpu_s_below(pid: int) -> float:
    """CPU seconds of a process and its children, those that have ended included."""
    ticks = 0
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(entry.name) == pid:
                ticks += sum(map(int, fields[11:15]))
            elif int(fields[1]) == pid:
                ticks += sum(map(int, fields[11:13]))
    return ticks / os.sysconf("SC_CLK_TCK")


async def memory_mb() -> Mapping[str, float]:
    """Resident memory of a host and of its guardian."""
    async with open_runtime(places={"cpu": Processes(1)}) as runtime:
        await runtime.spawn(Echo, place="cpu")
        guardian = _children(os.getpid())[-1]
        (host,) = _children(guardian)
        return {"host_mb": _resident_mb(host), "guardian_mb": _resident_mb(guardian)}


def _children(pid: int) -> list[int]:
    said = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False).stdout
    return [int(each) for each in said.split() if Path(f"/proc/{each}").exists()]


def _resident_mb(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def measure(rounds: int) -> Constants:
    """The constants of this machine."""
    found: dict[str, Any] = {"predict_ms": predict_ms(rounds)}
    folder = programs()
    if folder is None:
        sys.stdout.write("left out: PostgreSQL: its programs aren't installed\n")
    else:
        server = Server(folder, fsync=True)
        try:
            server.start()
            pid = int((server.data / "postmaster.pid").read_text().split()[0])
            costs = [
                trio.run(step_costs, PostgresStore(server.dsn, f"s{number}", migrate=True), pid, 300) for number in range(rounds)
            ]
        finally:
            server.close()
        found |= {"step_us": min(here for here, _ in costs), "server_step_us": min(there for _, there in costs)}
    found["placed_item_us"] = min(trio.run(item_us, Processes(1), 3000) for _ in range(rounds))
    found |= trio.run(memory_mb)
    return Constants(**found)


def said(constants: Constants) -> Iterator[str]:
    """All of it as text."""
    yield from (f"{name} = {value:.4g}" for name, value in attrs.asdict(constants).items())
    yield from ("", table(constants), "", hosts(constants))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.sizing", description="Cores for a load.")
    parser.add_argument("--measure", action="store_true", help="measure the constants on this machine first")
    parser.add_argument("--rounds", type=int, default=3, help="how often each is measured (default: 3)")
    parser.add_argument("--calls", type=int, help="predict calls of a run")
    parser.add_argument("--latency", type=float, help="seconds of a call")
    options = parser.parse_args(arguments)
    constants = measure(options.rounds) if options.measure else Constants()
    if options.calls is not None:
        constants = attrs.evolve(constants, calls=options.calls, steps=options.calls + 2)
    if options.latency is not None:
        constants = attrs.evolve(constants, latency_s=options.latency)
    sys.stdout.write("\n".join(said(constants)) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
