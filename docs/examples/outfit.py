"""What shall I wear today? Message classes that are nodes: a language model chooses among their return types and fills them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import attrs
import trio

from actors import Dep, Graph, Recall
from runtime import open_runtime

DATA = Path(__file__).parent / "outfit"


@attrs.frozen
class Location:
    city: str


@attrs.frozen
class Weather:
    degrees: int
    sky: str


@attrs.frozen
class Event:
    at: str
    what: str


async def location() -> Location:
    found = json.loads(await trio.Path(DATA / "location.json").read_text())
    return Location(found["city"])


async def weather(where: Annotated[Location, Dep(location)]) -> Weather:
    found = json.loads(await trio.Path(DATA / "weather.json").read_text())
    return Weather(**found[where.city])


async def calendar() -> list[Event]:
    found = json.loads(await trio.Path(DATA / "calendar.json").read_text())
    return [Event(**event) for event in found]


@attrs.frozen
class Request:
    text: str

    async def __call__(self, events: Annotated[list[Event], Dep(calendar)]) -> Day | Reply:
        """Does the user ask what to wear? Then say what their day asks for; else answer them."""
        ...


@attrs.frozen
class Day:
    """What the day asks for."""

    formality: str
    activities: list[str]

    async def __call__(self, weather: Annotated[Weather, Dep(weather)]) -> Look:
        """Find a look for this day in this weather."""
        ...


@attrs.frozen
class Look:
    style: str
    layers: int

    async def __call__(self, request: Annotated[Request, Recall()], weather: Annotated[Weather, Dep(weather)]) -> Outfit:
        """Recommend an outfit in this style; mind what the user asked for."""
        ...


@attrs.frozen
class Outfit:
    """The recommendation."""

    pieces: list[str]
    why: str


@attrs.frozen
class Reply:
    """An answer to anything else."""

    text: str


graph = Graph("outfit", input=Request, output=Outfit | Reply)
for node in (Request, Day, Look):
    graph.predict(node)


async def main() -> None:
    async with open_runtime(lm="openai/gpt-4o-mini") as runtime:
        print(await runtime.run(graph, Request("What shall I wear? No jeans, please.")))


if __name__ == "__main__":
    trio.run(main)
