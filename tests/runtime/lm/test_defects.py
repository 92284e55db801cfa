"""Defects that systems of this kind are known for, each as a test that it is not here: DSPy's real adapter, real requests."""

# mypy: disable-error-code="empty-body"

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import attrs
import dspy
import pytest
import trio

from actors import Dep, Graph, RunFailed
from actors.errors import LMRateLimited, LMReplyUnreadable, LMUnavailable
from runtime import open_runtime
from runtime.lm import node_transition_metric, optimize_node
from runtime.lm.backends.claude_cli import ClaudeCLI
from runtime.lm.backends.typed import DSPyBackend, OptimizedLM
from runtime.lm.client import LMClient
from runtime.lm.limits.retry import Retry
from runtime.lm.predictors.compiling import compile_graph
from runtime.lm.predictors.loaded_predictors import PredictorCounts
from runtime.testing import Failure, LoopbackProvider, ModelScript, ScriptedLM, field_answer, open_loopback
from tests.runtime.lm.articles import ARTICLE, Article, Review, ReviewFailed
from tests.runtime.lm.predicting import Label, Question, knowing, labelling, rows


@attrs.frozen
class Maybe:
    text: str

    async def __call__(self) -> Review | None: ...


REVIEW = field_answer(stars=4, words="Good.")


@asynccontextmanager
async def serving(*scripts: Any, **options: Any) -> AsyncIterator[tuple[LoopbackProvider, list[LMClient]]]:
    """Clients of a provider on this machine, whose models ``m0``, ``m1``, … do as `scripts` say."""
    async with AsyncExitStack() as stack:
        provider = await stack.enter_async_context(
            open_loopback({f"m{at}": each for at, each in enumerate(scripts)}, unused="ok")
        )
        made = [LMClient(f"openai/m{at}", api_key="k", api_base=f"{provider.url}/v1", **options) for at in range(len(scripts))]
        for lm in made:
            await stack.enter_async_context(lm)
        yield provider, made


def prompt(provider: LoopbackProvider, request: int) -> str:
    return "\n".join(str(message["content"]) for message in provider.requests[request].body["messages"])


async def test_d01_make_works_with_the_real_dspy():
    async with serving(REVIEW) as (_, (lm,)):
        assert await DSPyBackend(lm).make(ARTICLE, Review) == Review(4, "Good.")


async def test_d02_compiled_predictors_are_used_in_a_run_of_the_graph(tmp_path: Path):
    async with serving(lambda request: knowing(request.messages)) as (provider, (lm,)):
        await compile_graph(labelling(), rows(), tmp_path, lm_for=lambda spec: lm)
        asked = len(provider.requests)
        async with open_runtime(lm=lm, predictors=tmp_path) as runtime:
            assert await runtime.run(labelling(), Question("text 99")) == Label("label 99")
            counts = runtime.predictor_statistics().nodes

        assert counts == {"labels/label": PredictorCounts(optimized=1)}
        assert len(provider.requests[asked].body["messages"]) == 1 + 2 * 8 + 1


async def test_d03_the_source_reaches_the_model():
    async with serving(field_answer(words="Good.")) as (provider, (lm,)):
        await DSPyBackend(lm).fill(Review, {"stars": 4}, "", source=ARTICLE)

        assert "On trio." in prompt(provider, 0)


async def test_d04_what_was_wrong_is_in_the_prompt_of_the_second_request():
    async with serving([field_answer(stars="many", words="Good."), REVIEW]) as (provider, (lm,)):
        assert await DSPyBackend(lm).make(ARTICLE, Review) == Review(4, "Good.")

        assert "stars: got 'many', expected int" in prompt(provider, 1)
        assert "expected int" not in prompt(provider, 0)


@pytest.mark.parametrize("status", [500, 502, 503])
async def test_d05_every_failure_of_a_server_is_tried_again_and_is_ours(status: int):
    script = ModelScript(REVIEW, failures=[Failure.status(status)] * 2)
    async with serving(script, retry=Retry(max_attempts=2)) as (provider, (lm,)):
        with pytest.raises(LMUnavailable):
            await DSPyBackend(lm).make(ARTICLE, Review)

        assert len(provider.requests) == 2


async def test_d06_one_fill_never_makes_more_requests_than_the_retry_allows():
    script = ModelScript(REVIEW, failures=Failure.status(429, retry_after_s=0.01))
    async with serving(script, retry=Retry(max_attempts=3)) as (provider, (lm,)):
        with pytest.raises(LMRateLimited):
            await DSPyBackend(lm, max_retries=5).fill(Review, {}, "")

        assert len(provider.requests) == 3


async def test_d07_a_node_that_may_end_can_end():
    async with serving(field_answer(choice="None")) as (_, (lm,)):
        assert await DSPyBackend(lm).decide(Maybe("x")) is None


@pytest.mark.parametrize("prediction", [{}, {"stars": "4"}, {"output": ""}, {"next_node_type": "view"}])
def test_d08_a_prediction_without_the_label_is_worth_nothing(prediction: dict[str, Any]):
    example = dspy.Example(text="x", next_node_type="Review").with_inputs("text")

    assert node_transition_metric(example, dspy.Prediction(**prediction)) == 0.0
    assert node_transition_metric(example, dspy.Prediction(**prediction), trace=[]) is False


async def test_d08_the_label_is_an_output_of_what_is_trained():
    predictor = await optimize_node(ScriptedLM([]), Article, [])

    assert list(predictor.signature.output_fields) == ["choice"]


async def test_d09_the_language_model_of_a_node_is_the_one_that_it_asks_for():
    graph = Graph("two", input=Question, output=Label)

    @graph.predict(lm="large")
    async def label(question: Question) -> Label:
        """Fill it."""
        ...

    async with serving(field_answer(name="small"), field_answer(name="large")) as (provider, (small, large)):
        async with open_runtime(lm=small, lms={"large": large}) as runtime:
            assert await runtime.run(graph, Question("?")) == Label("large")

        assert [request.model for request in provider.requests] == ["m1"]


async def test_d09_a_choice_that_cannot_be_read_is_asked_for_again():
    answers = [field_answer(choice="Rev"), field_answer(choice="Review"), REVIEW]
    async with serving(answers) as (provider, (lm,)):
        assert await DSPyBackend(lm).decide(ARTICLE) == Review(4, "Good.")

        assert "Answer again" in prompt(provider, 1)


async def test_d10_a_name_within_a_name_is_no_name_and_nothing_is_taken_in_its_stead():
    async with serving(field_answer(choice="I choose Review")) as (provider, (lm,)):
        with pytest.raises(LMReplyUnreadable):
            await DSPyBackend(lm).choose_type([ReviewFailed, Review], ARTICLE)

        assert len(provider.requests) == 2


async def failing() -> str:
    await trio.lowlevel.checkpoint()
    raise LookupError("no such page")


async def test_d11_a_failed_dependency_and_a_failed_call_both_carry_the_trace_of_the_run():
    dependent, calling = Graph("dependent", input=Question, output=Label), Graph("calling", input=Question, output=Label)

    @dependent.predict
    async def fill(question: Question, page: Annotated[str, Dep(failing)]) -> Label:
        """Fill it."""
        ...

    @calling.predict
    async def ask(question: Question) -> Label:
        """Fill it."""
        ...

    async with serving(ModelScript("x", failures=[Failure.status(400)])) as (_, (lm,)):
        async with open_runtime(lm=lm) as runtime:
            for graph, cause in ((dependent, LookupError), (calling, Exception)):
                handle = await runtime.start(graph, Question("?"))
                with pytest.raises(RunFailed) as caught:
                    await handle.result()

                (leaf,) = caught.value.exceptions
                causes = [leaf.__cause__, leaf.__cause__.__cause__ if leaf.__cause__ is not None else None]
                assert any(isinstance(each, cause) for each in causes)
                assert [(step.path, step.status) for step in handle.trace] == [
                    (f"{graph.name}/{handle.trace[0].node}/0", "failed")
                ]


async def test_d12_an_answer_of_the_wrong_type_never_becomes_a_message():
    async with serving(field_answer(stars="many", words="Good.")) as (_, (lm,)):
        with pytest.raises(LMReplyUnreadable, match="stars: got 'many', expected int"):
            await DSPyBackend(lm).fill(Review, {}, "")


async def test_d13_a_dependency_that_fails_ends_its_siblings():
    ended: list[str] = []
    slow_began = trio.Event()

    async def slow() -> str:
        slow_began.set()
        try:
            await trio.sleep_forever()
        finally:
            ended.append("slow")
        raise AssertionError("never reached")

    async def broken() -> str:
        await slow_began.wait()
        raise LookupError("no such page")

    graph = Graph("siblings", input=Question, output=Label)

    @graph.predict
    async def fill(question: Question, one: Annotated[str, Dep(slow)], two: Annotated[str, Dep(broken)]) -> Label:
        """Fill it."""
        ...

    async with serving(field_answer(name="x")) as (provider, (lm,)):
        async with open_runtime(lm=lm) as runtime:
            with trio.fail_after(20), pytest.raises(RunFailed):
                await runtime.run(graph, Question("?"))

        assert ended == ["slow"]
        assert len(provider.requests) == 0


@pytest.mark.slow
async def test_d14_a_cancelled_call_of_a_command_leaves_no_process(tmp_path: Path):
    program = f"import os, time; open({str(tmp_path / 'part')!r}, 'w').write(str(os.getpid()))\n"
    program += f"os.rename({str(tmp_path / 'part')!r}, {str(tmp_path / 'pid')!r}); time.sleep(60)"

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ClaudeCLI("m", command=[sys.executable, "-c", program]).chat, [{"role": "user", "content": "?"}])
        with trio.fail_after(20):
            while not (tmp_path / "pid").exists():  # noqa: ASYNC110 - another process writes it
                await trio.sleep(0.01)
        nursery.cancel_scope.cancel()

    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


async def test_d15_a_predictor_that_is_shared_may_be_trained_meanwhile():
    shared: Any = dspy.Predict("text -> stars: int, words")
    shared.demos = [dspy.Example(text="Old.", stars=1, words="Dull.").with_inputs("text")]
    script = ModelScript(REVIEW, latency_s=0.05)
    async with serving(script) as (provider, (lm,)):
        backend = OptimizedLM(lm, {Review: shared})

        async def train() -> None:
            for number in range(20):
                shared.demos = [*shared.demos, dspy.Example(text=f"{number}", stars=2, words="New.")]
                shared.signature = shared.signature.with_instructions(f"Round {number}.")
                await trio.sleep(0.002)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(train)
            for _ in range(10):
                nursery.start_soon(backend.make, ARTICLE, Review)

        assert backend.get_stats() == {"optimized": 10, "naive": 0}
        assert all("Dull." in prompt(provider, at) for at in range(10))
    assert len(shared.demos) == 21
