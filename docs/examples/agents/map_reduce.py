"""Map-reduce: as many model calls at the same time as there are subjects, then one that chooses."""

import attrs
import trio

from actors import Graph
from runtime import open_runtime


@attrs.frozen
class Topic:
    name: str


@attrs.frozen
class Subjects:
    names: list[str]


@attrs.frozen
class Subject:
    name: str


@attrs.frozen
class Joke:
    text: str


@attrs.frozen
class Best:
    text: str


graph = Graph("map-reduce", input=Topic, output=Best)


@graph.predict
async def subjects(topic: Topic) -> Subjects:
    """Name three subjects of the topic."""
    ...


@graph.node
async def each(subjects: Subjects) -> list[Subject]:
    return [Subject(name) for name in subjects.names]


@graph.predict
async def tell(subject: Subject) -> Joke:
    """Tell a joke about the subject."""
    ...


@graph.predict
async def choose(jokes: list[Joke]) -> Best:
    """Repeat the best of these jokes."""
    ...


async def main() -> None:
    async with open_runtime(lm="openai/gpt-4o-mini") as runtime:
        print(await runtime.run(graph, Topic("animals")))


if __name__ == "__main__":
    trio.run(main)
