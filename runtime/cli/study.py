"""The study that the demo repeats: three extractors, and the latencies of its log. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, final

import attrs

from runtime.testing.models.answers import field_answer
from runtime.testing.models.provider_script import Failure, ModelScript

FAST: Final = 0.1
"""``--fast`` multiplies every latency by this."""
WARM_UP_LATENCY_S: Final = 0.01


@final
@attrs.frozen
class Extractor:
    """One of the three language-model calls."""

    name: str
    """Of its model too: each has its own latency."""
    node: str
    """Its node in ``runtime.cli.demo_graph``."""
    latency_s: float
    """What the log says between two responses."""
    answer: str
    """What the loopback provider says for it, in DSPy's field format."""


EXTRACTORS: Final = (
    Extractor(
        "time",
        "time_filters",
        0.726,
        field_answer(filters={"created_at": "2025-12-01"}),
    ),
    Extractor("other", "other_filters", 1.125, field_answer(filters={"status": "open"})),
    Extractor(
        "vector",
        "vector_query",
        1.153,
        field_answer(reasoning="What the ideas are about is a matter of meaning.", query="structured concurrency"),
    ),
)
OVERLAPPING: Final = len(EXTRACTORS)
"""Requests in flight when no call waits for another."""

TEXT: Final = "open ideas since last week about structured concurrency"
LABEL: Final = "Idea"
NOW: Final = "2025-12-12"


def sequence_s() -> float:
    """One call after another."""
    return sum(extractor.latency_s for extractor in EXTRACTORS)


def scripts(scale: float) -> Mapping[str, ModelScript]:
    """What each model of the loopback provider does, its latency multiplied by `scale`."""
    return {each.name: ModelScript(each.answer, latency_s=each.latency_s * scale) for each in EXTRACTORS}


def warm_up_scripts() -> Mapping[str, ModelScript]:
    """The same answers, almost immediately."""
    return {each.name: ModelScript(each.answer, latency_s=WARM_UP_LATENCY_S) for each in EXTRACTORS}


def failing_scripts(scale: float, name: str) -> Mapping[str, ModelScript]:
    """The same as :func:`scripts`, but the first call of the extractor `name` is answered with a 500, half-way."""
    made = dict(scripts(scale))
    latency_s = made[name].latency_s or 0.0
    failure = Failure.status(500, message="The model is overloaded.", after_s=latency_s / 2)
    return {**made, name: attrs.evolve(made[name], failures=[failure])}
