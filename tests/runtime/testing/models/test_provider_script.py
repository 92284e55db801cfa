from __future__ import annotations

import json
import re
from typing import Any

import attrs
import pytest

from actors.errors import DeclarationError
from actors.lm import Completion, ToolCall, Usage
from runtime.testing import Answer, ChatRequest, Failure, ModelScript, tool_answer
from runtime.testing.models.provider_script import RequestPlan, Script, ScriptLike, script_from_json, script_to_json

CALL = ToolCall("1", "look", "{}")


def asking(model: str) -> ChatRequest:
    return ChatRequest(model, ({"role": "user", "content": "hi"},), False, {})


def test_a_models_own_latency_comes_before_the_default_and_an_answers_before_both() -> None:
    script = Script(1.0)
    script.set("a", "text")
    script.set("b", ModelScript(["text", Answer("text", latency_s=3.0)], latency_s=2.0))

    plans = [script.plan(asking(model)) for model in ("a", "b", "b")]

    assert [plan.latency_s for plan in plans] == [1.0, 2.0, 3.0]


def test_a_failure_with_a_time_of_its_own_keeps_it() -> None:
    script = Script()
    script.set("a", ModelScript(Answer("text", latency_s=3.0), failures=[Failure.slow_headers(9.0), Failure.slow_body()]))

    plans = [script.plan(asking("a")) for _ in range(2)]

    assert [plan.latency_s for plan in plans] == [9.0, 3.0]


def test_the_star_stands_for_models_without_a_script_only() -> None:
    script = Script()
    script.set("*", "any")
    script.set("a", "mine")

    texts = [plan.completion and plan.completion.text for plan in (script.plan(asking("a")), script.plan(asking("b")))]

    assert texts == ["mine", "any"]
    assert script.models == ("a",)


def test_an_exception_is_no_answer_of_a_provider() -> None:
    script = Script()
    script.set("a", Answer(OSError("broken")))

    assert script.plan(asking("a")) == RequestPlan(
        refusal="The script of model 'a' raised DeclarationError: A scripted answer is the exception OSError('broken'), "
        "which only ScriptedLM can raise.\n"
        "  Fix: let the provider fail by ModelScript(answer, failures=[Failure.status(500)])."
    )


@pytest.mark.parametrize(
    "script",
    [
        "text",
        {"filters": ["a"]},
        tool_answer("look", where="here"),
        Completion("text", "other", usage=Usage(1, 2, 0.1), tool_calls=(CALL,)),
        Answer("text", latency_s=0.5, usage=Usage(3, 4), finish_reason="length"),
        ["one", {"two": 2}, Answer("three")],
        ModelScript("text", latency_s=1.5, interval_s=0.1, failures=[Failure.status(429, retry_after_s=1.0), Failure.garbage()]),
    ],
)
def test_a_script_survives_the_way_to_another_process(script: ScriptLike) -> None:
    whole = script if isinstance(script, ModelScript) else ModelScript(script)
    items: list[Any] = whole.answer if isinstance(whole.answer, list) else [whole.answer]

    came = script_from_json(json.loads(json.dumps(script_to_json("a", script))))

    arrived = came.answer if isinstance(came.answer, list) else [came.answer]
    assert arrived == [item if isinstance(item, Answer) else Answer(item) for item in items]
    assert attrs.evolve(came, answer="") == attrs.evolve(whole, answer="")


def test_a_function_does_not_cross_to_another_process() -> None:
    message = re.escape(
        "The answer of model 'a' is a function, and functions do not cross to another process.\n"
        "  Fix: give loopback_process() texts, mappings or lists of them, or use open_loopback() in the same trio.run."
    )

    with pytest.raises(DeclarationError, match=f"^{message}$"):
        script_to_json("a", lambda request: request.text)


def test_an_unknown_failure_is_refused_with_the_known_ones() -> None:
    kinds = "'status', 'disconnect', 'disconnect_mid_body', 'garbage', 'truncated_json', 'slow_headers', 'slow_body'"
    message = re.escape(f"Failure(kind='sulk'): expected one of {kinds}.")

    with pytest.raises(DeclarationError, match=f"^{message}"):
        script_from_json({"answer": "", "failures": [{"kind": "sulk"}]})


def test_one_failure_outside_of_a_list_never_runs_out() -> None:
    script = Script()
    script.set("a", script_from_json(script_to_json("a", ModelScript("never", failures=Failure.status(503)))))

    plans = [script.plan(asking("a")) for _ in range(5)]

    assert [plan.failure for plan in plans] == [Failure.status(503)] * 5
    assert script.unused() == []
