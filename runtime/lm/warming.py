"""What the first call of a language model would wait for, done before it: imports that take seconds."""

from __future__ import annotations

import trio

from runtime.lm.dspy import library as dspy_library
from runtime.lm.providers import library


async def warm_up() -> None:
    """Import DSPy, and LiteLLM for the client, in worker threads one after the other; immediately when both are there."""
    await dspy_library.warm_up()
    await library.warm_up()
    await trio.lowlevel.checkpoint()


def load_libraries() -> None:
    """Import both in this thread, which waits for them: in a process that is about to fork workers, before it does.

    Nothing is opened and no thread is left behind, so what a fork copies is whole.
    """
    dspy_library.library()
    library.load()
