"""What the check of a graph promises: a graph that it accepts gives every node the same messages, whatever ends first."""

from __future__ import annotations

import pytest

from tests.exploration.random_graphs import differs, random_graph, written

GRAPHS = 400
"""How many seeds are tried, of which about every other one gives a graph that is accepted; `make explore` tries more."""


@pytest.mark.slow
def test_every_accepted_graph_gives_every_node_the_same_messages_in_any_order(pytestconfig: pytest.Config) -> None:
    runs = pytestconfig.getoption("--understudy-runs") or GRAPHS
    verdicts = [differs(seed) for seed in range(runs)]

    wrong = [verdict for verdict in verdicts if verdict]
    assert wrong == [], "\n\n".join(wrong[:3])
    assert sum(verdict is None for verdict in verdicts) > runs / 4, "too few graphs were accepted for this to mean much"


def test_the_same_seed_is_the_same_graph() -> None:
    assert written(random_graph(7)) == written(random_graph(7))
