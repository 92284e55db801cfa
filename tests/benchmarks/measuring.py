"""Runs the works of all peers in turn, so that what else the machine does meets all of them alike."""

from __future__ import annotations

import gc
import importlib
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import final

import attrs

from tests.benchmarks.works import Peer, Work

ROOT = Path(__file__).resolve().parent.parent.parent
BASELINE, OURS = "trio", "understudy"
MODULES = (
    *("raw_trio", "trio_nowait", "ours", "asyncio_queues", "pykka_threads", "thespian_simple", "autogen_agents"),
    *("trio_graph", "trio_nursery", "ours_graph", "pydantic_graph_steps", "pydantic_graph_nodes", "burr_graph"),
    *("langgraph_graph", "llama_workflows"),
)


@final
@attrs.frozen
class Measured:
    """The results of one peer at one work: microseconds, or kilobytes, per operation."""

    peer: str
    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle one."""
        return statistics.median(self.values)


def load(module: str) -> Peer:
    """The peer of that module; raises ``ImportError`` where its library is not installed."""
    peer: Peer = importlib.import_module(f"tests.benchmarks.peers.{module}").PEER
    return peer


def load_all(left_out: Callable[[str, str], None]) -> dict[str, Peer]:
    """The peers by module; the others are told to `left_out`, with the reason."""
    peers: dict[str, Peer] = {}
    for module in MODULES:
        try:
            peers[module] = load(module)
        except ImportError as error:
            left_out(module, str(error))
    return peers


def measure(work: Work, peers: dict[str, Peer], rounds: int, scale: float = 1.0) -> list[Measured]:
    """Every peer that can do `work`, `rounds` times, in turns: A B C A B C …"""
    able = {module: peer for module, peer in peers.items() if work.name in peer.run}
    values: dict[str, list[float]] = {module: [] for module in able}
    for _ in range(1 if work.weighs else rounds):
        for module, peer in able.items():
            size = int(work.size * scale)
            if work.weighs:
                values[module].append(_weigh(module, work, int(min(size, peer.max_idle))))
            else:
                values[module].append(_time(peer, work, work.size if work.is_whole else max(10, int(size * peer.share))))
    return [Measured(peer.name, tuple(values[module])) for module, peer in able.items()]


def _time(peer: Peer, work: Work, size: int) -> float:
    gc.collect()  # each pays for its own garbage only
    return peer.run[work.name](size) / size * 1e6


def _weigh(module: str, work: Work, size: int) -> float:
    """In a process of its own: memory that one peer has touched is not given back for the next."""
    command = [sys.executable, "-m", "tests.benchmarks.weighing", module, work.name, str(size)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return float(run.stdout) / size / 1024


def verdict(work: Work, results: Sequence[Measured]) -> Iterable[str]:
    """What `results` say about the targets of `work`, one line each."""
    by_name = {result.peer: result for result in results}
    ours, base = by_name.get(OURS), by_name.get(BASELINE)
    if ours is None:
        return
    if work.max_kb is not None:
        yield judged(f"at most {work.max_kb:g} KB each", ours.median <= work.max_kb)
    if work.target is not None and base is not None:
        yield judged(f"at most {work.target:g} × {BASELINE}", ours.median <= work.target * base.median)
    if work.ahead_of is not None and work.ahead_of in by_name:
        yield judged(f"ahead of {work.ahead_of}", ours.median < by_name[work.ahead_of].median)
    others = [result for result in results if result.peer != OURS and not result.peer.startswith(BASELINE)]
    if work.ahead_of_all and others:
        first = min(others, key=lambda other: other.median)
        yield judged(f"ahead of every other library, {first.peer} the fastest", ours.median < first.median)


def judged(target: str, met: bool) -> str:
    return f"target: {target}: {'met' if met else 'MISSED'}"


def table(work: Work, results: Sequence[Measured]) -> str:
    """`results` as text, in the order in which they were measured."""
    base = next((result.median for result in results if result.peer == BASELINE), None)
    lines = [f"{work.name}: {'KB' if work.weighs else 'µs'} per {work.per}"]
    for result in results:
        ratio = f"{result.median / base:9.2f} ×" if base else ""
        low, high = min(result.values), max(result.values)
        spread = f"   ({low:.2f} to {high:.2f})" if len(result.values) > 1 else ""
        lines.append(f"  {result.peer:<18}{result.median:10.2f}{ratio}{spread}")
    return "\n".join([*lines, *(f"  {line}" for line in verdict(work, results))])
