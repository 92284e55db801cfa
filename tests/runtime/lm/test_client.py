import functools
import pickle
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
import trio

from actors.errors import (
    DeclarationError,
    LMAuthFailed,
    LMBadRequest,
    LMError,
    LMRateLimited,
    LMReplyUnreadable,
    LMTimeout,
    LMUnavailable,
    UsageError,
)
from actors.lm import LM
from actors.restarts import Backoff
from runtime.lm.client import LMClient
from runtime.lm.http.transport import open_transport
from runtime.lm.limits.retry import Retry
from runtime.testing.loopback import Failure, LoopbackProvider, ModelScript, open_loopback
from runtime.testing.models.answers import field_answer

HELLO = [{"role": "user", "content": "Hello"}]
EXACT = Retry(max_attempts=3, backoff=Backoff(first_s=0.5, cap_s=30.0, jitter=0))


@asynccontextmanager
async def serving(
    script: ModelScript | str, *, provider: str = "openai", **options: Any
) -> AsyncIterator[tuple[LoopbackProvider, LMClient]]:
    async with open_loopback({"m": script}, unused="ok") as server:
        base = server.url if provider == "anthropic" else server.api_base
        async with LMClient(f"{provider}/m", api_key="s3cret-key", api_base=base, **{"retry": EXACT, **options}) as lm:
            yield server, lm


@pytest.mark.parametrize("provider", ["openai", "anthropic", "hosted_vllm"])
async def test_a_message_goes_out_and_its_answer_comes_back(provider: str):
    async with serving("Good day.", provider=provider) as (server, lm):
        completion = await lm.chat(HELLO, max_tokens=50)

    assert completion.text == "Good day."
    assert completion.model == f"{provider}/m"
    assert completion.attempts == 1
    assert completion.usage.completion_tokens > 0
    assert server.requests[0].body["max_tokens"] == 50


def test_it_is_a_language_model_as_nodes_see_it():
    assert isinstance(LMClient("openai/m"), LM)


async def test_a_signature_of_dspy_is_answered_through_the_same_client():
    async with serving(field_answer(answer="42")) as (server, lm):
        prediction = await lm.predict("question -> answer: int", question="6 * 7?")

    assert prediction.answer == 42
    assert len(server.requests) == 1


async def test_predict_on_a_client_that_is_not_open_says_so_before_dspy_is_loaded():
    with pytest.raises(UsageError, match=r"^LMClient\('openai/m'\) is not open\."):
        await LMClient("openai/m", api_key="k").predict("question -> answer", question="?")


FAILURES: list[tuple[Failure, type[LMError], int]] = [
    (Failure.status(429), LMRateLimited, 3),
    (Failure.status(500), LMUnavailable, 3),
    (Failure.status(502), LMUnavailable, 3),
    (Failure.status(503), LMUnavailable, 3),
    (Failure.status(504), LMUnavailable, 3),
    (Failure.status(529), LMRateLimited, 3),
    (Failure.status(408), LMTimeout, 3),
    (Failure.status(401), LMAuthFailed, 1),
    (Failure.status(403), LMAuthFailed, 1),
    (Failure.status(400), LMBadRequest, 1),
    (Failure.status(404), LMBadRequest, 1),
    (Failure.status(422), LMBadRequest, 1),
    (Failure.disconnect(), LMUnavailable, 3),
    (Failure.disconnect_mid_body(), LMUnavailable, 3),
    (Failure.garbage(), LMReplyUnreadable, 3),
    (Failure.truncated_json(), LMReplyUnreadable, 3),
]


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
@pytest.mark.parametrize(("failure", "kind", "count"), FAILURES)
async def test_no_failure_makes_more_requests_than_allowed(
    failure: Failure, kind: type[LMError], count: int, provider: str, patient_clock: trio.abc.Clock
):
    async with serving(ModelScript("never", failures=failure), provider=provider) as (server, lm):
        with pytest.raises(kind) as caught:
            await lm.chat(HELLO)

    assert type(caught.value) is kind
    assert len(server.requests) == count
    assert (caught.value.model, caught.value.attempt, caught.value.spent) == (f"{provider}/m", count, count > 1)
    assert str(caught.value).startswith(f"'{provider}/m', request {count} of 3: ")
    assert "s3cret" not in f"{caught.value} {caught.value.__cause__}"


async def test_a_call_that_succeeds_at_last_says_how_many_requests_it_took(patient_clock: trio.abc.Clock):
    async with serving(ModelScript("at last", failures=(Failure.disconnect(), Failure.status(500)))) as (server, lm):
        completion = await lm.chat(HELLO)

    assert (completion.text, completion.attempts, len(server.requests)) == ("at last", 3, 3)
    starts = [record.arrived_s for record in server.requests]
    assert starts[1] - starts[0] == pytest.approx(0.5, abs=1e-6)
    assert starts[2] - starts[1] == pytest.approx(1.0, abs=1e-6)


async def test_one_attempt_is_not_spent_so_that_a_supervisor_may_deliver_again():
    async with serving(ModelScript("never", failures=(Failure.status(500),)), retry=Retry(max_attempts=1)) as (_, lm):
        with pytest.raises(LMUnavailable) as caught:
            await lm.chat(HELLO)

    assert (caught.value.attempt, caught.value.spent) == (1, False)


async def test_retry_after_is_waited_out_to_the_second(patient_clock: trio.abc.Clock):
    async with serving(ModelScript("thanks", failures=(Failure.status(429, retry_after_s=7),))) as (server, lm):
        await lm.chat(HELLO)

    assert server.requests[1].arrived_s - server.requests[0].arrived_s == pytest.approx(7.0, abs=1e-6)


async def test_a_retry_after_beyond_patience_ends_the_call_at_once(patient_clock: trio.abc.Clock):
    async with serving(ModelScript("never", failures=(Failure.status(429, retry_after_s=61),))) as (server, lm):
        with pytest.raises(LMRateLimited) as caught:
            await lm.chat(HELLO)

    assert caught.value.retry_after_s == 61.0
    assert len(server.requests) == 1
    assert trio.current_time() == pytest.approx(0, abs=0.01)


async def test_waits_are_exact_in_virtual_time(virtual_clock: trio.abc.Clock):
    """The reply's date decides how long its ``Retry-After`` is, so no wall clock has a say."""
    replies = iter(
        [
            httpx.Response(429, headers={"retry-after": "1"}),
            httpx.Response(
                503, headers={"retry-after": "Sun, 06 Nov 1994 08:49:57 GMT", "date": "Sun, 06 Nov 1994 08:49:37 GMT"}
            ),
            httpx.Response(200, json={"choices": [{"message": {"role": "assistant", "content": "ok"}}]}),
        ]
    )
    at_s: list[float] = []

    def handle(request: httpx.Request) -> httpx.Response:
        at_s.append(trio.current_time())
        return next(replies)

    lm = LMClient("openai/m", api_key="k", api_base="http://provider/v1", retry=EXACT)
    async with open_transport(connect=lambda: httpx.MockTransport(handle)) as transport:
        lm.bind(transport, random.Random(0))
        await lm.chat(HELLO)

    assert [later - at_s[0] for later in at_s] == [0.0, 1.0, 21.0]


async def test_cancelling_a_call_is_seen_by_the_provider(patient_clock: trio.abc.Clock):
    async with serving(ModelScript("late", latency_s=3600)) as (server, lm):
        with trio.move_on_after(2) as scope:
            await lm.chat(HELLO)
        record = await server.wait_ended(1)

    assert scope.cancelled_caught
    assert record.cancelled_by_client


async def test_the_deadline_covers_every_request_and_pause(patient_clock: trio.abc.Clock):
    script = ModelScript("late", latency_s=3600, failures=(Failure.status(500, after_s=4.0),))
    async with serving(script, deadline_s=10) as (server, lm):
        with pytest.raises(LMTimeout) as caught:
            await lm.chat(HELLO)
        record = await server.wait_ended(2)

    assert str(caught.value) == (
        "'openai/m': no answer within 10 s (2 of 3 requests made).\n"
        "  Fix: ask for less (max_tokens), or set LMClient(..., deadline_s=…)."
    )
    assert (caught.value.attempt, caught.value.spent, record.cancelled_by_client) == (2, True, True)
    assert trio.current_time() == pytest.approx(10, abs=0.01)


async def test_calls_wait_for_their_turn(patient_clock: trio.abc.Clock):
    async with serving(ModelScript("hi", latency_s=1), max_connections=2) as (server, lm), trio.open_nursery() as nursery:
        for _ in range(6):
            nursery.start_soon(lm.chat, HELLO)

    assert server.max_in_flight == 2


async def test_clients_on_one_transport_keep_their_own_limits(patient_clock: trio.abc.Clock):
    async with open_loopback({"a": ModelScript("a", latency_s=1), "b": ModelScript("b", latency_s=1)}) as server:
        async with open_transport() as transport, trio.open_nursery() as nursery:
            for model, limit in (("a", 1), ("b", 3)):
                lm = LMClient(f"openai/{model}", api_key="k", api_base=server.api_base, max_connections=limit)
                lm.bind(transport, random.Random(0))
                for _ in range(3):
                    nursery.start_soon(lm.chat, HELLO)

    assert [record.model for record in server.requests].count("a") == 3
    assert trio.current_time() == pytest.approx(3, abs=0.01)


async def test_a_pause_between_attempts_holds_no_place(patient_clock: trio.abc.Clock):
    script = ModelScript("hi", failures=(Failure.status(503),))
    slow = Retry(backoff=Backoff(first_s=30, jitter=0))
    async with serving(script, max_connections=1, retry=slow) as (server, lm), trio.open_nursery() as nursery:
        nursery.start_soon(lm.chat, HELLO)
        await server.wait_ended(1)
        await lm.chat(HELLO)

        assert trio.current_time() < 30


async def ask(lm: LMClient, *, streams: bool) -> None:
    if not streams:
        await lm.chat(HELLO)
        return
    async with lm.stream(HELLO) as stream:
        async for _ in stream:
            pass


@pytest.mark.parametrize(
    ("streams", "hedge", "times"), [(False, None, 40), (True, None, 15), (True, 0.004, 15)], ids=["chat", "stream", "hedged"]
)
async def test_churn_leaves_nothing_behind(streams: bool, hedge: float | None, times: int):
    """Cancelled requests on a busy pool are what wedges httpcore for good."""
    rng = random.Random(7)
    outcomes = {"done": 0, "cut": 0}

    async def churn(lm: LMClient) -> None:
        for _ in range(times):
            with trio.move_on_after(rng.uniform(0, 0.02)) as scope:
                await ask(lm, streams=streams)
            outcomes["cut" if scope.cancelled_caught else "done"] += 1

    scripts = {"m": ModelScript("hi", latency_s=0.005), "slow": ModelScript("hi", latency_s=600)}
    async with open_loopback(scripts) as server, open_transport(max_connections=10) as transport:
        slow = LMClient("openai/slow", api_key="k", api_base=server.api_base)
        slow.bind(transport, rng)
        async with trio.open_nursery() as nursery:  # one at least is cut while the provider works, on however busy a machine
            nursery.start_soon(functools.partial(ask, slow, streams=streams))
            await server.wait_request(1)
            nursery.cancel_scope.cancel()
        lm = LMClient("openai/m", api_key="k", api_base=server.api_base, max_connections=60, hedge=hedge)
        lm.bind(transport, rng)
        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                for _ in range(60):
                    nursery.start_soon(churn, lm)
            completion = await lm.chat(HELLO)
            await server.wait_idle()

        statistics = transport.statistics()
        assert (statistics.in_flight, statistics.waiting, statistics.rebuilds) == (0, 0, 0)
        assert statistics.connections is not None
        assert statistics.connections.in_use == 0
        assert statistics.connections.idle <= 10
        link = lm._requester.link
        assert link is not None
        assert link.account is not None
        assert (link.limiter.borrowed_tokens, link.account.statistics().in_flight) == (0, 0)
        assert any(record.cancelled_by_client for record in server.requests)

    assert completion.text == "hi"
    assert outcomes["cut"] > 50
    assert sum(outcomes.values()) == 60 * times


# --- opening --------------------------------------------------------------------------------------------------------


async def test_a_client_that_is_not_open_says_how_to_open_it():
    with pytest.raises(UsageError) as caught:
        await LMClient("openai/m", api_key="k").chat(HELLO)

    assert str(caught.value) == (
        "LMClient('openai/m') is not open.\n"
        "  Fix: call it inside 'async with LMClient(...) as lm:', or give it to open_runtime(lm=...)."
    )


async def test_a_client_can_be_opened_again_but_not_twice_at_once():
    lm = LMClient("openai/m", api_key="k")

    async with lm:
        with pytest.raises(UsageError, match=r"^LMClient\('openai/m'\) is open already\.\n  Fix: "):
            await lm.__aenter__()
        states = [lm.is_open]
    states.append(lm.is_open)
    async with lm:
        states.append(lm.is_open)

    assert states == [True, False, True]


async def test_an_owner_may_replace_a_transport_that_has_closed():
    lm = LMClient("openai/m", api_key="k")
    async with open_transport() as first:
        lm.bind(first, random.Random(0))
    assert not lm.is_open

    async with open_transport() as second:
        lm.bind(second, random.Random(0))
        assert lm.is_open


async def test_closing_the_transport_ends_the_calls_on_it(patient_clock: trio.abc.Clock):
    """Both the one that waits for its reply and the one that waits for a connection."""
    failures: list[LMError] = []

    async def call(lm: LMClient) -> None:
        with pytest.raises(LMUnavailable) as caught:
            await lm.chat(HELLO)
        failures.append(caught.value)

    async with open_loopback({"m": ModelScript("late", latency_s=3600)}) as server, trio.open_nursery() as nursery:
        lm = LMClient("openai/m", api_key="k", api_base=server.api_base, retry=Retry(max_attempts=1))
        async with open_transport(max_connections=1) as transport:
            lm.bind(transport, random.Random(0))
            nursery.start_soon(call, lm)
            nursery.start_soon(call, lm)
            await server.wait_request(1)
        assert (await server.wait_ended(1)).cancelled_by_client

    assert len(failures) == 2


async def test_a_call_goes_on_with_the_transport_that_replaced_a_closed_one(patient_clock: trio.abc.Clock):
    async with open_loopback({"m": ModelScript("hi", failures=(Failure.slow_headers(3600),))}) as server:
        lm = LMClient("openai/m", api_key="k", api_base=server.api_base, retry=EXACT)
        async with open_transport() as second, trio.open_nursery() as nursery:
            async with open_transport() as first:
                lm.bind(first, random.Random(0))
                nursery.start_soon(lm.chat, HELLO)
                await server.wait_request(1)
            lm.bind(second, random.Random(0))

    assert len(server.requests) == 2


async def test_a_wrong_model_or_a_missing_key_shows_when_it_is_opened():
    with pytest.raises(DeclarationError, match="LiteLLM knows no provider"):
        await LMClient("nope/x").__aenter__()
    with pytest.raises(LMAuthFailed, match="set the environment variable OPENAI_API_KEY"):
        await LMClient("openai/m").__aenter__()


async def test_nothing_shows_the_key():
    async with serving("hi") as (_, lm):
        assert "s3cret" not in repr(lm)
    assert repr(lm) == "LMClient('openai/m', not open)"


# --- wrong calls ----------------------------------------------------------------------------------------------------

FIX = "\n  Fix: pass a list such as [{'role': 'user', 'content': 'Hello'}]."


@pytest.mark.parametrize(
    ("messages", "complaint"),
    [
        ("Hello", "chat(): expected a list of messages, got a str."),
        (None, "chat(): expected a list of messages, got a NoneType."),
        ([], "chat(): expected a list of messages, got an empty list."),
        (["Hello"], "chat(): message 0 is a str, not a mapping."),
        ([*HELLO, {"content": "x"}], "chat(): message 1 has no 'role'."),
        ([{"role": "user"}], "chat(): message 0 has no 'content'."),
    ],
)
async def test_what_is_no_message_is_refused(messages: Any, complaint: str):
    async with serving("hi") as (server, lm):
        with pytest.raises(UsageError) as caught:
            await lm.chat(messages)

    assert str(caught.value) == complaint + FIX
    assert server.requests == []


@pytest.mark.parametrize(
    "arguments",
    [
        {"model": ""},
        {"model": None},
        {"api_key": ""},
        {"api_key": 1},
        {"api_base": "ftp://x"},
        {"api_base": "http://user:s3cret@host"},
        {"api_base": "host"},
        {"api_base": 3},
        {"max_connections": 0},
        {"max_connections": True},
        {"retry": 3},
        {"deadline_s": 0},
        {"deadline_s": float("nan")},
        {"hedge": 0},
        {"rpm": 0},
        {"tpm": 1.5},
        {"budget": 5},
        {"cache": True},
        {"fallbacks": [3]},
    ],
)
def test_wrong_declarations_are_refused_at_once(arguments: dict[str, Any]):
    with pytest.raises(DeclarationError) as caught:
        LMClient(**{"model": "openai/m", **arguments})

    assert "\n  Fix: " in str(caught.value)
    assert "s3cret" not in str(caught.value)


async def test_an_error_of_a_call_survives_pickle():
    async with serving(ModelScript("never", failures=(Failure.status(429, retry_after_s=99),))) as (_, lm):
        with pytest.raises(LMRateLimited) as caught:
            await lm.chat(HELLO)

    copy = pickle.loads(pickle.dumps(caught.value))

    assert (str(copy), copy.attempt, copy.retry_after_s, copy.status) == (str(caught.value), 1, 99.0, 429)
