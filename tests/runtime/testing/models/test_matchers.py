from __future__ import annotations

import dspy
import pytest

from actors.errors import DeclarationError
from runtime.testing import ScriptedLM, by_fields, by_node, by_signature


async def summarise(text: str) -> str:
    """Say it in one line,
    and no more."""
    return text


async def nameless(text: str) -> str:
    return text


class Rate(dspy.Signature):  # type: ignore[misc]
    """Rate the text."""

    text: str = dspy.InputField()
    score: int = dspy.OutputField()


def test_a_node_is_known_by_its_docstring_however_it_is_wrapped() -> None:
    matches = by_node(summarise)

    assert matches("objective is:\n        Say it in one line,\n        and no more.\nnow")
    assert not matches("Say it in two lines.")
    assert matches.__name__ == "by_node(summarise)"


def test_a_node_without_a_docstring_is_refused() -> None:
    with pytest.raises(DeclarationError) as caught:
        by_node(nameless)

    assert str(caught.value) == (
        "node 'nameless' has no docstring to know its prompts by.\n  Fix: write one, or use by_fields(…)."
    )


@pytest.mark.parametrize("signature", [Rate, "text -> score: int"])
async def test_a_call_is_known_by_its_signature(signature: object) -> None:
    lm = ScriptedLM({by_fields("title"): {"title": "no"}, by_signature(signature): {"score": 7}}, unused="ok")

    prediction = await lm.predict(signature, text="fine")

    assert prediction.score == 7
