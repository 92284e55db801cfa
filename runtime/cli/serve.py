"""``understudy serve``: graphs over HTTP; and ``understudy keys``, for who may call."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final, final

import attrs
import trio

from actors.errors import DeclarationError, UnderstudyError, UsageError
from actors.graphs.graph import Graph
from runtime.cli.failed_run import describe
from runtime.cli.loading import load_graphs
from runtime.cli.named_models import check_clients, make_clients
from runtime.cli.terminal import one_line, printable
from runtime.cli.wrong_usage import WrongUsage
from runtime.lm.client import LMClient

LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")
VARIABLE: Final = "UNDERSTUDY_API_KEYS"
_NOT_INSTALLED: Final = "this needs the extra 'serve', which is not installed. Fix: pip install 'understudy[serve]'"


@final
@attrs.frozen
class Options:
    """What the command line asks for."""

    graphs: Sequence[str]
    model: str | None = None
    lms: Mapping[str, str] = attrs.field(factory=dict[str, str])
    api_base: str | None = None
    host: str = "127.0.0.1"
    port: int = 8321
    keys: str | None = None
    no_auth: bool = False
    allowed_hosts: Sequence[str] = ()
    cors: Sequence[str] = ()
    grace_s: float = 30.0
    inspector: bool = True
    operate: bool = False
    check: bool = False
    store: str | None = None
    openai: bool = True
    mcp: bool = False


def run(options: Options) -> int:
    """Serve until a signal comes, and return the exit code.

    Raises:
        WrongUsage: a graph, a model, the address or the keys are wrong.
    """
    if options.no_auth and options.keys is not None:
        raise WrongUsage("--no-auth lets everybody in and --keys some: give one of them")
    if options.operate and not options.inspector:
        raise WrongUsage("--operate is about the inspector, and --no-inspector leaves it out: give one of them")
    is_local = options.host in LOOPBACK
    has_keys = options.keys is not None or bool(os.environ.get(VARIABLE, "").strip())
    if not is_local and (options.no_auth or not has_keys):
        raise WrongUsage(
            f"--host {options.host} can be reached from other machines, so callers need keys: give --keys FILE "
            "(understudy keys new NAME --file FILE makes one)"
        )
    try:
        graphs = load_graphs(options.graphs)
    except DeclarationError as error:
        print(printable(describe(error), sys.stderr), file=sys.stderr)
        return 2
    try:
        service, key, clients = _service(options, graphs)
    except DeclarationError as error:
        raise WrongUsage(one_line(str(error))) from error
    if options.check:
        print(json.dumps(service.openapi(), indent=2))
        return 0
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    for noisy in ("httpx", "httpcore", "LiteLLM", "mcp"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    try:
        trio.run(_main, service, options, key, clients)
    except OSError as error:
        raise WrongUsage(f"{options.host}:{options.port} cannot be served: {error.strerror or error}") from error
    except UnderstudyError as error:
        print(printable(describe(error), sys.stderr), file=sys.stderr)
        return 1
    return 0


def _service(options: Options, graphs: Sequence[Graph[Any, Any]]) -> tuple[Any, str | None, list[LMClient]]:
    """The service, the key that was made for this process if one was, and the clients of its models."""
    try:
        from runtime.serve.faces.mcp import MCPFace  # noqa: PLC0415 - an extra installs what it needs
        from runtime.serve.faces.openai import OpenAIFace  # noqa: PLC0415 - as above
        from runtime.serve.keys import APIKeys, new_key  # noqa: PLC0415 - as above
        from runtime.serve.service import Face, Service  # noqa: PLC0415 - as above
    except ImportError as error:
        raise WrongUsage(_NOT_INSTALLED) from error
    client: LMClient | None = None
    clients: dict[str, LMClient] = {}
    if not options.check:
        client, clients = make_clients(graphs, options.model, options.lms, options.api_base)
    key: str | None = None
    auth: APIKeys | None = None
    if options.keys is not None:
        auth = APIKeys.from_file(options.keys)
    elif os.environ.get(VARIABLE, "").strip():
        auth = APIKeys.from_environment(VARIABLE)
    elif not options.no_auth:
        key, line = new_key("local", ["run", "inspect", *(["operate"] if options.operate else [])])
        auth = APIKeys([line])
    if options.no_auth:
        auth = None
    faces: list[Face] = [OpenAIFace()] if options.openai else []
    if options.mcp:
        try:
            faces.append(MCPFace())
        except UsageError as error:
            raise WrongUsage("--mcp needs the extra 'mcp', which is not installed. Fix: pip install 'understudy[mcp]'") from error
    service = Service(
        graphs,
        auth=auth,
        faces=faces,
        hosts=options.allowed_hosts,
        cors=options.cors,
        inspector=options.inspector,
        operate=options.operate,
        grace_s=options.grace_s,
        lm=client,
        lms=clients,
        store=options.store,
    )
    return service, key, [*clients.values(), *([client] if client is not None else [])]


async def _main(service: Any, options: Options, key: str | None, clients: Sequence[LMClient]) -> None:
    try:
        from runtime.serve.server import serve  # noqa: PLC0415 - an extra installs what it needs
    except ImportError as error:
        raise WrongUsage(_NOT_INSTALLED) from error
    await check_clients(clients)
    async with trio.open_nursery() as nursery:

        async def served(task_status: trio.TaskStatus[str]) -> None:
            await serve(service, options.host, options.port, grace_s=options.grace_s, task_status=task_status)
            nursery.cancel_scope.cancel()

        address = await nursery.start(served)
        lines = [f"{address}/v1/graphs/{graph.name}/runs" for graph in service.graphs]
        lines += [f"{address}/openapi.json"]
        lines += [f"{address}/v1  (for clients of OpenAI)"] if options.openai else []
        lines += [f"{address}/mcp"] if options.mcp else []
        if options.inspector:
            lines.append(f"{address}/inspector/" + (f"#token={key}" if key is not None else ""))
        lines += [f"key for this process: {key}"] if key is not None else []
        sys.stderr.write(printable("".join(f"  {line}\n" for line in lines), sys.stderr))
        sys.stderr.flush()


def new_key_command(name: str, scopes: str, file: str | None) -> int:
    """Make a key, print it once, and keep its line in `file` or print that too.

    Raises:
        WrongUsage: the name, a scope or the file is wrong.
    """
    try:
        from runtime.serve.keys import new_key  # noqa: PLC0415 - an extra installs what it needs
    except ImportError as error:
        raise WrongUsage(_NOT_INSTALLED) from error
    try:
        key, line = new_key(name, [scope.strip() for scope in scopes.split(",") if scope.strip()] or ["run"])
    except DeclarationError as error:
        raise WrongUsage(str(error)) from error
    if file is None:
        print(f"for {VARIABLE} or a file of keys: {line}", file=sys.stderr)
    else:
        try:
            descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            with open(descriptor, "a", encoding="utf-8") as opened:
                opened.write(f"{line}\n")
        except OSError as error:
            raise WrongUsage(f"--file {file}: cannot be written: {error.strerror}") from error
    print(key)
    return 0
