"""Nodes that a person fills: asked, answered, timed out, in loops, in parallel, in nested graphs, over lives."""

from __future__ import annotations

import gc
import math
from typing import Any

import attrs
import pytest
import trio
import trio.testing

from actors import AlreadyAnswered, Graph, NodeFailed, NodeTimedOut, Run, RunFailed, UnknownRun, UsageError
from actors.message_errors import MessageInvalid
from runtime import QuestionAnswered, QuestionAsked, open_runtime
from runtime.graphs.runs.run import ActiveDelivery, ActiveRun
from runtime.journal.memory import MemoryStore
from runtime.journal.records import RecordKind
from runtime.testing.stores.crashes import crash_everywhere


@attrs.frozen
class Order:
    n: int


@attrs.frozen
class Draft:
    text: str
    round: int = 0


@attrs.frozen
class Approved:
    by: str


@attrs.frozen
class Rejected:
    why: str


@attrs.frozen
class Sent:
    text: str


def letters(ran: list[str] | None = None, **options: Any) -> Graph[Order, Sent]:
    """Write, let a person approve (or reject: written again), send."""
    ran = [] if ran is None else ran
    graph: Graph[Order, Sent] = Graph("letters", input=Order, output=Sent)

    @graph.node
    async def write(order: Order) -> Draft:
        ran.append("write")
        return Draft(f"letter {order.n}")

    @graph.human(**options)
    async def approve(draft: Draft) -> Approved | Rejected:
        """May this letter be sent?"""
        raise NotImplementedError

    @graph.node
    async def rewrite(no: Rejected) -> Draft:
        ran.append("rewrite")
        return Draft(no.why)

    @graph.node
    async def send(ok: Approved) -> Sent:
        ran.append("send")
        return Sent(f"sent by {ok.by}")

    return graph


async def asked(runtime: Any, run_id: str | None = None, count: int = 1) -> list[Any]:
    """The open questions, as soon as there are so many."""
    found: list[Any] = []
    await trio.testing.wait_all_tasks_blocked()
    for _ in range(200):
        found = await runtime.questions(run_id)
        if len(found) >= count:
            break
        await trio.sleep(0.5)
    assert len(found) == count
    return found


STORES = pytest.mark.parametrize("store", [None, "memory"], ids=["without a store", "with a store"])


def made(store: str | None) -> MemoryStore | None:
    return None if store is None else MemoryStore()


@STORES
async def test_a_person_is_asked_and_the_run_goes_on_with_the_answer(store, autojump_clock):
    graph = letters(to="legal")
    async with open_runtime(store=made(store)) as runtime:
        handle = await runtime.start(graph, Order(7), run_id="order-7")
        [question] = await asked(runtime)
        assert (question.run_id, question.node, question.path) == ("order-7", "approve", "letters/approve/0")
        assert (question.asks, question.answers) == (Draft("letter 7"), (Approved, Rejected))
        assert (question.text, question.to, question.due_at) == ("May this letter be sent?", "legal", None)
        assert question.schema["$defs"].keys() == {"Approved", "Rejected"}
        assert (handle.status, handle.questions) == ("waiting", (question,))
        assert [step.status for step in handle.trace] == ["done", "asked"]

        await runtime.answer(question.id, Approved("anna"), by="anna")

        assert await handle.result() == Sent("sent by anna")
        assert await runtime.questions() == []
        with pytest.raises(AlreadyAnswered):
            await runtime.answer(question.id, Rejected("no"))


@STORES
async def test_a_dict_is_read_strictly_and_what_is_wrong_is_named(store, autojump_clock):
    async with open_runtime(store=made(store)) as runtime:
        handle = await runtime.start(letters(), Order(7), run_id="it")
        [question] = await asked(runtime)
        with pytest.raises(MessageInvalid, match="by"):
            await runtime.answer(question.id, {"by": 3})
        with pytest.raises(UsageError, match=r"answered with Approved \| Rejected"):
            await runtime.answer(question.id, Draft("x"))
        with pytest.raises(UnknownRun):
            await runtime.answer("it.none", Approved("anna"))
        with pytest.raises(UnknownRun):
            await runtime.questions("none")

        await runtime.answer(question.id, {"Approved": {"by": "berta"}})

        assert await handle.result() == Sent("sent by berta")


@STORES
async def test_in_a_loop_each_round_is_a_question_of_its_own(store, autojump_clock):
    ran: list[str] = []
    async with open_runtime(store=made(store)) as runtime:
        handle = await runtime.start(letters(ran), Order(7), run_id="it")
        seen = set()
        for number in range(3):
            [question] = await asked(runtime)
            seen.add(question.id)
            await runtime.answer(question.id, Rejected(f"no {number}"))
        [question] = await asked(runtime)
        assert question.asks == Draft("no 2")
        await runtime.answer(question.id, Approved("anna"))

        assert await handle.result() == Sent("sent by anna")
    assert len(seen) == 3
    assert ran == ["write", *["rewrite"] * 3, "send"]


@STORES
async def test_after_the_time_the_fallback_works_on_the_message(store, autojump_clock):
    async def escalate(draft: Draft, error: Exception) -> Approved:
        return Approved(f"the boss, for {draft.text}, since {type(error).__name__}")

    events: list[Any] = []
    async with open_runtime(store=made(store), instruments=[events.append]) as runtime:
        handle = await runtime.start(letters(timeout_s=600, fallback=escalate), Order(7), run_id="it")
        [question] = await asked(runtime)
        assert (question.due_at - question.asked_at).total_seconds() == 600
        assert await handle.result() == Sent("sent by the boss, for letter 7, since NodeTimedOut")
        assert abs(trio.current_time() - 600) < 2
        with pytest.raises(AlreadyAnswered):
            await runtime.answer(question.id, Approved("anna"))
    told = [event for event in events if isinstance(event, QuestionAsked | QuestionAnswered)]
    assert [type(event) for event in told] == [QuestionAsked, QuestionAnswered]
    assert isinstance(told[1], QuestionAnswered)
    assert told[1].timed_out


@STORES
async def test_without_a_fallback_the_run_fails_when_nobody_answers_in_time(store, autojump_clock):
    async with open_runtime(store=made(store)) as runtime:
        handle = await runtime.start(letters(timeout_s=60), Order(7), run_id="it")
        with pytest.raises(RunFailed) as caught:
            await handle.result()
        [leaf] = caught.value.exceptions
        assert isinstance(leaf, NodeFailed)
        assert isinstance(leaf.__cause__, NodeTimedOut)
        assert await runtime.questions() == []


async def test_a_run_that_ends_otherwise_takes_its_questions_with_it(autojump_clock):
    store = MemoryStore()
    async with open_runtime(store=store) as runtime:
        handle = await runtime.start(letters(), Order(7), run_id="it")
        [question] = await asked(runtime)
        await handle.cancel()
        assert handle.status == "cancelled"
        assert await runtime.questions() == []
        with pytest.raises(AlreadyAnswered):
            await runtime.answer(question.id, Approved("anna"))


async def test_a_question_outlives_its_process_and_nothing_is_run_again(autojump_clock):
    store, ran = MemoryStore(), list[str]()
    graph = letters(ran)
    async with open_runtime(store=store) as runtime:
        await runtime.start(graph, Order(7), run_id="it")
        [before] = await asked(runtime)
        store.crash()
    async with open_runtime(store=store.beside(), graphs=[graph]) as runtime:
        [after] = await asked(runtime)
        assert (after.id, after.asked_at, after.asks) == (before.id, before.asked_at, before.asks)
        await runtime.answer(after.id, Approved("anna"))
        assert await (await runtime.handle("it")).result() == Sent("sent by anna")
    assert ran == ["write", "send"]


async def test_the_time_for_an_answer_goes_on_over_lives(autojump_clock):
    store = MemoryStore()
    graph = letters(timeout_s=600)
    async with open_runtime(store=store, graphs=[graph], evict_after_s=math.inf) as runtime:
        await runtime.start(graph, Order(7), run_id="it")
        await asked(runtime)
        await trio.sleep(300)
        store.crash()
    await trio.sleep(150)
    began = trio.current_time()
    async with open_runtime(store=store.beside(), graphs=[graph]) as runtime:
        with pytest.raises(RunFailed):
            await (await runtime.handle("it")).result()
    assert 140 < trio.current_time() - began < 160


async def test_it_is_answered_from_another_process_and_the_owner_takes_it_in(autojump_clock):
    store, graph = MemoryStore(), letters()
    async with open_runtime(store=store) as runtime, open_runtime(store=store.beside()) as other:
        handle = await runtime.start(graph, Order(7), run_id="it")
        [question] = await asked(other)
        with pytest.raises(MessageInvalid):
            await other.answer(question.id, {"by": None})
        await other.answer(question.id, {"by": "anna"}, by="anna")
        assert await handle.result() == Sent("sent by anna")
        with pytest.raises(AlreadyAnswered):
            await other.answer(question.id, Approved("berta"))


async def test_of_two_answers_at_a_time_one_counts(autojump_clock):
    store, graph = MemoryStore(), letters()
    async with open_runtime(store=store) as runtime, open_runtime(store=store.beside()) as other:
        handle = await runtime.start(graph, Order(7), run_id="it")
        [question] = await asked(runtime)
        won: list[str] = []

        async def answer(by: Any, name: str) -> None:
            try:
                await by.answer(question.id, Approved(name))
            except AlreadyAnswered:
                return
            won.append(name)

        async with trio.open_nursery() as nursery:
            for number in range(10):
                nursery.start_soon(answer, runtime, f"a{number}")
                nursery.start_soon(answer, other, f"b{number}")
        [winner] = won
        assert await handle.result() == Sent(f"sent by {winner}")


@attrs.frozen
class Batch:
    texts: tuple[str, ...]


@attrs.frozen
class Verdict:
    text: str


@attrs.frozen
class Verdicts:
    all: tuple[str, ...]


def parallel() -> Graph[Batch, Verdicts]:
    graph: Graph[Batch, Verdicts] = Graph("parallel", input=Batch, output=Verdicts)

    @graph.node
    async def split(batch: Batch) -> list[Draft]:
        return [Draft(text) for text in batch.texts]

    @graph.human
    async def judge(draft: Draft) -> Verdict:
        """What do you think of it?"""
        raise NotImplementedError

    @graph.node
    async def collect(verdicts: list[Verdict]) -> Verdicts:
        return Verdicts(tuple(each.text for each in verdicts))

    return graph


@STORES
async def test_many_questions_at_a_time_are_never_crossed(store, autojump_clock):
    texts = tuple(f"t{number}" for number in range(50))
    async with open_runtime(store=made(store)) as runtime:
        handle = await runtime.start(parallel(), Batch(texts), run_id="it")
        questions = await asked(runtime, "it", 50)
        for question in reversed(questions):
            await runtime.answer(question.id, Verdict(f"about {question.asks.text}"))
        assert await handle.result() == Verdicts(tuple(f"about {text}" for text in texts))


def nested() -> Graph[Order, Sent]:
    inner = letters()
    for depth in range(3):
        outer: Graph[Order, Sent] = Graph(f"outer{depth}", input=Order, output=Sent)
        outer.add(inner, name="inside")
        inner = outer
    return inner


@STORES
async def test_a_person_is_asked_in_a_graph_three_deep(store, autojump_clock):
    async with open_runtime(store=made(store), evict_after_s=5) as runtime:
        handle = await runtime.start(nested(), Order(7), run_id="it")
        [question] = await asked(runtime)
        assert question.path == "outer2/inside/0/inside/0/inside/0/approve/0"
        assert handle.status == "waiting"
        await trio.sleep(10)
        assert (handle.status, len(runtime.runs())) == ("waiting", 1 if store is None else 0)
        [same] = await asked(runtime)
        assert same.id == question.id
        await runtime.answer(question.id, Rejected("again"))
        [question] = await asked(runtime)
        await runtime.answer(question.id, Approved("anna"))
        assert await handle.result() == Sent("sent by anna")


async def test_crash_at_every_record_asks_once_and_ends_the_same(autojump_clock):
    async def run(store: Any) -> Any:
        graph = nested()
        async with open_runtime(store=store, graphs=[graph]) as runtime:
            handle = await runtime.start(graph, Order(7), run_id="it")
            async with trio.open_nursery() as nursery:

                async def people() -> None:
                    while True:
                        for question in await runtime.questions():
                            answer = Approved("anna") if question.asks.text == "again" else Rejected("again")
                            try:
                                await runtime.answer(question.id, answer)
                            except AlreadyAnswered:
                                await trio.sleep(0.1)
                        await trio.sleep(0.5)

                nursery.start_soon(people)
                result = await handle.result()
                nursery.cancel_scope.cancel()
            return result

    crashes = await crash_everywhere(run)
    assert crashes.output == Sent("sent by anna")
    assert crashes.points > 10


async def test_a_question_that_was_withdrawn_may_be_asked_again(autojump_clock):
    """A crash between the end of an attempt that had asked and the record that says so: the attempt is made again, and asks."""
    inner: Graph[Draft, Approved] = Graph("inner", input=Draft, output=Approved)
    graph: Graph[Draft, Approved] = Graph("outer", input=Draft, output=Approved)

    @inner.human
    async def approve(draft: Draft) -> Approved:
        """May it be sent?"""
        raise NotImplementedError

    graph.add(inner, name="inner", timeout_s=5)

    async def run(store: Any) -> Any:
        async with open_runtime(store=store, graphs=[graph]) as runtime:
            try:
                return await (await runtime.start(graph, Draft("d"), run_id="it")).result()
            except RunFailed as failure:
                return [type(error.__cause__) for error in failure.exceptions]

    crashes = await crash_everywhere(run)

    assert crashes.output == [NodeTimedOut]


async def test_waiting_runs_leave_memory_and_come_back_for_an_answer(autojump_clock):
    store, ran = MemoryStore(), list[str]()
    graph = letters(ran)
    async with open_runtime(store=store, graphs=[graph]) as runtime:
        for number in range(100):
            await runtime.start(graph, Order(number), run_id=f"evicted-{number}")
        await asked(runtime, count=100)
        await trio.sleep(70)
        assert len(runtime.runs()) == 0
        gc.collect()
        alive = [
            each if isinstance(each, ActiveRun) else each.run
            for each in gc.get_objects()
            if isinstance(each, ActiveRun | ActiveDelivery)
        ]
        assert not [run.id for run in alive if run.id.startswith("evicted")]
        for question in await runtime.questions():
            await runtime.answer(question.id, Approved(question.run_id))
        for number in range(100):
            handle = await runtime.handle(f"evicted-{number}")
            assert await handle.result() == Sent(f"sent by evicted-{number}")
    assert ran.count("write") == ran.count("send") == 100


async def test_a_handle_follows_its_run_out_of_memory_and_back(autojump_clock):
    graph = letters(timeout_s=600)
    async with open_runtime(store=MemoryStore(), graphs=[graph]) as runtime:
        handle = await runtime.start(graph, Order(1), run_id="it")
        [question] = await asked(runtime)
        async with trio.open_nursery() as nursery:

            async def wait() -> None:
                assert await handle.result() == Sent("sent by anna")

            nursery.start_soon(wait)
            await trio.sleep(300)
            assert (handle.status, [each.id for each in handle.questions]) == ("waiting", [question.id])
            await runtime.answer(question.id, Approved("anna"))


async def test_the_time_brings_a_run_back_that_has_left_memory(autojump_clock):
    graph = letters(timeout_s=600)
    async with open_runtime(store=MemoryStore(), graphs=[graph]) as runtime:
        handle = await runtime.start(graph, Order(1), run_id="it")
        with pytest.raises(RunFailed):
            await handle.result()
        assert 600 <= trio.current_time() < 600 + 30


async def test_an_answer_that_comes_while_its_run_leaves_memory_is_not_lost(autojump_clock):
    store, graph = MemoryStore(), letters(timeout_s=1_000_000)
    async with open_runtime(store=store, graphs=[graph], evict_after_s=1) as runtime, open_runtime(store=store.beside()) as other:

        async def one(number: int) -> None:
            handle = await runtime.start(graph, Order(number), run_id=f"r{number}")
            [question] = await runtime.questions(handle.id) or await asked(runtime, handle.id)
            await trio.sleep(0.9 + number / 100)
            await (runtime if number % 2 else other).answer(question.id, Approved(handle.id))
            assert await handle.result() == Sent(f"sent by {handle.id}")

        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                for number in range(30):
                    nursery.start_soon(one, number)


async def test_a_run_is_cancelled_while_it_has_left_memory(autojump_clock):
    graph = letters()
    async with open_runtime(store=MemoryStore(), graphs=[graph], evict_after_s=1) as runtime:
        handle = await runtime.start(graph, Order(1), run_id="it")
        await trio.sleep(5)
        assert (handle.status, len(runtime.runs())) == ("waiting", 0)
        await handle.cancel()
        assert handle.status == "cancelled"
        assert await runtime.questions() == []


# --- in the middle of a node ----------------------------------------------------------------------------------------------


def asking(ran: list[str], timeout_s: float | None = None) -> Graph[Order, Sent]:
    graph: Graph[Order, Sent] = Graph("asking", input=Order, output=Sent)

    @graph.node
    async def both(order: Order, run: Run) -> Sent:
        ran.append("both")
        first = await run.ask(Draft(f"first {order.n}"), Approved, timeout_s)
        ran.append("between")
        second = await run.ask(Draft(f"second {order.n}"), Approved, timeout_s)
        return Sent(f"{first.by} and {second.by}")

    return graph


@STORES
async def test_a_node_asks_in_the_middle_of_its_work(store, autojump_clock):
    async with open_runtime(store=made(store)) as runtime:
        handle = await runtime.start(asking([]), Order(1), run_id="it")
        for name in ("anna", "berta"):
            [question] = await asked(runtime)
            await runtime.answer(question.id, Approved(name))
        assert await handle.result() == Sent("anna and berta")


async def test_after_a_crash_earlier_answers_come_from_the_journal(autojump_clock):
    store, ran = MemoryStore(), list[str]()
    graph = asking(ran)
    async with open_runtime(store=store) as runtime:
        await runtime.start(graph, Order(1), run_id="it")
        [question] = await asked(runtime)
        await runtime.answer(question.id, Approved("anna"))
        [before] = await asked(runtime)
        store.crash()
    async with open_runtime(store=store.beside(), graphs=[graph]) as runtime:
        [question] = await asked(runtime)
        assert (question.id, question.asks) == (before.id, Draft("second 1"))
        await runtime.answer(question.id, Approved("berta"))
        assert await (await runtime.handle("it")).result() == Sent("anna and berta")
    assert ran == ["both", "between", "both", "between"]


@STORES
async def test_a_question_of_a_node_has_its_time(store, autojump_clock):
    async with open_runtime(store=made(store)) as runtime:
        handle = await runtime.start(asking([], timeout_s=60), Order(1), run_id="it")
        with pytest.raises(RunFailed) as caught:
            await handle.result()
        assert isinstance(caught.value.exceptions[0].__cause__, NodeTimedOut)


async def test_records_of_a_question(autojump_clock):
    store = MemoryStore()
    async with open_runtime(store=store) as runtime:
        handle = await runtime.start(letters(), Order(7), run_id="it")
        [question] = await asked(runtime)
        await runtime.answer(question.id, Approved("anna"), by="anna")
        await handle.result()
    kinds = [record.kind async for record in store.read("it")]
    assert kinds == [
        RecordKind.STARTED,
        RecordKind.FINISHED,
        RecordKind.ASKED,
        RecordKind.ANSWERED,
        RecordKind.FINISHED,
        RecordKind.OVER,
    ]


@pytest.mark.slow
@pytest.mark.parametrize("count", [1_000, pytest.param(10_000, marks=pytest.mark.chaos)])
def test_runs_by_the_thousand_wait_and_none_of_them_is_in_memory(count):
    """On trio's own loop: the explored schedules of so many runs would take minutes."""

    async def main() -> None:
        ran: list[str] = []
        graph = letters(ran)
        async with open_runtime(store=MemoryStore(), graphs=[graph], evict_after_s=5) as runtime:
            for number in range(count):
                await runtime.start(graph, Order(number), run_id=f"many-{number}")
            await trio.sleep(10)
            assert len(runtime.runs()) == 0
            gc.collect()
            alive = [each for each in gc.get_objects() if isinstance(each, ActiveRun | ActiveDelivery)]
            runs = [each if isinstance(each, ActiveRun) else each.run for each in alive]
            assert not [run.id for run in runs if run.id.startswith("many")]
            questions = await runtime.questions()
            assert len(questions) == count
            for question in questions[::100]:
                await runtime.answer(question.id, Approved(question.run_id))
            for question in questions[::100]:
                handle = await runtime.handle(question.run_id)
                assert await handle.result() == Sent(f"sent by {question.run_id}")
            assert ran.count("write") == count
            assert ran.count("send") == count // 100

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


async def test_a_drain_ends_a_run_that_waits_for_a_person_when_its_grace_is_over(autojump_clock):
    async with open_runtime() as runtime:
        handle = await runtime.start(letters(), Order(7))
        await asked(runtime)

        await runtime.drain(3)

        assert handle.status == "cancelled"
