"""The states of a cell and the moves between them, as one table; pictures and checks are made from it.

A cell is the runtime's box around an actor or a supervisor; it outlives the incarnations.
"""

from __future__ import annotations

import enum
from typing import TypeAlias, final

import attrs

from actors.errors import InternalError


@final
class State(enum.Enum):
    """Where a cell is."""

    NEW = "new"
    STARTING = "starting"
    """Its lifespan is being entered."""
    RUNNING = "running"
    STOPPING = "stopping"
    """It finishes its message and leaves its lifespan, because somebody asked it to."""
    BACKING_OFF = "backing_off"
    """The incarnation failed or ended; the next one starts after a delay, or with its group."""
    STOPPED = "stopped"
    """No incarnation, and none to come unless somebody starts it again."""


@final
class Move(enum.Enum):
    """What happens to a cell."""

    LAUNCH = "launch"
    """An incarnation begins."""
    STARTED = "started"
    """It has entered its lifespan."""
    STOP = "stop"
    """Its end was requested."""
    RETRY = "retry"
    """It ended, and another incarnation will follow."""
    END = "end"
    """It ended, and none will follow."""


@final
class Next(enum.Enum):
    """What becomes of a cell once its incarnation has ended, if that was asked for from outside."""

    GONE = "gone"
    """It is stopped, and its supervisor knows it still: ``restart_child`` may start it again."""
    FORGET = "forget"
    """It is stopped, and its supervisor keeps nothing of it."""
    REJOIN = "rejoin"
    """It was stopped only to be started again: with its group, or with its supervisor."""


@final
@attrs.frozen
class Unrecovered:
    """It backs off, and only a restart of its supervisor starts it; stopped before that, its end is a failure with `error`."""

    error: BaseException


NextStep: TypeAlias = Next | Unrecovered


TRANSITIONS: dict[tuple[State, Move], State] = {
    (State.NEW, Move.LAUNCH): State.STARTING,
    (State.NEW, Move.END): State.STOPPED,
    (State.STARTING, Move.STARTED): State.RUNNING,
    (State.STARTING, Move.STOP): State.STOPPING,
    (State.STARTING, Move.RETRY): State.BACKING_OFF,
    (State.STARTING, Move.END): State.STOPPED,
    (State.RUNNING, Move.STOP): State.STOPPING,
    (State.RUNNING, Move.RETRY): State.BACKING_OFF,
    (State.RUNNING, Move.END): State.STOPPED,
    (State.STOPPING, Move.STOP): State.STOPPING,
    (State.STOPPING, Move.STARTED): State.STOPPING,
    (State.STOPPING, Move.RETRY): State.BACKING_OFF,
    (State.STOPPING, Move.END): State.STOPPED,
    (State.BACKING_OFF, Move.LAUNCH): State.STARTING,
    (State.BACKING_OFF, Move.END): State.STOPPED,
    (State.STOPPED, Move.LAUNCH): State.STARTING,
    (State.STOPPED, Move.END): State.STOPPED,
}


def moved(state: State, move: Move, who: str) -> State:
    """The state after `move`; a move that the table does not have raises and changes nothing."""
    after = TRANSITIONS.get((state, move))
    if after is None:
        raise InternalError(f"{who!r} cannot {move.value} while it is {state.value}. Please report this.")
    return after
