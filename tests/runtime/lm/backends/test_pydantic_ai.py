"""Pydantic AI's agents in a worker thread, whose requests come back onto trio."""

# mypy: disable-error-code="empty-body"

from __future__ import annotations

import importlib
from typing import Any

import pytest
import trio

from actors.errors import DeclarationError, LMRateLimited, LMReplyUnreadable, UsageError
from runtime.lm.backends import pydantic_ai
from runtime.lm.backends.pydantic_ai import PydanticAIBackend
from runtime.lm.client import LMClient
from runtime.lm.limits.budget import Budget, spending
from runtime.lm.limits.retry import Retry
from runtime.testing import Failure, ModelScript, ScriptedLM, open_loopback, tool_answer
from tests.runtime.lm.articles import ARTICLE, Article, Review, ReviewFailed, Silent

pytest.importorskip("pydantic_ai")


GOOD: Any = {"stars": 4, "words": "Good."}


def says(name: str = "", **fields: object) -> Any:
    return tool_answer(f"final_result_{name}" if name else "final_result", response=fields)


async def test_make_gives_an_instance_made_from_the_source():
    lm = ScriptedLM([says(**GOOD)])

    assert await PydanticAIBackend(lm).make(ARTICLE, Review) == Review(4, "Good.")
    assert lm.calls[0].messages[0] == {"role": "system", "content": "Make the Review."}
    assert "On trio." in lm.calls[0].messages[1]["content"]
    assert lm.calls[0].options["tool_choice"] == "required"


async def test_decide_is_one_request_for_all_types_and_none():
    lm = ScriptedLM([says("ReviewFailed", reason="no"), says("None")])
    backend = PydanticAIBackend(lm)

    assert await backend.decide(ARTICLE) == ReviewFailed("no")
    assert await backend.decide(ARTICLE) is None
    names = [tool["function"]["name"] for tool in lm.calls[0].options["tools"]]
    assert names == ["final_result_Review", "final_result_ReviewFailed", "final_result_None"]


async def test_one_agent_is_kept_for_each_set_of_types():
    backend = PydanticAIBackend(ScriptedLM([says(**GOOD)] * 2 + [says("None")]))

    await backend.make(ARTICLE, Review)
    await backend.make(ARTICLE, Review)
    await backend.decide(ARTICLE)

    assert len(backend._agents) == 2


async def test_a_node_that_only_ends_needs_no_call():
    assert await PydanticAIBackend(ScriptedLM([])).decide(Silent("x")) is None


async def test_choose_type_asks_for_a_name_and_not_for_a_part_of_it():
    lm = ScriptedLM([says(choice="Review"), says(choice="ReviewF"), says(choice="ReviewFailed")])
    backend = PydanticAIBackend(lm)

    assert await backend.choose_type([Review, ReviewFailed], ARTICLE) is Review
    assert await backend.choose_type([Review, ReviewFailed], ARTICLE) is ReviewFailed
    assert await backend.choose_type([Review], ARTICLE) is Review
    assert len(lm.calls) == 3


async def test_there_is_something_to_choose_from():
    with pytest.raises(DeclarationError, match="there is nothing to choose from"):
        await PydanticAIBackend(ScriptedLM([])).choose_type([], ARTICLE)


async def test_fill_keeps_what_is_resolved_and_shows_it():
    lm = ScriptedLM([says(words="Good.")])
    backend = PydanticAIBackend(lm)

    assert await backend.fill(Review, {"stars": 5}, "Review it.", source=ARTICLE) == Review(5, "Good.")
    assert await backend.fill(Review, GOOD, "") == Review(4, "Good.")
    assert len(lm.calls) == 1
    assert all(word in lm.calls[0].text for word in ("Review it.", "On trio.", '"stars": 5'))


async def test_an_answer_that_does_not_fit_is_asked_for_again_and_the_model_is_told_why():
    lm = ScriptedLM([says(stars="many", words="Good."), says(**GOOD)])

    assert await PydanticAIBackend(lm).make(ARTICLE, Review) == Review(4, "Good.")
    assert [message["role"] for message in lm.calls[1].messages] == ["system", "user", "assistant", "tool"]
    assert "Input should be a valid integer" in lm.calls[1].messages[3]["content"]


@pytest.mark.parametrize(("max_retries", "calls"), [(0, 1), (1, 2), (3, 4)])
async def test_the_attempts_do_not_multiply(max_retries: int, calls: int):
    lm = ScriptedLM(lambda messages: says(stars="many", words=""))

    with pytest.raises(LMReplyUnreadable, match=rf"^'scripted' gave no readable Review in {calls} answers: ") as caught:
        await PydanticAIBackend(lm, max_retries=max_retries).make(ARTICLE, Review)

    assert len(lm.calls) == calls
    assert caught.value.__cause__ is not None


async def test_a_failure_of_the_model_is_raised_as_it_is():
    failure = LMRateLimited("slow down")

    with pytest.raises(LMRateLimited) as caught:
        await PydanticAIBackend(ScriptedLM([failure])).make(ARTICLE, Review)

    assert caught.value is failure


async def test_the_client_alone_repeats_requests_and_the_budget_of_the_task_is_charged():
    answer = says(**GOOD)
    script = ModelScript(answer, failures=Failure.status(500))
    async with open_loopback({"bad": script, "good": answer}) as provider:
        base = f"{provider.url}/v1"
        async with (
            LMClient("openai/bad", api_key="k", api_base=base, retry=Retry(max_attempts=1)) as bad,
            LMClient("openai/good", api_key="k", api_base=base) as good,
        ):
            with pytest.raises(Exception, match="HTTP 500"):
                await PydanticAIBackend(bad, max_retries=3).make(ARTICLE, Review)
            with spending(Budget()) as budget:
                assert await PydanticAIBackend(good).make(ARTICLE, Review) == Review(4, "Good.")

    assert [request.model for request in provider.requests] == ["bad", "good"]
    assert budget.tokens > 0


async def test_cancelling_ends_the_request_and_the_thread():
    lm = ScriptedLM([says(**GOOD)], latency_s=3600)

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(PydanticAIBackend(lm).make, ARTICLE, Review)
            while not lm.in_flight:  # noqa: ASYNC110 - a thread starts it
                await trio.sleep(0.001)
            nursery.cancel_scope.cancel()

    assert [call.cancelled for call in lm.calls] == [True]


async def test_calls_at_once_share_an_agent():
    lm = ScriptedLM(lambda messages: says(stars=len(str(messages[1]["content"])), words="x"))
    backend = PydanticAIBackend(lm)
    made: list[Review] = []

    async def one(text: str) -> None:
        made.append(await backend.make(Article(text), Review))

    async with trio.open_nursery() as nursery:
        for number in range(8):
            nursery.start_soon(one, "x" * number)

    assert len({review.stars for review in made}) == 8


def test_without_the_extra_the_fix_is_said(monkeypatch: pytest.MonkeyPatch):
    def missing(name: str) -> Any:
        raise ImportError(name)

    pydantic_ai._library.cache_clear()
    monkeypatch.setattr(importlib, "import_module", missing)

    with pytest.raises(UsageError) as caught:
        PydanticAIBackend(ScriptedLM([]))

    assert str(caught.value) == (
        "PydanticAIBackend needs pydantic-ai-slim, which is not installed.\n  Fix: pip install 'understudy[pydantic-ai]'."
    )


def test_retries_are_counted_from_zero():
    with pytest.raises(DeclarationError, match="max_retries"):
        PydanticAIBackend(ScriptedLM([]), max_retries=-1)
