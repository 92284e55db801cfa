from __future__ import annotations

import re

import pytest

from tests.benchmarks import duel
from tests.benchmarks.duellists import with_ours

SEEN = {
    "a": r"RunFailed of 2: KeyError at siblings/one/0, ValueError at siblings/two/0",
    "b": r"caller returned at 0\.\d s, thread over",
    "c": r"the successor started at 0\.[01]\d s",
    "d": r"NodeTimedOut at 0\.\d s, then 0 more ticks; slow to stop: tick",
    "e": r"handled KeyError and good",
    "g": r"n = 6, entries \[0, 1, 2, 3, 4, 5\]",
    "h": r"plain \d\.\d\d s, 3 at once; async \d\.\d\d s, 3 at once",
    "i": r"\d\.\d\d s, 1 at once; named: \S*other\S*, \S*time\S*, \S*vector\S*",
}


@pytest.mark.chaos
def test_this_runtime_behaves_as_the_duel_says():
    for case, run in with_ours.SIDE.run.items():
        assert re.fullmatch(SEEN[case], run()), case


def test_both_sides_do_every_case():
    assert list(with_ours.SIDE.run) == list(duel.CASES)


def test_an_error_that_gets_out_is_an_outcome():
    def fails() -> str:
        raise KeyError("x")

    assert duel.outcome(duel.Side("s", {"a": fails}), "a") == "raised KeyError: 'x'"
    assert duel.outcome("left out: no module", "a") == "left out: no module"
