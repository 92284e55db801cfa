"""Annotations in every spelling, wherever their types are defined."""

# mypy: disable-error-code="empty-body"

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from typing import Annotated, Literal, Optional, Union

import attrs
import pytest

from actors.graphs.annotations import Many, NameLookup, Shape, Unreadable, is_message_type, read, shown
from actors.graphs.graph import Graph
from actors.graphs.markers import Gather


@attrs.frozen
class A:
    n: int = 0


@attrs.frozen
class B:
    n: int = 0


class Plain:
    pass


HERE = NameLookup(globals())


@pytest.mark.parametrize(
    ("annotation", "shape"),
    [
        (A, Shape((A,))),
        ("A", Shape((A,))),
        (A | B, Shape((A, B))),
        (Union[A, B], Shape((A, B))),  # noqa: UP007
        ("A | B | None", Shape((A, B), optional=True)),
        (Optional[A], Shape((A,), optional=True)),  # noqa: UP045
        (Optional["A"], Shape((A,), optional=True)),
        (None, Shape(optional=True)),
        ("None", Shape(optional=True)),
        (list[A], Shape((A,), many=Many.LIST)),
        (list["A"], Shape((A,), many=Many.LIST)),
        (list[A | B], Shape((A, B), many=Many.LIST)),
        (list[A | None], Shape((A,), many=Many.LIST, item_optional=True)),
        (list[A] | None, Shape((A,), optional=True, many=Many.LIST)),
        (AsyncIterator[A], Shape((A,), many=Many.STREAM)),
        (AsyncGenerator[A, None], Shape((A,), many=Many.STREAM)),
        (Annotated[list[A], Gather(2)], Shape((A,), many=Many.LIST, markers=(Gather(2),))),
        ("Annotated[A, 'x'] | None", Shape((A,), optional=True, markers=("x",))),
    ],
)
def test_every_spelling_is_read(annotation, shape):
    assert read(annotation, HERE) == shape


@pytest.mark.parametrize(
    ("annotation", "text"),
    [
        ("Nope", "the name 'Nope' in the annotation 'Nope' is not defined where the node is."),
        ("Decimal", "the name 'Decimal' in the annotation 'Decimal' is not defined where the node is."),
        ("A.nope", "the annotation 'A.nope' cannot be evaluated: AttributeError: type object 'A' has no attribute 'nope'."),
        (list, "list doesn't declare the type of its items."),
        (list[list[A]], "a list of lists is not a message or a list of messages."),
        (list[A] | B, "a union of a list and something else doesn't determine whether the messages fan out."),
        (Iterator[A], "Iterator[A] is a synchronous stream."),
        (dict[str, A], "dict[str, A] is neither a message type nor a list of messages."),
        (3, "3 is not a type that can be routed by."),
    ],
)
def test_what_cannot_be_read_says_why(annotation, text):
    with pytest.raises(Unreadable) as caught:
        read(annotation, HERE)

    assert str(caught.value) == text


@pytest.mark.parametrize(
    ("annotation", "text"),
    [
        (dict[str, list[A | None]], "dict[str, list[A | None]]"),
        (tuple[A, ...], "tuple[A, ...]"),
        (Callable[[A], None], "Callable[[A], None]"),
        (Literal["a", 1], "Literal['a', 1]"),
        (None, "None"),
    ],
)
def test_an_annotation_is_shown_as_it_is_written(annotation, text):
    assert shown(annotation) == text


def test_message_types_are_attrs_classes_dataclasses_and_models():
    assert is_message_type(A)
    assert not is_message_type(Plain)
    assert not is_message_type(str)


def test_types_defined_inside_functions_are_found_before_and_after_the_node():
    @attrs.frozen
    class Ask:
        pass

    graph = Graph("g", input=Ask, output=A)

    @graph.node
    async def first(ask: "Ask") -> "Later":
        return Later()

    @graph.node
    async def last(later: "Later") -> A:
        return A()

    @attrs.frozen
    class Later:
        pass

    assert graph.check() == []


def test_types_of_an_enclosing_function_are_found_while_it_runs():
    @attrs.frozen
    class Outer:
        pass

    def build() -> Graph:
        graph = Graph("g", input=A, output=B)

        @graph.node
        async def first(a: A) -> "Outer":
            raise NotImplementedError

        @graph.node
        async def last(outer: "Outer") -> B:
            raise NotImplementedError

        return graph

    assert build().check() == []


def test_only_what_the_annotations_mention_is_kept():
    @attrs.frozen
    class Ask:
        pass

    unrelated = object()
    graph = Graph("g", input=Ask, output=A)

    @graph.node
    async def first(ask: "Ask") -> "A":
        return A()

    graph.check()
    names = graph.nodes["first"].names

    assert names.local == {"Ask": Ask}
    assert names.pending == []
    assert unrelated is not None


def _add(total: float, item: A) -> float:
    return total + item.n


def test_folds_that_begin_with_equal_values_keep_their_own():
    """typing keeps one ``Annotated`` for all markers that are equal, and 0, 0.0 and False are."""
    begun = [Annotated[float, Gather(reduce=_add, initial=initial)] for initial in (0, 0.0, False)]

    assert [repr(kind.__metadata__[0].initial) for kind in begun] == ["0", "0.0", "False"]  # type: ignore[attr-defined]
