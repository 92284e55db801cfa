"""The whole OpenAPI document, tried out by Schemathesis against a service on a port: no answer is a 500 or breaks its schema."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import trio

from runtime.serve import AGUIFace, Face, Limits, MCPFace, OpenAIFace, Service
from tests.patience import PATIENCE_S
from tests.runtime.serve.cast import Keys, answers
from tests.runtime.serve.listening import listening
from tests.runtime.serve.test_question_routes import letters

# What a request must be that a schema cannot say: these operations may reject what fits theirs.
STRICTER = {
    "list_runs": "the cursor is the id of a run",
    "start_run": "the input is that of the graph in the path",
    "answer_question": "the answer is of the question's own schema",
    "run_agent": "the messages are those of a protocol",
    "chat": "the messages are text, one of them the user's",
    "respond": "the input is text, of the user",
}
CONFIG = "".join(
    f'[[operations]]\ninclude-operation-id = "{name}"\n'
    'checks.positive_data_acceptance.expected-statuses = ["2xx", "4xx", "5xx"]\n'
    for name in STRICTER
)
# Budgets are far too small and keys spent by then: a run that ends so is no fault.
LIMITS = Limits(runs_per_minute=10**6, wait_s=0.2, run_s=0.5, runs_at_once=10**6, runs_at_once_per_caller=10**6)


async def fuzzed(tmp_path: Path, phases: Sequence[str], examples: int) -> None:
    keys = Keys()
    faces: list[Face] = [OpenAIFace(), MCPFace(), AGUIFace()]
    service = Service([answers(), letters()], auth=keys.auth, faces=faces, operate=True, limits=LIMITS)
    count = sum(len(path) for path in service.openapi()["paths"].values())
    config = tmp_path / "schemathesis.toml"
    config.write_text(CONFIG)
    async with listening("hypercorn", service) as address:
        command = [
            *(sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()"),
            *("--config-file", str(config), "--no-color", "run", f"{address}/openapi.json", "--seed", "1", "--no-shrink"),
            *("-H", f"Authorization: Bearer {keys.ann}", "--request-timeout", str(PATIENCE_S)),
            *("--phases", ",".join(phases), "--max-examples", str(examples)),
        ]
        with trio.fail_after(30 * PATIENCE_S):
            done = await trio.run_process(command, cwd=tmp_path, check=False, capture_stdout=True, stderr=subprocess.STDOUT)
    report = done.stdout.decode("utf-8", "replace")
    assert done.returncode == 0, report
    assert f"Tested: {count}" in report
    for phase in phases:
        assert f"✅  {phase.capitalize()}" in report, report


@pytest.mark.slow
async def test_no_request_breaks_the_service(tmp_path: Path) -> None:
    await fuzzed(tmp_path, ["fuzzing", "stateful"], 1)


@pytest.mark.chaos
async def test_no_request_of_many_breaks_the_service(tmp_path: Path) -> None:
    await fuzzed(tmp_path, ["examples", "coverage", "fuzzing", "stateful"], 10)
