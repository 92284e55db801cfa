"""The commands that serve graphs, and make keys for those who call."""

from __future__ import annotations

import argparse

from runtime.cli.parser import EXIT_CODES, RAW, Commands, add_models, to_port, to_seconds

SERVE = """\
Serve graphs over HTTP until SIGTERM or Ctrl-C; runs in progress then have --grace seconds. Without keys, one is made for
this process and shown.
"""
MCP = """\
Serve graphs as tools of the Model Context Protocol over standard input and output, until standard input ends: the command for
the configuration of an MCP client. `understudy serve --mcp` serves them over HTTP.
"""


def _start_serve(options: argparse.Namespace) -> int:
    from runtime.cli import serve  # noqa: PLC0415 - `understudy --help` need not wait for it

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
            not options.no_openai,
            options.mcp,
        )
    )


def _start_mcp(options: argparse.Namespace) -> int:
    from runtime.cli import mcp  # noqa: PLC0415 - `understudy --help` need not wait for it

    return mcp.run(mcp.Options(options.graphs, options.model, dict(options.lm), options.api_base, options.store))


def _start_keys(options: argparse.Namespace) -> int:
    from runtime.cli import serve  # noqa: PLC0415 - `understudy --help` need not wait for it

    return serve.new_key_command(options.name, options.scopes, options.file)


def add_serve(commands: Commands) -> None:
    """The command ``understudy serve``."""
    serve = commands.add_parser("serve", help="serve graphs over HTTP", description=SERVE, epilog=EXIT_CODES, formatter_class=RAW)
    serve.set_defaults(start=_start_serve)
    serve.add_argument("graphs", metavar="FILE.py:NAME", nargs="+", help="where a graph is")
    add_models(serve)
    serve.add_argument("--host", metavar="HOST", default="127.0.0.1", help="the address to listen at (127.0.0.1)")
    serve.add_argument("--port", metavar="PORT", type=to_port, default=8321, help="the port (8321); 0 takes a free one")
    serve.add_argument("--keys", metavar="FILE", help="the keys of callers, as `understudy keys new --file FILE` writes them")
    serve.add_argument("--no-auth", action="store_true", help="let every program on this machine call without a key")
    serve.add_argument("--no-inspector", action="store_true", help="without the page that shows what goes on inside")
    serve.add_argument("--operate", action="store_true", help="let that page cancel runs and answer questions")
    serve.add_argument("--no-openai", action="store_true", help="without the routes for clients of OpenAI")
    serve.add_argument("--mcp", action="store_true", help="also as tools of the Model Context Protocol, at /mcp")
    serve.add_argument("--allowed-host", metavar="HOST", action="append", default=[], help="a name under which it is reached")
    serve.add_argument("--cors", metavar="ORIGIN", action="append", default=[], help="an origin whose pages may call")
    serve.add_argument(
        "--grace", metavar="SECONDS", type=to_seconds, default=30.0, help="how long a shutdown waits for runs (30)"
    )
    serve.add_argument("--store", metavar="PLACE", help="where runs are kept: a file for SQLite, or postgresql://…")
    serve.add_argument("--check", action="store_true", help="print the OpenAPI document and exit")


def add_mcp(commands: Commands) -> None:
    """The command ``understudy mcp``."""
    mcp = commands.add_parser(
        "mcp", help="serve graphs to an MCP client", description=MCP, epilog=EXIT_CODES, formatter_class=RAW
    )
    mcp.set_defaults(start=_start_mcp)
    mcp.add_argument("graphs", metavar="FILE.py:NAME", nargs="+", help="where a graph is")
    add_models(mcp)
    mcp.add_argument("--store", metavar="PLACE", help="where runs are kept: a file for SQLite, or postgresql://…")


def add_keys(commands: Commands) -> None:
    """The command ``understudy keys``."""
    keys = commands.add_parser("keys", help="make a key for a caller", epilog=EXIT_CODES, formatter_class=RAW)
    actions = keys.add_subparsers(dest="action", required=True, metavar="ACTION")
    new = actions.add_parser("new", help="make a key and print it, once", epilog=EXIT_CODES, formatter_class=RAW)
    new.set_defaults(start=_start_keys)
    new.add_argument("name", metavar="NAME", help="whose it is: letters, digits and hyphens")
    new.add_argument("--scopes", metavar="SCOPES", default="run", help="of run, inspect and operate, with commas (run)")
    new.add_argument("--file", metavar="FILE", help="add the key's line to this file, which its owner alone may read")
