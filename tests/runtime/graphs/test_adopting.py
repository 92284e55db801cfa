"""Runs that go on in a graph that was changed: what is kept, what runs again, what is dropped."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import attrs
import pytest
import trio

from actors import LM, Gather, Graph, Redelivery, Run, RunCancelled, RunChanged, RunFailed, RunUndecodable, Usage, UsageError
from runtime import RunAdopted, RunParkedEvent, open_runtime
from runtime.journal import upcast
from runtime.journal.memory import MemoryStore
from runtime.testing import ScriptedLM


@attrs.frozen
class Q:
    t: str


@attrs.frozen
class A:
    t: str


@attrs.frozen
class B:
    t: str


@attrs.frozen
class C:
    t: str


@attrs.frozen
class D:
    t: str


@attrs.frozen
class E:
    t: str


@attrs.frozen
class Out:
    t: str


class Ran(list[str]):
    """The nodes that began; the one that is `held` never ends."""

    def __init__(self, held: str = "") -> None:
        super().__init__()
        self.held = held

    async def __call__(self, node: str) -> None:
        self.append(node)
        if node == self.held:
            await trio.sleep_forever()


def diamond(ran: Ran, *, version: str = "", change: str = "") -> Graph[Q, Out]:
    """Q to A and B, both to C, C to D, D to the output; with one change."""
    graph = Graph("g", input=Q, output=Out, version=version)

    @graph.node
    async def a(q: Q) -> A:
        await ran("a")
        return A(q.t + "a")

    @graph.node(name="bee" if change == "renamed" else "b")
    async def b(q: Q) -> B:
        await ran("b")
        return B(q.t + "b")

    if change == "third":

        @graph.node
        async def f(q: Q) -> E:
            await ran("f")
            return E(q.t + "f")

        @graph.node
        async def c(a: A, b: B, e: E) -> C:
            await ran("c")
            return C(a.t + b.t + e.t)

    else:

        @graph.node(name="c")
        async def c2(a: A, b: B) -> C:
            await ran("c")
            return C(a.t + b.t)

    if change == "inserted":

        @graph.node
        async def check(c: C) -> E:
            await ran("check")
            return E(c.t + "!")

        @graph.node
        async def d(e: E) -> D:
            await ran("d")
            return D(e.t + "d")

    else:

        @graph.node(name="d")
        async def d2(c: C) -> D:
            await ran("d")
            return D(c.t + ("D" if change == "body" else "d"))

    @graph.node
    async def out(d: D) -> Out:
        await ran("out")
        return Out(d.t)

    return graph


async def cut_short(store: MemoryStore, graph: Graph[Any, Any], message: Any = Q("q"), run_id: str = "it") -> None:
    """A run that gets as far as it can, and whose process then dies."""
    async with open_runtime(store=store) as runtime:
        await runtime.start(graph, message, run_id=run_id)
        await trio.sleep(1)
        store.crash()


async def ended(store: MemoryStore, graph: Graph[Any, Any], *, adopt: bool = False) -> tuple[Any, list[Any]]:
    events: list[Any] = []
    async with open_runtime(store=store.beside(), graphs=[graph], instruments=[events.append]) as runtime:
        await trio.sleep(2)
        handle = await runtime.resume("it", adopt=True) if adopt else await runtime.handle("it")
        return await handle.result(), events


async def test_changed_bodies_go_on_and_nothing_is_dropped(autojump_clock):
    store, ran = MemoryStore(), Ran()
    await cut_short(store, diamond(Ran("d")))

    output, events = await ended(store, diamond(ran, change="body"))

    assert output == Out("qaqbD")
    assert ran == ["d", "out"]
    assert not [event for event in events if isinstance(event, RunAdopted)]


async def test_nodes_put_in_behind_the_point_reached_are_adopted(autojump_clock):
    store, ran = MemoryStore(), Ran()
    await cut_short(store, diamond(Ran("c")))

    output, events = await ended(store, diamond(ran, change="inserted"))

    assert output == Out("qaqb!d")
    assert ran == ["c", "check", "d", "out"]
    [adopted] = [event for event in events if isinstance(event, RunAdopted)]
    assert (sorted(adopted.kept), adopted.again, adopted.dropped) == (["g/a/0", "g/b/0"], (), ())


@pytest.mark.parametrize(
    ("change", "held", "kept", "again", "dropped", "runs", "output"),
    [
        ("inserted", "out", "a b c", "d", "", "check d out", "qaqb!d"),
        ("third", "d", "a b", "c", "", "f c d out", "qaqbqfd"),
        ("third", "out", "a b", "c d", "", "f c d out", "qaqbqfd"),
        ("renamed", "c", "a", "", "b", "b c d out", "qaqbd"),
        ("renamed", "out", "a", "c d", "b", "b c d out", "qaqbd"),
    ],
)
async def test_what_no_longer_fits_parks_the_run_and_is_given_up_only_when_somebody_says_so(
    autojump_clock, change, held, kept, again, dropped, runs, output
):
    store, ran = MemoryStore(), Ran()
    await cut_short(store, diamond(Ran(held)))
    events: list[Any] = []

    def paths(names: str) -> tuple[str, ...]:
        return tuple(f"g/{name}/0" for name in names.split())

    async with open_runtime(store=store.beside(), graphs=[diamond(ran, change=change)], instruments=[events.append]) as runtime:
        await trio.sleep(2)
        handle = await runtime.handle("it")
        assert handle.status == "parked"
        with pytest.raises(RunChanged) as parked:
            await handle.result()
        with pytest.raises(RunChanged):
            await runtime.resume("it")
        assert [type(event.error) for event in events if isinstance(event, RunParkedEvent)] == [RunChanged]
        assert ran == []
        for word, names in (("kept", kept), ("runs again", again), ("dropped", dropped)):
            said = [
                line.partition(": ")[2].split(", ") for line in str(parked.value).split("\n") if line.startswith(f"  {word}: ")
            ]
            assert [sorted(each) for each in said] == ([list(paths(names))] if names else [])
        assert "resume('it', adopt=True)" in str(parked.value)

        assert await (await runtime.resume("it", adopt=True)).result() == Out(output)

    [adopted] = [event for event in events if isinstance(event, RunAdopted)]
    assert (tuple(sorted(adopted.kept)), adopted.again, adopted.dropped) == (paths(kept), paths(again), paths(dropped))
    assert sorted(ran) == sorted(runs.split())


@pytest.mark.parametrize("held", ["f", "c", "d", "out"])
async def test_a_run_that_was_adopted_and_cut_short_again_goes_on_as_it_was_adopted(autojump_clock, held):
    store, ran = MemoryStore(), Ran()
    await cut_short(store, diamond(Ran("out")))
    first = store.beside()
    async with open_runtime(store=first, graphs=[diamond(Ran(held), change="third")]) as runtime:
        await runtime.resume("it", adopt=True)
        await trio.sleep(1)
        first.crash()

    output, events = await ended(store, diamond(ran, change="third"))

    assert output == Out("qaqbqfd")
    order = ["f", "c", "d", "out"]
    assert ran == order[order.index(held) :]
    assert not [event for event in events if isinstance(event, RunAdopted)]


async def test_another_version_is_left_to_a_worker_that_has_it_until_somebody_says_otherwise(autojump_clock):
    store, ran = MemoryStore(), Ran()
    await cut_short(store, diamond(Ran("d"), version="1"))
    later = store.beside()
    async with open_runtime(store=later, graphs=[diamond(Ran("d"), version="2")]) as runtime:
        await trio.sleep(5)
        assert (await runtime.handle("it")).status == "waiting"
        with pytest.raises(UsageError, match="the run is ready"):
            await runtime.resume("it")
        await runtime.resume("it", adopt=True)
        await trio.sleep(1)
        later.crash()
    old = store.beside()
    async with open_runtime(store=old, graphs=[diamond(Ran(), version="1")]) as runtime:
        await trio.sleep(5)
        assert (await runtime.handle("it")).status == "waiting"

    output, _ = await ended(store, diamond(ran, version="2"))

    assert output == Out("qaqbd")
    assert ran == ["d", "out"]


async def test_a_run_whose_graph_is_not_deployed_here_is_left(autojump_clock):
    store = MemoryStore()
    await cut_short(store, diamond(Ran("d")))
    async with open_runtime(store=store.beside()) as runtime:
        await trio.sleep(5)
        assert (await runtime.handle("it")).status == "waiting"
        with pytest.raises(UsageError, match="not deployed in this runtime"):
            await runtime.resume("it", adopt=True)


async def test_a_graph_that_takes_another_input_does_not_go_on(autojump_clock):
    store = MemoryStore()
    await cut_short(store, diamond(Ran("d")))
    other = Graph("g", input=A, output=Out)

    @other.node
    async def only(a: A) -> Out:
        return Out(a.t)

    async with open_runtime(store=store.beside(), graphs=[other]) as runtime:
        await trio.sleep(2)
        assert (await runtime.handle("it")).status == "parked"


# --- resume ------------------------------------------------------------------------------------------------------------------


def failing(ran: Ran, fails: Callable[[], bool], attempts: int = 2) -> Graph[Q, Out]:
    graph = Graph("g", input=Q, output=Out)

    @graph.node
    async def a(q: Q) -> A:
        await ran("a")
        return A(q.t + "a")

    @graph.node(redelivery=Redelivery(max_attempts=attempts))
    async def last(a: A, run: Run) -> Out:
        await ran(f"last {run.attempt}")
        if fails():
            raise OSError("no")
        return Out(a.t)

    return graph


async def test_a_failed_run_that_is_resumed_begins_again_where_it_failed_with_fresh_attempts(autojump_clock):
    store, ran, broken = MemoryStore(), Ran(), [True]
    graph = failing(ran, lambda: broken[0])
    async with open_runtime(store=store) as runtime:
        handle = await runtime.start(graph, Q("q"), run_id="it")
        with pytest.raises(RunFailed):
            await handle.result()
        with pytest.raises(RunFailed):
            await (await runtime.resume("it")).result()
        broken[0] = False
        again = await runtime.resume("it")
        assert await again.result() == Out("qa")
        with pytest.raises(UsageError, match="is succeeded"):
            await runtime.resume("it")

    assert ran == ["a", "last 1", "last 2", "last 1", "last 2", "last 1"]


async def test_a_cancelled_run_can_be_resumed_and_cancelled_again(autojump_clock):
    store, ran = MemoryStore(), Ran("d")
    graph = diamond(ran)
    async with open_runtime(store=store, graphs=[graph]) as runtime:
        handle = await runtime.start(graph, Q("q"), run_id="it")
        await trio.sleep(1)
        await handle.cancel()
        again = await runtime.resume("it")
        await trio.sleep(1)
        assert again.status == "running"
        await again.cancel()
        with pytest.raises(RunCancelled):
            await again.result()
        ran.held = ""
        assert await (await runtime.resume("it")).result() == Out("qaqbd")


async def test_a_resumed_run_that_was_cancelled_goes_on_after_a_crash(autojump_clock):
    store = MemoryStore()
    async with open_runtime(store=store) as runtime:
        handle = await runtime.start(diamond(Ran("d")), Q("q"), run_id="it")
        await trio.sleep(1)
        await handle.cancel()
        await runtime.resume("it")
        await trio.sleep(1)
        store.crash()

    assert (await ended(store, diamond(Ran())))[0] == Out("qaqbd")


# --- messages of another form ------------------------------------------------------------------------------------------------


def drafts(ran: Ran, kind: Any) -> Graph[Q, Out]:
    """Q to a draft of the class `kind`, that to D, that to the output."""
    graph = Graph("g", input=Q, output=Out)

    async def write(q: Q) -> Any:
        await ran("write")
        return kind(**{field.name: q.t for field in attrs.fields(kind)})

    async def look(draft: Any) -> D:
        await ran("look")
        return D(getattr(draft, "text", None) or draft.words)

    write.__annotations__["return"] = look.__annotations__["draft"] = kind
    graph.node(write)
    graph.node(look)

    @graph.node
    async def out(d: D) -> Out:
        await ran("out")
        return Out(d.t)

    return graph


def draft_class(*fields: str, name: str = "Draft", **defaults: Any) -> Any:
    """A message class as another release has it."""
    made = attrs.make_class(
        name,
        {name: attrs.field(default=defaults[name]) if name in defaults else attrs.field() for name in [*fields, *defaults]},
        frozen=True,
    )
    made.__module__, made.__qualname__ = __name__, name
    made.__annotations__ = dict.fromkeys([*fields, *defaults], str)
    for field in attrs.fields(made):
        object.__setattr__(field, "type", str)
    return made


async def test_a_field_with_a_default_is_added_and_nothing_behind_it_is_invalid(autojump_clock):
    store, ran = MemoryStore(), Ran()
    await cut_short(store, drafts(Ran("out"), draft_class("text")))

    output, events = await ended(store, drafts(ran, draft_class("text", tone="plain")))

    assert output == Out("q")
    assert ran == ["out"]
    [adopted] = [event for event in events if isinstance(event, RunAdopted)]
    assert (adopted.kept, adopted.again, adopted.dropped) == (("g/write/0", "g/look/0"), (), ())


async def test_what_is_made_after_a_field_was_added_is_still_of_the_same_inputs(autojump_clock):
    """The second life decodes the draft with its new field; what it records of it must fit in a third."""
    store, ran = MemoryStore(), Ran()
    await cut_short(store, drafts(Ran("look"), draft_class("text")))
    second = store.beside()
    async with open_runtime(store=second, graphs=[drafts(Ran("out"), draft_class("text", tone="plain"))]):
        await trio.sleep(2)
        second.crash()

    output, _ = await ended(store, drafts(ran, draft_class("text", tone="plain", mood="good")))

    assert output == Out("q")
    assert ran == ["out"]


async def test_a_class_that_was_renamed_is_read_under_its_earlier_name(autojump_clock):
    store, ran = MemoryStore(), Ran()
    await cut_short(store, drafts(Ran("out"), draft_class("text", name="Sketch1")))
    letter = draft_class("text", name="Letter1")
    upcast(letter, since="2", was=f"{__name__}:Sketch1")

    output, _ = await ended(store, drafts(ran, letter))

    assert output == Out("q")
    assert ran == ["out"]


@pytest.mark.parametrize("held", ["look", "out"])
async def test_a_field_that_was_removed_parks_the_run_naming_record_field_and_fix(autojump_clock, held):
    store, ran = MemoryStore(), Ran()
    await cut_short(store, drafts(Ran(held), draft_class("text", name="Draft2")))
    async with open_runtime(store=store.beside(), graphs=[drafts(ran, draft_class("words", name="Draft2"))]) as runtime:
        await trio.sleep(2)
        with pytest.raises(RunUndecodable) as parked:
            await (await runtime.handle("it")).result()

    for part in ("record 2 ", "g/write/0", "words", "@upcast(Type, since=…)", "adopt=True"):
        assert part in str(parked.value)


async def test_a_result_that_cannot_be_read_runs_again_if_somebody_says_so(autojump_clock):
    store, ran = MemoryStore(), Ran()
    await cut_short(store, drafts(Ran("out"), draft_class("text", name="Draft3")))

    output, events = await ended(store, drafts(ran, draft_class("words", name="Draft3")), adopt=True)

    assert output == Out("q")
    assert ran == ["write", "look", "out"]
    [adopted] = [event for event in events if isinstance(event, RunAdopted)]
    assert (adopted.kept, adopted.again, adopted.dropped) == ((), ("g/write/0", "g/look/0"), ())


async def test_an_upcast_reads_what_was_stored_before(autojump_clock):
    store, ran = MemoryStore(), Ran()
    await cut_short(store, drafts(Ran("out"), draft_class("text", name="Draft4")))
    letter = draft_class("words", "by", name="Draft4")

    @upcast(letter, since="10")
    def signed(fields: dict[str, Any]) -> dict[str, Any]:
        return {**fields, "by": "nobody"}

    @upcast(letter, since="9")
    def worded(fields: dict[str, Any]) -> dict[str, Any]:
        return {"words": fields["text"]}

    output, _ = await ended(store, drafts(ran, letter))

    assert output == Out("q")
    assert ran == ["out"]


# --- inside: nested runs, dependencies, fan-outs -----------------------------------------------------------------------------


def nest(ran: Ran, *, change: bool = False) -> Graph[Q, Out]:
    inner = Graph("inner", input=A, output=C)

    @inner.node
    async def one(a: A) -> B:
        await ran("one")
        return B(a.t + "1")

    if change:

        @inner.node
        async def between(b: B) -> E:
            await ran("between")
            return E(b.t + "~")

        @inner.node(name="two")
        async def two_of_e(e: E) -> C:
            await ran("two")
            return C(e.t + "2")

    else:

        @inner.node
        async def two(b: B) -> C:
            await ran("two")
            return C(b.t + "2")

    graph = Graph("g", input=Q, output=Out)

    @graph.node
    async def a(q: Q) -> A:
        await ran("a")
        return A(q.t)

    graph.add(inner)

    @graph.node
    async def out(c: C) -> Out:
        await ran("out")
        return Out(c.t)

    return graph


async def test_a_nested_run_is_adopted_where_it_was_cut_short(autojump_clock):
    store, ran = MemoryStore(), Ran()
    await cut_short(store, nest(Ran("two")))

    output, events = await ended(store, nest(ran, change=True))

    assert output == Out("q1~2")
    assert ran == ["between", "two", "out"]
    [adopted] = [event for event in events if isinstance(event, RunAdopted)]
    assert adopted.kept == ("g/a/0", "g/inner/0#1\ng/inner/0/one/0")


async def test_a_nested_graph_that_was_changed_behind_its_end_is_not_run_again(autojump_clock):
    store, ran = MemoryStore(), Ran()
    await cut_short(store, nest(Ran("out")))

    assert (await ended(store, nest(ran, change=True)))[0] == Out("q1~2".replace("~", ""))
    assert ran == ["out"]


def fan(ran: Ran, *, more: bool = False) -> Graph[Q, Out]:
    graph = Graph("g", input=Q, output=Out)

    @graph.node
    async def split(q: Q) -> list[A]:
        await ran("split")
        return [A(str(n)) for n in range(4)]

    @graph.node(concurrency=4)
    async def each(a: A) -> B:
        await ran(f"each {a.t}")
        return B(a.t)

    @graph.node
    async def join(bs: Annotated[list[B], Gather(first=3)]) -> D:
        await ran("join")
        return D("".join(sorted(b.t for b in bs)))

    if more:

        @graph.node
        async def check(d: D) -> E:
            await ran("check")
            return E(d.t)

        @graph.node(name="out")
        async def out_of_e(e: E) -> Out:
            return Out(e.t)

    else:

        @graph.node
        async def out(d: D) -> Out:
            await ran("out")
            return Out(d.t)

    return graph


@pytest.mark.parametrize("held", ["each 1", "join", "out"])
async def test_items_of_a_fan_out_are_kept_and_the_same_first_ones_are_gathered(autojump_clock, held):
    store, ran = MemoryStore(), Ran()
    await cut_short(store, fan(Ran(held)))

    output, _ = await ended(store, fan(ran, more=True))

    assert output == Out("023") if held == "each 1" else Out("012")
    assert "split" not in ran
    assert not [node for node in ran if node.startswith("each")]


async def test_a_run_inside_of_whose_input_nothing_is_left_begins_anew(autojump_clock):
    store, ran = MemoryStore(), Ran()
    await cut_short(store, nest(Ran("two")))
    changed = Graph("g", input=Q, output=Out)

    @changed.node
    async def a(q: Q) -> D:
        await ran("a")
        return D(q.t + "new")

    @changed.node
    async def b(d: D) -> A:
        await ran("b")
        return A(d.t)

    inner = Graph("inner", input=A, output=C)

    @inner.node
    async def one(a: A) -> B:
        await ran("one")
        return B(a.t + "1")

    @inner.node
    async def two(b: B) -> C:
        await ran("two")
        return C(b.t + "2")

    changed.add(inner)

    @changed.node
    async def out(c: C) -> Out:
        return Out(c.t)

    assert (await ended(store, changed, adopt=True))[0] == Out("qnew12")
    assert ran == ["a", "b", "one", "two"]


# --- what was paid for -------------------------------------------------------------------------------------------------------

USED = Usage(prompt_tokens=10, completion_tokens=5, cost_usd=0.25)


def asking(name: str, held: bool, fails: list[bool]) -> Graph[Q, Out]:
    graph = Graph("g", input=Q, output=Out)

    @graph.node(name=name)
    async def write(q: Q, lm: LM) -> A:
        return A((await lm.chat([{"role": "user", "content": q.t}])).text)

    @graph.node
    async def last(a: A, lm: LM) -> Out:
        answer = await lm.chat([{"role": "user", "content": f"better: {a.t}"}])
        if held:
            await trio.sleep_forever()
        if fails and fails.pop():
            raise OSError(answer.text)
        return Out(answer.text)

    return graph


async def test_a_paid_answer_is_not_dropped_without_a_word_and_what_stays_is_not_paid_again(autojump_clock):
    store = MemoryStore()
    async with open_runtime(store=store, lm=ScriptedLM(["one", "two"], usage=USED)) as runtime:
        await runtime.start(asking("write", True, []), Q("q"), run_id="it")
        await trio.sleep(1)
        store.crash()
    lm = ScriptedLM(["one"], usage=USED)
    async with open_runtime(store=store.beside(), lm=lm, graphs=[asking("compose", False, [])]) as runtime:
        await trio.sleep(2)
        with pytest.raises(RunChanged) as parked:
            await (await runtime.handle("it")).result()
        assert "what is not kept had used: 2 answers of language models, 30 tokens and 0.5000 USD" in str(parked.value)

        handle = await runtime.resume("it", adopt=True)
        assert await handle.result() == Out("two")  # the same question as before in the same step: its answer is there
    assert len(lm.calls) == 1


async def test_a_step_that_failed_asks_anew_when_its_run_is_resumed(autojump_clock):
    """The answers that it failed with would let it fail again."""
    lm = ScriptedLM(["one", "bad", "good", "other"], usage=USED)
    graph = asking("write", False, [True])
    async with open_runtime(store=MemoryStore(), lm=lm, graphs=[graph]) as runtime:
        with pytest.raises(RunFailed):
            await (await runtime.start(graph, Q("q"), run_id="it")).result()
        assert await (await runtime.resume("it")).result() == Out("good")
        forked = await runtime.fork("it", before="g/last/0")
        assert await forked.result() == Out("other")
    assert [call.text for call in lm.calls] == ["q", "better: one", "better: one", "better: one"]
