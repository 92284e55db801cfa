"""Imports that take seconds, done before the first call."""

import subprocess
import sys

import pytest

from runtime import open_runtime
from runtime.lm.dspy import import_dspy
from runtime.lm.providers import import_litellm
from runtime.testing import ScriptedLM

HEAVY = "sorted({'dspy', 'litellm'} & set(sys.modules))"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("opening", "more"),
    [
        pytest.param("open_runtime(lm='openai/m')", "await runtime.warm_up()", marks=pytest.mark.chaos),
        ("open_runtime(lm='openai/m', warm_up=True)", "pass"),
    ],
)
def test_a_runtime_imports_beforehand_what_its_first_call_needs(opening: str, more: str):
    program = f"""
import sys, trio
from runtime import open_runtime
async def main():
    print({HEAVY})
    async with {opening} as runtime:
        {more}
        print({HEAVY})
trio.run(main)
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=False)

    assert (done.stdout, done.stderr) == ("[]\n['dspy', 'litellm']\n", "")


@pytest.mark.chaos
def test_a_process_that_forks_workers_imports_before_it_does():
    program = f"""
import os, sys, threading
from runtime.lm import load_libraries
load_libraries()
print({HEAVY}, threading.active_count(), flush=True)
if os.fork() == 0:
    import trio
    from runtime.lm.dspy.bridge import run_signature
    from runtime.testing import ScriptedLM
    print(trio.run(run_signature, ScriptedLM([{{"answer": "4"}}]), "question -> answer", {{"question": "?"}}).answer, flush=True)
    os._exit(0)
os.wait()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert done.stdout == "['dspy', 'litellm'] 1\n4\n"


async def test_a_second_time_it_does_nothing(monkeypatch: pytest.MonkeyPatch):
    import_dspy.library()
    import_litellm.load()

    async with open_runtime(lm=ScriptedLM([])) as runtime:
        monkeypatch.setattr("trio.to_thread.run_sync", None)
        await runtime.warm_up()
