"""``understudy evaluate FILE.py:graph --data FILE``: run a graph on rows, judge its outputs, and compare it."""

from __future__ import annotations

import contextlib
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import attrs

from actors.errors import DeclarationError, UnderstudyError, UsageError
from actors.graphs.graph import Graph
from actors.lm import LM
from runtime.app import Runtime, open_runtime
from runtime.cli.interrupts import run_until_interrupted
from runtime.cli.loading import load_graphs
from runtime.cli.named_metric import load_metric
from runtime.cli.named_models import check_clients, make_clients
from runtime.cli.run import complain
from runtime.cli.terminal import ProgressLine, Style, printable
from runtime.cli.ticking import ticking
from runtime.cli.wrong_usage import WrongUsage
from runtime.evaluate import comparing, evaluating
from runtime.evaluate.comparing import Comparison
from runtime.evaluate.dataset import Dataset
from runtime.evaluate.progress import Progress, Told
from runtime.evaluate.report import to_html, to_junit, to_text
from runtime.evaluate.results import Evaluation
from runtime.evaluate.scoring import Metric
from runtime.evaluate.sequential import EXPECTS
from runtime.lm.client import LMClient
from runtime.lm.limits.budget import Budget

if TYPE_CHECKING:
    from runtime.cli.evaluation_bar import EvaluationBar

NO_BAR = "the bar needs rich, which is not installed; this is a plain line. Fix: pip install 'understudy[watch]'"


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
    versus_model: str | None = None
    versus_predictors: str | None = None
    predictors: str | None = None
    error: float = 0.05
    expects: float = EXPECTS
    seed: int = 0
    record: str | None = None
    model: str | None = None
    lms: Mapping[str, str] = attrs.field(factory=dict[str, str])
    api_base: str | None = None
    quiet: bool = False

    @property
    def other(self) -> str | None:
        """What is compared with, if a graph is: the same one, where only its model or its predictors differ."""
        is_same = self.versus_model is not None or self.versus_predictors is not None
        return self.graph if self.versus is None and is_same else self.versus


def run(options: Options) -> int:
    """Evaluate, write the reports and return the exit code: 1 when ``fail_if`` holds, or no output could be judged.

    Raises:
        WrongUsage: a file, a name or a model is wrong.
        KeyboardInterrupt: Ctrl-C; what `out` holds by then is kept.
    """
    _check(options)
    out = sys.stdout
    progress, tell = _shown(options)
    targets = [options.graph, *([options.other] if options.other is not None else [])]
    try:
        graph, *beside = load_graphs(targets)
    except DeclarationError as error:
        return complain(error, 2)
    with contextlib.redirect_stdout(sys.stderr):  # what the files print must not get between the lines of the report
        metrics = [load_metric(name) for name in options.metrics or (None,)]
        try:
            data = Dataset.load(options.data, graph)
            baseline = Evaluation.load(options.against) if options.against is not None else None
        except (DeclarationError, UsageError) as error:
            return complain(error, 2)
        is_apart = options.versus_model is not None or options.versus_predictors is not None or options.predictors is not None
        alike = [graph] if is_apart else [graph, *beside]
        models = make_clients(alike, options.model, options.lms, options.api_base)
        apart = None
        if beside and is_apart:
            apart = make_clients(beside, options.versus_model or options.model, options.lms, options.api_base)
        work = _Work(options, graph, beside[0] if beside else None, data, metrics, models, apart, progress, tell)
        try:
            result = run_until_interrupted(work.main)
        except KeyboardInterrupt:
            progress.clear()
            if options.out is not None:
                sys.stderr.write(printable(f"what was done is kept in {options.out}; the same command goes on\n", sys.stderr))
            raise
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
    for path, text in ((options.html, to_html(done, comparison)), (options.junit, _junit(done, metrics))):
        if path is not None:
            try:
                Path(path).write_text(text, encoding="utf-8")
            except OSError as error:
                raise WrongUsage(f"{path} cannot be written: {error.strerror or error}") from error
            out.write(printable(f"written to {path}\n", out))
    return _exit_code(options, done, comparison)


def _shown(options: Options) -> tuple[ProgressLine | EvaluationBar, Told]:
    """What shows how far it is, and what it is told by: a bar on a terminal, else a line for each tenth."""
    style = Style.of(sys.stderr)
    line = ProgressLine(sys.stderr, style, quiet=options.quiet)
    if line.is_live:
        try:
            from runtime.cli.evaluation_bar import EvaluationBar  # noqa: PLC0415 - an extra installs what it needs
        except ImportError:
            sys.stderr.write(printable(f"{NO_BAR}\n", sys.stderr))
        else:
            bar = EvaluationBar(sys.stderr, style)
            return bar, bar.tell

    tenths = 0

    def tell(now: Progress) -> None:
        nonlocal tenths
        done = 10 * now.done // now.of
        if line.is_live or done > tenths:
            tenths = done
            line.step(str(now))

    return line, tell


def _check(options: Options) -> None:
    if options.fail_if is not None and options.against is None and options.other is None:
        raise WrongUsage("--fail-if: there is nothing to compare with. Fix: give --against FILE or --versus FILE.py:NAME")
    if options.against is not None and options.other is not None:
        raise WrongUsage("--against and --versus: choose one, a file with earlier results or a graph to run beside it")
    if options.other is not None and (options.out is not None or len(options.metrics) > 1):
        raise WrongUsage("--versus compares by one metric, and keeps no results: leave --out and further --metric out")
    taken = {Path(path).resolve(): name for name, path in (("--data", options.data), ("--against", options.against)) if path}
    for name, path in (("--out", options.out), ("--html", options.html), ("--junit", options.junit)):
        if path is None:
            continue
        place = Path(path).resolve()
        if not place.parent.is_dir():
            raise WrongUsage(f"{path}: its folder does not exist")
        if place.is_dir():
            raise WrongUsage(f"{name} {path}: it is a folder. Fix: name a file in it")
        if place in taken and not (name == "--out" and taken[place] == "--against"):
            raise WrongUsage(
                f"{name} {path}: it is the file of {taken[place]}, and would be written over. Fix: name another file"
            )
        taken[place] = name


def _junit(done: Evaluation, metrics: Sequence[object]) -> str:
    """By the first metric that judges outputs: what is measured of a run has no value that it needs."""
    judge = next((each for each in map(Metric.of, metrics) if not (each.less_is_better or math.isinf(each.high))), None)
    if judge is None:
        return to_junit(done, -math.inf)
    return to_junit(done, judge.low + judge.needs * (judge.high - judge.low), judge.name)


def _exit_code(options: Options, done: Evaluation, comparison: Comparison | None) -> int:
    if comparison is not None and options.fail_if == "worse" and comparison.verdict == comparing.WORSE:
        return 1
    if comparison is not None and options.fail_if == "not-better" and comparison.verdict != comparing.BETTER:
        return 1
    judged = [row for row in done.results if row.error is None and not row.has_raised(done.metrics[0])]
    return 0 if judged else 1


@final
@attrs.frozen(eq=False)
class _Work:
    options: Options
    graph: Graph[Any, Any]
    versus: Graph[Any, Any] | None
    data: Dataset
    metrics: Sequence[Any]
    models: tuple[LM | None, Mapping[str, LMClient]]
    apart: tuple[LM | None, Mapping[str, LMClient]] | None
    """Those of the graph that is compared with, where that runs in another runtime."""
    progress: ProgressLine | EvaluationBar
    tell: Told

    async def main(self) -> tuple[Evaluation, Comparison | None] | int:
        """Evaluate; the result, or the exit code."""
        options = self.options
        try:
            if options.record is None:
                await check_clients(_clients(*self.models))
                await check_clients(_clients(*self.apart) if self.apart is not None else [])
            async with contextlib.AsyncExitStack() as stack:
                runtime = await stack.enter_async_context(self._opened(*self.models, options.predictors))
                other = None
                if self.apart is not None:
                    other = await stack.enter_async_context(self._opened(*self.apart, options.versus_predictors))
                return await ticking(self.progress, lambda: "evaluating", lambda: self._done(runtime, other))
        except (DeclarationError, UsageError) as error:
            self.progress.clear()
            return complain(error, 2)

    def _opened(
        self, default: LM | None, named: Mapping[str, LMClient], predictors: str | None
    ) -> contextlib.AbstractAsyncContextManager[Runtime]:
        return open_runtime(lm=default, lms=named, predictors=predictors, record=self.options.record)

    async def _done(self, runtime: Runtime, other: Runtime | None) -> tuple[Evaluation, Comparison | None]:
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
                expects=options.expects,
                repeats=options.repeats,
                at_once=options.at_once or comparing.AT_ONCE,
                budget=budget,
                seed=options.seed,
                baseline_runtime=other,
                told=self.tell,
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
            told=self.tell,
        )
        return done, None


def _clients(default: LM | None, named: Mapping[str, LMClient]) -> list[LMClient]:
    return [*named.values(), *([default] if isinstance(default, LMClient) else [])]
