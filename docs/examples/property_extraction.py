import attrs
import trio

from actors import Graph
from runtime import open_runtime


@attrs.frozen
class Intent:
    text: str
    label: str
    now: str


@attrs.frozen
class TimeFilters:
    filters: dict[str, str]


@attrs.frozen
class OtherFilters:
    filters: dict[str, str]


@attrs.frozen
class VectorQuery:
    query: str | None


@attrs.frozen
class QueryParameters:
    label: str
    meaning: str | None
    since: dict[str, str]
    equal: dict[str, str]


@attrs.frozen
class Cypher:
    text: str
    parameters: QueryParameters


# What a model has answered is sent beside the query and never becomes a part of its text:
# session.run(cypher.text, attrs.asdict(cypher.parameters))
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


@graph.predict
async def time_filters(intent: Intent) -> TimeFilters:
    """Pick the label's time properties that the intent constrains, each with its earliest date."""
    ...


@graph.predict
async def other_filters(intent: Intent) -> OtherFilters:
    """Pick the label's other properties that the intent constrains, each with the value that it must have."""
    ...


@graph.predict(module="ChainOfThought", lm="large")
async def vector_query(intent: Intent) -> VectorQuery:
    """Say what to search by meaning, or nothing."""
    ...


@graph.node
async def merge(intent: Intent, time: TimeFilters, other: OtherFilters, vector: VectorQuery) -> Cypher:
    parameters = QueryParameters(intent.label, vector.query, since=time.filters, equal=other.filters)
    return Cypher(BY_LABEL if vector.query is None else BY_MEANING, parameters)


async def main() -> None:
    async with open_runtime(lm="openai/gpt-4o-mini", lms={"large": "anthropic/claude-sonnet-4-5"}) as runtime:
        print(await runtime.run(graph, Intent("ideas since last week about trio", "Idea", "2025-12-12")))


if __name__ == "__main__":
    trio.run(main)
