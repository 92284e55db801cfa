"""Supervisor with hand-offs: one model decides who works next, specialists report back, until there is an answer."""

from typing import Annotated

import attrs
import trio

from actors import Graph, Recall
from runtime import open_runtime


@attrs.frozen
class Task:
    text: str
    notes: list[str] = attrs.field(factory=list)


@attrs.frozen
class Research:
    """Hand over to the researcher, who can search."""

    what: str


@attrs.frozen
class Compute:
    """Hand over to the mathematician, who can calculate."""

    what: str


@attrs.frozen
class Finding:
    text: str


@attrs.frozen
class Answer:
    text: str


async def search(query: str) -> str:
    """Search the web."""
    return "Oslo has 717,710 people, Bergen 291,940." if "Oslo" in query else "Nothing was found."


async def add(numbers: list[float]) -> float:
    """Add numbers."""
    return sum(numbers)


graph = Graph("supervisor", input=Task, output=Answer)


@graph.predict(lm="large")
async def supervise(task: Task) -> Research | Compute | Answer:
    """Decide what the task needs next, given the notes of the specialists; answer when they suffice."""
    ...


@graph.predict(tools=[search])
async def research(job: Research) -> Finding:
    """Find out what is asked for."""
    ...


@graph.predict(tools=[add])
async def compute(job: Compute) -> Finding:
    """Calculate what is asked for."""
    ...


@graph.node
async def report(finding: Finding, task: Annotated[Task, Recall()]) -> Task:
    return attrs.evolve(task, notes=[*task.notes, finding.text])


async def main() -> None:
    async with open_runtime(lm="openai/gpt-4o-mini", lms={"large": "openai/gpt-4o"}) as runtime:
        print(await runtime.run(graph, Task("How many people live in Oslo and Bergen together?"), max_steps=20))


if __name__ == "__main__":
    trio.run(main)
