"""Every module that DSPy exports, run on trio, and held against the table in the documentation."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import dspy
import pytest
import trio

from actors.errors import DeclarationError, LMBudgetExhausted
from runtime.lm.client import LMClient
from runtime.lm.dspy.bridge import is_native, run_dspy, run_signature
from runtime.lm.dspy.trio_tools import trio_tool
from runtime.lm.limits.budget import Budget, spending
from runtime.testing import ScriptedLM, field_answer, open_loopback

PAGE = Path(__file__).resolve().parents[4] / "docs/reference/dspy.md"
QA: Any = "question -> answer"
LOCAL = dspy.LocalInterpreter


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


async def weather(city: str) -> str:
    """The weather in a city, which takes trio to find out."""
    await trio.lowlevel.checkpoint()
    return f"sunny in {city}"


class Side(dspy.Module):  # type: ignore[misc]
    """Calls `function` from a synchronous module."""

    def __init__(self, function: Callable[[str], Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, question: str) -> Any:
        return dspy.Prediction(answer=self.function(question))


def parallel(question: str) -> str:
    pairs = [(dspy.Predict(QA), dspy.Example(question=question).with_inputs("question"))] * 3
    return "".join(each.answer for each in dspy.Parallel(num_threads=3, disable_progress_bar=True)(pairs))


def nearest(question: str) -> str:
    numpy = pytest.importorskip("numpy")
    examples = [dspy.Example(question=word, answer=word.upper()).with_inputs("question") for word in ("a", "abcdef")]
    embedder: Any = dspy.Embedder
    knn: Any = dspy.KNN(k=1, trainset=examples, vectorizer=embedder(lambda texts: numpy.array([[len(t)] for t in texts])))
    return str(knn(question=question)[0].answer)


def evaluated(question: str) -> str:
    devset = [dspy.Example(question=question, answer="4").with_inputs("question")] * 2
    metric: Any = dspy.evaluate.answer_exact_match
    evaluate: Any = dspy.Evaluate(devset=devset, metric=metric, num_threads=2)
    return str(evaluate(dspy.Predict(QA)).score)


class Votes(dspy.Module):  # type: ignore[misc]
    async def aforward(self, question: str) -> Any:
        return dspy.majority(await dspy.Predict(QA, n=3).acall(question=question))


class Streamed(dspy.Module):  # type: ignore[misc]
    async def aforward(self, question: str) -> Any:
        program: Any = dspy.streamify(dspy.Predict(QA), is_async_program=True)
        pieces = [piece async for piece in program(question=question)]
        return pieces[-1]


class Asyncified(dspy.Module):  # type: ignore[misc]
    async def aforward(self, question: str) -> Any:
        program: Any = dspy.asyncify(dspy.Predict(QA))
        return await program(question=question)


class OneTool(dspy.Module):  # type: ignore[misc]
    async def aforward(self, question: str) -> Any:
        return dspy.Prediction(answer=await dspy.Tool(weather).acall(city=question))


@attrs.frozen
class Case:
    module: Callable[[], Any]
    answers: Sequence[Any]
    expected: str = "4"
    how: str = "threaded"
    inputs: Mapping[str, Any] = {"question": "2 + 2?"}


ANSWER = {"answer": "4"}
REASONED = {"reasoning": "r", "answer": "4"}
CALL = field_answer(next_thought="t", tool_calls=json.dumps({"tool_calls": [{"name": "weather", "args": {"city": "Oslo"}}]}))
SUBMIT = field_answer(next_thought="t", tool_calls=json.dumps({"tool_calls": [{"name": "submit", "args": ANSWER}]}))
LOOK = {"next_thought": "t", "next_tool_name": "weather", "next_tool_args": {"city": "Oslo"}}
FINISH = {"next_thought": "t", "next_tool_name": "finish", "next_tool_args": {}}
CODE = {"reasoning": "r", "generated_code": "SUBMIT({'answer': 4})"}
STEP = {"generated_code": "print(add(1, 3))", "finished": True}
ASIDE = [{"reasoning": "r", "code": "SUBMIT(answer=llm_query('how many?'))"}, "4"]
ADVICE = {"discussion": "d", "advice": json.dumps({"self": "say 4"})}


def is_four(inputs: object, prediction: Any) -> float:
    return float(prediction.answer == "4")


CASES: Mapping[str, Case] = {
    "Predict": Case(lambda: dspy.Predict(QA), [ANSWER], how="native"),
    "ChainOfThought": Case(lambda: dspy.ChainOfThought(QA), [REASONED], how="native"),
    "ReAct": Case(lambda: dspy.ReAct(QA, tools=[weather]), [LOOK, FINISH, REASONED], how="native"),
    "ReActV2": Case(lambda: dspy.ReActV2(QA, tools=[weather]), [CALL, SUBMIT], how="native"),
    "MultiChainComparison": Case(
        lambda: dspy.MultiChainComparison(QA, M=1),
        [{"rationale": "r", "answer": "4"}],
        inputs={"question": "?", "completions": [{"reasoning": "x", "answer": "4"}]},
    ),
    "BestOfN": Case(lambda: dspy.BestOfN(dspy.Predict(QA), N=3, reward_fn=is_four, threshold=1.0), [{"answer": "3"}, ANSWER]),
    "Refine": Case(
        lambda: dspy.Refine(dspy.Predict(QA), N=2, reward_fn=is_four, threshold=1.0), [{"answer": "3"}, ADVICE, ANSWER]
    ),
    "Parallel": Case(lambda: Side(parallel), [ANSWER] * 3, "444"),
    "ProgramOfThought": Case(lambda: dspy.ProgramOfThought(QA, interpreter_factory=LOCAL), [CODE, REASONED]),
    "CodeAct": Case(lambda: dspy.CodeAct(QA, tools=[add], interpreter_factory=LOCAL), [STEP, REASONED]),
    "RLM": Case(lambda: dspy.RLM("text -> answer", interpreter_factory=LOCAL), ASIDE, inputs={"text": "four"}),
    "Flex": Case(lambda: dspy.Flex(QA, interpreter_factory=LOCAL), [ANSWER]),
    "KNN": Case(lambda: Side(nearest), [], "ABCDEF"),
    "Tool": Case(OneTool, [], "sunny in 2 + 2?", how="native"),
    "majority": Case(Votes, [ANSWER, {"answer": "3"}, ANSWER], how="native"),
    "Evaluate": Case(lambda: Side(evaluated), [ANSWER] * 2, "100.0"),
    "streamify": Case(Streamed, [ANSWER], how="native"),
    "asyncify": Case(Asyncified, [ANSWER], how="native"),
}
"""`how` is what the bridge does with the case's own module; that of ``asyncify`` starts its threads itself."""


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # DSPy warns of its own ProgramOfThought and CodeAct
@pytest.mark.parametrize("name", CASES)
async def test_the_module_runs_as_the_table_says(name: str) -> None:
    case = CASES[name]
    lm = ScriptedLM(case.answers)
    module = case.module()

    with trio.fail_after(60):
        prediction = await run_signature(lm, module, case.inputs)

    assert str(prediction.answer) == case.expected
    assert len(lm.calls) == len(case.answers)
    assert ("native" if is_native(module) else "threaded") == case.how


EMBEDDERS = {"Embedder": "threaded", "trio_embedder": "native", "ColBERTv2": "unsupported"}
"""They take texts, not inputs; their tests are those of the embedder."""


def table(title: str) -> dict[str, str]:
    """The first two columns of the table under `title` in the page."""
    section = PAGE.read_text(encoding="utf-8").split(f"## {title}\n")[1].split("\n## ")[0]
    return dict(re.findall(r"^\| `(\w+)` \| (native|threaded|unsupported) \|", section, re.MULTILINE))


def test_the_table_of_modules_is_whole_and_says_what_the_tests_find() -> None:
    listed = table("Modules")

    others = {"Flex", "Evaluate", "streamify", "asyncify", "syncify", "LM"}
    assert set(dspy.predict.__all__) | others | EMBEDDERS.keys() == set(listed)
    assert EMBEDDERS.items() <= listed.items()
    assert set(listed) - set(CASES) - set(EMBEDDERS) == {
        name for name, how in listed.items() if how == "unsupported" and name not in EMBEDDERS
    }
    assert {name: CASES[name].how for name in CASES if name != "asyncify"} == {
        name: how for name, how in listed.items() if name in CASES and name != "asyncify"
    }


def test_the_table_of_optimisers_is_whole() -> None:
    exported = {name for name in dspy.teleprompt.__all__ if inspect.isclass(getattr(dspy.teleprompt, name))}

    assert exported == set(table("Optimisers"))


async def test_syncify_is_rightly_listed_as_unsupported() -> None:
    """Were it to work one day, the table would be wrong."""
    with pytest.raises(RuntimeError):
        await run_dspy(ScriptedLM([]), lambda: dspy.syncify(dspy.ChainOfThought(QA))(question="?"))


# --- threads: the same client, limits, budget and cancel scope --------------------------------------------------------


async def test_a_module_that_replaces_forward_alone_is_not_run_by_the_aforward_that_it_inherits() -> None:
    class Shouting(dspy.ChainOfThought):  # type: ignore[misc]
        def forward(self, **inputs: Any) -> Any:
            return dspy.Prediction(answer=super().forward(**inputs).answer.upper())

    prediction = await run_signature(ScriptedLM([{"reasoning": "r", "answer": "four"}]), Shouting(QA), {"question": "?"})

    assert prediction.answer == "FOUR"


async def test_the_budget_of_the_task_bounds_what_threads_of_a_module_ask_for() -> None:
    """Threads that trio did not start; the budget is a context variable of the task that runs the module."""

    def ask(question: str) -> str:
        pairs = [(dspy.Predict(QA), dspy.Example(question=question).with_inputs("question"))] * 2
        tried: Any = dspy.Parallel(num_threads=2, max_errors=9, disable_progress_bar=True, return_failed_examples=True)
        _, _, errors = tried(pairs)
        raise errors[0]

    async with open_loopback({"m": field_answer(answer="4")}, unused="ok") as provider:
        async with LMClient("openai/m", api_key="k", api_base=f"{provider.url}/v1") as lm:
            with pytest.raises(LMBudgetExhausted), spending(Budget(max_tokens=100)):
                await run_signature(lm, Side(ask), {"question": "2 + 2?"})
        assert len(provider.requests) == 0


async def test_cancelling_reaches_calls_of_threads_that_a_module_started() -> None:
    lm = ScriptedLM([ANSWER] * 3, latency_s=3600)

    async def when_three_wait() -> None:
        while lm.in_flight < 3:  # noqa: ASYNC110 - threads start them
            await trio.sleep(0.001)
        nursery.cancel_scope.cancel()

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(when_three_wait)
            nursery.start_soon(run_signature, lm, Side(parallel), {"question": "?"})

    assert [call.cancelled for call in lm.calls] == [True] * 3


async def test_modules_in_threads_leave_trios_usual_threads_to_what_they_wait_for() -> None:
    """Else as many modules as there are threads would wait for ever for a tool that needs one."""
    usual = trio.to_thread.current_default_thread_limiter()
    usual.total_tokens = 1

    async def reading(city: str) -> str:
        """Reads a file in a thread."""
        return await trio.to_thread.run_sync(lambda: f"read about {city}")

    tool = dspy.Tool(trio_tool(reading))
    module = Side(lambda question: str(tool(city=question)))
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(run_signature, ScriptedLM([]), module, {"question": "Oslo"})

    assert usual.statistics().borrowed_tokens == 0


async def test_a_tool_that_uses_trio_works_in_a_module_that_runs_in_a_thread() -> None:
    agent = dspy.ReAct(QA, tools=[trio_tool(weather)])
    best = dspy.BestOfN(agent, N=1, reward_fn=is_four, threshold=1.0)
    lm = ScriptedLM([LOOK, FINISH, REASONED])

    prediction = await run_signature(lm, best, {"question": "Oslo?"})

    assert prediction.answer == "4"
    assert "sunny in Oslo" in lm.calls[1].text


async def test_a_tool_that_uses_trio_works_in_threads_that_trio_did_not_start() -> None:
    def looks(question: str) -> str:
        tool = dspy.Tool(trio_tool(weather))
        pairs = [(lambda city: tool(city=city), dspy.Example(city=question).with_inputs("city"))] * 2
        return " and ".join(dspy.Parallel(num_threads=2, disable_progress_bar=True)(pairs))

    prediction = await run_signature(ScriptedLM([]), Side(looks), {"question": "Oslo"})

    assert prediction.answer == "sunny in Oslo and sunny in Oslo"


async def test_threads_of_a_module_wait_in_virtual_time(virtual_clock: trio.testing.MockClock) -> None:
    prediction = await run_signature(ScriptedLM([ANSWER] * 3, latency_s=2.0), Side(parallel), {"question": "2 + 2?"})

    assert prediction.answer == "444"
    assert trio.current_time() == 2.0


async def test_run_dspy_counts_its_attempts() -> None:
    with pytest.raises(DeclarationError, match=r"^parse_attempts=0: expected a whole number >= 1\."):
        await run_dspy(ScriptedLM([]), lambda: None, parse_attempts=0)
