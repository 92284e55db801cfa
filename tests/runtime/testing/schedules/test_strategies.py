from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Sequence

import pytest

from actors.errors import DeclarationError
from runtime.testing.schedules.strategies import (
    PCT,
    STRATEGIES,
    BatchShuffle,
    InTurn,
    PartialOrder,
    RandomWalk,
    Replay,
    Strategy,
    StrategyMaker,
    pct,
    portfolio,
    strategy_named,
)


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


def order_of(strategy: Strategy, threads: Sequence[Sequence[str]]) -> str:
    """How `strategy` mixes the steps of `threads`, each of which has its next step pending as long as any is left."""
    left = {Task(index): list(steps) for index, steps in enumerate(threads)}
    done = ""
    while len(ready := [task for task in left if left[task]]) > 1:
        done += left[ready[strategy.pick(ready)]].pop(0)
    return done + "".join(step for task in ready for step in left[task])


@pytest.mark.parametrize(
    ("maker", "threads", "bug", "least"),
    [
        # Four threads of five steps: the last thread overtakes all. PCT's bound for depth 1 is 1/4, whatever the steps.
        (pct(1), ["a" * 5, "b" * 5, "c" * 5, "d" * 5], "^ddddd", 1 / 4),
        # Two threads: one stops between two given steps until the other has ended. The bound for depth 2 is 1/(2 · 20).
        (pct(2), ["abcdefghij", "z" * 10], "^abcdefgz{10}h", 1 / 40),
        # Three given changes: depth 3, 1/(2 · 12²).
        (pct(3), ["abcdef", "uvwxyz"], "^abcuvwdef", 1 / 288),
    ],
)
def test_pct_finds_bugs_of_its_depth_as_often_as_is_proved(
    maker: StrategyMaker, threads: list[str], bug: str, least: float
) -> None:
    runs, steps = 4000, sum(map(len, threads))

    found = sum(bool(re.match(bug, order_of(maker(seed, steps), threads))) for seed in range(runs))

    assert found >= runs * least


def test_pct_of_a_lesser_depth_never_finds_what_takes_more_changes() -> None:
    orders = {order_of(pct(2)(seed, 12), ["abcdef", "uvwxyz"]) for seed in range(2000)}

    assert not any(re.match("^abcuvwdef", order) for order in orders)
    assert {order_of(pct(1)(seed, 12), ["abcdef", "uvwxyz"]) for seed in range(50)} == {"abcdefuvwxyz", "uvwxyzabcdef"}


def test_partial_order_sampling_is_as_likely_to_run_a_short_thread_late_as_a_random_walk_is_unlikely() -> None:
    """One step against eight: last with a chance of 1/9 where each step draws a priority of its own, with 1/2⁸ in a walk."""

    def share(maker: StrategyMaker) -> float:
        return sum(order_of(maker(seed, 9), ["a" * 8, "z"]).endswith("z") for seed in range(4000)) / 4000

    assert share(PartialOrder) == pytest.approx(1 / 9, abs=0.02)
    assert share(RandomWalk) == pytest.approx(1 / 2**8, abs=0.003)


def test_a_random_walk_and_a_batch_shuffle_are_even() -> None:
    walks = Counter(order_of(RandomWalk(seed), ["ab", "yz"]) for seed in range(6000))
    batches = Counter(order_of(BatchShuffle(seed), ["ab", "yz"]) for seed in range(6000))

    assert set(batches) == {"aybz", "ayzb", "yabz", "yazb"}
    assert [count / 6000 for count in batches.values()] == pytest.approx([1 / 4] * 4, abs=0.02)
    assert walks["abyz"] / 6000 == pytest.approx(1 / 4, abs=0.02)
    assert walks["aybz"] / 6000 == pytest.approx(1 / 8, abs=0.02)


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
        "  Fix: one of 'portfolio', 'random', 'pct', 'partial-order', 'batch', or a function of seed and steps."
    )
