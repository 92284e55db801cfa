"""What becomes of the study's claims, in view of what was measured just now. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, final

import attrs

from runtime.cli import study
from runtime.cli.timeline import Timeline

HOLDS: Final = "holds"
WRONG: Final = "wrong"
UNSUPPORTED: Final = "unsupported"
OVERLAPPING: Final = 3


@final
@attrs.frozen
class Claim:
    """One claim of the document."""

    number: str
    says: str
    verdict: str
    """``"holds"``, ``"wrong"`` or ``"unsupported"``."""
    because: str


def summary(runs: Mapping[str, Timeline]) -> str:
    """What the measurements say in short; they could be otherwise on a machine that is busy."""
    if runs["c"].most_in_flight >= OVERLAPPING and runs["b"].most_in_flight == 1:
        return (
            "Synchronous clients in threads do not serialise; synchronous calls in async functions do. The staircase in the "
            "study's log is when the responses came, not when the requests went out."
        )
    return "On this machine the measurements do not tell the variants apart; run the demo again when it is idle."


def judge(runs: Mapping[str, Timeline]) -> list[Claim]:
    """The thirteen claims. What can be measured is judged by `runs` (``"a"`` to ``"d"``), the rest by reading."""
    return [*_about_threads(runs["b"], runs["c"]), *_about_async(runs["d"])]


def _about_threads(blocking: Timeline, threads: Timeline) -> list[Claim]:
    calls = f"(c) had {_requests(threads.most_in_flight)} in flight and took {threads.ratio:.2f} × the longest call"
    arrivals = [span.arrived_s for span in threads.spans if span.arrived_s is not None]
    apart_ms = (max(arrivals) - min(arrivals)) * 1000 if arrivals else 0.0
    replies = ", ".join(f"{span.replied_s:.3f}" for span in threads.spans if span.replied_s is not None)
    refuted = WRONG if threads.most_in_flight >= OVERLAPPING else HOLDS
    return [
        Claim("C1", "LangGraph runs the synchronous nodes of one step in threads.", HOLDS, "By its source; not run here."),
        Claim("C2", "Synchronous DSPy calls in threads run one after another.", refuted, f"{calls}."),
        Claim(
            "C3",
            "A synchronous httpx client lets one request through at a time.",
            refuted,
            "It has up to 100 connections; its lock covers the bookkeeping only.",
        ),
        Claim(
            "C4",
            "Each thread waits for the request of the one before.",
            refuted,
            f"The three requests of (c) arrived within {apart_ms:.0f} ms. What does make them wait is (b): "
            f"{_requests(blocking.most_in_flight)} in flight at most, {blocking.ratio:.2f} × the longest call.",
        ),
        Claim(
            "C5",
            "The staircase in the log shows requests one after another.",
            refuted,
            f"httpx logs a request when its response comes: (c) logs {replies}.",
        ),
        Claim("C6", "The GIL is not the cause.", HOLDS, "A thread that reads from a socket has released it."),
    ]


def _about_async(plain: Timeline) -> list[Claim]:
    return [
        Claim(
            "C7",
            "Nodes that sleep overlap, nodes that call DSPy do not.",
            WRONG,
            "time.sleep() blocks a thread as a socket does: its own test refutes it.",
        ),
        Claim(
            "C8",
            "DSPy can be awaited: acall().",
            HOLDS if plain.most_in_flight >= OVERLAPPING else WRONG,
            f"(d) had {_requests(plain.most_in_flight)} in flight.",
        ),
        Claim("C9", "LangGraph refuses async nodes under invoke().", HOLDS, "By its source; not run here."),
        Claim("C10", "Made async, the threads yield control.", WRONG, "Coroutines yield; threads overlap without, as (c) shows."),
        Claim(
            "C11",
            f"Async brings {study.OVERHEAD_S + study.sequence_s():.3f} s down to {study.PREDICTED_S:.3f} s.",
            UNSUPPORTED,
            "See its own times below. Threads that overlap already gain nothing.",
        ),
        Claim(
            "C12",
            "Await self.lm.aforward() in a module.",
            WRONG,
            "That bypasses adapter, cache and history; await self.predict.acall(…).",
        ),
        Claim(
            "C13",
            "Give each extractor its own lm.",
            HOLDS,
            "It works. dspy.context(lm=…) does it per task, as in (a) to (d).",
        ),
    ]


def _requests(count: int) -> str:
    return "1 request" if count == 1 else f"{count} requests"
