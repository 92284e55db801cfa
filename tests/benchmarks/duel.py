"""``python -m tests.benchmarks.duel``: how LangGraph and this runtime behave when something goes wrong, side by side.

Each case is the same small graph in both, and each cell of the table is what was seen in this run, not what is promised. Without
LangGraph its column says so.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import platform
import sys
from collections.abc import Callable, Generator
from types import ModuleType
from typing import Any

import attrs

from runtime.testing import LoopbackHandle, ModelScript, field_answer, loopback_process

CASES = {
    "a": "two siblings fail at the same moment",
    "b": "blocking work of 0.6 s, the caller is cancelled at 0.2 s",
    "c": "one branch takes 0.5 s, the other 0.05 s and has a successor",
    "d": "a node ignores its timeout of 0.2 s for another 0.4 s",
    "e": "a failing node with a handler, beside a good one",
    "g": "1 + 5 concurrent increments on one conversation",
    "h": "three extractors side by side, plain functions and async ones; the slowest takes 0.3 s",
    "i": "the same, but the async ones call the synchronous DSPy",
}
EXTRACTORS_S = {"time": 0.3, "other": 0.25, "vector": 0.2}
"""How long each extractor waits for its model, a provider on this machine."""
COLUMN = 64
"""Characters of one side."""


@attrs.frozen
class Side:
    """One column: its heading, and what it does in each case."""

    name: str
    run: dict[str, Callable[[], str]]


def load(module: str) -> Side | str:
    """The side of that module, or why there is none."""
    try:
        found: ModuleType = importlib.import_module(f"tests.benchmarks.duellists.{module}")
    except ImportError as error:
        return f"left out: {error}"
    side: Side = found.SIDE
    return side


@contextlib.contextmanager
def extractors() -> Generator[LoopbackHandle]:
    """A provider in a process of its own with the three models; DSPy is loaded before anything is measured."""
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    scripts = {name: ModelScript(field_answer(answer=name), latency_s=seconds) for name, seconds in EXTRACTORS_S.items()}
    with loopback_process(scripts) as provider:
        ask("vector", provider.api_base)
        provider.clear()
        yield provider


def ask(model: str, api_base: str) -> str:
    """Call DSPy synchronously, as a program without an event loop does."""
    dspy, lm = _client(model, api_base)
    with dspy.context(lm=lm):
        return str(dspy.Predict("question -> answer")(question="?").answer)


async def ask_on_asyncio(model: str, api_base: str) -> str:
    """Call DSPy as a program on asyncio does."""
    dspy, lm = _client(model, api_base)
    with dspy.context(lm=lm):
        return str((await dspy.Predict("question -> answer").acall(question="?")).answer)


def _client(model: str, api_base: str) -> tuple[Any, Any]:
    dspy: Any = importlib.import_module("dspy")
    return dspy, dspy.LM(f"openai/{model}", api_base=api_base, api_key="none", cache=False, num_retries=0)


def outcome(side: Side | str, case: str) -> str:
    """What `side` does in `case`; an error that gets out of it is an outcome too."""
    if isinstance(side, str):
        return side
    try:
        return side.run[case]()
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what was seen
        return f"raised {type(error).__name__}: {error}"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.duel", description="LangGraph and ours, case by case.")
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"which ones: {', '.join(CASES)} (default: all)")
    options = parser.parse_args(arguments)
    unknown = set(options.cases) - set(CASES)
    if unknown:
        parser.error(f"no such case: {', '.join(sorted(unknown))}; there are {', '.join(CASES)}")
    left, right = load("with_langgraph"), load("with_ours")
    names = ["LangGraph" if isinstance(left, str) else left.name, "understudy" if isinstance(right, str) else right.name]
    sys.stdout.write(f"Python {platform.python_version()}\n\n{'':4}{names[0]:<{COLUMN}}  {names[1]}\n")
    for case, title in CASES.items():
        if options.cases and case not in options.cases:
            continue
        sys.stdout.write(f"\n({case}) {title}\n{'':4}{outcome(left, case):<{COLUMN}}  {outcome(right, case)}\n")
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
