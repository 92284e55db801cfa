"""The ReAct example over a real process that answers as LiteLLM does: what a team has in front of its models."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest
import trio

from runtime import ToolCalled, open_runtime
from runtime.cli.loading import load_graph
from runtime.lm import LMClient
from tests.runtime.cli.command import ROOT

SCRIPT = [
    {"calls": {"weather": {"city": "Oslo"}}},
    {"calls": {"multiply": {"one": 4, "other": 3}}},
    {"text": "[[ ## text ## ]]\n12 degrees\n\n[[ ## completed ## ]]"},
]


@pytest.mark.chaos  # the other process takes seconds to import LiteLLM
async def test_the_react_example_runs_over_litellm() -> None:
    graph = load_graph(f"{ROOT}/docs/examples/react.py:graph")
    command = [sys.executable, "-m", "tests.runtime.lm.litellm_server", json.dumps(SCRIPT)]
    environment = {**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as server:  # noqa: ASYNC220
        try:
            assert server.stdout is not None
            with trio.fail_after(250):
                port = int(await trio.to_thread.run_sync(server.stdout.readline, abandon_on_cancel=True))
                lm = LMClient("openai/scripted", api_key="none", api_base=f"http://127.0.0.1:{port}/v1")
                async with open_runtime(lm=lm) as runtime:
                    async with runtime.stream(graph, graph.input_types[0]("How warm, times three?")) as events:
                        seen: list[Any] = [event async for event in events]
        finally:
            server.kill()

    called = [(event.tool, event.path, event.error) for event in seen if isinstance(event, ToolCalled)]
    assert called == [("weather", "react/answer/0/tool/0", None), ("multiply", "react/answer/0/tool/1", None)]
    assert seen[-1].output == graph.output_types[0]("12 degrees")
    assert seen[-1].spend.requests == 3
