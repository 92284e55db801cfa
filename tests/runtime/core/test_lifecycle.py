from __future__ import annotations

import itertools

import pytest

from actors import InternalError
from runtime.core.lifecycle import TRANSITIONS, Move, State, moved


def test_every_state_can_be_reached_and_left():
    assert set(TRANSITIONS.values()) | {State.NEW} == set(State)
    assert {before for before, _ in TRANSITIONS} == set(State)


def test_the_end_can_come_from_every_state_but_nothing_else_can():
    for move in Move:
        allowed = {before for before, how in TRANSITIONS if how is move}
        assert (allowed == set(State)) == (move is Move.END)


@pytest.mark.parametrize(("state", "move"), [pair for pair in itertools.product(State, Move) if pair not in TRANSITIONS])
def test_a_move_that_the_table_does_not_have_is_our_bug_and_says_so(state, move):
    with pytest.raises(InternalError) as caught:
        moved(state, move, "a")

    assert str(caught.value) == f"'a' cannot {move.value} while it is {state.value}. Please report this."
