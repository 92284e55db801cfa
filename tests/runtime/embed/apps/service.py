"""What the served applications have in common: the example graph, a small one, and a census of what the process holds."""

from __future__ import annotations

import gc
import os
import sys
import threading
from pathlib import Path
from typing import Any

import attrs
import trio

from actors import Graph
from runtime.embed.asgi import UnderstudyLifespan, understudy_lifespan
from runtime.lm import LMClient
from runtime.testing import field_answer

sys.path.insert(0, str(Path(__file__).resolve().parents[4] / "docs" / "examples"))

from property_extraction import BY_MEANING, Cypher, Intent, graph  # type: ignore[import-not-found]

EXAMPLE: Graph = graph
MODELS = {"small": field_answer(filters={"open": "yes"}), "large": field_answer(reasoning="none needed", query="trio")}
"""What the provider's models say to the example graph."""
RATING = field_answer(stars=4)
"""What the model ``rater`` says."""
CYPHER = " ".join(BY_MEANING.split())
"""The output to :data:`INTENT` then."""
INTENT = {"text": "open ideas", "label": "Idea", "now": "2025-12-12"}


@attrs.frozen
class Pause:
    seconds: float


@attrs.frozen
class Paused:
    seconds: float


pausing: list[Pause] = []
"""Those under way."""

pauses = Graph("pauses", input=Pause, output=Paused)


@pauses.node(concurrency=1000)
async def pause(order: Pause) -> Paused:
    pausing.append(order)
    await trio.sleep(order.seconds)
    pausing.remove(order)
    return Paused(order.seconds)


@attrs.frozen
class Review:
    text: str


@attrs.frozen
class Verdict:
    stars: int


ratings = Graph("ratings", input=Review, output=Verdict)


@ratings.predict(lm="rater")
async def rate(review: Review) -> Verdict:  # type: ignore[empty-body]
    """Say how many of five stars the review would give."""
    ...


def lifespan() -> UnderstudyLifespan:
    """A runtime whose models are those of the loopback provider in ``PROVIDER``."""
    base = os.environ["PROVIDER"]
    small, large, rater = (LMClient(f"openai/{name}", api_key="none", api_base=base) for name in ("small", "large", "rater"))
    return understudy_lifespan(lm=small, lms={"large": large, "rater": rater}).with_grace(float(os.environ.get("GRACE_S", "10")))


def intent(body: Any) -> Intent:
    return Intent(**body)


def cypher(output: Cypher) -> dict[str, str]:
    return {"cypher": " ".join(output.text.split())}


def census() -> dict[str, int]:
    """What would grow if requests left something behind."""
    gc.collect()
    with open("/proc/self/statm", encoding="ascii") as statm:
        resident = int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    threads = sum(not thread.name.startswith("Trio") for thread in threading.enumerate())
    return {"pausing": len(pausing), "fds": len(os.listdir("/proc/self/fd")), "threads": threads, "resident": resident}
