"""Long document: it is cut into pieces, which are summed up at the same time, and the summaries are summed up."""

import attrs
import trio

from actors import Graph
from runtime import open_runtime

PIECE = 2_000


@attrs.frozen
class Document:
    text: str


@attrs.frozen
class Piece:
    text: str


@attrs.frozen
class Note:
    text: str


@attrs.frozen
class Summary:
    text: str


graph = Graph("long-document", input=Document, output=Summary)


@graph.node
async def cut(document: Document) -> list[Piece]:
    return [Piece(document.text[at : at + PIECE]) for at in range(0, len(document.text), PIECE)]


@graph.predict(concurrency=8)
async def note(piece: Piece) -> Note:
    """Note in two sentences what this piece of a document says."""
    ...


@graph.predict(lm="large")
async def sum_up(notes: list[Note]) -> Summary:
    """Sum up the document that these notes were made of, in their order."""
    ...


async def main() -> None:
    async with open_runtime(lm="openai/gpt-4o-mini", lms={"large": "openai/gpt-4o"}) as runtime:
        print(await runtime.run(graph, Document("All happy families are alike. " * 1_000)))


if __name__ == "__main__":
    trio.run(main)
