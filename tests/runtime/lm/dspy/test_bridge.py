"""DSPy's own modules and adapters on trio, over a language model that answers from a script."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import dspy  # here, not in a test: an import in a thread would let the virtual clock jump
import pytest
import trio
from dspy.dsp.utils.settings import main_thread_config
from dspy.utils.callback import BaseCallback

from actors.errors import DeclarationError, LMContextTooLong, LMRateLimited, LMReplyUnreadable, UsageError
from actors.lm import ChatMessage, Completion, ToolCall, Usage
from runtime.lm.dspy.bridge import fill, run_signature
from runtime.lm.dspy.trio_lm import trio_lm

SECOND_TRY = "Your answer cannot be read:\n{}\nAnswer again, in full and in the format asked for."
QUESTION: Any = "question -> answer"  # DSPy takes a text where its annotations say a class
FIX = "  Fix: describe in the instruction how to answer, raise parse_attempts, widen the types, or take a stronger model."


@attrs.frozen
class Intent:
    text: str
    label: str


@attrs.frozen
class TimeFilters:
    filters: list[str]


@attrs.frozen
class VectorQuery:
    query: str | None


@attrs.frozen
class Bound:
    low: int


@attrs.frozen
class Checked:
    ready: bool
    bounds: list[Bound]
    text: str = attrs.field(default="none", validator=attrs.validators.min_len(2))


@attrs.frozen
class Nothing:
    pass


class Script:
    """A language model that gives its answers in order, each after `latency_s`, and remembers what it was asked."""

    def __init__(self, *answers: str | Exception | Completion, latency_s: float = 0.0) -> None:
        self.model = "fake/scripted"
        self.answers = list(answers)
        self.latency_s = latency_s
        self.asked: list[tuple[list[ChatMessage], Mapping[str, Any]]] = []

    async def chat(self, messages: Sequence[ChatMessage], /, **options: Any) -> Completion:
        self.asked.append((list(messages), options))
        await trio.sleep(self.latency_s)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, Completion):
            return answer
        return Completion(answer, self.model, usage=Usage(prompt_tokens=3, completion_tokens=4, cost_usd=0.5))

    def prompt(self, call: int = -1) -> str:
        return "\n".join(str(message["content"]) for message in self.asked[call][0])


def said(**fields: object) -> str:
    return "\n\n".join(f"[[ ## {name} ## ]]\n{value}" for name, value in {**fields, "completed": ""}.items())


INTENT = Intent("ideas from last week about trio", "Idea")


# --- fill -----------------------------------------------------------------------------------------------------------


async def test_three_fills_take_as_long_as_the_slowest(virtual_clock: trio.testing.MockClock) -> None:
    built: dict[str, object] = {}

    async def one(name: str, lm: Script, output: type, module: str) -> None:
        built[name] = await fill(lm, instruction="Pick.", inputs={"intent": INTENT}, output=output, module=module)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(one, "time", Script(said(filters='["t > 1"]'), latency_s=0.726), TimeFilters, "Predict")
        nursery.start_soon(one, "other", Script(said(filters="[]"), latency_s=1.125), TimeFilters, "Predict")
        nursery.start_soon(
            one, "vector", Script(said(reasoning="r", query="null"), latency_s=1.153), VectorQuery, "ChainOfThought"
        )

    assert trio.current_time() == 1.153
    assert built == {"time": TimeFilters(["t > 1"]), "other": TimeFilters([]), "vector": VectorQuery(None)}


async def test_the_source_and_the_instruction_reach_the_model() -> None:
    lm = Script(said(filters="[]"))

    await fill(lm, instruction="Pick the time properties.", inputs={"intent": INTENT}, output=TimeFilters)

    assert "[[ ## text ## ]]\nideas from last week about trio\n\n[[ ## label ## ]]\nIdea\n" in lm.prompt()
    assert "Pick the time properties." in lm.prompt()
    assert lm.asked[0][1] == {}


async def test_without_an_instruction_the_type_names_make_one() -> None:
    lm = Script(said(filters="[]"))

    await fill(lm, instruction="", inputs={"intent": INTENT, "bound": Bound(1)}, output=TimeFilters)

    assert "Make the TimeFilters from the Intent and the Bound." in lm.prompt()


async def test_fields_of_one_name_are_told_apart_by_their_owners() -> None:
    lm = Script(said(ready="True", bounds="[]", text="told"))
    inputs = {"first": Intent("a", "b"), "second": Bound(1), "third": Bound(2), "config": "plain"}

    built = await fill(lm, instruction="Do.", inputs=inputs, output=Checked)

    shown = "[[ ## {} ## ]]\n{}\n"
    for name, value in {"first_text": "a", "label": "b", "second_low": 1, "third_low": 2, "config_config": "plain"}.items():
        assert shown.format(name, value) in lm.prompt()
    assert built == Checked(True, [], "told")


@pytest.mark.parametrize("nothing", ["None", "null", "none", ""])
async def test_an_optional_text_may_be_none(nothing: str) -> None:
    built = await fill(Script(said(query=nothing)), instruction="", inputs={"intent": INTENT}, output=VectorQuery)

    assert built == VectorQuery(None)


async def test_nested_message_types_are_parsed_to_the_authors_own() -> None:
    lm = Script(said(ready="yes", bounds='[{"low": "3"}, {"low": 4}]'))

    assert await fill(lm, instruction="", inputs={"intent": INTENT}, output=Checked) == Checked(True, [Bound(3), Bound(4)])


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (
            said(ready="maybe", bounds="[]"),
            "ready: got 'maybe', expected bool: Input should be a valid boolean, unable to interpret input",
        ),
        (said(ready="yes", text="long"), "bounds: missing, expected list[Bound]"),
        (
            said(ready="yes", bounds="[]", text="a"),
            "got {'ready': True, 'bounds': [], 'text': 'a'}: Checked rejected it: Length of 'text' must be >= 2: 1",
        ),
    ],
)
async def test_an_answer_that_does_not_fit_is_asked_for_again_with_the_reason(bad: str, reason: str) -> None:
    lm = Script(bad, said(ready="yes", bounds="[]"))

    built = await fill(lm, instruction="", inputs={"intent": INTENT}, output=Checked)

    assert built == Checked(True, [])
    assert lm.asked[1][0] == [
        *lm.asked[0][0],
        {"role": "assistant", "content": bad},
        {"role": "user", "content": SECOND_TRY.format(f"- {reason}")},
    ]


async def test_after_the_last_attempt_the_error_says_what_came_and_what_was_expected() -> None:
    lm = Script("I would rather not.", "I would rather not.")

    with pytest.raises(LMReplyUnreadable) as caught:
        await fill(lm, instruction="", inputs={"intent": INTENT}, output=VectorQuery)

    assert str(caught.value) == (
        "'fake/scripted' gave no readable VectorQuery in 2 answers.\n"
        "  query: missing, expected str | None\n"
        f"  It answered: 'I would rather not.'\n{FIX}"
    )
    assert (caught.value.model, caught.value.attempt, caught.value.spent, len(lm.asked)) == ("fake/scripted", 2, True, 2)


@pytest.mark.parametrize("attempts", [1, 3])
async def test_no_more_answers_are_asked_for_than_parse_attempts(attempts: int) -> None:
    lm = Script(*["no"] * 10)

    with pytest.raises(LMReplyUnreadable):
        await fill(lm, instruction="", inputs={"intent": INTENT}, output=Checked, parse_attempts=attempts)

    assert len(lm.asked) == attempts


async def test_an_empty_answer_is_not_repeated_to_the_model() -> None:
    lm = Script("", said(query="x"))

    assert await fill(lm, instruction="", inputs={"intent": INTENT}, output=VectorQuery) == VectorQuery("x")
    assert [message["role"] for message in lm.asked[1][0]] == ["system", "user", "user"]


async def test_a_failure_of_the_model_is_raised_as_it_is_and_not_tried_again() -> None:
    failure = LMRateLimited("slow down", retry_after_s=3)
    lm = Script(failure)

    with pytest.raises(LMRateLimited) as caught:
        await fill(lm, instruction="", inputs={"intent": INTENT}, output=Checked)

    assert caught.value is failure
    assert len(lm.asked) == 1


async def test_a_type_without_fields_needs_no_model() -> None:
    lm = Script()

    assert await fill(lm, instruction="", inputs={"intent": INTENT}, output=Nothing) == Nothing()


@pytest.mark.parametrize("module", ["Predct", "ReAct", dict])
async def test_an_unknown_module_is_refused_with_the_known_ones(module: Any) -> None:
    with pytest.raises(DeclarationError) as caught:
        await fill(Script(), instruction="", inputs={"intent": INTENT}, output=Checked, module=module)

    assert str(caught.value) == (
        f"module={module!r}: expected one of 'Predict', 'ChainOfThought' or a dspy.Module class.\n"
        "  Fix: name one of these, or pass the class itself."
    )


@pytest.mark.parametrize("attempts", [0, True, 1.5])
async def test_parse_attempts_is_a_count(attempts: Any) -> None:
    with pytest.raises(DeclarationError, match=r"^parse_attempts=.*: expected a whole number >= 1\.\n  Fix: "):
        await fill(Script(), instruction="", inputs={}, output=Checked, parse_attempts=attempts)


class Twice(dspy.Module):  # type: ignore[misc]
    """Asks, and asks again with the same signature."""

    def __init__(self, signature: Any) -> None:
        super().__init__()
        self.step = dspy.Predict(signature)

    async def aforward(self, **inputs: Any) -> Any:
        await self.step.acall(**inputs)
        return await self.step.acall(**inputs)


async def test_a_module_of_the_authors_own_fills_the_type() -> None:
    lm = Script(said(query="first"), said(query="second"))

    built = await fill(lm, instruction="", inputs={"intent": INTENT}, output=VectorQuery, module=Twice)

    assert built == VectorQuery("second")


# --- run_signature --------------------------------------------------------------------------------------------------


class Question(dspy.Signature):  # type: ignore[misc]
    """Answer shortly."""

    question: str = dspy.InputField()
    answer: int = dspy.OutputField()


class Blocking(dspy.Module):  # type: ignore[misc]
    """Has no aforward."""

    def __init__(self) -> None:
        super().__init__()
        self.step = dspy.Predict(Question)

    def forward(self, question: str) -> Any:
        return self.step(question=question)


@pytest.mark.parametrize(
    "signature", [Question, "question -> answer: int", dspy.Predict(Question), dspy.ChainOfThought(Question)]
)
async def test_signatures_strings_and_modules_run(signature: Any) -> None:
    lm = Script(said(reasoning="easy", answer="42"))

    prediction = await run_signature(lm, signature, {"question": "How many?"})

    assert prediction.answer == 42
    assert "How many?" in lm.prompt()


async def test_an_agent_awaits_its_tools_on_trio(virtual_clock: trio.testing.MockClock) -> None:
    async def weather(city: str) -> str:
        await trio.sleep(2)
        return f"sunny in {city}"

    lm = Script(
        said(next_thought="look", next_tool_name="weather", next_tool_args='{"city": "Oslo"}'),
        said(next_thought="done", next_tool_name="finish", next_tool_args="{}"),
        said(reasoning="r", answer="sunny"),
        latency_s=1,
    )

    prediction = await run_signature(lm, dspy.ReAct(QUESTION, tools=[weather]), {"question": "Oslo?"})

    assert (prediction.answer, trio.current_time()) == ("sunny", 5)
    assert "sunny in Oslo" in lm.prompt()


async def test_only_the_failing_step_of_an_agent_is_repeated() -> None:
    calls: list[str] = []
    lm = Script(
        said(next_thought="look", next_tool_name="count", next_tool_args='{"what": "a"}'),
        "no idea",
        said(next_thought="done", next_tool_name="finish", next_tool_args="{}"),
        said(reasoning="r", answer="1"),
    )

    def count(what: str) -> str:
        calls.append(what)
        return "1"

    await run_signature(lm, dspy.ReAct(QUESTION, tools=[count]), {"question": "?"}, parse_attempts=2)

    assert calls == ["a"]
    assert lm.asked[2][0][-1]["content"].startswith("Your answer cannot be read:\n- next_thought: missing, expected str\n")


async def test_an_unreadable_answer_costs_one_request_and_keeps_its_cause() -> None:
    """DSPy's own fallback to its JSON adapter would send a second one, unseen by whoever counts the attempts."""
    lm = Script("no idea", "no idea")

    with pytest.raises(LMReplyUnreadable) as caught:
        await run_signature(lm, Question, {"question": "?"})

    assert str(caught.value) == (
        "'fake/scripted' gave no readable Question in 1 answer.\n"
        f"  answer: missing, expected int\n  It answered: 'no idea'\n{FIX}"
    )
    assert isinstance(caught.value.__cause__, dspy.AdapterParseError)
    assert (caught.value.spent, len(lm.asked)) == (False, 1)


async def test_the_adapter_in_force_is_used_but_not_its_fallback() -> None:
    lm = Script('{"answer": 7}', "no", "no")

    with dspy.context(adapter=dspy.JSONAdapter()):
        prediction = await run_signature(lm, Question, {"question": "?"})
        with pytest.raises(LMReplyUnreadable):
            await run_signature(lm, Question, {"question": "?"})

    assert (prediction.answer, len(lm.asked)) == (7, 2)


async def test_a_run_inside_a_run_does_not_multiply_the_attempts() -> None:
    class Outer(dspy.Module):  # type: ignore[misc]
        async def aforward(self, **inputs: Any) -> Any:
            return await run_signature(lm, Question, inputs, parse_attempts=2)

    lm = Script(*["no"] * 10)

    with pytest.raises(LMReplyUnreadable):
        await run_signature(lm, Outer(), {"question": "?"}, parse_attempts=3)

    assert len(lm.asked) == 2


async def test_a_prompt_too_long_is_dspys_error_inside_and_ours_outside() -> None:
    lm = Script(LMContextTooLong("8,192 tokens at most"))

    with pytest.raises(LMContextTooLong, match=r"^8,192 tokens at most$") as caught:
        await run_signature(lm, Question, {"question": "?"})

    assert isinstance(caught.value.__cause__, dspy.ContextWindowExceededError)


@pytest.mark.parametrize("wrong", [3, "no arrow", dict])
async def test_what_is_no_signature_is_refused(wrong: Any) -> None:
    with pytest.raises(DeclarationError, match=r"\n  Fix: "):
        await run_signature(Script(), wrong, {})


async def test_concurrent_tasks_keep_their_own_model_and_the_settings_are_untouched(
    virtual_clock: trio.testing.MockClock,
) -> None:
    # Code of one's own that calls DSPy outside of a run writes into its process-wide trace, as other tests do.
    before, traced = {**main_thread_config}, list(main_thread_config["trace"])
    seen: dict[int, int] = {}

    async def one(number: int) -> None:
        prediction = await run_signature(Script(said(answer=number), latency_s=10 - number), Question, {"question": "?"})
        seen[number] = prediction.answer

    async with trio.open_nursery() as nursery:
        for number in range(10):
            nursery.start_soon(one, number)

    assert seen == {number: number for number in range(10)}
    assert {**main_thread_config} == before
    assert main_thread_config["trace"] == traced


# --- TrioLM ---------------------------------------------------------------------------------------------------------


async def test_a_synchronous_module_runs_in_a_thread_and_its_calls_come_back() -> None:
    tasks: list[str] = []

    class Here(Script):
        async def chat(self, messages: Sequence[ChatMessage], /, **options: Any) -> Completion:
            tasks.append(trio.lowlevel.current_task().name)
            return await super().chat(messages, **options)

    prediction = await run_signature(Here(said(answer="5")), Blocking(), {"question": "?"})

    assert prediction.answer == 5
    assert tasks == [trio.lowlevel.current_task().name]


async def test_cancelling_reaches_a_call_made_from_a_thread() -> None:
    lm = Script(said(answer="5"), latency_s=3600)

    with trio.move_on_after(0.05) as scope:
        await run_signature(lm, Blocking(), {"question": "?"})

    assert scope.cancelled_caught


async def test_a_synchronous_call_on_trios_thread_is_refused_with_the_fix() -> None:
    with dspy.context(lm=trio_lm(Script())), pytest.raises(UsageError) as caught:
        dspy.Predict(Question)(question="?")

    assert str(caught.value) == (
        "The DSPy module Predict was called synchronously on trio's own thread: the call would wait for the loop that it holds.\n"
        "  Fix: `await module.acall(…)` instead of `module(…)`; or, for an evaluation and other synchronous code, "
        "`await run_dspy(lm, function)`."
    )


def test_a_synchronous_call_without_any_trio_run_is_refused() -> None:
    with (
        dspy.context(lm=trio_lm(Script())),
        pytest.raises(UsageError, match=r"^The DSPy module Predict was called in a thread that knows no"),
    ):
        dspy.Predict(Question)(question="?")


async def test_history_usage_and_callbacks_see_the_call() -> None:
    ended: list[Any] = []

    class Ends(BaseCallback):  # type: ignore[misc]
        def on_lm_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
            ended.append(outputs)

    bridge = trio_lm(Script(said(answer="5")))
    with dspy.context(lm=bridge, callbacks=[Ends()]), dspy.track_usage() as usage:
        await dspy.Predict(Question).acall(question="?")

    tokens = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
    assert usage.get_total_tokens() == {"fake/scripted": tokens}
    assert [(entry["usage"], entry["cost"], entry["model"]) for entry in bridge.history] == [(tokens, 0.5, "fake/scripted")]
    assert ended == [[said(answer="5")]]


async def test_options_reach_the_provider_and_dspys_own_do_not() -> None:
    lm = Script(said(answer="5"))

    with warnings.catch_warnings(), dspy.context(lm=trio_lm(lm)):
        warnings.simplefilter("error")
        await dspy.Predict(Question, temperature=0.2, top_p=None, rollout_id=3, cache=True).acall(question="?")

    assert lm.asked[0][1] == {"temperature": 0.2}


async def test_several_answers_are_asked_for_at_once(virtual_clock: trio.testing.MockClock) -> None:
    lm = Script(said(answer="1"), said(answer="2"), said(answer="3"), latency_s=1)

    prediction = await run_signature(lm, dspy.Predict(Question, n=3), {"question": "?"})

    assert sorted(prediction.completions.answer) == [1, 2, 3]
    assert trio.current_time() == 1


async def test_a_failure_among_several_answers_is_raised_bare() -> None:
    lm = Script(said(answer="1"), LMRateLimited("slow down"), said(answer="3"))

    with pytest.raises(LMRateLimited, match=r"^slow down$"):
        await run_signature(lm, dspy.Predict(Question, n=3), {"question": "?"})


async def test_tool_calls_become_dspys() -> None:
    call = ToolCall("c1", "look", json.dumps({"at": "x"}))
    lm = Script(Completion("", "fake/scripted", finish_reason="tool_calls", tool_calls=(call,)))
    lm.supports_function_calling = True  # type: ignore[attr-defined]
    make: Any = dspy.Signature
    signature = make({"tools": (list[dspy.Tool], dspy.InputField()), "calls": (dspy.ToolCalls, dspy.OutputField())})

    def look(at: str) -> str:
        return at

    with dspy.context(adapter=dspy.ChatAdapter(use_native_function_calling=True)):
        prediction = await run_signature(lm, signature, {"tools": [dspy.Tool(look)]})

    assert [(made.name, made.args) for made in prediction.calls.tool_calls] == [("look", {"at": "x"})]
    assert lm.asked[0][1]["tools"][0]["function"]["name"] == "look"


@pytest.mark.slow
def test_importing_the_bridge_is_cheap_and_using_it_never_loads_litellm() -> None:
    program = """
import sys, attrs, trio
from actors.lm import Completion
import runtime.lm
from runtime.lm.dspy import bridge
assert not {"dspy", "pydantic", "litellm"} & set(sys.modules)

@attrs.frozen
class Out:
    size: int

class LM:
    model = "fake/scripted"
    async def chat(self, messages, /, **options):
        return Completion("[[ ## size ## ]]\\n3", self.model)

print(trio.run(lambda: bridge.fill(LM(), instruction="", inputs={}, output=Out)).size)
assert runtime.lm.TrioLM.__name__ == "TrioLM"
assert "litellm" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=False)

    assert (done.stdout, done.stderr) == ("3\n", "")
