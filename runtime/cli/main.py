"""The command ``understudy``: options, and which part of the package a command needs. The parts are imported when they run."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import NoReturn, final

from runtime.cli.interrupts import INTERRUPTED, leave_quickly, say_interrupted
from runtime.cli.terminal import printable
from runtime.cli.wrong_usage import WrongUsage

DESCRIPTION = """\
Language-model graphs whose nodes are supervised trio actors.

  understudy demo                        three calls, five ways: needs no key and no network
  understudy run graphs.py:graph --input '{"text": "…"}' --model openai/gpt-4o-mini
"""
EXIT_CODES = "exit codes: 0 it went well, 1 the run failed, 2 the command line is wrong, 130 interrupted"

DEMO = """\
Three language-model calls turn a question into a database query. The demo makes them five ways: one after another,
async functions that call synchronous DSPy, threads, plain asyncio, and as a graph of supervised actors on trio. It
draws when each request was at the server, judges a study that explained it wrongly, and shows how a failed call is
survived. The provider is a process on this machine: no key and no network is needed.
"""

GRAPH = """\
Look at a graph without running it. FILE.py:NAME is the Python file that declares it and the name it has there;
package.module:NAME does as well.
"""

COMPILE = """\
Optimise the predictors of a graph's predict nodes with DSPy, and save them, one JSON file for each node, for
open_runtime(predictors=FOLDER). A row of the training set is one line such as
{"node": "answer", "input": {"text": "…"}, "output": {"text": "…"}}; a node with fewer than 10 is left as it is.
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

TRACE = """\
Show what a run did and when: on the terminal, or as a file to look at. A file of .html is a page with the run inside, which
opens without a network; .json is for https://ui.perfetto.dev and chrome://tracing; .svg is a picture.
"""
TRACE_MORE = """\
examples:
  understudy run graphs.py:graph --record run.jsonl
  understudy trace run.jsonl
  understudy trace run.jsonl -o run.html
  understudy trace JJ1dUL4-75Wkajb8hRy6gw --url http://127.0.0.1:8321 -o run.json

exit codes: 0 it went well, 1 there is no such trace, 2 the command line is wrong
"""

RUNS = """\
Runs that open_runtime(store=…) has kept. None of their graphs is needed, and the process that works on them may go on.
"""
UPKEEP = """\
Look after the store that open_runtime(store=…) was given. To migrate and to vacuum, no process may have it.
"""
STORE = "the store: a SQLite file, or postgresql://…"
STATUSES = ("ready", "running", "waiting", "parked", "succeeded", "failed", "cancelled")
SERVE = """\
Serve graphs over HTTP until SIGTERM or Ctrl-C; runs under way then have --grace seconds. Without keys, one is made for
this process and shown.
"""


NEW = """\
Make a package with a graph, a test of it in virtual time, and a service. All of it runs as it is.
"""
DOCTOR = """\
Report which Python, libraries and extras are installed, and which providers' keys are set, never their values. With --model it
asks that model one short question, which costs a few tokens; the exit code is 1 if it doesn't answer.
"""


@final
class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Say what is wrong on one line."""
        raise WrongUsage(f"{message} (see {self.prog} --help)")


@final
class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object, **__: object) -> None:
        """Print the version of the installed distribution and exit."""
        from importlib import metadata  # noqa: PLC0415 - reading it takes as long as everything else that --help needs

        try:
            version = metadata.version("understudy")
        except metadata.PackageNotFoundError:
            version = "(not installed)"
        print(f"understudy {version}")
        parser.exit()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (default: this process's) and return the exit code; ``--help`` raises SystemExit(0)."""
    try:
        code = _run(argv)
        sys.stdout.flush()
    except WrongUsage as error:
        sys.stderr.write(printable(f"understudy: {error}\n", sys.stderr))
        return 2
    except KeyboardInterrupt:
        say_interrupted()
        leave_quickly()
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has gone; the interpreter's own last flush must not complain of it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return code


def _run(argv: Sequence[str] | None) -> int:
    options = _parser().parse_args(argv)
    start: Callable[[argparse.Namespace], int] = options.start
    return start(options)


def _start_demo(options: argparse.Namespace) -> int:
    from runtime.cli import demo  # noqa: PLC0415 - `understudy --help` need not wait for it

    return demo.run(demo.Options(options.model, options.api_base, options.fast, options.json))


def _start_graph(options: argparse.Namespace) -> int:
    from runtime.cli import graph  # noqa: PLC0415 - as above

    return graph.run(graph.Options(options.action, options.graph, getattr(options, "output", None)))


def _start_compile(options: argparse.Namespace) -> int:
    from runtime.cli import compile  # noqa: A004, PLC0415 - as above; the command is called so

    return compile.run(
        compile.Options(
            options.graph,
            options.trainset,
            options.output,
            options.metric,
            options.optimizer,
            options.effort,
            options.trials,
            options.seed,
            options.model,
            dict(options.lm),
            options.api_base,
            options.quiet,
            options.verbose,
        )
    )


def _start_new(options: argparse.Namespace) -> int:
    from runtime.cli import new  # noqa: PLC0415 - as above

    return new.run(new.Options(options.name, options.folder))


def _start_doctor(options: argparse.Namespace) -> int:
    from runtime.cli import doctor  # noqa: PLC0415 - as above

    return doctor.run(doctor.Options(options.model, options.api_base))


def _start_run(options: argparse.Namespace) -> int:
    from runtime.cli import run  # noqa: PLC0415 - as above

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
        )
    )


def _start_trace(options: argparse.Namespace) -> int:
    from runtime.cli import trace  # noqa: PLC0415 - as above

    return trace.run(trace.Options(options.source, options.output, options.url, options.key, options.run))


def _start_runs(options: argparse.Namespace) -> int:
    from runtime.cli import runs  # noqa: PLC0415 - as above

    given = vars(options)
    names = ("run", "graph", "status", "label", "since", "limit", "after")
    return runs.run(runs.Options(options.action, options.store, **{name: given[name] for name in names if name in given}))


def _start_store(options: argparse.Namespace) -> int:
    from runtime.cli import store  # noqa: PLC0415 - as above

    return store.run(store.Options(options.action, options.store))


def _start_serve(options: argparse.Namespace) -> int:
    from runtime.cli import serve  # noqa: PLC0415 - as above

    return serve.run(
        serve.Options(
            options.graphs,
            options.model,
            dict(options.lm),
            options.api_base,
            options.host,
            options.port,
            options.keys,
            options.no_auth,
            options.allowed_host,
            options.cors,
            options.grace,
            not options.no_inspector,
            options.operate,
            options.check,
            options.store,
        )
    )


def _start_keys(options: argparse.Namespace) -> int:
    from runtime.cli import serve  # noqa: PLC0415 - as above

    return serve.new_key_command(options.name, options.scopes, options.file)


RAW = argparse.RawDescriptionHelpFormatter


def _parser() -> _Parser:
    parser = _Parser(prog="understudy", description=DESCRIPTION, epilog=EXIT_CODES, formatter_class=RAW)
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_demo(commands)
    _add_graph(commands)
    _add_compile(commands)
    _add_run(commands)
    _add_trace(commands)
    _add_runs(commands)
    _add_store(commands)
    _add_serve(commands)
    _add_keys(commands)
    _add_new(commands)
    _add_doctor(commands)
    return parser


def _add_new(commands: argparse._SubParsersAction[_Parser]) -> None:  # pyright: ignore[reportPrivateUsage]  # no public name
    new = commands.add_parser("new", help="make a project", description=NEW, epilog=EXIT_CODES, formatter_class=RAW)
    new.set_defaults(start=_start_new)
    new.add_argument(
        "name", metavar="NAME", help="of the project and its package: lower-case letters, digits, hyphens, underscores"
    )
    new.add_argument("--folder", metavar="FOLDER", help="where it is made (./NAME)")


def _add_doctor(commands: argparse._SubParsersAction[_Parser]) -> None:  # pyright: ignore[reportPrivateUsage]  # as above
    doctor = commands.add_parser(
        "doctor", help="what is installed, and what is missing", description=DOCTOR, epilog=EXIT_CODES, formatter_class=RAW
    )
    doctor.set_defaults(start=_start_doctor)
    doctor.add_argument("--model", metavar="MODEL", help="ask this model one short question, such as openai/gpt-4o-mini")
    doctor.add_argument("--api-base", metavar="URL", help="the provider's address, with --model")


def _add_demo(commands: argparse._SubParsersAction[_Parser]) -> None:  # pyright: ignore[reportPrivateUsage]  # no public name
    demo = commands.add_parser(
        "demo", help="three language-model calls, five ways", description=DEMO, epilog=EXIT_CODES, formatter_class=RAW
    )
    demo.set_defaults(start=_start_demo)
    demo.add_argument("--model", metavar="MODEL", help="run ours only, on a real provider, such as openai/gpt-4o-mini")
    demo.add_argument("--api-base", metavar="URL", help="the provider's address, with --model")
    demo.add_argument("--fast", action="store_true", help="a tenth of the latencies")
    demo.add_argument("--json", action="store_true", help="print the measurements as JSON instead of the report")


def _add_graph(commands: argparse._SubParsersAction[_Parser]) -> None:  # pyright: ignore[reportPrivateUsage]  # as above
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


def _add_compile(commands: argparse._SubParsersAction[_Parser]) -> None:  # pyright: ignore[reportPrivateUsage]  # as above
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
    compiling.add_argument("--metric", metavar="FILE.py:NAME", help="a function (example, prediction, trace=None) -> number")
    compiling.add_argument("--optimizer", choices=("bootstrap", "mipro", "gepa"), default="bootstrap", help="of DSPy")
    compiling.add_argument("--effort", choices=("light", "medium", "heavy"), default="light", help="of mipro and gepa")
    compiling.add_argument("--trials", metavar="N", type=_count, help="instead: mipro's trials, or gepa's calls of the metric")
    compiling.add_argument("--seed", metavar="N", type=int, default=0, help="of mipro and gepa")
    _add_models(compiling)
    compiling.add_argument("-q", "--quiet", action="store_true", help="no progress")
    compiling.add_argument("-v", "--verbose", action="store_true", help="show DSPy's output")


def _add_run(commands: argparse._SubParsersAction[_Parser]) -> None:  # pyright: ignore[reportPrivateUsage]  # as above
    run = commands.add_parser("run", help="run a graph once", description=RUN, epilog=RUN_MORE, formatter_class=RAW)
    run.set_defaults(start=_start_run)
    run.add_argument("graph", metavar="FILE.py:NAME", help="where the graph is")
    run.add_argument("--input", metavar="JSON", default="{}", help="the input's fields; @FILE reads a file, - standard input")
    run.add_argument("--input-type", metavar="TYPE", help="the type's name, when the graph takes several and the fields fit more")
    _add_models(run)
    run.add_argument(
        "--predictors", metavar="FOLDER", help="trained predictors for its nodes, as `understudy compile` wrote them"
    )
    run.add_argument("--timeout", metavar="SECONDS", type=_seconds, help="give up after so long")
    run.add_argument(
        "-w", "--watch", action="store_true", help="show every node while it works; a line per step outside terminals"
    )
    run.add_argument("-q", "--quiet", action="store_true", help="no progress")
    run.add_argument("--traceback", action="store_true", help="show a failure with the traceback of every error")
    run.add_argument("--show-prompts", action="store_true", help="write what language models are asked to standard error")
    run.add_argument("--record", metavar="FILE.jsonl", help="write what happens to a file, for `understudy trace`")


def _add_trace(commands: argparse._SubParsersAction[_Parser]) -> None:  # pyright: ignore[reportPrivateUsage]  # as above
    trace = commands.add_parser("trace", help="show what a run did", description=TRACE, epilog=TRACE_MORE, formatter_class=RAW)
    trace.set_defaults(start=_start_trace)
    trace.add_argument("source", metavar="FILE.jsonl|RUN", help="a recorded run, - for standard input; with --url a run's id")
    trace.add_argument("-o", "--output", metavar="FILE", help="write it to FILE.html, FILE.json (Chrome, Perfetto) or FILE.svg")
    trace.add_argument("--url", metavar="URL", help="of the service that has the run")
    trace.add_argument("--key", metavar="KEY", help="of a caller of that service (or UNDERSTUDY_KEY)")
    trace.add_argument("--run", metavar="RUN", help="which run, of a file that holds several")


def _add_runs(commands: argparse._SubParsersAction[_Parser]) -> None:  # pyright: ignore[reportPrivateUsage]  # as above
    runs = commands.add_parser("runs", help="stored runs", description=RUNS, epilog=EXIT_CODES, formatter_class=RAW)
    runs.set_defaults(start=_start_runs)
    actions = runs.add_subparsers(dest="action", required=True, metavar="ACTION")
    for name, text in (
        ("list", "list them, newest first"),
        ("show", "show the steps of one, when each had ended, and what people are asked"),
        ("export", "print one as JSON Lines: the run, then each record as it is stored"),
        ("cancel", "cancel one, wherever it is"),
        ("forget", "delete everything about one; no process may have the store"),
    ):
        action = actions.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        if name != "list":
            action.add_argument("run", metavar="ID", help="the run's id")
        action.add_argument("--store", metavar="STORE", required=True, help=STORE)
    listing = actions.choices["list"]
    listing.add_argument("--graph", metavar="NAME", help="of this graph only")
    listing.add_argument("--status", choices=STATUSES, help="that are there")
    listing.add_argument("--label", metavar="LABEL", help="with this label only")
    listing.add_argument("--since", metavar="TIME", type=_time, help="started after it, such as 2026-11-28 or 2026-11-28T18:00Z")
    listing.add_argument("--limit", metavar="N", type=_count, default=100, help="at most so many (100)")
    listing.add_argument("--after", metavar="PLACE", help="where the page before has ended, as it says")


def _add_store(commands: argparse._SubParsersAction[_Parser]) -> None:  # pyright: ignore[reportPrivateUsage]  # as above
    store = commands.add_parser("store", help="look after a store", description=UPKEEP, epilog=EXIT_CODES, formatter_class=RAW)
    store.set_defaults(start=_start_store)
    actions = store.add_subparsers(dest="action", required=True, metavar="ACTION")
    for name, text in (
        ("check", "read every record, and say what is damaged; exit code 1 if anything is"),
        ("migrate", "bring its schema up to date; a copy of the former one is kept beside it"),
        ("vacuum", "give the space of deleted runs back to the disk"),
    ):
        action = actions.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        action.add_argument("--store", metavar="STORE", required=True, help=STORE)


def _add_serve(commands: argparse._SubParsersAction[_Parser]) -> None:  # pyright: ignore[reportPrivateUsage]  # as above
    serve = commands.add_parser("serve", help="serve graphs over HTTP", description=SERVE, epilog=EXIT_CODES, formatter_class=RAW)
    serve.set_defaults(start=_start_serve)
    serve.add_argument("graphs", metavar="FILE.py:NAME", nargs="+", help="where a graph is")
    _add_models(serve)
    serve.add_argument("--host", metavar="HOST", default="127.0.0.1", help="the address to listen at (127.0.0.1)")
    serve.add_argument("--port", metavar="PORT", type=_port, default=8321, help="the port (8321); 0 takes a free one")
    serve.add_argument("--keys", metavar="FILE", help="the keys of callers, as `understudy keys new --file FILE` writes them")
    serve.add_argument("--no-auth", action="store_true", help="let every program on this machine call without a key")
    serve.add_argument("--no-inspector", action="store_true", help="without the page that shows what goes on inside")
    serve.add_argument("--operate", action="store_true", help="let that page cancel runs and answer questions")
    serve.add_argument("--allowed-host", metavar="HOST", action="append", default=[], help="a name under which it is reached")
    serve.add_argument("--cors", metavar="ORIGIN", action="append", default=[], help="an origin whose pages may call")
    serve.add_argument("--grace", metavar="SECONDS", type=_seconds, default=30.0, help="how long a shut-down waits for runs (30)")
    serve.add_argument("--store", metavar="PLACE", help="where runs are kept: a file for SQLite, or postgresql://…")
    serve.add_argument("--check", action="store_true", help="print the OpenAPI document and exit")


def _add_keys(commands: argparse._SubParsersAction[_Parser]) -> None:  # pyright: ignore[reportPrivateUsage]  # as above
    keys = commands.add_parser("keys", help="make a key for a caller", epilog=EXIT_CODES, formatter_class=RAW)
    actions = keys.add_subparsers(dest="action", required=True, metavar="ACTION")
    new = actions.add_parser("new", help="make a key and print it, once", epilog=EXIT_CODES, formatter_class=RAW)
    new.set_defaults(start=_start_keys)
    new.add_argument("name", metavar="NAME", help="whose it is: letters, digits and hyphens")
    new.add_argument("--scopes", metavar="SCOPES", default="run", help="of run, inspect and operate, with commas (run)")
    new.add_argument("--file", metavar="FILE", help="add the key's line to this file, which its owner alone may read")


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > 65_535:
        raise argparse.ArgumentTypeError(f"expected a port, 0 to 65535. Got: {text}")
    return int(text)


def _add_models(parser: _Parser) -> None:
    parser.add_argument("--model", metavar="MODEL", help="the model of every node that has no other, such as openai/gpt-4o-mini")
    parser.add_argument(
        "--lm", metavar="NAME=MODEL", type=_named_model, action="append", default=[], help="the model of nodes with lm='NAME'"
    )
    parser.add_argument("--api-base", metavar="URL", help="the address of the provider of all these models")


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number above 0. Got: {text}")
    return int(text)


def _time(text: str) -> datetime:
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a time such as 2026-11-28T18:00Z. Got: {text}") from None
    return time if time.tzinfo is not None else time.replace(tzinfo=UTC)


def _named_model(text: str) -> tuple[str, str]:
    name, _, model = text.partition("=")
    if not name or not model:
        raise argparse.ArgumentTypeError(f"expected NAME=MODEL, such as large=openai/gpt-4o. Got: {text}")
    return name, model


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"expected seconds above 0. Got: {text}")
    return seconds
