"""Metrics: what judges an output, from plain functions to graphs, and what they say."""

from __future__ import annotations

import functools
import inspect
import json
import math
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast, final

import attrs
import trio

from actors.errors import DeclarationError
from actors.graphs.graph import Graph
from actors.words import repr_of
from runtime.evaluate.dataset import Example, TextCell
from runtime.graphs.handle import RunHandle
from runtime.graphs.records.run_record import Spend, Step
from runtime.lm.limits.budget import Budget
from runtime.messages.fields import fields_of, message_kind

if TYPE_CHECKING:
    from runtime.app import Runtime


@final
@attrs.frozen
class Score:
    """What a metric says of one output: a number, best within 0 to 1, and why."""

    value: float
    reason: str = ""


_RIGHT, _WRONG = Score(1.0), Score(0.0)
NOTHING = Spend()
Trace = tuple[Step, ...]
MetricFunction = Callable[[Example, Any, Trace], "bool | float | Score | Awaitable[bool | float | Score]"]
"""``metric(example, output, trace)``, async or not; of an example's fields and of ``handle.trace``."""


@final
@attrs.frozen
class Measure:
    """What is measured of each run, whether it has an output or not."""

    of: Callable[[Spend, float, int], float]
    """Of what the run has used, its latency in seconds, and its steps."""


@final
@attrs.frozen(eq=False)
class Metric:
    """A function or a graph that judges outputs, or what is measured of runs, under a name.

    Args:
        name: as reports show it.
        judge: a function of an example, an output and the run's trace, with a bool, a number or a ``Score``; or a graph whose
            input has fields out of ``example``'s labels and input, ``input``, ``output`` and ``expected``.
        low: the lowest value.
        high: the highest value. Comparisons need both to be right.
        needs: the least share of the range that counts as passed in JUnit's form.
        less_is_better: for costs and the like; a comparison is then "better" where the value is lower.
    """

    name: str
    judge: MetricFunction | Graph[Any, Any] | Measure
    low: float = 0.0
    high: float = 1.0
    needs: float = 0.5
    less_is_better: bool = False

    @property
    def worst(self) -> float:
        """What a run scores that has no output."""
        return self.high if self.less_is_better else self.low

    def up_to(self, high: float) -> Metric:
        """The same with a highest value, as comparisons need it: ``cost.up_to(0.05)``."""
        return attrs.evolve(self, high=high)

    @classmethod
    def of(cls, given: object) -> Metric:
        """`given` as a metric: one, a function or a graph.

        Raises:
            DeclarationError: it is neither.
        """
        if isinstance(given, Metric):
            return given
        judge: Any = given
        if isinstance(given, Graph):
            return cls(str(judge.name), judge)
        if callable(given):
            _check_takes_three(judge)
            return cls(str(getattr(judge, "__name__", type(judge).__name__)), judge)
        raise DeclarationError(
            f"metrics={repr_of(given)}: expected a function (example, output, trace) or a graph.\n"
            "  Fix: def exact(example, output, trace): return output.text == example.expected."
        )

    def share(self, value: float) -> float:
        """`value` as a part of the metric's range, 0 to 1.

        Raises:
            DeclarationError: it is outside.
        """
        if math.isinf(self.high):
            raise DeclarationError(
                f"metric {self.name!r} has no highest value, which a comparison needs.\n"
                f"  Fix: {self.name}.up_to(…), with a value that no row exceeds."
            )
        if not self.low <= value <= self.high:
            raise DeclarationError(
                f"metric {self.name!r} gave {value:g}, which isn't between {self.low:g} and {self.high:g}.\n"
                f"  Fix: Metric({self.name!r}, {self.name}, low=…, high=…), with bounds that hold for every row."
            )
        share = (value - self.low) / (self.high - self.low)
        return 1 - share if self.less_is_better else share


def metrics_of(given: Iterable[object] | object) -> tuple[Metric, ...]:
    """The metrics in `given`, which have different names."""
    items: Any = given
    is_many = isinstance(given, Iterable) and not isinstance(given, str | Graph)
    metrics = tuple(Metric.of(each) for each in (items if is_many else [items]))
    names = [metric.name for metric in metrics]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise DeclarationError(f"two metrics are called {twice!r}.\n  Fix: give one another name: Metric('…', {twice}).")
    if not metrics:
        raise DeclarationError("there is no metric.\n  Fix: metrics=[a function of example, output and trace].")
    return metrics


def _check_takes_three(judge: Callable[..., object]) -> None:
    """Else every call of it would raise, each after a run that was paid for."""
    try:
        signature = inspect.signature(judge)
    except (ValueError, TypeError):  # one in C may have none
        return
    try:
        signature.bind(None, None, None)
    except TypeError as error:
        name = getattr(judge, "__name__", type(judge).__name__)
        raise DeclarationError(
            f"metric {name!r} cannot be called with an example, an output and a trace: {error}.\n"
            f"  Fix: def {name}(example, output, trace): …"
        ) from error


def exact(example: Example, output: Any, trace: Trace) -> bool:
    """Whether the output is what the label ``expected`` says: the message, the value of its one field, or some of its fields."""
    expected: Any = example.expected
    kind = type(cast("object", output))
    attributes = _attributes(cast("Any", kind))  # mypy takes a class for one that cannot be hashed
    if isinstance(expected, TextCell):
        said = [output] if attributes is None else [getattr(output, attribute) for attribute in attributes.values()]
        expected = _meant(expected, said)
    if attributes is None or type(expected) is kind:
        return bool(output == expected)
    if not isinstance(expected, str) and isinstance(expected, Mapping):  # what most are is asked first
        wanted = cast("Mapping[str, Any]", expected)
        return all(name in attributes and getattr(output, attributes[name]) == value for name, value in wanted.items())
    if len(attributes) != 1:
        return False
    [attribute] = attributes.values()
    return bool(getattr(output, attribute) == expected)


def _meant(cell: TextCell, said: Sequence[object]) -> object:
    """What a cell of CSV means beside the fields of an output: a text beside a text, else JSON, if it is some."""
    if len(said) == 1 and isinstance(said[0], str):
        return cell
    try:
        return cast("object", json.loads(cell))
    except (ValueError, RecursionError):
        return cell


cost = Metric("cost", Measure(lambda spend, latency_s, steps: spend.cost_usd), high=math.inf, less_is_better=True)
"""What a run has cost, in US dollars, as far as its models have a known price."""
latency = Metric("latency", Measure(lambda spend, latency_s, steps: latency_s), high=math.inf, less_is_better=True)
"""How long a run took, in seconds; 0 for one that an earlier process made."""
steps = Metric("steps", Measure(lambda spend, latency_s, steps: steps), high=math.inf, less_is_better=True)
"""How many steps a run took."""


@functools.lru_cache(maxsize=256)
def _attributes(kind: type) -> Mapping[str, str] | None:
    """The attributes of a message by the names of their fields; None for what isn't one."""
    if message_kind(kind) is None:
        return None
    return {field.name: field.attribute for field in fields_of(kind) if field.init}


async def scored(
    runtime: Runtime,
    metric: Metric,
    example: Example,
    output: Any,
    trace: Trace,
    labels: Mapping[str, str],
    budget: Budget | None,
) -> tuple[Score | Exception, Spend]:
    """What `metric` says, or what it raised about this output, and what it has used of language models either way.

    Raises:
        DeclarationError: it says something that isn't a score, or its graph is wrong.
    """
    handle: RunHandle[Any] | None = None
    try:
        if isinstance(metric.judge, Graph):
            graph: Graph[Any, Any] = metric.judge
            question = _question(graph, example, output)
            handle = await runtime.start(graph, question, labels=labels, budget=budget, durable=False)
            answer = _verdict(await result_of(handle))
        else:
            assert not isinstance(metric.judge, Measure), "it is measured, and judges nothing"
            answer = metric.judge(example, output, trace)
            if type(answer) is not bool and inspect.isawaitable(answer):
                answer = await answer
    except DeclarationError:
        raise  # the metric is wrong for every row
    except Exception as error:  # noqa: BLE001 - the metric's, about one output; the report names it
        return error, NOTHING if handle is None else handle.spend
    return _score(metric, answer), NOTHING if handle is None else handle.spend


async def result_of(handle: RunHandle[Any]) -> Any:
    """The output of a run; left by a cancellation, the run does not go on, unless a store keeps it for the next time."""
    try:
        return await handle.result()
    except trio.Cancelled:
        if not handle.durable:
            with trio.CancelScope(shield=True):
                await handle.cancel()
        raise


def _question(graph: Graph[Any, Any], example: Example, output: Any) -> Any:
    """What a judge is asked: its input's fields are looked up by their names."""
    [kind] = graph.input_types if len(graph.input_types) == 1 else [None]
    if kind is None:
        raise DeclarationError(f"the judge {graph.name!r} takes several types.\n  Fix: give it one input type.")
    known: dict[str, Any] = {"output": output, "input": example.input, "example": example}
    values: dict[str, Any] = {}
    for field in fields_of(kind):
        if not field.init:
            continue
        value = known[field.name] if field.name in known else getattr(example, field.name, getattr(output, field.name, _ABSENT))
        if value is not _ABSENT:
            values[field.name] = _as_text(value) if field.type is str else value
        elif field.required:
            raise DeclarationError(
                f"the judge {graph.name!r} asks for {field.name!r}, which example {example.id!r} doesn't have.\n"
                "  Fix: name its fields output, input, or as the labels and fields of the examples."
            )
    return kind(**values)


_ABSENT = object()


def _as_text(value: object) -> str:
    if isinstance(value, str) or message_kind(type(value)) is None:
        return str(value)
    fields = [field.attribute for field in fields_of(type(value)) if field.init]
    return str(getattr(value, fields[0])) if len(fields) == 1 else str(value)


def _verdict(said: Any) -> Any:
    """What a judge's output says: its field ``score``, else its one bool or number."""
    kind = type(cast("object", said))
    if message_kind(kind) is None:
        return said
    reason = str(getattr(said, "reason", ""))
    if hasattr(said, "score"):
        return Score(float(said.score), reason)
    values = [getattr(said, field.attribute) for field in fields_of(kind)]
    numbers = [value for value in values if isinstance(value, bool | int | float)]
    return Score(float(numbers[0]), reason) if len(numbers) == 1 else said


def _score(metric: Metric, said: Any) -> Score:
    if type(said) is bool:
        return _RIGHT if said else _WRONG
    if isinstance(said, Score):
        said, reason = said.value, said.reason
    else:
        score = getattr(said, "score", None)  # a dspy.Prediction of a metric with feedback
        reason = str(getattr(said, "feedback", "")) if score is not None else ""
        said = said if score is None else score
    if isinstance(said, bool | int | float) and math.isfinite(said):
        return Score(float(said), reason)
    raise DeclarationError(
        f"metric {metric.name!r} gave {repr_of(said)}: expected True or False, a finite number, or a Score.\n"
        "  Fix: return output.text == example.expected, for example."
    )
