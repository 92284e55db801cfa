"""``python -m tests.benchmarks.evaluations``: what evaluating a graph costs beside its bare runs.

A thousand rows through three nodes, one of which asks a scripted model: run by as many tasks as an evaluation has, and evaluated
by the default metric. Processor time, in turns, in one process, with a new runtime for each.
"""

from __future__ import annotations

import argparse
import gc
import platform
import statistics
import sys
import time
from collections.abc import Sequence

import attrs
import trio

from actors import LM, Graph
from runtime import Runtime, open_runtime
from runtime.evaluate import Dataset, evaluate, exact
from runtime.evaluate.evaluating import AT_ONCE
from runtime.testing import ScriptedLM
from tests.benchmarks.measuring import judged

ROWS = 1_000
TARGET = 1.3
"""An evaluation, as a multiple of its bare runs."""


@attrs.frozen
class Question:
    """What comes in."""

    number: int


@attrs.frozen
class Draft:
    """On its way."""

    text: str


@attrs.frozen
class Said:
    """What the model answered."""

    text: str


@attrs.frozen
class Answer:
    """What goes out."""

    text: str


def answering() -> Graph[Question, Answer]:
    """Three nodes in a row; the second asks a model."""
    graph: Graph[Question, Answer] = Graph("answering", input=Question, output=Answer)

    @graph.node
    async def begin(question: Question) -> Draft:
        return Draft(f"What is {question.number}?")

    @graph.node
    async def ask(draft: Draft, lm: LM) -> Said:
        return Said((await lm.chat([{"role": "user", "content": draft.text}])).text)

    @graph.node
    async def end(said: Said) -> Answer:
        return Answer(said.text)

    return graph


async def bare(runtime: Runtime, graph: Graph[Question, Answer], data: Dataset) -> int:
    """Run all rows, and count the right answers."""
    left, right = iter(data), 0

    async def work() -> None:
        nonlocal right
        for example in left:
            output = await runtime.run(graph, example.input)
            right += output.text == example.expected

    async with trio.open_nursery() as nursery:
        for _ in range(AT_ONCE):
            nursery.start_soon(work)
    return right


async def evaluated(runtime: Runtime, graph: Graph[Question, Answer], data: Dataset) -> int:
    """Evaluate all rows, and count the right answers."""
    return round(sum((await evaluate(runtime, graph, data, exact)).scores().values()))


async def measured(rows: int, rounds: int) -> tuple[float, float, float]:
    """Processor seconds for all rows, bare and evaluated, and what one is of the other in a round: medians.

    A first round warms up. Each way begins without what the one before has left to collect, and they take turns to be first.
    """
    graph = answering()
    data = Dataset.of([{"number": number, "expected": "forty-two"} for number in range(rows)], graph)
    took: dict[str, list[float]] = {"bare": [], "evaluated": []}
    for number in range(rounds + 1):
        for way in (bare, evaluated) if number % 2 else (evaluated, bare):
            async with open_runtime(lm=ScriptedLM(lambda messages: "forty-two"), seed=1) as runtime:
                gc.collect()
                began = time.process_time()
                right = await way(runtime, graph, data)
                took_s = time.process_time() - began
            assert right == rows, f"{right} of {rows}"
            if number:
                took[way.__name__].append(took_s)
    ratio = statistics.median(after / before for before, after in zip(took["bare"], took["evaluated"], strict=True))
    return statistics.median(took["bare"]), statistics.median(took["evaluated"]), ratio


def report(bare_s: float, evaluated_s: float, ratio: float, rows: int) -> Sequence[str]:
    """The figures, and what they say about the target, as lines."""
    return [
        f"{rows:,} rows: bare runs {bare_s * 1e3:.0f} ms, evaluated {evaluated_s * 1e3:.0f} ms",
        "  " + judged(f"{ratio:.2f} × the bare runs, at most {TARGET:g}", ratio <= TARGET),
    ]


def main() -> int:
    """Measure, and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.evaluations", description=__doc__)
    parser.add_argument("--rows", type=int, default=ROWS, help=f"how many (default: {ROWS})")
    parser.add_argument("--rounds", type=int, default=9, help="how often each is done (default: 9)")
    parser.add_argument("--strict", action="store_true", help="exit with status 1 when the target is missed")
    options = parser.parse_args()
    sys.stdout.write(
        f"Python {platform.python_version()}, trio {trio.__version__}, medians of {options.rounds} rounds in turns\n\n"
    )
    text = "\n".join(report(*trio.run(measured, options.rows, options.rounds), options.rows))
    sys.stdout.write(f"{text}\n")
    return 1 if "MISSED" in text and options.strict else 0


if __name__ == "__main__":
    sys.exit(main())
