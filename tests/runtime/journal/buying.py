"""A program that buys two answers in one node and kills itself after the first: ``… FILE ADDRESS NOTES``."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import attrs
import trio

from actors import LM, Graph, Run
from runtime import open_runtime
from runtime.lm.client import LMClient


@attrs.frozen
class Order:
    number: int


@attrs.frozen
class Sent:
    text: str


graph = Graph("buying", input=Order, output=Sent)
NOTES = Path(sys.argv[3]) if len(sys.argv) > 3 else Path(os.devnull)


def note(text: str) -> int:
    with NOTES.open("a") as file:
        file.write(f"{text}\n")
    return len(NOTES.read_text().splitlines())


@graph.node
async def buy(order: Order, lm: LM, run: Run) -> Sent:
    first = await lm.chat([{"role": "user", "content": "first"}])
    charged = await run.once("charge", note, "charged")
    if not run.is_resumed:
        os.kill(os.getpid(), signal.SIGKILL)
    second = await lm.chat([{"role": "user", "content": "second"}])
    return Sent(f"{first.text}, {second.text}, {charged}")


async def main(store: str, address: str) -> None:
    lm = LMClient("openai/m", api_key="key-of-a-test", api_base=address)
    async with open_runtime(store=store, lm=lm) as runtime:
        handle = await runtime.start(graph, Order(7), run_id="order-7")
        text, spend = (await handle.result()).text, handle.spend
        sys.stdout.write(f"{text}\n{spend.calls} {spend.requests} {spend.uncertain_calls}\n")


if __name__ == "__main__":
    import tests.runtime.journal.buying as program

    trio.run(program.main, sys.argv[1], sys.argv[2])
