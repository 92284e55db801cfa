"""Two graphs, or two versions of one, on the same rows: which is better, how sure that is, and how few rows it took."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, final

import attrs
import trio

from actors.argument_checks import check_count, rejected
from actors.errors import DeclarationError, UnderstudyError, UsageError
from actors.graphs.graph import Graph
from runtime.evaluate.dataset import Dataset, Example
from runtime.evaluate.evaluating import SPENT, Evaluator, is_spent
from runtime.evaluate.progress import Progress, Told
from runtime.evaluate.results import Evaluation, RowResult
from runtime.evaluate.scoring import Metric
from runtime.evaluate.sequential import EXPECTS, AnytimeInterval, SequentialTest, bootstrap_interval, flip_probability
from runtime.lm.limits.budget import Budget

if TYPE_CHECKING:
    from runtime.app import Runtime

AT_ONCE = 16
BETTER, WORSE, UNDECIDED = "better", "worse", "undecided"


@final
@attrs.frozen
class Comparison:
    """How a candidate does beside a baseline, row by row. Scores are shares of the metric's range, 0 to 1."""

    metric: str
    verdict: str
    """``"better"``, ``"worse"`` or ``"undecided"``: the candidate's."""
    difference: float
    """The mean of the candidate's scores less the baseline's, over the rows that were used."""
    interval: tuple[float, float]
    """Where the difference lies with probability 1 - `error`."""
    error: float
    """The highest probability of a verdict where there is no difference."""
    rows: int
    """How many were used."""
    of: int
    """How many there are."""
    is_sequential: bool
    """Whether it looked after each row, and so stopped as soon as it was sure."""
    baseline: Evaluation | None = attrs.field(default=None, repr=False)
    candidate: Evaluation | None = attrs.field(default=None, repr=False)

    @property
    def saved(self) -> int:
        """Rows that it did not need."""
        return self.of - self.rows

    def __str__(self) -> str:
        low, high = self.interval
        told = f"{self.metric}: {self.verdict} ({self.difference:+.3f}, between {low:+.3f} and {high:+.3f})"
        saved = f", {self.saved} saved" if self.saved else ""
        return f"{told} after {self.rows} of {self.of} rows{saved}; wrong at most {self.error:.0%} of the time"


def compared(
    baseline: Evaluation, candidate: Evaluation, metric: str | Metric | None = None, *, error: float = 0.05
) -> Comparison:
    """Compare two evaluations of the same rows, all of them: a test by random sign flips, and an interval by bootstrap.

    Args:
        baseline: what was; loaded with ``Evaluation.load``, for example.
        candidate: what is.
        metric: which; a ``Metric`` also knows its range. None: the candidate's first.
        error: the highest probability of a verdict where there is no difference.

    Raises:
        UsageError: they have no row in common, or not the metric.
        DeclarationError: `error` isn't a probability.
    """
    _check_error(compared, error)
    judge = metric if isinstance(metric, Metric) else Metric(metric or candidate.metrics[0], _never)
    before, after = baseline.scores(judge.name), candidate.scores(judge.name)
    known = {row.id: row for row in baseline.results}
    same = [row.id for row in candidate.results if row.repeat == 0 and row.id in known and row.is_of_the_row_of(known[row.id])]
    if not same:
        raise UsageError("the two evaluations have no row in common.\n  Fix: evaluate both on the same data set.")
    if math.isinf(judge.high):
        judge = judge.up_to(max(*before.values(), *after.values()) or 1.0)  # all rows are known here
    differences = [judge.share(after[identity]) - judge.share(before[identity]) for identity in same]
    mean = math.fsum(differences) / len(differences)
    is_sure = flip_probability(differences) <= error
    verdict = UNDECIDED if not is_sure else BETTER if mean > 0 else WORSE
    interval = bootstrap_interval(differences, error)
    return Comparison(judge.name, verdict, mean, interval, error, len(same), len(same), False, baseline, candidate)


async def compare(
    runtime: Runtime,
    baseline: Graph[Any, Any],
    candidate: Graph[Any, Any],
    data: Dataset | Iterable[Any],
    metric: object,
    *,
    error: float = 0.05,
    expects: float = EXPECTS,
    repeats: int = 1,
    at_once: int = AT_ONCE,
    budget: Budget | None = None,
    seed: int = 0,
    baseline_runtime: Runtime | None = None,
    told: Told | None = None,
) -> Comparison:
    """Run two graphs on the same rows until it is clear which is better, with an error rate that holds whenever that is.

    Rows are taken in an order that `seed` decides, each of them by both graphs. After each, a test by betting looks at all
    differences so far; it may look every time and still gives a verdict where there is no difference with probability `error` at
    most. The first verdict ends the comparison: rows that are in progress are cancelled.

    Args:
        runtime: where the runs are made.
        baseline: what is compared with.
        candidate: what may be better or worse; its input is of the baseline's type.
        data: a ``Dataset``, or rows for ``Dataset.of``.
        metric: a function, a graph or a ``Metric``, whose range is needed.
        error: the highest probability of a verdict where there is no difference.
        expects: the difference that it is to find soonest, as a share of the metric's range: the smallest one that matters. It
            changes how many rows a verdict takes, and never the error rate; other differences are found too.
        repeats: runs of each row by each graph; its score is their mean.
        at_once: the most rows at the same time; a verdict may throw away the work on so many.
        budget: what all runs, and the runs of a judge, may use together; when it is spent, the comparison ends with the rows that
            come before the first that it cut short.
        seed: decides the order of the rows.
        baseline_runtime: where the baseline's runs are made, to compare models or predictors, which belong to a runtime; None:
            in `runtime`.
        told: is told how far it is, after each row that is used; ``mean`` is the difference then, ``interval`` where it lies.

    Raises:
        DeclarationError: an argument is wrong, or a score is outside of the metric's range.
        UsageError: a run cannot be started.
    """
    rows = data if isinstance(data, Dataset) else Dataset.of(data, baseline)
    _check_error(compare, error)
    _check_expects(expects)
    check_count(compare, "repeats", repeats)
    check_count(compare, "at_once", at_once)
    if set(candidate.input_types) != set(baseline.input_types):
        raise DeclarationError(
            f"compare({baseline.name!r}, {candidate.name!r}): they take different inputs.\n"
            "  Fix: compare graphs of one input type."
        )
    judge = Metric.of(metric)
    places = ((baseline_runtime or runtime, baseline), (runtime, candidate))
    sides = tuple(Evaluator(place, graph, (judge,), budget=budget, judges=runtime) for place, graph in places)
    order = list(rows)
    random.Random(seed).shuffle(order)
    race = _Race(judge, sides, repeats, SequentialTest(error, expects), AnytimeInterval(error, expects), told)
    await race.run(order, at_once)
    used = order[: race.test.count]
    evaluations = [
        Evaluation(
            side.graph.name,
            (judge.name,),
            tuple(row for each in used for row in race.pairs[each.id][at]),
            rows.bad,
            SPENT if race.is_spent else None,
        )
        for at, side in enumerate(sides)
    ]
    mean = math.fsum(race.differences) / len(race.differences) if race.differences else 0.0
    verdict = {1: BETTER, -1: WORSE, 0: UNDECIDED}[race.test.verdict]
    return Comparison(judge.name, verdict, mean, race.interval.ends, error, len(used), len(order), True, *evaluations)


@final
@attrs.define(eq=False)
class _Race:
    judge: Metric
    sides: tuple[Evaluator, ...]
    repeats: int
    test: SequentialTest
    interval: AnytimeInterval
    told: Told | None
    began_s: float = attrs.field(factory=trio.current_time, init=False)
    cost_usd: float = attrs.field(default=0.0, init=False)
    total: float = attrs.field(default=0.0, init=False)
    pairs: dict[str, tuple[tuple[RowResult, ...], ...]] = attrs.field(factory=dict[str, Any], init=False)
    differences: list[float] = attrs.field(factory=list[float], init=False)
    wrong: list[UnderstudyError] = attrs.field(factory=list[UnderstudyError], init=False)
    is_spent: bool = attrs.field(default=False, init=False)
    """Whether a budget was: a row whose run it ended says nothing about either graph, and no further one is begun."""

    async def run(self, order: list[Example], at_once: int) -> None:
        left = iter(order)
        async with trio.open_nursery() as nursery:

            async def work() -> None:
                for example in left:
                    if self.is_spent:
                        return
                    pair = await self._both(example)
                    if pair is None:
                        if self.wrong:
                            nursery.cancel_scope.cancel()
                        return
                    self.pairs[example.id] = pair
                    self.cost_usd += math.fsum(row.spend.cost_usd + row.judging.cost_usd for rows in pair for row in rows)
                    try:
                        self._look(order)
                    except DeclarationError as error:
                        self.wrong.append(error)
                    if self.wrong or self.test.verdict:
                        nursery.cancel_scope.cancel()
                        return

            for _ in range(min(at_once, len(order))):
                nursery.start_soon(work)
        if self.wrong:
            raise self.wrong[0]

    async def _both(self, example: Example) -> tuple[tuple[RowResult, ...], ...] | None:
        """The results of both sides; None where one of them says nothing about its graph."""
        made: list[list[RowResult | None]] = [[None] * self.repeats for _ in self.sides]
        is_whole = True

        async def one(at: int, repeat: int) -> None:
            nonlocal is_whole
            try:
                made[at][repeat], failure = await self.sides[at].row(example, repeat)
            except UnderstudyError as error:
                self.wrong.append(error)
                is_whole = False
                nursery.cancel_scope.cancel()
                return
            if failure is not None and is_spent(failure, self.sides[at].budget):
                self.is_spent, is_whole = True, False

        async with trio.open_nursery() as nursery:
            for at in range(len(self.sides)):
                for repeat in range(self.repeats):
                    nursery.start_soon(one, at, repeat)
        return tuple(tuple(row for row in rows if row is not None) for rows in made) if is_whole else None

    def _look(self, order: list[Example]) -> None:
        """Take the rows in their order, however they end: which ends first may depend on its outcome, and the order may not."""
        while (
            not self.test.verdict and self.test.count < len(order) and order[self.test.count].id in self.pairs and not self.wrong
        ):
            before, after = (self._mean(rows) for rows in self.pairs[order[self.test.count].id])
            self.differences.append(after - before)
            self.test.add(after - before)
            self.interval.add(after - before)
            self.total += after - before
            self._tell(len(order))

    def _tell(self, of: int) -> None:
        if self.told is None:
            return
        mean = self.total / self.test.count
        took_s = trio.current_time() - self.began_s
        self.told(Progress(self.test.count, of, mean, self.cost_usd, took_s, self.interval.ends, is_difference=True))

    def _mean(self, rows: tuple[RowResult, ...]) -> float:
        return math.fsum(self.judge.share(row.scores[self.judge.name]) for row in rows) / len(rows)


def _check_error(owner: object, error: object) -> None:
    if isinstance(error, bool) or not isinstance(error, int | float) or not 0 < error < 1:
        raise rejected(owner, "error", error, "a probability between 0 and 1, such as 0.05")


def _check_expects(expects: object) -> None:
    if isinstance(expects, bool) or not isinstance(expects, int | float) or not 0 < expects <= 1:
        raise rejected(compare, "expects", expects, "a share of the metric's range, above 0 and at most 1, such as 0.1")


def _never(*_: object) -> bool:
    raise AssertionError("judged already")
