"""Evaluator and optimizer: one model writes, another judges, and what it says goes back until it is content."""

from typing import Annotated

import attrs
import trio

from actors import Graph, Recall
from runtime import open_runtime


@attrs.frozen
class Topic:
    name: str
    feedback: str | None = None


@attrs.frozen
class Joke:
    text: str


@attrs.frozen
class Grade:
    is_funny: bool
    feedback: str


@attrs.frozen
class Final:
    text: str


graph = Graph("evaluator-optimizer", input=Topic, output=Final)


@graph.predict
async def write(topic: Topic) -> Joke:
    """Write a joke about the topic; mind the feedback, if there is any."""
    ...


@graph.predict
async def evaluate(joke: Joke) -> Grade:
    """Grade the joke, and say how to better it."""
    ...


@graph.node
async def decide(grade: Grade, joke: Annotated[Joke, Recall()], topic: Annotated[Topic, Recall()]) -> Final | Topic:
    return Final(joke.text) if grade.is_funny else attrs.evolve(topic, feedback=grade.feedback)


async def main() -> None:
    async with open_runtime(lm="openai/gpt-4o-mini") as runtime:
        print(await runtime.run(graph, Topic("cats"), max_steps=12))


if __name__ == "__main__":
    trio.run(main)
