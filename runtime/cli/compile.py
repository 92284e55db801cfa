"""``understudy compile FILE.py:graph``: optimise a graph's predictors, and save them for ``open_runtime(predictors=…)``."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import final

import attrs

from actors.errors import DeclarationError, UnderstudyError
from actors.graphs.graph import Graph
from runtime.app import open_runtime
from runtime.cli.interrupts import run_until_interrupted
from runtime.cli.loading import load_graph
from runtime.cli.named_metric import load_metric
from runtime.cli.named_models import check_clients, choose_models, make_client
from runtime.cli.run import complain
from runtime.cli.terminal import ProgressLine, Style, is_one_place, printable
from runtime.cli.ticking import ticking
from runtime.cli.wrong_usage import WrongUsage
from runtime.evaluate.comparing import Comparison
from runtime.evaluate.compiled_nodes import Compilation, compile_graph
from runtime.evaluate.results import RAISED
from runtime.lm.client import LMClient
from runtime.lm.dspy import import_dspy
from runtime.lm.limits.budget import Budget
from runtime.lm.predictors.compiling import CompiledPredictor
from runtime.lm.predictors.optimising import MIN_EXAMPLES, Optimizer
from runtime.lm.predictors.training import Row, read_rows


@final
@attrs.frozen
class Options:
    """What the command line asks for."""

    graph: str
    trainset: str
    output: str
    metric: str | None = None
    testset: str | None = None
    evaluates: bool = True
    max_cost_usd: float | None = None
    optimizer: str = "bootstrap"
    effort: str = "light"
    trials: int | None = None
    seed: int = 0
    model: str | None = None
    lms: Mapping[str, str] = attrs.field(factory=dict[str, str])
    api_base: str | None = None
    quiet: bool = False
    verbose: bool = False


def run(options: Options) -> int:
    """Compile the graph and return the exit code: 1 when nothing was optimised.

    Raises:
        WrongUsage: the file, the graph's name, the training set, the metric or a model is wrong.
        KeyboardInterrupt: Ctrl-C.
    """
    if Path(options.output).exists() and not Path(options.output).is_dir():
        raise WrongUsage(f"-o {options.output}: it is a file, and the predictors are written into a folder")
    out, progress = sys.stdout, ProgressLine(sys.stderr, Style.of(sys.stderr), quiet=options.quiet)
    if not options.verbose:
        os.environ.setdefault("TQDM_DISABLE", "1")  # read when DSPy is imported
    # What the file, its metric and DSPy print must not get between the lines of the report.
    with contextlib.redirect_stdout(sys.stderr):
        graph = load_graph(options.graph)
        metric = load_metric(options.metric)
        try:
            rows = read_rows(options.trainset)
            test_rows = read_rows(options.testset) if options.testset is not None else None
            optimizer = Optimizer(options.optimizer, options.effort, options.trials, seed=options.seed)
            nodes = graph.plan().nodes.values()
        except DeclarationError as error:
            return complain(error, 2)
        if test_rows == []:
            raise WrongUsage(f"--testset {options.testset}: it holds no row to evaluate on")
        default, named = choose_models(nodes, options.model, options.lms)
        clients = {name: make_client(model, options.api_base) for name, model in named.items()}
        client = None if default is None else make_client(default, options.api_base)
        work = _Compilation(options, graph, rows, test_rows, metric, optimizer, client, clients, progress)
        result = run_until_interrupted(work.main)
    progress.clear()
    if isinstance(result, int):
        return result
    for done in () if work.has_told and is_one_place(out, sys.stderr) else result.predictors:
        out.write(printable(_line(done), out) + "\n")
    for node, found in result.evaluations.items():
        out.write(printable(_evaluation(node, found, result.data), out) + "\n")
    if not any(done.is_optimized for done in result.predictors):
        raise WrongUsage(f"nothing was optimised: no node has {MIN_EXAMPLES} examples in {options.trainset!r}")
    out.write(printable(f"written to {options.output}", out) + "\n")
    return 0


@final
@attrs.frozen(eq=False)
class _Compilation:
    """One compilation, told about on standard error."""

    options: Options
    graph: Graph
    rows: Sequence[Row]
    test_rows: Sequence[Row] | None
    metric: object
    optimizer: Optimizer
    default: LMClient | None
    named: Mapping[str, LMClient]
    progress: ProgressLine
    done: list[CompiledPredictor] = attrs.field(factory=list[CompiledPredictor], init=False)

    async def main(self) -> Compilation | int:
        """Compile; the report, or the exit code."""
        await check_clients([*self.named.values(), *([self.default] if self.default is not None else [])])
        await import_dspy.warm_up()
        if not self.options.verbose:
            import_dspy.part("utils.logging_utils").disable_logging()
        most = self.options.max_cost_usd
        budget = None if most is None else Budget(max_cost_usd=most)
        try:
            async with open_runtime(lm=self.default, lms=self.named) as runtime:

                async def compiled() -> Compilation:
                    return await compile_graph(
                        runtime,
                        self.graph,
                        self.rows,
                        self.options.output,
                        metric=self.metric,
                        optimizer=self.optimizer,
                        test_rows=self.test_rows,
                        evaluates=self.options.evaluates,
                        budget=budget,
                        told=self._told,
                    )

                return await ticking(self.progress, self._now, compiled)
        except DeclarationError as error:
            self.progress.clear()
            return complain(error, 2)
        except UnderstudyError as error:
            self.progress.clear()
            return complain(error, 1)

    @property
    def has_told(self) -> bool:
        """Whether each predictor has had its line on standard error."""
        return not (self.progress.is_live or self.options.quiet)

    def _told(self, done: CompiledPredictor) -> None:
        self.done.append(done)
        if self.has_told:
            self.progress.step(_line(done))

    def _now(self) -> str:
        last = self.done[-1] if self.done else None
        return f"optimising and evaluating; optimised: {last.node}" if last is not None else "optimising"


def _evaluation(node: str, found: Comparison, data: str) -> str:
    before, after = found.baseline, found.candidate
    assert before is not None and after is not None, "it was made of both"
    low, high = found.interval
    told = f"{found.metric} {after.mean(found.metric):.3f}, was {before.mean(found.metric):.3f}: {found.verdict}"
    rows = "1 row" if found.rows == 1 else f"{found.rows} rows"
    line = f"{node}: {told} ({found.difference:+.3f}, between {low:+.3f} and {high:+.3f}) on the {rows} of the {data}"
    raised = next((why for row in after.results for why in row.reasons.values() if why.startswith(RAISED)), None)
    return line if raised is None else f"{line}; {raised}"


def _line(done: CompiledPredictor) -> str:
    examples = "1 example" if done.examples == 1 else f"{done.examples} examples"
    result = f"optimised, {done.demos} demonstrations" if done.is_optimized else f"left as it is: fewer than {MIN_EXAMPLES}"
    return f"{done.node}: {done.purpose}: {examples}: {result}"
