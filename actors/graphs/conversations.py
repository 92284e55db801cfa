"""Conversations: runs of one graph with one person, in one order. The values that nodes and callers see."""

from __future__ import annotations

import enum
from typing import Any, final

import attrs


@final
class Policy(enum.Enum):
    """What becomes of a message of a conversation while an earlier one is worked on."""

    ENQUEUE = "enqueue"
    """It waits for its turn."""
    REJECT = "reject"
    """It is rejected with ``ConversationBusy``."""
    INTERRUPT = "interrupt"
    """The run in progress is cancelled, and so are messages that wait; what was said stays in the history."""
    MERGE = "merge"
    """It goes into the run in progress: an agent takes it between two rounds, and both messages get that run's output. What no
    agent has taken waits for its turn."""


@final
@attrs.frozen
class Turn:
    """One message of a conversation, and what came of it."""

    message: Any
    output: Any = None
    """None when the run failed or was cancelled."""
    error: str | None = None
    """Why there is no output, in words; None when there is one."""
    run_id: str = attrs.field(default="", eq=False)


@final
@attrs.frozen
class TooLong:
    """What a graph is given that makes a conversation shorter: ``runtime.conversation(…, compact=graph)``.

    Its nodes see the turns by ``Annotated[list[Turn], Recall(conversation=True)]``; what it makes stands there as a text.
    """

    turns: int
    """How many are to be summed up."""
