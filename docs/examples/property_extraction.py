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
    filters: list[str]


@attrs.frozen
class OtherFilters:
    filters: list[str]


@attrs.frozen
class VectorQuery:
    query: str | None


@attrs.frozen
class Cypher:
    text: str


graph = Graph("property-extraction", input=Intent, output=Cypher)


@graph.predict
async def time_filters(intent: Intent) -> TimeFilters:
    """Pick the label's time properties that the intent constrains, with their bounds, as Cypher conditions on n."""
    ...


@graph.predict
async def other_filters(intent: Intent) -> OtherFilters:
    """Pick the label's other properties that the intent constrains, as Cypher conditions on n."""
    ...


@graph.predict(module="ChainOfThought", lm="large")
async def vector_query(intent: Intent) -> VectorQuery:
    """Say what to search by meaning, or nothing."""
    ...


@graph.node
async def merge(intent: Intent, time: TimeFilters, other: OtherFilters, vector: VectorQuery) -> Cypher:
    found = f"MATCH (n:{intent.label})"
    if vector.query is not None:
        embedding = f"genai.vector.encode({vector.query!r}, 'OpenAI')"
        found = f"CALL db.index.vector.queryNodes('{intent.label}', 10, {embedding}) YIELD node AS n"
    conditions = " AND ".join([*time.filters, *other.filters])
    return Cypher(f"{found} {f'WITH n WHERE {conditions} ' if conditions else ''}RETURN n")


async def main() -> None:
    async with open_runtime(lm="openai/gpt-4o-mini", lms={"large": "anthropic/claude-sonnet-4-5"}) as runtime:
        print(await runtime.run(graph, Intent("ideas from last week about trio", "Idea", "2025-12-12")))


if __name__ == "__main__":
    trio.run(main)
