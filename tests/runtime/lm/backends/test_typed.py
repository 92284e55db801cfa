import inspect
from typing import Any, Optional

import attrs
import httpx
import pytest
import trio

from actors.errors import DeclarationError, LMError, LMReplyUnreadable, LMUnavailable
from actors.restarts import Backoff
from runtime.lm.backends.typed import DSPyBackend, OptimizedLM, successors
from runtime.lm.limits.retry import Retry
from runtime.testing.models.scripted_lm import ScriptedLM
from tests.runtime.lm.articles import ARTICLE, Article, Draft, Review, ReviewFailed, Silent
from tests.runtime.lm.faking import faking, said

REVIEW = {"stars": 4, "words": "Good."}


async def test_make_gives_an_instance_made_from_the_source():
    lm = ScriptedLM([REVIEW])

    made = await DSPyBackend(lm).make(ARTICLE, Review)

    assert made == Review(4, "Good.")
    assert "On trio." in lm.calls[0].messages[-1]["content"]


async def test_an_answer_that_does_not_fit_is_asked_for_again_and_the_model_is_told_why():
    lm = ScriptedLM([{"stars": "many", "words": "Good."}, REVIEW])

    made = await DSPyBackend(lm).make(ARTICLE, Review)

    assert made == Review(4, "Good.")
    assert "stars: got 'many', expected int" in str(lm.calls[1].messages[-1]["content"])


@pytest.mark.parametrize(("max_retries", "calls"), [(0, 1), (1, 2), (3, 4)])
async def test_the_attempts_do_not_multiply(max_retries: int, calls: int):
    lm = ScriptedLM([{"stars": "many", "words": "Good."}] * 9, unused="ok")

    with pytest.raises(LMReplyUnreadable) as caught:
        await DSPyBackend(lm, max_retries=max_retries).make(ARTICLE, Review)

    assert len(lm.calls) == calls
    assert caught.value.__cause__ is not None


async def test_what_failed_is_requested_again_by_the_client_after_exactly_one_virtual_second(virtual_clock: trio.abc.Clock):
    at_s: list[float] = []

    async def handle(request: httpx.Request) -> httpx.Response:
        at_s.append(trio.current_time())
        answer = "[[ ## stars ## ]]\n4\n\n[[ ## words ## ]]\nGood.\n\n[[ ## completed ## ]]"
        return said(answer) if len(at_s) == 2 else httpx.Response(429)

    once_more = Retry(max_attempts=2, backoff=Backoff(first_s=1.0, jitter=0))
    async with faking(handle, {"retry": once_more}) as (lm,):
        made = await DSPyBackend(lm).make(ARTICLE, Review)

    assert (made, at_s) == (Review(4, "Good."), [0.0, 1.0])


async def test_an_error_that_stays_comes_with_its_cause_and_is_not_multiplied(virtual_clock: trio.abc.Clock):
    requests = 0

    async def handle(request: httpx.Request) -> httpx.Response:
        nonlocal requests
        requests += 1
        raise httpx.ConnectError("refused")

    async with faking(handle, {"retry": Retry(max_attempts=2)}) as (lm,):
        with pytest.raises(LMUnavailable) as caught:
            await DSPyBackend(lm, max_retries=3).fill(Review, {}, "")

    assert requests == 2
    assert isinstance(caught.value.__cause__, httpx.ConnectError)


# --- decide and choose_type -------------------------------------------------------------------------------------------


async def test_decide_chooses_and_then_makes():
    lm = ScriptedLM([{"choice": "Review"}, REVIEW])

    assert await DSPyBackend(lm).decide(ARTICLE) == Review(4, "Good.")
    assert "ReviewFailed: No opinion could be had." in lm.calls[0].text


async def test_decide_may_end():
    lm = ScriptedLM([{"choice": "None"}])

    assert await DSPyBackend(lm).decide(ARTICLE) is None
    assert len(lm.calls) == 1


async def test_a_single_type_is_made_without_a_choice():
    lm = ScriptedLM([REVIEW])

    assert await DSPyBackend(lm).decide(Draft("x")) == Review(4, "Good.")


async def test_one_type_or_none_is_a_choice():
    """Else such a node could never end."""

    @attrs.frozen
    class Loop:
        async def __call__(self) -> Review | None: ...

    lm = ScriptedLM([{"choice": "None"}])

    assert await DSPyBackend(lm).decide(Loop()) is None


async def test_a_node_that_only_ends_needs_no_call():
    assert await DSPyBackend(ScriptedLM([])).decide(Silent("x")) is None


async def test_a_single_candidate_is_chosen_without_a_call():
    assert await DSPyBackend(ScriptedLM([])).choose_type([Review], ARTICLE) is Review


async def test_the_context_is_shown_and_the_name_decides():
    lm = ScriptedLM([{"choice": "ReviewFailed"}])

    assert await DSPyBackend(lm).choose_type([Review, ReviewFailed], ARTICLE) is ReviewFailed
    assert "On trio." in lm.calls[0].text


@pytest.mark.parametrize("word", ["review", "A Review, I think", "Revie", ""])
async def test_a_part_of_a_name_is_no_name_and_nothing_is_taken_in_its_stead(word: str):
    lm = ScriptedLM([{"choice": word}] * 2)

    with pytest.raises(LMReplyUnreadable):
        await DSPyBackend(lm).choose_type([ReviewFailed, Review], ARTICLE)

    assert len(lm.calls) == 2


async def test_types_to_choose_from_have_names_of_their_own():
    same: Any = attrs.make_class("Review", [])
    same.__module__, same.__qualname__ = Review.__module__, Review.__qualname__

    with pytest.raises(DeclarationError) as caught:
        await DSPyBackend(ScriptedLM([])).choose_type([Review, same], ARTICLE)

    assert str(caught.value) == (
        "['Review', 'Review']: expected types of different names, and none that is called 'None'.\n"
        "  Fix: rename those that share a name."
    )


async def test_there_is_something_to_choose_from():
    with pytest.raises(DeclarationError, match="there is nothing to choose from"):
        await DSPyBackend(ScriptedLM([])).choose_type([], ARTICLE)


class OldStyle:
    def __call__(self) -> Optional[Review]: ...  # noqa: UP045 - the older way to write it counts as well


@pytest.mark.parametrize(
    ("node", "found"),
    [
        (Article, ([Review, ReviewFailed], True)),
        (Draft, ([Review], False)),
        (Silent, ([], True)),
        (OldStyle, ([Review], True)),
        (Review, ([], True)),
    ],
)
def test_successors_are_read_off_the_return_annotation(node: type, found: Any):
    assert successors(node) == found


# --- fill -------------------------------------------------------------------------------------------------------------


async def test_what_is_resolved_is_shown_and_kept_and_the_source_reaches_the_model():
    lm = ScriptedLM([{"words": "Good."}])

    made = await DSPyBackend(lm).fill(Review, {"stars": 5}, "Review it.", source=ARTICLE)

    assert made == Review(5, "Good.")
    assert "Review it." in lm.calls[0].text
    assert "On trio." in lm.calls[0].text
    assert "5" in lm.calls[0].text


async def test_nothing_is_asked_when_everything_is_resolved():
    lm = ScriptedLM([])

    assert await DSPyBackend(lm).fill(Review, {"stars": 5, "words": "Fine."}, "") == Review(5, "Fine.")


async def test_a_name_that_is_no_field_is_refused():
    with pytest.raises(DeclarationError) as caught:
        await DSPyBackend(ScriptedLM([])).fill(Review, {"star": 5}, "")

    assert str(caught.value) == (
        "Review has no field 'star' to put what was resolved into; it has stars, words.\n  Fix: name the fields of the type."
    )


async def test_an_answer_of_the_wrong_type_never_becomes_an_instance():
    lm = ScriptedLM([{"stars": "many"}] * 2)

    with pytest.raises(LMReplyUnreadable):
        await DSPyBackend(lm).fill(Review, {"words": "Good."}, "")


# --- trained predictors -----------------------------------------------------------------------------------------------


def trained() -> Any:
    import dspy

    predictor: Any = dspy.Predict("text -> stars: int, words")
    predictor.signature = predictor.signature.with_instructions("Be harsh.")
    predictor.demos = [dspy.Example(text="Old.", stars=1, words="Dull.").with_inputs("text")]
    return predictor


@pytest.mark.parametrize("way", ["make", "fill", "decide"])
async def test_a_trained_predictor_is_used_and_counted_whatever_the_way(way: str):
    lm = ScriptedLM([REVIEW])
    backend = OptimizedLM(lm, {Review: trained()})

    if way == "make":
        await backend.make(Draft("x"), Review)
    elif way == "fill":
        await backend.fill(Review, {}, "")
    else:
        await backend.decide(Draft("x"))

    assert backend.get_stats() == {"optimized": 1, "naive": 0}
    assert "Be harsh." in lm.calls[0].text
    assert any("Dull." in str(message["content"]) for message in lm.calls[0].messages)


@pytest.mark.parametrize("optimized", [None, {}, {ReviewFailed: None}])
async def test_without_one_a_call_is_naive(optimized: Any):
    backend = OptimizedLM(ScriptedLM([REVIEW]), optimized)

    await backend.make(ARTICLE, Review)

    assert backend.get_stats() == {"optimized": 0, "naive": 1}


async def test_a_selection_is_counted_once_however_often_the_answer_is_asked_for():
    backend = OptimizedLM(ScriptedLM([{"stars": "many", "words": ""}] * 4), max_retries=3)

    with pytest.raises(LMReplyUnreadable):
        await backend.make(ARTICLE, Review)

    assert backend.get_stats() == {"optimized": 0, "naive": 1}


async def test_the_counts_are_a_copy():
    backend = OptimizedLM(ScriptedLM([]))
    backend.get_stats()["naive"] = 9

    assert backend.get_stats() == {"optimized": 0, "naive": 0}


async def test_calls_at_once_do_not_share_a_predictors_state(virtual_clock: trio.abc.Clock):
    predictor = trained()
    backend = OptimizedLM(ScriptedLM([REVIEW] * 5, latency_s=1), {Review: predictor})
    before = list(predictor.demos)

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(backend.make, Draft("x"), Review)

    assert predictor.demos == before
    assert backend.get_stats() == {"optimized": 5, "naive": 0}


def test_only_the_four_are_coroutines():
    names = {name for name, item in inspect.getmembers(OptimizedLM) if inspect.iscoroutinefunction(item) and name[0] != "_"}

    assert names == {"make", "decide", "choose_type", "fill"}


def test_retries_are_counted_from_zero():
    with pytest.raises(DeclarationError, match="max_retries"):
        DSPyBackend(ScriptedLM([]), max_retries=-1)


def test_errors_of_the_backends_are_language_model_errors():
    assert issubclass(LMReplyUnreadable, LMError)
