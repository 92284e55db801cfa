"""Crashes under every graph of these tests: what a test has run is run again when it is over, and ended at every record.

A graph that needs its test (it waits for what only the test does, or makes something else each time) is left out, with a reason.
"""

from __future__ import annotations

import contextlib
import importlib
import itertools
import json
import math
import os
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import attrs
import pytest
import trio

from actors import Effect, Graph, RunFailed
from actors.errors import UnderstudyError
from actors.graphs.annotations import Many
from actors.graphs.node import NodeSpec
from actors.graphs.tools import ToolForm
from actors.groups import leaves_of
from runtime import Runtime, open_runtime
from runtime.graphs.engine import Engine
from runtime.graphs.records.recorded_errors import RecordedError
from runtime.journal.memory import MemoryStore
from runtime.journal.store import Store
from runtime.messages.sameness import is_same
from runtime.testing import Ending, ScriptedLM, crash_everywhere, run_in_virtual_time
from runtime.testing.schedules.simulation import Deadlock

WANTED_IN: Final = "EVERY_RUN_CRASHED"
"""The environment variable that wants it: the file to which each test adds its figures."""
PAIRS: Final = "EVERY_RUN_CRASHED_TWICE"
"""The environment variable that wants pairs of crashes as well, at a sample of the records."""
MODELS: Final = "EVERY_RUN_CRASHED_WITH_MODELS"
"""The environment variable that has the libraries of language models imported first."""
WAIT_S: Final = 3_000.0
"""Virtual seconds after which a run that has not ended waits for something that its test does."""
LOOK_S: Final = 100.0
"""How often it is looked, in virtual seconds, whether a run waits for people alone: longer than a run stays in memory then."""
MOST_STEPS: Final = 60_000
"""Steps of tasks after which a run does not end by itself."""
MOST_GRAPHS: Final = 6
"""Of one test: some run thousands."""
MOST_PARAMETERS: Final = 8
"""Sets of parameters of one test: its graphs are much alike."""
MOST: Final = "EVERY_RUN_CRASHED_MOST"
"""The environment variable that says how many crashes of one graph are tried; else :data:`MOST_POINTS`."""
MOST_POINTS: Final = 120
"""Of one graph, spread evenly over its records."""
LAST: Final = {"text": "as it would end"}
"""What a model says at last where its test has not let it come so far."""
PAIRED: Final = 3
"""First crashes of pairs in one graph."""
FEWEST_POINTS: Final = 6
MOST_RECORDS: Final = 12_000
"""Of all lives of one graph, about."""
_TIME: Final = "it makes the time of day"
OTHERWISE: Final = {
    "test_a_failing_run_takes_nothing_from_another_not_even_time": _TIME,
    "test_a_further_attempt_sleeps_anew": _TIME,
    "test_a_node_that_does_something_besides_stays_in_memory": _TIME,
    "test_a_run_that_is_not_stored_just_sleeps": _TIME,
    "test_a_run_that_only_sleeps_leaves_memory_and_comes_back_in_time": _TIME,
    "test_a_sleep_ends_at_the_first_time_given_over_lives": "its sleep ends with its timeout in one life, and not in two",
    "test_a_stopped_graph_is_forgotten": "it looks whether anything still holds its graph, and what is to crash it later does",
    "test_a_timed_out_attempt_is_made_again": _TIME,
    "test_an_actor_is_a_node_that_keeps_its_state_from_run_to_run": "its node's state ends with the process",
    "test_b04_synchronous_modules_work_in_threads_at_once_with_the_context_of_their_node": "its nodes wait for one another",
    "test_crashes_around_a_sleep_change_nothing": _TIME,
    "test_failures_of_one_instant_are_all_reported": "of two that fail in one instant, the first to be recorded fails its run",
    "test_in_a_nested_run_it_leaves_memory_with_the_run_around_it": _TIME,
    "test_l14_a_node_that_takes_what_others_may_make_runs_after_everything_else": _TIME,
    "test_many_sleep_and_none_is_in_memory": _TIME,
    "test_one_that_cannot_be_left_in_time_is_cancelled_and_fails_the_run": "what is over is not opened again, and so not left",
    "test_out_of_attempts_the_run_fails_and_says_where_with_what_and_why": "its node counts the attempts of all lives",
    "test_the_first_of_a_fan_out_may_be_folded": _TIME,
    "test_when_the_node_that_caused_it_is_cancelled_another_that_needs_it_takes_over": _TIME,
    "test_whoever_waits_takes_over_when_the_one_that_works_it_out_is_cancelled": _TIME,
    "test_without_it_the_node_goes_on_where_it_is_and_begins_once": _TIME,
}
"""Tests whose graphs are not the same after a crash, and need not be, by name, with the reason."""


_tried: Final = Counter[str]()
"""How often each test was looked at in this process: once for each set of its parameters."""


@attrs.frozen(eq=False)
class Captured:
    """A graph as a test has run it."""

    graph: Graph[Any, Any]
    message: object
    max_steps: float
    lm: Any
    lms: Mapping[str, Any]

    async def outcome(self, store: Store) -> Any:
        """How one life of its run ends."""
        async with open_runtime(store=store, seed=1, lm=self.lm, lms=self.lms, graphs=[self.graph]) as runtime:
            handle = await runtime.start(self.graph, self.message, run_id="it", max_steps=self.max_steps)
            with trio.move_on_after(WAIT_S) as limit, _ending_after(MOST_STEPS, limit):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(_until_only_people_are_missing, runtime, limit)
                    ended = await _ended(handle)
                    nursery.cancel_scope.cancel()
                return ended
            if limit.deadline == -math.inf:
                return "endless", ""
            return "waits", sorted(question.id for question in await runtime.questions("it"))


async def _ended(handle: Any) -> tuple[str, Any]:
    """How the run ends, once it does."""
    try:
        return "made", await handle.result()
    except RunFailed as failure:
        return "failed", sorted(_words_of(leaf) for leaf in leaves_of(failure))
    except UnderstudyError as error:
        return "ended", type(error).__name__


async def _until_only_people_are_missing(runtime: Runtime, limit: trio.CancelScope) -> None:
    """Cancel `limit` when nothing has come but questions without an end, twice in succession: waiting on would only take long."""
    before: list[str] = []
    while True:
        await trio.sleep(LOOK_S)
        questions = await runtime.questions("it")
        now = [question.id for question in questions]
        is_waiting = (await runtime.handle("it")).status == "waiting"
        if now and now == before and is_waiting and all(question.due_at is None for question in questions):
            limit.cancel()
        before = now


@contextlib.contextmanager
def _ending_after(steps: int, scope: trio.CancelScope) -> Generator[None]:
    """Cancel `scope` when so many steps of tasks are over."""
    left = itertools.count(steps, -1)

    class Counting(trio.abc.Instrument):
        def before_task_step(self, task: trio.lowlevel.Task) -> None:
            if next(left) == 0:
                scope.deadline = -math.inf

    counting = Counting()
    trio.lowlevel.add_instrument(counting)
    try:
        yield
    finally:
        trio.lowlevel.remove_instrument(counting)


def _words_of(leaf: Any) -> tuple[str, str]:
    """The type of an error, and where it was; one of an earlier life whose class cannot be had tells it in words."""
    cause = leaf if leaf.__cause__ is None else leaf.__cause__
    kind = str(cause).partition(":")[0] if isinstance(cause, RecordedError) else type(cause).__name__
    return kind.rpartition(".")[2], getattr(leaf, "path", "")


def _is_alike(one: Any, other: Any) -> bool:
    return bool(one == other or is_same(one, other) is None)


def _nodes_in(graph: Graph[Any, Any]) -> Iterator[NodeSpec]:
    """Its nodes, and those of the graphs that are its nodes or their tools."""
    for spec in graph.plan().nodes.values():
        yield spec
        tools = [each.tool.what for each in spec.tools if each.tool.form is ToolForm.GRAPH]
        for inside in ([spec.embedded] if isinstance(spec.embedded, Graph) else []) + tools:
            yield from _nodes_in(inside)


def _is_as_promised(graph: Graph[Any, Any]) -> Callable[[Any, Any], bool]:
    """Whether a life has ended as the run would have ended, or as is said of nodes that cannot begin again."""
    nodes = list(_nodes_in(graph))
    may_break = any(spec.fan_out is Many.STREAM and not spec.options.repeatable for spec in nodes)
    may_park = any(Effect.ONCE in (spec.options.effect, *(each.tool.effect for each in spec.tools)) for spec in nodes)

    def same(made: Any, expected: Any) -> bool:
        if may_park and made == ("ended", "StepUncertain"):
            return True
        if made[0] == expected[0] == "failed":
            return True  # which of several that fail in one instant is recorded first, and in which words a later life has it
        if made[0] == "failed" and {word for word, _ in made[1]} == ({"StreamBroken"} if may_break else {"StepUncertain"}):
            return True
        return _is_alike(made, expected)

    return same


class Crashed:
    """What one test has run, and what came of crashes in it."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._seen: dict[tuple[int, str], tuple[Captured, Engine]] = {}
        self._lms: list[ScriptedLM] = []

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Note each graph that is run from now on, unless the test's are left out: a graph that is noted is held as well."""
        _tried[self._name] += 1
        if self._name in OTHERWISE or _tried[self._name] > MOST_PARAMETERS:
            return
        for library in ("dspy", "litellm") if os.environ.get(MODELS) else ():
            importlib.import_module(library)  # in a thread it may take longer, on a busy machine, than virtual time waits
        engine: Any = Engine
        make = engine.__init__

        def made(engine: Engine, *args: Any, **more: Any) -> None:
            make(engine, *args, **more)
            models: Any = engine._deployments._models
            self._lms += [lm for lm in (models._default, *models._named.values()) if isinstance(lm, ScriptedLM)]

        monkeypatch.setattr(engine, "__init__", made)
        for name in ("run", "start", "stream"):
            monkeypatch.setattr(engine, name, self._noting(getattr(engine, name), 3 if name == "start" else 2))

    def _noting(self, call: Callable[..., Any], at: int) -> Callable[..., Any]:
        def noted(engine: Engine, graph: Any, message: object, *args: Any, **more: Any) -> Any:
            if isinstance(graph, Graph) and len(self._seen) < MOST_GRAPHS:
                max_steps = more["max_steps"] if "max_steps" in more else args[at - 2]
                models: Any = engine._deployments._models
                captured = Captured(graph, message, max_steps, models._default, dict(models._named))
                self._seen.setdefault((id(graph), repr(message)), (captured, engine))
            return call(engine, graph, message, *args, **more)

        return noted

    def crash(self) -> None:
        """Crash each of them everywhere, and add the figures to the file that wants them."""
        for captured, _ in self._seen.values():
            lms = {name: _again(lm, self._lms) for name, lm in captured.lms.items()}
            told = _told(attrs.evolve(captured, lm=_again(captured.lm, self._lms), lms=lms))
            with Path(os.environ[WANTED_IN]).open("a", encoding="utf-8") as file:
                file.write(json.dumps({"test": self._name, "graph": captured.graph.name, **told}) + "\n")


def _told(captured: Captured) -> Mapping[str, Any]:
    """The figures of one graph: crash points, or why it was left out, or what was wrong."""
    records: list[int] = []
    first, second = _outcome(captured, records), _outcome(captured, records)
    if not _is_alike(first, second):
        return {"left_out": "it makes something else each time"}
    if first[0] == "endless":
        return {"left_out": "it does not end by itself"}
    if first[0] in ("stuck", "broken"):
        return {"left_out": f"without its test it is {first[0]}: {first[1]}"}
    if first[0] == "failed" and any(word == "LMUnavailable" for word, _ in first[1]):
        return {"left_out": "the server of its model was its test's"}
    if first[0] == "waits" and not first[1]:
        return {"left_out": "it waits for what its test does"}
    most = max(FEWEST_POINTS, min(int(os.environ.get(MOST, MOST_POINTS)), MOST_RECORDS // max(records)))
    try:
        crashes = run_in_virtual_time(_everywhere, captured, list(Ending), most, False)
        more = run_in_virtual_time(_everywhere, captured, list(Ending)[:2], PAIRED, True) if os.environ.get(PAIRS) else 0
    except (AssertionError, Exception) as error:  # noqa: BLE001 - any error is what was looked for
        return {"wrong": "; ".join(f"{type(leaf).__name__}: {leaf}" for leaf in leaves_of(error))}
    return {"points": crashes, "pairs": more, "ends": first[0]}


async def _everywhere(captured: Captured, endings: Iterable[Ending], most: int, pairs: bool) -> int:
    return (
        await crash_everywhere(
            captured.outcome, same=_is_as_promised(captured.graph), endings=list(endings), most=most, pairs=pairs
        )
    ).points


def _outcome(captured: Captured, records: list[int]) -> Any:
    store = MemoryStore()
    try:
        made = run_in_virtual_time(captured.outcome, store)
        records.append(int(store.statistics()["records"]))
        return made
    except Deadlock as error:
        return "stuck", str(error).splitlines()[0]
    except Exception as error:  # noqa: BLE001 - it needs something that its test has set up
        return "broken", f"{type(error).__name__}: {error}".splitlines()[0]


def _again(lm: Any, others: Iterable[ScriptedLM]) -> Any:
    """A model that answers what `lm` has answered, as often as it is asked, whatever else was asked before.

    What it was not asked, `others` may have been, which took its place when its test went on with the run in another process. If
    no one was asked exactly that, the answer is that to the same calls of the same tools, whatever they gave: a tool of a test
    may count its calls. What no model of the test was asked, since the test ends before, is answered with :data:`LAST`.
    """
    if not isinstance(lm, ScriptedLM):
        return lm
    answers: dict[str, Any] = {}
    for each in (lm, *others):
        for call in each.calls:
            if call.completion is not None:
                answers.setdefault(repr(call.messages), call.completion)
                answers.setdefault(_without_results(call.messages), call.completion)
    if not answers:
        return lm

    def script(messages: Any) -> Any:
        exact = answers.get(repr(tuple(messages)))
        return answers.get(_without_results(messages), LAST) if exact is None else exact

    return ScriptedLM(script)


def _without_results(messages: Iterable[Mapping[str, Any]]) -> str:
    """What a model is asked, without what tools have given."""
    return repr([{**message, "content": None} if message["role"] == "tool" else message for message in messages])


def figures_of(file: Path) -> tuple[list[Mapping[str, Any]], Counter[str]]:
    """What the tests have told, and the sums of it."""
    told = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []
    sums = Counter[str](graphs=len(told))
    for each in told:
        sums["crashed"] += "points" in each
        sums["points"] += each.get("points", 0)
        sums["pairs"] += each.get("pairs", 0)
        sums["wrong"] += "wrong" in each
        if "left_out" in each:
            sums[each["left_out"].partition(":")[0]] += 1
    return told, sums


def is_wanted() -> bool:
    """Whether this run of the suite is to crash every run."""
    return bool(os.environ.get(WANTED_IN))
