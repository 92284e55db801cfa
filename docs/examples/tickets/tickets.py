"""Sort the tickets of a shop, by rules or by a language model: which is better? ``cases.jsonl`` has the right answers.

understudy evaluate tickets.py:rules --data cases.jsonl --metric tickets.py:right
"""

from typing import Literal

import attrs

from actors import Graph
from runtime.evaluate import Example, Score

Name = Literal["account", "billing", "delivery", "returns"]


@attrs.frozen
class Ticket:
    text: str
    channel: Literal["chat", "email"]


@attrs.frozen
class Topic:
    name: Name


WORDS: dict[str, Name] = {
    "refund": "returns",
    "return": "returns",
    "parcel": "delivery",
    "deliver": "delivery",
    "invoice": "billing",
    "charged": "billing",
    "password": "account",
    "log in": "account",
}

rules = Graph("tickets-by-rules", input=Ticket, output=Topic)
asked = Graph("tickets-by-model", input=Ticket, output=Topic)


@rules.node
async def look_for_words(ticket: Ticket) -> Topic:
    """The first word that is known decides."""
    text = ticket.text.lower()
    return Topic(next((name for word, name in WORDS.items() if word in text), "billing"))


@asked.predict
async def choose(ticket: Ticket) -> Topic:
    """Say what the customer's ticket is about."""
    raise NotImplementedError


def right(example: Example, output: Topic, trace: object) -> Score:
    """Whether the topic is the one that a person chose."""
    return Score(output.name == example.expected, reason=f"{output.name}, a person said {example.expected}")
