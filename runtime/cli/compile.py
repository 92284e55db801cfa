"""``understudy compile FILE.py:graph``: optimise a graph's predictors, and save them for ``open_runtime(predictors=…)``."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, final

import attrs

from actors.errors import DeclarationError, UnderstudyError
from actors.graphs.graph import Graph
from actors.graphs.node import NodeSpec
from actors.lm import LM
from runtime.app import open_runtime
from runtime.cli.interrupts import run_until_interrupted
from runtime.cli.loading import load_function, load_graph
from runtime.cli.named_models import check_clients, choose_models, make_client
from runtime.cli.run import complain
from runtime.cli.terminal import Progress, Style, printable
from runtime.cli.ticking import ticking
from runtime.cli.wrong_usage import WrongUsage
from runtime.lm.client import LMClient
from runtime.lm.dspy import import_dspy
from runtime.lm.predictors.compiling import CompiledPredictor, compile_graph
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
    out, progress = sys.stdout, Progress(sys.stderr, Style.of(sys.stderr), quiet=options.quiet)
    if not options.verbose:
        os.environ.setdefault("TQDM_DISABLE", "1")  # read when DSPy is imported
    # What the file, its metric and DSPy print must not get between the lines of the report.
    with contextlib.redirect_stdout(sys.stderr):
        graph = load_graph(options.graph)
        metric = load_function(options.metric) if options.metric is not None else None
        try:
            rows = read_rows(options.trainset)
            optimizer = Optimizer(options.optimizer, options.effort, options.trials, seed=options.seed)
            nodes = graph.plan().nodes.values()
        except DeclarationError as error:
            return complain(error, 2)
        default, named = choose_models(nodes, options.model, options.lms)
        clients = {name: make_client(model, options.api_base) for name, model in named.items()}
        client = None if default is None else make_client(default, options.api_base)
        work = _Compilation(graph, rows, Path(options.output), metric, optimizer, client, clients, options.verbose, progress)
        result = run_until_interrupted(work.main)
    progress.clear()
    if isinstance(result, int):
        return result
    for done in result:
        out.write(printable(_line(done), out) + "\n")
    if not any(done.is_optimized for done in result):
        raise WrongUsage(f"nothing was optimised: no node has {MIN_EXAMPLES} examples in {options.trainset!r}")
    out.write(printable(f"written to {options.output}", out) + "\n")
    return 0


@final
@attrs.frozen(eq=False)
class _Compilation:
    """One compilation, told about on standard error."""

    graph: Graph
    rows: Sequence[Row]
    folder: Path
    metric: Callable[..., Any] | None
    optimizer: Optimizer
    default: LMClient | None
    named: Mapping[str, LMClient]
    is_verbose: bool
    progress: Progress
    done: list[CompiledPredictor] = attrs.field(factory=list[CompiledPredictor], init=False)

    async def main(self) -> list[CompiledPredictor] | int:
        """Compile; the report, or the exit code."""
        await check_clients([*self.named.values(), *([self.default] if self.default is not None else [])])
        await import_dspy.warm_up()
        if not self.is_verbose:
            import_dspy.part("utils.logging_utils").disable_logging()
        try:
            async with open_runtime(lm=self.default, lms=self.named) as runtime, contextlib.AsyncExitStack() as stack:
                for own in {id(spec.options.lm): spec.options.lm for spec in self.graph.plan().nodes.values()}.values():
                    if isinstance(own, LMClient) and not own.is_open:
                        await stack.enter_async_context(own)

                def lm_for(spec: NodeSpec) -> LM:
                    own = spec.options.lm
                    return runtime.lm if own is None else runtime.lms[own] if isinstance(own, str) else own

                async def compiled() -> list[CompiledPredictor]:
                    return await compile_graph(
                        self.graph,
                        self.rows,
                        self.folder,
                        lm_for=lm_for,
                        metric=self.metric,
                        optimizer=self.optimizer,
                        told=self._told,
                    )

                return await ticking(self.progress, self._now, compiled)
        except DeclarationError as error:
            self.progress.clear()
            return complain(error, 2)
        except UnderstudyError as error:
            self.progress.clear()
            return complain(error, 1)

    def _told(self, done: CompiledPredictor) -> None:
        self.done.append(done)
        if not self.progress.is_live:
            self.progress.step(_line(done))

    def _now(self) -> str:
        last = self.done[-1] if self.done else None
        return f"optimising; done: {last.node}" if last is not None else "optimising"


def _line(done: CompiledPredictor) -> str:
    examples = "1 example" if done.examples == 1 else f"{done.examples} examples"
    result = f"optimised, {done.demos} demonstrations" if done.is_optimized else f"left as it is: fewer than {MIN_EXAMPLES}"
    return f"{done.node}: {done.purpose}: {examples}: {result}"
