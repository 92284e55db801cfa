"""Strict reading: JSON of the declared type becomes a message; anything else is refused, all of it at once."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import pickle
import typing
import uuid
from typing import Annotated, Any, Literal

import attrs
import pydantic
import pytest

from actors.errors import DeclarationError
from runtime.messages.problems import MessageInvalid
from runtime.messages.reader import read, read_text
from runtime.messages.schemas import schema_of
from runtime.messages.writer import write_text


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Color(enum.Enum):
    RED = "red"


@attrs.frozen
class Bound:
    low: int
    high: int | None = None


@dataclasses.dataclass(frozen=True)
class Named:
    name: str
    low: int = 0


class Page(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(arbitrary_types_allowed=True)

    bounds: list[Bound]
    share: float = pydantic.Field(default=0.5, ge=0, le=1, alias="theShare")


@attrs.frozen
class Whole:
    page: Page
    choice: Bound | Named | None
    levels: tuple[Level, ...] = ()
    by_day: dict[datetime.date, Bound] = attrs.field(factory=dict)


@attrs.frozen
class Chain:
    next: Chain | Link | None = None
    x: int = 0


@attrs.frozen
class Link:
    next: Chain | Link | None = None
    y: int = 0


@attrs.frozen
class Circle:
    kind: Literal["circle"]
    size: int


@attrs.frozen
class Square:
    kind: Literal["square"]
    size: str


def refused(annotation: Any, value: object) -> list[tuple[str, str]]:
    with pytest.raises(MessageInvalid) as caught:
        read(annotation, value)
    return [(problem.pointer, problem.message) for problem in caught.value.problems]


def test_messages_of_three_kinds_are_read_at_any_depth() -> None:
    text = """{"page": {"bounds": [{"low": 1}], "share": 1}, "choice": {"name": "n", "low": 2}, "levels": [2],
               "by_day": {"2026-11-28": {"low": 1, "high": 2}}}"""

    page = Page(bounds=[Bound(1)], theShare=1.0)
    assert read_text(Whole, text) == Whole(page, Named("n", 2), (Level.HIGH,), {datetime.date(2026, 11, 28): Bound(1, 2)})


@pytest.mark.parametrize(
    ("annotation", "wrong"),
    [
        (int, ["3", 3.0, True, None, [3]]),
        (float, ["3.5", True, None, 10**400]),
        (bool, [1, 0, "true", None]),
        (str, [1, True, None, ["a"]]),
        (None, [0, "", False, "null"]),
        (Level, ["2", "HIGH", 2.0, True, 3]),
        (Color, ["RED", " red", None]),
        (Literal[1, "a"], [True, 1.0, "1", "A"]),
        (datetime.datetime, ["3", 3, "2026-11-28", "2026-02-30T00:00:00Z", "20261128T180000"]),
        (datetime.date, ["3", 3, "20261128", "2026-W48-6", "2026-11-28T00:00:00"]),
        (datetime.time, [3, "18", "25:00"]),
        (datetime.timedelta, [3, "3", "1 day", "P", "PT", "P1000000000D"]),
        (decimal.Decimal, ["NaN", "1_0", " 1", "", True, "1e99999999999999999999"]),
        (uuid.UUID, ["{" + str(uuid.UUID(int=5)) + "}", "5", 5]),
        (bytes, ["AA=", "é", "AA==\n", 1]),
        (list[int], ["[]", {}, ["1"], None]),
        (tuple[int, str], [[1], [1, "a", 2], ["a", 1]]),
        (frozenset[int], [[1, 1], ["1"], {}]),
        (dict[int, str], [{"a": ""}, {"01": ""}, {"1.0": ""}, []]),
        (Bound, [[], "low", None, {}, {"low": 1, "lower": 1}, {"low": True}]),
        (Annotated[int, pydantic.Field(ge=0)], [-1, "1", True]),
    ],
)
def test_nothing_is_taken_for_something_else(annotation: Any, wrong: list[object]) -> None:
    for value in wrong:
        assert refused(annotation, value), value


@pytest.mark.parametrize(
    ("annotation", "value", "meant"),
    [
        (float, 3, 3.0),
        (decimal.Decimal, 3, decimal.Decimal(3)),
        (decimal.Decimal, 0.1, decimal.Decimal("0.1")),
        (datetime.datetime, "2026-11-28t18:00:00.123456789z", datetime.datetime(2026, 11, 28, 18, 0, 0, 123456, datetime.UTC)),
        (datetime.timedelta, "-P1W2DT3H4M5.5S", -datetime.timedelta(9, 11045, 500_000)),
        (int | float, 1, 1),
        (float | int, 1, 1),
        (datetime.date | str, "2026-11-28", "2026-11-28"),
        (Bound | dict[str, int], {"low": 1}, Bound(1)),
        (list[int] | list[str], [], []),
        (Circle | Square, {"kind": "square", "size": "1"}, Square("square", "1")),
        (Any, {"a": [1]}, {"a": [1]}),
        (list, [1, "a"], [1, "a"]),
        (tuple[()], [], ()),
    ],
)
def test_what_json_has_no_form_for_is_read_from_what_stands_for_it(annotation: Any, value: object, meant: object) -> None:
    made = read(annotation, value)

    assert (made, type(made)) == (meant, type(meant))


def test_everything_wrong_is_named_at_once_with_its_pointer() -> None:
    value = {
        "page": {"bounds": [{"low": "1"}, {}], "share": 2, "more": 1},
        "levels": [2, "LOW"],
        "by_day": {"2026-11-28": {"low": 1}, "a/b": 3},
        "extra": 1,
    }

    with pytest.raises(MessageInvalid) as caught:
        read(Whole, value, at=("input",))

    assert [(problem.pointer, problem.message) for problem in caught.value.problems] == [
        ("/input/page/bounds/0/low", "expected int, got '1'"),
        ("/input/page/bounds/1/low", "missing, expected int"),
        ("/input/page/more", "no field of Page; its fields: bounds, share"),
        ("/input/page/share", "got 2.0: Input should be less than or equal to 1"),
        ("/input/choice", "missing, expected Bound | Named | None"),
        ("/input/levels/1", "expected one of 1, 2, got 'LOW'"),
        ("/input/by_day/a~1b", "expected a name that is date"),
        ("/input/by_day/a~1b", "expected Bound (an object), got 3"),
        ("/input/extra", "no field of Whole; its fields: page, choice, levels, by_day"),
    ]
    assert str(caught.value).startswith("The value does not make a Whole:\n  input.page.bounds[0].low: expected int, got '1'\n")
    assert str(caught.value).endswith("  Fix: give 'input' as its type declares.")
    assert pickle.loads(pickle.dumps(caught.value)).problems == caught.value.problems


def test_the_words_fit_any_sender() -> None:
    words = str([refused(Whole, {"page": 1, "x": "y"}), refused(Bound, {}), refused(Circle | Square, {})]).lower()

    assert not [word for word in ("model", "answer", "prompt", "instruction", "--", "command") if word in words]


def test_of_a_union_the_member_that_was_meant_is_told_about() -> None:
    assert refused(Bound | None, {"low": "1"}) == [("/low", "expected int, got '1'")]
    assert refused(Circle | Square, {"kind": "square", "size": 1}) == [("/size", "expected str, got 1")]
    assert refused(Bound | Named, {"low": "1"}) == [
        ("", "expected Bound | Named, got an object (Bound: low: expected int, got '1'; Named: name: missing, expected str)")
    ]
    assert refused(Bound | None, 3) == [("", "expected Bound | None, got 3")]


def test_what_fits_two_message_types_is_not_guessed() -> None:
    alike = "fits Chain and Link alike: only a field that one of them has can say which"

    assert refused(Chain | Link, {}) == [("", alike)]
    assert read(Chain | Link, {"y": 1}) == Link(y=1)


def test_unions_in_unions_cost_no_more_than_their_size() -> None:
    """Without a memory each level would be read twice by each of its two readers: 2 ** 60 readings, and as long a message."""
    text = '{"next": ' * 60 + "{}" + "}" * 60

    with pytest.raises(MessageInvalid) as caught:
        read_text(Chain, text)

    assert len(caught.value.problems) == 1
    assert len(str(caught.value)) < 2_000


def test_more_depth_than_the_stack_has_room_for_is_refused_too() -> None:
    value: Any = {}
    for _ in range(400):
        value = {"next": value}

    with pytest.raises(MessageInvalid, match="it is nested too deeply"):
        read(Chain, value, max_depth=1_000)


def test_depth_is_bounded() -> None:
    with pytest.raises(MessageInvalid, match="nested more than 2 deep"):
        read(Any, [[[]]], max_depth=2)
    assert read(Any, [[[]]], max_depth=3) == [[[]]]


def test_half_a_surrogate_pair_and_nan_are_refused_in_values_too() -> None:
    assert refused(str, "\ud800") == [("", "half of a surrogate pair, which isn't a character")]
    assert refused(dict[str, float], {"a": float("nan")}) == [("/a", "expected a finite number")]


@attrs.frozen
class Guarded:
    at: datetime.datetime = attrs.field(converter=lambda at: at.astimezone(datetime.UTC))
    _count: int = attrs.field(default=1, validator=attrs.validators.gt(0))
    tag: str = attrs.field(init=False, default="made here")


class Tagged(pydantic.BaseModel):
    tags: list[str]

    @pydantic.field_validator("tags", mode="before")
    @classmethod
    def _split(cls, said: Any) -> Any:
        return said.split(";") if isinstance(said, str) else [*said, "seen"]

    @pydantic.model_validator(mode="after")
    def _few(self) -> Tagged:
        if len(self.tags) == 3:
            raise TypeError("three")
        return self


@attrs.frozen
class Holder:
    tagged: Tagged | None = None
    size: Annotated[int, pydantic.BeforeValidator(lambda size: size + 1)] = 0


def test_the_authors_converters_and_validators_run_once_on_what_the_type_made() -> None:
    assert read(Guarded, {"at": "2026-11-28T18:00:00+01:00"}).at.hour == 17
    assert read(Tagged, {"tags": ["a"]}).tags == ["a", "seen"]
    assert read(Holder, {"size": 1}) == Holder(size=2)


def test_a_converter_that_takes_more_does_not_widen_the_declared_type() -> None:
    assert refused(Tagged, {"tags": "a;b"}) == [("/tags", "expected list[str] (a list), got 'a;b'")]


def test_what_the_class_refuses_is_a_problem_of_its_place() -> None:
    assert refused(list[Guarded], [{"at": "2026-11-28T18:00:00Z", "count": -1}]) == [
        ("/0", "Guarded rejected it: '_count' must be > 0: -1")
    ]
    assert refused(Holder, {"tagged": {"tags": ["a", "b"]}}) == [
        ("/tagged", "expected Tagged | None, got an object (Tagged: Tagged rejected it: three)")
    ]


@pytest.mark.parametrize("name", ["_count", "tag"])
def test_a_field_has_one_name_and_a_computed_one_none(name: str) -> None:
    [(pointer, message)] = refused(Guarded, {"at": "2026-11-28T18:00:00Z", name: 1})

    assert (pointer, message) == (f"/{name}", "no field of Guarded; its fields: at, count")


def test_a_model_that_keeps_other_fields_gets_them() -> None:
    class Open(pydantic.BaseModel):
        model_config = pydantic.ConfigDict(extra="allow")
        a: int

    made = read(Open, {"a": 1, "b": [2]})

    assert made.model_extra == {"b": [2]}
    assert write_text(Open, made) == '{"a":1,"b":[2]}'
    assert schema_of(Open)["additionalProperties"] is True


T = typing.TypeVar("T")


@attrs.frozen
class Box(typing.Generic[T]):
    content: list[T]


class Numbers(pydantic.RootModel[list[int]]):
    pass


def test_generic_classes_and_root_models_are_read_by_what_they_hold() -> None:
    assert read(Box[Bound], {"content": [{"low": 1}]}) == Box([Bound(1)])
    assert refused(Box[Bound], {"content": [1]}) == [("/content/0", "expected Bound (an object), got 1")]
    assert read(Numbers, [1]) == Numbers([1])
    assert refused(Numbers, ["1"]) == [("/0", "expected int, got '1'")]


def test_a_type_without_json_is_a_mistake_of_the_declaration() -> None:
    with pytest.raises(DeclarationError, match=r"cannot be read from JSON: .*\n  Fix: "):
        read(typing.Callable[[int], int], 1)


def test_the_schema_is_closed_and_names_the_fields() -> None:
    schema = schema_of(Whole)

    assert schema["additionalProperties"] is False
    assert [*schema["properties"]] == ["page", "choice", "levels", "by_day"]
    assert schema["required"] == ["page", "choice"]
    assert {name: [*each["properties"]] for name, each in schema["$defs"].items()} == {
        "Bound": ["low", "high"],
        "Named": ["name", "low"],
        "Page": ["bounds", "share"],
    }
    assert all(each["additionalProperties"] is False for each in schema["$defs"].values())
    assert schema_of(Holder)["properties"]["size"]["type"] == "integer"
    assert schema_of(bytes) == {"type": "string", "contentEncoding": "base64"}
