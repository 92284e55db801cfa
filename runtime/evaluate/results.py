"""What became of each row, as a value and as a line of JSON, and what all of them come to."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, cast, final

import attrs

from actors.errors import UsageError
from runtime.evaluate.dataset import BadRow
from runtime.evaluate.figures import mean_of
from runtime.graphs.records.run_record import Spend

VERSION = 1
RAISED = "the metric raised"
"""How the reason of a score begins that a metric has not given."""
SHOWN_STEPS = 200
"""The most steps of a run that a row keeps for its timeline."""


@final
@attrs.frozen
class TimedStep:
    """One step of a row's run, in seconds after the run began."""

    path: str
    start_s: float
    end_s: float
    status: str


Moments = tuple[str | float, ...]
"""Steps as one tuple, four values for each: results are kept by the thousand, and few of their timelines are looked at."""


def _moments(given: Moments | Sequence[TimedStep]) -> Moments:
    if not given or isinstance(given[0], str):
        return cast("Moments", given)
    steps = cast("Sequence[TimedStep]", given)
    return tuple(value for step in steps for value in (step.path, step.start_s, step.end_s, step.status))


@final
@attrs.frozen
class RowResult:
    """One run of one row."""

    id: str
    repeat: int
    """From 0."""
    digest: str
    """Of the row's input; see ``Example.digest``."""
    scores: Mapping[str, float] = attrs.field(factory=dict[str, float])
    """By metric. A run that failed, or a metric that raised, scores the metric's lowest value."""
    reasons: Mapping[str, str] = attrs.field(factory=dict[str, str])
    """Why, for the metrics that say so."""
    error: str | None = None
    """Why there is no output."""
    slice: str | None = None
    input: str = ""
    output: str = ""
    latency_s: float | None = None
    """From the start of the run to its end; None for a run that an earlier process made."""
    steps: int = 0
    spend: Spend = attrs.field(factory=Spend)
    judging: Spend = attrs.field(factory=Spend)
    """What metrics that are graphs have used."""
    labels_digest: str = ""
    """Of the row's labels; see ``Example.labels_digest``."""
    _timeline: Moments = attrs.field(default=(), alias="timeline", repr=False, converter=_moments)

    @property
    def timeline(self) -> tuple[TimedStep, ...]:
        """The steps of the run, the first 200 of them."""
        values: Any = iter(self._timeline)
        steps = zip(values, values, values, values, strict=True)
        return tuple(TimedStep(path, start_s, end_s, str(status)) for path, start_s, end_s, status in steps)

    def has_raised(self, metric: str) -> bool:
        """Whether that metric has raised, and not judged."""
        return self.reasons.get(metric, "").startswith(RAISED)

    def is_of_the_row_of(self, other: RowResult) -> bool:
        """Whether both are results of one row, with the same input and, as far as is known, the same labels."""
        known = {self.labels_digest, other.labels_digest} - {""}
        return (self.id, self.digest) == (other.id, other.digest) and len(known) < 2

    def to_line(self) -> str:
        """A line of JSON."""
        fields: dict[str, object] = {name: getattr(self, name) for name in _FIELDS}
        fields["scores"], fields["reasons"] = dict(self.scores), dict(self.reasons)
        fields["spend"], fields["judging"] = attrs.asdict(self.spend), attrs.asdict(self.judging)
        fields["timeline"] = [attrs.asdict(step) for step in self.timeline]
        return json.dumps(fields, ensure_ascii=True)

    @classmethod
    def of_line(cls, fields: Mapping[str, Any]) -> Self:
        """What :meth:`to_line` wrote, parsed."""
        given = dict(fields)
        given["spend"], given["judging"] = Spend(**fields["spend"]), Spend(**fields["judging"])
        given["timeline"] = tuple(TimedStep(**step) for step in fields["timeline"])
        return cls(**given)


_FIELDS = tuple(field.alias or field.name for field in attrs.fields(RowResult))


@final
@attrs.frozen
class Evaluation:
    """A graph on a data set: a row of results for each example and repetition, in the order of the data set."""

    graph: str
    metrics: tuple[str, ...]
    results: tuple[RowResult, ...]
    bad: tuple[BadRow, ...] = ()
    """Rows of the data set that made no input."""
    stopped: str | None = None
    """Why it ended before its last row: a spent budget; None: it did not."""
    kept: int = attrs.field(default=0, eq=False)
    """How many of the results stood in its file already, and were not made again."""

    def scores(self, metric: str | None = None) -> dict[str, float]:
        """For each row, in order, the mean score of its repetitions; of the first metric, if none is named.

        Raises:
            UsageError: there is no such metric.
        """
        name = self.metrics[0] if metric is None else metric
        if name not in self.metrics:
            raise UsageError(f"no metric {name!r} was evaluated.\n  Fix: one of {', '.join(map(repr, self.metrics))}.")
        rows: dict[str, list[float]] = {}
        for row in self.results:
            rows.setdefault(row.id, []).append(row.scores[name])
        return {identity: mean_of(values) for identity, values in rows.items()}

    def mean(self, metric: str | None = None) -> float:
        """The mean over all rows; NaN without any."""
        return mean_of(self.scores(metric).values())

    def by_slice(self, metric: str | None = None) -> dict[str, tuple[float, int]]:
        """The mean and the number of rows of each slice."""
        scores, slices = self.scores(metric), {row.id: row.slice for row in self.results}
        groups: dict[str, list[float]] = {}
        for identity, value in scores.items():
            name = slices[identity]
            if name is not None:
                groups.setdefault(name, []).append(value)
        return {name: (mean_of(values), len(values)) for name, values in sorted(groups.items())}

    @property
    def failed(self) -> tuple[RowResult, ...]:
        """Those without an output."""
        return tuple(row for row in self.results if row.error is not None)

    @property
    def spend(self) -> Spend:
        """What all runs have used together, without what judges have."""
        return _sum(row.spend for row in self.results)

    @property
    def judging(self) -> Spend:
        """What metrics that are graphs have used."""
        return _sum(row.judging for row in self.results)

    def latency_s(self, share: float = 0.5) -> float:
        """The latency that `share` of the runs don't exceed; NaN without any."""
        known = sorted(row.latency_s for row in self.results if row.latency_s is not None)
        return known[min(len(known) - 1, math.ceil(share * len(known)) - 1 if share else 0)] if known else math.nan

    def worst(self, count: int = 10, metric: str | None = None) -> tuple[RowResult, ...]:
        """The rows with the lowest scores; of equal ones, those that failed, then the slowest."""
        name = metric or self.metrics[0]

        def badness(row: RowResult) -> tuple[float, bool, float, str]:
            return row.scores[name], row.error is None, -(row.latency_s or 0.0), row.id

        return tuple(sorted(self.results, key=badness)[:count])

    def header(self) -> str:
        """The first line of its file."""
        return header(self.graph, self.metrics)

    def to_text(self) -> str:
        """Its file: JSON Lines, a header and a line for each result."""
        return "\n".join([self.header(), *(row.to_line() for row in self.results)]) + "\n"

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """What was written before, up to the last whole line; of a row that was changed meanwhile, the newest result.

        Raises:
            UsageError: the file cannot be read, or isn't one.
        """
        found = cls.every_line(path)
        return attrs.evolve(found, results=tuple({(row.id, row.repeat): row for row in found.results}.values()))

    @classmethod
    def every_line(cls, path: str | Path) -> Self:
        """:meth:`load`, with the results of rows as they were before they were changed, too."""
        try:
            lines = Path(path).read_text(encoding="utf-8").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{path} cannot be read: {error}.\n  Fix: name what 'understudy evaluate --out' wrote.") from error
        whole = lines[:-1]  # what stands after the last line end was cut in the middle
        try:
            head = cast("dict[str, Any]", json.loads(whole[0]))
            if head["understudy_evaluation"] != VERSION:
                raise ValueError(f"its format is {head['understudy_evaluation']!r}, and this release reads {VERSION}")
            metrics: object = head["metrics"]
            if type(metrics) is not list:
                raise TypeError("its metrics stand in no list")
            rows = tuple(RowResult.of_line(json.loads(line)) for line in whole[1:])
            return cls(head["graph"], tuple(cast("list[str]", metrics)), rows)
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise UsageError(
                f"{path} isn't the file of an evaluation: {type(error).__name__}: {error}.\n"
                "  Fix: name what 'understudy evaluate --out' wrote, or write a new one."
            ) from error


def header(graph: str, metrics: Sequence[str]) -> str:
    """The first line of an evaluation's file."""
    return json.dumps({"understudy_evaluation": VERSION, "graph": graph, "metrics": list(metrics)})


def _sum(spends: Iterable[Spend]) -> Spend:
    total = Spend()
    for spend in spends:
        total = total.plus(spend)
    return total
