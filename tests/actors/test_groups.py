from __future__ import annotations

from typing import Any

import attrs

from actors.groups import bare, leaves_of, without


def test_leaves_come_in_order_from_any_depth():
    a, b, c = ValueError("a"), KeyError("b"), OSError("c")

    assert list(leaves_of(ExceptionGroup("", [a, ExceptionGroup("", [b]), c]))) == [a, b, c]
    assert list(leaves_of(a)) == [a]


def test_a_kind_is_left_out_of_a_group_and_of_nothing_else():
    a, b = ValueError("a"), KeyError("b")

    rest = without(ExceptionGroup("g", [a, b]), KeyError)

    assert rest is not None
    assert list(leaves_of(rest)) == [a]
    assert without(a, ValueError) is None
    assert without(a, KeyError) is a


@attrs.define
class Slotted(Exception):
    code: int


class Strict(Exception):
    def __init__(self, *, code: int) -> None:
        super().__init__(f"code {code}")
        self.code = code


def raised(error: Exception) -> Exception:
    try:
        raise error from ValueError("the cause")
    except type(error) as caught:
        return caught


def test_a_bare_copy_keeps_what_the_error_says_and_nothing_it_passed_through():
    for error in (raised(Slotted(3)), raised(Strict(code=3))):
        copy: Any = bare(error)

        assert (type(copy), str(copy), copy.code) == (type(error), str(error), 3)
        assert (copy.__traceback__, copy.__cause__, copy.__context__) == (None, None, None)
        assert error.__traceback__ is not None


def test_a_bare_copy_of_a_group_is_bare_all_the_way_down():
    copy = bare(ExceptionGroup("g", [raised(ValueError("a"))]))

    assert [(repr(leaf), leaf.__traceback__) for leaf in leaves_of(copy)] == [("ValueError('a')", None)]
