"""ReAct: a model reasons and calls tools by turns until it can answer."""

import attrs
import trio

from actors import Graph
from runtime import open_runtime


@attrs.frozen
class Question:
    text: str


@attrs.frozen
class Answer:
    text: str


async def weather(city: str) -> str:
    """Look up the weather of a city."""
    return {"Oslo": "4 degrees, rain", "Rome": "19 degrees, sun"}.get(city, "unknown")


async def multiply(one: float, other: float) -> float:
    """Multiply two numbers."""
    return one * other


graph = Graph("react", input=Question, output=Answer)


@graph.predict(tools=[weather, multiply])
async def answer(question: Question) -> Answer:
    """Answer the question. Look up what you do not know, and never calculate in your head."""
    ...


async def main() -> None:
    async with open_runtime(lm="openai/gpt-4o-mini") as runtime:
        print(await runtime.run(graph, Question("How warm is it in Oslo, times three?")))


if __name__ == "__main__":
    trio.run(main)
