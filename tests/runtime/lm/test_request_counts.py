"""What every failure comes to: which error, and how many requests the provider saw, with and without fallbacks and hedges."""

from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
import trio

from actors.errors import (
    LMAuthFailed,
    LMBadRequest,
    LMBudgetExhausted,
    LMError,
    LMRateLimited,
    LMReplyUnreadable,
    LMTimeout,
    LMUnavailable,
)
from actors.restarts import Backoff
from runtime.lm.client import LMClient
from runtime.lm.limits.budget import Budget
from runtime.lm.limits.retry import Retry
from runtime.testing.loopback import Failure, LoopbackProvider, ModelScript, open_loopback
from tests.runtime.lm.faking import HELLO, faking

AT_ONCE = Backoff(first_s=0)
AGAIN, NEVER = True, False
TABLE: list[tuple[str, Failure, type[LMError], bool]] = [
    ("429", Failure.status(429), LMRateLimited, AGAIN),
    ("500", Failure.status(500), LMUnavailable, AGAIN),
    ("502", Failure.status(502), LMUnavailable, AGAIN),
    ("503", Failure.status(503), LMUnavailable, AGAIN),
    ("401", Failure.status(401), LMAuthFailed, NEVER),
    ("400", Failure.status(400), LMBadRequest, NEVER),
    ("disconnect before the reply", Failure.disconnect(), LMUnavailable, AGAIN),
    ("disconnect in mid-body", Failure.disconnect_mid_body(), LMUnavailable, AGAIN),
    ("garbage", Failure.garbage(), LMReplyUnreadable, AGAIN),
    ("half a JSON document", Failure.truncated_json(), LMReplyUnreadable, AGAIN),
]
FAILURES = pytest.mark.parametrize(("failure", "kind", "again"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
MAX = pytest.mark.parametrize("most", [1, 2, 3, 5])


async def outcome(call: Callable[[], Awaitable[object]]) -> LMError:
    with pytest.raises(LMError) as caught:
        await call()
    return caught.value


async def read_whole(lm: LMClient) -> None:
    async with lm.stream(HELLO) as stream:
        async for _ in stream:
            pass


def served(server: LoopbackProvider, *models: str, most: int, **options: Any) -> LMClient:
    retry = Retry(max_attempts=most, backoff=AT_ONCE)
    clients = [LMClient(f"openai/{model}", api_key="k", api_base=server.api_base, retry=retry, **options) for model in models[1:]]
    return LMClient(f"openai/{models[0]}", api_key="k", api_base=server.api_base, retry=retry, fallbacks=clients, **options)


def always(failure: Failure) -> ModelScript:
    return ModelScript("never", failures=failure)


@MAX
@FAILURES
async def test_a_call_makes_at_most_so_many_requests(failure: Failure, kind: type[LMError], again: bool, most: int):
    async with open_loopback({"m": always(failure)}) as server, served(server, "m", most=most) as lm:
        error = await outcome(lambda: lm.chat(HELLO))

    assert type(error) is kind
    assert len(server.requests) == error.attempt == (most if again else 1)
    assert error.spent == (error.attempt > 1)


@FAILURES
async def test_a_stream_that_never_begins_makes_no_more(failure: Failure, kind: type[LMError], again: bool):
    async with open_loopback({"m": always(failure)}) as server, served(server, "m", most=3) as lm:
        error = await outcome(lambda: read_whole(lm))

    began = failure.kind in {"disconnect_mid_body", "truncated_json"}  # after the first piece nothing is asked again
    assert type(error) is kind
    assert len(server.requests) == error.attempt
    assert len(server.requests) <= (3 if again else 1)
    assert began or len(server.requests) == (3 if again else 1)


@MAX
@FAILURES
async def test_fallbacks_share_the_requests_of_the_call(failure: Failure, kind: type[LMError], again: bool, most: int):
    scripts = {name: always(failure) for name in ("a", "b", "c")}
    async with open_loopback(scripts, unused="ok") as server, served(server, "a", "b", "c", most=most) as lm:
        error = await outcome(lambda: lm.chat(HELLO))
        streamed = await outcome(lambda: read_whole(lm))

    asked = [record.model for record in server.requests]
    assert type(error) is kind
    assert error.attempt == (most if again else 1)
    assert len(asked) == error.attempt + streamed.attempt
    assert streamed.attempt <= most


@pytest.mark.parametrize(
    ("most", "asked"), [(1, "a"), (2, "ab"), (3, "abc"), (4, "aabc"), (5, "aaabc")], ids=lambda value: str(value)
)
async def test_one_request_is_kept_for_each_fallback(most: int, asked: str):
    scripts = {name: always(Failure.status(503)) for name in ("a", "b", "c")}
    async with open_loopback(scripts, unused="ok") as server, served(server, "a", "b", "c", most=most) as lm:
        error = await outcome(lambda: lm.chat(HELLO))

    assert "".join(record.model for record in server.requests) == asked
    if most == 1:
        assert error.__notes__ == [f"fallback: 'openai/{name}' was not asked: all 1 requests have been made" for name in "bc"]


@pytest.mark.parametrize("most", [1, 2, 3])
@pytest.mark.parametrize("models", [("a",), ("a", "b")])
@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        (Failure.status(429, after_s=8), LMRateLimited),
        (Failure.status(503, after_s=8), LMUnavailable),
        (Failure.status(400, after_s=8), LMBadRequest),
        (Failure.disconnect(after_s=8), LMUnavailable),
    ],
    ids=["429", "503", "400", "disconnect"],
)
async def test_hedges_are_among_the_requests_of_the_call(
    failure: Failure, kind: type[LMError], models: tuple[str, ...], most: int, patient_clock: trio.abc.Clock
):
    scripts = {name: always(failure) for name in ("a", "b")}
    async with open_loopback(scripts, unused="ok") as server, served(server, *models, most=most, hedge=3.0) as lm:
        error = await outcome(lambda: lm.chat(HELLO))
        made = len(server.requests)
        await outcome(lambda: read_whole(lm))

    assert type(error) is kind
    assert error.attempt == made <= most
    assert len(server.requests) - made <= most
    assert made > 1 or most == 1 or (kind is LMBadRequest)


# --- the phases of a call ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hedge", [None, 1.0])
@pytest.mark.parametrize("models", [("a",), ("a", "b")])
@pytest.mark.parametrize(
    ("failure", "deadline", "words"),
    [
        (Failure.slow_headers(3600), {"first_token_s": 4.0}, "no piece of an answer within 4 s"),
        (Failure.slow_headers(3600), {"deadline_s": 4.0}, "no answer within 4 s"),
    ],
    ids=["first token", "total"],
)
async def test_waits_that_are_too_long_make_no_more_requests(
    failure: Failure,
    deadline: dict[str, float],
    words: str,
    models: tuple[str, ...],
    hedge: float | None,
    patient_clock: trio.abc.Clock,
):
    scripts = {name: always(failure) for name in ("a", "b")}
    async with open_loopback(scripts, unused="ok") as server, served(server, *models, most=3, hedge=hedge, **deadline) as lm:
        error = await outcome(lambda: read_whole(lm))

    assert type(error) is LMTimeout
    assert words in str(error)
    assert error.attempt == len(server.requests) <= 3


async def test_a_wait_between_two_pieces_that_is_too_long_ends_the_call(patient_clock: trio.abc.Clock):
    async with (
        open_loopback({"a": ModelScript("one two three", interval_s=60)}) as server,
        served(server, "a", "a", most=3, between_tokens_s=4.0) as lm,
    ):
        error = await outcome(lambda: read_whole(lm))

    assert type(error) is LMTimeout
    assert "no further piece of the answer within 4 s" in str(error)
    assert len(server.requests) == error.attempt == 1


async def test_a_connection_that_takes_too_long_is_tried_as_often_as_a_request(
    virtual_clock: trio.abc.Clock, monkeypatch: pytest.MonkeyPatch
):
    dialled: list[float] = []

    async def never(host: str, port: int) -> None:
        dialled.append(trio.current_time())
        await trio.sleep_forever()

    monkeypatch.setattr(trio, "open_tcp_stream", never)
    retry = Retry(max_attempts=3, backoff=AT_ONCE)
    async with LMClient("openai/m", api_key="k", api_base="http://far.example/v1", retry=retry, connect_s=2.5) as lm:
        error = await outcome(lambda: lm.chat(HELLO))

    assert type(error) is LMTimeout
    assert dialled == [0, 2.5, 5]
    assert error.attempt == 3


# --- what is never sent -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [{}, {"choices": []}, {"choices": [{}]}, {"choices": [{"message": None}]}, [], "text", 3, None])
async def test_json_of_another_shape_is_no_answer(body: Any):
    asked: list[object] = []

    async def handle(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(200, json=body)

    async with faking(handle, {"retry": Retry(max_attempts=2, backoff=AT_ONCE)}) as (lm,):
        error = await outcome(lambda: lm.chat(HELLO))

    assert type(error) is LMReplyUnreadable
    assert error.attempt == len(asked) == 2


async def test_a_budget_without_room_makes_no_request():
    async with (
        open_loopback({"m": "unused"}, unused="ok") as server,
        served(server, "m", "m", most=3, budget=Budget(max_tokens=1)) as lm,
    ):
        error = await outcome(lambda: lm.chat(HELLO))

    assert type(error) is LMBudgetExhausted
    assert (server.requests, error.attempt) == ([], 0)
