"""Validators and converters of the author's own see what the model said, at the top level as within."""

import dataclasses
from collections.abc import Sequence
from decimal import Decimal
from typing import Annotated, Any

import attrs
import dspy
import pydantic
import pytest
import trio

from actors.errors import LMReplyUnreadable
from actors.lm import ChatMessage, Completion
from runtime.lm.backends.typed import DSPyBackend
from runtime.lm.dspy.bridge import fill
from runtime.messages.schemas import build
from runtime.testing import ScriptedLM

SEEN: list[object] = []


@pytest.fixture(autouse=True)
def _nothing_seen_yet() -> None:
    SEEN.clear()


def cents(said: Any) -> int:
    SEEN.append(said)
    return round(Decimal(str(said).removesuffix("EUR").strip()) * 100)


def words(said: Any) -> Any:
    SEEN.append(said)
    return [word.strip() for word in said.split(";")] if isinstance(said, str) else said


@attrs.frozen
class Converted:
    price: int = attrs.field(converter=cents)
    text: str


class Modelled(pydantic.BaseModel):
    tags: list[str]
    text: str

    @pydantic.field_validator("tags", mode="before")
    @classmethod
    def _split(cls, said: Any) -> Any:
        return words(said)


class Wholly(pydantic.BaseModel):
    low: int
    high: int

    @pydantic.model_validator(mode="before")
    @classmethod
    def _order(cls, said: Any) -> Any:
        SEEN.append(dict(said))
        return {name: str(value).removesuffix(" m") for name, value in said.items()}


@attrs.frozen
class Annotating:
    tags: Annotated[list[str], pydantic.BeforeValidator(words)]


@dataclasses.dataclass(frozen=True)
class Plain:
    tags: Annotated[list[str], pydantic.BeforeValidator(words)]


@attrs.frozen
class Tag:
    name: str


@attrs.frozen
class Tagged:
    tags: tuple[Tag, ...] = attrs.field(converter=tuple)
    sizes: tuple[int, ...] = attrs.field(converter=tuple, default=())


@attrs.frozen
class Outer:
    inner: Converted
    model: Modelled


class Saying:
    model = "fake/saying"

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)

    async def chat(self, messages: Sequence[ChatMessage], /, **options: Any) -> Completion:
        await trio.lowlevel.checkpoint()
        return Completion(self.answers.pop(0), self.model)


async def filled(output: type, *answers: str, **more: Any) -> Any:
    return await fill(Saying(*answers), instruction="", inputs={}, output=output, parse_attempts=len(answers), **more)


def said(**fields: str) -> str:
    return "".join(f"[[ ## {name} ## ]]\n{text}\n\n" for name, text in fields.items()) + "[[ ## completed ## ]]"


async def test_c23_a_converter_gets_what_was_said_once():
    assert await filled(Converted, said(price="12.50 EUR", text="t")) == Converted("12.50 EUR", "t")
    assert SEEN[0] == "12.50 EUR"
    assert len(SEEN) == 2  # the answer's, and that of the line above


async def test_c23_a_validator_that_runs_before_gets_what_was_said():
    made = await filled(Modelled, said(tags="red; green", text="t"))

    assert (made.tags, SEEN) == (["red", "green"], ["red; green"])


async def test_c23_what_is_json_comes_as_json():
    made = await filled(Modelled, said(tags='["red", "green"]', text="t"))

    assert (made.tags, SEEN) == (["red", "green"], [["red", "green"]])


async def test_c23_a_validator_of_the_whole_model_gets_what_was_said():
    made = await filled(Wholly, said(low="3 m", high="5 m"))

    assert (made.low, made.high, SEEN) == (3, 5, [{"low": "3 m", "high": "5 m"}])


@pytest.mark.parametrize("kind", [Annotating, Plain])
async def test_c23_a_validator_in_an_annotation_gets_what_was_said(kind: type):
    made = await filled(kind, said(tags="red; green"))

    assert (made.tags, SEEN) == (["red", "green"], ["red; green"])


async def test_c23_in_a_json_answer_too():
    with dspy.context(adapter=dspy.JSONAdapter()):
        made = await filled(Converted, '{"price": "12.50 EUR", "text": "t"}')

    assert (made.price, SEEN) == (1250, ["12.50 EUR"])


async def test_c23_one_level_down_they_see_the_same():
    inner = '{"price": "12.50 EUR", "text": "t"}'
    made = await filled(Outer, said(inner=inner, model='{"tags": "red; green", "text": "t"}'))

    assert (made.inner.price, made.model.tags) == (1250, ["red", "green"])
    assert SEEN == ["12.50 EUR", "red; green"]


async def test_c23_a_converter_for_what_the_type_makes_still_gets_that():
    made = await filled(Tagged, said(tags='[{"name": "red"}]', sizes='["1", 2]'))

    assert (made.tags, made.sizes) == ((Tag("red"),), (1, 2))


@pytest.mark.parametrize("tags", ["red", '["red"]', "7"])
async def test_c23_what_a_converter_makes_must_fit_its_field(tags: str):
    with pytest.raises(LMReplyUnreadable, match="tags"):
        await filled(Tagged, said(tags=tags))


async def test_c23_what_a_converter_refuses_is_asked_for_again():
    made = await filled(Converted, said(price="a lot", text="t"), said(price="3", text="t"))

    assert (made.price, SEEN) == (300, ["a lot", 3])


async def test_c23_a_module_that_changes_a_field_has_the_others_converted_once():
    class Shouting(dspy.Module):  # type: ignore[misc]
        def __init__(self, signature: Any) -> None:
            super().__init__()
            self.step = dspy.Predict(signature)

        async def aforward(self, **inputs: Any) -> Any:
            prediction = await self.step.acall(**inputs)
            assert prediction.price == 1250
            prediction.text = prediction.text.upper()
            return prediction

    made = await filled(Converted, said(price="12.50 EUR", text="t"), module=Shouting)

    assert (made.price, made.text) == (1250, "T")


def test_c23_a_message_is_built_from_what_was_said_without_a_model():
    assert build(Converted, {"price": "1 EUR", "text": "t"}).price == 100


# --- with fields that are resolved --------------------------------------------------------------------------------------


class Annotating2(pydantic.BaseModel):
    tags: Annotated[list[str], pydantic.BeforeValidator(words)]
    text: str


@pytest.mark.parametrize(
    ("target", "said", "read", "expected"),
    [
        (Converted, {"price": "12.50 EUR"}, ["12.50 EUR"], Converted("12.50", "given")),
        (Modelled, {"tags": "a; b"}, ["a; b"], Modelled(tags=["a", "b"], text="given")),
        (Annotating2, {"tags": "a; b"}, ["a; b"], Annotating2(tags=["a", "b"], text="given")),
    ],
    ids=["converter", "validator", "annotated"],
)
async def test_c23_the_authors_readers_see_what_was_said_beside_resolved_fields(target: Any, said: Any, read: Any, expected: Any):
    SEEN.clear()

    made = await DSPyBackend(ScriptedLM([said])).fill(target, {"text": "given"}, "Fill it.")

    assert made == expected
    assert SEEN[: len(read)] == read


async def test_c23_a_model_that_reads_all_at_once_sees_what_was_said_beside_resolved_fields():
    made = await DSPyBackend(ScriptedLM([{"low": "3 m"}])).fill(Wholly, {"high": 5}, "Fill it.")

    assert made == Wholly(low=3, high=5)


@attrs.frozen
class Ordered:
    low: int
    high: int = attrs.field()

    @high.validator  # type: ignore[attr-defined, unused-ignore]  # pyright: ignore[reportAttributeAccessIssue]  # attrs' own way
    def _above(self, _: object, value: int) -> None:
        if value < self.low:
            raise ValueError("high is below low")


async def test_c23_what_the_type_refuses_beside_resolved_fields_is_asked_for_again():
    lm = ScriptedLM([{"low": "9"}, {"low": "2"}])

    assert await DSPyBackend(lm).fill(Ordered, {"high": 5}, "Fill it.") == Ordered(2, 5)
    assert "high is below low" in lm.calls[1].text


async def test_c23_what_the_type_refuses_to_the_end_is_an_unreadable_reply():
    with pytest.raises(LMReplyUnreadable, match="high is below low"):
        await DSPyBackend(ScriptedLM([{"low": "9"}] * 2)).fill(Ordered, {"high": 5}, "Fill it.")
