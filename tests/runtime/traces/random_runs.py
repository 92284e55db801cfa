"""Random graphs whose nodes wait, fail, fan out and ask a provider that fails, run in virtual time."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Sequence
from typing import Any, final

import attrs
import trio

from actors import LM, Backoff, Graph, LMError, Redelivery, Usage
from runtime import open_runtime
from runtime.lm import Retry
from runtime.testing import Answer, Failure, ModelScript
from runtime.testing.network import VirtualNetwork
from tests.runtime.traces.cast import recorded

SAID = [{"role": "user", "content": "one two three"}]


@attrs.frozen
class Level0:
    n: int


@attrs.frozen
class Level1:
    n: int


@attrs.frozen
class Level2:
    n: int


@attrs.frozen
class Level3:
    n: int


LEVELS: Sequence[Any] = (Level0, Level1, Level2, Level3)


def random_graph(rng: random.Random) -> Graph[Any, Any]:
    """Nodes in a chain, each of which sleeps, fails, asks a model, fans out, or stands for a graph."""
    count = rng.randint(1, 3)
    graph = Graph("random", input=Level0, output=LEVELS[count])
    for level in range(count):
        takes, makes, name = LEVELS[level], LEVELS[level + 1], f"n{level}"
        options: dict[str, Any] = {
            "concurrency": rng.choice((1, 1, 2)),
            "redelivery": Redelivery(max_attempts=4, backoff=Backoff(first_s=rng.random(), factor=2.0, jitter=0.5)),
        }
        many, asks, fails, nap = (
            level < count - 1 and rng.random() < 0.5,
            rng.random() < 0.6,
            rng.random() * 0.3,
            rng.random() * 3,
        )

        async def work(message: Any, lm: LM) -> Any:
            raise NotImplementedError

        def body(
            takes: Any = takes, makes: Any = makes, many: bool = many, asks: bool = asks, fails: float = fails, nap: float = nap
        ) -> Any:
            async def work(message: Any, lm: LM) -> Any:
                await trio.sleep(nap * rng.random())
                if asks:
                    with contextlib.suppress(LMError):
                        await lm.chat(SAID)
                if rng.random() < fails:
                    raise OSError("by chance")
                return [makes(n) for n in range(rng.randint(1, 3))] if many else makes(0)

            work.__annotations__ = {"message": takes, "lm": LM, "return": list[makes] if many else makes}
            return work

        if rng.random() < 0.25:
            nested = Graph(name, input=takes, output=makes)
            many = False
            nested.node(name="inside")(body(many=False))
            graph.add(nested)
        else:
            graph.node(name=name, **options)(body())
    return graph


@final
@attrs.frozen
class RandomRun:
    """What one run wrote, and what its provider did."""

    events: list[dict[str, Any]]
    billed_tokens: int
    """Of the requests that the provider has answered to the end."""


async def random_run(seed: int) -> RandomRun:
    rng = random.Random(seed)
    used = Usage(rng.randint(1, 90), rng.randint(1, 30))

    def respond(request: Any) -> Any:
        return Answer("word " * rng.randint(1, 5), latency_s=rng.random() * 4, usage=used)

    failures = [
        rng.choice((Failure.status(503, after_s=rng.random()), Failure.disconnect(), Failure.garbage()))
        for _ in range(rng.randint(0, 3))
    ]
    network = VirtualNetwork()
    network.provider("api.openai.com", {"gpt-4o-mini": ModelScript(respond, failures=failures)}, unused="ok")
    client = network.client(
        "openai/gpt-4o-mini",
        retry=Retry(rng.randint(1, 3), backoff=Backoff(first_s=0.3, jitter=0.5)),
        hedge=rng.choice((None, None, 1.5)),
        max_connections=rng.choice((1, 2, 100)),
    )
    async with client as lm, open_runtime(lm=lm, seed=seed) as runtime:
        events = await recorded(runtime, random_graph(rng), Level0(0))
    answered = [each for each in network.requests[len(failures) :] if not each.cancelled]  # the script's failures come first
    return RandomRun(events, len(answered) * used.total_tokens)
