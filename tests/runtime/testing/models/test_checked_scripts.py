from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import httpx
import pytest

from actors.errors import DeclarationError
from actors.lm import ChatMessage
from runtime.testing import Failure, ModelScript, ScriptedLM, ScriptMismatch, Simulation, UnscriptedCall, explore, open_loopback
from runtime.testing.models.checked_scripts import followed_scripts
from runtime.testing.models.provider_script import ScriptLike
from runtime.testing.network import VirtualNetwork

HI: list[ChatMessage] = [{"role": "user", "content": "hi"}]
SIGNS = "Unused (-), asked (+), asked in vain (!):"
FIX = "  Fix: correct the script, or the code that asks; or ScriptedLM(…, "
UNUSED = 'unused="ok" if answers may be left over'
UNFORESEEN = 'unforeseen="ok" if the code may do without an answer'
HO: list[ChatMessage] = [{"role": "user", "content": "ho"}]


async def said_of(asking: Callable[[], Awaitable[object]]) -> list[str]:
    """What a test fails with that passes otherwise, line by line."""
    with pytest.raises(ScriptMismatch) as caught:
        await followed(asking)
    return str(caught.value).splitlines()


async def followed(asking: Callable[[], Awaitable[object]]) -> None:
    with followed_scripts():
        await asking()


async def in_vain(lm: ScriptedLM, messages: list[ChatMessage]) -> None:
    with pytest.raises(UnscriptedCall):
        await lm.chat(messages)


async def test_answers_that_nobody_asked_for_fail_the_test_at_its_end() -> None:
    async def asking() -> None:
        await ScriptedLM({"hi": ["one", "two"], "bye": "three"}, model="fake").chat(HI)

    assert await said_of(asking) == [
        f"ScriptedLM('fake') has answers that were never asked for. {SIGNS}",
        "  - 'hi', answer 2: 'two'",
        "  - 'bye': 'three'",
        "  + 1: 'hi'",
        f"{FIX}{UNUSED}).",
    ]


async def test_a_call_in_vain_fails_the_test_also_when_the_code_made_do_without() -> None:
    async def asking() -> None:
        lm = ScriptedLM({"hi": "one"}, model="fake")
        await lm.chat(HI)
        await in_vain(lm, HO)

    assert await said_of(asking) == [
        f"ScriptedLM('fake') was asked what it has no answer for. {SIGNS}",
        "  + 1: 'hi'",
        "  ! 2: 'ho'",
        f"{FIX}{UNFORESEEN}).",
    ]


async def test_both_are_told_at_once_and_of_every_model() -> None:
    async def asking() -> None:
        small, _ = ScriptedLM({"bye": "one"}, model="small"), ScriptedLM(["two"], model="large")
        await in_vain(small, HI)

    assert await said_of(asking) == [
        f"ScriptedLM('small') has answers that were never asked for and was asked what it has no answer for. {SIGNS}",
        "  - 'bye': 'one'",
        "  ! 1: 'hi'",
        f"{FIX}{UNUSED}, and {UNFORESEEN}).",
        f"ScriptedLM('large') has answers that were never asked for. {SIGNS}",
        "  - answer 1: 'two'",
        "  + nothing",
        f"{FIX}{UNUSED}).",
    ]


async def test_either_may_be_allowed() -> None:
    with followed_scripts():
        ScriptedLM(["one"], unused="ok")
        await in_vain(ScriptedLM([], unforeseen="ok"), HI)


def test_a_test_that_fails_says_nothing_of_its_scripts() -> None:
    def fails() -> None:
        with followed_scripts():
            ScriptedLM(["one"])
            raise ValueError("first")

    with pytest.raises(ValueError, match=r"^first$"):
        fails()


def test_each_run_of_an_exploration_follows_its_script() -> None:
    @explore(runs=3)
    async def sometimes(sim: Simulation) -> None:
        lm = ScriptedLM(["one"])
        if sim.seed < 2:
            await lm.chat(HI)

    with pytest.raises(ScriptMismatch) as caught:
        sometimes()

    assert re.match(r"Found by .* in run 3, seed 2; ", caught.value.__notes__[0])


def test_other_tolerances_are_refused() -> None:
    with pytest.raises(DeclarationError, match=r"^ScriptedLM\(unused='yes'\): expected 'fail' or 'ok'\."):
        ScriptedLM([], unused="yes")  # type: ignore[arg-type]


async def test_a_provider_is_followed_by_the_same_rule() -> None:
    network = VirtualNetwork()

    async def asking() -> None:
        scripts: dict[str, ScriptLike] = {
            "a": ModelScript(["one", "two"], failures=[Failure.status(503), Failure.disconnect()]),
            "b": "three",
            "c": ModelScript("four", failures=Failure.garbage()),
        }
        network.provider("api.test", scripts)
        await posted(network, "a", "c", "other")

    assert await said_of(asking) == [
        f"the provider 'api.test' has answers that were never asked for and was asked what it has no answer for. {SIGNS}",
        "  - 'a', answer 1: 'one'",
        "  - 'a', answer 2: 'two'",
        "  - 'a', failure 2: disconnect",
        "  - 'b': 'three'",
        "  + 1: 'a: hi'",
        "  + 2: 'c: hi'",
        "  ! 3: 'other: hi'",
        f"  Fix: correct the script, or the code that asks; or network.provider(…, {UNUSED}, and {UNFORESEEN}).",
    ]


async def test_a_list_that_is_used_up_is_asked_in_vain_and_a_provider_may_be_allowed_both() -> None:
    async def asking(**allowed: Any) -> None:
        network = VirtualNetwork()
        network.provider("api.test", {"a": ["one"], "b": "two"}, **allowed)
        await posted(network, "a", "a")

    lines = await said_of(asking)
    assert lines[1:4] == ["  - 'b': 'two'", "  + 1: 'a: hi'", "  ! 2: 'a: hi'"]
    await followed(partial(asking, unused="ok", unforeseen="ok"))


async def test_the_loopback_provider_is_followed_by_the_same_rule() -> None:
    async def asking() -> None:
        async with open_loopback({"a": "one"}):
            pass

    assert (await said_of(asking))[:2] == [
        f"the loopback provider has answers that were never asked for. {SIGNS}",
        "  - 'a': 'one'",
    ]


async def posted(network: VirtualNetwork, *models: str) -> None:
    async with httpx.AsyncClient(transport=network.transport(), base_url="http://api.test") as client:
        for model in models:
            await client.post("/v1/chat/completions", json={"model": model, "messages": HI})
