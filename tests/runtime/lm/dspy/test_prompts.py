"""The prompts that are written with what is remembered are, to the character, those of DSPy's own adapter."""

import datetime
import enum
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import attrs
import dspy
import pydantic
import pytest

from runtime.lm.dspy.bridge import plan_of
from runtime.lm.dspy.careful import careful
from runtime.lm.dspy.plans import SignaturePlan
from runtime.lm.dspy.unreadable import Care

library: Any = dspy


class Tone(enum.Enum):
    WARM = "warm"
    COLD = "cold"


class Place(pydantic.BaseModel):
    name: str
    at: tuple[float, float] = (0.0, 0.0)


@attrs.frozen
class Draft:
    text: str
    """What was written."""
    tones: list[Tone]
    scores: dict[str, float]
    due: datetime.date | None


@attrs.frozen
class Note:
    words: str


@attrs.frozen
class Verdict:
    grade: Literal["good", "bad"]
    points: int
    places: list[Place]
    remark: str | None = None


VALUES: Sequence[Any] = (
    *("plain", "", "  spaces ", "two\nlines", "{'a': 1}", "[[ ## field ## ]]", "Grüße 🙂", "\ud800", "<<CUSTOM"),
    *(0, -3, 2**80, True, False, None, 1.0, 1e300, math.inf, math.nan),
    *([], ["a", "b\nc"], ["«x»"], [1, [2, None]], {}, {"a": {"b": [1, "ü"]}}, {1: "x"}, [math.nan], [b"\xff"], [object]),
    *((1, "a"), {"one"}, frozenset({2}), b"bytes", b"\xff", datetime.date(2024, 2, 29), Tone.WARM, [Tone.COLD]),
    *(Place(name="Ulm"), [Place(name="Ulm")], {"at": Place(name="Bonn")}, Draft("t", [], {}, None), [{"k": {1, 2}}]),
    *(library.Image("https://example.org/cat.png"), [library.Image("https://example.org/cat.png")]),
)
DEMOS: Sequence[list[Mapping[str, Any]]] = (
    [],
    [{"value": "a", "answer": "b"}],
    [{"value": "a", "answer": "b", "rest": [1]}, {"value": {"x": 1}, "answer": None}, {"answer": "alone"}],
)


def formatted(signature: Any, demos: Any, inputs: Mapping[str, Any], plan: SignaturePlan | None = None) -> Any:
    adapter: Any = careful(library.ChatAdapter(), Care(1, "answer", plan))
    return adapter.format(signature, demos, dict(inputs))


def theirs(signature: Any, demos: Any, inputs: Mapping[str, Any]) -> Any:
    return library.ChatAdapter().format(signature, demos, dict(inputs))


@pytest.mark.parametrize("demos", DEMOS)
@pytest.mark.parametrize("annotation", ["str", "Any", "list[str]", "dict[str, float]", "int"])
def test_every_value_is_written_as_dspy_writes_it(annotation: str, demos: Any):
    signature = library.Signature(f"value: {annotation}, other: str -> answer: str, rest: list[int]", "Judge it.")

    for value in VALUES:
        if annotation == "str" and isinstance(value, list) and not all(isinstance(each, str) for each in value):
            continue  # DSPy numbers the texts of a list that is given for a text, and fails on anything else
        inputs = {"value": value, "other": "o"}
        assert formatted(signature, demos, inputs) == theirs(signature, demos, inputs), repr(value)


@pytest.mark.parametrize("instruction", ["", "Judge the draft.", "Judge:\n  - with care\n\n  - and {braces}"])
@pytest.mark.parametrize(("inputs", "output"), [({"draft": Draft}, Verdict), ({"a": Draft, "b": Note}, Note), ({}, Verdict)])
def test_a_plans_prompt_is_dspys_the_first_time_and_from_then_on(inputs: dict[str, type], output: type, instruction: str):
    plan = plan_of(inputs, output, instruction)
    given = {
        "draft": Draft("Hi", [Tone.WARM], {"a": 0.5}, datetime.date(2024, 1, 1)),
        "a": Draft("", [], {}, None),
        "b": Note("n"),
    }
    shown = plan.shown({name: given[name] for name in inputs})
    demos = [library.Example(**shown, **dict.fromkeys(plan.outputs, "x"))]

    prompts = [formatted(plan.signature, which, shown, plan) for which in ([], demos, [])]

    assert prompts == [theirs(plan.signature, which, shown) for which in ([], demos, [])]
    assert plan.prompt.system == prompts[0][0]["content"]


def test_inputs_that_are_missing_and_a_history_are_written_as_dspy_writes_them():
    signature = library.Signature("question: str, history: dspy.History, more: str -> answer: str")
    history = library.History(messages=[{"question": "one", "answer": "two"}])
    inputs = {"question": "three", "history": history}

    assert formatted(signature, [], inputs) == theirs(signature, [], inputs)
    assert formatted(signature, [], {}) == theirs(signature, [], {})


def test_other_instructions_of_the_same_signature_show():
    plan = plan_of({"note": Note}, Verdict, "Be kind to it.")
    formatted(plan.signature, [], {"words": "w"}, plan)
    plan.signature.instructions = "Be strict with it."

    prompt = formatted(plan.signature, [], {"words": "w"}, plan)

    assert "Be strict with it." in prompt[0]["content"]
    assert prompt == theirs(plan.signature, [], {"words": "w"})


def test_a_signature_made_from_the_plans_is_described_by_itself():
    plan = plan_of({"note": Note}, Verdict, "Grade it.")
    longer = plan.signature.prepend("reasoning", library.OutputField(), str)

    assert formatted(longer, [], {"words": "w"}, plan) == theirs(longer, [], {"words": "w"})


def test_an_adapter_of_ones_own_writes_its_own_prompts():
    class Shouting(library.ChatAdapter):  # type: ignore[misc]  # DSPy has no types
        def format_system_message(self, signature: Any) -> str:
            return "LISTEN!"

        def user_message_output_requirements(self, signature: Any) -> None:
            return None

    plan = plan_of({"note": Note}, Verdict, "Grade it well.")
    adapter: Any = careful(Shouting(), Care(1, "answer", plan))

    assert adapter.format(plan.signature, [], {"words": "w"}) == Shouting().format(plan.signature, [], {"words": "w"})
