"""The predictors of a graph, optimised node by node from the rows of a training set, and written as one JSON file each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import final

import attrs

from actors.graphs.graph import Graph
from actors.graphs.node import NodeSpec
from runtime.lm.dspy.dspy_calls import ChatLM
from runtime.lm.dspy.import_dspy import warm_up
from runtime.lm.predictors.files import StoredNode, StoredPredictor, write_node
from runtime.lm.predictors.optimising import MIN_EXAMPLES, Metric, Optimizer, exact_match, optimise
from runtime.lm.predictors.signatures import module_of_node
from runtime.lm.predictors.training import Examples, Row, examples_of


@final
@attrs.frozen
class CompiledPredictor:
    """What happened to one signature of a node."""

    node: str
    purpose: str
    """The name of the type that is filled, or ``"choice"``."""
    examples: int
    is_optimized: bool
    """False: there were fewer than 10 examples, and the node continues without."""
    demos: int = 0
    """Demonstrations in its prompts, over all steps of its module."""


async def compile_graph(
    graph: Graph,
    rows: Sequence[Row],
    folder: str | Path,
    *,
    lm_for: Callable[[NodeSpec], ChatLM],
    metric_for: Callable[[Examples], Metric] | None = None,
    optimizer: Optimizer | None = None,
    told: Callable[[CompiledPredictor], None] | None = None,
) -> list[CompiledPredictor]:
    """Optimise the predict nodes of `graph`, and write what ``open_runtime(predictors=folder)`` uses.

    One node after the other; a node's file is written when all of its signatures are done, so a cancelled or failed call
    leaves the files of the nodes before it. A node for which there is nothing to write keeps the file that it has.

    Args:
        graph: the graph; nodes of graphs within it are compiled with those.
        rows: see ``runtime.lm.predictors.training.examples_of``.
        folder: where the files go; made when it is not there.
        lm_for: the language model of a node.
        metric_for: what judges the predictions for these examples, all of one signature; None: a prediction must make the very
            message of the row.
        optimizer: None: ``Optimizer()``.
        told: is told of each signature when it is done.

    Raises:
        GraphInvalid: the graph has problems.
        DeclarationError: rows do not fit the nodes.
        UsageError: a library that the optimiser needs is not installed.
        LMError: a language model failed.
    """
    specs = graph.plan().nodes
    await warm_up()
    groups = examples_of(specs.values(), rows)
    report: list[CompiledPredictor] = []
    for name, spec in specs.items():
        stored: list[StoredPredictor] = []
        for group in (each for each in groups if each.spec is spec):
            made, done = await _compiled(group, lm_for, metric_for, optimizer)
            stored += [] if made is None else [made]
            report.append(done)
            if told is not None:
                told(done)
        if stored:
            write_node(Path(folder), StoredNode(graph.name, name, tuple(stored)))
    return report


async def _compiled(
    group: Examples,
    lm_for: Callable[[NodeSpec], ChatLM],
    metric_for: Callable[[Examples], Metric] | None,
    optimizer: Optimizer | None,
) -> tuple[StoredPredictor | None, CompiledPredictor]:
    spec, signature, count = group.spec, group.signature, len(group.examples)
    if count < MIN_EXAMPLES:
        return None, CompiledPredictor(spec.name, signature.purpose, count, is_optimized=False)
    trained = await optimise(
        lm_for(spec),
        module_of_node(spec, signature),
        group.examples,
        metric_for(group) if metric_for is not None else exact_match(signature.plan),
        optimizer=optimizer,
        plan=signature.plan,
    )
    assert trained is not None, "there are enough examples"
    demos = sum(len(step.demos) for step in trained.steps.values())
    done = CompiledPredictor(spec.name, signature.purpose, count, is_optimized=True, demos=demos)
    return StoredPredictor(signature.purpose, signature.described, trained), done
