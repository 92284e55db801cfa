from __future__ import annotations

from typing import Annotated, Any, Generic, Literal, Protocol, TypeVar

import pytest

from actors import Request
from runtime.core.declared_answers import may_be_none

T = TypeVar("T")


class Shape(Protocol):
    pass


class Of(Request[T], Generic[T]):
    pass


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (int, False),
        (list[int], False),
        (int | str, False),
        (Annotated[int, "how many"], False),
        (None, True),
        (int | None, True),
        (Annotated[int | None, "how many"], True),
        (Any, True),
        (object, True),
        (Literal["a"] | None, True),
        (Shape, True),
        ("int | None", True),
    ],
)
def test_none_is_an_answer_to_a_request_whose_type_may_have_it(answer, expected):
    class Asked(Request[answer]):  # type: ignore[valid-type]
        pass

    class Derived(Asked):
        pass

    assert (may_be_none(Asked()), may_be_none(Derived())) == (expected, expected)


def test_none_is_an_answer_to_what_says_nothing_about_its_answers():
    class Later(Of[int]):
        pass

    messages: tuple[object, ...] = ("text", None, Request(), Of(), Later())
    assert all(map(may_be_none, messages))
