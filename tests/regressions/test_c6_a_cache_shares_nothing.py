"""What a cache keeps and what it hands out are never the same object twice, nor does a call change what its caller gave."""

import copy
from typing import Any

import attrs
import httpx
import pytest

from actors.lm import Completion, ToolCall
from runtime.lm.dspy.bridge import fill
from runtime.lm.dspy.trained import Trained, TrainedStep
from runtime.lm.limits.cache import MemoryCache
from runtime.lm.providers.translation import Translator
from tests.runtime.lm.faking import HELLO, faking, said

CALL = ToolCall("c1", "f", "{}", {"signature": {"is": "s"}})


def answer() -> Completion:
    return Completion(
        "text",
        "m",
        tool_calls=(copy.deepcopy(CALL),),
        thinking=({"type": "thinking", "thinking": "hm", "signature": "s"},),
        logprobs={"content": []},
        citations=({"url": "u"},),
        audio={"id": "a"},
        raw={"choices": [{"index": 0}]},
    )


def spoil(completion: Any) -> None:
    completion.tool_calls[0].more["signature"]["is"] = "spoilt"
    completion.thinking[0]["thinking"] = "spoilt"
    completion.logprobs["content"].append("spoilt")
    completion.citations[0]["url"] = "spoilt"
    completion.audio["id"] = "spoilt"
    completion.raw["choices"].append("spoilt")


def test_c6_what_comes_out_of_a_cache_can_be_changed_by_nobody_else():
    cache = MemoryCache()
    cache.put("key", answer())

    spoil(cache.get("key"))

    again = cache.get("key")
    assert again == answer()
    assert again is not None
    assert again.raw == answer().raw


def test_c6_what_was_put_into_a_cache_can_be_changed_afterwards():
    cache, given = MemoryCache(), answer()
    cache.put("key", given)

    spoil(given)

    assert cache.get("key") == answer()


async def test_c6_a_kept_answer_and_the_first_one_are_two_objects():
    async def handle(request: httpx.Request) -> httpx.Response:
        return said("[[ ## tags ## ]]\n[]\n\n[[ ## completed ## ]]")

    @attrs.define
    class Tags:
        tags: list[str]

    async with faking(handle, {"cache": MemoryCache(keeps_sampled=True)}) as (lm,):
        first, second = await lm.chat(HELLO), await lm.chat(HELLO)
        one = await fill(lm, instruction="", inputs={}, output=Tags)
        one.tags.append("mine")
        two = await fill(lm, instruction="", inputs={}, output=Tags)

    assert first is not second
    assert (one.tags, two.tags) == (["mine"], [])


@pytest.mark.parametrize("model", ["openai/gpt-4o", "anthropic/claude-sonnet-4-5", "gemini/gemini-2.5-flash", "mistral/m"])
def test_c6_a_call_changes_nothing_that_its_caller_gave(model: str):
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": [{"type": "text", "text": "Be kind.", "cache_control": {"type": "ephemeral"}}]},
        {"role": "user", "content": [{"type": "text", "text": "What is it?"}, picture]},
        {"role": "assistant", "content": None, "tool_calls": [CALL.as_openai()]},
        {"role": "tool", "tool_call_id": "c1", "content": "4"},
    ]
    parameters = {"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": False}
    tools = [{"type": "function", "function": {"name": "f", "description": "d", "parameters": parameters}}]
    given = copy.deepcopy((messages, tools))

    Translator(model, api_key="k").request(messages, {"tools": tools, "max_tokens": 5})

    assert (messages, tools) == given


def test_c6_demonstrations_are_each_calls_own():
    class Step:
        signature: Any
        demos: list[Any]

    class Signature:
        instructions = "i"

    step = Step()
    step.signature = Signature
    module: Any = type("Module", (), {"named_predictors": lambda self: [("self", step)]})()
    trained = Trained({"self": TrainedStep("i", ({"tags": ["a"]},))})

    trained.given_to(module, dict)
    step.demos[0]["tags"].append("spoilt")

    assert trained.steps["self"].demos == ({"tags": ["a"]},)
