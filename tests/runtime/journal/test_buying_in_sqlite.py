"""What was bought before a process was killed is not bought again by the next."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from runtime.testing import ModelScript, open_loopback

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.slow
async def test_an_answer_that_came_before_the_process_was_killed_is_not_asked_for_again(tmp_path):
    script = ModelScript(lambda request: f"to {request.messages[-1]['content']}")
    async with open_loopback({"m": script}) as server:

        async def live() -> subprocess.CompletedProcess[bytes]:
            program = [sys.executable, "-m", "tests.runtime.journal.buying"]
            given = [str(tmp_path / "runs.db"), server.api_base, str(tmp_path / "notes")]
            return await trio.run_process([*program, *given], capture_stdout=True, check=False, cwd=ROOT)

        with trio.fail_after(120):
            assert (await live()).returncode == -signal.SIGKILL
            ended = await live()

        asked = [record.body["messages"][-1]["content"] for record in server.requests]

    assert ended.returncode == 0
    assert ended.stdout.decode().splitlines() == ["to first, to second, 1", "2 2 0"]
    assert asked == ["first", "second"]
    assert (tmp_path / "notes").read_text() == "charged\n"
