"""Most steps are passed on in one go, without a coroutine and a list of commands: what a run does must be the same as without."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import attrs
import trio
import trio.testing
from hypothesis import example, given, settings
from hypothesis import strategies as st

from actors import Graph, MailboxSpec
from actors.mailbox import Overflow
from actors.restarts import Redelivery
from runtime import open_runtime
from runtime.core.actor_cell import ActorCell
from runtime.graphs.runs.run import ActiveRun
from runtime.journal import MemoryStore
from tests.runtime.graphs.reducer.test_state import KINDS, M0, SHAPES, Out

PASSED_ON: Any = ActiveRun.passed_on


@attrs.frozen
class Node:
    """How a node of a random graph is: types by their number."""

    takes: int
    makes: int | None
    """None: the output."""
    fan: int | None
    """How many of that in a list; None: one, and no list."""
    form: str
    sleeps: bool
    capacity: int
    concurrency: int
    overflow: Overflow
    fails_at: int
    """Messages whose number this divides crash it once."""
    cancels_at: int
    """At the message of this number it cancels its own run, and returns all the same."""

    def add_to(self, graph: Graph, name: str, crashed: set[tuple[str, int]], cancel: Callable[[], None]) -> None:
        """Make it a node of `graph`."""
        makes, fan = Out if self.makes is None else KINDS[self.makes], self.fan

        async def work(taken: Any) -> Any:
            number = len(taken) if isinstance(taken, list) else taken.n
            if self.sleeps:
                await trio.sleep(number % 3 * 0.1)
            if self.fails_at and number % self.fails_at == 0 and (name, number) not in crashed:
                crashed.add((name, number))
                raise ValueError(f"{name} and {number}")
            if self.cancels_at and number == self.cancels_at:
                cancel()
            if number > 12:
                return None
            following = [makes(number + 1 + at) for at in range(1 if fan is None else fan)]
            return following[0] if fan is None else following

        taken = SHAPES[self.form](KINDS[self.takes])
        work.__annotations__ = {"taken": taken, "return": SHAPES["one" if fan is None else "list"](makes) | None}
        mailbox = MailboxSpec(capacity=self.capacity, overflow=self.overflow)
        redelivery = Redelivery(max_attempts=2)
        graph.node(name=name, concurrency=self.concurrency, mailbox=mailbox, redelivery=redelivery)(work)


@st.composite
def random_nodes(draw: Any) -> list[Node]:
    """Mostly one way for each message: a node for each type, and now and then one that gathers, fans out, fails or is full."""
    rarely = st.sampled_from([False, False, False, True])
    return [
        Node(
            takes=index % 5,
            makes=draw(st.sampled_from([*range(5), *range(5), None])) if index else draw(st.integers(1, 4)),
            fan=draw(st.integers(0, 3)) if draw(rarely) else None,
            form="list" if index >= 5 and draw(rarely) else "one",
            sleeps=draw(st.booleans()),
            capacity=draw(st.sampled_from([1, 2, 64])),
            concurrency=draw(st.sampled_from([1, 2, 64])),
            overflow=Overflow.REJECT if draw(rarely) else Overflow.BLOCK,
            fails_at=draw(st.integers(2, 6)) if draw(rarely) else 0,
            cancels_at=draw(st.integers(1, 12)) if draw(rarely) else 0,
        )
        for index in range(draw(st.integers(5, 7)))
    ]


class CancelAt(trio.abc.Instrument):
    """Cancels a run after so many steps of tasks."""

    def __init__(self, after: int | None) -> None:
        self.after, self.steps = after, 0
        self.run: ActiveRun | None = None

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """See trio."""
        if self.run is not None:
            self.steps += 1
            if self.steps == self.after:
                self.cancel()

    def cancel(self) -> None:
        """Cancel it now, if it has begun."""
        if self.run is not None:
            self.run.cancel()


@attrs.frozen
class Seen:
    """All that can be seen of one run."""

    outcome: str
    trace: Sequence[tuple[Any, ...]]
    events: Sequence[str]
    mailboxes: Sequence[object]
    instances: Sequence[tuple[Any, ...]]
    records: Sequence[object]
    steps: int
    passed_on: int


def seen(
    nodes: Sequence[Node], seed: int, *, is_fast: bool, listens: bool, is_stored: bool, cancel_at: int | None, max_steps: int = 60
) -> Seen:
    """A run of a graph of `nodes`, with the short way or without, under the schedule that `seed` chooses."""
    passed = [0]

    def passed_on(run: Any, work: Any, output: Any) -> bool:
        is_done = is_fast and PASSED_ON(run, work, output)
        passed[0] += is_done
        return is_done

    patched: Any = ActiveRun
    patched.passed_on = passed_on
    scheduler: Any = trio._core._run
    before, scheduler._r = scheduler._r, random.Random(seed)
    watch = CancelAt(cancel_at)
    try:
        return trio.run(
            _seen,
            nodes,
            listens,
            is_stored,
            watch,
            passed,
            max_steps,
            clock=trio.testing.MockClock(autojump_threshold=0),
            instruments=[watch],
        )
    finally:
        patched.passed_on, scheduler._r = PASSED_ON, before


async def _seen(
    nodes: Sequence[Node], listens: bool, is_stored: bool, watch: CancelAt, passed: list[int], max_steps: int
) -> Seen:
    graph, crashed = Graph("g", input=M0, output=Out), set[tuple[str, int]]()
    for index, node in enumerate(nodes):
        node.add_to(graph, f"n{index}", crashed, watch.cancel)
    graph._plan = graph._compile()[0]  # whatever problems it has
    events: list[str] = []
    store = MemoryStore() if is_stored else None
    with trio.fail_after(3600):
        async with open_runtime(seed=1, store=store) as runtime:
            deployment = await runtime.deploy(graph)

            trace: list[tuple[Any, ...]] = []
            with runtime.observe(lambda event: events.append(str(event))) if listens else nullcontext():
                try:
                    handle = await runtime.start(graph, M0(0), "r", max_steps=max_steps)
                    watch.run = runtime._engine._active.by_id.get("r")
                    outcome = repr(await handle.result())
                    trace = [attrs.astuple(step) for step in handle.trace]
                except Exception as error:  # noqa: BLE001 - whatever it is, it must be the same
                    outcome = f"{type(error).__name__}: {error}"
                    trace = [attrs.astuple(step) for step in getattr(error, "trace", ())]
                watch.run = None
                await trio.testing.wait_all_tasks_blocked()
            mailboxes = [pool.statistics() for pool in deployment.pools.values()]
            cells = sorted(deployment._supervisor.children.cells.items())
            instances = [(name, cell.hand.handled, cell.hand.failed) for name, cell in cells if isinstance(cell, ActorCell)]
            records = [] if store is None else [(record.seq, record.kind, record.path) async for record in store.read("r")]
    return Seen(outcome, trace, events, mailboxes, instances, records, watch.steps, passed[0])


def alike(nodes: Sequence[Node], seed: int, **how: Any) -> Seen:
    """A run that takes the short way where there is one, and does what one that never does."""
    fast, slow = (seen(nodes, seed, is_fast=is_fast, **how) for is_fast in (True, False))
    assert attrs.evolve(fast, passed_on=0) == slow
    return fast


LOOP = [
    Node(0, 1, None, "one", False, 1, 1, Overflow.BLOCK, 0, 0),
    Node(1, 0, None, "one", True, 1, 1, Overflow.BLOCK, 4, 0),
    Node(2, None, None, "one", False, 64, 64, Overflow.BLOCK, 0, 0),
]


@settings(max_examples=120, deadline=None)
@example(nodes=LOOP, seed=0, listens=False, is_stored=False, cancel_at=None, max_steps=5)
@given(
    nodes=random_nodes(),
    seed=st.integers(0, 2**16),
    listens=st.sampled_from([False, False, True]),
    is_stored=st.sampled_from([False, False, True]),
    cancel_at=st.none() | st.integers(1, 60),
    max_steps=st.integers(1, 60),
)
def test_a_run_does_what_it_does_without_the_short_way(nodes, seed, listens, is_stored, cancel_at, max_steps):
    alike(nodes, seed, listens=listens, is_stored=is_stored, cancel_at=cancel_at, max_steps=max_steps)


def test_a_run_that_is_cancelled_at_any_point_does_too():
    most = alike(LOOP, 0, listens=False, is_stored=False, cancel_at=None)
    assert most.passed_on > 5
    for point in range(1, most.steps + 1):
        alike(LOOP, 0, listens=False, is_stored=False, cancel_at=point)


def test_what_a_node_returns_after_its_run_was_cancelled_goes_nowhere():
    nodes = [attrs.evolve(node, cancels_at=5) for node in LOOP]
    seen = alike(nodes, 0, listens=False, is_stored=False, cancel_at=None)
    assert [number for number, step in enumerate(seen.trace) if step[6] != "done"] == [5]


def test_nothing_is_passed_on_in_a_run_that_is_stored():
    assert not alike(LOOP, 0, listens=False, is_stored=True, cancel_at=None).passed_on
