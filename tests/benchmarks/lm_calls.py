"""``python -m tests.benchmarks.lm_calls``: what a call to a language model costs its client, beside other clients.

The provider runs in a process of its own and answers after 50 ms. Per client, job and width (calls at once): CPU seconds of this
process per call, and the time of a round from its start to its last answer. Clients take turns, and the median of the rounds
counts. Below 30 at once a round is made of several, one after the other.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import importlib
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from time import perf_counter, process_time

import attrs
import trio

from runtime.testing.models.process import loopback_process
from tests.benchmarks.lm_graphs import memory_of_crowds, three_nodes
from tests.benchmarks.lm_storms import verdicts as storms
from tests.benchmarks.lm_works import JOBS, LATENCY_S, MODELS, SLOW_S, Job, LMPeer, Open
from tests.benchmarks.measuring import judged

MODULES = (
    *("h11_streams", "httpx_constant", "ours", "httpx_stock", "aiohttp_session", "openai_sdk", "litellm_acompletion"),
    "dspy_predict",
)
BASELINE, FLOOR, OURS, DSPY = "httpx, O(1) pool", "h11", "understudy", "dspy.Predict"
CALLS = 30
"""The fewest calls of a sample."""
CPU: Mapping[Job, float] = {"chat": 1.05, "stream": 1.3, "predict": 0.4}
"""At most so many times the CPU of the O(1) pool; of predict nodes DSPy's."""
CHAT_MAKESPAN = 1.3
"""At most so many times h11's time of a round, 100 at once."""
GRAPH_MAKESPAN, CROWD_GROWTH = 1.03, 1.05
"""At most so many times the longest of three calls, and the memory after an earlier crowd of a thousand."""


@attrs.frozen
class Sample:
    """One client's cost at one job and width."""

    cpu_s: float
    """Per call."""
    makespan_s: float
    """Of one round."""


Samples = Mapping[tuple[Job, int, str], Sample]


def load_all(left_out: Callable[[str, str], None], modules: Sequence[str] = MODULES) -> list[LMPeer]:
    """The clients of those `modules`; those whose library is not installed are told to `left_out`, with the reason."""
    peers: list[LMPeer] = []
    for module in modules:
        try:
            peers.append(importlib.import_module(f"tests.benchmarks.peers.lm.{module}").PEER)
        except ImportError as error:
            left_out(module, str(error))
    return peers


def measured(loop: str, opened: Open, base: str, width: int, calls: int) -> Sample:
    """One sample of one client, over `calls` calls or one round, whichever is more."""
    gc.collect()  # each pays for its own garbage only
    run = _on_trio if loop == "trio" else _on_asyncio
    return run(opened, base, width, max(1, calls // width))


def _on_trio(opened: Open, base: str, width: int, repeats: int) -> Sample:
    async def main() -> Sample:
        async with opened(base) as call:

            async def together() -> float:
                start_s = perf_counter()
                async with trio.open_nursery() as nursery:
                    for _ in range(width):
                        nursery.start_soon(call)
                return perf_counter() - start_s

            await together()  # connections are made beforehand
            cpu_s = process_time()
            spans = [await together() for _ in range(repeats)]
            return Sample((process_time() - cpu_s) / (width * repeats), statistics.median(spans))

    return trio.run(main)


def _on_asyncio(opened: Open, base: str, width: int, repeats: int) -> Sample:
    async def main() -> Sample:
        async with opened(base) as call:

            async def together() -> float:
                start_s = perf_counter()
                await asyncio.gather(*(call() for _ in range(width)))
                return perf_counter() - start_s

            await together()
            cpu_s = process_time()
            spans = [await together() for _ in range(repeats)]
            return Sample((process_time() - cpu_s) / (width * repeats), statistics.median(spans))

    return asyncio.run(main())


def warm_up(peers: list[LMPeer], base: str) -> None:
    """Have every client do every job once, and take what it has loaded out of the collector's sight.

    All clients share one process, whose libraries hold a million objects: each would pay for walking through those of the others.
    """
    for peer in peers:
        for opened in peer.jobs.values():
            measured(peer.loop, opened, base, 1, 1)
    gc.collect()
    gc.freeze()


def measure(peers: list[LMPeer], base: str, job: Job, width: int, rounds: int, calls: int = CALLS) -> dict[str, Sample]:
    """The medians of every client that does `job` at that width, by name."""
    able = [peer for peer in peers if job in peer.jobs and width <= peer.widest]
    samples: dict[str, list[Sample]] = {peer.name: [] for peer in able}
    for number in range(rounds):
        for peer in able:
            if number < peer.max_rounds:
                samples[peer.name].append(measured(peer.loop, peer.jobs[job], base, width, calls))
    return {
        name: Sample(statistics.median(one.cpu_s for one in each), statistics.median(one.makespan_s for one in each))
        for name, each in samples.items()
    }


def verdicts(samples: Samples) -> Iterator[str]:
    """What `samples` say about the targets, one line each."""
    for (job, width, name), ours in samples.items():
        if name != OURS:
            continue
        base = samples.get((job, width, DSPY if job == "predict" else BASELINE))
        limit = CPU[job]
        if base is not None:
            words = f"{job}, {width} at once: CPU {ours.cpu_s / base.cpu_s:.2f} × {DSPY if job == 'predict' else BASELINE}"
            yield judged(f"{words}, at most {limit:g}", ours.cpu_s <= limit * base.cpu_s)
        floor = samples.get((job, width, FLOOR))
        if floor is not None and (job, width) == ("chat", 100):
            words = f"{job}, {width} at once: time of a round {ours.makespan_s / floor.makespan_s:.2f} × {FLOOR}"
            yield judged(f"{words}, at most {CHAT_MAKESPAN:g}", ours.makespan_s <= CHAT_MAKESPAN * floor.makespan_s)


def table(job: Job, width: int, samples: Mapping[str, Sample]) -> str:
    """`samples` as text, in the order in which they were measured."""
    base = samples.get(DSPY if job == "predict" else BASELINE)
    lines = [f"{job}, {width} at once, {LATENCY_S * 1e3:g} ms each: CPU per call, time of a round"]
    for name, sample in samples.items():
        ratio = f"{sample.cpu_s / base.cpu_s:8.2f} ×" if base is not None else ""
        lines.append(f"  {name:<18}{sample.cpu_s * 1e3:9.2f} ms{ratio}{sample.makespan_s * 1e3:11.1f} ms")
    return "\n".join(lines)


def of_graphs(base: str, rounds: int) -> Iterator[str]:
    """The two measurements that have no peer, with their verdicts."""
    span_s = statistics.median(three_nodes(base) for _ in range(rounds))
    words = f"three nodes whose calls take {SLOW_S * 1e3:g} ms, then one that joins them: {span_s * 1e3:.1f} ms"
    yield judged(f"{words}, at most {GRAPH_MAKESPAN:g} × the longest call", span_s <= GRAPH_MAKESPAN * SLOW_S)
    early, late = memory_of_crowds(base)
    words = f"crowds of a thousand calls: {early / 2**20:.0f} MB after the 3rd, {late / 2**20:.0f} MB after the 12th"
    yield judged(f"{words}, at most {CROWD_GROWTH:g} ×", late <= CROWD_GROWTH * early)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.lm_calls", description="Language-model calls.")
    parser.add_argument("--jobs", nargs="+", choices=JOBS, default=list(JOBS), help="what is asked for (default: all)")
    parser.add_argument("--widths", type=int, nargs="+", default=[1, 3, 100, 1000], help="calls at once")
    parser.add_argument("--rounds", type=int, default=3, help="how often each client does each job (default: 3)")
    parser.add_argument("--strict", action="store_true", help="exit with status 1 when a target is missed")
    options = parser.parse_args()
    peers = load_all(lambda module, reason: _say(f"left out: {module}: {reason}"))
    for peer in peers:
        _say(
            *(
                f"left out: {peer.name} at {width}: quadratic in its connections"
                for width in options.widths
                if width > peer.widest
            )
        )
    samples: dict[tuple[Job, int, str], Sample] = {}
    with loopback_process(MODELS, latency_s=LATENCY_S) as provider:
        warm_up(peers, provider.api_base)
        for job in options.jobs:
            for width in options.widths:
                found = measure(peers, provider.api_base, job, width, options.rounds)
                samples |= {(job, width, name): sample for name, sample in found.items()}
                _say(table(job, width, found), "")
        said = [*verdicts(samples), *of_graphs(provider.api_base, options.rounds), *storms()]
    _say(*said)
    return 1 if options.strict and any("MISSED" in line for line in said) else 0


def _say(*lines: str) -> None:
    for line in lines:
        sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
