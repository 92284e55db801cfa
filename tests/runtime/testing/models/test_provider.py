"""The provider through real sockets. In one ``trio.run`` they are exact under a virtual clock: loopback bytes arrive at once."""

from __future__ import annotations

import itertools
import json
import re

import httpx
import pytest
import trio
import trio.testing

from actors.errors import DeclarationError
from runtime.testing import Answer, ChatRequest, Failure, ModelScript, field_answer, open_loopback, tool_answer
from tests.runtime.testing.client import ANTHROPIC, OPENAI, asking, connected, events


async def ask(client: httpx.AsyncClient, model: str) -> None:
    await client.post(OPENAI, json=asking(model))


async def test_an_openai_request_gets_the_scripted_answer_in_openais_form() -> None:
    async with open_loopback({"small": "Hello there."}) as provider, connected(provider) as client:
        reply = await client.post(OPENAI, json=asking("small"))

    message = {"role": "assistant", "content": "Hello there."}
    assert reply.json() == {
        "id": "chatcmpl-000001",
        "object": "chat.completion",
        "created": 0,
        "model": "small",
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 2, "completion_tokens": 2, "total_tokens": 4},
    }


async def test_an_openai_stream_has_role_contents_usage_and_done() -> None:
    body = asking("small", stream=True, stream_options={"include_usage": True})

    async with open_loopback({"small": "Hello  there.\n"}) as provider, connected(provider) as client:
        reply = await client.post(OPENAI, json=body)

    *chunks, usage, done = events(reply.text)
    assert reply.headers["content-type"] == "text/event-stream"
    assert [chunk["choices"][0]["delta"] for chunk in chunks] == [
        {"role": "assistant", "content": ""},
        {"content": "Hello"},
        {"content": "  there."},
        {"content": "\n"},
        {},
    ]
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
    assert (usage["choices"], usage["usage"]["total_tokens"], done) == ([], 4, "[DONE]")


async def test_an_openai_stream_without_stream_options_has_no_usage_chunk() -> None:
    async with open_loopback({"small": "Hello"}) as provider, connected(provider) as client:
        reply = await client.post(OPENAI, json=asking("small", stream=True))

    assert all("usage" not in chunk for chunk in events(reply.text)[:-1])


async def test_tool_calls_are_sent_whole_and_streamed_in_openais_form() -> None:
    async with open_loopback({"small": tool_answer("look", where="over there")}) as provider, connected(provider) as client:
        plain = (await client.post(OPENAI, json=asking("small"))).json()
        streamed = events((await client.post(OPENAI, json=asking("small", stream=True))).text)

    function = {"name": "look", "arguments": '{"where": "over there"}'}
    assert plain["choices"][0]["message"] == {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "call_1", "type": "function", "function": function}],
    }
    deltas = [chunk["choices"][0]["delta"] for chunk in streamed[:-1]]
    calls = [delta["tool_calls"][0]["function"] for delta in deltas if "tool_calls" in delta]
    assert (calls[0]["name"], "".join(call["arguments"] for call in calls)) == ("look", function["arguments"])
    assert streamed[-2]["choices"][0]["finish_reason"] == "tool_calls"


async def test_an_anthropic_request_gets_the_answer_in_anthropics_form() -> None:
    body = asking("claude", system="Be brief.", max_tokens=10)

    async with open_loopback({"claude": lambda request: request.text}) as provider, connected(provider) as client:
        reply = await client.post(ANTHROPIC, json=body)

    assert reply.json() == {
        "id": "msg_000001",
        "type": "message",
        "role": "assistant",
        "model": "claude",
        "content": [{"type": "text", "text": "Be brief.\ntwo words"}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 4, "output_tokens": 4},
    }


async def test_an_anthropic_stream_has_anthropics_events_in_order() -> None:
    message = {**tool_answer("look", where="here"), "content": "Wait now."}

    async with open_loopback({"claude": message}) as provider, connected(provider) as client:
        reply = await client.post(ANTHROPIC, json=asking("claude", stream=True))

    seen = events(reply.text)
    assert [kind for kind, _ in itertools.groupby(event["type"] for event in seen)] == [
        "message_start",
        *["content_block_start", "content_block_delta", "content_block_stop"] * 2,
        "message_delta",
        "message_stop",
    ]
    deltas = [event["delta"] for event in seen if event["type"] == "content_block_delta"]
    assert "".join(delta.get("text", "") for delta in deltas) == "Wait now."
    assert json.loads("".join(delta.get("partial_json", "") for delta in deltas)) == {"where": "here"}
    assert seen[-2] == {
        "type": "message_delta",
        "delta": {"stop_reason": "tool_use", "stop_sequence": None},
        "usage": {"output_tokens": 2},
    }
    assert reply.text.startswith("event: message_start\ndata: ")


async def test_latencies_are_exact_in_virtual_time(virtual_clock: trio.testing.MockClock) -> None:
    models = {
        "time": ModelScript(field_answer(filters=[]), latency_s=0.726),
        "other": ModelScript(field_answer(filters=[]), latency_s=1.125),
        "vector": ModelScript([Answer("x", latency_s=1.153)]),
    }

    async with open_loopback(models) as provider, connected(provider) as client, trio.open_nursery() as nursery:
        for model in models:
            nursery.start_soon(ask, client, model)

    ended = {record.model: (record.arrived_s, record.first_byte_s, record.ended_s) for record in provider.requests}
    assert ended == {"time": (0.0, 0.726, 0.726), "other": (0.0, 1.125, 1.125), "vector": (0.0, 1.153, 1.153)}
    assert (provider.max_in_flight, provider.in_flight, trio.current_time()) == (3, 0, 1.153)


async def test_a_stream_takes_its_interval_between_events(virtual_clock: trio.testing.MockClock) -> None:
    script = ModelScript("a b", latency_s=1.0, interval_s=0.25)

    async with open_loopback({"small": script}) as provider, connected(provider) as client:
        await client.post(OPENAI, json=asking("small", stream=True))

    assert [(record.first_byte_s, record.ended_s) for record in provider.requests] == [(1.0, 2.0)]


async def test_requests_beyond_the_limit_wait_in_arrival_order(virtual_clock: trio.testing.MockClock) -> None:
    async with open_loopback({"*": "yes"}, latency_s=1.0, max_concurrent=1) as provider, connected(provider) as client:
        async with trio.open_nursery() as nursery:
            for number, model in enumerate("abc", 1):
                nursery.start_soon(ask, client, model)
                await provider.wait_request(number)

    times = [(record.model, record.arrived_s, record.started_s, record.ended_s) for record in provider.requests]
    assert times == [("a", 0.0, 0.0, 1.0), ("b", 0.0, 1.0, 2.0), ("c", 0.0, 2.0, 3.0)]
    assert provider.max_in_flight == 3


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_while_it_waits_is_recorded_at_once(
    virtual_clock: trio.testing.MockClock, stream: bool
) -> None:
    async with open_loopback({"small": "late"}, latency_s=60.0) as provider, connected(provider) as client:
        with trio.move_on_after(0.5):
            await client.post(OPENAI, json=asking("small", stream=stream))
        record = await provider.wait_ended(1)

    assert (record.cancelled_by_client, record.status, record.first_byte_s, record.ended_s) == (True, None, None, 0.5)


async def test_a_client_that_leaves_in_mid_stream_is_recorded(virtual_clock: trio.testing.MockClock) -> None:
    script = ModelScript("a b c d", latency_s=1.0, interval_s=1.0)

    async with open_loopback({"small": script}) as provider, connected(provider) as client:
        with trio.move_on_after(2.5):
            await client.post(OPENAI, json=asking("small", stream=True))
        record = await provider.wait_ended(1)

    assert (record.cancelled_by_client, record.status, record.first_byte_s, record.ended_s) == (True, 200, 1.0, 2.5)


async def test_a_client_that_leaves_the_queue_lets_the_next_one_in(virtual_clock: trio.testing.MockClock) -> None:
    async def leave() -> None:
        with trio.move_on_after(1.0):
            await client.post(OPENAI, json=asking("leaver"))

    async with open_loopback({"*": "yes"}, latency_s=5.0, max_concurrent=1) as provider, connected(provider) as client:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(leave)
            await provider.wait_request(1)
            nursery.start_soon(ask, client, "stayer")

    leaver, stayer = provider.requests
    assert (leaver.cancelled_by_client, stayer.cancelled_by_client) == (True, False)
    assert (stayer.started_s, stayer.ended_s) == (1.0, 6.0)


async def test_credentials_are_not_kept_in_the_record() -> None:
    headers = {"Authorization": "Bearer sk-1", "X-API-Key": "sk-2", "X-Trace": "t"}

    async with open_loopback({"small": "yes"}) as provider, connected(provider) as client:
        await client.post(OPENAI, json=asking("small", temperature=0.5), headers=headers)

    record = provider.requests[0]
    kept = [record.headers[name] for name in ("authorization", "x-api-key", "x-trace")]
    assert kept == ["[redacted]", "[redacted]", "t"]
    assert record.body == asking("small", temperature=0.5)


async def test_an_unscripted_model_is_refused_with_the_fix() -> None:
    async with open_loopback({"small": "yes"}, unused="ok", unforeseen="ok") as provider, connected(provider) as client:
        reply = await client.post(OPENAI, json=asking("large"))

    assert (reply.status_code, provider.requests[0].status) == (400, 400)
    assert reply.json()["error"] == {
        "message": "The loopback provider has no script for model 'large'; scripted models: 'small'.\n"
        "  Fix: open_loopback({'large': 'an answer'}), or provider.script('large', 'an answer'); '*' is any model.",
        "type": "invalid_request_error",
        "param": None,
        "code": None,
    }


async def test_a_list_of_answers_is_used_up_in_arrival_order() -> None:
    async with open_loopback({"small": ["one", "two"]}, unforeseen="ok") as provider, connected(provider) as client:
        replies = [await client.post(OPENAI, json=asking("small")) for _ in range(3)]

    assert [reply.json()["choices"][0]["message"]["content"] for reply in replies[:2]] == ["one", "two"]
    assert replies[2].json()["error"]["message"] == (
        "The script of model 'small' has 2 answer(s) and all have been given.\n"
        "  Fix: list one answer for each request, or give a single answer or a function, which never run out."
    )


async def test_an_answer_function_that_raises_is_told_to_the_client() -> None:
    def broken(request: ChatRequest) -> str:
        raise KeyError(request.model)

    async with open_loopback({"small": broken}) as provider, connected(provider) as client:
        reply = await client.post(ANTHROPIC, json=asking("small"))

    text = "The script of model 'small' raised KeyError: 'small'"
    assert reply.json() == {"type": "error", "error": {"type": "invalid_request_error", "message": text}}


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"{", "The body is not JSON: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
        (
            b"[" * 100_000,
            "The body is not JSON: maximum recursion depth exceeded while decoding a JSON array from a unicode string",
        ),
        (b"[]", "The body must be a JSON object."),
        (b"{}", "'model' must be a non-empty string, got None."),
        (b'{"model": "small"}', "'messages' must be a non-empty list."),
        (b'{"model": "small", "messages": [1]}', "'messages' must hold objects."),
    ],
)
async def test_a_body_that_is_no_chat_request_is_refused(body: bytes, text: str) -> None:
    async with open_loopback({"small": "yes"}, unused="ok") as provider, connected(provider) as client:
        reply = await client.post(OPENAI, content=body)

    assert (reply.status_code, reply.json()["error"]["message"]) == (400, text)


@pytest.mark.parametrize(
    ("method", "path", "status", "text"),
    [
        ("GET", "/v1/embeddings?x=1", 404, "There is nothing at GET /v1/embeddings."),
        ("GET", OPENAI, 405, "/v1/chat/completions takes POST, not GET."),
        ("BREW", "/v1/models", 405, "/v1/models takes GET, not BREW."),
    ],
)
async def test_what_the_provider_does_not_have_is_refused(method: str, path: str, status: int, text: str) -> None:
    async with open_loopback() as provider, connected(provider) as client:
        reply = await client.request(method, path)

    assert (reply.status_code, reply.json()["error"]["message"]) == (status, text)
    assert provider.requests == []


async def test_the_scripted_models_are_listed() -> None:
    async with open_loopback({"small": "yes", "*": "no"}, unused="ok") as provider, connected(provider) as client:
        reply = await client.get("/v1/models")

    model = {"id": "small", "object": "model", "created": 0, "owned_by": "loopback"}
    assert reply.json() == {"object": "list", "data": [model]}


async def test_a_new_script_counts_from_now_on() -> None:
    async with open_loopback({"small": ["one"]}) as provider, connected(provider) as client:
        await client.post(OPENAI, json=asking("small"))
        provider.script("small", ModelScript("two", failures=[Failure.status(500)]))
        replies = [await client.post(OPENAI, json=asking("small")) for _ in range(2)]
        provider.clear()

    assert [reply.status_code for reply in replies] == [500, 200]
    assert provider.requests == []


async def test_an_error_in_the_block_leaves_it_unwrapped() -> None:
    error = LookupError("mine")

    with pytest.raises(LookupError) as caught:
        async with open_loopback():
            raise error

    assert caught.value is error


async def test_leaving_the_block_ends_the_requests_in_flight(virtual_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        async with open_loopback({"small": "late"}, latency_s=60.0) as provider, connected(provider) as client:
            nursery.start_soon(ask, client, "small")
            await provider.wait_request(1)
            nursery.cancel_scope.cancel()

    assert (provider.in_flight, trio.current_time()) == (0, 0.0)


async def test_a_limit_below_one_is_refused() -> None:
    message = re.escape(
        "LoopbackProvider(max_concurrent=0): expected a whole number >= 1 or None.\n"
        "  Fix: pass a whole number >= 1 or None as 'max_concurrent'."
    )

    with pytest.raises(DeclarationError, match=f"^{message}$"):
        async with open_loopback(max_concurrent=0):
            pass
