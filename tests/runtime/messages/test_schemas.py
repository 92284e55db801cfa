"""What a language model says becomes the author's type, or one error that names everything wrong with it."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import gc
import json
import typing
import weakref
from typing import Annotated, Any, Generic, Literal, TypeVar

import attrs
import pydantic
import pytest

from actors.errors import DeclarationError
from runtime.messages.fields import fields_of
from runtime.messages.problems import MessageInvalid
from runtime.messages.schemas import build, dump, json_schema, mirror


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


@attrs.frozen
class Bound:
    """Ends of a range.

    Attributes:
        low: The lower end.
    """

    low: int
    high: int | None = None
    """The upper end."""


@attrs.frozen
class Tree:
    name: str
    children: list[Tree] = attrs.field(factory=list)


@dataclasses.dataclass
class Reading:
    bound: Bound
    at: datetime.datetime
    level: Level
    width: int = dataclasses.field(init=False, default=0)

    def __post_init__(self) -> None:
        self.width = (self.bound.high or self.bound.low) - self.bound.low


class Page(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(arbitrary_types_allowed=True)

    bounds: list[Bound]
    kind: Literal["x", "y"] = pydantic.Field(default="x", description="Which axis.")


@attrs.frozen
class Guarded:
    _key: str
    schema: str = attrs.field(validator=attrs.validators.min_len(2), metadata={"description": "At least two letters."})
    count: int = attrs.field(converter=int, default=3)
    tag: str = attrs.field(init=False, default="made here")

    def __attrs_post_init__(self) -> None:
        if self.count > 10:
            raise TypeError("too many")


@attrs.frozen
class Mixed:
    choice: Bound | Tree | None
    by_name: dict[str, Bound]
    page: Page
    share: Annotated[float, pydantic.Field(ge=0, le=1)] = 0.5


@attrs.frozen
class Flag:
    ready: bool


@attrs.frozen
class Callback:
    call: typing.Callable[[int], int]


def test_nested_types_of_three_kinds_are_built_through_their_own_constructors() -> None:
    page = {"bounds": [{"low": "3"}], "kind": "y"}

    built = build(Mixed, {"choice": {"name": "root", "children": [{"name": "leaf"}]}, "by_name": {"a": {"low": 1}}, "page": page})

    assert built == Mixed(Tree("root", [Tree("leaf")]), {"a": Bound(1)}, Page(bounds=[Bound(3)], kind="y"), 0.5)


def test_a_dataclass_gets_its_post_init_and_keeps_its_computed_fields() -> None:
    built = build(Reading, {"bound": {"low": 2, "high": 5}, "at": "2025-12-12T00:00:00", "level": "HIGH"})

    assert built == Reading(Bound(2, 5), datetime.datetime(2025, 12, 12), Level.HIGH)
    assert built.width == 3


@pytest.mark.parametrize("level", [2, "2", "HIGH", Level.HIGH])
def test_an_enum_is_named_by_value_by_text_or_by_name(level: object) -> None:
    built = build(Reading, {"bound": Bound(1), "at": "2025-12-12T00:00:00", "level": level})

    assert built.level is Level.HIGH


@pytest.mark.parametrize("name", ["key", "_key"])
def test_a_private_attribute_is_given_by_either_name(name: str) -> None:
    assert build(Guarded, {name: "k", "schema": "ab"}) == Guarded("k", "ab")


def test_every_problem_is_named_at_once() -> None:
    with pytest.raises(MessageInvalid) as caught:
        build(Mixed, {"by_name": {"a": {"low": "many"}}, "page": {"bounds": [{}], "kind": "z"}, "share": 2})

    assert str(caught.value) == (
        "The values do not make a Mixed:\n"
        "  choice: missing, expected Bound | Tree | None\n"
        "  by_name.a.low: got 'many' (by_name is dict[str, Bound]): "
        "Input should be a valid integer, unable to parse string as an integer\n"
        "  page.bounds[0].low: missing (page is Page)\n"
        "  page.kind: got 'z' (page is Page): Input should be 'x' or 'y'\n"
        "  share: got 2, expected float: Input should be less than or equal to 1\n"
        "  Fix: give 'choice', 'by_name', 'page', 'share' as its type declares."
    )
    assert caught.value.problems[1].pointer == "/by_name/a/low"


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"key": "k", "schema": "a"}, "Guarded rejected it: Length of 'schema' must be >= 2: 1"),
        ({"key": "k", "schema": "ab", "count": "11"}, "Guarded rejected it: too many"),
    ],
)
def test_what_the_class_itself_refuses_is_a_problem_of_the_answer(values: dict[str, Any], reason: str) -> None:
    with pytest.raises(MessageInvalid) as caught:
        build(Guarded, values)

    assert str(caught.value).splitlines()[1] == f"  got {values!r}: {reason}"


@pytest.mark.parametrize(("said", "meant"), [("yes", True), ("False", False), (1, True)])
def test_a_bool_may_be_said_in_pydantics_ways(said: object, meant: bool) -> None:
    assert build(Flag, {"ready": said}) == Flag(meant)


@pytest.mark.parametrize("said", ["maybe", "", None, 2])
def test_a_bool_that_is_none_is_refused(said: object) -> None:
    with pytest.raises(MessageInvalid, match=r"\n  ready: got .*, expected bool: "):
        build(Flag, {"ready": said})


def test_a_long_value_is_shortened_in_the_message() -> None:
    with pytest.raises(MessageInvalid) as caught:
        build(Flag, {"ready": "x" * 100_000})

    assert len(str(caught.value)) < 500


def test_a_type_that_no_model_can_fill_is_a_mistake_of_the_declaration() -> None:
    with pytest.raises(DeclarationError, match=r"^Callback cannot be read from JSON: .*\n  Fix: build message types"):
        build(Callback, {"call": "f"})


def test_an_annotation_that_cannot_be_hashed_is_no_obstacle() -> None:
    @attrs.frozen
    class Shown:
        size: Annotated[int, pydantic.Field(examples=[[1]]), ["unhashable"]]

    assert build(Shown, {"size": "1"}) == Shown(1)
    assert typing.get_args(mirror(fields_of(Shown)[0].type))[0] is int


def test_a_class_without_declared_fields_is_no_message_type() -> None:
    with pytest.raises(DeclarationError, match=r"^<class 'int'> isn't a message type: it has no declared fields\.\n  Fix: "):
        build(int, {})


def test_fields_are_described_by_metadata_docstring_or_the_text_under_them() -> None:
    described = {field.name: field.description for kind in (Bound, Guarded, Page) for field in fields_of(kind)}

    assert {name: text for name, text in described.items() if text} == {
        "low": "The lower end.",
        "high": "The upper end.",
        "schema": "At least two letters.",
        "kind": "Which axis.",
    }


def test_types_of_a_function_resolve_each_other() -> None:
    @attrs.frozen
    class Inner:
        size: int

    @attrs.frozen
    class Outer:
        inners: list[Inner]

    assert build(Outer, {"inners": [{"size": 1}]}) == Outer([Inner(1)])


def test_an_annotation_that_nobody_knows_is_named() -> None:
    lost: type = attrs.make_class("Lost", {"thing": attrs.field(type="Nowhere")})  # type: ignore[call-overload]

    with pytest.raises(DeclarationError, match=r"^Lost has a field whose annotation cannot be resolved: name 'Nowhere' is not"):
        fields_of(lost)


def test_a_mirror_shows_a_json_schema_that_refers_to_itself() -> None:
    schema = pydantic.TypeAdapter(mirror(list[Tree])).json_schema()

    children = {"items": {"$ref": "#/$defs/Tree"}, "title": "children", "type": "array"}
    tree = {"properties": {"name": {"title": "name", "type": "string"}, "children": children}, "required": ["name"]}
    assert schema == {
        "$defs": {"Tree": {**tree, "title": "Tree", "type": "object"}},
        "items": {"$ref": "#/$defs/Tree"},
        "type": "array",
    }


def test_a_schema_without_aliases_names_the_fields_of_mirrors_too() -> None:
    """By it the answers of an XML adapter are read: which element is a list, and of what."""
    schema = json_schema(mirror(Mixed))

    assert [*schema["properties"]] == ["choice", "by_name", "page", "share"]
    assert schema["required"] == ["choice", "by_name", "page"]
    assert [*schema["$defs"]["Bound"]["properties"]] == ["low", "high"]


def test_mirrors_do_not_keep_the_types_of_a_function_alive() -> None:
    def use_once() -> weakref.ref[type]:
        @attrs.frozen
        class Brief:
            size: int

        build(Brief, {"size": 1})
        return weakref.ref(Brief)

    brief = use_once()
    gc.collect()

    assert brief() is None


def test_dump_gives_what_json_can_hold() -> None:
    reading = Reading(Bound(1), datetime.datetime(2025, 12, 12), Level.LOW)

    dumped = dump({"reading": reading, "tags": {"b", "a"}, "page": Page(bounds=[Bound(2, 3)]), Level.HIGH: b"\xff"})

    assert dumped == {
        "reading": {"bound": {"low": 1, "high": None}, "at": "2025-12-12T00:00:00", "level": 1, "width": 0},
        "tags": ["a", "b"],
        "page": {"bounds": [{"low": 2, "high": 3}], "kind": "x"},
        "2": "b'\\xff'",
    }
    assert json.loads(json.dumps(dumped)) == dumped


T = TypeVar("T")


def test_bytes_are_text_for_a_model_and_base64_for_strict_reading() -> None:
    value = {"a": [b"ab", b"\xff"], "b": ("c",)}

    assert dump(value, base64_bytes=True) == {"a": ["YWI=", "/w=="], "b": ["c"]}
    assert dump(b"ab") == "ab"


@attrs.frozen
class Crate(Generic[T]):
    content: T
    inside: list[Crate[T]] = attrs.field(factory=list)


@attrs.frozen
class Cargo:
    counts: Crate[int]
    names: Crate[str]


@attrs.frozen
class Growing(Generic[T]):
    content: T
    more: Growing[list[T]] | None = None


def test_the_arguments_of_a_generic_class_stand_in_its_schema() -> None:
    shapes = json_schema(mirror(Cargo))["$defs"]

    assert {name: shape["properties"]["content"]["type"] for name, shape in shapes.items() if name != "Cargo"} == {
        "Crate_int_": "integer",
        "Crate_str_": "string",
    }
    assert shapes["Crate_int_"]["properties"]["inside"]["items"] == {"$ref": "#/$defs/Crate_int_"}
    assert build(Cargo, {"counts": {"content": "3", "inside": [{"content": 4}]}, "names": {"content": "a"}}) == Cargo(
        Crate(3, [Crate(4)]), Crate("a")
    )
    with pytest.raises(MessageInvalid, match=r"counts\.content: got 'many' \(counts is Crate\[int\]\)"):
        build(Cargo, {"counts": {"content": "many"}, "names": {"content": "a"}})


def test_a_generic_class_without_arguments_takes_any() -> None:
    assert build(Crate, {"content": [1, "a"], "inside": [{"content": None}]}) == Crate[Any]([1, "a"], [Crate(None)])


def test_a_generic_class_that_grows_without_end_is_named() -> None:
    with pytest.raises(
        DeclarationError, match=r"^Growing holds itself with ever larger arguments.*\n  Fix: let Growing hold itself"
    ):
        mirror(Growing[int])
