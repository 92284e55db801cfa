"""This runtime's client, and a node of a graph that a language model fills; both through public names."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import attrs

from actors import Graph
from runtime import open_runtime
from runtime.lm import LMClient
from runtime.lm.providers.translation import warm_up
from tests.benchmarks.lm_works import CONNECTIONS, INSTRUCTION, MESSAGES, MODEL, PREDICTED, Call, LMPeer


@attrs.frozen
class Question:
    question: str


@attrs.frozen
class Greeting:
    text: str


def client(base: str, model: str) -> LMClient:
    return LMClient(f"openai/{model}", api_key="k", api_base=base, max_connections=CONNECTIONS)


@asynccontextmanager
async def chat(base: str) -> AsyncGenerator[Call]:
    await warm_up()
    async with client(base, MODEL) as lm:
        yield lambda: lm.chat(MESSAGES)


@asynccontextmanager
async def stream(base: str) -> AsyncGenerator[Call]:
    await warm_up()
    async with client(base, MODEL) as lm:

        async def call() -> object:
            async with lm.stream(MESSAGES) as answer:
                async for _ in answer:
                    pass
            return answer.completion.text

        yield call


@asynccontextmanager
async def predict(base: str) -> AsyncGenerator[Call]:
    graph = Graph("greeting", input=Question, output=Greeting)

    @graph.predict(concurrency=CONNECTIONS)
    async def greet(question: Question) -> Greeting:  # type: ignore[empty-body]
        """Fill it."""
        ...

    greet.__doc__ = INSTRUCTION
    await warm_up()
    async with open_runtime(lm=client(base, PREDICTED)) as runtime:
        await runtime.deploy(graph)
        yield lambda: runtime.run(graph, Question("Hello"))


PEER = LMPeer(name="understudy", loop="trio", jobs={"chat": chat, "stream": stream, "predict": predict})
