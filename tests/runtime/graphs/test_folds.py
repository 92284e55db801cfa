"""``Gather(reduce=…)``: a fan-in folded into one value, in item order whatever the timing."""

# mypy: disable-error-code="empty-body"
# pyright: reportReturnType=false

from __future__ import annotations

from typing import Annotated

import attrs
import pytest
import trio

from actors import DeclarationError, Gather, RunFailed
from runtime import open_runtime
from tests.runtime.graphs.stage import TWICE, Ask, Done, Other, Part, graph_of, leaves


@attrs.frozen
class Total:
    text: str = ""


def append(total: Total, part: Other) -> Total:
    return Total(f"{total.text}{part.n}")


def count(total: int, part: Other) -> int:
    return total + part.n


def collect(found: list[int], part: Other) -> list[int]:
    found.append(part.n)
    return found


async def split(ask: Ask) -> list[Part]:
    return [Part(n) for n in range(ask.n)]


async def slower_first(part: Part) -> Other | None:
    await trio.sleep(10 - part.n)
    return None if part.n == 2 else Other(part.n)


async def end(total: Annotated[Total, Gather(reduce=append, initial=Total("="))]) -> Done:
    return Done(total.text)


async def test_l12_the_reducer_begins_with_its_initial_value_and_an_empty_fan_out_gives_it(virtual_clock):
    async with open_runtime() as runtime:
        graph = graph_of(split, slower_first, end)
        assert await runtime.run(graph, Ask(5)) == Done("=0134")
        assert await runtime.run(graph, Ask(0)) == Done("=")


def overwrite(total: Total, part: Other) -> Total:
    return Total(str(part.n)) if part.n >= 3 else append(total, part)


async def test_l19_an_item_may_replace_what_came_before_and_of_two_the_later_item_wins(virtual_clock):
    async def end(total: Annotated[Total, Gather(reduce=overwrite, initial=Total("="))]) -> Done:
        return Done(total.text)

    async with open_runtime() as runtime:
        assert await runtime.run(graph_of(split, slower_first, end), Ask(3)) == Done("=01")
        assert await runtime.run(graph_of(split, slower_first, end), Ask(6)) == Done("5")


async def test_l20_a_new_initial_value_is_made_for_each_fold(virtual_clock):
    async def end(found: Annotated[list[int], Gather(reduce=collect, initial=list)]) -> Done:
        return Done(found)

    async with open_runtime() as runtime:
        graph = graph_of(split, slower_first, end)
        assert [(await runtime.run(graph, Ask(2))).n for _ in range(2)] == [[0, 1], [0, 1]]


async def outer(ask: Ask) -> list[Part]:
    return [Part(n) for n in range(1, 4)]


@attrs.frozen
class Item:
    n: int


def join_totals(text: str, total: Total) -> str:
    return f"{text}|{total.text}"


async def fold_inner(total: Annotated[Total, Gather(reduce=append, initial=Total(""))]) -> Total:
    return total


async def fold_outer(ask: Ask, text: Annotated[str, Gather(reduce=join_totals, initial="")]) -> Done:
    return Done(text)


@pytest.mark.parametrize("waits", [lambda n: n, lambda n: -n, lambda n: n * 7 % 11])
async def test_nested_fan_outs_fold_from_the_inside_out_in_whatever_order_tasks_end(waits, virtual_clock):
    async def works(other: Other) -> Other:
        await trio.sleep(100 + waits(other.n))
        return other

    async def inner(part: Part) -> list[Item]:
        return [Item(10 * part.n + index) for index in range(part.n)]

    async def work(item: Item) -> Other:
        return await works(Other(item.n))

    async with open_runtime() as runtime:
        assert await runtime.run(graph_of(outer, inner, work, fold_inner, fold_outer), Ask()) == Done("|10|2021|303132")


async def test_the_first_of_a_fan_out_may_be_folded(virtual_clock):
    async def end(n: Annotated[int, Gather(first=2, reduce=count, initial=100)]) -> Done:
        return Done((n, trio.current_time()))

    async with open_runtime() as runtime:
        assert await runtime.run(graph_of(split, slower_first, end), Ask(6)) == Done((109, 6))


async def test_a_reducer_that_raises_fails_the_node_that_it_reduces_for(virtual_clock):
    def picky(total: Total, part: Other) -> Total:
        raise ConnectionError(f"not {part.n}")

    async def end(total: Annotated[Total, Gather(reduce=picky, initial=Total())]) -> Done:
        raise NotImplementedError

    async with open_runtime() as runtime:
        with pytest.raises(RunFailed) as caught:
            await runtime.run(graph_of(split, slower_first, end, redelivery=TWICE), Ask(2))

    (leaf,) = leaves(caught.value)
    assert (leaf.node, leaf.attempt, leaf.input, str(leaf.__cause__)) == ("end", 2, [Other(0), Other(1)], "not 0")


def untyped(total, part): ...


def of_one(total: Total) -> Total:
    raise NotImplementedError


def of_other(total: Total, part: Other) -> Part:
    raise NotImplementedError


def of_text(total: Total, part: str) -> Total:
    raise NotImplementedError


@pytest.mark.parametrize(
    ("reduce", "initial", "message"),
    [
        (untyped, Total(), "does not take two annotated values."),
        (of_one, Total(), "does not take two annotated values."),
        (of_other, Total(), "returns Part, and Total is wanted."),
        (of_text, Total(), "takes no message as its second value."),
        (append, 0, "begins with 0, which is no Total."),
    ],
)
def test_what_does_not_fold_messages_into_what_is_wanted_is_refused(reduce, initial, message):
    async def end(total) -> Done:
        raise NotImplementedError

    end.__annotations__["total"] = Annotated[Total, Gather(reduce=reduce, initial=initial)]
    (problem,) = graph_of(split, slower_first, end).check()

    place = f"{__file__}:{reduce.__code__.co_firstlineno}"
    assert (problem.code, problem.node) == ("gather-reduce", "end")
    assert problem.message == f"parameter 'total': the function {reduce.__name__} ({place}) that reduces it {message}"


FUNCTION = "a plain function such as def add(total: Total, item: Item) -> Total, or None"
SUM = f"Gather(reduce=<built-in function sum>): expected {FUNCTION}.\n  Fix: pass {FUNCTION} as 'reduce'."
EMPTY = (
    "Gather(reduce=count): the value of an empty fan-out is missing.\n"
    "  Fix: pass initial=…, the value before the first item, or a class or function that makes one."
)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reduce": sum, "initial": 0}, SUM),
        ({"initial": 0}, "Gather(initial=0): expected reduce=… with it.\n  Fix: pass reduce=… with it as 'initial'."),
        ({"reduce": count}, EMPTY),
    ],
)
def test_a_gather_that_cannot_be_is_refused_at_once(options, message):
    with pytest.raises(DeclarationError) as caught:
        Gather(**options)

    assert str(caught.value) == message


def test_a_fold_is_part_of_the_design_page():
    assert "`list[Other]`, folded by `append`" in graph_of(split, slower_first, end).describe()


def either(total: Total | None, part: Other) -> Total | None: ...


async def test_none_may_be_where_a_fold_begins(virtual_clock):
    async def end(total: Annotated[Total | None, Gather(reduce=either, initial=None)]) -> Done:
        return Done(total)

    graph = graph_of(split, slower_first, end)
    assert graph.check() == []
    async with open_runtime() as runtime:
        assert await runtime.run(graph, Ask(0)) == Done(None)


def test_a_gather_without_a_function_folds_into_a_list():
    assert Gather().fold(iter([1, 2])) == [1, 2]
