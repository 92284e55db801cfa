"""A service in which much goes wrong, for the browser to look at: run as ``python -m tests.browser.faulty PORT``."""

from __future__ import annotations

import sys
from typing import Any

import attrs
import trio

from actors import Actor, Graph
from runtime.serve import Service, serve
from runtime.testing import ScriptedLM

HOSTILE = "<img src=x onerror=alert(1)><script>alert(2)</script>\u202e"


@attrs.frozen
class Question:
    text: str


@attrs.frozen
class Draft:
    text: str


@attrs.frozen
class Approved:
    approved: bool


@attrs.frozen
class Answer:
    text: str


def make() -> Graph[Question, Answer]:
    graph = Graph("faulty", input=Question, output=Answer)

    @graph.node
    async def draft(question: Question) -> Draft:
        """Writes a draft."""
        await trio.sleep(0.05)
        if question.text == "fail":
            raise LookupError(f"no {HOSTILE}")
        return Draft(f"{question.text} {HOSTILE}")

    @graph.human
    async def approve(draft: Draft) -> Approved:  # type: ignore[empty-body]
        """May this be sent?"""
        ...

    @graph.node
    async def send(approved: Approved) -> Answer:
        """Sends it."""
        return Answer(str(approved.approved))

    return graph


class Crashing(Actor[Any]):
    """Fails at each message."""

    async def receive(self, message: Any) -> None:
        """Fail."""
        raise RuntimeError(HOSTILE)


class Quiet(Actor[Any]):
    """Handles everything."""

    async def receive(self, message: Any) -> None:
        """Do nothing."""


async def main(port: int, extras: int) -> None:
    graph = make()
    service = Service([graph], lm=ScriptedLM([]), operate=True)
    async with trio.open_nursery() as nursery:
        await nursery.start(serve, service, "127.0.0.1", port)
        runtime = service.live.runtime
        crashing = await runtime.spawn(Crashing, name="crashing")
        refs = [await runtime.spawn(Quiet, name=f"quiet-{number}") for number in range(extras)]
        handles = [await runtime.start(graph, Question(text), labels={"why": HOSTILE}) for text in ("fail", "approve me")]
        sys.stdout.write(f"up {len(handles)}\n")
        sys.stdout.flush()
        while True:
            crashing.tell_nowait(HOSTILE)
            for ref in refs:
                ref.tell_nowait("tick")
            await trio.sleep(2)


if __name__ == "__main__":
    trio.run(main, int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 3)
