"""A service in which much goes wrong, for the browser: ``python -m tests.browser.faulty PORT [ACTORS [HZ [model] [plain]]]``.

What it says is hostile to the page; with ``plain`` it is fit for a picture.
"""

from __future__ import annotations

import itertools
import sys
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import attrs
import trio

from actors import LM, Actor, Graph, LMUnavailable, Redelivery, TextDelta
from runtime.lm import LMClient
from runtime.serve import Service, serve
from runtime.testing import Failure, ModelScript, ScriptedLM, open_loopback

ASKING = "asking"
HOSTILE = "<img src=x onerror=alert(1)><script>alert(2)</script>\u202e"
TEXT = "the printer is out of paper" if "plain" in sys.argv else HOSTILE


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
            raise LookupError(f"no {TEXT}")
        return Draft(f"{question.text} {TEXT}")

    @graph.human
    async def approve(draft: Draft) -> Approved:  # type: ignore[empty-body]
        """May this be sent?"""
        ...

    @graph.node
    async def send(approved: Approved) -> Answer:
        """Sends it."""
        return Answer(str(approved.approved))

    return graph


def make_asking() -> Graph[Question, Answer]:
    """Asks a model whose provider fails; its first attempt fails, too."""
    graph = Graph(ASKING, input=Question, output=Answer)
    tries: list[str] = []

    @graph.node(name="ask", redelivery=Redelivery(max_attempts=2))
    async def ask(question: Question, lm: LM) -> Draft:
        """Asks twice."""
        tries.append(question.text)
        said = await lm.chat([{"role": "user", "content": f"{question.text} {TEXT}"}])
        if len(tries) == 1:
            raise LMUnavailable(TEXT, model="m")  # as if what it was told were of no use
        return Draft(said.text)

    @graph.node
    async def read(draft: Draft, lm: LM) -> Answer:
        """Reads it piece by piece."""
        async with lm.stream([{"role": "user", "content": draft.text}]) as stream:
            return Answer("".join([each.text async for each in stream if isinstance(each, TextDelta)]))

    return graph


class Crashing(Actor[Any]):
    """Fails at each message."""

    async def receive(self, message: Any) -> None:
        """Fail."""
        raise RuntimeError(TEXT)


class Quiet(Actor[Any]):
    """Handles everything."""

    async def receive(self, message: Any) -> None:
        """Do nothing."""


async def main(port: int, extras: int, rate: float, *, asks: bool) -> None:
    graph = make()
    async with AsyncExitStack() as stack:
        lm: Any = ScriptedLM([])
        if asks:
            failures = [Failure.status(503), Failure.status(429, retry_after_s=0.1)]
            scripts = {"m": ModelScript(f"said {TEXT}", latency_s=0.2, failures=failures)}
            provider = await stack.enter_async_context(open_loopback(scripts, unused="ok"))
            lm = LMClient("openai/m", api_key="none", api_base=provider.api_base)
        service = Service([graph, *([make_asking()] if asks else [])], lm=lm, operate=True)
        await serve_faults(service, graph, port, extras, rate)


async def serve_faults(service: Service, graph: Graph[Question, Answer], port: int, extras: int, rate: float) -> None:
    async with trio.open_nursery() as nursery:
        await nursery.start(serve, service, "127.0.0.1", port)
        runtime = service.live.runtime
        crashing = await runtime.spawn(Crashing, name="crashing")
        refs = [await runtime.spawn(Quiet, name=f"quiet-{number}") for number in range(extras)]
        handles = [await runtime.start(graph, Question(text), labels={"why": TEXT}) for text in ("fail", "approve me")]
        asking = next((each for each in service.graphs if each.name == ASKING), None)
        if asking is not None:
            handles.append(await runtime.start(asking, Question("what?"), "asked"))
        sys.stdout.write(f"up {len(handles)}\n")
        sys.stdout.flush()
        for tick in itertools.count():
            if not tick % max(1, round(2 * rate)):  # more often, and its supervisor gives up
                crashing.tell_nowait(TEXT)
            for ref in refs:
                ref.tell_nowait("tick")
            await trio.sleep(1 / rate)


if __name__ == "__main__":
    _, port, extras, rate, *more = [*sys.argv, *("3", "0.5")[len(sys.argv) - 2 :]]
    trio.run(partial(main, int(port), int(extras), float(rate), asks="model" in more))
