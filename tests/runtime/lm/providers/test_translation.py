import json
from typing import Any

import pytest

from actors.errors import (
    DeclarationError,
    LMAuthFailed,
    LMBadRequest,
    LMContextTooLong,
    LMRateLimited,
    LMRefused,
    LMReplyUnreadable,
    UsageError,
)
from runtime.lm.client import LMClient
from runtime.lm.http.http_messages import HttpReply
from runtime.lm.http.sse_reader import ServerEvent
from runtime.lm.providers.exchange import ModelExchange
from runtime.lm.providers.known import EXAMPLES
from runtime.lm.providers.translation import Translator

HELLO = [{"role": "user", "content": "Hello"}]


def translator(model: str = "openai/gpt-4o-mini") -> Translator:
    return Translator(model, api_key="s3cret-key", api_base="http://127.0.0.1:9/v1")


def asked(model: str = "openai/gpt-4o-mini", **options: Any) -> tuple[Translator, ModelExchange]:
    translates = translator(model)
    return translates, translates.request(HELLO, options)


def reply(message: dict[str, Any] | None = None, status: int = 200, **fields: Any) -> HttpReply:
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hi", **(message or {})}}
    body = {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], **fields}
    return HttpReply(status, {"content-type": "application/json"}, json.dumps(body).encode())


def test_an_answer_is_read_with_its_usage_and_price():
    translates, exchange = asked()

    completion = translates.completion(
        exchange, reply(usage={"prompt_tokens": 1_000_000, "completion_tokens": 0, "total_tokens": 0})
    )

    assert (completion.text, completion.model, completion.finish_reason) == ("Hi", "openai/gpt-4o-mini", "stop")
    assert completion.usage.prompt_tokens == 1_000_000
    assert completion.usage.cost_usd == pytest.approx(0.15)


def test_a_model_without_a_price_costs_none_and_not_zero():
    translates, exchange = asked("openai/my-own-model")

    completion = translates.completion(exchange, reply(usage={"prompt_tokens": 5, "completion_tokens": 5, "total_tokens": 10}))

    assert completion.usage.cost_usd is None


def test_tool_calls_are_read():
    call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Ulm"}'}}
    translates, exchange = asked()

    completion = translates.completion(exchange, reply({"content": None, "tool_calls": [call]}))

    assert completion.text == ""
    assert completion.finish_reason == "tool_calls"
    assert [item.as_openai() for item in completion.tool_calls] == [call]


def test_visible_reasoning_is_read():
    translates, exchange = asked("hosted_vllm/qwen")

    completion = translates.completion(exchange, reply({"reasoning_content": "Hm."}))

    assert completion.reasoning == "Hm."


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b"[]", b"{}", b'{"choices": []}', b'{"choices": [{}]}', b'{"choices": [{"message": null}]}', b'{"cho'],
)
@pytest.mark.parametrize("model", ["openai/gpt-4o-mini", "anthropic/claude-sonnet-4-5", "groq/llama-3.3-70b-versatile"])
def test_a_success_that_cannot_be_read_is_unreadable(model: str, body: bytes):
    translates, exchange = asked(model)

    with pytest.raises(LMReplyUnreadable, match=r"^HTTP 200 from http://127\.0\.0\.1:9/\S+ carries no answer that can be read"):
        translates.completion(exchange, HttpReply(200, {}, body))


def test_a_refusal_of_the_model_is_an_error_with_its_words():
    translates, exchange = asked()

    with pytest.raises(LMRefused, match=r"^the model declined to answer: I cannot help with that\.\n  Fix: "):
        translates.completion(exchange, reply({"content": None, "refusal": "I cannot help with that"}))


@pytest.mark.parametrize(
    ("status", "error", "kind"),
    [
        (400, {"message": "This model's maximum context length is 8192 tokens.", "code": None}, LMContextTooLong),
        (400, {"message": "too long", "code": "context_length_exceeded"}, LMContextTooLong),
        (400, {"message": "Bad role", "code": None}, LMBadRequest),
        (429, {"message": "Slow down", "code": "rate_limit_exceeded"}, LMRateLimited),
        (200, {"message": "Slow down", "code": 429}, LMRateLimited),
        (401, {"message": "Incorrect API key provided: s3cret-key", "code": "invalid_api_key"}, LMAuthFailed),
    ],
)
def test_an_error_reply_becomes_the_tables_error_and_shows_no_key(status: int, error: dict[str, Any], kind: type[Exception]):
    translates, exchange = asked()

    with pytest.raises(kind) as caught:
        translates.completion(exchange, HttpReply(status, {}, json.dumps({"error": error}).encode()))

    assert type(caught.value) is kind
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("model", "variable"),
    [
        ("openai/gpt-4o-mini", "OPENAI_API_KEY"),
        ("anthropic/claude-sonnet-4-5", "ANTHROPIC_API_KEY"),
        ("openrouter/a/b", "OPENROUTER_API_KEY"),
        ("groq/llama", "GROQ_API_KEY"),
        ("mistral/m", "MISTRAL_API_KEY"),
        ("gemini/gemini-2.5-flash", "GOOGLE_API_KEY"),
        ("cohere/command-r", "COHERE_API_KEY"),
        ("perplexity/sonar", "PERPLEXITYAI_API_KEY"),
        ("fireworks_ai/x", "FIREWORKS_AI_API_KEY"),
    ],
)
def test_a_missing_key_is_named_and_one_in_the_environment_is_used(model: str, variable: str, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(
        LMAuthFailed, match=rf"^'{model}' needs a key, and there is none\.\n  Fix: set the environment variable {variable}, "
    ):
        Translator(model).route()

    monkeypatch.setenv(variable, "from-the-environment")
    request = Translator(model).request(HELLO, {}).request

    assert "from-the-environment" in "".join(request.headers.values())


def test_the_key_of_openai_is_not_sent_to_others(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OPENAI_API_KEY", "s3cret")

    with pytest.raises(LMAuthFailed):
        Translator("cerebras/llama3.1-8b").route()


def test_a_server_of_your_own_needs_no_key():
    request = Translator("hosted_vllm/qwen", api_base="http://127.0.0.1:9/v1").request(HELLO, {}).request

    assert request.url == "http://127.0.0.1:9/v1/chat/completions"


@pytest.mark.parametrize("key", ["s3cret\n", " s3cret", "s3crét"])
def test_a_key_that_cannot_be_one_is_refused_without_showing_it(key: str):
    with pytest.raises(LMAuthFailed, match="holds characters that no key has") as caught:
        Translator("openai/gpt-4o-mini", api_key=key).route()

    assert key.strip() not in str(caught.value)


@pytest.mark.parametrize("model", ["nonsense", "nope/x", "/", "openai"])
def test_an_unknown_model_is_a_declaration_error_with_examples(model: str):
    with pytest.raises(
        DeclarationError, match=r"LiteLLM knows no provider for this model\.\n  Fix: name the provider before a slash, "
    ):
        Translator(model, api_key="k").route()


@pytest.mark.parametrize("model", ["chatgpt/gpt-5", "github_copilot/gpt-4o"])
def test_a_provider_that_is_not_served_says_so(model: str):
    with pytest.raises(DeclarationError) as caught:
        Translator(model, api_key="k").route()

    assert str(caught.value) == (
        f"LMClient({model!r}): the provider {model.partition('/')[0]!r} is not served: LiteLLM signs in to it by asking a "
        f"person at a terminal.\n  Fix: use {EXAMPLES}, or a gateway that speaks OpenAI's protocol."
    )


@pytest.mark.parametrize("model", ["replicate/x/y", "azure_ai/x", "cohere_chat/v1/command-r", "bedrock/invoke/x", "heroku/x"])
def test_a_provider_that_only_litellm_can_call_is_left_to_it(model: str):
    assert Translator(model, api_key="k").route().is_threaded


def test_a_provider_that_wants_more_said_says_so():
    with pytest.raises(DeclarationError) as caught:
        Translator("ragflow/x", api_key="s3cret-key").route()

    assert str(caught.value).startswith("LMClient('ragflow/x'): LiteLLM cannot tell where this model is: ")
    assert str(caught.value).endswith(".\n  Fix: pass api_base, or correct the form of the model's name.")
    assert "s3cret" not in str(caught.value)


def test_azure_without_an_address_says_what_one_looks_like(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("AZURE_API_BASE", raising=False)

    with pytest.raises(
        DeclarationError, match=r"no address is known\.\n  Fix: pass api_base='https://NAME\.openai\.azure\.com'\."
    ):
        Translator("azure/gpt-4o-mini", api_key="k").route()


@pytest.mark.parametrize(
    ("model", "url"),
    [
        ("gemini/gemini-2.5-flash", "https://generativelanguage.googleapis.com/v1beta/models/gemini-2.5-flash:generateContent"),
        (
            "gemini/gemini-3-pro-preview",
            "https://generativelanguage.googleapis.com/v1alpha/models/gemini-3-pro-preview:generateContent",
        ),
        ("cohere/command-r", "https://api.cohere.com/v2/chat"),
        ("ollama_chat/llama3", "http://localhost:11434/api/chat"),
        ("perplexity/sonar", "https://api.perplexity.ai/chat/completions"),
        ("fireworks_ai/x", "https://api.fireworks.ai/inference/v1/chat/completions"),
    ],
)
def test_the_address_of_a_provider_is_known_and_holds_no_key(model: str, url: str):
    request = Translator(model, api_key="s3cret-key").request(HELLO, {}).request

    assert request.url == url
    assert any("s3cret-key" in value for value in request.headers.values())


@pytest.mark.parametrize("model", ["gemini/gemini-2.5-flash", "azure/gpt-4o-mini", "cohere/command-r", "ollama_chat/llama3"])
def test_no_error_shows_the_key_of_a_provider_with_its_own_protocol(model: str):
    translates, exchange = asked(model)
    words = {"error": {"code": 400, "message": "bad key s3cret-key, AIzaSyA1234567890abcdef", "status": "INVALID_ARGUMENT"}}

    with pytest.raises(LMBadRequest) as caught:
        translates.completion(exchange, HttpReply(400, {}, json.dumps(words).encode()))

    shown = f"{caught.value} {exchange!r} {translates!r} {translates.route()!r} {exchange.request!r}"
    assert "s3cret" not in shown
    assert "AIza" not in shown


@pytest.mark.parametrize("model", ["gemini/gemini-2.5-flash", "azure/gpt-4o-mini", "cohere/command-r", "ollama_chat/llama3"])
@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"{}"])
def test_an_unreadable_reply_is_so_for_every_protocol(model: str, body: bytes):
    translates, exchange = asked(model)

    with pytest.raises(LMReplyUnreadable):
        translates.completion(exchange, HttpReply(200, {}, body))


@pytest.mark.parametrize("model", ["gemini/gemini-2.5-flash", "azure/gpt-4o-mini", "cohere/command-r", "ollama_chat/llama3"])
def test_the_longest_answer_is_expected_for_every_protocol(model: str):
    translates, exchange = asked(model, max_tokens=77)

    assert translates.expected_tokens(exchange)[1] == 77


def test_a_tool_call_of_gemini_is_read():
    translates, exchange = asked("gemini/gemini-2.5-flash")
    parts = [{"functionCall": {"name": "weather", "args": {"city": "Ulm"}}}]
    candidate = {"index": 0, "finishReason": "STOP", "content": {"role": "model", "parts": parts}}
    body = {"candidates": [candidate], "usageMetadata": {"promptTokenCount": 5, "totalTokenCount": 5}}

    completion = translates.completion(exchange, HttpReply(200, {}, json.dumps(body).encode()))

    (call,) = completion.tool_calls
    assert (call.name, call.arguments) == ("weather", '{"city": "Ulm"}')
    assert completion.finish_reason == "tool_calls"


def test_a_blocked_prompt_of_gemini_is_a_refusal():
    translates, exchange = asked("gemini/gemini-2.5-flash")
    body = {"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": 5, "totalTokenCount": 5}}

    with pytest.raises(LMRefused):
        translates.completion(exchange, HttpReply(200, {}, json.dumps(body).encode()))


def test_the_streamed_tool_call_of_cohere_is_read():
    translates, exchange = asked("cohere/command-r")
    chunks = translates.chunks(exchange)
    start = {"id": "t1", "type": "function", "function": {"name": "weather", "arguments": ""}}
    events = [
        {"type": "tool-plan-delta", "delta": {"message": {"tool_plan": "I look."}}},
        {"type": "tool-call-start", "index": 0, "delta": {"message": {"tool_calls": start}}},
        {
            "type": "tool-call-delta",
            "index": 0,
            "delta": {"message": {"tool_calls": {"function": {"arguments": '{"city":"Ulm"}'}}}},
        },
        {"type": "tool-call-end", "index": 0},
        {
            "type": "message-end",
            "delta": {"finish_reason": "TOOL_CALL", "usage": {"tokens": {"input_tokens": 3, "output_tokens": 4}}},
        },
    ]

    for event in events:
        chunks.read(ServerEvent(json.dumps(event)))

    whole = translates.streamed(exchange, chunks)
    assert [(call.name, call.arguments) for call in whole.tool_calls] == [("weather", '{"city":"Ulm"}')]
    assert (whole.finish_reason, whole.usage.prompt_tokens, whole.usage.completion_tokens) == ("tool_calls", 3, 4)


def test_a_stream_of_cohere_that_ends_in_an_error_is_not_whole():
    translates, exchange = asked("cohere/command-r")
    chunks = translates.chunks(exchange)

    with pytest.raises(ValueError, match="the answer ended because of 'ERROR'"):
        chunks.read(ServerEvent(json.dumps({"type": "message-end", "delta": {"finish_reason": "ERROR"}})))

    assert not chunks.is_whole


def test_a_model_of_another_interface_says_so():
    with pytest.raises(DeclarationError, match="over its Responses API only"):
        Translator("openai/o1-pro", api_key="k").route()


@pytest.mark.parametrize(
    ("options", "fix"),
    [
        ({"max_retries": 2}, "set LMClient(..., retry=Retry(max_attempts=…)): nothing else retries."),
        ({"stream": True}, "leave it out: chat() returns whole answers, stream() their pieces."),
        ({"timeout": 3}, "wrap the call in trio.fail_after(seconds), or set LMClient(..., deadline_s=…)."),
        ({"n": 2}, "make 2 calls in a nursery."),
        ({"mock_response": "x"}, "leave it out, or send it to the provider in extra_body={…}."),
    ],
)
def test_options_that_would_do_nothing_are_refused(options: dict[str, Any], fix: str):
    with pytest.raises(UsageError) as caught:
        asked(**options)

    assert str(caught.value).endswith(f"\n  Fix: {fix}")


def test_an_option_that_the_provider_does_not_know_is_a_bad_request():
    with pytest.raises(LMBadRequest) as caught:
        asked("anthropic/claude-sonnet-4-5", logit_bias={"1": 1})

    assert str(caught.value) == (
        "no request to 'anthropic/claude-sonnet-4-5' could be made of the messages and options: UnsupportedParamsError: "
        "anthropic does not support parameters: ['logit_bias'], for model=claude-sonnet-4-5.\n"
        "  Fix: leave it out, or pass drop_params=True to leave out what the provider does not take."
    )
    assert caught.value.attempt == 0


def test_a_value_that_json_cannot_carry_is_a_bad_request():
    with pytest.raises(LMBadRequest, match="hold a value that JSON cannot carry"):
        translator().request([{"role": "user", "content": "x", "name": object()}], {})


def test_neither_translator_nor_exchange_shows_the_key():
    translates, exchange = asked()

    assert "s3cret" not in f"{translates!r} {exchange!r} {translates.route()!r}"


def test_the_callers_messages_and_options_are_left_as_they_were():
    messages = [{"role": "developer", "content": "Be brief."}, *HELLO]
    options = {"tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}], "extra_body": {"a": 1}}
    before = json.dumps([messages, options])

    translator("anthropic/claude-sonnet-4-5").request(messages, options)

    assert json.dumps([messages, options]) == before


@pytest.mark.parametrize("options", ["aws_region_name", [("aws_region_name", "x")], {1: "s3cret"}])
def test_provider_options_that_are_no_mapping_from_names_are_refused_without_showing_them(options: Any):
    with pytest.raises(DeclarationError) as caught:
        LMClient("bedrock/x", provider_options=options)

    assert str(caught.value) == (
        f"LMClient(provider_options=…): expected a mapping from option names, got a {type(options).__name__}.\n"
        "  Fix: pass one such as {'aws_region_name': 'eu-central-1'}."
    )


def test_a_provider_without_options_of_its_own_says_so():
    with pytest.raises(DeclarationError) as caught:
        Translator("openai/gpt-4o-mini", api_key="k", provider_options={"vertex_project": "p"}).route()

    assert str(caught.value) == (
        "LMClient('openai/gpt-4o-mini', provider_options=…): no option 'vertex_project' is known; 'openai' has none.\n"
        "  Fix: correct its name, or pass what belongs to one call to chat()."
    )


def test_azures_date_can_be_given():
    route = Translator(
        "azure/gpt-4o-mini", api_key="k", api_base="https://a.openai.azure.com", provider_options={"api_version": "2024-06-01"}
    ).route()

    assert route.api_version == "2024-06-01"
