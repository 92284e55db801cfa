"""When a run of a graph is over: with its first output, or when no work is left."""

from __future__ import annotations

import enum
from typing import final


@final
class Finish(enum.Enum):
    """When a run returns: ``Graph("orders", input=Order, output=Receipt, finish=Finish.WHEN_QUIET)``."""

    FIRST_OUTPUT = "first-output"
    """With the first message of the output type to come. All else that is in progress is cancelled, and shown so in the trace."""
    WHEN_QUIET = "when-quiet"
    """When every message has been worked on; nothing is cancelled, and a node that takes the output type gets it.

    Among several outputs it returns that of the first branch, in item order; within a branch that of the earliest round of a
    loop, then that of the node declared first. A branch that fails after an output was made fails the run.
    """
