from __future__ import annotations

import json
import math
import re
import time

import attrs
import httpx
import pytest
import trio
import trio.testing

from actors import Backoff, Graph, LMRateLimited, LMUnavailable, Redelivery
from runtime import open_runtime
from runtime.lm import Retry
from runtime.testing import Failure, ModelScript, run_in_virtual_time
from runtime.testing.network import Exchange, VirtualNetwork

HELLO = Exchange.reply("hello", latency_s=2)


async def outcome(exchange: Exchange, limits: httpx.Timeout) -> tuple[str, float]:
    """Body or error of one GET, and when."""
    network = VirtualNetwork({"api.test": exchange})
    async with httpx.AsyncClient(transport=network.transport(), timeout=limits) as client:
        try:
            text = (await client.get("http://api.test/x")).text
        except httpx.TransportError as error:
            text = f"{type(error).__name__}: {error}".removesuffix(": ")
    return text, trio.current_time()


@pytest.mark.parametrize(
    ("exchange", "expected"),
    [
        (HELLO, ("hello", 2.0)),
        (HELLO.slowly(1, 0.5), ("hello", 4.0)),
        (HELLO.slowly(1, 11), ("ReadTimeout", 12.0)),
        (HELLO.cut(), ("ReadError: [Errno 104] Connection reset by peer", 2.0)),
        (HELLO.cut(3), ("ReadError: [Errno 104] Connection reset by peer", 2.0)),
        (Exchange.never(), ("ReadTimeout", 10.0)),
        (attrs.evolve(HELLO, connect_s=7), ("ConnectTimeout", 5.0)),
        (attrs.evolve(HELLO, connect_s=3), ("hello", 5.0)),
        (attrs.evolve(HELLO, write_s=11), ("WriteTimeout", 10.0)),
        (attrs.evolve(HELLO, write_s=3), ("hello", 5.0)),
        (HELLO.cut(0), ("ReadError: [Errno 104] Connection reset by peer", 2.0)),
        (HELLO.slowly(2, math.inf), ("ReadTimeout", 12.0)),
        (Exchange.stream(b"data: 1\n\n", b"data: 2\n\n", interval_s=3), ("data: 1\n\ndata: 2\n\n", 3.0)),
        (Exchange.dns_failure(), ("ConnectError: [Errno -2] Name or service not known", 0.0)),
        (Exchange.refused(), ("ConnectError: [Errno 111] Connection refused", 0.0)),
    ],
    ids=[
        "reply",
        "slow",
        "slow-loris",
        "reset",
        "reset-mid-body",
        "never",
        "connect",
        "slow-connect",
        "write",
        "slow-write",
        "reset-after-headers",
        "stalled-body",
        "stream",
        "dns",
        "refused",
    ],
)
async def test_an_exchange_goes_as_scripted_and_within_httpx_own_timeouts(
    exchange: Exchange, expected: tuple[str, float], virtual_clock: trio.testing.MockClock
) -> None:
    assert await outcome(exchange, httpx.Timeout(10, connect=5)) == expected


async def test_a_wrong_certificate_names_the_host(virtual_clock: trio.testing.MockClock) -> None:
    text, _ = await outcome(Exchange.tls_failure(), httpx.Timeout(10))

    assert re.match(r"ConnectError: \[SSL: CERTIFICATE_VERIFY_FAILED\] .* 'api\.test'$", text)


async def test_a_pool_that_is_full_makes_requests_wait_within_httpx_own_timeout(virtual_clock: trio.testing.MockClock) -> None:
    network = VirtualNetwork({"api.test": HELLO})
    limits = httpx.Timeout(10, pool=5)
    async with httpx.AsyncClient(transport=network.transport(max_connections=1), timeout=limits) as client:
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(client.get, "http://api.test/x")
        assert trio.current_time() == 6.0

        async with client.stream("GET", "http://api.test/x"):
            with pytest.raises(httpx.PoolTimeout):
                await client.get("http://api.test/x")
        assert trio.current_time() == 13.0
        network.host("api.test", Exchange.refused())
        for _ in range(2):
            with pytest.raises(httpx.ConnectError):
                await client.get("http://api.test/x")


async def test_a_list_is_used_up_and_a_host_without_a_script_has_no_address(virtual_clock: trio.testing.MockClock) -> None:
    network = VirtualNetwork({"api.test": [Exchange.too_many(3), Exchange.broken(), HELLO]})
    async with httpx.AsyncClient(transport=network.transport()) as client:
        replies = [await client.get("http://api.test/") for _ in range(3)]

        assert [reply.status_code for reply in replies] == [429, 503, 200]
        assert replies[0].headers["retry-after"] == "3"
        with pytest.raises(AssertionError, match=r"^'api\.test' got one request more than it has scripted exchanges: GET http"):
            await client.get("http://api.test/")
        with pytest.raises(httpx.ConnectError):
            await client.get("http://elsewhere.test/")


async def test_a_client_that_leaves_is_noticed(virtual_clock: trio.testing.MockClock) -> None:
    network = VirtualNetwork({"api.test": Exchange.never()})
    async with httpx.AsyncClient(transport=network.transport(), timeout=None) as client:
        with trio.move_on_after(5):
            await client.get("http://api.test/")

    assert [sent.cancelled for sent in network.requests] == [True]


async def test_a_language_model_client_is_tested_with_its_translation_and_retries(virtual_clock: trio.testing.MockClock) -> None:
    network = VirtualNetwork()
    failures = [Failure.status(429, retry_after_s=1800), Failure.status(503), Failure.disconnect()]
    network.provider("api.openai.com", {"gpt-4o-mini": ModelScript("hello there", latency_s=2, failures=failures)})

    async with network.client("openai/gpt-4o-mini", retry=Retry(max_attempts=5, max_retry_after_s=3600), deadline_s=7200) as lm:
        completion = await lm.chat([{"role": "user", "content": "hi"}])

    assert (completion.text, completion.attempts) == ("hello there", 4)
    assert [sent.url for sent in network.requests] == ["https://api.openai.com/v1/chat/completions"] * 4
    assert 1800 < trio.current_time() < 1900


@pytest.mark.parametrize(
    ("failure", "status", "start"),
    [
        (Failure.status(500), 500, b'{"error"'),
        (Failure.garbage(), 200, b"<html>"),
        (Failure.truncated_json(), 200, b'{"id"'),
    ],
    ids=["status", "garbage", "truncated"],
)
async def test_a_scripted_provider_fails_as_its_script_says(
    failure: Failure, status: int, start: bytes, virtual_clock: trio.testing.MockClock
) -> None:
    network = VirtualNetwork()
    network.provider("api.test", {"m": ModelScript("fine", failures=[failure])})
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
    async with httpx.AsyncClient(transport=network.transport(), base_url="http://api.test") as client:
        first = await client.post("/v1/chat/completions", json=body)
        second = await client.post("/v1/chat/completions", json=body)

    assert (first.status_code, first.content[: len(start)]) == (status, start)
    assert second.json()["choices"][0]["message"]["content"] == "fine"


async def test_a_scripted_provider_breaks_connections_and_refuses_what_it_does_not_know(
    virtual_clock: trio.testing.MockClock,
) -> None:
    network = VirtualNetwork()
    network.provider(
        "api.test",
        {"m": ModelScript("fine", failures=[Failure.disconnect(), Failure.disconnect_mid_body()])},
        unused="ok",
        unforeseen="ok",
    )
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
    async with httpx.AsyncClient(transport=network.transport(), base_url="http://api.test") as client:
        for _ in range(2):
            with pytest.raises(httpx.ReadError):
                await client.post("/v1/chat/completions", json=body)
        statuses = [
            (await client.post("/v1/chat/completions", json={**body, "model": "other"})).status_code,
            (await client.post("/v1/chat/completions", content=b"{")).status_code,
            (await client.post("/v1/nothing", json=body)).status_code,
        ]

    assert statuses == [400, 400, 404]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_scripted_provider_may_be_slow_and_right(stream: bool, virtual_clock: trio.testing.MockClock) -> None:
    network = VirtualNetwork()
    failures = [Failure.slow_headers(7), Failure.slow_body(piece_bytes=50, interval_s=1)]
    network.provider("api.test", {"m": ModelScript("one two", latency_s=1, failures=failures)})
    body = {"model": "m", "stream": stream, "messages": [{"role": "user", "content": "hi"}]}
    async with httpx.AsyncClient(transport=network.transport(), base_url="http://api.test", timeout=10) as client:
        replies: list[httpx.Response] = []
        ended_s: list[float] = []
        for _ in range(3):
            replies.append(await client.post("/v1/chat/completions", json=body))
            ended_s.append(trio.current_time())

    first, second, third = (re.sub(r"chatcmpl-\w+", "", reply.text) for reply in replies)
    assert first == second == third
    assert ended_s == [7.0, 8.0 + (len(replies[1].content) - 1) // 50, ended_s[1] + 1]


async def test_a_scripted_provider_streams_event_by_event(virtual_clock: trio.testing.MockClock) -> None:
    network = VirtualNetwork()
    network.provider("api.test", {"m": ModelScript("one two", latency_s=1, interval_s=1)})
    body = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "hi"}]}
    async with httpx.AsyncClient(transport=network.transport(), base_url="http://api.test") as client:
        async with client.stream("POST", "/v1/chat/completions", json=body) as reply:
            events = [line async for line in reply.aiter_lines() if line]

    assert events[-1] == "data: [DONE]"
    assert [json.loads(event[6:])["choices"][0]["delta"].get("content") for event in events[:-1]] == ["", "one", " two", None]
    assert trio.current_time() == 5.0


async def test_what_the_network_does_becomes_our_errors(virtual_clock: trio.testing.MockClock) -> None:
    network = VirtualNetwork({"api.openai.com": [Exchange.dns_failure(), Exchange.too_many()]})

    async with network.client("openai/gpt-4o-mini", retry=Retry(max_attempts=1)) as lm:
        with pytest.raises(LMUnavailable):
            await lm.chat([{"role": "user", "content": "hi"}])
        with pytest.raises(LMRateLimited):
            await lm.chat([{"role": "user", "content": "hi"}])


@attrs.frozen
class Question:
    text: str


@attrs.frozen
class Answer:
    text: str


def test_a_graph_with_retries_runs_through_an_hour_without_waiting_for_it() -> None:
    begun = time.perf_counter()
    run_in_virtual_time(an_hour_of_retries)

    assert time.perf_counter() - begun < 600  # of the 3,600 s that pass on the virtual clock


async def an_hour_of_retries() -> None:
    graph = Graph("patient", input=Question, output=Answer)
    backoff = Backoff(first_s=600, factor=2, cap_s=1800, jitter=0)
    tries: list[float] = []

    @graph.node(redelivery=Redelivery(max_attempts=5, backoff=backoff))
    async def answer(question: Question) -> Answer:
        tries.append(trio.current_time())
        if len(tries) < 4:
            raise LMUnavailable("out")
        return Answer(question.text)

    async with open_runtime() as runtime:
        assert await runtime.run(graph, Question("?")) == Answer("?")

    assert tries[-1] >= 3600
