"""A language model that chooses among types: exact names only, None among them, and a second try that knows of the first."""

from __future__ import annotations

import attrs
import dspy  # noqa: F401 - here, not in a test: an import in a thread would let the virtual clock jump
import pytest

from actors.errors import DeclarationError, LMReplyUnreadable
from runtime.lm.dspy.choosing import choose, fill_one_of
from runtime.testing import ScriptedLM


@attrs.frozen
class Draft:
    text: str


@attrs.frozen
class Review:
    """Look at it again."""

    text: str


@attrs.frozen
class ReviewFailed:
    reason: str


DRAFT = {"draft": Draft("words")}


async def test_a_single_candidate_is_chosen_without_a_call(virtual_clock):
    lm = ScriptedLM([])

    assert await choose(lm, instruction="", inputs=DRAFT, among=[Review]) is Review
    assert lm.calls == []


async def test_a_single_candidate_and_none_are_two_choices(virtual_clock):
    lm = ScriptedLM([{"choice": "None"}, {"choice": "Review"}])

    assert await choose(lm, instruction="", inputs=DRAFT, among=[Review], may_be_none=True) is None
    assert await choose(lm, instruction="", inputs=DRAFT, among=[Review], may_be_none=True) is Review


async def test_the_prompt_holds_the_instruction_the_inputs_and_every_candidate(virtual_clock):
    lm = ScriptedLM([{"choice": "Review"}])

    await choose(lm, instruction="Be strict.", inputs=DRAFT, among=[Review, ReviewFailed], may_be_none=True)

    (call,) = lm.calls
    for part in ("Be strict.", "words", "- Review: Look at it again. (text)", "- ReviewFailed: has reason.", "- None: nothing"):
        assert part in call.text


@pytest.mark.parametrize("wrong", ["Rev", "review", "I choose Review", "ReviewFailedToo", ""])
async def test_what_is_not_exactly_a_name_is_asked_for_again_and_the_prompt_says_why(wrong, virtual_clock):
    lm = ScriptedLM([{"choice": wrong}, {"choice": "ReviewFailed"}])

    chosen = await choose(lm, instruction="", inputs=DRAFT, among=[Review, ReviewFailed])

    assert chosen is ReviewFailed
    assert "Your answer cannot be read" in lm.calls[1].text


async def test_a_name_that_never_comes_is_a_reply_that_cannot_be_read(virtual_clock):
    lm = ScriptedLM([{"choice": "Rewrite"}, {"choice": "Rewrite"}])

    with pytest.raises(LMReplyUnreadable, match="Rewrite") as caught:
        await choose(lm, instruction="", inputs=DRAFT, among=[Review, ReviewFailed])

    assert caught.value.retryable is True
    assert len(lm.calls) == 2


async def test_types_of_one_name_are_chosen_by_their_full_names(virtual_clock):
    @attrs.frozen
    class Other:
        x: int

    Other.__name__ = "Review"
    lm = ScriptedLM([{"choice": f"{Other.__module__}.{Other.__qualname__}"}])

    assert await choose(lm, instruction="", inputs=DRAFT, among=[Review, Other]) is Other


async def test_the_chosen_type_is_filled_from_the_same_inputs(virtual_clock):
    lm = ScriptedLM([{"choice": "ReviewFailed"}, {"reason": "too short"}])

    made = await fill_one_of(lm, instruction="Judge.", inputs=DRAFT, outputs=[Review, ReviewFailed], may_be_none=False)

    assert made == ReviewFailed("too short")
    assert all("words" in call.text and "Judge." in call.text for call in lm.calls)


async def test_none_is_filled_with_nothing(virtual_clock):
    lm = ScriptedLM([{"choice": "None"}])

    assert await fill_one_of(lm, instruction="", inputs=DRAFT, outputs=[Review], may_be_none=True) is None
    assert len(lm.calls) == 1


async def test_nothing_to_choose_from_is_refused(virtual_clock):
    with pytest.raises(DeclarationError, match=r"there is nothing to choose from\.\n  Fix: pass message types\.$"):
        await choose(ScriptedLM([]), instruction="", inputs=DRAFT, among=[])
