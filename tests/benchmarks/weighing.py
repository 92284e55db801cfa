"""The memory of one work of one peer, in this process: what ``python -m tests.benchmarks`` starts for each."""

from __future__ import annotations

import sys

from tests.benchmarks.measuring import load

if __name__ == "__main__":
    module, work, size = sys.argv[1:]
    sys.stdout.write(str(load(module).run[work](int(size))))
