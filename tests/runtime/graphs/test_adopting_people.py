"""Adoptions and forks of runs that people have answered, or that signals have come into."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
import trio

from actors import AlreadyAnswered, Graph, RunChanged
from runtime import RunAdopted, open_runtime
from runtime.journal.memory import MemoryStore
from tests.runtime.graphs.test_humans import Approved, Draft, Order, Rejected, Sent, asked


@attrs.frozen
class Posted:
    text: str


@attrs.frozen
class Extra:
    n: int


@attrs.frozen
class Noted:
    n: int


def letters(ran: list[str], *, held: bool = False, words: str = "letter", is_checked: bool = False) -> Graph[Order, Sent]:
    """Write, let a person approve, send; `words` go into what the person sees, `is_checked` puts a node before `send`."""
    graph: Graph[Order, Sent] = Graph("letters", input=Order, output=Sent, signals=Extra)

    @graph.node
    async def note(extra: Extra) -> Noted:
        ran.append(f"note {extra.n}")
        return Noted(extra.n)

    @graph.node
    async def write(order: Order) -> Draft:
        ran.append("write")
        return Draft(f"{words} {order.n}")

    if words == "letter":

        @graph.human
        async def approve(draft: Draft) -> Approved | Rejected:
            """May this letter be sent?"""
            raise NotImplementedError

    else:

        @graph.node
        async def reword(draft: Draft) -> Posted:
            ran.append("reword")
            return Posted(draft.text)

        @graph.human(name="approve")
        async def approve_posted(posted: Posted) -> Approved | Rejected:
            """May this letter be sent?"""
            raise NotImplementedError

    @graph.node
    async def stop(no: Rejected) -> Sent:
        return Sent(f"not sent: {no.why}")

    if is_checked:

        @graph.node
        async def check(ok: Approved) -> Posted:
            ran.append("check")
            return Posted(ok.by)

        @graph.node(name="send")
        async def send_checked(ok: Posted, noted: Noted) -> Sent:
            ran.append("send")
            return Sent(f"checked, sent by {ok.text}, {noted.n}")

    else:

        @graph.node
        async def send(ok: Approved, noted: Noted) -> Sent:
            ran.append("send")
            if held:
                await trio.sleep_forever()
            return Sent(f"sent by {ok.by}, {noted.n}")

    return graph


async def cut_short(store: MemoryStore) -> None:
    """A run that has had a signal and an answer, up to `send`."""
    with trio.CancelScope() as scope:
        async with open_runtime(store=store) as runtime:
            await runtime.start(letters([], held=True), Order(7), run_id="it")
            await runtime.send("it", Extra(3), key="x")
            [question] = await asked(runtime)
            await runtime.answer(question.id, Approved("anna"))
            await trio.sleep(1)
            scope.cancel()


async def test_answers_of_people_and_signals_are_kept_by_a_graph_that_still_fits(autojump_clock):
    store, ran, events = MemoryStore(), list[str](), list[Any]()
    await cut_short(store)

    graph = letters(ran, is_checked=True)
    async with open_runtime(store=store.beside(), graphs=[graph], instruments=[events.append]) as runtime:
        assert await (await runtime.handle("it")).result() == Sent("checked, sent by anna, 3")

    [adopted] = [event for event in events if isinstance(event, RunAdopted)]
    assert sorted(adopted.kept) == ["letters/approve/0", "letters/note/0", "letters/write/0"]
    assert ran == ["check", "send"]


async def test_a_person_is_asked_again_about_something_else(autojump_clock):
    store, ran = MemoryStore(), list[str]()
    await cut_short(store)

    later = store.beside()
    with trio.CancelScope() as scope:
        async with open_runtime(store=later, graphs=[letters(ran, words="note")]) as runtime:
            with pytest.raises(RunChanged, match="letters/approve/0"):
                await (await runtime.handle("it")).result()
            await runtime.resume("it", adopt=True)
            [question] = await asked(runtime)
            assert question.asks == Posted("letter 7")
            scope.cancel()
    async with open_runtime(store=later.beside(), graphs=[letters(ran, words="note")]) as runtime:  # and it is that one still
        handle = await runtime.handle("it")
        [again] = await asked(runtime)
        assert (again.id, again.asks) == (question.id, question.asks)
        await runtime.answer(again.id, Approved("berta"))
        assert await handle.result() == Sent("sent by berta, 3")
    assert ran == ["reword", "send"]


async def test_an_open_question_is_another_one_when_the_graph_asks_about_something_else(autojump_clock):
    """Nothing recorded has to be given up, so the run goes on; what was answered to the old one is no answer to the new one."""
    store, ran = MemoryStore(), list[str]()
    async with open_runtime(store=store) as runtime:
        await runtime.start(letters([]), Order(7), run_id="it")
        await runtime.send("it", Extra(3), key="x")
        [old] = await asked(runtime)
        store.crash()
    async with open_runtime(store=store.beside()) as outside:  # in which the graph isn't deployed
        await outside.answer(old.id, Approved("anna"))

    later = store.beside()
    async with open_runtime(store=later, graphs=[letters(ran, words="note")], evict_after_s=5) as runtime:
        await trio.sleep(2)  # it is taken up
        [new] = await asked(runtime)
        assert (new.id != old.id, old.asks, new.asks) == (True, Draft("letter 7"), Posted("letter 7"))
        with pytest.raises(AlreadyAnswered):
            await runtime.answer(old.id, Approved("anna"))
        await trio.sleep(10)  # out of memory
        [stored] = await asked(runtime)
        assert (stored.id, stored.asks) == (new.id, new.asks)
        later.crash()
    async with open_runtime(store=later.beside(), graphs=[letters(ran, words="note")]) as runtime:
        await trio.sleep(2)
        [again] = await asked(runtime)
        assert (again.id, again.asks) == (new.id, new.asks)
        await runtime.answer(again.id, Approved("berta"))
        assert await (await runtime.handle("it")).result() == Sent("sent by berta, 3")
    assert ran == ["reword", "send"]


async def test_an_open_question_is_the_same_one_when_something_else_in_the_graph_has_changed(autojump_clock):
    store = MemoryStore()
    async with open_runtime(store=store) as runtime:
        await runtime.start(letters([]), Order(7), run_id="it")
        await runtime.send("it", Extra(3), key="x")
        [old] = await asked(runtime)
        store.crash()
    async with open_runtime(store=store.beside(), graphs=[letters([], is_checked=True)]) as runtime:
        await trio.sleep(2)  # it is taken up
        [question] = await asked(runtime)
        assert (question.id, question.asked_at) == (old.id, old.asked_at)
        await runtime.answer(question.id, Approved("anna"))
        assert await (await runtime.handle("it")).result() == Sent("checked, sent by anna, 3")


async def test_a_fork_of_a_run_that_waits_for_a_person_asks_a_question_of_its_own(autojump_clock):
    store, ran = MemoryStore(), list[str]()
    async with open_runtime(store=store) as runtime:
        handle = await runtime.start(letters(ran), Order(7), run_id="it")
        await runtime.send("it", Extra(3), key="x")
        [question] = await asked(runtime)
        fork = await runtime.fork("it", run_id_new="other")
        [own] = await asked(runtime, "other")
        assert (own.id != question.id, own.asks) == (True, question.asks)
        await runtime.answer(own.id, Approved("berta"))
        assert await fork.result() == Sent("sent by berta, 3")
        await runtime.answer(question.id, Approved("anna"))
        assert await handle.result() == Sent("sent by anna, 3")
    assert ran.count("write") == ran.count("note 3") == 1


@pytest.mark.parametrize(
    ("options", "output"),
    [
        ({}, Sent("sent by anna, 3")),
        ({"before": "letters/send/0"}, Sent("sent by anna, 3")),
        ({"edit": {"letters/approve/0": Approved("carla")}}, Sent("sent by carla, 3")),
        ({"edit": {"letters/approve/0": Rejected("late")}}, Sent("not sent: late")),
    ],
)
async def test_a_fork_keeps_answers_and_signals_and_may_edit_an_answer(autojump_clock, options, output):
    store = MemoryStore()
    async with open_runtime(store=store) as runtime:
        handle = await runtime.start(letters([]), Order(7), run_id="it")
        await runtime.send("it", Extra(3), key="x")
        [question] = await asked(runtime)
        await runtime.answer(question.id, Approved("anna"))
        await handle.result()
        assert await (await runtime.fork("it", **options)).result() == output
        assert await runtime.questions() == []


async def test_a_fork_before_a_person_was_asked_asks_again(autojump_clock):
    store = MemoryStore()
    async with open_runtime(store=store) as runtime:
        handle = await runtime.start(letters([]), Order(7), run_id="it")
        await runtime.send("it", Extra(3), key="x")
        [question] = await asked(runtime)
        await runtime.answer(question.id, Approved("anna"))
        await handle.result()
        fork = await runtime.fork("it", before="letters/approve/0")
        [own] = await asked(runtime)
        await runtime.answer(own.id, Approved("dora"))
        assert await fork.result() == Sent("sent by dora, 3")
