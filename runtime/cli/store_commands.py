"""The commands for stored runs and for the store itself."""

from __future__ import annotations

import argparse

import attrs

from runtime.cli.parser import EXIT_CODES, RAW, Commands, Parser, add_models, to_count, to_path_value, to_time

STORE = "the store: a SQLite file, or postgresql://…"


RUNS = """\
Runs that open_runtime(store=…) has kept. The process that works on them may go on, except for a SQLite file when a run is to
go on here: resume, fork. Where a graph is needed, --graph FILE.py:NAME tells where it is.
"""


UPKEEP = """\
Look after the store that open_runtime(store=…) was given. To migrate and to vacuum, no process may have it.
"""


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
    _add_changes(actions)
    listing = actions.choices["list"]
    listing.add_argument("--graph", metavar="NAME", help="of this graph only")
    listing.add_argument("--status", choices=STATUSES, help="in this state only")
    listing.add_argument("--label", metavar="LABEL", help="with this label only")
    listing.add_argument("--since", metavar="TIME", type=to_time, help="started after it, such as 2026-11-28T18:00Z")
    listing.add_argument("--limit", metavar="N", type=to_count, default=100, help="at most so many (100)")
    listing.add_argument("--after", metavar="PLACE", help="continue after this place, which the page before names")


def _start_change(options: argparse.Namespace) -> int:
    from runtime.cli import run_changes  # noqa: PLC0415 - `understudy --help` need not wait for it

    known = {each.name for each in attrs.fields(run_changes.Options)} - {"lms"}
    more = {name: value for name, value in vars(options).items() if name in known and value is not None}
    return run_changes.run(run_changes.Options(lms=dict(getattr(options, "lm", ())), **more))


def _add_changes(actions: Commands) -> None:
    """What a person decides about a run."""
    made: dict[str, Parser] = {}
    for name, text in (
        ("resume", "let one go on that has failed, was cancelled or was parked, until it is over or waits for people"),
        ("fork", "copy one into its own run, from some step on or with another result for it, and let that go on"),
        ("answer", "answer what a run asks people"),
        ("send", "send a signal into one"),
    ):
        made[name] = action = actions.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        action.set_defaults(start=_start_change)
        what = ("QUESTION", "the question's id, which `understudy runs show` has") if name == "answer" else ("ID", "the run's id")
        action.add_argument("run", metavar=what[0], help=what[1])
        if name in ("answer", "send"):
            action.add_argument("value", metavar="JSON", help="its fields; @FILE reads a file, - standard input")
        action.add_argument("--store", metavar="STORE", required=True, help=STORE)
        action.add_argument("--graph", metavar="FILE.py:NAME", required=True, help="where the run's graph is")
        if name in ("resume", "fork"):
            action.add_argument("--elsewhere", action="store_true", help="leave it to a worker; with PostgreSQL only")
            add_models(action)
    made["answer"].add_argument("--by", metavar="NAME", help="who has answered; it is recorded")
    made["send"].add_argument("--key", metavar="KEY", help="names the signal: the same key again sends nothing")
    made["resume"].add_argument("--adopt", action="store_true", help="although its graph was changed: what still fits is kept")
    made["resume"].add_argument("--max-steps", metavar="N", type=to_count, help="so many steps, counted from its start")
    made["resume"].add_argument(
        "--uncertain",
        metavar="PATH=JSON",
        type=to_path_value,
        action="append",
        default=[],
        help="what a step with Effect.ONCE that was cut short returned, or PATH=repeat",
    )
    made["fork"].add_argument("--before", metavar="PATH", help="this step runs again, and so does what came of it")
    made["fork"].add_argument(
        "--edit", metavar="PATH=JSON", type=to_path_value, action="append", default=[], help="what a step made instead"
    )
    made["fork"].add_argument("--new-id", metavar="ID", help="names the fork")


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
