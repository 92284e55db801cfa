"""Router: a model chooses who answers by choosing a type; the types are the edges."""

import attrs
import trio

from actors import Graph
from runtime import open_runtime


@attrs.frozen
class Request:
    text: str


@attrs.frozen
class Billing:
    """About invoices and payments."""

    account: str


@attrs.frozen
class Technical:
    """About something that does not work."""

    symptom: str


@attrs.frozen
class Reply:
    text: str


graph = Graph("router", input=Request, output=Reply)


@graph.predict
async def route(request: Request) -> Billing | Technical:
    """Find out what the customer's request is about."""
    ...


@graph.node
async def bill(billing: Billing) -> Reply:
    return Reply(f"The account {billing.account} owes nothing.")


@graph.predict
async def mend(technical: Technical) -> Reply:
    """Say in two sentences what the customer can try."""
    ...


async def main() -> None:
    async with open_runtime(lm="openai/gpt-4o-mini") as runtime:
        print(await runtime.run(graph, Request("My screen stays black.")))


if __name__ == "__main__":
    trio.run(main)
