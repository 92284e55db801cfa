"""The command that shows what a run did."""

from __future__ import annotations

import argparse

from runtime.cli.parser import RAW, Commands
from runtime.cli.wrong_usage import WrongUsage

TRACE = """\
Show what a run did and when: on the terminal, or as a file to look at. A file of .html is a page with the run inside, which
opens without a network; .json is for https://ui.perfetto.dev and chrome://tracing; .svg is a picture.

`understudy trace capture RUN --store STORE` prints the run as a case: a file that a test runs
again, with replays("case.jsonl", graph).
"""
TRACE_MORE = """\
examples:
  understudy run graphs.py:graph --record run.jsonl
  understudy trace run.jsonl
  understudy trace run.jsonl -o run.html
  understudy trace capture order-7 --store runs.db > case.jsonl
  understudy trace JJ1dUL4-75Wkajb8hRy6gw --url http://127.0.0.1:8321 -o run.json

exit codes: 0 it went well, 1 there is no such trace, 2 the command line is wrong
"""


def _start_trace(options: argparse.Namespace) -> int:
    from runtime.cli import trace  # noqa: PLC0415 - `understudy --help` need not wait for it

    if options.source == "capture" and options.captured is not None:
        return trace.capture(options.captured, options.store, options.output)
    if options.captured is not None or options.store is not None:
        raise WrongUsage("--store, and a second name, are for `understudy trace capture RUN --store STORE`")
    return trace.run(trace.Options(options.source, options.output, options.url, options.key, options.run, options.blame))


def add_trace(commands: Commands) -> None:
    """The command ``understudy trace``."""
    trace = commands.add_parser("trace", help="show what a run did", description=TRACE, epilog=TRACE_MORE, formatter_class=RAW)
    trace.set_defaults(start=_start_trace)
    trace.add_argument("source", metavar="FILE.jsonl|RUN", help="a recorded run, - for standard input; with --url a run's id")
    trace.add_argument("captured", metavar="RUN", nargs="?", help="after the word capture: the run to write as a case, a test")
    trace.add_argument("--store", metavar="STORE", help="that has the run which is captured: a SQLite file, or postgresql://…")
    trace.add_argument("-o", "--output", metavar="FILE", help="write it to FILE.html, FILE.json (Chrome, Perfetto) or FILE.svg")
    trace.add_argument("--url", metavar="URL", help="of the service that has the run")
    trace.add_argument("--key", metavar="KEY", help="of a caller of that service (or UNDERSTUDY_KEY)")
    trace.add_argument("--blame", action="store_true", help="show where the time and the money went, by node and cause")
    trace.add_argument("--run", metavar="RUN", help="which run, of a file that holds several")
