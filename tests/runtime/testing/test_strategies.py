from __future__ import annotations

import itertools

import pytest

from actors.errors import DeclarationError
from runtime.testing.strategies import PCT, STRATEGIES, BatchShuffle, InTurn, PartialOrder, Replay, portfolio, strategy_named


class Task(str):
    """A task to choose: unlike a bare string, one that can be referred to weakly."""


A, B, C, D = map(Task, "abcd")


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_strategy_is_decided_by_its_seed(name: str) -> None:
    def picks(seed: int) -> list[int]:
        strategy = strategy_named(name)(seed, 50)
        return [strategy.pick([A, B, C]) for _ in range(40)] + [strategy.choose(7) for _ in range(10)]

    assert picks(1) == picks(1)
    assert all(0 <= pick < 3 for pick in picks(1)[:40])
    assert len({tuple(picks(seed)) for seed in range(20)}) > 1


def test_pct_keeps_to_its_priorities_but_for_depth_minus_one_falls() -> None:
    strategy = PCT(seed=5, steps=30, depth=3)

    picks = [strategy.pick([A, B, C, D]) for _ in range(30)]

    assert sum(1 for before, after in itertools.pairwise(picks) if before != after) <= 2


def test_partial_order_draws_anew_for_each_step() -> None:
    strategy = PartialOrder(seed=1)

    assert {strategy.pick([A, B]) for _ in range(20)} == {0, 1}


def test_batch_shuffle_runs_everybody_before_anybody_twice() -> None:
    strategy, tasks = BatchShuffle(seed=3), ["a", "b", "c"]

    picked = [tasks[strategy.pick(tasks)] for _ in range(9)]

    assert [set(picked[at : at + 3]) for at in (0, 3, 6)] == [{"a", "b", "c"}] * 3


def test_replay_goes_on_in_turn_after_its_end_and_where_a_choice_is_impossible() -> None:
    replay = Replay([2, 5, 1])

    assert [replay.pick("abc") for _ in range(5)] == [2, 0, 1, 0, 0]


def test_the_portfolio_rotates_by_seed() -> None:
    names = [portfolio(seed, 50).name for seed in range(5)]

    assert names == ["random walk", "partial-order sampling", "PCT, depth 2", "PCT, depth 3", "batch shuffle"]
    assert InTurn().pick(["a", "b"]) == 0


def test_an_unknown_strategy_is_refused_with_the_known_ones() -> None:
    with pytest.raises(DeclarationError) as caught:
        strategy_named("lucky")

    assert str(caught.value) == (
        "there is no strategy 'lucky'.\n"
        "  Mend: one of 'portfolio', 'random', 'pct', 'partial-order', 'batch', or a function of seed and steps."
    )
