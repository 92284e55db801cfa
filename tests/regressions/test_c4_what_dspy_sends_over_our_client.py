"""Over our client DSPy sends what it sends over ``dspy.LM``: structured outputs, tools and native reasoning among it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from typing import Any

import dspy
import pydantic
import pytest
import trio
from dspy.adapters.baml_adapter import BAMLAdapter

from runtime.graphs.nodes.injected import NodeLM
from runtime.lm import LMClient, Retry, trio_lm
from tests.runtime.lm.recorder import Recorder, recording

pytestmark = pytest.mark.filterwarnings("ignore")  # of litellm, which is the yardstick here

PLACES = {
    "openai/gpt-4o-mini": "/v1",
    "openai/gpt-5-mini": "/v1",
    "openai/my-own-model": "/v1",
    "anthropic/claude-sonnet-4-5": "",
    "gemini/gemini-2.5-flash": "/v1beta",
    "mistral/mistral-small-latest": "/v1",
    "groq/llama-3.3-70b-versatile": "/v1",
    "deepseek/deepseek-chat": "",
    "openrouter/openai/gpt-4o-mini": "/v1",
    "hosted_vllm/qwen": "/v1",
    "cohere_chat/command-a-03-2025": "/v2/chat",
    "ollama_chat/llama3": "",
}


class Answer(pydantic.BaseModel):
    text: str
    score: int


class Structured(dspy.Signature):  # type: ignore[misc]
    """Answer."""

    question: str = dspy.InputField()
    answer: Answer = dspy.OutputField()
    tags: list[str] = dspy.OutputField()


class Mapped(dspy.Signature):  # type: ignore[misc]
    """Answer."""

    question: str = dspy.InputField()
    counts: dict[str, int] = dspy.OutputField()


class Calling(dspy.Signature):  # type: ignore[misc]
    """Call a tool."""

    question: str = dspy.InputField()
    tools: list[dspy.Tool] = dspy.InputField()
    outputs: dspy.ToolCalls = dspy.OutputField()


class Thinking(dspy.Signature):  # type: ignore[misc]
    """Think, then answer."""

    question: str = dspy.InputField()
    reasoning: dspy.Reasoning = dspy.OutputField()
    answer: str = dspy.OutputField()


def weather(city: str) -> str:
    """Look out of the window."""
    return city


ADAPTERS = {
    "chat": lambda: dspy.ChatAdapter(),
    "json": lambda: dspy.JSONAdapter(),
    "baml": lambda: BAMLAdapter(),
    "xml": lambda: dspy.XMLAdapter(),
    "native tools": lambda: dspy.ChatAdapter(use_native_function_calling=True, parallel_tool_calls=False),
    "json without native tools": lambda: dspy.JSONAdapter(use_native_function_calling=False),
}
SIGNATURES: dict[str, tuple[Any, dict[str, Any]]] = {
    "structured": (Structured, {}),
    "mapping": (Mapped, {}),
    "tools": (Calling, {"tools": [dspy.Tool(weather)]}),
    "reasoning": (Thinking, {}),
}


CASES = [(adapter, signature) for adapter in ADAPTERS for signature in SIGNATURES]


async def bodies(lm: Any, recorder: Recorder) -> dict[tuple[str, str], Any]:
    """The first request of each case; None where none could be made."""
    sent: dict[tuple[str, str], Any] = {}
    for adapter, signature in CASES:
        kind, inputs = SIGNATURES[signature]
        recorder.seen.clear()
        with dspy.context(lm=lm, adapter=ADAPTERS[adapter]()), contextlib.suppress(Exception):
            await dspy.Predict(kind).acall(question="Ulm?", **inputs)
        sent[adapter, signature] = recorder.seen[0].body if recorder.seen else None
    return sent


def theirs(model: str) -> dict[tuple[str, str], Any]:
    # LiteLLM's wire is the one that our client speaks; DSPy's own dialects are another.
    # Its handler of MCP servers, which it loads for any tool, needs a library that it does not ask for.
    own = {"engine": "litellm", "cache": False, "num_retries": 0, "_skip_mcp_handler": True}
    with recording() as recorder:
        lm: Any = dspy.LM(model, api_key="k" * 12, api_base=recorder.url + PLACES[model], **own)
        sent = asyncio.run(bodies(lm, recorder))
    gc.collect()  # here, where warnings are ignored, of the loops and sockets that it leaves behind
    return sent


def ours(model: str) -> dict[tuple[str, str], Any]:
    async def call(recorder: Recorder) -> dict[tuple[str, str], Any]:
        base = recorder.url + PLACES[model]
        async with LMClient(model, api_key="k" * 12, api_base=base, retry=Retry(max_attempts=1)) as client:
            return await bodies(trio_lm(client), recorder)

    with recording() as recorder:
        return trio.run(call, recorder)


DIALECTS = ("anthropic/claude-sonnet-4-5", "gemini/gemini-2.5-flash", "openai/gpt-5-mini", "openai/my-own-model")
"""The other models are asked in one of these ways, too."""


@pytest.mark.slow
@pytest.mark.parametrize(
    "model", [model if model in DIALECTS else pytest.param(model, marks=pytest.mark.chaos) for model in PLACES]
)
def test_c4_the_requests_equal_dspys(model: str) -> None:
    sent = ours(model)

    assert sent == theirs(model)
    assert sum(body is not None for body in sent.values()) >= len(CASES) - 1  # one provider takes no parallel_tool_calls


def test_c4_a_schema_and_tools_are_on_the_wire() -> None:
    """The comparison above would hold as well if neither sent any."""
    sent = ours("openai/gpt-4o-mini")
    structured, calling = sent["json", "structured"], sent["native tools", "tools"]

    assert structured["response_format"]["json_schema"]["strict"] is True
    assert [tool["function"]["name"] for tool in calling["tools"]] == ["weather"]


def test_c4_a_client_can_what_its_model_and_all_its_fallbacks_can() -> None:
    able, plain = LMClient("openai/gpt-4o-mini"), LMClient("openai/gpt-4o-mini", fallbacks=["perplexity/sonar"])

    assert able.supports_function_calling
    assert able.supports_response_schema
    assert "response_format" in able.supported_params
    assert not plain.supports_function_calling
    assert plain.supported_params < able.supported_params


def test_c4_abilities_need_neither_a_key_nor_a_server() -> None:
    assert not LMClient("ollama_chat/llama3").supports_function_calling
    assert LMClient("nobody/knows").supported_params == frozenset()
    assert LMClient("github_copilot/gpt-4o").supported_params == frozenset()


def test_c4_a_nodes_language_model_can_what_the_model_behind_it_can() -> None:
    node: Any = NodeLM(LMClient("openai/gpt-4o-mini"), None, None)  # type: ignore[arg-type]

    assert node.supports_function_calling
    assert "tools" in node.supported_params
