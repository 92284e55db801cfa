"""A graph on every row of a data set: as many runs at the same time as wanted, under one budget, kept as they end."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, final

import attrs
import trio

from actors.argument_checks import check_count
from actors.errors import LMBudgetExhausted, UnderstudyError, UsageError
from actors.graphs.graph import Graph
from actors.words import said
from runtime.evaluate.dataset import Dataset, Example
from runtime.evaluate.progress import Progress, RunningMean, Told
from runtime.evaluate.results import RAISED, SHOWN_STEPS, Evaluation, Moments, RowResult, header
from runtime.evaluate.scoring import NOTHING, Measure, Metric, Score, Trace, metrics_of, result_of, scored
from runtime.graphs.records.labels import MAX_LABEL
from runtime.lm.limits.budget import Budget

if TYPE_CHECKING:
    from runtime.app import Runtime

AT_ONCE = 64
SHOWN_CHARS = 2_000
SPENT = "the budget is spent"
Key = tuple[str, int, str]
"""The id of a row, which repetition it is, and the digest of its input."""


@final
@attrs.define(eq=False)
class Evaluator:
    """Runs rows of one graph and judges their outputs; :func:`evaluate` and comparisons are made of it."""

    runtime: Runtime
    graph: Graph[Any, Any]
    metrics: tuple[Metric, ...]
    name: str | None = None
    budget: Budget | None = None
    judges: Runtime | None = None
    """Where metrics that are graphs run; None: where the graph does."""

    async def row(self, example: Example, repeat: int) -> tuple[RowResult, BaseException | None]:
        """One run of `example`, judged; and the error that it, or a metric, ended with.

        Raises what starting a run raises, and DeclarationError for a metric that is wrong for every row.
        """
        labels = {"row": example.id[:MAX_LABEL], "repeat": str(repeat), **({"evaluation": self.name} if self.name else {})}
        run_id = None
        if self.name:
            run_id = f"{self.name}-{_plain(self.graph.name)}-{example.digest}-{_plain(example.id)}-{repeat}"
        began = trio.current_time()
        output: Any = None
        failure: Exception | None = None
        # What goes wrong here, before there is a run, would go wrong for every row, and says nothing about this one.
        handle = await self.runtime._started(  # pyright: ignore[reportPrivateUsage]  # it is waited for below
            self.graph, example.input, run_id, math.inf, self.budget, labels, durable=run_id is not None
        )
        try:
            output = await result_of(handle)
        except (UnderstudyError, ExceptionGroup) as error:
            failure = error
        latency_s = trio.current_time() - began
        trace, began_s = handle.trace, handle.started_at_s
        is_here = not math.isnan(began_s)
        known: dict[str, Any] = {
            "id": example.id,
            "repeat": repeat,
            "digest": example.digest,
            "labels_digest": example.labels_digest,
            "slice": example.slice,
            "input": _shown(example.input),
            "output": _shown(output) if failure is None else "",
            "error": None if failure is None else _shown(failure),
            "latency_s": latency_s if is_here else None,
            "steps": len(trace),
            "spend": handle.spend,
            "timeline": _timeline(began_s, trace) if is_here else (),
        }
        measured = {
            metric.name: metric.judge.of(known["spend"], known["latency_s"] or 0.0, known["steps"])
            for metric in self.metrics
            if isinstance(metric.judge, Measure)
        }
        if failure is not None:
            return RowResult(**known, scores={metric.name: metric.worst for metric in self.metrics} | measured), failure
        known["scores"] = measured
        return await self._judged(known, example, output, trace, labels)

    async def _judged(
        self, known: dict[str, Any], example: Example, output: Any, trace: Trace, labels: dict[str, str]
    ) -> tuple[RowResult, BaseException | None]:
        scores: dict[str, float] = known["scores"]
        reasons, judging = dict[str, str](), NOTHING
        failure: BaseException | None = None
        for metric in self.metrics:
            if metric.name in scores:
                continue
            score, used = await scored(self.judges or self.runtime, metric, example, output, trace, labels, self.budget)
            judging = used if judging is NOTHING else judging if used is NOTHING else judging.plus(used)
            if isinstance(score, Exception):
                failure = score
                score = Score(metric.worst, f"{RAISED} {_shown(score)}")
            scores[metric.name] = score.value
            if score.reason:
                reasons[metric.name] = score.reason
        return RowResult(**known, reasons=reasons, judging=judging), failure


async def evaluate(
    runtime: Runtime,
    graph: Graph[Any, Any],
    data: Dataset | Iterable[Any],
    metrics: Iterable[object] | object,
    *,
    repeats: int = 1,
    at_once: int = AT_ONCE,
    budget: Budget | None = None,
    out: str | Path | None = None,
    name: str | None = None,
    told: Told | None = None,
) -> Evaluation:
    """Run `graph` on every row of `data` and judge the outputs.

    A row whose run fails is a result too, with the lowest score of every metric. Left by a cancellation, no part of it goes on,
    and `out` holds what was done.

    Args:
        runtime: where the runs are made.
        graph: what is evaluated.
        data: a ``Dataset``, or rows for ``Dataset.of``.
        metrics: functions of an example, an output and a trace, graphs, or ``Metric`` objects; see ``runtime.evaluate.Metric``.
        repeats: how many times each row is run; a row's score is the mean.
        at_once: the most runs at the same time, beside the limits of the models.
        budget: what all runs, and the runs of judges, may use together; when it is spent, the evaluation ends with the rows that
            it has. So it does when a run ends because a smaller budget of its graph is spent.
        out: a file of JSON Lines to which each result is added as it ends. Results that it holds already are not made again,
            those of runs that failed among them; except where the input or the labels of the row have changed.
        name: with a store, every row is a durable run whose id begins with it: the same evaluation started again takes up the
            runs that an earlier process began, and pays for none again. Without it, nothing is stored.
        told: is told how far it is, after each row.

    Raises:
        DeclarationError: an argument is wrong, or a metric gave something that isn't a score.
        UsageError: `out` is of another graph, or of other metrics, or cannot be written; or a run cannot be started.
        StoreError: a run cannot be stored.
    """
    rows = data if isinstance(data, Dataset) else Dataset.of(data, graph)
    check_count(evaluate, "repeats", repeats)
    check_count(evaluate, "at_once", at_once)
    evaluator = Evaluator(runtime, graph, metrics_of(metrics), name, budget)
    wanted = {(each.id, repeat, each.digest): each for each in rows for repeat in range(repeats)}
    with _opened(out, evaluator, wanted) as (kept, write):
        work = _Work(evaluator, wanted, kept, write, told)
        return await work.run(at_once, rows)


@final
@attrs.define(eq=False)
class _Work:
    evaluator: Evaluator
    wanted: dict[Key, Example]
    done: dict[Key, RowResult]
    write: Callable[[RowResult], None]
    told: Told | None
    stopped: str | None = attrs.field(default=None, init=False)
    began_s: float = attrs.field(factory=trio.current_time, init=False)
    tally: RunningMean = attrs.field(factory=RunningMean, init=False)
    kept: int = attrs.field(default=0, init=False)
    """Runs that are wanted, and that the file holds already."""
    judged: int = attrs.field(default=0, init=False)
    """Runs that are wanted and done, those that were kept among them."""

    async def run(self, at_once: int, rows: Dataset) -> Evaluation:
        left = iter([key for key in self.wanted if key not in self.done])
        kept = list(self.done.values())
        self.kept = self.judged = len(kept)
        if self.told is not None:
            for result in kept:
                self._count(result)
        wrong: list[UnderstudyError] = []
        async with trio.open_nursery() as nursery:

            async def work() -> None:
                for key in left:
                    if self.stopped is not None:
                        return
                    try:
                        result, failure = await self.evaluator.row(self.wanted[key], repeat=key[1])
                        if failure is not None and is_spent(failure, self.evaluator.budget):
                            self.stopped = SPENT
                            return  # the runs that are in progress have reserved what they need
                        self.write(result)
                    except UnderstudyError as error:
                        wrong.append(error)
                        nursery.cancel_scope.cancel()
                        return
                    self.done[key] = result
                    self.judged += 1
                    if self.told is not None:
                        self._count(result)
                        self._tell(self.told)

            for _ in range(min(at_once, len(self.wanted))):
                nursery.start_soon(work)
        if wrong:
            raise wrong[0]
        results = tuple(self.done[key] for key in self.wanted if key in self.done)
        names = tuple(metric.name for metric in self.evaluator.metrics)
        return Evaluation(self.evaluator.graph.name, names, results, rows.bad, self.stopped, self.kept)

    def _count(self, result: RowResult) -> None:
        cost_usd = result.spend.cost_usd + result.judging.cost_usd
        self.tally.add(result.id, result.scores[self.evaluator.metrics[0].name], cost_usd)

    def _tell(self, told: Told) -> None:
        tally, took_s = self.tally, trio.current_time() - self.began_s
        of = len(self.wanted)
        told(Progress(self.judged, of, tally.mean, tally.cost_usd, took_s, tally.interval, kept=self.kept))


def is_spent(error: BaseException, budget: Budget | None) -> bool:
    """Whether a run under `budget` ended because a budget was spent: this one, or a smaller one that its graph has itself."""
    if budget is None:
        return False
    if isinstance(error, BaseExceptionGroup):
        parts: tuple[BaseException, ...] = error.exceptions  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        return any(is_spent(each, budget) for each in parts)
    causes = [error, *([error.__cause__] if error.__cause__ is not None else [])]
    return any(isinstance(each, LMBudgetExhausted) for each in causes)


@contextmanager
def _opened(
    out: str | Path | None, evaluator: Evaluator, wanted: Mapping[Key, Example]
) -> Generator[tuple[dict[Key, RowResult], Callable[[RowResult], None]]]:
    """The results that the file holds of what is wanted, and what adds one to it."""
    if out is None:
        yield {}, lambda result: None
        return
    path, first = Path(out), header(evaluator.graph.name, [metric.name for metric in evaluator.metrics])
    kept: dict[Key, RowResult] = {}
    others: list[RowResult] = []
    if path.exists() and path.stat().st_size:
        before = Evaluation.every_line(path)
        if before.header() != first:
            raise UsageError(
                f"{path} holds an evaluation of graph {before.graph!r} by {', '.join(before.metrics)}, "
                f"not of {evaluator.graph.name!r} by {', '.join(metric.name for metric in evaluator.metrics)}.\n"
                "  Fix: write to another file, or delete this one."
            )
        for row in before.results:
            example = wanted.get((row.id, row.repeat, row.digest))
            if example is not None and row.labels_digest in {"", example.labels_digest}:
                kept[row.id, row.repeat, row.digest] = row
        # What belongs to other rows, or to these before they were changed, was paid for and stays; the newest is the last.
        others = [row for row in before.results if kept.get((row.id, row.repeat, row.digest)) is not row]
    whole = "\n".join([first, *(row.to_line() for row in (*others, *kept.values()))]) + "\n"  # without a last line that was cut
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(f"{path.name}.tmp")
        beside.write_text(whole, encoding="utf-8")
        beside.replace(path)  # at no moment is there less in it than was done
        file = path.open("a", encoding="utf-8")
    except OSError as error:
        raise _unwritable(path, error) from error
    with file:
        yield kept, lambda result: _add(file, path, result)


def _add(file: TextIO, path: Path, result: RowResult) -> None:
    try:
        file.write(result.to_line() + "\n")
        file.flush()
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> UsageError:
    return UsageError(
        f"out={str(path)!r} cannot be written: {error.strerror or said(error)}. What it holds is kept.\n"
        "  Fix: make room, or name a file that can be written, and evaluate again."
    )


def _timeline(began_s: float, trace: Trace) -> Moments:
    values: list[str | float] = []
    for step in trace if len(trace) <= SHOWN_STEPS else trace[:SHOWN_STEPS]:
        start_s = step.delivered_at_s if step.started_at_s is None else step.started_at_s
        end_s = step.delivered_at_s if step.ended_at_s is None else step.ended_at_s
        values += (step.path, round(start_s - began_s, 6), round(end_s - began_s, 6), step.status)
    return tuple(values)


def _plain(text: str) -> str:
    return "".join(char if char.isalnum() and char.isascii() else "-" for char in text)[:24]


def _shown(value: object) -> str:
    if isinstance(value, BaseExceptionGroup):
        leaves: list[str] = [_shown(each) for each in value.exceptions]  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType, reportUnknownArgumentType]
        return "; ".join(leaves)[:SHOWN_CHARS]
    if isinstance(value, BaseException):
        return said(value, SHOWN_CHARS)
    return str(value)[:SHOWN_CHARS]
