"""``understudy evaluate FILE.py:graph --data FILE``: run a graph on rows, judge its outputs, and compare it."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

import attrs

from actors.errors import DeclarationError, UnderstudyError, UsageError
from actors.graphs.graph import Graph
from actors.lm import LM
from runtime.app import Runtime, open_runtime
from runtime.cli.interrupts import run_until_interrupted
from runtime.cli.loading import load_beside, load_graphs
from runtime.cli.named_models import check_clients, make_clients
from runtime.cli.run import complain
from runtime.cli.terminal import Progress, Style, printable
from runtime.cli.ticking import ticking
from runtime.cli.wrong_usage import WrongUsage
from runtime.evaluate import comparing, evaluating
from runtime.evaluate.comparing import Comparison
from runtime.evaluate.dataset import Dataset
from runtime.evaluate.report import to_html, to_junit, to_text
from runtime.evaluate.results import Evaluation
from runtime.evaluate.scoring import Metric, exact
from runtime.lm.client import LMClient
from runtime.lm.limits.budget import Budget


@final
@attrs.frozen
class Options:
    """What the command line asks for."""

    graph: str
    data: str
    metrics: Sequence[str] = ()
    repeats: int = 1
    at_once: int | None = None
    max_cost_usd: float | None = None
    out: str | None = None
    html: str | None = None
    junit: str | None = None
    against: str | None = None
    fail_if: str | None = None
    versus: str | None = None
    error: float = 0.05
    seed: int = 0
    record: str | None = None
    model: str | None = None
    lms: Mapping[str, str] = attrs.field(factory=dict[str, str])
    api_base: str | None = None
    quiet: bool = False


def run(options: Options) -> int:
    """Evaluate, write the reports and return the exit code: 1 when ``fail_if`` holds, or no run had an output.

    Raises:
        WrongUsage: a file, a name or a model is wrong.
        KeyboardInterrupt: Ctrl-C; what `out` holds by then is kept.
    """
    _check(options)
    out, progress = sys.stdout, Progress(sys.stderr, Style.of(sys.stderr), quiet=options.quiet)
    targets = [options.graph, *([options.versus] if options.versus is not None else [])]
    try:
        graph, *beside = load_graphs(targets)
    except DeclarationError as error:
        return complain(error, 2)
    with contextlib.redirect_stdout(sys.stderr):  # what the files print must not get between the lines of the report
        metrics = [exact if name == exact.__name__ else _loaded(name) for name in options.metrics or (exact.__name__,)]
        try:
            data = Dataset.load(options.data, graph)
            baseline = Evaluation.load(options.against) if options.against is not None else None
        except (DeclarationError, UsageError) as error:
            return complain(error, 2)
        default, named = make_clients([graph, *beside], options.model, options.lms, options.api_base)
        work = _Work(options, graph, beside[0] if beside else None, data, metrics, default, named, progress)
        result = run_until_interrupted(work.main)
    progress.clear()
    if isinstance(result, int):
        return result
    done, comparison = result
    if baseline is not None:
        try:
            comparison = comparing.compared(baseline, done, Metric.of(metrics[0]), error=options.error)
        except UnderstudyError as error:
            return complain(error, 2)
    out.write(printable(to_text(done, comparison), out))
    for path, text in ((options.html, to_html(done, comparison)), (options.junit, to_junit(done))):
        if path is not None:
            Path(path).write_text(text, encoding="utf-8")
            out.write(printable(f"written to {path}\n", out))
    return _exit_code(options, done, comparison)


def _check(options: Options) -> None:
    if options.fail_if is not None and options.against is None and options.versus is None:
        raise WrongUsage("--fail-if: there is nothing to compare with. Fix: give --against FILE or --versus FILE.py:NAME")
    if options.against is not None and options.versus is not None:
        raise WrongUsage("--against and --versus: choose one, a file with earlier results or a graph to run beside it")
    if options.versus is not None and (options.out is not None or len(options.metrics) > 1):
        raise WrongUsage("--versus compares by one metric, and keeps no results: leave --out and further --metric out")
    for path in (options.out, options.html, options.junit):
        if path is not None and not Path(path).resolve().parent.is_dir():
            raise WrongUsage(f"{path}: its folder does not exist")


def _is_metric(found: object) -> bool:
    return isinstance(found, Metric | Graph) or callable(found)


def _loaded(target: str) -> object:
    """A metric: a function, a graph or a ``Metric``."""
    found = load_beside(target)
    if not _is_metric(found):
        path, _, name = target.rpartition(":")
        raise WrongUsage(f"{path!r} has no metric {name!r}: expected a function (example, output, trace), a Metric or a graph")
    return found


def _exit_code(options: Options, done: Evaluation, comparison: Comparison | None) -> int:
    if comparison is not None and options.fail_if == "worse" and comparison.verdict == comparing.WORSE:
        return 1
    if comparison is not None and options.fail_if == "not-better" and comparison.verdict != comparing.BETTER:
        return 1
    return 1 if len(done.failed) == len(done.results) else 0


@final
@attrs.frozen(eq=False)
class _Work:
    options: Options
    graph: Graph[Any, Any]
    versus: Graph[Any, Any] | None
    data: Dataset
    metrics: Sequence[Any]
    default: LM | None
    named: Mapping[str, LMClient]
    progress: Progress
    told: list[evaluating.Progress] = attrs.field(factory=list[evaluating.Progress], init=False)

    async def main(self) -> tuple[Evaluation, Comparison | None] | int:
        """Evaluate; the result, or the exit code."""
        clients = [*self.named.values(), *([self.default] if isinstance(self.default, LMClient) else [])]
        try:
            if self.options.record is None:
                await check_clients(clients)
            async with open_runtime(lm=self.default, lms=self.named, record=self.options.record) as runtime:
                return await ticking(self.progress, self._now, lambda: self._done(runtime))
        except (DeclarationError, UsageError) as error:
            self.progress.clear()
            return complain(error, 2)

    async def _done(self, runtime: Runtime) -> tuple[Evaluation, Comparison | None]:
        options = self.options
        budget = None if options.max_cost_usd is None else Budget(max_cost_usd=options.max_cost_usd)
        if self.versus is not None:
            comparison = await comparing.compare(
                runtime,
                self.versus,
                self.graph,
                self.data,
                self.metrics[0],
                error=options.error,
                repeats=options.repeats,
                at_once=options.at_once or comparing.AT_ONCE,
                budget=budget,
                seed=options.seed,
            )
            assert comparison.candidate is not None, "it was just evaluated"
            return comparison.candidate, comparison
        done = await evaluating.evaluate(
            runtime,
            self.graph,
            self.data,
            self.metrics,
            repeats=options.repeats,
            at_once=options.at_once or evaluating.AT_ONCE,
            budget=budget,
            out=options.out,
            told=self._tell,
        )
        return done, None

    def _tell(self, now: evaluating.Progress) -> None:
        self.told[:] = [now]
        if not self.progress.is_live and (now.done == now.of or now.done % max(1, now.of // 10) == 0):
            self.progress.step(self._now())

    def _now(self) -> str:
        if not self.told:
            return "evaluating"
        now = self.told[0]
        return f"{now.done} of {now.of} runs, mean {now.mean:.3f}, ${now.cost_usd:.4f}, about {now.left_s:.0f} s left"
