"""The study as a graph: a question in words becomes a Cypher query. Three extractors work at the same time and are merged."""

from __future__ import annotations

import attrs

from actors.graphs.graph import Graph


@attrs.frozen
class Intent:
    """What somebody wants to find."""

    text: str
    label: str
    """The node label to search."""
    now: str
    """Today, as an ISO date."""


@attrs.frozen
class TimeFilters:
    """Cypher conditions on the label's time properties."""

    filters: list[str]


@attrs.frozen
class OtherFilters:
    """Cypher conditions on its other properties."""

    filters: list[str]


@attrs.frozen
class VectorQuery:
    """What to search by meaning."""

    query: str | None


@attrs.frozen
class Cypher:
    """The finished query."""

    text: str


graph = Graph("property-extraction", input=Intent, output=Cypher)
# One instance each: after a crash, the message waits for the restart of the very instance that it crashed.


@graph.predict(lm="time", concurrency=1)
async def time_filters(intent: Intent) -> TimeFilters:  # type: ignore[empty-body]  # the model fills it
    """Pick the label's time properties that the intent constrains, with their bounds, as Cypher conditions on n."""
    ...


@graph.predict(lm="other", concurrency=1)
async def other_filters(intent: Intent) -> OtherFilters:  # type: ignore[empty-body]  # the model fills it
    """Pick the label's other properties that the intent constrains, as Cypher conditions on n."""
    ...


@graph.predict(module="ChainOfThought", lm="vector", concurrency=1)
async def vector_query(intent: Intent) -> VectorQuery:  # type: ignore[empty-body]  # the model fills it
    """Say what to search by meaning, or nothing."""
    ...


@graph.node
async def merge(intent: Intent, time: TimeFilters, other: OtherFilters, vector: VectorQuery) -> Cypher:
    """Put what the three extractors found into one query."""
    return cypher(intent, time.filters, other.filters, vector.query)


def cypher(intent: Intent, time: list[str], other: list[str], query: str | None) -> Cypher:
    """The query that the parts make."""
    found = f"MATCH (n:{intent.label})"
    if query is not None:
        embedding = f"genai.vector.encode({query!r}, 'OpenAI')"
        found = f"CALL db.index.vector.queryNodes('{intent.label}', 10, {embedding}) YIELD node AS n"
    conditions = " AND ".join([*time, *other])
    return Cypher(f"{found} {f'WITH n WHERE {conditions} ' if conditions else ''}RETURN n")
