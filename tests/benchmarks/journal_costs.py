"""``python -m tests.benchmarks.journal_costs``: what a recorded run costs besides its steps.

- a call of a language model, with its two records, beside the same call in a run that isn't stored;
- a plain step of a run while others call language models, whose answers are synced one after the other;
- resuming, for each record: what is read, told to a new reducer and put at work again;
- the file, for each record, less what the messages take as JSON.

The passes are made in turns, and the best of each counts.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from time import perf_counter, process_time
from typing import Final

import attrs
import trio

from actors import LM, Graph
from runtime import open_runtime
from runtime.graphs.adopting import Terrain, restored
from runtime.journal import SqliteStore
from runtime.journal.records import Record, RecordKind
from runtime.testing import ScriptedLM
from tests.benchmarks.__main__ import print_line
from tests.benchmarks.journals import TEXT, Over, Turn, chain
from tests.benchmarks.measuring import judged

CALLS: Final = 100
"""Of a language model in one run."""
LATENCY_S: Final = 0.001
RECORDS: Final = 10_000
"""Of the run that is resumed, about."""
BARE: Final = "a call, no store"
STORED: Final = "a call, SqliteStore, paid"
DISK: Final = "fdatasync of the disk"
BESIDE: Final = "a plain step beside runs that call"
CALLERS: Final = 4
"""Runs that call a language model all the time."""
STEPS: Final = 200
RESUMING: Final = "resuming, a record"
FILE: Final = "the file, a record, bytes beside its data"
MORE_US: Final = 80
RESUMING_US: Final = 20
FILE_BYTES: Final = 130

_numbers = itertools.count()


def calling(calls: int) -> Graph[Turn, Over]:
    """A node that calls its language model so many times, one call after the other."""
    graph = Graph("calls", input=Turn, output=Over)

    @graph.node
    async def call(turn: Turn, lm: LM) -> Over:
        for number in range(calls):
            await lm.chat([{"role": "user", "content": f"{number} {turn.text}"}])
        return Over(turn.text)

    return graph


def giving_way() -> Graph[Turn, Over]:
    """The chain, of a node that waits for something, as most do: here for the next turn of the event loop."""
    graph = Graph("giving way", input=Turn, output=Over)

    @graph.node
    async def step(turn: Turn) -> Turn | Over:
        await trio.lowlevel.checkpoint()
        return Turn(turn.left - 1, turn.text) if turn.left > 1 else Over(turn.text)

    return graph


@attrs.frozen
class Cost:
    """Microseconds for one of many."""

    wall_us: float
    processor_us: float

    def or_less(self, other: Cost) -> Cost:
        """The least of both, each by itself."""
        return Cost(min(self.wall_us, other.wall_us), min(self.processor_us, other.processor_us))


async def call_cost(store: SqliteStore | None, calls: int, latency_s: float = LATENCY_S) -> Cost:
    """A call of a language model that takes `latency_s` seconds, on one store or none."""
    cost = Cost(0.0, 0.0)
    graph, lm = calling(calls), ScriptedLM({"": TEXT}, latency_s=latency_s)
    async with open_runtime(store=store, graphs=[graph], lm=lm) as runtime:
        for _ in range(2):  # the second counts
            began_s, used_s = perf_counter(), process_time()
            await runtime.run(graph, Turn(1, TEXT), run_id=None if store is None else f"r{next(_numbers)}")
            cost = Cost((perf_counter() - began_s) / calls * 1e6, (process_time() - used_s) / calls * 1e6)
    return cost


async def step_cost(store: SqliteStore, steps: int) -> Cost:
    """A step that lets others go first once, while :data:`CALLERS` other runs on the store call a language model."""
    graph, caller = giving_way(), calling(1_000_000)
    lm = ScriptedLM({"": TEXT}, latency_s=LATENCY_S)
    async with open_runtime(store=store, graphs=[graph, caller], lm=lm) as runtime:
        others = [await runtime.start(caller, Turn(1, TEXT), run_id=f"caller-{number}") for number in range(CALLERS)]
        began_s, used_s = perf_counter(), process_time()
        await runtime.run(graph, Turn(steps, TEXT), run_id="it")
        cost = Cost((perf_counter() - began_s) / steps * 1e6, (process_time() - used_s) / steps * 1e6)
        for other in others:
            await other.cancel()
    return cost


async def records_of_a_chain(path: Path, steps: int) -> Sequence[Record]:
    """What is recorded of one run of so many steps, but its end."""
    graph = chain()
    async with open_runtime(store=SqliteStore(path), graphs=[graph]) as runtime:
        await runtime.run(graph, Turn(steps, TEXT), run_id="it")
        records = (await runtime.history("it")).records
    return [record for record in records if record.kind is not RecordKind.OVER]


def resume_cost(records: Sequence[Record]) -> Cost:
    """Tell a new reducer all of them."""
    terrain = Terrain.of(chain())
    began_s, used_s = perf_counter(), process_time()
    back = restored("it", records, terrain, terrain.fingerprint, 0.0)
    cost = Cost((perf_counter() - began_s) / len(records) * 1e6, (process_time() - used_s) / len(records) * 1e6)
    if len(back.resumed.steps) < len(records) // 2:
        raise AssertionError("the run was not resumed where it was")
    return cost


def file_bytes(path: Path, records: Sequence[Record]) -> float:
    """What the file takes for each record, less its data; the store is closed, so its log is copied into it."""
    data = sum(len(record.data or b"") for record in records)
    return (os.stat(path).st_size - data) / len(records)


def sync_cost(place: Path, times: int) -> Cost:
    """One sync of one page: what each record of a call waits for."""
    file = os.open(place / "sync", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    began_s, used_s = perf_counter(), process_time()
    for _ in range(times):
        os.write(file, b"x" * 4096)
        os.fdatasync(file)
    cost = Cost((perf_counter() - began_s) / times * 1e6, (process_time() - used_s) / times * 1e6)
    os.close(file)
    return cost


def measured(passes: int, calls: int = CALLS, records: int = RECORDS) -> dict[str, Cost]:
    """By name: the best of the passes."""
    best: dict[str, Cost] = {}

    def note(name: str, cost: Cost) -> None:
        best[name] = cost if name not in best else best[name].or_less(cost)

    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        known = trio.run(records_of_a_chain, place / "chain.db", records)
        size = file_bytes(place / "chain.db", known)
        for number in range(passes):
            works: dict[str, Callable[[], Awaitable[Cost]]] = {
                BARE: lambda: call_cost(None, calls),
                STORED: lambda number=number: call_cost(SqliteStore(place / f"{number}.db"), calls),  # type: ignore[misc]
            }
            for name, work in works.items():
                note(name, trio.run(work))
            note(BESIDE, trio.run(step_cost, SqliteStore(place / f"beside {number}.db"), min(STEPS, records)))
            note(DISK, sync_cost(place, calls))
            note(RESUMING, resume_cost(known))
    best[FILE] = Cost(size, size)
    return best


def verdicts(best: Mapping[str, Cost]) -> Iterator[str]:
    """What became of each target. A call has two records, the last of which waits for one sync."""
    more = best[STORED].wall_us - best[BARE].wall_us - best[DISK].wall_us
    yield judged(f"a call: {more:.0f} µs more than without a store and one sync, at most {MORE_US}", more <= MORE_US)
    used = best[STORED].processor_us - best[BARE].processor_us
    yield judged(f"a call, processor: {used:.0f} µs more than without a store, at most {MORE_US}", used <= MORE_US)
    took = best[RESUMING].processor_us
    yield judged(f"resuming, a record: {took:.0f} µs, at most {RESUMING_US}", took <= RESUMING_US)
    size = best[FILE].wall_us
    yield judged(f"the file, a record: {size:.0f} bytes beside its data, at most {FILE_BYTES}", size <= FILE_BYTES)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.journal_costs", description=__doc__)
    parser.add_argument("--passes", type=int, default=5, help="the best of so many counts (default: 5)")
    parser.add_argument("--strict", action="store_true", help="exit with status 1 when a target is missed")
    options = parser.parse_args()
    print_line(f"best of {options.passes}; a call takes {LATENCY_S * 1e3:g} ms; {RECORDS:,} records\n")
    best = measured(options.passes)
    for name, cost in best.items():
        print_line(f"{name:45} {cost.wall_us:9.1f} wall {cost.processor_us:9.1f} processor")
    told = list(verdicts(best))
    for line in told:
        print_line(f"  {line}")
    return int(options.strict and any("MISSED" in line for line in told))


if __name__ == "__main__":
    sys.exit(main())
