"""The study as a graph: a question in words becomes a Cypher query. Three extractors work at the same time and are merged."""

from __future__ import annotations

import json

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
    """The label's time properties that matter, each with its earliest date."""

    filters: dict[str, str]


@attrs.frozen
class OtherFilters:
    """Its other properties that matter, each with the value it must have."""

    filters: dict[str, str]


@attrs.frozen
class VectorQuery:
    """What to search by meaning."""

    query: str | None


@attrs.frozen
class QueryParameters:
    """What the query is asked with; a driver sends it beside the text."""

    label: str
    meaning: str | None
    since: dict[str, str]
    equal: dict[str, str]


@attrs.frozen
class Cypher:
    """The finished query."""

    text: str
    """One of the two constants below: nothing that a model has answered becomes a part of it."""
    parameters: QueryParameters


BY_LABEL = """
MATCH (n) WHERE $label IN labels(n)
AND all(name IN keys($since) WHERE n[name] >= $since[name]) AND all(name IN keys($equal) WHERE n[name] = $equal[name])
RETURN n
"""
BY_MEANING = """
CALL db.index.vector.queryNodes($label, 10, genai.vector.encode($meaning, 'OpenAI')) YIELD node AS n
WHERE all(name IN keys($since) WHERE n[name] >= $since[name]) AND all(name IN keys($equal) WHERE n[name] = $equal[name])
RETURN n
"""

graph = Graph("property-extraction", input=Intent, output=Cypher)
# One instance each: after a crash, the message waits for the restart of the very instance that it crashed.


@graph.predict(lm="time", concurrency=1)
async def time_filters(intent: Intent) -> TimeFilters:  # type: ignore[empty-body]  # the model fills it
    """Pick the label's time properties that the intent constrains, each with its earliest date."""
    ...


@graph.predict(lm="other", concurrency=1)
async def other_filters(intent: Intent) -> OtherFilters:  # type: ignore[empty-body]  # the model fills it
    """Pick the label's other properties that the intent constrains, each with the value that it must have."""
    ...


@graph.predict(module="ChainOfThought", lm="vector", concurrency=1)
async def vector_query(intent: Intent) -> VectorQuery:  # type: ignore[empty-body]  # the model fills it
    """Say what to search by meaning, or nothing."""
    ...


@graph.node
async def merge(intent: Intent, time: TimeFilters, other: OtherFilters, vector: VectorQuery) -> Cypher:
    """Put what the three extractors found into one query."""
    return cypher(intent, time.filters, other.filters, vector.query)


def cypher(intent: Intent, time: dict[str, str], other: dict[str, str], query: str | None) -> Cypher:
    """The query that the parts make."""
    return Cypher(BY_LABEL if query is None else BY_MEANING, QueryParameters(intent.label, query, since=time, equal=other))


def shown(query: Cypher) -> str:
    """The query and its parameters in one line, as a person reads them."""
    return f"{' '.join(query.text.split())} with {json.dumps(attrs.asdict(query.parameters), ensure_ascii=False)}"
