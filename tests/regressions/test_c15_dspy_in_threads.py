"""DSPy's own threads, asyncio and embedders: what cannot work says so, and what can stays within limits and budgets."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import dspy
import pytest
import trio

from actors import LM, Graph
from actors.errors import DeclarationError, LMBudgetExhausted, RunFailed, UsageError
from runtime import open_runtime
from runtime.lm import Budget, LMClient, run_dspy, run_signature, spending, trio_embedder, trio_lm
from runtime.lm.dspy.dspy_calls import BridgeMisused
from runtime.testing import ScriptedLM
from tests.runtime.graphs.stage import Ask, Done
from tests.runtime.lm.recorder import recording

QA = "question -> answer"


def evaluation(threads: int, answer: str = "4") -> Callable[[], float]:
    examples = [dspy.Example(question="2 + 2?", answer=answer).with_inputs("question")] * 3
    evaluate = dspy.Evaluate(
        devset=examples,
        metric=lambda example, prediction, trace=None: example.answer == prediction.answer,
        num_threads=threads,
        display_progress=False,
    )
    return lambda: float(evaluate(dspy.Predict(QA)).score)


def answers(count: int = 3) -> ScriptedLM:
    return ScriptedLM([{"answer": "4"}] * count, unused="ok")


@pytest.mark.parametrize("threads", [1, 3])
async def test_c15_an_evaluation_in_a_worker_thread_with_a_language_model_made_there_scores(threads: int) -> None:
    def work() -> float:
        with dspy.context(lm=trio_lm(lm)):
            return evaluation(threads)()

    lm = answers()

    assert await trio.to_thread.run_sync(work) == 100.0


async def test_c15_a_thread_of_dspys_asks_in_the_context_of_the_task_that_made_the_language_model() -> None:
    """Budgets of a block of work are there, among others."""
    tenant = contextvars.ContextVar("tenant", default="nobody")
    token = tenant.set("one")
    lm = ScriptedLM(lambda call: {"answer": tenant.get()})

    def work() -> float:
        with dspy.context(lm=trio_lm(lm)):
            return evaluation(3, "one")()

    assert await trio.to_thread.run_sync(work) == 100.0
    tenant.reset(token)


@pytest.mark.parametrize("threads", [1, 3])
async def test_c15_an_evaluation_on_trios_own_thread_is_no_score_of_zero(threads: int) -> None:
    with dspy.context(lm=trio_lm(answers())):
        with pytest.raises(BridgeMisused, match=r"^The DSPy module Predict was called .*\n  Fix: .*run_dspy"):
            evaluation(threads)()


@pytest.mark.parametrize("threads", [1, 3])
def test_c15_an_evaluation_outside_of_trio_is_no_score_of_zero(threads: int) -> None:
    with dspy.context(lm=trio_lm(answers())):
        with pytest.raises(BridgeMisused, match=r"^The DSPy module Predict was called in a thread that knows no trio run\."):
            evaluation(threads)()


def test_c15_without_an_evaluation_the_same_mistake_is_a_usage_error() -> None:
    with dspy.context(lm=trio_lm(answers())):
        with pytest.raises(UsageError, match=r"^The DSPy module Predict was called in a thread that knows no trio run\."):
            dspy.Predict(QA)(question="2 + 2?")


@pytest.mark.parametrize("what", ["sleep", "future", "to_thread"])
async def test_c15_a_module_that_uses_asyncio_is_named(what: str) -> None:
    async def future() -> None:
        await asyncio.Future(loop=loop)

    class Mine(dspy.Module):  # type: ignore[misc]
        async def aforward(self, question: str) -> Any:
            await {
                "sleep": lambda: asyncio.sleep(0.01),
                "future": future,
                "to_thread": lambda: asyncio.to_thread(len, "a"),
            }[what]()

    loop = asyncio.new_event_loop()
    try:
        with pytest.raises(DeclarationError, match=r"^Mine\.aforward, or what it calls, uses asyncio.*\n  Fix: use trio"):
            await run_signature(answers(), Mine(), {"question": "2 + 2?"})
    finally:
        loop.close()


async def test_c15_other_type_errors_of_a_module_stay_what_they_are() -> None:
    class Mine(dspy.Module):  # type: ignore[misc]
        async def aforward(self, question: str) -> Any:
            raise TypeError("a colour and a number")

    with pytest.raises(TypeError, match=r"^a colour and a number$"):
        await run_signature(answers(), Mine(), {"question": "2 + 2?"})


# --- embedders --------------------------------------------------------------------------------------------------------------


async def test_c15_embeddings_of_a_client_are_an_embedder_of_dspys() -> None:
    numpy = pytest.importorskip("numpy")
    with recording("embedding") as recorder:
        async with LMClient("openai/text-embedding-3-small", api_key="k" * 12, api_base=f"{recorder.url}/v1") as lm:
            embedder = trio_embedder(lm, batch_size=2)
            native = await embedder.acall(["a", "b", "c"])
            threaded = await run_dspy(answers(), lambda: embedder(["a", "b", "c"]))
            one = await embedder.acall("a")

    assert native.shape == threaded.shape == (3, one.shape[0])
    assert numpy.array_equal(native, threaded)
    assert [len(request.body["input"]) for request in recorder.seen] == [2, 1, 2, 1, 1]


async def test_c15_a_retriever_stays_within_the_budget_of_the_task() -> None:
    pytest.importorskip("numpy")
    with recording("embedding") as recorder:
        async with LMClient("openai/text-embedding-3-small", api_key="k" * 12, api_base=f"{recorder.url}/v1") as lm:
            embedder = trio_embedder(lm)

            with spending(Budget(max_tokens=1)), pytest.raises(LMBudgetExhausted):
                await embedder.acall(["a long text " * 20])
            with spending(Budget(max_tokens=1)), pytest.raises(LMBudgetExhausted):
                await run_dspy(answers(), lambda: embedder(["a long text " * 20]))

    assert recorder.seen == []


async def test_c15_a_language_model_without_embeddings_is_refused() -> None:
    with pytest.raises(DeclarationError, match=r"^trio_embedder\(ScriptedLM\): expected something with a coroutine embed\(\)\."):
        trio_embedder(answers())  # type: ignore[arg-type]


OUTSIDE: dict[str, Callable[[], Any]] = {
    "Embedder": lambda: dspy.Embedder("openai/text-embedding-3-small", caching=False)(["a"]),
    "ColBERTv2": lambda: dspy.ColBERTv2("http://127.0.0.1:9")("a"),
}
NOT_COUNTED = "asks its server on its own: the budget that is in force cannot count it"


def in_a_thread_of_its_own(call: Callable[[], Any]) -> Any:
    """As code does that knows nothing of contexts."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(call).result()


def with_settings(call: Callable[[], Any]) -> Callable[[], Any]:
    """`call` with the language model that is in force here, as DSPy's own threads have it."""
    lm = dspy.settings.lm

    def called() -> Any:
        with dspy.context(lm=lm):
            return call()

    return called


@pytest.mark.parametrize("name", OUTSIDE)
async def test_c15_what_a_budget_cannot_count_is_refused_under_it(name: str) -> None:
    call = OUTSIDE[name]

    with spending(Budget(max_tokens=1000)):
        with pytest.raises(UsageError, match=NOT_COUNTED):
            await run_dspy(answers(), call)
        with pytest.raises(UsageError, match=NOT_COUNTED):
            await run_dspy(answers(), lambda: in_a_thread_of_its_own(with_settings(call)))


async def test_c15_an_awaited_embedder_is_refused_under_a_budget_too() -> None:
    await run_dspy(answers(), lambda: None)

    with spending(Budget(max_tokens=1000)), pytest.raises(UsageError, match=NOT_COUNTED):
        await dspy.Embedder("openai/text-embedding-3-small").acall(["a"])


async def test_c15_in_a_run_with_a_budget_too() -> None:
    graph = Graph("g", input=Ask, output=Done)

    @graph.node
    async def work(ask: Ask, lm: LM) -> Done:
        return Done(await run_dspy(lm, OUTSIDE["Embedder"]))

    async with open_runtime(lm=answers()) as runtime:
        with pytest.raises(RunFailed) as caught:
            await runtime.run(graph, Ask(), budget=Budget(max_tokens=1000))

    assert NOT_COUNTED in str(caught.value.exceptions[0])


async def test_c15_without_a_budget_they_ask_as_before() -> None:
    pytest.importorskip("numpy")
    with recording("embedding") as recorder:
        where: Any = {"api_key": "k" * 12, "api_base": f"{recorder.url}/v1"}
        embedder = dspy.Embedder("openai/text-embedding-3-small", caching=False, **where)
        vectors = await run_dspy(answers(), lambda: embedder(["a"]))

    assert len(vectors) == len(recorder.seen) == 1


async def test_c15_an_embedder_over_a_function_is_not_refused() -> None:
    pytest.importorskip("numpy")

    with spending(Budget(max_tokens=1)):
        vectors = await run_dspy(answers(), lambda: dspy.Embedder(lambda texts: [[1.0]] * len(texts))(["a", "b"]))

    assert vectors.shape == (2, 1)
