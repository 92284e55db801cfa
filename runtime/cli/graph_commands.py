"""The commands that work with one graph: look at it, compile it, run it."""

from __future__ import annotations

import argparse

from runtime.cli.parser import EXIT_CODES, RAW, Commands, add_models, to_count, to_dollars, to_probability, to_seconds, to_share

GRAPH = """\
Look at a graph without running it. FILE.py:NAME is the Python file that declares it and the name it has there;
package.module:NAME does as well.
"""


COMPILE = """\
Optimise the predictors of a graph's predict nodes with DSPy, and save them, one JSON file for each node, for
open_runtime(predictors=FOLDER). A row of the training set is one line such as
{"node": "answer", "input": {"text": "…"}, "output": {"text": "…"}}; a node with fewer than 10 is left as it is.
What was optimised is evaluated beside what was not, on the same rows and by the same metric; its file holds the result.
"""


EVALUATE = """\
Run a graph on every row of a data set, and judge the outputs. A row is one line such as
{"question": "…", "expected": "…"}: the fields of the graph's input, and what else its metrics need.
"""


EVALUATE_MORE = f"""\
examples:
  understudy evaluate graphs.py:graph --data cases.jsonl --metric metrics.py:close --model openai/gpt-4o-mini
  understudy evaluate graphs.py:graph --data cases.jsonl --against baseline.jsonl --fail-if worse --junit report.xml
  understudy evaluate graphs.py:new --versus graphs.py:old --data cases.jsonl --html report.html

{EXIT_CODES}; 1 also when --fail-if holds
"""


RUN = """\
Run a graph once. FILE.py:NAME is the Python file that declares it and the name it has there;
package.module:NAME does as well. The output is printed
on standard output as JSON; progress goes to standard error, and so does what the file itself prints.
"""


RUN_MORE = f"""\
examples:
  understudy run graphs.py:graph --input '{{"text": "…", "label": "Idea"}}' --model openai/gpt-4o-mini
  understudy run graphs.py:graph --input @question.json --model openai/gpt-4o-mini --lm large=anthropic/claude-sonnet-4-5
  understudy run graphs.py:graph --input - --model openai/local --api-base http://127.0.0.1:8000/v1 < question.json

Keys come from the environment, where each provider's own tools expect them: OPENAI_API_KEY, ANTHROPIC_API_KEY, …
{EXIT_CODES}
"""


def _start_graph(options: argparse.Namespace) -> int:
    from runtime.cli import graph  # noqa: PLC0415 - `understudy --help` need not wait for it

    return graph.run(graph.Options(options.action, options.graph, getattr(options, "output", None)))


def _start_compile(options: argparse.Namespace) -> int:
    from runtime.cli import compile  # noqa: A004, PLC0415 - `understudy --help` need not wait for it; the command is called so

    return compile.run(
        compile.Options(
            options.graph,
            options.trainset,
            options.output,
            metric=options.metric,
            testset=options.testset,
            evaluates=not options.no_evaluation,
            max_cost_usd=options.max_cost,
            optimizer=options.optimizer,
            effort=options.effort,
            trials=options.trials,
            seed=options.seed,
            model=options.model,
            lms=dict(options.lm),
            api_base=options.api_base,
            quiet=options.quiet,
            verbose=options.verbose,
        )
    )


def _start_evaluate(options: argparse.Namespace) -> int:
    from runtime.cli import evaluate  # noqa: PLC0415 - `understudy --help` need not wait for it

    return evaluate.run(
        evaluate.Options(
            graph=options.graph,
            data=options.data,
            metrics=options.metric,
            repeats=options.repeats,
            at_once=options.at_once,
            max_cost_usd=options.max_cost,
            out=options.out,
            html=options.html,
            junit=options.junit,
            against=options.against,
            fail_if=options.fail_if,
            versus=options.versus,
            versus_model=options.versus_model,
            versus_predictors=options.versus_predictors,
            predictors=options.predictors,
            error=options.error,
            expects=options.expects,
            seed=options.seed,
            record=options.record,
            model=options.model,
            lms=dict(options.lm),
            api_base=options.api_base,
            quiet=options.quiet,
        )
    )


def _start_run(options: argparse.Namespace) -> int:
    from runtime.cli import run  # noqa: PLC0415 - `understudy --help` need not wait for it

    return run.run(
        run.Options(
            options.graph,
            options.input,
            options.input_type,
            options.model,
            dict(options.lm),
            options.api_base,
            options.timeout,
            options.quiet,
            options.watch,
            options.predictors,
            options.traceback,
            options.show_prompts,
            options.record,
            options.case,
        )
    )


def add_graph(commands: Commands) -> None:
    """The command ``understudy graph``."""
    graph = commands.add_parser("graph", help="look at a graph", description=GRAPH, epilog=EXIT_CODES, formatter_class=RAW)
    graph.set_defaults(start=_start_graph)
    actions = graph.add_subparsers(dest="action", required=True, metavar="ACTION")
    for name, text in (
        ("show", "print it as Mermaid text"),
        ("check", "print everything that is wrong with it, and how to fix it; exit code 1 if anything is"),
        ("describe", "print its design page: picture, nodes, prompts, types, supervision, mailboxes, limits"),
        ("export", "write it to a file: .svg, .png, .mmd (Mermaid) or .md (the design page)"),
    ):
        action = actions.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        action.add_argument("graph", metavar="FILE.py:NAME", help="where the graph is")
        if name == "export":
            action.add_argument("-o", "--output", metavar="FILE", required=True, help="where to write it")


def add_compile(commands: Commands) -> None:
    """The command ``understudy compile``."""
    compiling = commands.add_parser(
        "compile",
        help="optimise the prompts of a graph's predict nodes",
        description=COMPILE,
        epilog=EXIT_CODES,
        formatter_class=RAW,
    )
    compiling.set_defaults(start=_start_compile)
    compiling.add_argument("graph", metavar="FILE.py:NAME", help="where the graph is")
    compiling.add_argument("--trainset", metavar="FILE", required=True, help="the training set: JSON Lines, or a JSON list")
    compiling.add_argument("-o", "--output", metavar="FOLDER", required=True, help="where the predictors are written")
    compiling.add_argument("--metric", metavar="FILE.py:NAME", help="a function (example, output, trace), as for evaluate")
    compiling.add_argument("--testset", metavar="FILE", help="rows to evaluate what was optimised on; without: the training set")
    compiling.add_argument("--no-evaluation", action="store_true", help="optimise only")
    compiling.add_argument("--max-cost", metavar="USD", type=to_dollars, help="the most that all calls may cost")
    compiling.add_argument("--optimizer", choices=("bootstrap", "mipro", "gepa"), default="bootstrap", help="of DSPy")
    compiling.add_argument("--effort", choices=("light", "medium", "heavy"), default="light", help="of mipro and gepa")
    compiling.add_argument("--trials", metavar="N", type=to_count, help="instead: mipro's trials, or gepa's calls of the metric")
    compiling.add_argument("--seed", metavar="N", type=int, default=0, help="of mipro and gepa")
    add_models(compiling)
    compiling.add_argument("-q", "--quiet", action="store_true", help="no progress")
    compiling.add_argument("-v", "--verbose", action="store_true", help="show DSPy's output")


def add_run(commands: Commands) -> None:
    """The command ``understudy run``."""
    run = commands.add_parser("run", help="run a graph once", description=RUN, epilog=RUN_MORE, formatter_class=RAW)
    run.set_defaults(start=_start_run)
    run.add_argument("graph", metavar="FILE.py:NAME", help="where the graph is")
    run.add_argument("--input", metavar="JSON", default="{}", help="the input's fields; @FILE reads a file, - standard input")
    run.add_argument("--input-type", metavar="TYPE", help="the type's name, when the graph takes several and the fields fit more")
    add_models(run)
    run.add_argument(
        "--predictors", metavar="FOLDER", help="trained predictors for its nodes, as `understudy compile` wrote them"
    )
    run.add_argument("--timeout", metavar="SECONDS", type=to_seconds, help="give up after so long")
    run.add_argument(
        "-w", "--watch", action="store_true", help="show every node while it works; a line per step outside terminals"
    )
    run.add_argument("-q", "--quiet", action="store_true", help="no progress")
    run.add_argument("--traceback", action="store_true", help="show a failure with the traceback of every error")
    run.add_argument("--show-prompts", action="store_true", help="write what language models are asked to standard error")
    run.add_argument("--record", metavar="FILE.jsonl", help="write what happens to a file, for `understudy trace`")
    run.add_argument("--case", metavar="FILE.jsonl", help="write the run to a file, as a test that runs it again")


def add_evaluate(commands: Commands) -> None:
    """The command ``understudy evaluate``."""
    evaluating = commands.add_parser(
        "evaluate", help="run a graph on many rows and judge it", description=EVALUATE, epilog=EVALUATE_MORE, formatter_class=RAW
    )
    evaluating.set_defaults(start=_start_evaluate)
    evaluating.add_argument("graph", metavar="FILE.py:NAME", help="where the graph is")
    evaluating.add_argument("--data", metavar="FILE", required=True, help="the rows: JSON Lines, a JSON list, or CSV")
    evaluating.add_argument(
        "--metric",
        metavar="FILE.py:NAME",
        action="append",
        default=[],
        help="a function (example, output, trace), a graph, exact (the default), cost, latency or steps; may be repeated",
    )
    evaluating.add_argument("--repeats", metavar="N", type=to_count, default=1, help="runs of each row")
    evaluating.add_argument("--at-once", metavar="N", type=to_count, help="the most runs at the same time")
    evaluating.add_argument("--max-cost", metavar="USD", type=to_dollars, help="end when the runs have cost so much")
    evaluating.add_argument(
        "--out", metavar="FILE", help="keep results as they come, in JSON Lines; started again, it goes on there"
    )
    evaluating.add_argument("--html", metavar="FILE", help="write a page with plots")
    evaluating.add_argument("--junit", metavar="FILE", help="write JUnit's XML, for build servers")
    evaluating.add_argument("--against", metavar="FILE", help="compare with the results that an earlier --out kept")
    evaluating.add_argument(
        "--versus", metavar="FILE.py:NAME", help="run another graph beside it until it is clear which is better"
    )
    evaluating.add_argument("--fail-if", choices=("worse", "not-better"), help="exit with 1 then")
    evaluating.add_argument("--error", metavar="P", type=to_probability, default=0.05, help="of a verdict without a difference")
    evaluating.add_argument(
        "--expects",
        metavar="SHARE",
        type=to_share,
        default=0.1,
        help="with --versus, the smallest difference that matters, which is found soonest (default: 0.1, ten points)",
    )
    evaluating.add_argument("--versus-model", metavar="MODEL", help="compare with the same graph, or that of --versus, on MODEL")
    evaluating.add_argument(
        "--versus-predictors", metavar="FOLDER", help="compare with the same graph, or that of --versus, with these predictors"
    )
    evaluating.add_argument("--predictors", metavar="FOLDER", help="trained predictors, as `understudy compile` wrote them")
    evaluating.add_argument("--seed", metavar="N", type=int, default=0, help="of the order of rows, with --versus")
    evaluating.add_argument("--record", metavar="FOLDER", help="record the models' calls there, or replay them")
    add_models(evaluating)
    evaluating.add_argument("-q", "--quiet", action="store_true", help="no progress")
