"""Our request equals the one that ``litellm.acompletion`` sends to the same server, and so does what is read from the reply."""

import asyncio
import importlib
from typing import Any

import pytest
import trio

from actors.errors import LMBadRequest
from actors.lm import Completion, TextDelta
from runtime.lm.client import LMClient
from runtime.lm.http.transport import open_transport
from runtime.lm.providers.translation import Translator
from tests.runtime.lm.recorder import Recorder, Seen, recording

pytestmark = pytest.mark.filterwarnings("ignore")  # of litellm and asyncio, which are only the yardstick here

COMPARED_HEADERS = (
    "authorization",
    "x-api-key",
    "api-key",
    "x-goog-api-key",
    "request-source",
    "anthropic-version",
    "anthropic-beta",
    "content-type",
    "accept",
    "http-referer",
    "x-title",
    "openai-organization",
    "openai-project",
    "x-own",
)
MESSAGES: list[dict[str, Any]] = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Grüße!"}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Look out of the window.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
SCHEMA = {
    "type": "json_schema",
    "json_schema": {
        "name": "answer",
        "strict": True,
        "schema": {
            "type": "object",
            "properties": {"answer": {"type": "string"}},
            "required": ["answer"],
            "additionalProperties": False,
        },
    },
}
TOOL_TURN: list[dict[str, Any]] = [
    {"role": "user", "content": "Weather in Ulm?"},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Ulm"}'}}],
    },
    {"role": "tool", "tool_call_id": "c1", "content": "rain"},
]
CASES: dict[str, tuple[list[dict[str, Any]], dict[str, Any]]] = {
    "plain": (MESSAGES, {}),
    "options": (MESSAGES, {"temperature": 0.2, "max_tokens": 64, "top_p": 0.9, "stop": ["END"], "user": "u1"}),
    "tools": (MESSAGES, {"tools": [WEATHER], "tool_choice": "auto", "parallel_tool_calls": False}),
    "tool turn": (TOOL_TURN, {"tools": [WEATHER]}),
    "json object": (MESSAGES, {"response_format": {"type": "json_object"}}),
    "json schema": (MESSAGES, {"response_format": SCHEMA}),
    "parts": ([{"role": "user", "content": [{"type": "text", "text": "Hi"}]}], {}),
    "developer": ([{"role": "developer", "content": "Be brief."}, {"role": "user", "content": "Hi"}], {}),
    "extra": (MESSAGES, {"extra_headers": {"x-own": "1"}, "extra_body": {"own": [1]}}),
}
MODELS = {
    "openai/gpt-4o-mini": "/v1",
    "openai/my-own-model": "/v1",
    "openai/o3-mini": "/v1",
    "openai/gpt-5-mini": "/v1",
    "anthropic/claude-sonnet-4-5": "",
    "anthropic/claude-3-haiku-20240307": "",
    "openrouter/meta-llama/llama-3-70b-instruct": "/v1",
    "hosted_vllm/qwen": "/v1",
    "groq/llama-3.3-70b-versatile": "/v1",
    "mistral/mistral-small-latest": "/v1",
    "deepseek/deepseek-chat": "",
    "together_ai/meta-llama/Llama-3-8b-chat-hf": "/v1",
    "xai/grok-3": "/v1",
    "cerebras/llama3.1-8b": "/v1",
    "azure/gpt-4o-mini": "",
    "azure/my-deployment": "",
    "azure/o3-mini": "",
    "azure/gpt-5-mini": "",
    "gemini/gemini-2.5-flash": "/v1beta",
    "gemini/gemini-2.5-pro": "/v1beta",
    "cohere_chat/command-r-plus": "/v2/chat",
    "cohere/command-a-03-2025": "/v2/chat",
    "ollama_chat/llama3": "",
    "fireworks_ai/accounts/fireworks/models/llama-v3p1-8b-instruct": "/v1",
    "perplexity/sonar": "",
    "deepinfra/meta-llama/Meta-Llama-3-8B-Instruct": "/v1",
    "nvidia_nim/meta/llama3-70b-instruct": "/v1",
    "sambanova/Meta-Llama-3.1-8B-Instruct": "/v1",
    "nebius/Qwen/Qwen3-32B": "/v1",
    "moonshot/kimi-k2": "/v1",
    "dashscope/qwen-plus": "/v1",
    "novita/meta-llama/llama-3.1-8b-instruct": "/v1",
}


def theirs(
    recorder: Recorder, model: str, base: str, messages: list[dict[str, Any]], options: dict[str, Any]
) -> tuple[Seen, Any]:
    litellm: Any = importlib.import_module("litellm")
    litellm.disable_aiohttp_transport = True

    async def call() -> Any:
        return await litellm.acompletion(
            model=model, messages=messages, api_base=base, api_key="s3cret", max_retries=0, _skip_mcp_handler=True, **options
        )

    reply = asyncio.run(call())
    return recorder.seen[-1], reply


def ours(
    recorder: Recorder, model: str, base: str, messages: list[dict[str, Any]], options: dict[str, Any]
) -> tuple[Seen, Completion]:
    translator = Translator(model, api_key="s3cret", api_base=base)

    async def call() -> Completion:
        exchange = translator.request(messages, options)
        async with open_transport() as transport:
            return translator.completion(exchange, await transport.send(exchange.request))

    completion = trio.run(call)
    return recorder.seen[-1], completion


THOROUGH = (
    "openai/gpt-4o-mini",
    "openai/my-own-model",
    "anthropic/claude-sonnet-4-5",
    "hosted_vllm/qwen",
    "azure/gpt-4o-mini",
    "gemini/gemini-2.5-flash",
    "cohere_chat/command-r-plus",
    "ollama_chat/llama3",
    "fireworks_ai/accounts/fireworks/models/llama-v3p1-8b-instruct",
    "perplexity/sonar",
)
FEW = ("options", "tools", "json schema")
PAIRS = [(model, case) for model in MODELS for case in CASES if model in THOROUGH or case in FEW]
PAIRS.remove(("anthropic/claude-sonnet-4-5", "extra"))  # litellm sends the name "extra_body" itself, which Anthropic refuses


@pytest.mark.parametrize(("model", "case"), PAIRS)
def test_the_request_equals_litellms(model: str, case: str):
    messages, options = CASES[case]

    with recording() as recorder:
        base = recorder.url + MODELS[model]
        try:
            expected, _ = theirs(recorder, model, base, messages, options)
        except Exception as error:
            if type(error).__name__ != "UnsupportedParamsError":
                raise
            with pytest.raises(LMBadRequest, match="UnsupportedParamsError"):
                ours(recorder, model, base, messages, options)
            return
        sent, _ = ours(recorder, model, base, messages, options)

    assert (sent.method, sent.path, sent.body) == (expected.method, expected.path, expected.body)
    # LiteLLM sends Ollama its JSON without saying that it is JSON.
    left_out = {"accept", "content-type"} if model.startswith("ollama") else {"accept"}
    assert {name: sent.headers.get(name) for name in COMPARED_HEADERS if name not in left_out} == {
        name: expected.headers.get(name) for name in COMPARED_HEADERS if name not in left_out
    }
    assert sent.headers["content-type"] == "application/json"


def their_price(model: str, reply: Any) -> float | None:
    litellm: Any = importlib.import_module("litellm")
    try:
        return float(litellm.completion_cost(reply, model=model))
    except litellm.exceptions.ModelNotMappedError:
        return None


@pytest.mark.parametrize("model", THOROUGH)
def test_answer_usage_and_price_equal_litellms(model: str):

    with recording() as recorder:
        base = recorder.url + MODELS[model]
        _, reply = theirs(recorder, model, base, MESSAGES, {})
        _, completion = ours(recorder, model, base, MESSAGES, {})

    assert completion.text == reply.choices[0].message.content == "Hello!"
    assert completion.finish_reason == reply.choices[0].finish_reason == "stop"
    assert completion.usage.prompt_tokens == reply.usage.prompt_tokens == 1000
    assert completion.usage.completion_tokens == reply.usage.completion_tokens == 100
    assert completion.usage.cost_usd == (None if model.startswith("hosted_vllm/") else their_price(model, reply))
    assert completion.model == model


def test_extra_body_is_merged_for_anthropic_too():
    with recording() as recorder:
        sent, _ = ours(recorder, "anthropic/claude-sonnet-4-5", recorder.url, *CASES["extra"])

    assert sent.body["own"] == [1]
    assert "extra_body" not in sent.body
    assert sent.headers["x-own"] == "1"


def their_stream(
    recorder: Recorder, model: str, base: str, messages: list[dict[str, Any]], options: dict[str, Any]
) -> tuple[Seen, Any]:
    """What LiteLLM sends, and the whole that it makes of its chunks."""
    litellm: Any = importlib.import_module("litellm")

    async def call() -> Any:
        supported = litellm.get_supported_openai_params(model=model)
        usage = {"stream_options": {"include_usage": True}} if "stream_options" in supported else {}
        stream = await litellm.acompletion(
            model=model,
            messages=messages,
            api_base=base,
            api_key="s3cret",
            max_retries=0,
            _skip_mcp_handler=True,
            stream=True,
            **usage,
            **options,
        )
        return litellm.stream_chunk_builder([chunk async for chunk in stream], messages=messages)

    whole = asyncio.run(call())
    return recorder.seen[-1], whole


def our_stream(
    recorder: Recorder, model: str, base: str, messages: list[dict[str, Any]], options: dict[str, Any]
) -> tuple[Seen, Completion]:
    async def call() -> Completion:
        async with LMClient(model, api_key="s3cret", api_base=base) as lm, lm.stream(messages, **options) as stream:
            assert [delta async for delta in stream] == [TextDelta("Hel"), TextDelta("lo!")]
            return stream.completion

    completion = trio.run(call)
    return recorder.seen[-1], completion


@pytest.mark.parametrize("case", ["plain", "tools"])
@pytest.mark.parametrize("model", [model for model in MODELS if not model.startswith("cohere")])
def test_a_streamed_call_equals_litellms(model: str, case: str):
    messages, options = CASES[case]

    with recording() as recorder:
        base = recorder.url + MODELS[model]
        try:
            expected, whole = their_stream(recorder, model, base, messages, options)
        except Exception as error:
            if type(error).__name__ != "UnsupportedParamsError":
                raise
            with pytest.raises(LMBadRequest, match="UnsupportedParamsError"):
                our_stream(recorder, model, base, messages, options)
            return
        sent, completion = our_stream(recorder, model, base, messages, options)

    assert (sent.method, sent.path, sent.body) == (expected.method, expected.path, expected.body)
    assert sent.headers.get("authorization") == expected.headers.get("authorization")
    assert (completion.text, completion.finish_reason) == (whole.choices[0].message.content, whole.choices[0].finish_reason)
    assert completion.usage.prompt_tokens == whole.usage.prompt_tokens == 1000
    assert completion.usage.completion_tokens == whole.usage.completion_tokens == 100


@pytest.mark.parametrize("case", ["plain", "tool turn"])
@pytest.mark.parametrize("model", ["cohere_chat/command-r-plus", "cohere/command-a-03-2025"])
def test_a_streamed_call_to_cohere_equals_litellms_and_is_read_though_litellm_cannot(model: str, case: str):
    with recording() as recorder:
        base = recorder.url + MODELS[model]
        with pytest.raises(Exception, match="Error parsing chunk"):
            their_stream(recorder, model, base, *CASES[case])
        expected = recorder.seen[0]
        sent, completion = our_stream(recorder, model, base, *CASES[case])

    assert (sent.method, sent.path, sent.body) == (expected.method, expected.path, expected.body)
    assert sent.headers.get("authorization") == expected.headers.get("authorization")
    assert (completion.text, completion.finish_reason) == ("Hello!", "stop")
    assert (completion.usage.prompt_tokens, completion.usage.completion_tokens) == (1000, 100)


@pytest.mark.parametrize(
    ("version", "path"),
    [
        ("2024-06-01", "/openai/deployments/gpt-4o-mini/chat/completions?api-version=2024-06-01"),
        ("v1", "/openai/v1/chat/completions"),
        ("preview", "/openai/v1/chat/completions"),
    ],
)
def test_azures_interface_is_the_one_that_the_environment_names(version: str, path: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AZURE_API_VERSION", version)

    with recording() as recorder:
        expected, _ = theirs(recorder, "azure/gpt-4o-mini", recorder.url, MESSAGES, {})
        sent, _ = ours(recorder, "azure/gpt-4o-mini", recorder.url, MESSAGES, {})

    assert sent.path == expected.path == path
    for name in ("api-key", "authorization"):
        assert sent.headers.get(name) == expected.headers.get(name)


def test_an_azure_address_that_names_the_deployment_is_kept():
    with recording() as recorder:
        base = f"{recorder.url}/openai/deployments/other"
        expected, _ = theirs(recorder, "azure/gpt-4o-mini", base, MESSAGES, {})
        sent, _ = ours(recorder, "azure/gpt-4o-mini", base, MESSAGES, {})

    assert sent.path == expected.path
    assert sent.path.startswith("/openai/deployments/other/chat/completions?api-version=")


def test_nothing_but_the_call_itself_is_asked_of_a_server_of_ones_own(monkeypatch: pytest.MonkeyPatch):
    with recording() as recorder:
        monkeypatch.setenv("OLLAMA_API_BASE", recorder.url)
        _, completion = ours(recorder, "ollama_chat/llama3", recorder.url, *CASES["tool turn"])

    assert [seen.path for seen in recorder.seen] == ["/api/chat"]
    assert completion.usage.cost_usd is None


COMPATIBLE = [
    "aiml",
    "apertis",
    "baseten",
    "chutes",
    "codestral",
    "cognition",
    "cometapi",
    "cortecs",
    "darkbloom",
    "docker_model_runner",
    "empower",
    "featherless_ai",
    "friendliai",
    "galadriel",
    "github",
    "helicone",
    "hyperbolic",
    "lambda_ai",
    "libertai",
    "litellm_proxy",
    "llamafile",
    "lm_studio",
    "meta",
    "meta_llama",
    "modelscope",
    "nano-gpt",
    "nscale",
    "parasail",
    "pinstripes",
    "poe",
    "prism",
    "publicai",
    "qwen_ai_platform",
    "qwencloud",
    "reka",
    "scx-ai",
    "synthetic",
    "tencent",
    "tensormesh",
    "volcengine",
    "wandb",
    "xinference",
    "zai",
]


@pytest.mark.parametrize("provider", COMPATIBLE)
def test_a_call_to_any_other_compatible_provider_equals_litellms(provider: str):
    with recording() as recorder:
        expected, _ = theirs(recorder, f"{provider}/some-model", f"{recorder.url}/v1", *CASES["options"])
        sent, completion = ours(recorder, f"{provider}/some-model", f"{recorder.url}/v1", *CASES["options"])

    assert (sent.method, sent.path, sent.body) == (expected.method, expected.path, expected.body)
    assert sent.headers.get("authorization") == expected.headers.get("authorization")
    assert completion.text == "Hello!"
