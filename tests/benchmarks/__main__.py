"""``python -m tests.benchmarks [work …]``: measures and prints; fails when a target is missed and ``--strict`` is given."""

from __future__ import annotations

import argparse
import platform
import sys

import trio

from tests.benchmarks.measuring import load_all, measure, table
from tests.benchmarks.works import WORKS


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks", description="Messages and actors, beside other libraries."
    )
    parser.add_argument("works", nargs="*", help=f"which ones: {', '.join(work.name for work in WORKS)} (default: all)")
    parser.add_argument("--rounds", type=int, default=5, help="how often each peer does each work (default: 5)")
    parser.add_argument("--scale", type=float, default=1.0, help="0.1: a tenth of the operations (default: 1)")
    parser.add_argument("--strict", action="store_true", help="exit with status 1 when a target is missed")
    options = parser.parse_args()
    unknown = set(options.works) - {work.name for work in WORKS}
    if unknown:
        parser.error(f"no such work: {', '.join(sorted(unknown))}; there are {', '.join(work.name for work in WORKS)}")

    sys.stdout.write(
        f"Python {platform.python_version()}, trio {trio.__version__}, medians of {options.rounds} rounds in turns\n\n"
    )
    peers = load_all(lambda module, reason: print_line(f"left out: {module}: {reason}"))
    missed = False
    for work in WORKS:
        if not options.works or work.name in options.works:
            text = table(work, measure(work, peers, options.rounds, options.scale))
            missed = missed or "MISSED" in text
            print_line(f"{text}\n")
    return 1 if missed and options.strict else 0


def print_line(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
