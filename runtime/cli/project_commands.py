"""The commands for a first hour: the demo, a new project, what is installed."""

from __future__ import annotations

import argparse

from runtime.cli.parser import EXIT_CODES, RAW, Commands

DEMO = """\
Three language-model calls turn a question into a database query. The demo makes them five ways: one after another,
async functions that call synchronous DSPy, threads, plain asyncio, and as a graph of supervised actors on trio. It
draws when each request was at the server, judges a study that explained it wrongly, and shows how a failed call is
survived. The provider is a process on this machine: no key and no network is needed.
"""


NEW = """\
Make a package with a graph, a test of it in virtual time, and a service. All of it runs as it is.
"""


DOCTOR = """\
Report which Python, libraries and extras are installed, and which providers' keys are set, never their values. With --model it
asks that model one short question, which costs a few tokens; the exit code is 1 if it doesn't answer.
"""


def _start_demo(options: argparse.Namespace) -> int:
    from runtime.cli import demo  # noqa: PLC0415 - `understudy --help` need not wait for it

    return demo.run(demo.Options(options.model, options.api_base, options.fast, options.json))


def _start_new(options: argparse.Namespace) -> int:
    from runtime.cli import new  # noqa: PLC0415 - `understudy --help` need not wait for it

    return new.run(new.Options(options.name, options.folder))


def _start_doctor(options: argparse.Namespace) -> int:
    from runtime.cli import doctor  # noqa: PLC0415 - `understudy --help` need not wait for it

    return doctor.run(doctor.Options(options.model, options.api_base))


def add_new(commands: Commands) -> None:
    """The command ``understudy new``."""
    new = commands.add_parser("new", help="make a project", description=NEW, epilog=EXIT_CODES, formatter_class=RAW)
    new.set_defaults(start=_start_new)
    new.add_argument(
        "name", metavar="NAME", help="of the project and its package: lower-case letters, digits, hyphens, underscores"
    )
    new.add_argument("--folder", metavar="FOLDER", help="where it is made (./NAME)")


def add_doctor(commands: Commands) -> None:
    """The command ``understudy doctor``."""
    doctor = commands.add_parser(
        "doctor", help="what is installed, and what is missing", description=DOCTOR, epilog=EXIT_CODES, formatter_class=RAW
    )
    doctor.set_defaults(start=_start_doctor)
    doctor.add_argument("--model", metavar="MODEL", help="ask this model one short question, such as openai/gpt-4o-mini")
    doctor.add_argument("--api-base", metavar="URL", help="the provider's address, with --model")


def add_demo(commands: Commands) -> None:
    """The command ``understudy demo``."""
    demo = commands.add_parser(
        "demo", help="three language-model calls, five ways", description=DEMO, epilog=EXIT_CODES, formatter_class=RAW
    )
    demo.set_defaults(start=_start_demo)
    demo.add_argument("--model", metavar="MODEL", help="run ours only, on a real provider, such as openai/gpt-4o-mini")
    demo.add_argument("--api-base", metavar="URL", help="the provider's address, with --model")
    demo.add_argument("--fast", action="store_true", help="a tenth of the latencies")
    demo.add_argument("--json", action="store_true", help="print the measurements as JSON instead of the report")
