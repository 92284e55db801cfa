"""Every provider against ``litellm.acompletion``: the same request on the wire, the same answer read, for each kind of call.

The call goes through ``LMClient`` on trio and through LiteLLM under asyncio, to one server.
"""

import asyncio
import importlib
import json
from collections.abc import Mapping
from typing import Any

import attrs
import pytest
import trio

from actors.errors import LMBadRequest
from actors.lm import Completion, ToolCall
from runtime.lm.client import LMClient
from runtime.lm.limits.retry import Retry
from tests.runtime.lm.google import service_account
from tests.runtime.lm.providers.test_differential import COMPARED_HEADERS, MESSAGES, SCHEMA, WEATHER
from tests.runtime.lm.recorder import Recorder, Seen, recording

pytestmark = pytest.mark.filterwarnings("ignore")  # of litellm and asyncio, which are only the yardstick here

ONCE = Retry(max_attempts=1)
DATA_URL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4nGNgYGBgAAAABQABpfZFQAAAAABJRU5ErkJggg=="
)
AWS = {"aws_access_key_id": "AKIAEXAMPLE", "aws_secret_access_key": "s3cret", "aws_region_name": "eu-central-1"}


@attrs.frozen
class Provider:
    """How one provider is asked in these tests."""

    model: str
    base: str = "/v1"
    options: Mapping[str, Any] = attrs.field(factory=dict)
    key: str | None = "s3cret"
    reasons: Mapping[str, Any] | None = None
    """The options that make this model, or `thinker`, think."""
    thinker: str | None = None


EFFORT = {"reasoning_effort": "low"}
THINKING = {"thinking": {"type": "enabled", "budget_tokens": 1024}, "max_tokens": 2048}
PROVIDERS = {
    "openai": Provider("gpt-4o-mini", reasons=EFFORT, thinker="gpt-5-mini"),
    "azure": Provider("gpt-4o-mini", "", reasons=EFFORT, thinker="gpt-5-mini"),
    "anthropic": Provider("claude-sonnet-4-5", "", reasons=THINKING),
    "gemini": Provider("gemini-2.5-flash", "/v1beta", reasons=EFFORT),
    "vertex_ai": Provider("gemini-2.5-flash", "", {"vertex_location": "europe-west1"}, None, reasons=EFFORT),
    "bedrock": Provider("anthropic.claude-3-7-sonnet-20250219-v1:0", "", AWS, None, reasons=THINKING),
    "mistral": Provider("mistral-small-latest", reasons=EFFORT, thinker="magistral-small-latest"),
    "groq": Provider("llama-3.3-70b-versatile", reasons=EFFORT, thinker="openai/gpt-oss-20b"),
    "openrouter": Provider("openai/gpt-4o-mini", reasons=EFFORT, thinker="deepseek/deepseek-r1"),
    "deepseek": Provider("deepseek-chat", "", reasons={"thinking": {"type": "enabled"}}, thinker="deepseek-reasoner"),
    "together_ai": Provider("meta-llama/Llama-3-8b-chat-hf", reasons=EFFORT, thinker="openai/gpt-oss-120b"),
    "fireworks_ai": Provider("accounts/fireworks/models/kimi-k2p6", reasons=EFFORT),
    "xai": Provider("grok-3", reasons=EFFORT, thinker="grok-4.3"),
    "cohere_chat": Provider("command-a-03-2025", "/v2/chat"),
    "ollama": Provider("llama3", "", key=None),
    "ollama_chat": Provider("llama3", "", reasons=EFFORT),
    "hosted_vllm": Provider("qwen", reasons=EFFORT),
}
PICTURE = [
    {"role": "user", "content": [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": ""}}]}
]
CASES: dict[str, dict[str, Any]] = {
    "text": {},
    "tools": {"tools": [WEATHER], "tool_choice": "auto"},
    "json": {"response_format": SCHEMA},
    "reasoning": {},
    "data picture": {},
    "web picture": {},
}


def messages_of(case: str, recorder: Recorder) -> list[dict[str, Any]]:
    if "picture" not in case:
        return MESSAGES
    messages: list[dict[str, Any]] = json.loads(json.dumps(PICTURE))
    messages[0]["content"][1]["image_url"]["url"] = DATA_URL if case == "data picture" else f"{recorder.url}/pixel.png"
    return messages


def call_of(name: str, case: str, recorder: Recorder) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """The model, the provider's options and the call's."""
    provider = PROVIDERS[name]
    model = provider.thinker if case == "reasoning" and provider.thinker else provider.model
    known = {"vertex_credentials": service_account(recorder.url)} if name == "vertex_ai" else {}
    return f"{name}/{model}", {**provider.options, **known}, {**CASES[case], **((case == "reasoning" and provider.reasons) or {})}


def theirs(name: str, case: str, recorder: Recorder, *, stream: bool) -> tuple[Seen, Any]:
    litellm: Any = importlib.import_module("litellm")
    litellm.disable_aiohttp_transport = True
    litellm.user_url_validation = False  # pictures come from the loopback server
    model, provider_options, options = call_of(name, case, recorder)
    messages = messages_of(case, recorder)
    base = recorder.url + PROVIDERS[name].base
    given = {**provider_options, **options, "api_base": base, "max_retries": 0, "_skip_mcp_handler": True}

    async def call() -> Any:
        key = PROVIDERS[name].key
        if not stream:
            return await litellm.acompletion(model=model, messages=messages, api_key=key, **given)
        supported = litellm.get_supported_openai_params(model=model) or []
        usage = {"stream_options": {"include_usage": True}} if "stream_options" in supported else {}
        pieces = await litellm.acompletion(model=model, messages=messages, api_key=key, stream=True, **usage, **given)
        return litellm.stream_chunk_builder([chunk async for chunk in pieces], messages=messages)

    reply = asyncio.run(call())
    return recorder.seen[-1], reply


def ours(name: str, case: str, recorder: Recorder, *, stream: bool) -> tuple[Seen, Completion]:
    model, provider_options, options = call_of(name, case, recorder)
    base = recorder.url + PROVIDERS[name].base

    async def call() -> Completion:
        client = LMClient(model, api_key=PROVIDERS[name].key, api_base=base, retry=ONCE, provider_options=provider_options)
        async with client as lm:
            if not stream:
                return await lm.chat(messages_of(case, recorder), **options)
            async with lm.stream(messages_of(case, recorder), **options) as answer:
                async for _ in answer:
                    pass
                return answer.completion

    completion = trio.run(call)
    return recorder.seen[-1], completion


def headers_of(name: str, seen: Seen) -> dict[str, str | None]:
    """Those that say who asks and how. LiteLLM does not tell Ollama that its JSON is JSON, and AWS's signatures have a time."""
    left_out = {"accept"} | ({"content-type"} if name.startswith("ollama") else set())
    left_out |= {"authorization"} if name == "bedrock" else set()
    return {header: seen.headers.get(header) for header in COMPARED_HEADERS if header not in left_out}


def calls_of(tool_calls: Any) -> list[tuple[str, Any]]:
    plain = [call.as_openai() if isinstance(call, ToolCall) else call.model_dump() for call in tool_calls or ()]
    return [(call["function"]["name"], json.loads(call["function"]["arguments"])) for call in plain]


NO_PRICE = {"hosted_vllm", "ollama", "ollama_chat"}
"""LiteLLM asks a server of one's own about the model, and says that it costs nothing."""
REFUSED = {("cohere_chat", "json")}
"""What LiteLLM does not send, and neither do we."""
MISTAKEN = {("bedrock", "json", True)}
"""LiteLLM says that the model called a tool, although it has made a text of the tool's arguments; not so without a stream."""


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(
    ("name", "case"),
    [(name, case) for name, provider in PROVIDERS.items() for case in CASES if case != "reasoning" or provider.reasons],
)
def test_a_call_equals_litellms(name: str, case: str, stream: bool):
    kind = case if case in {"tools", "json", "reasoning"} else "text"
    if (name, case) in REFUSED:
        return expect_refusal(name, case, stream=stream)
    if name == "cohere_chat" and stream:
        return expect_what_litellm_cannot_read(name, case)
    with recording(kind) as recorder:
        expected, reply = theirs(name, case, recorder, stream=stream)
        sent, completion = ours(name, case, recorder, stream=stream)

    assert (sent.method, sent.path, sent.body) == (expected.method, expected.path, expected.body)
    assert headers_of(name, sent) == headers_of(name, expected)
    wanted = their_answer(reply)
    if (name, case, stream) in MISTAKEN:
        wanted["finish"] = "stop"
    assert answer_of(completion) == wanted
    if not stream:
        assert completion.usage.cost_usd == (None if name in NO_PRICE else reply._hidden_params["response_cost"])


def answer_of(completion: Completion) -> dict[str, Any]:
    usage = completion.usage
    return {
        "text": completion.text,
        "calls": calls_of(completion.tool_calls),
        "finish": completion.finish_reason,
        "reasoning": completion.reasoning,
        "tokens": (usage.prompt_tokens, usage.completion_tokens),
    }


def their_answer(reply: Any) -> dict[str, Any]:
    choice = reply.choices[0]
    return {
        "text": choice.message.content or "",
        "calls": calls_of(choice.message.tool_calls),
        "finish": choice.finish_reason,
        "reasoning": getattr(choice.message, "reasoning_content", None),
        "tokens": (reply.usage.prompt_tokens, reply.usage.completion_tokens),
    }


def expect_refusal(name: str, case: str, *, stream: bool) -> None:
    with recording() as recorder:
        with pytest.raises(Exception, match="UnsupportedParamsError"):
            theirs(name, case, recorder, stream=stream)
        with pytest.raises(LMBadRequest, match="UnsupportedParamsError"):
            ours(name, case, recorder, stream=stream)

    assert recorder.seen == []


def expect_what_litellm_cannot_read(name: str, case: str) -> None:
    """LiteLLM cannot read Cohere's streams: only the requests are compared, and the answer is known."""
    with recording(case if case == "tools" else "text") as recorder:
        with pytest.raises(Exception, match="Error parsing chunk"):
            theirs(name, case, recorder, stream=True)
        expected = recorder.seen[0]
        sent, completion = ours(name, case, recorder, stream=True)

    assert (sent.method, sent.path, sent.body) == (expected.method, expected.path, expected.body)
    assert headers_of(name, sent) == headers_of(name, expected)
    has_tools = case == "tools"
    assert answer_of(completion) == {
        "text": "" if has_tools else "Hello!",
        "calls": [("weather", {"city": "Ulm"})] if has_tools else [],
        "finish": "tool_calls" if has_tools else "stop",
        "reasoning": None,
        "tokens": (1000, 100),
    }
