from __future__ import annotations

import pytest

from tests.benchmarks.crossing import WORKS, main, peers


@pytest.mark.parametrize("way", list(peers()))
def test_a_way_does_each_of_the_works(way: str) -> None:
    for work in WORKS:
        assert peers()[way].run[work.name](50) > 0


@pytest.mark.chaos
def test_the_command_shows_a_table_for_each_work(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--rounds", "1", "--scale", "0.01"]) == 0

    said = capsys.readouterr().out
    assert [line.partition(":")[0] for line in said.splitlines() if " per " in line] == [work.name for work in WORKS]
    assert said.count("1.00 ×") == len(WORKS)
