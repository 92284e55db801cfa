"""The graph that the embedding tests run, and what it saw."""

from __future__ import annotations

import contextvars

import attrs
import sniffio
import trio

from actors import Actor, Graph, Request

caller = contextvars.ContextVar("caller", default="nobody")


@attrs.frozen
class Order:
    """What a node is to do: ``"double"``, ``"wait"`` or ``"fail"``."""

    task: str
    number: int = 0


@attrs.frozen
class Answer:
    number: int
    library: str = ""


class Doubler(Actor):
    """Answers ``Double``; waits for ever at numbers below zero."""

    async def receive(self, message: Double) -> int:
        if message.number < 0:
            await trio.sleep_forever()
        return message.number * 2


@attrs.frozen
class Double(Request[int]):
    number: int


@attrs.define(eq=False)
class Stage:
    """A graph of one node and its log."""

    log: list[str] = attrs.field(factory=list)
    graph: Graph = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.graph = Graph("stage", input=Order, output=Answer)

        @self.graph.node
        async def work(order: Order) -> Answer:
            self.log.append(f"{order.task} began")
            if order.task == "fail":
                raise LookupError("no such order")
            try:
                if order.task == "wait":
                    await trio.sleep_forever()
            finally:
                with trio.CancelScope(shield=True):
                    await trio.sleep(0.02)
                self.log.append(f"{order.task} ended")
            return Answer(order.number * 2, sniffio.current_async_library())
