"""The ReAct example with a real language model of 270 million parameters, which `make model` installs."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import trio

from runtime import ToolCalled, open_runtime
from runtime.cli.loading import load_graph
from runtime.lm import LMClient
from tests.runtime.cli.command import ROOT

PYTHON = os.environ.get("UNDERSTUDY_MODEL_PYTHON")
"""The interpreter that has the model."""
PATIENCE_S = 600.0
"""It reads some hundred tokens, on a busy machine without a graphics card."""


@pytest.mark.chaos
@pytest.mark.skipif(PYTHON is None, reason="needs the model that `make model` installs")
async def test_the_react_example_runs_with_a_real_small_model(tmp_path: Path) -> None:
    graph = load_graph(f"{ROOT}/docs/examples/react.py:graph")
    command = [str(PYTHON), "-P", str(Path(__file__).with_name("small_model_server.py")), str(tmp_path / "weights.gguf")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:  # noqa: ASYNC220
        try:
            assert server.stdout is not None
            with trio.fail_after(PATIENCE_S):
                port = int(await trio.to_thread.run_sync(server.stdout.readline, abandon_on_cancel=True))
                base = f"http://127.0.0.1:{port}/v1"
                lm = LMClient("openai/gemma-3-270m", api_key="none-at-all", api_base=base, deadline_s=PATIENCE_S)
                async with open_runtime(lm=lm) as runtime:
                    called: list[ToolCalled] = []
                    with runtime.observe(called.append, [ToolCalled]):
                        handle = await runtime.start(graph, graph.input_types[0]("How warm is it in Oslo?"))
                        output: Any = await handle.result()  # of types that the file declares
        finally:
            server.kill()

    print(f"{[each.tool for each in called]}: {output!r}, {handle.spend}")  # noqa: T201 - what it said, for whoever runs it
    [call] = called
    assert call.tool in ("weather", "multiply")
    assert (call.path, call.error) == ("react/answer/0/tool/0", None)
    assert type(output) is graph.output_types[0]
    assert output != graph.output_types[0]("")
    assert handle.spend.requests == 2
    assert handle.spend.completion_tokens > 0
