"""The predictors of a graph, optimised by a metric of evaluation and evaluated with it, before and after, by the same runner."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import attrs

from actors.errors import DeclarationError
from actors.graphs.graph import Graph
from actors.graphs.node import NodeSpec
from actors.lm import LM
from runtime.evaluate.comparing import Comparison, compared
from runtime.evaluate.dataset import Dataset, Example
from runtime.evaluate.evaluating import AT_ONCE, evaluate
from runtime.evaluate.results import RAISED, Evaluation
from runtime.evaluate.scoring import Measure, Metric, Score, exact, scored
from runtime.graphs.records.run_record import Spend
from runtime.lm.client import LMClient
from runtime.lm.dspy.bridge import as_mapping
from runtime.lm.dspy.choosing import fill_one_of
from runtime.lm.dspy.from_threads import Crossing, with_crossing
from runtime.lm.dspy.import_dspy import library, warm_up
from runtime.lm.limits.budget import Budget, spending_all
from runtime.lm.predictors.compiling import CompiledPredictor
from runtime.lm.predictors.compiling import compile_graph as compile_nodes
from runtime.lm.predictors.files import StoredEvaluation, file_of, read_node, write_node
from runtime.lm.predictors.loaded_predictors import NodePredictors, Predictors
from runtime.lm.predictors.optimising import Optimizer, exact_match
from runtime.lm.predictors.signatures import CHOICE
from runtime.lm.predictors.training import Examples, NodeRow, Row, node_rows
from runtime.messages.fields import fields_of, message_kind
from runtime.messages.problems import MessageInvalid

if TYPE_CHECKING:
    from runtime.app import Runtime

TRAINING, TEST = "training set", "test set"


@final
@attrs.frozen
class Compilation:
    """What became of a graph's predictors."""

    predictors: tuple[CompiledPredictor, ...]
    """One for each signature of each predict node, in the order of the nodes."""
    evaluations: Mapping[str, Comparison] = attrs.field(factory=dict[str, Comparison])
    """By node: how it does with what was trained, beside how it does without."""
    data: str = TRAINING
    """What the evaluations were made on: ``"training set"`` or ``"test set"``."""


@attrs.frozen
class Given:
    """What a node is given, as JSON."""

    row: str


@attrs.frozen
class Nothing:
    """The node has returned None."""


async def compile_graph(
    runtime: Runtime,
    graph: Graph[Any, Any],
    rows: Sequence[Row],
    folder: str | Path,
    *,
    metric: object = exact,
    optimizer: Optimizer | None = None,
    test_rows: Sequence[Row] | None = None,
    evaluates: bool = True,
    at_once: int = AT_ONCE,
    budget: Budget | None = None,
    told: Callable[[CompiledPredictor], None] | None = None,
) -> Compilation:
    """Optimise the predict nodes of `graph`, write what ``open_runtime(predictors=folder)`` uses, and evaluate it.

    Each node that was optimised is run on its rows as it was and as it is now, by :func:`evaluate` and with the metric that the
    optimiser has used; what came of it stands in the node's file. A node's tools are left out, then as while it is optimised.

    Args:
        runtime: whose language models answer; it has no predictors itself.
        graph: the graph; nodes of graphs within it are compiled with those.
        rows: the training set, ``{"node": …, "input": {…}, "output": {…}}``; see ``read_rows``.
        folder: where the files go, one for each node; made when it is not there.
        metric: a function of an example, an output and a trace, a graph or a ``Metric``. The example has the fields of the row's
            input and output, and ``expected``, the message that it should make. While a node is optimised, the trace is empty,
            and what chooses among several types is judged by whether it is the row's.
        optimizer: None: ``Optimizer()``.
        test_rows: what is evaluated on; None: the training set, which flatters what has been trained with it.
        evaluates: whether it is evaluated at all.
        at_once: the most runs at the same time, beside the limits of the models.
        budget: what all calls may use together.
        told: is told of each signature when it is done.

    Raises:
        GraphInvalid: the graph has problems.
        DeclarationError: rows do not fit the nodes, or the metric gave something that isn't a score.
        UsageError: a library that the optimiser needs is not installed.
        LMError: a language model failed.
    """
    judge, plan = Metric.of(metric), graph.plan()
    if isinstance(judge.judge, Measure) or judge.less_is_better:
        raise DeclarationError(
            f"metric={judge.name!r}: an optimiser needs what judges outputs, and is higher for better ones.\n"
            "  Fix: pass a function (example, output, trace)."
        )
    await warm_up()
    known = _examples(node_rows(plan.nodes.values(), rows), TRAINING)
    on = known if test_rows is None else _examples(node_rows(plan.nodes.values(), test_rows), TEST)
    with_words = optimizer is not None and optimizer.name == "gepa"
    wrong: list[DeclarationError] = []

    async def optimised(crossing: Crossing) -> list[CompiledPredictor]:
        def judged(example: Example, output: Any) -> Score:
            async def ask() -> tuple[Score | Exception, Spend]:
                return await scored(runtime, judge, example, output, (), {"row": example.id}, None)

            try:
                score, _ = crossing.run(ask)
            except DeclarationError as error:
                wrong.append(error)
                raise
            return Score(judge.worst, f"{RAISED} {score}") if isinstance(score, Exception) else score

        return await compile_nodes(
            graph,
            rows,
            folder,
            lm_for=functools.partial(_lm_of, runtime),
            metric_for=lambda group: _metric_for(group, known, judged, judge, with_words=with_words),
            optimizer=optimizer,
            told=told,
        )

    async with AsyncExitStack() as stack:
        stack.enter_context(spending_all(() if budget is None else (budget,)))
        for own in {id(spec.options.lm): spec.options.lm for spec in plan.nodes.values()}.values():
            if isinstance(own, LMClient) and not own.is_open:
                await stack.enter_async_context(own)
        try:
            made = await with_crossing(optimised)
        except Exception:
            if wrong:  # DSPy goes on after the first of them, and says something else in the end
                raise wrong[0] from None
            raise
        if wrong:
            raise wrong[0]
        data, done = TRAINING if test_rows is None else TEST, dict[str, Comparison]()
        for name in dict.fromkeys(each.node for each in made if each.is_optimized and evaluates):
            cases = [case for case in on.values() if case.row.spec.name == name]
            found = await _evaluated(runtime, graph, Path(folder), cases, judge, at_once, budget) if cases else None
            if found is not None:
                done[name] = found
                _keep(found, Path(folder), graph.name, name, data)
    return Compilation(tuple(made), done, data)


@final
@attrs.frozen(eq=False)
class _Case:
    """A row of a node, and the same as an example."""

    row: NodeRow
    example: Example


def _examples(rows: Sequence[NodeRow], data: str) -> dict[int, _Case]:
    """By the places of their rows.

    Raises:
        DeclarationError: two rows of a node have one id.
    """
    cases: dict[int, _Case] = {}
    places: dict[tuple[str, str], int] = {}
    for each in rows:
        identity = str(each.row.get("id", each.at + 1))
        earlier = places.setdefault((each.spec.name, identity), each.at)
        if earlier != each.at:
            raise DeclarationError(
                f"rows {earlier + 1} and {each.at + 1} of the {data} have the same id {identity!r}.\n"
                '  Fix: give each row its own "id", or none.'
            )
        given = {name: each.row[name] for name in ("input", "inputs") if name in each.row}
        part = each.row.get("slice")
        text = json.dumps(given, sort_keys=True, ensure_ascii=False)
        cases[each.at] = _Case(each, Example(identity, Given(text), _labels(each), None if part is None else str(part)))
    return cases


def _labels(row: NodeRow) -> dict[str, Any]:
    """The fields of the input and of the output by their names, as DSPy's examples have them, and the whole output."""
    known = _fields(row.target)
    inputs = [(owner, name, value) for owner, message in row.inputs.items() for name, value in _fields(message, owner).items()]
    names = [*known, *(name for _, name, _ in inputs)]
    for owner, name, value in inputs:
        known[name if names.count(name) == 1 else f"{owner}_{name}"] = value
    return {**known, "expected": row.target}


def _fields(message: object, name: str | None = None) -> dict[str, Any]:
    if message_kind(type(message)) is not None:
        return {field.name: getattr(message, field.attribute) for field in fields_of(type(message)) if field.init}
    return {} if name is None else {name: message}


def _lm_of(runtime: Runtime, spec: NodeSpec) -> LM:
    own = spec.options.lm
    return runtime.lm if own is None else runtime.lms[own] if isinstance(own, str) else own


def _metric_for(
    group: Examples, cases: Mapping[int, _Case], judged: Callable[[Example, Any], Score], judge: Metric, *, with_words: bool
) -> Callable[..., Any]:
    """The metric as DSPy's optimisers call it, for the examples of one signature."""
    plan = group.signature.plan
    if group.signature.purpose == CHOICE:
        return exact_match(plan)
    known = {_key(example): cases[at].example for example, at in zip(group.examples, group.rows, strict=True)}

    def metric(example: Any, prediction: Any, trace: object = None) -> Any:
        try:
            output = plan.build(plan.values(as_mapping(prediction, compile_graph)))
        except MessageInvalid:
            return judge.worst
        score = judged(known[_key(example)], output)
        # Any other optimiser takes such a prediction for a good one, no matter its score.
        return library().Prediction(score=score.value, feedback=score.reason) if with_words and score.reason else score.value

    return metric


def _key(example: Any) -> str:
    return json.dumps(dict(example.items()), sort_keys=True, default=str)


async def _evaluated(
    runtime: Runtime,
    graph: Graph[Any, Any],
    folder: Path,
    cases: Sequence[_Case],
    judge: Metric,
    at_once: int,
    budget: Budget | None,
) -> Comparison | None:
    """How the node does with its predictors beside without; None where a budget was spent before that was known."""
    spec, specs = cases[0].row.spec, graph.plan().nodes.values()
    inputs = {case.example.input.row: case.row.inputs for case in cases}
    rows = Dataset(tuple(case.example for case in cases))
    told: list[Evaluation] = []
    for predictors in (None, Predictors(folder).of_graph(graph.name, specs)[spec.name]):
        alone = _alone(graph.name, spec, inputs, predictors)
        told.append(await evaluate(runtime, alone, rows, _with_none(judge), at_once=at_once, budget=budget))
    before, after = told
    return None if before.stopped or after.stopped else compared(before, after, judge)


def _alone(
    graph: str, spec: NodeSpec, inputs: Mapping[str, Mapping[str, object]], predictors: NodePredictors | None
) -> Graph[Any, Any]:
    """A graph of the node alone, which is given what its rows give it."""
    assert spec.predict is not None, "only predict nodes are compiled"
    options = spec.predict
    alone: Graph[Any, Any] = Graph(f"{graph}-{spec.name}", input=Given, output=_union(spec))

    async def fill(given: Given, lm: LM) -> Any:
        made = await fill_one_of(
            lm,
            instruction=spec.instruction,
            inputs=inputs[given.row],
            outputs=spec.outputs,
            may_be_none=spec.may_end,
            module=options.module,
            parse_attempts=options.parse_attempts,
            predictors=predictors,
            truncated=options.truncated,
        )
        return Nothing() if made is None else made

    fill.__annotations__ = {"given": Given, "lm": LM, "return": _union(spec)}
    alone.node(name=spec.name, lm=spec.options.lm, redelivery=spec.options.redelivery)(fill)
    return alone


def _union(spec: NodeSpec) -> Any:
    kinds: list[Any] = [*spec.outputs, *([Nothing] if spec.may_end else [])]
    return functools.reduce(lambda one, other: one | other, kinds)


def _with_none(judge: Metric) -> Metric:
    """The same, told None where the node returned it: an output of a run is a message."""
    if isinstance(judge.judge, Graph | Measure):
        return judge
    function = judge.judge

    def of_none(example: Example, output: Any, trace: Any) -> Any:
        return function(example, None if isinstance(output, Nothing) else output, trace)

    return attrs.evolve(judge, judge=of_none)


def _keep(found: Comparison, folder: Path, graph: str, node: str, data: str) -> None:
    """Write `found` into the file of the node."""
    before, after = found.baseline, found.candidate
    assert before is not None and after is not None, "it was made of both"
    spend = before.spend.plus(before.judging).plus(after.spend).plus(after.judging)
    evaluation = StoredEvaluation(
        data=data,
        metric=found.metric,
        rows=found.rows,
        before=before.mean(found.metric),
        after=after.mean(found.metric),
        difference=found.difference,
        interval=found.interval,
        error=found.error,
        verdict=found.verdict,
        cost_usd=spend.cost_usd,
        tokens=spend.prompt_tokens + spend.completion_tokens,
    )
    stored = read_node(file_of(folder, graph, node))
    write_node(folder, attrs.evolve(stored, evaluation=evaluation))
