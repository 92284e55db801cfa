"""Reflection: a model criticises what it has written, and revises it as often as is asked for."""

from typing import Annotated

import attrs
import trio

from actors import Graph, Recall
from runtime import open_runtime

REVISIONS = 2


@attrs.frozen
class Assignment:
    topic: str
    critiques: list[str] = attrs.field(factory=list)


@attrs.frozen
class Essay:
    text: str


@attrs.frozen
class Critique:
    text: str


@attrs.frozen
class Final:
    text: str


graph = Graph("reflection", input=Assignment, output=Final)


@graph.predict
async def write(assignment: Assignment) -> Essay:
    """Write an essay of three paragraphs; answer every critique of your earlier attempts."""
    ...


@graph.node
async def hand_in(essay: Essay, assignment: Annotated[Assignment, Recall()]) -> Final | Essay:
    return Final(essay.text) if len(assignment.critiques) >= REVISIONS else essay


@graph.predict
async def reflect(essay: Essay) -> Critique:
    """Criticise the essay as a strict teacher: length, depth, style."""
    ...


@graph.node
async def revise(critique: Critique, assignment: Annotated[Assignment, Recall()]) -> Assignment:
    return attrs.evolve(assignment, critiques=[*assignment.critiques, critique.text])


graph.connect(write, hand_in)
graph.connect(hand_in, reflect)


async def main() -> None:
    async with open_runtime(lm="openai/gpt-4o-mini") as runtime:
        print(await runtime.run(graph, Assignment("The Little Prince today")))


if __name__ == "__main__":
    trio.run(main)
