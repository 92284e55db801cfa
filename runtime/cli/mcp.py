"""``understudy mcp``: graphs as tools of the Model Context Protocol, on standard input and output."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import IO, Any, Final, final

import attrs
import trio

from actors.errors import DeclarationError, UnderstudyError
from actors.graphs.graph import Graph
from runtime.app import open_runtime
from runtime.cli.failed_run import describe
from runtime.cli.interrupts import run_until_interrupted
from runtime.cli.loading import load_graphs
from runtime.cli.named_models import check_clients, make_clients
from runtime.cli.terminal import printable
from runtime.cli.wrong_usage import WrongUsage
from runtime.lm.client import LMClient
from runtime.traces.recorder import Recorder, Recording

_NOT_INSTALLED: Final = "this needs the extras 'serve' and 'mcp'. Fix: pip install 'understudy[serve,mcp]'"


@final
@attrs.frozen
class Options:
    """What the command line asks for."""

    graphs: Sequence[str]
    model: str | None = None
    lms: Mapping[str, str] = attrs.field(factory=dict[str, str])
    api_base: str | None = None
    store: str | None = None


def run(options: Options) -> int:
    """Serve until standard input ends, and return the exit code.

    Raises:
        WrongUsage: a graph or a model is wrong, or an extra is missing. KeyboardInterrupt: Ctrl-C.
    """
    try:
        from runtime.serve.faces.mcp_tools import tools_of  # noqa: PLC0415 - an extra installs what it needs

        graphs = load_graphs(options.graphs)
        tools_of(graphs)
    except ImportError as error:
        raise WrongUsage(_NOT_INSTALLED) from error
    except DeclarationError as error:
        print(printable(describe(error), sys.stderr), file=sys.stderr)
        return 2
    client, clients = make_clients(graphs, options.model, options.lms, options.api_base)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    served = _Served(graphs, client, clients, options.store)
    try:
        run_until_interrupted(served.main)
    except UnderstudyError as error:
        print(printable(describe(error), sys.stderr), file=sys.stderr)
        return 1
    return 0


@final
@attrs.frozen(eq=False)
class _Served:
    """Graphs and their models."""

    graphs: Sequence[Graph[Any, Any]]
    client: LMClient | None
    clients: Mapping[str, LMClient]
    store: str | None

    async def main(self) -> None:
        """Serve until standard input ends or SIGTERM comes; what runs then is cancelled."""
        try:
            from runtime.serve.faces.mcp_server import GraphServer  # noqa: PLC0415 - an extra installs what it needs
            from runtime.serve.limits import Limits  # noqa: PLC0415 - as above
            from runtime.serve.live import Live  # noqa: PLC0415 - as above
        except ImportError as error:
            raise WrongUsage(_NOT_INSTALLED) from error
        await check_clients([*self.clients.values(), *([self.client] if self.client is not None else [])])
        recorder = Recorder(Recording())
        options: dict[str, Any] = {"graphs": self.graphs, "lm": self.client, "lms": self.clients, "store": self.store}
        options["instruments"] = [recorder]
        async with open_runtime(**options) as runtime, trio.open_nursery() as nursery:
            nursery.start_soon(_cancel_at_sigterm, nursery.cancel_scope)
            live = Live(self.graphs, Limits(), recorder, runtime)
            async with live.serving():
                await GraphServer(live, is_alone=True).over_stdio(_Lines(_standard_input()))
            nursery.cancel_scope.cancel()


async def _cancel_at_sigterm(scope: trio.CancelScope) -> None:
    with trio.open_signal_receiver(signal.SIGTERM) as signals:
        async for _ in signals:
            scope.cancel()


def _standard_input() -> IO[str]:
    """Standard input as it was; what the graphs read from it is empty, so no one takes the client's messages."""
    kept = os.dup(0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return os.fdopen(kept, encoding="utf-8", errors="replace")


@final
class _Lines:
    """The lines of a file that can be waited for, and not be waited for any more: a thread that reads is left alone."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    def __aiter__(self) -> _Lines:
        return self

    async def __anext__(self) -> str:
        line = await trio.to_thread.run_sync(self._file.readline, abandon_on_cancel=True)
        if not line:
            raise StopAsyncIteration
        return line
