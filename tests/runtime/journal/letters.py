"""A graph of three steps, in a module of its own: what a program's main module declares has another name in every program."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import attrs

from actors import Graph


@attrs.frozen
class Order:
    number: int


@attrs.frozen
class Draft:
    text: str


@attrs.frozen
class Checked:
    text: str


@attrs.frozen
class Sent:
    text: str


def letters(begun: Callable[[str], object], work: Callable[[], Awaitable[object]]) -> Graph[Order, Sent]:
    """Three steps, each of which says ``order step`` when it begins and then does `work`."""
    graph = Graph("letters", input=Order, output=Sent)

    @graph.node
    async def write(order: Order) -> Draft:
        begun(f"order-{order.number} write")
        await work()
        return Draft(f"order-{order.number}")

    @graph.node
    async def check(draft: Draft) -> Checked:
        begun(f"{draft.text} check")
        await work()
        return Checked(draft.text)

    @graph.node
    async def send(checked: Checked) -> Sent:
        begun(f"{checked.text} send")
        await work()
        return Sent(checked.text)

    return graph
