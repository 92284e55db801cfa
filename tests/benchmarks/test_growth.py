"""That the measurements of growth run, and how they are drawn."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest

from tests.benchmarks import growth
from tests.benchmarks.growth_picture import draw


@pytest.mark.parametrize("work", ["runs", "nodes", "branches", "actors"])
async def test_one_of_a_few_has_its_cost(work: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growth, "FEWEST", 1)
    monkeypatch.setattr(growth, "ROUNDS", 1)

    assert await growth.WORKS[work](3) > 0


@pytest.mark.chaos
@pytest.mark.parametrize("work", ["streams", "readers"])
async def test_one_of_a_few_has_its_cost_over_sockets(work: str) -> None:
    assert await growth.WORKS[work](3) > 0


def test_the_picture_has_a_panel_for_each_kind_and_a_bar_for_each_size() -> None:
    drawn = draw({"a run": {1: 240.0, 10: 120.0}, "a <step>": {1: 2_500.0}})

    picture = ET.fromstring(drawn)
    texts = [each.text for each in picture.iter() if each.tag.endswith("text")]
    assert texts == ["a run", "1", "240 µs", "10", "120 µs", "a <step>", "1", "2.5 ms"]
    bars = [float(each.get("width", "")) for each in picture.iter() if each.tag.endswith("rect")][1:]
    assert bars == [230.0, 115.0, 230.0]
