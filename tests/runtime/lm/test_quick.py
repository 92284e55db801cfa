"""The quick form of ``make test-newest`` and ``make test-oldest``: what breaks first when a library below changes.

One call and one stream of each provider family, one DSPy module, and one run. The workflow calls this file with the newest and
with the oldest libraries that pyproject.toml allows; with the pinned ones it is a part of the suite.
"""

from __future__ import annotations

import importlib

import attrs
import pytest

from actors import Graph
from actors.lm import LM
from runtime import open_runtime
from runtime.lm import LMClient, run_signature
from runtime.testing import field_answer, open_loopback
from tests.runtime.lm.providers.test_provider_matrix import PROVIDERS, ours
from tests.runtime.lm.recorder import recording

pytestmark = pytest.mark.filterwarnings("ignore")


@attrs.frozen
class Question:
    text: str


@attrs.frozen
class Answer:
    text: str


graph = Graph("quick", input=Question, output=Answer)


@graph.predict(module="ChainOfThought")
async def answered(question: Question) -> Answer:  # type: ignore[empty-body]
    """Answer the question."""
    ...


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("name", PROVIDERS)
def test_every_provider_family_is_asked_and_its_answer_read(name: str, stream: bool) -> None:
    with recording() as recorder:
        _, completion = ours(name, "text", recorder, stream=stream)

    assert completion.text


@pytest.mark.parametrize("name", ["openai", "anthropic", "gemini", "mistral", "groq", "cohere_chat", "ollama_chat"])
def test_a_developers_message_and_tools_can_be_sent(name: str) -> None:
    """What a developer says is put into other words for most providers, by one of the parts of litellm that change."""
    with recording("tools") as recorder:
        _, completion = ours(name, "tools", recorder, stream=False)

    assert [call.name for call in completion.tool_calls] == ["weather"]


async def test_a_dspy_module_runs() -> None:
    dspy = importlib.import_module("dspy")

    async with open_loopback({"*": field_answer(reasoning="Two and two.", answer="4")}) as provider:
        async with LMClient("openai/m", api_key="k" * 9, api_base=provider.api_base) as lm:
            prediction = await run_signature(lm, dspy.ChainOfThought("question -> answer: int"), {"question": "2 + 2?"})

    assert prediction.answer == 4


async def test_a_graph_runs_over_a_client() -> None:
    async with open_loopback({"*": field_answer(reasoning="Thought.", text="4")}) as provider:
        client = LMClient("anthropic/claude-sonnet-4-5", api_key="k" * 9, api_base=provider.url)
        async with open_runtime(lm=client) as runtime:
            assert isinstance(runtime.lm, LM)
            assert await runtime.run(graph, Question("2 + 2?")) == Answer("4")
