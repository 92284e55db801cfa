"""``python -m tests.benchmarks.first_calls``: what the first answer of a process costs, from its start to the answer.

Each line is a process of its own, in turns: processor seconds and the most memory that it held. The provider runs elsewhere,
and answers immediately. Beside ours: LiteLLM, and the same client for a call that is not a plain one, so LiteLLM is imported.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from runtime.testing.loopback import ModelScript, loopback_process
from tests.benchmarks.measuring import judged

ROOT = Path(__file__).resolve().parent.parent.parent
MODEL = "gpt-4o-mini"
ANSWER = "[[ ## answer ## ]]\nHello.\n\n[[ ## completed ## ]]"

_OURS = """
import trio
from runtime.lm import LMClient

async def main():
    async with LMClient("openai/gpt-4o-mini", api_key="k" * 20, api_base=base) as lm:
        {call}

trio.run(main)
"""
_HELLO = '[{"role": "user", "content": "Hello"}]'
PROGRAMS: Mapping[str, str] = {
    "import actors, runtime": "import actors, runtime",
    "chat": _OURS.format(call=f"await lm.chat({_HELLO})"),
    "predict": _OURS.format(call='await lm.predict("question -> answer", question="Hello")'),
    "chat by LiteLLM": _OURS.format(call=f'await lm.chat({_HELLO}, response_format={{"type": "text"}})'),
    "litellm.completion": f"""
import os
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
import litellm
litellm.completion("openai/gpt-4o-mini", {_HELLO}, api_key="k" * 20, api_base=base)
""",
}
"""What is done, by the name of its row."""
TARGETS: Mapping[str, tuple[float, float]] = {
    "import actors, runtime": (0.25, 55),
    "chat": (0.5, 55),
    "predict": (1.2, 100),
}
"""Processor seconds and megabytes."""
_AFTER = """
import json, resource, sys, time
used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps([time.process_time(), used, sorted({"dspy", "litellm"} & set(sys.modules))]))
"""


def sample(program: str, base: str) -> tuple[float, float, list[str]]:
    """Processor seconds, megabytes, and which of the slow libraries were imported."""
    command = [sys.executable, "-c", f"base = {base!r}\n{program}\n{_AFTER}"]
    # Modules are compiled once for all processes, as they are where a program runs.
    whole = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(command, cwd=ROOT, env=whole, capture_output=True, text=True, check=True)
    cpu_s, megabytes, libraries = json.loads(done.stdout.splitlines()[-1])
    return cpu_s, megabytes, libraries


def rows(base: str, rounds: int) -> Iterator[str]:
    """One line for each program, with what is said about its target."""
    found: dict[str, list[tuple[float, float, list[str]]]] = {name: [] for name in PROGRAMS}
    for number in range(rounds + 1):
        for name, program in PROGRAMS.items():
            each = sample(program, base)
            if number:  # in the first round modules are compiled
                found[name].append(each)
    for name, samples in found.items():
        cpu_s = statistics.median(each[0] for each in samples)
        megabytes = statistics.median(each[1] for each in samples)
        libraries = ", ".join(samples[0][2]) or "neither"
        yield f"  {name:<26}{cpu_s:6.2f} s{megabytes:8.0f} MB   of DSPy and LiteLLM: {libraries}"
        if name in TARGETS:
            most_s, most_mb = TARGETS[name]
            yield f"    {judged(f'at most {most_s:g} s and {most_mb:g} MB', cpu_s <= most_s and megabytes <= most_mb)}"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.first_calls", description="The first answer of a process.")
    parser.add_argument("--rounds", type=int, default=5, help="how often each is done (default: 5)")
    options = parser.parse_args(arguments)
    sys.stdout.write(f"Python {platform.python_version()}: from the start of a process to its first answer\n")
    with loopback_process({MODEL: ModelScript(ANSWER)}) as provider:
        for row in rows(provider.api_base, options.rounds):
            sys.stdout.write(f"{row}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
