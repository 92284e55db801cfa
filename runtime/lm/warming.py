"""What the first call of a language model would wait for, done before it: imports that take seconds."""

from __future__ import annotations

import trio

from runtime.lm.dspy import import_dspy
from runtime.lm.providers import import_litellm


async def warm_up() -> None:
    """Import DSPy, and LiteLLM for the client, in worker threads one after the other; immediately when both are there."""
    await import_dspy.warm_up()
    await import_litellm.warm_up()
    await trio.lowlevel.checkpoint()


def load_libraries() -> None:
    """Import both in this thread, which waits for them: in a process that is about to fork workers, before it does.

    Nothing is opened and no thread is left behind, so what a fork copies is whole.
    """
    import_dspy.library()
    import_litellm.load()
