"""What is stored comes back as it was, or is refused with the place."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import math
import sys
from collections.abc import Collection, Sequence
from typing import Any, Generic, Literal, TypeVar

import attrs
import pydantic
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from actors.store_errors import NotStorable, RecordTooLarge
from runtime.messages.codec import MessageCodec
from runtime.messages.problems import MessageInvalid
from runtime.messages.sameness import is_same
from tests.runtime.messages.test_writer import _makers as _MAKERS
from tests.runtime.messages.test_writer import _message, samples

T = TypeVar("T")


class Level(enum.Enum):
    LOW = 1
    HIGH = 2


class Color(enum.Enum):
    RED = (1, 0)
    BLUE = (0, 1)


@attrs.frozen
class Hit:
    score: float
    at: datetime.datetime | None = None


@attrs.frozen
class Better(Hit):
    why: str = ""


@attrs.frozen
class Draft:
    text: str
    hits: list[Hit] = attrs.field(factory=list)
    level: Level = Level.LOW


@attrs.frozen
class Yes:
    by: str


@attrs.frozen
class No:
    by: str


@attrs.frozen
class Vote:
    said: Yes | No | None
    notes: Any = None
    colors: frozenset[Color] = frozenset()
    pairs: tuple[int, ...] = ()


@attrs.frozen
class Box(Generic[T]):
    item: T


@attrs.frozen
class Holds:
    box: Box[int]
    votes: dict[int, Yes | No]


class Form(pydantic.BaseModel, arbitrary_types_allowed=True):
    name: str
    hits: list[Hit] = []
    kind: Literal["a", "b"] = "a"


@dataclasses.dataclass(eq=False)
class Same:
    n: int | None


@attrs.define
class Private:
    _inner: list[Private] = attrs.field(factory=list)
    count: int = attrs.field(init=False, default=0)


@attrs.frozen
class Lists:
    names: Sequence[str] = ()
    some: Collection[Hit] | None = None


DECLARED = (Hit, Draft, Vote, Box, Holds, Form, Same, Private, Lists)


@pytest.fixture
def codec() -> MessageCodec:
    return MessageCodec(DECLARED)


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        [None, Hit(1.0)],
        Hit(3),
        Hit(0.1, datetime.datetime(2026, 11, 28, 18, tzinfo=datetime.UTC)),
        Better(1.0, why="it is better"),
        Draft("ü\n\x00 \U0001f600", [Hit(1.5), Hit(2)], Level.HIGH),
        Draft("t", [Better(1.5, why="a subclass in a field of its base")]),
        Vote(Yes("anna")),
        Vote(No("anna"), {"deep": [Hit(1.0), None, 1, "x"]}, frozenset({Color.RED, Color.BLUE}), (1, 2)),
        Box(1),
        Box(Hit(1.0)),
        Box({"a": [1, Box("b")]}),
        Holds(Box(3), {1: Yes("a"), 2: No("b")}),
        Form(name="x", hits=[Hit(1.0), Better(2.0)], kind="b"),
        Same(None),
        Private([Private()]),
        Lists(),
        Lists(("a", "b"), (Hit(1.0), Better(2.0))),
        Lists(["a"], [Hit(1.0)]),
        Vote(None, (1, ("x", Hit(1.0)), [()])),
    ],
    ids=lambda value: type(value).__name__,  # the order in a set is another in each process of the suite,
)
def test_what_is_stored_comes_back_with_the_same_types(codec: MessageCodec, value: object) -> None:
    data = codec.encode(value)

    read = codec.decode(data)

    assert is_same(value, read) is None
    assert is_same(value, codec.decode(codec.encode(read))) is None
    assert is_same(MessageCodec(DECLARED).decode(data), read) is None, "a codec of another process has seen none of the classes"


def late(n: int) -> Private:
    made = Private()
    made.count = n
    return made


@pytest.mark.parametrize(
    ("value", "kind", "field"),
    [
        (Hit(math.nan), "Hit", "score"),
        (Draft("\ud800"), "Draft", "text"),
        (Draft("t", (Hit(1.0),)), "Draft", "hits"),  # type: ignore[arg-type]
        (Draft("t", [Hit(1.0), Hit("1")]), "Draft", "hits[1].score"),  # type: ignore[arg-type]
        (Vote(None, ...), "Vote", "notes"),
        (Vote(None, {"tests.runtime.messages.test_codec:Yes": {"by": "me"}}), "Vote", "notes"),
        (Hit(1.0, datetime.datetime(2026, 10, 25, 2, 30, fold=1)), "Hit", "at"),
        (Vote(None, {"builtins:tuple": [1]}), "Vote", "notes"),
        (late(3), "Private", "count"),
        (7, "int", None),
        (Yes("reached by a field, and so storable"), None, None),
        (ValueError("no message"), "ValueError", None),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_would_come_back_as_something_else_is_refused_with_its_place(
    codec: MessageCodec, value: object, kind: str | None, field: str | None
) -> None:
    if kind is None:
        assert codec.decode(codec.encode(value)) == value
        return
    with pytest.raises(NotStorable) as refused:
        codec.encode(value)

    assert (refused.value.type, refused.value.field) == (kind, field)
    assert "\n  Fix: " in str(refused.value)


def test_a_value_that_is_too_large_or_too_deep_is_refused(codec: MessageCodec) -> None:
    deep = Private()
    for _ in range(200):
        deep = Private([deep])

    with pytest.raises(RecordTooLarge, match="64 deep"):
        codec.encode(deep)
    with pytest.raises(RecordTooLarge) as refused:
        codec.encode(Yes("x" * 5_000_000))
    assert refused.value.limit == 4 * 2**20


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"nul",
        b"{}",
        b"[",
        b'{"os:system":{"by":"x"}}',
        b'{"tests.runtime.messages.test_codec:Hit":{"score":1,"color":2}}',
        b'{"tests.runtime.messages.test_codec:Hit":{}}',
        b'{"tests.runtime.messages.test_codec:Hit":{"score":1}',
        b'{"tests.runtime.messages.test_codec:Hit":' + b"[" * 10_000 + b"}",
        b'{"tests.runtime.messages.test_codec:Draft":{"text":"\xff"}}',
        b'[{"tests.runtime.messages.test_codec:Hit":{"score":"1"}}]',
    ],
)
def test_data_that_makes_no_message_is_an_error_of_one_type(codec: MessageCodec, data: bytes) -> None:
    with pytest.raises(MessageInvalid):
        codec.decode(data)


def test_nothing_is_imported_by_a_name_in_the_data(codec: MessageCodec) -> None:
    before = set(sys.modules)

    with pytest.raises(MessageInvalid, match="none of the graph's types"):
        codec.decode(b'{"antigravity:Hit":{"score":1}}')

    assert set(sys.modules) - before == set()


def test_a_field_with_a_default_may_be_missing_in_what_is_stored(codec: MessageCodec) -> None:
    assert codec.decode(b'{"tests.runtime.messages.test_codec:Draft":{"text":"x"}}') == Draft("x")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.data())
def test_any_value_of_any_type_comes_back_the_same(data: st.DataObject) -> None:
    sample = data.draw(samples)
    kind, values = _message(data.draw(st.sampled_from(_MAKERS)), [sample], ["field_0"])
    value = data.draw(values)
    codec = MessageCodec([kind])

    try:
        encoded = codec.encode(value)
    except NotStorable as error:
        assume("comes back" not in str(error))  # a number of months, say, that a time zone's own class keeps in another way
        raise

    assert is_same(value, codec.decode(encoded)) is None
