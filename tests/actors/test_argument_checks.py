from __future__ import annotations

import math

import attrs
import pytest

from actors.argument_checks import check_count, is_a, is_count, is_number
from actors.errors import DeclarationError


def refuses(validator, value):
    @attrs.frozen
    class Thing:
        field: object = attrs.field(validator=validator)

    try:
        Thing(value)
    except DeclarationError as error:
        return str(error).splitlines()[0]
    return None


@pytest.mark.parametrize(
    ("validator", "value", "words"),
    [
        (is_number(least=0), -1, "Thing(field=-1): expected a number >= 0."),
        (is_number(above=0, finite=True), 0, "Thing(field=0): expected a finite number > 0."),
        (is_number(), True, "Thing(field=True): expected a number."),
        (is_number(finite=True), math.inf, "Thing(field=inf): expected a finite number."),
        (is_count(least=2), 1, "Thing(field=1): expected a whole number >= 2."),
        (is_count(), math.inf, "Thing(field=inf): expected a whole number >= 0."),
        (is_a(str, int), 1.5, "Thing(field=1.5): expected a str or an int."),
    ],
)
def test_a_wrong_value_is_named_with_what_is_allowed(validator, value, words):
    assert refuses(validator, value) == words


@pytest.mark.parametrize(
    ("validator", "value"),
    [(is_number(least=0), 0), (is_number(), math.inf), (is_count(unbounded=True), math.inf), (is_a(str, int), "x")],
)
def test_a_right_value_passes(validator, value):
    assert refuses(validator, value) is None


@pytest.mark.parametrize(
    ("value", "options", "words"),
    [
        (0, {}, "Thing(size=0): expected a whole number >= 1."),
        (True, {}, "Thing(size=True): expected a whole number >= 1."),
        (2.0, {}, "Thing(size=2.0): expected a whole number >= 1."),
        (-1, {"least": 0}, "Thing(size=-1): expected a whole number >= 0."),
        (math.nan, {"unbounded": True}, "Thing(size=nan): expected a whole number >= 1 or math.inf."),
        ("1", {"optional": True}, "Thing(size='1'): expected a whole number >= 1 or None."),
    ],
)
def test_a_wrong_count_is_named_with_what_is_allowed(value, options, words):
    class Thing:
        pass

    with pytest.raises(DeclarationError) as caught:
        check_count(Thing, "size", value, **options)

    assert str(caught.value).splitlines()[0] == words


def test_none_and_infinity_are_counts_only_where_they_are_allowed():
    check_count(object, "size", None, optional=True)
    check_count(object, "size", math.inf, unbounded=True)
    check_count(object, "size", 0, least=0)
