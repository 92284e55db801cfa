"""The value that a fold begins with, and other defaults, are shared by no two runs."""

from __future__ import annotations

import threading
from typing import Annotated, Any

import attrs
import pytest
import trio

from actors import Actor, DeclarationError, Dep, Gather, Graph, Recall, Request, Run
from actors.graphs.options import NodeOptions
from runtime import open_runtime
from tests.runtime.graphs.stage import EXACT, TWICE, Ask, Done, Other, Part


class Box:
    """What an author may well write: mutable, compared by identity."""

    def __init__(self) -> None:
        self.items: list[int] = []


@attrs.frozen
class Report:
    """Frozen, but for its list."""

    items: list[int]


@attrs.define
class Tally:
    items: list[int] = attrs.field(factory=list)


def put(box: Box, part: Part) -> Box:
    box.items.append(part.n)
    return box


def report(so_far: Report, part: Part) -> Report:
    so_far.items.append(part.n)
    return so_far


def tally(so_far: Tally, part: Part) -> Tally:
    so_far.items.append(part.n)
    return so_far


def folding(kind: Any, reduce: Any, initial: Any) -> Graph:
    graph = Graph("g", input=Ask, output=Done, supervision=EXACT)

    @graph.node
    async def split(ask: Ask) -> list[Part]:
        return [Part(n) for n in range(ask.n)]

    async def ends(found: Any, run: Run) -> Done:
        if run.attempt == 1:
            raise ConnectionError("again")
        return Done(list(found.items))

    ends.__annotations__["found"] = Annotated[kind, Gather(reduce=reduce, initial=initial)]
    graph.node(redelivery=TWICE)(ends)
    return graph


@pytest.mark.parametrize(
    ("kind", "reduce", "initial"),
    [(Box, put, Box()), (Box, put, Box), (Report, report, Report([])), (Tally, tally, Tally), (Tally, tally, lambda: Tally([]))],
)
async def test_b13_what_a_fold_changes_is_seen_by_no_other_attempt_and_no_other_run(kind, reduce, initial, virtual_clock):
    graph = folding(kind, reduce, initial)
    async with open_runtime() as runtime:
        assert [(await runtime.run(graph, Ask(n))).n for n in (2, 3, 0)] == [[0, 1], [0, 1, 2], []]
    if not callable(initial):
        assert initial.items == []


@pytest.mark.parametrize(
    ("initial", "shown", "fix"),
    [
        ([], "[]", "initial=list."),
        ({}, "{}", "initial=dict."),
        (set(), "set()", "initial=set."),
        ([1], "[1]", "initial=lambda: list(…)."),
        (Tally(), "Tally(items=[])", "initial=lambda: Tally(…)."),
    ],
)
def test_b13_an_initial_value_that_every_run_could_change_is_refused(initial, shown, fix):
    with pytest.raises(DeclarationError) as caught:
        Gather(reduce=put, initial=initial)

    kind = type(initial).__name__
    assert str(caught.value) == (
        f"Gather(initial={shown}): every run would begin with the same {kind}, which can be changed.\n"
        f"  Fix: pass what makes a new one: {fix}"
    )


class Locked:
    def __init__(self) -> None:
        self.lock = threading.Lock()

    def __repr__(self) -> str:
        return "Locked()"


def test_b13_an_initial_value_that_cannot_be_copied_is_refused():
    with pytest.raises(DeclarationError) as caught:
        Gather(reduce=put, initial=Locked())

    assert str(caught.value) == (
        "Gather(initial=Locked()): each run begins with a copy, and a Locked cannot be copied: TypeError.\n"
        "  Fix: pass what makes a new one: initial=lambda: Locked(…)."
    )


async def coroutine() -> Box:
    return Box()


def test_b13_a_coroutine_function_makes_no_initial_value():
    with pytest.raises(DeclarationError, match=r"expected a value, or a class or plain function that makes one"):
        Gather(reduce=put, initial=coroutine)


@pytest.mark.parametrize("initial", [0, 1.5, "", (), None, frozenset({1}), Part(1), Box()])
def test_b13_other_values_are_taken(initial):
    fold = Gather(reduce=put, initial=initial).fold([])
    assert type(fold) is type(initial)
    assert fold is not initial or not hasattr(initial, "__dict__")


# --- what else could be shared ------------------------------------------------------------------------------------------


async def test_b13_gathered_lists_belong_to_the_node_that_takes_them_and_to_one_attempt(virtual_clock):
    graph = Graph("g", input=Ask, output=Done, supervision=EXACT)

    @graph.node
    async def split(ask: Ask) -> list[Part]:
        return [Part(n) for n in range(3)]

    @graph.node(redelivery=TWICE)
    async def first(parts: list[Part], run: Run) -> Other:
        parts.append(Part(99))
        if run.attempt == 1:
            raise ConnectionError("again")
        return Other(len(parts))

    @graph.node
    async def second(parts: list[Part], other: Other) -> Done:
        return Done((len(parts), other.n))

    async with open_runtime() as runtime:
        assert await runtime.run(graph, Ask()) == Done((3, 4))


async def test_b13_the_list_that_a_node_returned_is_no_longer_its_own(virtual_clock):
    kept: list[list[Part]] = []
    graph = Graph("g", input=Ask, output=Done)

    @graph.node
    async def split(ask: Ask) -> list[Part]:
        kept.append([Part(1), Part(2)])
        return kept[-1]

    @graph.node
    async def work(part: Part) -> Other:
        kept[-1].clear()
        return Other(part.n)

    @graph.node
    async def ends(others: list[Other]) -> Done:
        return Done([other.n for other in others])

    async with open_runtime() as runtime:
        assert await runtime.run(graph, Ask()) == Done([1, 2])


async def test_b13_values_of_dependencies_are_those_of_one_run(virtual_clock):
    async def box() -> Box:
        return Box()

    graph = Graph("g", input=Ask, output=Done)

    @graph.node
    async def one(ask: Ask, box: Annotated[Box, Dep(box)]) -> Part:
        box.items.append(ask.n)
        return Part(id(box))

    @graph.node
    async def two(part: Part, box: Annotated[Box, Dep(box)]) -> Done:
        return Done((list(box.items), id(box) == part.n))  # within a run it is one object

    async with open_runtime() as runtime:
        assert [await runtime.run(graph, Ask(n)) for n in range(3)] == [Done(([n], True)) for n in range(3)]


async def test_b13_one_message_that_several_nodes_take_is_one_object(virtual_clock):
    """Not copied: messages are values. Why they are best frozen is on the page for graph authors."""
    graph = Graph("g", input=Ask, output=Done)
    seen: list[int] = []

    @graph.node
    async def one(ask: Ask) -> Part:
        seen.append(id(ask))
        return Part()

    @graph.node
    async def two(part: Part, ask: Annotated[Ask, Recall()]) -> Done:
        seen.append(id(ask))
        return Done()

    async with open_runtime() as runtime:
        await runtime.run(graph, message := Ask())
    assert seen == [id(message)] * 2


def test_b13_options_have_no_default_that_two_nodes_share_and_could_change():
    for field in attrs.fields(NodeOptions):
        default = field.default
        assert default is attrs.NOTHING or isinstance(default, attrs.Factory) or type(default).__hash__ is not None  # type: ignore[arg-type]


@attrs.frozen
class Add(Request[list[int]]):
    n: int


async def test_b13_a_restarted_actor_that_is_given_a_factory_begins_afresh(virtual_clock):
    class Keeper(Actor):
        def __init__(self, make: Any) -> None:
            self.items: list[int] = make()

        async def receive(self, message: Add) -> list[int]:
            if message.n < 0:
                raise LookupError("no")
            self.items.append(message.n)
            return list(self.items)

    async with open_runtime() as runtime:
        ref = await runtime.spawn(Keeper, list)
        assert await ref.ask(Add(1)) == [1]
        with pytest.raises(Exception, match="no"):
            await ref.ask(Add(-1))
        await trio.sleep(10)
        assert await ref.ask(Add(2)) == [2]
