"""Subgraph reuse: one graph is a node of another, and a tool of an agent."""

import attrs
import trio

from actors import Graph
from runtime import open_runtime
from runtime.tools import tool


@attrs.frozen
class Text:
    text: str
    language: str


@attrs.frozen
class Translation:
    text: str


translating = Graph("translate", input=Text, output=Translation)


@translating.predict
async def translate(text: Text) -> Translation:
    """Translate the text into the language."""
    ...


@attrs.frozen
class Article:
    text: str


@attrs.frozen
class Published:
    text: str


publishing = Graph("publish", input=Article, output=Published)
publishing.add(translating)


@publishing.node
async def prepare(article: Article) -> Text:
    return Text(article.text, "French")


@publishing.node
async def publish(translation: Translation) -> Published:
    return Published(translation.text)


@attrs.frozen
class Question:
    text: str


@attrs.frozen
class Answer:
    text: str


helping = Graph("help", input=Question, output=Answer)


@helping.predict(tools=[tool(translating, description="Translate a text.")])
async def answer(question: Question) -> Answer:
    """Answer; have translated what you are to translate."""
    ...


async def main() -> None:
    async with open_runtime(lm="openai/gpt-4o-mini") as runtime:
        print(await runtime.run(publishing, Article("Good morning.")))
        print(await runtime.run(helping, Question("What is 'good morning' in French?")))


if __name__ == "__main__":
    trio.run(main)
