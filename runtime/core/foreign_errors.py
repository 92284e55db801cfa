"""What an exception out of somebody else's code means here: a failure of that code, or the end of all.

One rule for actors, nodes, dependencies and hosts: everything is a failure of the code that raised it, except trio's own
``Cancelled``, which says that the runtime itself wanted the end, and what ``is_fatal`` names.
"""

from __future__ import annotations

import trio

from actors.groups import failure_besides


def failure_in(error: BaseException) -> BaseException | None:
    """What has failed, of `error` as it was caught: itself without the cancellations in it.

    None when it is nothing but a cancellation, or must not be survived: then the code that caught it raises it again.
    """
    return failure_besides(error, trio.Cancelled)


def is_of_a_dead_loop(error: BaseException, task: trio.lowlevel.Task) -> bool:
    """Whether `error` is the ``GeneratorExit`` of a coroutine that is being collected: `task` runs in no event loop any more."""
    return isinstance(error, GeneratorExit) and not (trio.lowlevel.in_trio_task() and trio.lowlevel.current_task() is task)
