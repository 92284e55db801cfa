"""Approval: a call of a tool that costs money waits until a person agrees, changes it, or explains the rejection."""

import attrs
import trio

from actors import Graph
from runtime import QuestionAsked, RunFinished, open_runtime
from runtime.tools import Refused, tool


@attrs.frozen
class Request:
    text: str


@attrs.frozen
class Report:
    text: str


@tool(approve=lambda nights: nights > 1, approve_s=86_400)
async def book_hotel(name: str, nights: int) -> str:
    """Book rooms in a hotel."""
    return f"booked {nights} nights at {name}"


graph = Graph("approval", input=Request, output=Report)


@graph.predict(tools=[book_hotel])
async def plan(request: Request) -> Report:
    """Plan the trip and book what it needs."""
    ...


async def main() -> None:
    message = Request("Three nights in Oslo, at the Grand.")
    async with open_runtime(lm="openai/gpt-4o-mini") as runtime, runtime.stream(graph, message) as events:
        async for event in events:
            if isinstance(event, QuestionAsked):
                nights = int(await trio.to_thread.run_sync(input, f"{event.asks}: how many nights? "))
                answer = attrs.evolve(event.asks, nights=nights) if nights else Refused("too expensive")
                await runtime.answer(event.question, answer, by="anna")
            elif isinstance(event, RunFinished):
                print(event.output)


if __name__ == "__main__":
    trio.run(main)
