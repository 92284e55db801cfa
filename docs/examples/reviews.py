import attrs
import trio

from actors import Graph
from runtime import open_runtime


@attrs.frozen
class Review:
    text: str


@attrs.frozen
class Mood:
    word: str


@attrs.frozen
class Claims:
    facts: list[str]


@attrs.frozen
class Reply:
    text: str


graph = Graph("reviews", input=Review, output=Reply)


@graph.predict
async def mood(review: Review) -> Mood:
    """Name the writer's mood in one word."""
    ...


@graph.predict
async def claims(review: Review) -> Claims:
    """List what the review claims to have happened."""
    ...


@graph.predict
async def reply(mood: Mood, claims: Claims) -> Reply:
    """Answer the writer in three sentences, and address each claim."""
    ...


async def main() -> None:
    async with open_runtime(lm="openai/gpt-4o-mini") as runtime:
        print(await runtime.run(graph, Review("The tea came cold, twice.")))


if __name__ == "__main__":
    trio.run(main)
