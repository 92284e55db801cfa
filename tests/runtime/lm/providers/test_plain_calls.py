"""Plain calls, made and read without LiteLLM, are to the last byte and digit what they are with it."""

import inspect
import itertools
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from actors.lm import Delta
from runtime.lm.http.http_messages import HttpReply
from runtime.lm.http.sse_reader import ServerEvent
from runtime.lm.providers import chunks, import_litellm, price_list, replies
from runtime.lm.providers.error_table import is_context_too_long
from runtime.lm.providers.import_litellm import load, part
from runtime.lm.providers.plain_calls import PlainModel, plain_model
from runtime.lm.providers.translation import Translator

KEY, BASE = "k" * 20, "http://127.0.0.1:9/v1"
MESSAGES: list[dict[str, Any]] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Grüße 🙂"},
    {"role": "assistant", "content": "Hi"},
    {"role": "user", "content": ""},
]
OPTIONS: dict[str, Any] = {
    "temperature": 0.2,
    "max_tokens": 64,
    "top_p": 0.9,
    "seed": 3,
    "stop": ["A", "B"],
    "presence_penalty": 1,
    "frequency_penalty": 0.5,
}
ALL_OPTIONS = [{}, *({name: value} for name, value in OPTIONS.items()), OPTIONS, {"stop": "E", "temperature": 1, "seed": 0}]
OWN_NAMES = ["openai/my-own", "openai/meta-llama/Llama-3", "openai/claude-3-haiku-20240307", "hosted_vllm/qwen", "lm_studio/x"]


def table() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(load().__file__).with_name(price_list._FILE).read_text())
    return found


def plain(name: str, base: str = BASE) -> PlainModel | None:
    return plain_model(name, api_key=KEY, api_base=base, options={})


def plain_names() -> list[str]:
    of_openai = [f"openai/{name}" for name, row in table().items() if row.get("litellm_provider") == "openai"]
    return [name for name in [*of_openai, *OWN_NAMES] if plain(name) is not None]


def with_litellm(name: str, monkeypatch: pytest.MonkeyPatch, base: str = BASE) -> Translator:
    """A translator that leaves everything to LiteLLM."""
    with monkeypatch.context() as patched:
        patched.setattr("runtime.lm.providers.translation.plain_model", lambda *_, **__: None)  # pyright: ignore[reportUnknownLambdaType]
        translator = Translator(name, api_key=KEY, api_base=base)
        assert translator.plain is None
    return translator


def test_the_usual_models_are_plain_ones():
    names = set(plain_names())

    assert names >= {"openai/gpt-4o-mini", "openai/gpt-4o-mini-2024-07-18", "openai/gpt-4.1", *OWN_NAMES}
    assert len(names) > 25


def test_requests_places_prices_and_abilities_equal_those_of_litellm(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OPENAI_ORGANIZATION", "org-1")
    for name in plain_names():
        ours, theirs = plain(name), with_litellm(name, monkeypatch)
        assert ours is not None
        for options in ALL_OPTIONS:
            for stream in (False, True):
                mine, other = ours.request(MESSAGES, options, stream=stream), theirs.request(MESSAGES, options, stream=stream)
                assert mine is not None
                assert mine.request == other.request
                assert list(mine.request.headers.items()) == list(other.request.headers.items())
                assert (mine.data, mine.messages, mine.optional_params) == (other.data, other.messages, other.optional_params)
                assert (mine.litellm_params, mine.json_mode) == (other.litellm_params, other.json_mode)
        route = theirs.route()
        for field in ("name", "model", "provider", "api_base", "api_key", "headers", "api_version", "options", "account"):
            assert getattr(ours.route, field) == getattr(route, field)
        assert ours.abilities == theirs.abilities
        for tokens in ((0, 0), (1, 1), (1000, 17), (123456, 7891)):
            assert (ours.prices.of_tokens(*tokens) if ours.prices is not None else 0) == theirs.price_usd(*tokens)


@pytest.mark.parametrize("base", ["http://h", "http://h/v1/", "http://h/chat/completions", "http://h/chat/completions/x"])
@pytest.mark.parametrize("name", ["openai/gpt-4o-mini", "hosted_vllm/qwen", "lm_studio/x"])
def test_an_address_is_read_as_litellm_reads_it(name: str, base: str, monkeypatch: pytest.MonkeyPatch):
    model = plain(name, base)
    assert model is not None
    exchange = model.request(MESSAGES, {}, stream=False)

    assert exchange is not None
    assert exchange.request == with_litellm(name, monkeypatch, base).request(MESSAGES, {}).request


@pytest.mark.parametrize(
    "name",
    [
        "openai/o3-mini",
        "openai/gpt-5-mini",
        "openai/gpt-4o-audio-preview",
        "openai/gpt-4o-search-preview",
        "openai/gpt-oss-120b",
        "openai/ft:gpt-4o-mini-2024-07-18:mine::1",
        "openai/responses/gpt-4o",
        "openai/text-embedding-3-small",
        "openai/",
        "openai",
        "hosted_vllm/gpt-4o",
        "groq/llama-3.3-70b-versatile",
        "anthropic/claude-sonnet-4-5",
    ],
)
def test_a_model_with_peculiarities_is_left_to_litellm(name: str):
    assert plain(name) is None


def test_what_steers_litellm_leaves_the_call_to_it(monkeypatch: pytest.MonkeyPatch):
    assert plain_model("openai/m", api_key=KEY, api_base=BASE, options={"api_version": "1"}) is None
    for key in ("k\n" * 9, "kää" * 9):
        assert plain_model("openai/m", api_key=key, api_base=BASE, options={}) is None
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    assert plain_model("openai/m", api_key=None, api_base=BASE, options={}) is None
    monkeypatch.setenv("USE_LITELLM_PROXY", "true")
    assert plain("openai/m") is None
    monkeypatch.delenv("USE_LITELLM_PROXY")
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "False")
    assert plain("openai/m") is None


def test_key_and_address_are_those_of_the_environment(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_BASE_URL", "http://other/v1")
    model = plain_model("openai/m", api_key=None, api_base=None, options={})

    assert model is not None
    assert (model.route.api_base, model.route.api_key) == ("http://other/v1", KEY)


@pytest.mark.parametrize(
    ("messages", "options"),
    [
        (MESSAGES, {"user": "u1"}),
        (MESSAGES, {"temperature": float("nan")}),
        (MESSAGES, {"temperature": True}),
        (MESSAGES, {"temperature": "0.2"}),
        (MESSAGES, {"max_tokens": 6.5}),
        (MESSAGES, {"stop": [1]}),
        (MESSAGES, {"response_format": {"type": "json_object"}}),
        (MESSAGES, {"temprature": 1}),
        ([{"role": "developer", "content": "Hi"}], {}),
        ([{"role": "user", "content": [{"type": "text", "text": "Hi"}]}], {}),
        ([{"role": "user", "content": "Hi", "name": "me"}], {}),
        ([{"role": "assistant", "content": None}], {}),
        ([{"role": "user", "content": "half \ud83d"}], {}),
    ],
)
def test_any_other_call_is_left_to_litellm(messages: list[dict[str, Any]], options: dict[str, Any]):
    model = plain("openai/gpt-4o-mini")
    assert model is not None

    assert model.request(messages, options, stream=False) is None


# --- prices ---


def test_single_rows_are_those_of_the_whole_table():
    whole = table()

    for name in [*list(whole)[::40], "gpt-4o-mini", "claude-haiku-5-5"]:
        assert price_list._row_in_file(name) == whole.get(name)
    assert price_list._row_in_file("no such model") is None


def test_a_model_that_a_program_has_registered_has_its_price(monkeypatch: pytest.MonkeyPatch):
    row = {"litellm_provider": "openai", "mode": "chat", "input_cost_per_token": 0.5, "output_cost_per_token": 2.0}
    monkeypatch.setitem(load().model_cost, "mine", row)
    model = plain("openai/mine")

    assert model is not None
    assert model.prices is not None
    assert model.prices.of_tokens(2, 1) == 3.0


TIERS = (None, "default", "priority", "flex", "auto")
USAGES: list[dict[str, Any]] = [
    {},
    {"prompt_tokens_details": {"cached_tokens": 800, "audio_tokens": 0}},
    {"completion_tokens_details": {"reasoning_tokens": 0, "accepted_prediction_tokens": None}},
    {"prompt_tokens_details": {"cached_tokens": 800, "audio_tokens": 7}},
    {"completion_tokens_details": {"reasoning_tokens": 5}},
    {"prompt_tokens_details": {"cached_tokens": 2000}},
]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("openai/gpt-4o-mini", "gpt-4o-mini-2024-07-18"),
        ("openai/gpt-4o-mini", "gpt-4o"),
        ("openai/gpt-4o-mini", "gpt-5-mini"),
        ("openai/gpt-4o-mini", "unheard-of"),
        ("openai/gpt-4o-mini", "groq/llama-3.3-70b-versatile"),
        ("openai/mine", "mine"),
        ("openai/mine", "gpt-4o"),
        ("openai/mine", "claude-sonnet-4-5"),
        ("openai/gpt-4-turbo", "gpt-4-turbo-2024-04-09"),
        ("hosted_vllm/q", "q"),
        ("hosted_vllm/q", "gpt-4o"),
    ],
)
def test_a_reply_costs_what_litellm_says(name: str, told: str, monkeypatch: pytest.MonkeyPatch):
    ours, theirs = Translator(name, api_key=KEY, api_base=BASE), with_litellm(name, monkeypatch)
    assert ours.plain is not None
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hi"}}
    for tier, usage in itertools.product(TIERS, USAGES):
        counts = {"prompt_tokens": 1000, "completion_tokens": 20, "total_tokens": 1020, **usage}
        fields = {"id": "1", "object": "chat.completion", "created": 1, "model": told, "service_tier": tier}
        body = json.dumps({**fields, "choices": [choice], "usage": counts}).encode()
        reply = HttpReply(200, {"content-type": "application/json"}, body)

        answer = ours.completion(ours.request(MESSAGES, {}), reply)

        assert answer == theirs.completion(theirs.request(MESSAGES, {}), reply)


# --- streams ---

HEAD = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o-mini-2024-07-18"}
USAGE = {"prompt_tokens": 1000, "completion_tokens": 20, "total_tokens": 1020}


def piece(content: Any = None, reason: Any = None, /, delta: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    given = {"content": content} if delta is None else delta
    return {**HEAD, "choices": [{"index": 0, "delta": given, "finish_reason": reason}], **more}


CALL = {"tool_calls": [{"index": 0, "id": "t1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]}
STREAMS: dict[str, list[dict[str, Any]]] = {
    "as OpenAI sends it": [
        piece(delta={"role": "assistant", "content": "", "refusal": None}, system_fingerprint="fp", service_tier="default"),
        piece("Hel", usage=None, obfuscation="x8"),
        piece("lo 🙂", usage=None),
        piece(None, "stop", delta={}),
        {**HEAD, "choices": [], "usage": {**USAGE, "prompt_tokens_details": {"cached_tokens": 512, "audio_tokens": 0}}},
    ],
    "cut off": [piece("Hel"), piece("lo", "length"), {**HEAD, "choices": [], "usage": USAGE}],
    "halves of a character": [piece("a\ud83d"), piece("\ude42b"), piece("\ud83d", "stop")],
    "without a usage": [piece("Hello"), piece("", "stop")],
    "a usage of nothing": [piece("Hi", "stop", usage={"prompt_tokens": 9, "completion_tokens": 0, "total_tokens": 9})],
    "a usage in each piece": [piece("Hi", usage=USAGE), piece("!", "stop", usage={**USAGE, "completion_tokens": 21})],
    "audio in the usage": [piece("Hi", "stop", usage={**USAGE, "prompt_tokens_details": {"audio_tokens": 9}})],
    "fractions of tokens": [piece("Hi", "stop", usage={**USAGE, "prompt_tokens": 9.5})],
    "a tool call after a text": [piece("Let me see."), piece(delta=CALL), piece(None, "tool_calls", delta={})],
    "reasoning": [piece(delta={"reasoning_content": "hm"}), piece("Hi", "stop")],
    "reasoning, as GLM has it": [piece(delta={"reasoning": "hm"}), piece("Hi", "stop")],
    "a refusal": [piece(delta={"refusal": "No."}), piece("I can't.", "stop")],
    "log probabilities": [
        {**HEAD, "choices": [{"index": 0, "delta": {"content": "Hi"}, "finish_reason": "stop", "logprobs": {"content": []}}]}
    ],
    "a text in parts": [piece([{"type": "text", "text": "Hi"}]), piece("", "stop")],
    "another reason": [piece("Hi", "content_filter")],
    "without an id": [{**piece("Hi", "stop"), "id": None}],
    "fields of its own": [piece("Hi", "stop", citations=["x"])],
}


def streamed(translator: Translator, events: list[dict[str, Any]]) -> tuple[list[list[Delta] | None], Any, bool]:
    exchange = translator.request(MESSAGES, {}, stream=True)
    reader = translator.chunks(exchange)
    pieces = [reader.read(ServerEvent(data=json.dumps(event))) for event in events]
    alone = translator.plain_streamed(reader)
    return pieces, alone or translator.streamed(exchange, reader), alone is not None


@pytest.mark.parametrize("case", STREAMS)
@pytest.mark.parametrize("name", ["openai/gpt-4o-mini", "openai/mine", "hosted_vllm/q"])
def test_a_stream_is_read_as_litellm_reads_it(name: str, case: str, monkeypatch: pytest.MonkeyPatch):
    ours = Translator(name, api_key=KEY, api_base=BASE)
    assert ours.plain is not None

    mine, whole, is_plain = streamed(ours, STREAMS[case])

    theirs, their_whole, _ = streamed(with_litellm(name, monkeypatch), STREAMS[case])
    assert (mine, whole) == (theirs, their_whole)
    assert is_plain == (list(STREAMS).index(case) < 5)


def test_a_piece_that_needs_litellm_waits_for_it_and_loses_nothing(monkeypatch: pytest.MonkeyPatch):
    translator = Translator("openai/gpt-4o-mini", api_key=KEY, api_base=BASE)
    reader = translator.chunks(translator.request(MESSAGES, {}, stream=True))
    events = [ServerEvent(data=json.dumps(event)) for event in STREAMS["a tool call after a text"]]
    with monkeypatch.context() as cold:
        cold.setattr(reader, "_is_loaded", lambda: False)
        assert reader.read(events[0])
        assert reader.read(events[1]) is None

    assert reader.read(events[1])
    assert reader.read(events[2]) == []
    assert (reader.text, len(reader.tool_calls), reader.finish_reason) == ("Let me see.", 1, "tool_calls")


def test_a_reply_that_needs_litellm_is_not_read_before_it_is_there(monkeypatch: pytest.MonkeyPatch):
    translator = Translator("openai/gpt-4o-mini", api_key=KEY, api_base=BASE)
    exchange = translator.request(MESSAGES, {})
    message = {"role": "assistant", "content": None, **CALL}
    choice = {"index": 0, "finish_reason": "tool_calls", "message": message}
    body = json.dumps({**HEAD, "object": "chat.completion", "choices": [choice], "usage": USAGE}).encode()
    reply = HttpReply(200, {"content-type": "application/json"}, body)
    with monkeypatch.context() as cold:
        cold.setattr(replies, "is_warm", lambda: False)
        assert translator.plain_completion(exchange, reply) is None

    assert translator.completion(exchange, reply).tool_calls


# --- the rest of a call ---


def test_a_prompt_that_is_too_long_is_known_by_litellms_words():
    theirs = part("litellm_core_utils.exception_mapping_utils").ExceptionCheckers.is_error_str_context_window_exceeded
    words = re.findall(r'"([^"\n]{6,})"', inspect.getsource(theirs))
    texts = [*words, *(f"{first} 7, {second} 8" for first in words for second in words), *(word.upper() for word in words), ""]

    assert len(words) > 10
    assert [text for text in texts if is_context_too_long(text) != theirs(text)] == []


@pytest.mark.parametrize(
    ("text", "says_more"),
    [
        ("", False),
        ("DATABASE=x\n# OPENAI_API_KEY=x\n", False),
        ("UNDERSTUDY=1\nexport OPENAI_BASE_URL = http://h\n", True),
        ("OPENAI_SET=1\n", False),
        ("https_proxy=http://h\n", True),
    ],
)
def test_a_file_of_variables_that_importing_litellm_would_read_is_left_to_it(
    text: str, says_more: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "lib" / "litellm").mkdir(parents=True)
    (tmp_path / "lib" / "litellm" / "__init__.py").touch()
    (tmp_path / ".env").write_text(text)
    monkeypatch.delenv("https_proxy", raising=False)
    monkeypatch.setenv("OPENAI_SET", "2")
    monkeypatch.delitem(sys.modules, "litellm", raising=False)
    monkeypatch.syspath_prepend(str(tmp_path / "lib"))
    monkeypatch.setattr(import_litellm, "is_warm", lambda: False)

    assert import_litellm.has_env_file.__wrapped__() == says_more


PROGRAM = """
import sys, threading, trio
from runtime.lm import LMClient
from runtime.testing.loopback import ModelScript, open_loopback

HELLO = [{"role": "user", "content": "Hello"}]
TEXT = "[[ ## answer ## ]]\\nhi\\n\\n[[ ## completed ## ]]"

async def main():
    async with open_loopback({"gpt-4o-mini": ModelScript(TEXT)}) as server:
        async with LMClient("openai/gpt-4o-mini", api_key="k" * 20, api_base=server.api_base) as lm:
            await lm.chat(HELLO, temperature=0.5)
            async with lm.stream(HELLO) as stream:
                async for _ in stream:
                    pass
            assert stream.completion.usage.cost_usd > 0
            assert (await lm.predict("question -> answer", question="?")).answer == "hi"
            print("litellm" in sys.modules)
            if len(sys.argv) > 1:
                await lm.chat(HELLO, user="me", allowed_openai_params=["user"])
                print("litellm" in sys.modules)

trio.run(main)
"""


def test_plain_calls_never_import_litellm():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)

    assert (done.stdout, done.stderr) == ("False\n", "")


@pytest.mark.slow
@pytest.mark.chaos
def test_the_first_other_call_imports_litellm():
    done = subprocess.run([sys.executable, "-c", PROGRAM, "more"], capture_output=True, text=True, check=False)

    assert (done.stdout, done.stderr) == ("False\nTrue\n", "")


def test_the_chunk_reader_of_another_provider_asks_litellm(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(chunks, "plain_chunk", pytest.fail)

    pieces, _, is_plain = streamed(Translator("deepseek/deepseek-chat", api_key=KEY, api_base=BASE), STREAMS["cut off"])

    assert (len(pieces), is_plain) == (3, False)
