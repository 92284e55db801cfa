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
    assert text.count("target:") == len(TARGETS) - 2
    assert "MISSED" in table({**ROWS, "cancel": 11_000.0})


def test_raw_ray_is_judged_where_it_was_measured() -> None:
    text = table({**ROWS, "raw Ray ask": 920.0, "raw Ray crowd": 330.0})

    assert "placed ask / ask of a raw Ray actor: 0.21, at most 0.25: met" in text
    assert "256 asks together / raw Ray pipelined, calls a second: 16.50, at least 10: met" in text


@pytest.mark.chaos
@pytest.mark.skipif(os.name != "posix", reason="hosts are started on POSIX systems")
def test_the_command_measures_every_row(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--rounds", "1", "--scale", "0.01"]) == 0

    said = capsys.readouterr().out
    assert all(f"  {name} " in said for name in ROWS)
