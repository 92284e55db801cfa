"""What a call says reaches the provider, or is refused with words: tools and options."""

from __future__ import annotations

from typing import Any

import dspy
import pytest

from actors.errors import UsageError
from runtime.lm import LMClient
from runtime.testing import open_loopback

HI = [{"role": "user", "content": "Hi"}]


def weather(city: str, days: int = 1) -> str:
    """Look out of the window."""
    return f"{city} {days}"


async def sent(model: str = "openai/m", /, **options: Any) -> Any:
    async with open_loopback({"*": "hello"}, unused="ok") as provider:
        async with LMClient(model, api_key="k" * 12, api_base=provider.api_base) as lm:
            await lm.chat(HI, **options)
            async with lm.stream(HI, **options) as stream:
                async for _ in stream:
                    pass
    whole, streamed = (request.body for request in provider.requests)
    assert whole.get("tools") == streamed.get("tools")
    return whole


@pytest.mark.parametrize("tool", [weather, dspy.Tool(weather)], ids=["function", "dspy.Tool"])
async def test_c8_a_function_is_sent_with_its_schema(tool: Any) -> None:
    [told] = (await sent(tools=[tool]))["tools"]

    assert told["function"]["name"] == "weather"
    assert told["function"]["description"] == "Look out of the window."
    assert told["function"]["parameters"]["properties"].keys() == {"city", "days"}
    assert told["function"]["parameters"]["required"] == ["city"]


@pytest.mark.parametrize("tools", [["weather"], [5], weather, [dict], [None]])
async def test_c8_what_is_no_tool_is_refused(tools: Any) -> None:
    with pytest.raises(UsageError, match=r"^chat\(\): .*tool.*\n  Fix: pass functions"):
        await sent(tools=tools)


async def test_c8_a_mapping_stays_as_it_is_beside_a_function() -> None:
    own = {"type": "function", "function": {"name": "own", "parameters": {"type": "object", "properties": {}}}}

    body = await sent(tools=[own, weather])

    assert [tool["function"]["name"] for tool in body["tools"]] == ["own", "weather"]


@pytest.mark.parametrize(
    ("wrong", "right"),
    [("temprature", "temperature"), ("max_token", "max_tokens"), ("respons_format", "response_format"), ("tool", "tools")],
)
async def test_c8_a_misspelt_option_is_refused_with_the_right_one(wrong: str, right: str) -> None:
    with pytest.raises(UsageError, match=rf"^chat\(\) does not know the option '{wrong}': did you mean '{right}'\?\n  Fix: "):
        await sent("openai/m", **{wrong: 1})


async def test_c8_an_option_of_nobodys_is_refused_and_extra_body_sends_it() -> None:
    with pytest.raises(UsageError, match=r"extra_body=\{'zzyzx': …\}"):
        await sent(zzyzx=1)

    assert (await sent(extra_body={"zzyzx": 1}))["zzyzx"] == 1


async def test_c8_an_option_of_the_providers_own_is_sent() -> None:
    assert (await sent("hosted_vllm/m", top_k=5))["top_k"] == 5
    assert (await sent("openrouter/m", provider={"order": ["a"]}))["provider"] == {"order": ["a"]}


async def test_c8_a_misspelt_option_of_embeddings_is_refused() -> None:
    async with LMClient("openai/m", api_key="k" * 12, api_base="http://127.0.0.1:9/v1") as lm:
        with pytest.raises(UsageError, match=r"^embed\(\) does not know the option 'dimension': did you mean 'dimensions'"):
            await lm.embed(["a"], dimension=3)
