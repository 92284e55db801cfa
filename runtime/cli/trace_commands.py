"""The command that shows what a run did."""

from __future__ import annotations

import argparse

from runtime.cli.parser import RAW, Commands

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


def _start_trace(options: argparse.Namespace) -> int:
    from runtime.cli import trace  # noqa: PLC0415 - `understudy --help` need not wait for it

    return trace.run(trace.Options(options.source, options.output, options.url, options.key, options.run, options.blame))


def add_trace(commands: Commands) -> None:
    """The command ``understudy trace``."""
    trace = commands.add_parser("trace", help="show what a run did", description=TRACE, epilog=TRACE_MORE, formatter_class=RAW)
    trace.set_defaults(start=_start_trace)
    trace.add_argument("source", metavar="FILE.jsonl|RUN", help="a recorded run, - for standard input; with --url a run's id")
    trace.add_argument("-o", "--output", metavar="FILE", help="write it to FILE.html, FILE.json (Chrome, Perfetto) or FILE.svg")
    trace.add_argument("--url", metavar="URL", help="of the service that has the run")
    trace.add_argument("--key", metavar="KEY", help="of a caller of that service (or UNDERSTUDY_KEY)")
    trace.add_argument("--blame", action="store_true", help="show where the time and the money went, by node and cause")
    trace.add_argument("--run", metavar="RUN", help="which run, of a file that holds several")
