"""A call cancelled at each step of whatever works on it, its provider included: nothing stays behind, the next one succeeds."""

import random
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from actors.restarts import Backoff
from runtime.lm.client import LMClient
from runtime.lm.http.transport import HttpTransport, open_transport
from runtime.lm.limits.budget import Budget
from runtime.lm.limits.retry import Retry
from runtime.lm.predictors.compiling import compile_graph
from runtime.lm.predictors.files import read_folder
from runtime.testing import ScriptedLM
from runtime.testing.loopback import Failure, LoopbackProvider, ModelScript, open_loopback
from tests.runtime.lm.faking import HELLO
from tests.runtime.lm.google import service_account
from tests.runtime.lm.predicting import labelling, rows
from tests.runtime.lm.recorder import recording

pytestmark = pytest.mark.filterwarnings("ignore:.*Python version:FutureWarning")  # google-auth's

AT_ONCE = Retry(max_attempts=3, backoff=Backoff(first_s=0.001, cap_s=0.001, jitter=0))
WORDS = "one two three four"
Use = Callable[[LMClient], Awaitable[object]]


async def chat(lm: LMClient) -> str:
    return (await lm.chat(HELLO)).text


async def stream(lm: LMClient) -> str:
    async with lm.stream(HELLO) as pieces:
        async for _ in pieces:
            pass
    return pieces.completion.text


async def embed(lm: LMClient) -> int:
    return len((await lm.embed(["a"])).vectors)


class AtStep(trio.abc.Instrument):
    """Calls `act` before the `number`-th step of any task, counted from 1."""

    def __init__(self, number: int, act: Callable[[], object]) -> None:
        self.left = number
        self.act = act

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.left -= 1
        if self.left == 0:
            self.act()


async def cancelled_at_every_step(
    use: Callable[[], Awaitable[object]], after: Callable[[], Awaitable[object]], stride: int = 1
) -> int:
    """How many cancellations there were; `after` is awaited after each."""
    for count in range(10_000):
        with trio.CancelScope() as scope:
            instrument = AtStep(1 + count * stride, scope.cancel)
            trio.lowlevel.add_instrument(instrument)
            try:
                await use()
            finally:
                trio.lowlevel.remove_instrument(instrument)
        if instrument.left > 0:
            return count
        await after()
    raise AssertionError("it never ends by itself")


class Watched:
    """A client on a transport that is looked into."""

    def __init__(self, lm: LMClient, transport: HttpTransport, budget: Budget) -> None:
        self.lm = lm
        self.transport = transport
        self.budget = budget
        self.server: LoopbackProvider | None = None

    async def is_clean(self) -> None:
        """Nothing is held by anybody."""
        seen = self.transport.statistics()
        assert seen.connections is not None
        assert (seen.in_flight, seen.waiting, seen.connections.in_use) == (0, 0, 0)
        for client in (self.lm, *self.lm._fallbacks):
            link = client._requester.link
            assert link is not None
            assert link.limiter.borrowed_tokens == 0
            if link.account is not None:
                account = link.account.statistics()
                assert (account.in_flight, account.waiting) == (0, 0)
                link.account.succeeded()  # of a hundred calls none ends: the account would count as down
        assert (self.budget.holders, self.budget.reserved_tokens, self.budget.reserved_usd) == (0, 0, 0.0)
        if self.server is not None:
            with trio.fail_after(5):
                await self.server.wait_idle()


@asynccontextmanager
async def watching(model: str, **options: Any) -> AsyncIterator[Watched]:
    budget = Budget(max_tokens=10_000_000)
    async with open_transport(max_connections=4) as transport:
        lm = LMClient(model, **{"max_connections": 2, "retry": AT_ONCE, "budget": budget, **options})
        lm.bind(transport, random.Random(0))
        yield Watched(lm, transport, budget)


@pytest.mark.parametrize("use", [chat, stream])
@pytest.mark.parametrize(
    ("options", "failures"),
    [
        ({}, ()),
        ({}, (Failure.status(503), Failure.disconnect())),
        ({"hedge": 1e-9}, ()),
        ({"hedge": 0.002}, (Failure.status(503),)),
        ({"rpm": 100_000, "tpm": 1_000_000_000}, ()),
        ({"fallbacks": ["openai/n"]}, (Failure.status(503),) * 3),
    ],
    ids=["plain", "retries", "two at once", "hedge", "limits", "fallback"],
)
async def test_a_call(use: Use, options: dict[str, Any], failures: tuple[Failure, ...], monkeypatch: pytest.MonkeyPatch):
    async with open_loopback({"m": WORDS, "n": WORDS}, unused="ok") as server:
        monkeypatch.setenv("OPENAI_API_KEY", "k")
        monkeypatch.setenv("OPENAI_BASE_URL", server.api_base)
        async with watching("openai/m", **options) as watched:
            watched.server = server

            async def once() -> None:
                server.script("m", ModelScript(WORDS, failures=failures))
                assert await use(watched.lm) == WORDS

            assert await cancelled_at_every_step(once, watched.is_clean) > 10
            await once()
            await watched.is_clean()


CLOUDS: dict[str, tuple[str, dict[str, Any]]] = {
    "bedrock": (
        "bedrock/anthropic.claude-3-7-sonnet-20250219-v1:0",
        {"aws_access_key_id": "a", "aws_secret_access_key": "s", "aws_region_name": "eu-central-1"},
    ),
    "vertex": ("vertex_ai/gemini-2.5-flash", {}),
    "threaded": ("databricks/m", {}),
    "embeddings": ("openai/text-embedding-3-small", {}),
    "threaded embeddings": ("databricks/m", {}),
}


@pytest.mark.parametrize("name", CLOUDS)
async def test_a_call_that_signs_in_or_runs_in_a_thread(name: str):
    model, given = CLOUDS[name]
    with recording() as recorder:
        options = {**given, **({"vertex_credentials": service_account(recorder.url)} if name == "vertex" else {})}
        key = None if name in {"bedrock", "vertex"} else "k"
        base = recorder.url + ("" if name in {"bedrock", "vertex"} else "/v1")
        use = embed if "embeddings" in name else chat
        async with watching(model, api_key=key, api_base=base, provider_options=options) as watched:
            lm = watched.lm

            async def once() -> None:
                if lm._translator._found is not None and lm._translator._found.sign_in is not None:
                    lm._translator._found.sign_in._fresh_until = -1.0  # as after its token has ended
                assert await use(lm)

            assert await cancelled_at_every_step(once, watched.is_clean) >= 3
            await once()
            await watched.is_clean()
    assert threading.active_count() < 20


async def test_an_optimiser_and_what_it_writes(tmp_path: Path):
    lm, graph = ScriptedLM(lambda messages: {"name": "label 1"}), labelling()

    async def once() -> None:
        await compile_graph(graph, rows(), tmp_path, lm_for=lambda spec: lm)

    async def is_clean() -> None:
        assert lm.in_flight == 0
        _, half_written = read_folder(tmp_path)
        assert half_written == []

    assert await cancelled_at_every_step(once, is_clean, stride=3) > 5
    assert [node.node for node in read_folder(tmp_path)[0]] == ["label"]
