"""Agentic RAG: a model searches as often as it needs, a second one judges the draft, and a poor one is written again."""

from typing import Annotated

import attrs
import trio

from actors import Graph, Recall
from runtime import open_runtime

PASSAGES = (
    "A nursery waits for all of its tasks.",
    "A cancel scope bounds the time of what runs within.",
    "A channel hands values from one task to another.",
)


@attrs.frozen
class Question:
    text: str


@attrs.frozen
class Draft:
    text: str
    sources: list[str]


@attrs.frozen
class Verdict:
    is_supported: bool
    better_question: str


@attrs.frozen
class Answer:
    text: str
    sources: list[str]


async def retrieve(words: list[str], limit: int = 2) -> list[str]:
    """Search the handbook.

    Args:
        words: single words, any of which may occur
        limit: how many passages to give at most
    """
    found = [passage for passage in PASSAGES if any(word.lower() in passage.lower() for word in words)]
    return found[:limit]


graph = Graph("agentic-rag", input=Question, output=Answer)


@graph.predict(tools=[retrieve])
async def answer(question: Question) -> Draft:
    """Answer from the handbook alone, and quote the passages that you used."""
    ...


@graph.predict
async def grade(draft: Draft, question: Annotated[Question, Recall()]) -> Verdict:
    """Say whether the sources support the draft; if they do not, ask the question in better words."""
    ...


@graph.node
async def decide(verdict: Verdict, draft: Annotated[Draft, Recall()]) -> Answer | Question:
    return Answer(draft.text, draft.sources) if verdict.is_supported else Question(verdict.better_question)


async def main() -> None:
    async with open_runtime(lm="openai/gpt-4o-mini") as runtime:
        print(await runtime.run(graph, Question("What waits for tasks?"), max_steps=12))


if __name__ == "__main__":
    trio.run(main)
