from __future__ import annotations

import os

import pytest

from tests.benchmarks.placement_costs import TARGETS, main, table

ROWS = {
    "raw stream": 100.0,
    "ask": 15.0,
    "placed ask": 190.0,
    "placed crowd": 20.0,
    "item": 30.0,
    "placed item": 80.0,
    "one host": 5000.0,
    "two hosts": 2600.0,
    "naps": 300.0,
    "naps ideal": 250.0,
    "cancel": 1500.0,
    "activation": 1500.0,
}


def test_each_target_is_judged_by_what_was_measured() -> None:
    text = table(ROWS)

    assert "placed ask / ping-pong over a raw trio stream: 1.90, at most 2: met" in text
    assert "two hosts / one, 5 ms of CPU an item: 1.92, at least 1.8: met" in text
    assert "activations of sharded actors a second: 666.67, at least 500: met" in text
    assert text.count("target:") == len(TARGETS)
    assert "MISSED" in table({**ROWS, "cancel": 11_000.0})


@pytest.mark.chaos
@pytest.mark.skipif(os.name != "posix", reason="hosts are started on POSIX systems")
def test_the_command_measures_every_row(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--rounds", "1", "--scale", "0.01"]) == 0

    said = capsys.readouterr().out
    assert all(f"  {name} " in said for name in ROWS)
