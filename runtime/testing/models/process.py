"""The loopback provider in its own process: for synchronous clients, and to measure clients without sharing their loop.

Its times are ``time.monotonic`` seconds, which are comparable between the processes of one Linux machine. The process ends when
its parent closes its standard input or dies, on SIGTERM and on SIGINT, each time without a word.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final, cast, final

import attrs
import trio

from actors.errors import DeclarationError, UsageError
from runtime.testing.models.http_server import ReceivedRequest
from runtime.testing.models.provider import LoopbackProvider, open_loopback
from runtime.testing.models.provider_script import ScriptLike, script_from_json, script_to_json
from runtime.testing.models.recording import RequestRecord

_MODULE: Final = "runtime.testing.loopback"
_START_S: Final = 30.0
_STOP_S: Final = 5.0
_PARENT_CHECK_S: Final = 0.5
_LISTENING: Final = "listening on "


@final
class MonotonicClock(trio.abc.Clock):
    """A trio clock that reads ``time.monotonic``: ``trio.run(main, clock=MonotonicClock())``.

    Trio's own clock starts at a random number in each process. With this one, times that two processes of one machine take from
    ``trio.current_time()`` can be compared.
    """

    def start_clock(self) -> None:
        """Nothing to start."""

    def current_time(self) -> float:
        """Seconds, as ``time.monotonic`` counts them."""
        return time.monotonic()

    def deadline_to_sleep_time(self, deadline: float) -> float:
        """Seconds from now to `deadline`."""
        return deadline - time.monotonic()


@final
@attrs.frozen
class LoopbackSnapshot:
    """What a provider in another process had recorded when it was asked."""

    requests: list[RequestRecord]
    """In arrival order; times are ``time.monotonic`` seconds."""
    in_flight: int
    max_in_flight: int
    wall_offset_s: float
    """Add it to a record's time to get seconds as ``time.time`` counts them."""


@final
class LoopbackHandle:
    """A provider that runs in another process. Its methods block; from trio, call them in a worker thread."""

    def __init__(self, url: str, pid: int) -> None:
        self.url = url
        """``http://127.0.0.1:PORT``, without a path."""
        self.pid = pid

    @property
    def api_base(self) -> str:
        """``http://127.0.0.1:PORT/v1``: what OpenAI clients call the base URL."""
        return f"{self.url}/v1"

    def snapshot(self) -> LoopbackSnapshot:
        """The records and counts so far."""
        data = self._call("GET", "/_records")
        records = [RequestRecord.from_json(record) for record in data["requests"]]
        return LoopbackSnapshot(records, data["in_flight"], data["max_in_flight"], data["wall_offset_s"])

    def configure(
        self,
        models: Mapping[str, ScriptLike] | None = None,
        *,
        latency_s: float | None = None,
    ) -> None:
        """Give `models` their scripts, and optionally a new default latency, from now on.

        Raises:
            DeclarationError: a script holds a function, or the provider rejected a value.
        """
        scripts = {model: script_to_json(model, script) for model, script in (models or {}).items()}
        settings: dict[str, Any] = {} if latency_s is None else {"latency_s": latency_s}
        self._call("POST", "/_script", {"models": scripts, **settings})

    def limit(self, max_concurrent: int | None) -> None:
        """Serve at most `max_concurrent` requests at the same time from now on; None: no limit."""
        self._call("POST", "/_script", {"max_concurrent": max_concurrent})

    def clear(self) -> None:
        """Forget all records."""
        self._call("POST", "/_script", {"clear": True})

    def _call(self, method: str, path: str, body: object = None) -> Any:
        connection = http.client.HTTPConnection(self.url.removeprefix("http://"), timeout=_START_S)
        try:
            connection.request(method, path, body=json.dumps(body))
            response = connection.getresponse()
            data = json.loads(response.read())
        finally:
            connection.close()
        if response.status != http.client.OK:
            raise DeclarationError(data["error"]["message"])
        return data


@contextmanager
def loopback_process(
    models: Mapping[str, ScriptLike] | None = None, *, latency_s: float = 0.0, max_concurrent: int | None = None
) -> Generator[LoopbackHandle, None, None]:
    """Run a provider in its own process for the length of the block; arguments as in ``open_loopback``, without functions.

    The process ends with the block, and also when this process dies without leaving it.

    Raises:
        UsageError: the process did not start.
    """
    root = str(Path(__file__).resolve().parents[3])
    # -P keeps a package called "runtime" in the current directory from taking the place of ours.
    command = [sys.executable, "-P", "-m", _MODULE, "--port", "0", "--until-stdin-closes"]
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": path},
        start_new_session=True,  # a Ctrl-C at the terminal is for the parent, which then ends this one
    )
    try:
        handle = LoopbackHandle(_address(process), process.pid)
        handle.configure(models, latency_s=latency_s)
        handle.limit(max_concurrent)
        yield handle
    finally:
        _end(process)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command ``python -m runtime.testing.loopback``: serve until a signal comes. Returns the exit code."""
    parser = argparse.ArgumentParser(prog=f"python -m {_MODULE}", description="A scripted chat provider on 127.0.0.1.")
    parser.add_argument("--port", type=int, default=0, help="0 (the default) lets the system choose")
    parser.add_argument("--script", type=Path, help='JSON: {"models": {"NAME": {"answer": "…", "latency_s": 0.7}}}')
    parser.add_argument("--latency-s", type=float, default=0.0, help="for models without their own setting")
    parser.add_argument("--max-concurrent", type=int, help="requests served at the same time; more wait in order of arrival")
    parser.add_argument("--until-stdin-closes", action="store_true", help="end when standard input closes")
    options = parser.parse_args(arguments)
    try:
        settings: dict[str, Any] = {"latency_s": options.latency_s, "max_concurrent": options.max_concurrent}
        if options.script is not None:
            settings = {**settings, **json.loads(options.script.read_text(encoding="utf-8"))}
        trio.run(partial(_serve, options.port, settings, options.until_stdin_closes), clock=MonotonicClock())
    except (OSError, ValueError, DeclarationError) as error:
        parser.exit(2, f"{error}\n")
    except KeyboardInterrupt:
        return 130
    return 0


def configure(provider: LoopbackProvider, settings: Mapping[str, Any]) -> None:
    """Apply what ``POST /_script`` or ``--script`` brought. No model's script changes unless all of it is usable.

    Raises:
        ValueError: a value is not one that it may be.
    """
    try:
        scripts = {model: script_from_json(script) for model, script in settings.get("models", {}).items()}
        if "latency_s" in settings:
            provider.set_latency(settings["latency_s"])
        if "max_concurrent" in settings:
            provider.limit(settings["max_concurrent"])
    except (DeclarationError, ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"The script is not usable: {error}") from error
    for model, script in scripts.items():
        provider.script(model, script)
    if settings.get("clear") is True:
        provider.clear()


async def _serve(port: int, settings: Mapping[str, Any], until_stdin_closes: bool) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with open_loopback(port=port) as provider:
            configure(provider, settings)
            provider.route("GET", "/_records", partial(_records, provider))
            provider.route("POST", "/_script", partial(_configured, provider))
            async with trio.open_nursery() as nursery:
                if until_stdin_closes:
                    nursery.start_soon(_cancel_when_parent_leaves, nursery.cancel_scope, os.getppid())
                    nursery.start_soon(_cancel_when_stdin_closes, nursery.cancel_scope)
                sys.stdout.write(f"{_LISTENING}{provider.url}\n")
                sys.stdout.flush()
                async for _ in signals:
                    nursery.cancel_scope.cancel()


async def _cancel_when_stdin_closes(scope: trio.CancelScope) -> None:
    async with trio.lowlevel.FdStream(os.dup(sys.stdin.fileno())) as stdin:
        while await stdin.receive_some():
            pass
    scope.cancel()


async def _cancel_when_parent_leaves(scope: trio.CancelScope, parent: int) -> None:
    # A sibling that was forked from the parent may hold our standard input open after the parent's death.
    while os.getppid() == parent:  # noqa: ASYNC110 - the system sends no notice
        await trio.sleep(_PARENT_CHECK_S)
    scope.cancel()


def _records(provider: LoopbackProvider, _request: ReceivedRequest) -> dict[str, Any]:
    return {
        "requests": [record.to_json() for record in provider.requests],
        "in_flight": provider.in_flight,
        "max_in_flight": provider.max_in_flight,
        "wall_offset_s": time.time() - time.monotonic(),
    }


def _configured(provider: LoopbackProvider, request: ReceivedRequest) -> dict[str, Any]:
    settings = json.loads(request.body)
    if not isinstance(settings, dict):
        raise ValueError("The script must be a JSON object.")  # noqa: TRY004 - what came over the wire is a value
    configure(provider, cast("dict[str, Any]", settings))
    return {}


def _address(process: subprocess.Popen[bytes]) -> str:
    """Read the provider's address from its first line."""
    assert process.stdout is not None, "the process was started with a pipe"
    readable, _, _ = select.select([process.stdout], [], [], _START_S)
    line = process.stdout.readline().decode() if readable else ""
    if not line.startswith(_LISTENING):
        reason = f"exit code {process.wait(_STOP_S)}" if readable else f"no word within {_START_S:g} s"
        raise UsageError(
            f"The loopback provider's process did not start ({reason}, command {process.args!r}).\n"
            "  Fix: run that command by hand; its error is on standard error."
        )
    return line.removeprefix(_LISTENING).strip()


def _end(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None and process.stdout is not None, "the process was started with pipes"
    process.stdin.close()
    try:
        process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    process.stdout.close()
