"""What a typed-graph system asks of its language models, row by row, on trio."""

# mypy: disable-error-code="empty-body"

from __future__ import annotations

import inspect
import json
import os
from pathlib import Path
from typing import Any

import dspy
import httpx
import pytest
import trio

from actors.errors import DeclarationError, LMError, LMRateLimited, LMReplyUnreadable, LMUnavailable, UnderstudyError
from actors.lm import LM
from actors.restarts import Backoff
from runtime import open_runtime
from runtime.lm import node_transition_metric, optimize_node, trace_to_examples
from runtime.lm.backends.claude_cli import ClaudeCLIBackend
from runtime.lm.backends.pydantic_ai import PydanticAIBackend
from runtime.lm.backends.typed import DSPyBackend, OptimizedLM, successors
from runtime.lm.limits.retry import Retry
from runtime.lm.predictors.compiling import compile_graph
from runtime.lm.predictors.loaded_predictors import PredictorCounts
from runtime.testing import ScriptedLM
from tests.runtime.lm.articles import ARTICLE, Article, Draft, Review, ReviewFailed, Silent
from tests.runtime.lm.faking import faking, said
from tests.runtime.lm.predicting import Label, Question, knowing, labelling, rows

REVIEW = {"stars": 4, "words": "Good."}
MADE = Review(4, "Good.")
ANSWER = "[[ ## stars ## ]]\n4\n\n[[ ## words ## ]]\nGood.\n\n[[ ## completed ## ]]"
ONCE_MORE = Retry(max_attempts=2, backoff=Backoff(first_s=1.0, jitter=0))
FOUR = {"make", "decide", "choose_type", "fill"}


def test_a01_every_backend_has_the_four_coroutines():
    for backend in (DSPyBackend, OptimizedLM, ClaudeCLIBackend, PydanticAIBackend):
        assert {name for name, item in inspect.getmembers(backend, inspect.iscoroutinefunction) if name[0] != "_"} == FOUR


async def test_a02_no_thread_is_between_a_backend_and_its_model(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("trio.to_thread.run_sync", None)

    assert await DSPyBackend(ScriptedLM([REVIEW])).make(ARTICLE, Review) == MADE


async def failing_once(error: httpx.Response | Exception) -> tuple[Any, list[float]]:
    """What ``make`` gives when the first request fails so, and when the requests came."""
    at_s: list[float] = []

    async def handle(request: httpx.Request) -> httpx.Response:
        at_s.append(trio.current_time())
        if len(at_s) > 1:
            return said(ANSWER)
        if isinstance(error, Exception):
            raise error
        return error

    async with faking(handle, {"retry": ONCE_MORE}) as (lm,):
        return await DSPyBackend(lm).make(ARTICLE, Review), at_s


async def test_a03_the_pause_is_exactly_one_virtual_second(virtual_clock: trio.abc.Clock):
    assert await failing_once(httpx.Response(503)) == (MADE, [0.0, 1.0])


def test_a04_helpers_are_synchronous():
    assert not inspect.iscoroutinefunction(OptimizedLM.get_stats)
    assert not inspect.iscoroutinefunction(successors)


async def test_a05_optimized_lm_goes_the_way_of_its_parent(virtual_clock: trio.abc.Clock):
    lm = ScriptedLM([{"stars": "many", "words": ""}, REVIEW])

    assert await OptimizedLM(lm, {Review: trained()}).make(ARTICLE, Review) == MADE
    assert "expected int" in lm.calls[1].text


def trained() -> Any:
    predictor: Any = dspy.Predict("text -> stars: int, words")
    predictor.signature = predictor.signature.with_instructions("Be harsh.")
    return predictor


async def test_a06_what_one_backend_promises_the_optimized_one_does_too(virtual_clock: trio.abc.Clock):
    for backend in (DSPyBackend, OptimizedLM):
        lm = ScriptedLM([REVIEW, {"choice": "ReviewFailed"}, {"reason": "no"}, {"choice": "Review"}, {"words": "Good."}])
        made = backend(lm)

        assert await made.make(ARTICLE, Review) == MADE
        assert await made.decide(ARTICLE) == ReviewFailed("no")
        assert await made.choose_type([Review, ReviewFailed], ARTICLE) is Review
        assert await made.fill(Review, {"stars": 4}, "") == MADE


async def test_a07_a_scripted_model_takes_the_place_of_mocks(virtual_clock: trio.abc.Clock):
    lm = ScriptedLM([REVIEW])

    assert isinstance(lm, LM)
    assert await DSPyBackend(lm).make(ARTICLE, Review) == MADE
    assert [call.number for call in lm.calls] == [1]


async def test_a08_a_timeout_is_tried_once_more(virtual_clock: trio.abc.Clock):
    assert await failing_once(httpx.ReadTimeout("slow")) == (MADE, [0.0, 1.0])


async def test_a09_a_rate_limit_is_tried_once_more(virtual_clock: trio.abc.Clock):
    assert await failing_once(httpx.Response(429)) == (MADE, [0.0, 1.0])


async def test_a10_an_error_that_stays_is_ours_with_its_cause(virtual_clock: trio.abc.Clock):
    async def handle(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    async with faking(handle, {"retry": ONCE_MORE}) as (lm,):
        with pytest.raises(LMUnavailable) as caught:
            await DSPyBackend(lm).make(ARTICLE, Review)

    assert isinstance(caught.value.__cause__, httpx.ConnectError)


async def test_a11_between_attempts_it_waits_as_long_as_the_provider_asks(virtual_clock: trio.abc.Clock):
    assert await failing_once(httpx.Response(429, headers={"retry-after": "7"})) == (MADE, [0.0, 7.0])


async def test_a12_the_second_call_is_told_what_was_wrong(virtual_clock: trio.abc.Clock):
    lm = ScriptedLM([{"stars": "many", "words": ""}, REVIEW])

    assert await DSPyBackend(lm).make(ARTICLE, Review) == MADE
    assert "stars: got 'many', expected int" in str(lm.calls[1].messages[-1]["content"])


async def test_a13_attempts_that_are_spent_end_in_a_parse_error_with_its_cause(virtual_clock: trio.abc.Clock):
    with pytest.raises(LMReplyUnreadable) as caught:
        await DSPyBackend(ScriptedLM(["no", "no"])).make(ARTICLE, Review)

    assert isinstance(caught.value.__cause__, dspy.AdapterParseError)


@pytest.mark.parametrize("backend", [DSPyBackend, OptimizedLM])
async def test_a14_max_retries_is_an_option_of_both(backend: type[DSPyBackend], virtual_clock: trio.abc.Clock):
    lm = ScriptedLM(["no", "no", "no", REVIEW])

    assert await backend(lm, max_retries=3).make(ARTICLE, Review) == MADE


async def test_a15_decide_ends_makes_or_refuses(virtual_clock: trio.abc.Clock):
    lm = ScriptedLM([{"choice": "None"}, {"choice": "Review"}, REVIEW, REVIEW])
    backend = DSPyBackend(lm)

    assert await backend.decide(ARTICLE) is None
    assert await backend.decide(ARTICLE) == MADE
    assert await backend.decide(Draft("x")) == MADE
    assert await backend.decide(Silent("x")) is None
    assert len(lm.calls) == 4


async def test_a16_a_choice_shows_its_context_and_takes_exact_names_only(virtual_clock: trio.abc.Clock):
    lm = ScriptedLM([{"choice": "Review "}, {"choice": "Failed"}, {"choice": "Failed"}])
    backend = DSPyBackend(lm)

    assert await backend.choose_type([ReviewFailed], ARTICLE) is ReviewFailed
    assert await backend.choose_type([Review, ReviewFailed], ARTICLE) is Review
    assert "On trio." in lm.calls[0].text
    with pytest.raises(LMReplyUnreadable):
        await backend.choose_type([Review, ReviewFailed], ARTICLE)


async def test_a17_fill_shows_source_and_values_and_validates(virtual_clock: trio.abc.Clock):
    lm = ScriptedLM([{"words": "Good."}])

    assert await DSPyBackend(lm).fill(Review, {"stars": 4}, "Review it.", source=ARTICLE) == MADE
    assert all(part in lm.calls[0].text for part in ("Review it.", "On trio.", "4"))


async def test_a18_the_counts_are_a_copy_one_for_each_pick_and_not_zero_after_a_run(tmp_path: Path):
    await compile_graph(labelling(), rows(), tmp_path, lm_for=lambda spec: ScriptedLM(knowing))
    backend = OptimizedLM(ScriptedLM(["no", REVIEW]), {Review: trained()})
    await backend.make(ARTICLE, Review)
    backend.get_stats()["optimized"] = 9

    async with open_runtime(lm=ScriptedLM(knowing), predictors=tmp_path) as runtime:
        await runtime.run(labelling(), Question("text 1"))

        assert runtime.predictor_statistics().nodes == {"labels/label": PredictorCounts(optimized=1)}
    assert backend.get_stats() == {"optimized": 1, "naive": 0}


@pytest.mark.parametrize("optimized", [None, {}])
async def test_a19_without_predictors_everything_is_naive(optimized: Any, virtual_clock: trio.abc.Clock):
    backend = OptimizedLM(ScriptedLM([REVIEW]), optimized)

    await backend.make(ARTICLE, Review)

    assert backend.get_stats() == {"optimized": 0, "naive": 1}


async def test_a28_predictors_are_one_json_file_for_each_node_in_a_folder_of_either_kind(tmp_path: Path):
    report = await compile_graph(labelling(), rows(9), str(tmp_path), lm_for=lambda spec: ScriptedLM([]))
    assert [each.is_optimized for each in report] == [False]
    assert os.listdir(tmp_path) == []

    await compile_graph(labelling(), rows(10), str(tmp_path), lm_for=lambda spec: ScriptedLM(knowing))
    content = json.loads((tmp_path / "labels" / "label.json").read_text())

    assert (content["graph"], content["node"], len(content["predictors"])) == ("labels", "label", 1)
    for folder in (tmp_path, str(tmp_path)):
        async with open_runtime(lm=ScriptedLM(knowing), predictors=folder) as runtime:
            assert await runtime.run(labelling(), Question("text 1")) == Label("label 1")


def test_a29_a_trace_gives_an_example_for_each_of_its_steps():
    trace = [ARTICLE, Review(4, "Good."), ReviewFailed("late")]

    first, second = trace_to_examples(trace)

    assert trace_to_examples([]) == trace_to_examples([ARTICLE]) == []
    assert dict(first.inputs().items()) == {"text": "On trio.", "node_type": "Article"}
    assert (first.next_node_type, second.next_node_type) == ("Review", "ReviewFailed")
    for name, score in (("Review", 1.0), (" review ", 1.0), ("ReviewFailed", 0.0), ("", 0.0)):
        assert node_transition_metric(first, dspy.Prediction(next_node_type=name)) == score
    assert node_transition_metric(first, dspy.Prediction(output="Review"), trace=[]) is True


async def test_a29_what_is_trained_on_transitions_is_used_to_decide():
    trainset = trace_to_examples([each for at in range(11) for each in (Article(f"text {at}"), MADE)])
    predictor = await optimize_node(ScriptedLM(lambda messages: {"choice": "Review"}), Article, trainset)
    lm = ScriptedLM([{"choice": "Review"}, REVIEW])

    assert await OptimizedLM(lm, choices={Article: predictor}).decide(ARTICLE) == MADE

    assert len(predictor.demos) == 8
    assert len(lm.calls[0].messages) == 1 + 2 * 8 + 1


async def test_a29_a_node_that_leaves_nothing_to_choose_is_refused():
    with pytest.raises(DeclarationError, match=r"^Draft leaves nothing to choose: its __call__ returns 1 type\(s\)\."):
        await optimize_node(ScriptedLM([]), Draft, [])


def test_a30_errors_of_language_models_are_of_one_family():
    for kind in (LMRateLimited, LMReplyUnreadable, LMUnavailable):
        assert issubclass(kind, LMError)
        assert issubclass(kind, UnderstudyError)


async def test_a32_a_backend_of_its_own_for_each_model(virtual_clock: trio.abc.Clock):
    small, large = ScriptedLM([REVIEW], model="small"), ScriptedLM([{"stars": 5, "words": "x"}], model="large")

    assert await DSPyBackend(small).make(ARTICLE, Review) == MADE
    assert await DSPyBackend(large).make(ARTICLE, Review) == Review(5, "x")


async def test_a33_a_backend_over_httpx_needs_nothing_but_the_client(virtual_clock: trio.abc.Clock):
    async def handle(request: httpx.Request) -> httpx.Response:
        return said(ANSWER)

    async with faking(handle) as (lm,):
        assert await DSPyBackend(lm).make(ARTICLE, Review) == MADE
