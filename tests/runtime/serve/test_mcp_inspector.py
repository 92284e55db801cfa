"""The MCP project's own inspector lists and calls graphs: its command, which comes with Node's package manager.

``npm install --prefix FOLDER @modelcontextprotocol/inspector@2``, and PATH with ``FOLDER/node_modules/.bin``. Not in the suite:
each of its starts takes seconds.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from typing import Any

import pytest
import trio

from runtime.serve import MCPFace, Service
from tests.patience import PATIENCE_S
from tests.runtime.serve.cast import Keys, answers
from tests.runtime.serve.listening import SERVERS, listening
from tests.warm import ROOT

INSPECTOR = shutil.which("mcp-inspector")

pytestmark = [
    pytest.mark.chaos,
    pytest.mark.skipif(INSPECTOR is None, reason="mcp-inspector is not installed (npm install @modelcontextprotocol/inspector)"),
]


async def asked(*options: str) -> Any:
    """What the inspector prints, which is JSON."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with trio.fail_after(2 * PATIENCE_S):
        done = await trio.run_process(
            [str(INSPECTOR), "--cli", *options, "--connect-timeout", str(round(PATIENCE_S * 1000))],
            capture_stdout=True,
            stderr=subprocess.STDOUT,
            env=environment,
            check=False,
        )
    assert done.returncode == 0, done.stdout.decode()
    return json.loads(done.stdout)


def same(tools: Any, called: Any) -> None:
    assert [tool["name"] for tool in tools["tools"]] == ["answers"]
    assert tools["tools"][0]["inputSchema"]["required"] == ["text"]
    assert called["structuredContent"] == {"text": "HI"}
    assert called["isError"] is False


async def test_it_lists_and_calls_over_standard_input_and_output() -> None:
    server = (sys.executable, "-m", "tests.runtime.serve.command", "mcp", "tests.runtime.serve.apps:graph")

    tools = await asked(*server, "--method", "tools/list")
    called = await asked(*server, "--method", "tools/call", "--tool-name", "answers", "--tool-arg", "text=hi")

    same(tools, called)


@pytest.mark.parametrize("server", SERVERS)
async def test_it_lists_and_calls_over_http(server: str) -> None:
    keys = Keys()
    service = Service([answers()], auth=keys.auth, faces=[MCPFace()])
    async with listening(server, service) as address:
        common = (f"{address}/mcp", "--transport", "http")
        key = ("--header", f"Authorization: Bearer {keys.ann}")
        tools = await asked(*common, "--method", "tools/list", *key)
        called = await asked(*common, "--method", "tools/call", "--tool-name", "answers", "--tool-arg", "text=hi", *key)

    same(tools, called)
