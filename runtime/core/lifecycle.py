"""The states of a cell and the moves between them, as one table; pictures and checks are made from it.

A cell is the runtime's box around an actor or a supervisor; it outlives the incarnations. The table tells where a cell is. It
does not say all: these machines run beside it, each with its own few states, and most mistakes are made where two of them meet.

*What comes after the end.* ``Cell._next`` below (``GONE``, ``FORGET``, ``REJOIN``, ``Unrecovered``). The call that stops a
cell says it; ``launch`` starts afresh with ``GONE``. The supervisor reads it at the instant of the end, in
``child_exited``. Only while the cell backs off can it be ``Unrecovered``, because a permanent end uses the error up.

*Asked to end.* From outside, by ``request_stop``: the state becomes STOPPING, and ``Cell.stopping`` says the same to the loop
of the actor, for which a look into an attribute before each message is cheap. From inside the state stays RUNNING:
``ActorCell._finishing`` is set by ``context.stop()``, and with ``_crash`` by what failed although no handler raised (a task of
the actor's nursery, the supervisor of its children). The restart type decides what follows an end from inside; what follows one
from outside, ``_next`` says.

*How hard.* The ladder at the top of ``cell.py``: asked, out of time, killed. It is kept where trio keeps it, in ``Cell.scope``
(its deadline, whether it was cancelled), and for a supervisor in ``_killing``. A cell only ever goes down the ladder.

*Who takes the failure of a start.* ``Cell._awaited``: while somebody waits for a start, its failure is theirs, the cell is not
restarted, and one that was made for this start is forgotten. From ``mark_started`` on the supervisor takes every failure. It is
taken away at the instant of the end, not when the waiting task wakes: by then others may have started the cell again.

*Where a message is.* ``Envelope.holder``: a ``Mailbox``; a ``Hand``; ``Stash``, ``Deferred`` (promised an answer) or
``Redeliveries``; None before it is sent and once it is settled. A withdrawal goes to the holder of the moment. An
incarnation that ends empties its hand, its stash and its promises; mailbox and redeliveries stay until the permanent end. What
an actor does first is written where it is done, in ``ActorCell._drain``.

*Open or closed.* The mailbox closes at END and opens at a LAUNCH from STOPPED, so a cell that backs off takes messages. The
mailbox of a pool is the pool's, and is open as long as that. A context is closed from the end of serving on
(``LocalContext._closed``).

*A supervisor.* Whether it starts children is not its state: ``SupervisorCell.is_serving`` also needs that nothing has failed it
(``_failure``) and that it does not take its children down yet (``_is_closing``). Who waits for a common restart, and for when,
only its ``RestartGroup`` knows.

An end goes through these in one order, in ``Cell._run``, without a checkpoint: the supervisor decides and the state moves; then
the hand settles its message, which must know whether an incarnation follows; then those who wait for the end wake, and the
supervisor forgets the cell if it is to. ``tests/exploration`` and ``tests/regressions/test_f1_administration_races.py`` try the
orders in which others come between two of these machines.
"""

from __future__ import annotations

import enum
from typing import TypeAlias, final

import attrs

from actors.actor import ActorState
from actors.errors import InternalError

State: TypeAlias = ActorState
"""Where a cell is; a supervisor's as an actor's."""


@final
class Move(enum.StrEnum):
    """What happens to a cell. A text, because each start looks a pair with it up, and other members are hashed in Python."""

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
    """It is stopped, and its supervisor forgets it."""
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
