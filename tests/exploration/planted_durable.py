"""Durability bugs, planted by a patch of the real code, each with a program that it spoils: for a search with crashes."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Annotated, Any

import attrs
import pytest
import trio

from actors import LM, Effect, Gather, Graph, Run
from actors.lm import Usage
from actors.store_errors import AlreadyAnswered, RunCrashes, StepUncertain, UnknownRun
from runtime import RunHandle, Runtime
from runtime.graphs import accepting
from runtime.graphs.nodes import attempt_journal
from runtime.graphs.outside import Outside
from runtime.graphs.records import resuming
from runtime.graphs.records.journaling import Bought
from runtime.graphs.records.recorded_answers import Costs
from runtime.graphs.records.resuming import Resumed, Retelling
from runtime.graphs.records.run_record import StepStatus
from runtime.graphs.reducer.deliveries import Commands
from runtime.graphs.runs.run import ActiveRun
from runtime.journal.memory import MemoryStore
from runtime.journal.records import RecordKind
from runtime.journal.store import Posted, PostedKind, Store
from runtime.testing import Answer, ScriptedLM, Simulation, SlowStore

USED = Usage(10, 5)


@attrs.frozen
class Ask:
    n: int = 0


@attrs.frozen
class Part:
    n: int = 0


@attrs.frozen
class Other:
    n: int = 0


@attrs.frozen
class Approved:
    by: str = ""


@attrs.frozen
class Paid:
    euros: int = 0


@attrs.frozen
class Done:
    n: Any = 0


def graph_of(*functions: Callable[..., Any], **options: Any) -> Graph[Ask, Done]:
    graph: Graph[Ask, Done] = Graph("g", input=Ask, output=Done)
    for function in functions:
        graph.node(**options)(function)
    return graph


async def result(sim: Simulation, graph: Graph[Ask, Done], store: Store, n: int = 3, **options: Any) -> Done:
    async with sim.open_runtime(store=store, **options) as runtime:
        handle = await runtime.start(graph, Ask(n), run_id="it")
        made, _ = await at_its_end(runtime, handle)
        return made


async def at_its_end(runtime: Runtime, handle: RunHandle[Done]) -> tuple[Done, RunHandle[Done]]:
    """What a run makes; and its handle, another one if somebody has had it go on.

    It is parked, as is promised, for three crashes in succession before the same record.
    """
    try:
        return await handle.result(), handle
    except RunCrashes:
        again: Any = await runtime.resume(handle.id)
        return await again.result(), again


@attrs.frozen
class Planted:
    """One bug."""

    program: Callable[[Simulation], Awaitable[None]]
    """Passes, whatever the schedule and wherever it crashes, without the patch."""
    plant: Callable[[pytest.MonkeyPatch], None]

    @property
    def name(self) -> str:
        return self.plant.__name__


# --- programs ---------------------------------------------------------------------------------------------------------


def fan_out() -> Graph[Ask, Done]:
    async def split(ask: Ask) -> list[Part]:
        return [Part(n) for n in range(ask.n)]

    async def work(part: Part) -> Other:
        await trio.sleep(1)
        return Other(part.n**2)

    async def gather(others: list[Other]) -> Done:
        return Done([other.n for other in others])

    return graph_of(split, work, gather)


async def gathers(sim: Simulation) -> None:
    graph = fan_out()
    assert await sim.lives(lambda store: result(sim, graph, store)) == Done([0, 1, 4])


async def joins(sim: Simulation) -> None:
    """What is recorded as finished never begins again."""
    stores: list[Store] = []

    async def begins(run: Run) -> None:
        path = run.key.partition("/")[2]
        done = [record.path async for record in stores[-1].read("it") if record.kind is RecordKind.FINISHED]
        assert path not in done, f"{path} was finished, and began again"

    async def left(ask: Ask, run: Run) -> Part:
        await begins(run)
        await trio.sleep(1)
        return Part(ask.n)

    async def right(ask: Ask, run: Run) -> Other:
        await begins(run)
        return Other(ask.n)

    async def join(part: Part, other: Other, run: Run) -> Done:
        await begins(run)
        await trio.sleep(1)
        return Done([part.n, other.n])

    graph = graph_of(left, right, join)

    async def life(store: Store) -> Any:
        stores.append(store)
        return await result(sim, graph, store)

    assert await sim.lives(life) == Done([3, 3])


async def gathers_the_first(sim: Simulation) -> None:
    """What a node is given is the same in each life, and so is what was decided by time."""
    given: list[list[int]] = []

    async def split(ask: Ask) -> list[Part]:
        return [Part(n) for n in range(ask.n)]

    async def work(part: Part) -> Other:
        await trio.sleep(1)
        return Other(part.n)

    async def gather(others: Annotated[list[Other], Gather(first=2)]) -> Done:
        given.append([other.n for other in others])
        await trio.sleep(5)
        return Done(given[-1])

    graph = graph_of(split, work, gather)
    made = await sim.lives(lambda store: result(sim, graph, SlowStore(store, 0.5), n=4))
    assert given == [made.n] * len(given)


async def charges_once(sim: Simulation) -> None:
    charged = 0

    async def charge() -> int:
        nonlocal charged
        charged += 1
        return charged

    async def pay(ask: Ask, run: Run) -> Done:
        number = await run.once("charge", charge)
        await trio.sleep(1)
        return Done(await run.once("tell", told, number))

    async def told(number: int) -> int:
        return number

    graph = graph_of(pay)
    await sim.lives(lambda store: result(sim, graph, store))


async def goes_on_without_being_started(sim: Simulation) -> None:
    graph = fan_out()

    async def life(store: Store) -> Any:
        async with sim.open_runtime(store=store, graphs=[graph]) as runtime:
            try:
                handle = await runtime.handle("it")
            except UnknownRun:
                handle = await runtime.start(graph, Ask(3), run_id="it")
            made, _ = await at_its_end(runtime, handle)
            return made

    assert await sim.lives(life, within_s=600) == Done([0, 1, 4])


async def asks_two_things_at_once(sim: Simulation) -> None:
    async def work(ask: Ask, lm: LM, run: Run) -> Done:
        texts: dict[str, str] = {}

        async def one(what: str, delay_s: float) -> None:
            await trio.sleep(delay_s)
            texts[what] = (await lm.chat([{"role": "user", "content": what}])).text

        async with trio.open_nursery() as nursery:
            nursery.start_soon(one, "slow", 0)
            nursery.start_soon(one, "quick", 0.1)
        await run.sleep(1)
        return Done([texts["slow"], texts["quick"]])

    graph = graph_of(work)

    async def life(store: Store) -> Any:
        lm = ScriptedLM(_slow_or_quick, usage=USED)
        return await result(sim, graph, store, lm=lm)

    assert await sim.lives(life) == Done(["slow", "quick"])


def _slow_or_quick(messages: Sequence[Mapping[str, Any]]) -> Any:
    text = str(messages[-1]["content"])
    return Answer(text, latency_s=5.0 if text == "slow" else 0.5)


async def counts_what_it_spends(sim: Simulation) -> None:
    async def one(ask: Ask, lm: LM) -> Part:
        return Part(len((await lm.chat([{"role": "user", "content": "one"}])).text))

    async def two(part: Part, lm: LM) -> Done:
        return Done(part.n + len((await lm.chat([{"role": "user", "content": "two"}])).text))

    graph = graph_of(one, two)

    async def life(store: Store) -> Any:
        async with sim.open_runtime(store=store, lm=ScriptedLM(lambda _: "text", usage=USED, latency_s=1)) as runtime:
            handle = await runtime.start(graph, Ask(3), run_id="it")
            made, handle = await at_its_end(runtime, handle)
            return made, handle.spend.prompt_tokens

    assert await sim.lives(life) == (Done(8), 20)


async def asks_a_person(sim: Simulation) -> None:
    graph = graph_of()

    @graph.human
    async def approve(ask: Ask) -> Approved:
        """May it be sent?"""
        raise NotImplementedError

    @graph.node
    async def send(ok: Approved) -> Done:
        await trio.sleep(1)
        return Done(ok.by)

    async def life(store: Store) -> Any:
        async with sim.open_runtime(store=store, graphs=[graph]) as runtime, trio.open_nursery() as nursery:

            async def person() -> None:
                while True:
                    for question in await runtime.questions():
                        with contextlib.suppress(AlreadyAnswered):
                            await runtime.answer(question.id, Approved("anna"), by="anna")
                    await trio.sleep(2)

            handle = await runtime.start(graph, Ask(1), run_id="it")
            nursery.start_soon(person)
            made, _ = await at_its_end(runtime, handle)
            nursery.cancel_scope.cancel()
            return made

    assert await sim.lives(life, within_s=600) == Done("anna")


async def takes_a_signal(sim: Simulation) -> None:
    graph: Graph[Ask, Done] = Graph("g", input=Ask, output=Done, signals=Paid)

    @graph.node
    async def bill(ask: Ask) -> Part:
        await trio.sleep(1)
        return Part(ask.n)

    @graph.node
    async def ship(part: Part, paid: Paid) -> Done:
        await trio.sleep(5)
        return Done([part.n, paid.euros])

    async def life(store: Store) -> Any:
        async with sim.open_runtime(store=store, graphs=[graph]) as runtime:
            handle = await runtime.start(graph, Ask(1), run_id="it")
            if handle.status != "succeeded":
                await runtime.send("it", Paid(7), key="payment")
            made, _ = await at_its_end(runtime, handle)
            return made

    assert await sim.lives(life, within_s=600) == Done([1, 7])


async def sends_at_most_once(sim: Simulation) -> None:
    sent: Counter[int] = Counter()
    graph = graph_of()

    @graph.node(effect=Effect.ONCE)
    async def send(ask: Ask) -> Part:
        sent[ask.n] += 1
        await trio.sleep(1)
        return Part(ask.n)

    @graph.node
    async def last(part: Part) -> Done:
        return Done(part.n)

    async def life(store: Store) -> Any:
        try:
            return await result(sim, graph, store)
        except StepUncertain:
            return None

    assert await sim.lives(life) in (Done(3), None)
    assert sent[3] <= 1


# --- patches ----------------------------------------------------------------------------------------------------------


def acknowledged_before_it_is_written(patch: pytest.MonkeyPatch) -> None:
    append, close = MemoryStore.append, MemoryStore.close

    def early(self: Any, rows: Any, sync: bool, done: Any, question: Any = None, answered: Any = None) -> None:
        written(self)
        vars(self)["late"] = (rows, sync, lambda _: None, question, answered)
        done(None)

    def written(self: Any) -> None:
        late = vars(self).pop("late", None)
        if late is not None:
            append(self, *late)

    async def closing(self: Any) -> None:
        written(self)
        await close(self)

    patch.setattr(MemoryStore, "append", early)
    patch.setattr(MemoryStore, "close", closing)


def the_reducer_is_told_when_the_task_is_woken(patch: pytest.MonkeyPatch) -> None:
    """Then records and reducer have two orders."""

    async def finished(self: Any, journal: Any, work: Any, output: Any) -> None:
        path, data = work.step.path, journal.encode(output)
        journal.note(output, data)
        await journal.append(RecordKind.FINISHED, path, data, None, journal.inputs_of(work.delivery)).wait()
        if not self.state.is_at_work(path):
            return
        commands = self.state.finished(path, output)
        work.step.status, work.step.ended_at_s = StepStatus.DONE, self.now()
        self._advance(commands, work.step.node)

    patch.setattr(ActiveRun, "_finished_for_good", finished)


def what_was_done_once_is_forgotten(patch: pytest.MonkeyPatch) -> None:
    add = Bought.add

    def forgetful(self: Any, record: Any, rest: str) -> None:
        if record.kind is not RecordKind.ONCE:
            add(self, record, rest)

    patch.setattr(Bought, "add", forgetful)


def the_runs_of_a_dead_worker_are_due_for_nobody(patch: pytest.MonkeyPatch) -> None:
    end = MemoryStore._end

    def stranding(self: Any, worker: Any, **options: Any) -> None:
        mine = [run for run in self._data.runs.values() if run.owner == worker.lease.worker]
        end(self, worker, **options)
        for run in mine:
            run.stored = attrs.evolve(run.stored, wake_at=None)

    patch.setattr(MemoryStore, "_end", stranding)


def answers_are_matched_by_their_order(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(attempt_journal, "digest_of_request", lambda *_: "0" * 32)


def a_lease_that_has_ended_is_not_noticed_by_an_append(patch: pytest.MonkeyPatch) -> None:
    def unfenced(self: Any, rows: Any, question: Any, answered: Any) -> None:
        self._data.commit([row for row in rows if row.run in self._data.runs], question, answered, self.wall_time())

    patch.setattr(MemoryStore, "_written", unfenced)


def what_earlier_lives_have_spent_is_not_charged(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(accepting, "spend_of", lambda _: Costs().spend)


def what_was_delivered_once_is_delivered_again(patch: pytest.MonkeyPatch) -> None:
    obeyed, result_of = Retelling._obeyed, Retelling.result

    def noting(self: Any, commands: Commands) -> Commands:
        vars(self).setdefault("delivered", []).extend(commands.deliveries)
        return obeyed(self, commands)

    def everything(self: Any) -> Resumed:
        resumed = result_of(self)
        if self.state.output is None:
            resumed.commands = Commands(tuple(vars(self)["delivered"]))
        return resumed

    patch.setattr(Retelling, "_obeyed", noting)
    patch.setattr(Retelling, "result", everything)


def a_question_is_closed_before_its_answer_is_written(patch: pytest.MonkeyPatch) -> None:
    post = MemoryStore.post

    async def hasty(self: Any, item: Posted) -> bool:
        if item.kind is not PostedKind.ANSWER:
            return await post(self, item)
        question = self._data.questions.get(item.key)
        if question is None or question.answered is not None:
            return False
        self._data.questions[item.key] = attrs.evolve(question, answered=self.wall_time())
        return True

    patch.setattr(MemoryStore, "post", hasty)


def a_step_that_may_run_once_begins_again(patch: pytest.MonkeyPatch) -> None:
    note = resuming._note

    def careless(resumed: Any, record: Any, path: str, how: str) -> None:
        if record.kind is not RecordKind.BEGAN:
            note(resumed, record, path, how)

    patch.setattr(resuming, "_note", careless)


def a_signal_is_taken_in_by_each_life(patch: pytest.MonkeyPatch) -> None:
    revived = Outside.revived

    async def again(self: Any, run: Any, records: Any) -> None:
        await revived(self, run, [])

    patch.setattr(Outside, "revived", again)


PLANTED: tuple[Planted, ...] = (
    Planted(gathers, acknowledged_before_it_is_written),
    Planted(gathers_the_first, the_reducer_is_told_when_the_task_is_woken),
    Planted(charges_once, what_was_done_once_is_forgotten),
    Planted(goes_on_without_being_started, the_runs_of_a_dead_worker_are_due_for_nobody),
    Planted(asks_two_things_at_once, answers_are_matched_by_their_order),
    Planted(gathers, a_lease_that_has_ended_is_not_noticed_by_an_append),
    Planted(counts_what_it_spends, what_earlier_lives_have_spent_is_not_charged),
    Planted(joins, what_was_delivered_once_is_delivered_again),
    Planted(asks_a_person, a_question_is_closed_before_its_answer_is_written),
    Planted(sends_at_most_once, a_step_that_may_run_once_begins_again),
    Planted(takes_a_signal, a_signal_is_taken_in_by_each_life),
)
