"""Writes ``_static/timelines*.svg`` again: ``.venv/bin/python -m docs.timelines``. The runs are real, and their time is virtual.

The study of ``understudy demo``: three language-model calls, made five ways, and once more with a call that fails. Scripted
models take the study's latencies on the virtual clock, so the picture is the same on every machine, and a test compares it.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from html import escape
from pathlib import Path

import attrs
import trio
import trio.testing

from actors.errors import LMUnavailable
from runtime.app import open_runtime
from runtime.cli.demo_graph import Intent, graph
from runtime.cli.study import EXTRACTORS, LABEL, NOW, TEXT, Extractor
from runtime.core.events import ActorCrashed
from runtime.graphs.records.run_events import LMCalled, LMCallStarted, NodeFinished, NodeStarted
from runtime.testing.models.answers import Answer
from runtime.testing.models.scripted_lm import ScriptedLM
from runtime.testing.schedules.deadlock_watch import run_in_virtual_time

FOLDER = Path(__file__).parent / "_static"
TARGETS = {"timelines.svg": 2, "timelines-narrow.svg": 1}
"""Each picture, and its columns: that for a phone has one."""
FAILING = "other"
INTENT = Intent(TEXT, LABEL, NOW)
MESSAGES = [{"role": "user", "content": TEXT}]


@attrs.define
class Row:
    """One of the three: when its work was in progress, its requests at the model, and its crashes, in seconds."""

    name: str
    work: tuple[float, float] = (0.0, 0.0)
    requests: list[tuple[float, float, bool]] = attrs.field(factory=list[tuple[float, float, bool]])
    """From, until, whether it was answered."""
    crashes: list[float] = attrs.field(factory=list[float])


@attrs.frozen
class Run:
    """One way to make the three calls."""

    title: str
    rows: tuple[Row, ...]

    @property
    def end_s(self) -> float:
        """When the last had ended."""
        return max(row.work[1] for row in self.rows)


def models(failing: str | None = None) -> dict[str, ScriptedLM]:
    """A model for each extractor; that of `failing` is overloaded once, half-way through its answer."""
    made: dict[str, ScriptedLM] = {}
    for each in EXTRACTORS:
        answers: list[Answer] = [Answer(each.answer, latency_s=each.latency_s)]
        if each.name == failing:
            error = LMUnavailable("The model is overloaded.", model=each.name)
            answers.insert(0, Answer(error, latency_s=each.latency_s / 2))
        made[each.name] = ScriptedLM(answers, model=each.name)
    return made


Call = Callable[[Row, Extractor], Awaitable[None]]


async def timed(row: Row, call: Callable[[], Awaitable[object]]) -> None:
    """Make a call, and note when it was at the model."""
    arrived_s = trio.current_time()
    await call()
    row.requests.append((arrived_s, trio.current_time(), True))


async def by_hand(call: Call, *, together: bool) -> tuple[Row, ...]:
    """All three calls, one after another, or in one nursery; there each begins as soon as the one before it has begun."""
    rows = tuple(Row(each.name) for each in EXTRACTORS)
    began = {each.name: trio.Event() for each in EXTRACTORS}

    async def work(row: Row, extractor: Extractor, started_s: float, before: Extractor | None) -> None:
        if before is not None:
            await began[before.name].wait()  # trio shuffles tasks that are ready together, and the picture must not
        began[row.name].set()
        await call(row, extractor)
        row.work = (started_s, trio.current_time())

    if not together:
        for row, extractor in zip(rows, EXTRACTORS, strict=True):
            await work(row, extractor, trio.current_time(), None)
        return rows
    async with trio.open_nursery() as nursery:
        for row, extractor, before in zip(rows, EXTRACTORS, (None, *EXTRACTORS), strict=False):
            nursery.start_soon(work, row, extractor, 0.0, before)
    return rows


async def awaited(lms: Mapping[str, ScriptedLM], row: Row, extractor: Extractor) -> None:
    """The event loop goes on while the answer is on its way."""
    await timed(row, functools.partial(lms[extractor.name].chat, MESSAGES))


async def holding_the_loop(row: Row, extractor: Extractor) -> None:
    """A synchronous client: its time passes, and no task of the loop runs meanwhile."""

    async def call() -> None:
        clock = trio.lowlevel.current_clock()
        assert isinstance(clock, trio.testing.MockClock)
        clock.jump(extractor.latency_s)

    await timed(row, call)


async def in_a_thread(lms: Mapping[str, ScriptedLM], row: Row, extractor: Extractor) -> None:
    """The synchronous function waits in a thread; the loop goes on."""

    def function() -> None:
        trio.from_thread.run(awaited, lms, row, extractor)

    await trio.to_thread.run_sync(function)


class Watch:
    """An instrument that notes what the events of the demo's graph tell about its three nodes."""

    def __init__(self) -> None:
        self.rows = {each.node: Row(each.name) for each in EXTRACTORS}
        self._asked: dict[str, float] = {}

    def __call__(self, event: object) -> None:
        """Note one event."""
        match event:
            case NodeStarted(node=node, at_s=at_s) if node in self.rows and not self.rows[node].requests:
                self.rows[node].work = (at_s, at_s)
            case LMCallStarted(node=node, at_s=at_s):
                self._asked[node] = at_s
            case LMCalled(node=node, at_s=at_s, error=error):
                self.rows[node].requests.append((self._asked[node], at_s, error is None))
            case ActorCrashed(address=address, at_s=at_s):
                self._row(address).crashes.append(at_s)
            case NodeFinished(node=node, at_s=at_s) if node in self.rows:
                self.rows[node].work = (self.rows[node].work[0], at_s)
            case _:
                pass

    def _row(self, address: str) -> Row:
        return next(row for node, row in self.rows.items() if f"/{node}" in address)


async def as_a_graph(failing: str | None = None) -> tuple[Row, ...]:
    """The demo's graph, as its events tell it."""
    watch = Watch()
    async with open_runtime(lms=models(failing), seed=1) as runtime:
        with runtime.observe(watch):
            await runtime.run(graph, INTENT)
    return tuple(watch.rows.values())


def measured() -> list[Run]:
    """All runs, each in a virtual time that begins at 0."""

    def hand(call: Call, *, together: bool = True) -> tuple[Row, ...]:
        return run_in_virtual_time(functools.partial(by_hand, call, together=together))

    return [
        Run("(a) one after another", hand(functools.partial(awaited, models()), together=False)),
        Run("(b) async, but the client is synchronous", hand(holding_the_loop)),
        Run("(c) a thread for each call", hand(functools.partial(in_a_thread, models()))),
        Run("(d) async, all the way", hand(functools.partial(awaited, models()))),
        Run("(e) an understudy graph", run_in_virtual_time(as_a_graph)),
        Run("(e) when a call fails", run_in_virtual_time(functools.partial(as_a_graph, FAILING))),
    ]


# --- the picture ----------------------------------------------------------------------------------------------------------

SCALE_S = 3.2
PANEL, BAR_LEFT, BAR_WIDTH = 400.0, 62.0, 318.0
TITLE, ROW, FOOT, GAP = 26.0, 20.0, 24.0, 14.0
HEIGHT = TITLE + 3 * ROW + FOOT + GAP
GREY, BLUE, RED, INK = "#8c959f", "#0969da", "#cf222e", "#24292f"


def draw(runs: Sequence[Run], columns: int = 2) -> str:
    """The picture, ending with a newline: columns of panels on one scale."""
    rows = math.ceil(len(runs) / columns)
    marks = list(legend(columns))
    width, bottom = columns * PANEL, rows * HEIGHT + 8
    height = bottom + max(y for _, y, _, _ in marks) + ROW
    size = f'width="{width:g}" height="{height:g}"'
    font = f'font-family="ui-monospace, monospace" font-size="13" fill="{INK}"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} viewBox="0 0 {width:g} {height:g}" {font}>',
        "<title>Three language-model calls, made five ways, and a failed call that is survived</title>",
        f'<rect {size} fill="white"/>',
    ]
    for index, each in enumerate(runs):
        column, row = divmod(index, rows)
        lines += [f'<g transform="translate({column * PANEL:g} {row * HEIGHT + 8:g})">', *panel(each), "</g>"]
    for x, y, mark, words in marks:
        lines += [f'<g transform="translate({x:g} {bottom + y + 8:g})">', mark, text(28, 0, words, size=12), "</g>"]
    return "\n".join([*lines, "</svg>\n"])


def panel(run: Run) -> Iterator[str]:
    """One way: a title, three bars, and what follows from them."""
    yield text(12, 14, run.title, weight="bold")
    for tick in range(4):
        yield f'<path d="M{at(tick):.1f} {TITLE:g}V{TITLE + 3 * ROW:g}" stroke="#d8dee4"/>'
    for index, row in enumerate(run.rows):
        yield from bar(row, TITLE + (index + 0.5) * ROW)
    yield text(BAR_LEFT, TITLE + 3 * ROW + 14, f"{run.end_s:.3f} s · {in_flight(run)} in flight at most", fill="#57606a", size=12)


def bar(row: Row, middle: float) -> Iterator[str]:
    """One node: thin while it works, thick while its request is at the model."""
    yield text(12, middle + 4, row.name, size=12)
    yield f'<path d="M{at(row.work[0]):.1f} {middle:g}H{at(row.work[1]):.1f}" stroke="{GREY}" stroke-width="2"/>'
    for begin_s, end_s, is_answered in row.requests:
        box = f'x="{at(begin_s):.1f}" y="{middle - 5:g}" width="{at(end_s) - at(begin_s):.1f}" height="10"'
        yield f'<rect {box} rx="2" fill="{BLUE if is_answered else RED}"/>'
    for crash_s in row.crashes:
        x = at(crash_s)
        yield f'<path d="M{x - 5:.1f} {middle - 5:g}l10 10m0 -10l-10 10" stroke="{RED}" stroke-width="2.5"/>'


def legend(columns: int) -> Iterator[tuple[float, float, str, str]]:
    """What the marks mean: the place of each below the panels, its drawing and its words; one column has several lines."""
    request = f'<rect y="-9" width="22" height="10" rx="2" fill="{BLUE}"/>'
    waiting = f'<path d="M0 -4h22" stroke="{GREY}" stroke-width="2"/>'
    crash = f'<path d="M6 -9l10 10m0 -10l-10 10" stroke="{RED}" stroke-width="2.5"/>'
    places = [(12, 0), (212, 0), (312, 0), (0, 0)] if columns > 1 else [(12, 0), (212, 0), (12, ROW), (12, 2 * ROW)]
    words = ["a request at the model", "waiting", "the actor crashes;", "its successor gets the message again"]
    if columns > 1:
        words[2:] = [" ".join(words[2:])]
    for (x, y), mark, told in zip(places, (request, waiting, crash, ""), words, strict=False):
        yield x, y, mark, told


def in_flight(run: Run) -> int:
    """The most requests that were at the models together."""
    spans = [(begin_s, end_s) for row in run.rows for begin_s, end_s, _ in row.requests]
    return max(sum(begin_s <= at_s < end_s for begin_s, end_s in spans) for at_s, _ in spans)


def at(time_s: float) -> float:
    """The place of a time in a panel."""
    return BAR_LEFT + time_s / SCALE_S * BAR_WIDTH


def text(x: float, y: float, words: str, *, size: float = 13, weight: str = "normal", fill: str = INK) -> str:
    """Words whose line begins at a place."""
    return f'<text x="{x:g}" y="{y:g}" font-size="{size:g}" font-weight="{weight}" fill="{fill}">{escape(words)}</text>'


if __name__ == "__main__":
    found = measured()
    for name, columns in TARGETS.items():
        (FOLDER / name).write_text(draw(found, columns), encoding="utf-8")
