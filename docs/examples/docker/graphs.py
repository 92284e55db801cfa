"""What the image serves: put your own graphs here."""

import attrs

from actors import Graph


@attrs.frozen
class Order:
    """Sends the letter of an order, once a person has looked at it."""

    number: int


@attrs.frozen
class Draft:
    text: str


@attrs.frozen
class Approved:
    by: str


@attrs.frozen
class Sent:
    text: str


graph = Graph("letters", input=Order, output=Sent)


@graph.node
async def write(order: Order) -> Draft:
    return Draft(f"Dear customer, order {order.number} is on its way.")


@graph.human
async def approve(draft: Draft) -> Approved:
    """May this letter be sent?"""
    raise NotImplementedError


@graph.node
async def send(approved: Approved) -> Sent:
    return Sent(f"sent, approved by {approved.by}")
