"""The command ``understudy``: options, and which part of the package a command needs. The parts are imported when they run."""

from __future__ import annotations

import argparse
import errno
import os
import sys
from collections.abc import Callable, Sequence
from typing import Final, final

from actors.words import words_of
from runtime.cli.graph_commands import add_compile, add_evaluate, add_graph, add_run
from runtime.cli.interrupts import INTERRUPTED, leave_quickly, say_interrupted
from runtime.cli.parser import EXIT_CODES, RAW, Parser
from runtime.cli.project_commands import add_demo, add_doctor, add_new
from runtime.cli.service_commands import add_keys, add_mcp, add_serve
from runtime.cli.store_commands import add_runs, add_store
from runtime.cli.terminal import printable
from runtime.cli.trace_commands import add_trace
from runtime.cli.wrong_usage import WrongUsage

DESCRIPTION = """\
Language-model graphs whose nodes are supervised trio actors.

  understudy demo                        three calls, five ways: needs no key and no network
  understudy run graphs.py:graph --input '{"text": "…"}' --model openai/gpt-4o-mini
"""

_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


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
        if argv is None:
            leave_quickly()
    except WrongUsage as error:
        sys.stderr.write(printable(f"understudy: {error}\n", sys.stderr))
        return 2
    except KeyboardInterrupt:
        say_interrupted()
        if argv is None:  # else the process goes on, with its search for garbage
            leave_quickly()
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output has gone, and wants no more
        _drop_output()
        return 1
    except OSError as error:
        if error.errno not in _FULL or error.filename is not None:
            raise
        _drop_output()
        sys.stderr.write(printable(f"understudy: could not write: {words_of(error)}\n  Fix: make room.\n", sys.stderr))
        return 1
    return code


def _drop_output() -> None:
    """Write nothing more: the interpreter's own last flush must not complain."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(argv: Sequence[str] | None) -> int:
    options = _parser().parse_args(argv)
    start: Callable[[argparse.Namespace], int] = options.start
    return start(options)


def _parser() -> Parser:
    parser = Parser(prog="understudy", description=DESCRIPTION, epilog=EXIT_CODES, formatter_class=RAW)
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    add_demo(commands)
    add_graph(commands)
    add_compile(commands)
    add_run(commands)
    add_evaluate(commands)
    add_trace(commands)
    add_runs(commands)
    add_store(commands)
    add_serve(commands)
    add_mcp(commands)
    add_keys(commands)
    add_new(commands)
    add_doctor(commands)
    return parser
