"""DSPy's optimisers over our client: real steps against a provider on this machine, in threads that hop back."""

from __future__ import annotations

import importlib.util
from typing import Any

import dspy
import pytest
import trio

from actors.errors import DeclarationError, LMBudgetExhausted, UsageError
from runtime.lm.client import LMClient
from runtime.lm.dspy.bridge import plan_of, run_dspy
from runtime.lm.dspy.trained import Trained
from runtime.lm.limits.budget import Budget, spending
from runtime.lm.predictors.optimising import MIN_EXAMPLES, Optimizer, exact_match, optimise
from runtime.testing import ModelScript, ScriptedLM, open_loopback
from tests.runtime.lm.predicting import Label, Question, knowing

QA: Any = "text -> name"


def examples(count: int = 12) -> list[Any]:
    return [dspy.Example(text=f"text {at}", name=f"label {at}").with_inputs("text") for at in range(count)]


def is_right(example: Any, prediction: Any, trace: object = None) -> float:
    return float(example.name == prediction.name)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("optimizer", "demos"),
    [
        (Optimizer("bootstrap"), 8),
        (Optimizer("mipro", trials=2, concurrency=1), None),
        (Optimizer("mipro", trials=2, concurrency=4), None),
        (Optimizer("gepa", trials=20, concurrency=4), 0),
    ],
)
async def test_a_small_real_step_of_each_optimiser_goes_through_the_client(optimizer: Optimizer, demos: int | None):
    if optimizer.name == "mipro":
        pytest.importorskip("optuna")
    async with open_loopback({"*": ModelScript(lambda request: knowing(request.messages))}) as provider:
        async with LMClient("openai/m", api_key="k", api_base=f"{provider.url}/v1", max_connections=2) as lm:
            trained = await optimise(lm, dspy.Predict(QA), examples(), is_right, optimizer=optimizer)

    assert isinstance(trained, Trained)
    assert list(trained.steps) == ["self"]
    assert demos is None or len(trained.steps["self"].demos) == demos
    assert len(provider.requests) >= 4
    assert provider.max_in_flight <= 2


async def test_fewer_than_ten_examples_train_nothing_and_ask_nothing():
    assert await optimise(ScriptedLM([]), dspy.Predict(QA), examples(MIN_EXAMPLES - 1), is_right) is None


async def test_the_bootstrap_is_four_demonstrations_of_runs_and_eight_in_all():
    lm = ScriptedLM(knowing)

    trained = await optimise(lm, dspy.Predict(QA), examples(20), is_right)

    assert trained is not None
    demos = trained.steps["self"].demos
    assert [demo.get("augmented", False) for demo in demos] == [True] * 4 + [False] * 4
    assert len(lm.calls) == 4


async def test_the_module_that_is_given_is_not_changed():
    module = dspy.Predict(QA)

    await optimise(ScriptedLM(knowing), module, examples(), is_right)

    assert module.demos == []


async def test_an_example_that_the_metric_refuses_is_no_demonstration():
    trained = await optimise(ScriptedLM(knowing), dspy.Predict(QA), examples(), lambda example, prediction: False)

    assert trained is not None
    assert not any(demo.get("augmented") for demo in trained.steps["self"].demos)


async def test_cancelling_ends_the_optimiser_and_its_call():
    lm = ScriptedLM(knowing, latency_s=3600)

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(optimise, lm, dspy.Predict(QA), examples(), is_right)
            while not lm.in_flight:  # noqa: ASYNC110 - a thread starts it
                await trio.sleep(0.001)
            nursery.cancel_scope.cancel()

    assert [call.cancelled for call in lm.calls] == [True]


async def test_the_budget_of_the_task_bounds_the_optimiser():
    async with open_loopback({"*": ModelScript(lambda request: knowing(request.messages))}, unused="ok") as provider:
        async with LMClient("openai/m", api_key="k", api_base=f"{provider.url}/v1") as lm:
            with pytest.raises(LMBudgetExhausted), spending(Budget(max_tokens=100)), dspy.context(max_errors=1):
                await optimise(lm, dspy.Predict(QA), examples(), is_right)

    assert len(provider.requests) == 0


async def test_an_optimiser_whose_library_is_missing_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "optuna" else found(name))

    with pytest.raises(UsageError) as caught:
        await optimise(ScriptedLM([]), dspy.Predict(QA), examples(), is_right, optimizer=Optimizer("mipro"))

    assert str(caught.value) == (
        "the optimiser 'mipro' needs optuna, which is not installed.\n  Fix: pip install 'understudy[optimizers]'."
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"name": "miprov2"}, "Optimizer(name='miprov2'): expected one of bootstrap, mipro, gepa"),
        ({"effort": "full"}, "Optimizer(effort='full'): expected one of light, medium, heavy"),
        ({"trials": 0}, "Optimizer(trials=0): expected a whole number >= 1"),
        ({"concurrency": True}, "Optimizer(concurrency=True): expected a whole number >= 1"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], words: str):
    with pytest.raises(DeclarationError) as caught:
        Optimizer(**options)

    assert words in str(caught.value)


# --- metrics ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prediction", "score"),
    [
        ({"name": "x"}, 1.0),
        ({"name": "y"}, 0.0),
        ({}, 0.0),
        ({"output": "x"}, 0.0),
    ],
)
def test_the_default_metric_wants_the_very_message(prediction: dict[str, Any], score: float):
    plan = plan_of({"question": Question}, Label, "")

    assert exact_match(plan)(dspy.Example(text="t", name="x"), dspy.Prediction(**prediction)) == score


async def test_a_metric_gets_as_many_arguments_as_it_takes():
    seen: list[int] = []

    def two(example: Any, prediction: Any) -> bool:
        seen.append(2)
        return True

    def three(example: Any, prediction: Any, trace: Any) -> bool:
        seen.append(3)
        return True

    def any_number(*given: Any) -> bool:
        seen.append(len(given))
        return True

    for metric in (two, three, any_number):
        await optimise(ScriptedLM(knowing), dspy.Predict(QA), examples(), metric)

    assert seen == [2] * 4 + [3] * 4 + [3] * 4


# --- optimisers that the table of the documentation lists and no option names -----------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    "make",
    [
        lambda: dspy.LabeledFewShot(k=2).compile(dspy.Predict(QA), trainset=examples()),
        lambda: dspy.BootstrapRS(metric=is_right, num_candidate_programs=1, num_threads=2).compile(
            dspy.Predict(QA), trainset=examples(), valset=examples(2)
        ),
        lambda: dspy.COPRO(metric=is_right, breadth=2, depth=1).compile(
            dspy.Predict(QA), trainset=examples(2), eval_kwargs={"num_threads": 2}
        ),
        lambda: dspy.Ensemble(reduce_fn=dspy.majority).compile([dspy.Predict(QA), dspy.Predict(QA)]),
    ],
    ids=["LabeledFewShot", "BootstrapFewShotWithRandomSearch", "COPRO", "Ensemble"],
)
async def test_another_optimiser_runs_in_a_thread_by_run_dspy(make: Any):
    def work() -> Any:
        return make()(text="text 5")

    prediction = await run_dspy(ScriptedLM(knowing), work)

    assert prediction.name == "label 5"
