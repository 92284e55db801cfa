"""What is written is read back equal, for any type; what would come back as something else is refused."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import decimal
import enum
import importlib
import ipaddress
import itertools
import json
import pathlib
import typing
import uuid
from typing import Any, Literal

import attrs
import pydantic
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runtime.messages.problems import MessageInvalid
from runtime.messages.reader import read, read_text
from runtime.messages.schemas import schema_of
from runtime.messages.writer import write, write_text

Sample = tuple[Any, st.SearchStrategy[Any]]
"""A type, and what gives its values."""


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Color(enum.Enum):
    RED = "red"
    BLUE = (0, 0, 255)


@attrs.frozen
class Leaf:
    size: int


@attrs.frozen
class Bigger(Leaf):
    more: int


@attrs.define
class Node:
    _children: list[Node] = attrs.field(factory=list)
    count: int = attrs.field(init=False, default=0)


@dataclasses.dataclass(frozen=True)
class Odd:
    share: float
    by_level: dict[Level, Leaf]
    text: str = ""


_texts = st.text(max_size=8)  # hypothesis leaves surrogates out
_zones = st.sampled_from([None, datetime.UTC, datetime.timezone(datetime.timedelta(hours=-3, minutes=-30))])
_keys: list[Sample] = [
    (str, _texts),
    (int, st.integers()),
    (bool, st.booleans()),
    (Level, st.sampled_from(Level)),
    (datetime.date, st.dates()),
    (uuid.UUID, st.uuids()),
]
_leaves: list[Sample] = [
    *_keys,
    (type(None), st.none()),
    (float, st.floats(allow_nan=False, allow_infinity=False)),
    (bytes, st.binary(max_size=8)),
    (decimal.Decimal, st.decimals(allow_nan=False, allow_infinity=False)),
    (datetime.datetime, st.datetimes(timezones=_zones).map(lambda at: at.replace(fold=0))),
    (datetime.time, st.times().map(lambda at: at.replace(fold=0))),
    (datetime.timedelta, st.timedeltas()),
    (Color, st.sampled_from(Color)),
    (Literal[1, "1", True], st.sampled_from([1, "1", True])),
    (int | str | bool | None, st.one_of(st.integers(), _texts, st.booleans(), st.none())),
    (
        Any,
        st.recursive(st.none() | st.integers() | _texts, lambda inner: st.dictionaries(_texts, inner, max_size=2), max_leaves=3),
    ),
]
_names = [f"field_{index}" for index in range(3)] + ["schema", "copy", "slot_0", "self_"]
_numbers = itertools.count()


def _of(generic: Any, parts: Any) -> Any:
    return generic[parts]


def _containers(inner: st.SearchStrategy[Sample]) -> st.SearchStrategy[Sample]:
    def lists(item: Sample) -> Sample:
        return _of(list, item[0]), st.lists(item[1], max_size=3)

    def tuples(items: list[Sample]) -> Sample:
        return _of(tuple, tuple(item[0] for item in items)), st.tuples(*(item[1] for item in items))

    def sets(item: Sample) -> Sample:
        return _of(frozenset, item[0]), st.frozensets(item[1], max_size=3)

    def mappings(pair: tuple[Sample, Sample]) -> Sample:
        (key, keys), (kind, values) = pair
        return _of(dict, (key, kind)), st.dictionaries(keys, values, max_size=3)

    def optional(item: Sample) -> Sample:
        return item[0] | None if item[0] is not Any else Any, st.none() | item[1]

    return st.one_of(
        inner.map(lists),
        st.lists(inner, max_size=3).map(tuples),
        st.sampled_from(_keys).map(sets),
        st.tuples(st.sampled_from(_keys), inner).map(mappings),
        inner.map(optional),
        st.tuples(st.sampled_from(_makers), st.lists(inner, max_size=3), st.permutations(_names)).map(
            lambda args: _message(*args)
        ),
    )


def _attrs_class(name: str, fields: dict[str, Any]) -> type:
    return attrs.make_class(name, {field: attrs.field(type=kind) for field, kind in fields.items()}, frozen=True)


def _dataclass(name: str, fields: dict[str, Any]) -> type:
    return dataclasses.make_dataclass(name, [*fields.items()], frozen=True)


def _model(name: str, fields: dict[str, Any]) -> type:
    config = pydantic.ConfigDict(arbitrary_types_allowed=True, protected_namespaces=())
    plain: dict[str, Any] = {f"of_{field}": (kind, ...) for field, kind in fields.items()}
    return typing.cast("type", pydantic.create_model(name, __config__=config, **plain))


_makers = [_attrs_class, _dataclass, _model]


def _message(make: Any, items: list[Sample], names: list[str]) -> Sample:
    kind = make(f"Made{next(_numbers)}", dict(zip(names, (item[0] for item in items), strict=False)))
    prefix = "of_" if make is _model else ""
    values = {f"{prefix}{name}": item[1] for name, item in zip(names, items, strict=False)}
    return kind, st.fixed_dictionaries(values).map(lambda given: kind(**given))


samples = st.recursive(st.sampled_from(_leaves), _containers, max_leaves=6)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.data())
def test_any_value_of_any_type_is_read_back_equal_and_its_schema_knows_it(data: st.DataObject) -> None:
    annotation, values = data.draw(samples)
    value = data.draw(values)

    text = write_text(annotation, value)

    again = read_text(annotation, text)
    assert again == value
    assert repr(again) == repr(value) or "set(" in repr(value)  # of the same types: 1 is no True
    assert write_text(annotation, again) == text
    checker = importlib.import_module("jsonschema")  # litellm brings it, without types
    checker.validate(json.loads(text), schema_of(annotation), cls=checker.Draft202012Validator)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(_names) | _texts, inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(samples, _json)
def test_any_json_is_read_or_refused_and_what_is_read_can_be_written(sample: Sample, value: object) -> None:
    annotation, _ = sample
    try:
        made = read(annotation, value)
    except MessageInvalid:
        return

    assert read(annotation, write(annotation, made)) == made


@pytest.mark.parametrize(
    ("annotation", "value", "problem"),
    [
        (float, float("nan"), ": JSON has finite numbers only"),
        (decimal.Decimal, decimal.Decimal("Infinity"), ": JSON has finite numbers only"),
        (str, "\udc80", ": it has half of a surrogate pair, which isn't a character"),
        pytest.param(int, 10**5_000, ": it has too many digits", id="too many digits"),
        (int, True, ": expected int, got true"),
        (str, Level.LOW, ": expected str, got <Level.LOW: 1>"),
        (datetime.date, datetime.datetime(2026, 11, 28), ": expected date, got datetime.datetime(2026, 11, 28, 0, 0)"),
        (datetime.time, datetime.time(2, fold=1), ": which offset from UTC it has, its text cannot tell"),
        (list[Leaf], [Leaf(1), Bigger(1, 2)], "/1: expected Leaf, got a value of Bigger"),
        (Odd, Odd("x", {Level.LOW: Leaf("1")}), "/share: expected float, got 'x'"),  # type: ignore[arg-type]
        (Any, {"a": {1, 2}}, "/a: expected JSON, got Python's set"),
        (dict[tuple[int, ...], int], {(1,): 1}, ": a name in JSON is a text, and a list or an object makes none"),
        (dict[int | str, int], {1: 1, "1": 2}, "/1: two keys have this name in JSON"),
        (pydantic.SecretStr, pydantic.SecretStr("a"), ": what JSON has of SecretStr comes back as something else"),
        (Leaf | None, Leaf("1"), "/size: expected int, got '1'"),  # type: ignore[arg-type]
        (Literal["a"], "b", ": expected Literal['a'], got 'b'"),
    ],
)
def test_what_would_come_back_as_something_else_is_refused(annotation: Any, value: object, problem: str) -> None:
    with pytest.raises(MessageInvalid, match="cannot be written as JSON") as caught:
        write(annotation, value)

    first = caught.value.problems[0]
    assert f"{first.pointer}: {first.message}" == problem


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (pathlib.PurePosixPath, pathlib.PurePosixPath("/a")),
        (ipaddress.IPv4Address, ipaddress.IPv4Address("127.0.0.1")),
        (collections.deque[int], collections.deque([1])),
    ],
)
def test_a_type_that_pydantic_knows_is_written_as_it_reads_it(annotation: Any, value: object) -> None:
    assert read_text(annotation, write_text(annotation, value)) == value


def test_a_whole_number_may_stand_for_a_float_and_comes_back_as_one() -> None:
    assert write_text(Odd, Odd(1, {Level.HIGH: Leaf(1)})) == '{"share":1.0,"by_level":{"2":{"size":1}},"text":""}'


def test_what_the_class_computes_is_left_out_and_made_again() -> None:
    node = Node([Node()])

    assert write(Node, node) == {"children": [{"children": []}]}
    assert read(Node, write(Node, node)) == node


def test_a_ring_of_messages_is_refused() -> None:
    ring = Node()
    ring._children = [ring, ring]

    with pytest.raises(MessageInvalid, match="nested too deeply"):
        write(Node, ring)
