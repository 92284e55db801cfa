"""What is placed to be measured, in a module that hosts import by its name."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

import attrs

from actors import Actor, Gather, Graph

CROWD = 256


@attrs.frozen
class Question:
    number: int


class PlacedEcho(Actor[Question]):
    async def receive(self, message: Question) -> Question:
        return message


@attrs.frozen
class Many:
    size: int


@attrs.frozen
class Sum:
    of: int


graph = Graph("placed", input=Many, output=Sum)


@graph.node
async def spread(many: Many) -> AsyncIterator[Question]:
    for number in range(many.size):
        yield Question(number)


@attrs.frozen
class Answer:
    number: int


@graph.node(place="far", concurrency=CROWD)
async def echo(question: Question) -> Answer:
    return Answer(question.number)


@graph.node
async def add(answers: Annotated[list[Answer], Gather()]) -> Sum:
    return Sum(sum(answer.number for answer in answers))
