"""The commands for stored runs and for the store itself."""

from __future__ import annotations

import argparse

from runtime.cli.parser import EXIT_CODES, RAW, Commands, to_count, to_time

RUNS = """\
Runs that open_runtime(store=…) has kept. None of their graphs is needed, and the process that works on them may go on.
"""


UPKEEP = """\
Look after the store that open_runtime(store=…) was given. To migrate and to vacuum, no process may have it.
"""


STORE = "the store: a SQLite file, or postgresql://…"


STATUSES = ("ready", "running", "waiting", "parked", "succeeded", "failed", "cancelled")


def _start_runs(options: argparse.Namespace) -> int:
    from runtime.cli import runs  # noqa: PLC0415 - `understudy --help` need not wait for it

    given = vars(options)
    names = ("run", "graph", "status", "label", "since", "limit", "after")
    return runs.run(runs.Options(options.action, options.store, **{name: given[name] for name in names if name in given}))


def _start_store(options: argparse.Namespace) -> int:
    from runtime.cli import store  # noqa: PLC0415 - `understudy --help` need not wait for it

    return store.run(store.Options(options.action, options.store))


def add_runs(commands: Commands) -> None:
    """The command ``understudy runs``."""
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
    listing.add_argument("--status", choices=STATUSES, help="in this state only")
    listing.add_argument("--label", metavar="LABEL", help="with this label only")
    listing.add_argument("--since", metavar="TIME", type=to_time, help="started after it, such as 2026-11-28T18:00Z")
    listing.add_argument("--limit", metavar="N", type=to_count, default=100, help="at most so many (100)")
    listing.add_argument("--after", metavar="PLACE", help="continue after this place, which the page before names")


def add_store(commands: Commands) -> None:
    """The command ``understudy store``."""
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
