"""``python -m tests.benchmarks.duel``: how LangGraph and this runtime behave when something goes wrong, side by side.

Each case is the same small graph in both, and each cell of the table is what was seen in this run, not what is promised. Without
LangGraph its column says so.
"""

from __future__ import annotations

import importlib
import platform
import sys
from collections.abc import Callable
from types import ModuleType

import attrs

CASES = {
    "a": "two siblings fail at the same moment",
    "b": "blocking work of 0.6 s, the caller is cancelled at 0.2 s",
    "c": "one branch takes 0.5 s, the other 0.05 s and has a successor",
    "d": "a node ignores its timeout of 0.2 s for another 0.4 s",
    "e": "a failing node with a handler, beside a good one",
    "g": "1 + 5 concurrent increments on one conversation",
}
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


def outcome(side: Side | str, case: str) -> str:
    """What `side` does in `case`; an error that gets out of it is an outcome too."""
    if isinstance(side, str):
        return side
    try:
        return side.run[case]()
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what was seen
        return f"raised {type(error).__name__}: {error}"


def main() -> int:
    left, right = load("with_langgraph"), load("with_ours")
    names = ["LangGraph" if isinstance(left, str) else left.name, "understudy" if isinstance(right, str) else right.name]
    sys.stdout.write(f"Python {platform.python_version()}\n\n{'':4}{names[0]:<{COLUMN}}  {names[1]}\n")
    for case, title in CASES.items():
        sys.stdout.write(f"\n({case}) {title}\n{'':4}{outcome(left, case):<{COLUMN}}  {outcome(right, case)}\n")
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
