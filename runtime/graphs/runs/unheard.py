"""Runs that failed and were never awaited: their errors are lost unless a caller still asks before the runtime closes."""

from __future__ import annotations

from typing import Final, final

from actors.errors import RunFailed
from actors.words import said
from runtime.graphs.runs.run import ActiveRun

MOST_NAMED: Final = 100
"""How many are named; of further ones only the number is kept."""
_SHOWN: Final = 400
"""Characters of each error."""


@final
class Unheard:
    """What is kept of such runs: words, so neither their messages nor their errors stay alive."""

    def __init__(self) -> None:
        self.known: dict[object, tuple[str, str, str]] = {}
        """The id, the graph and the error in words of each, the oldest first."""
        self._further = 0

    def add(self, run: ActiveRun) -> None:
        """`run` has failed, and no caller waits for it; it is taken out again when one does."""
        if len(self.known) >= MOST_NAMED:
            self._further += 1
            run.waits.when_awaited = self._one_less
            return
        key, error = object(), run.error
        assert error is not None, "a run that failed has an error"
        first = error.exceptions[0] if isinstance(error, RunFailed) else error
        self.known[key] = (run.id, run.state.plan.name, said(first, _SHOWN))
        run.waits.when_awaited = lambda: self.known.pop(key)

    def _one_less(self) -> None:
        self._further -= 1

    def words(self) -> list[str]:
        """Each of them, and how many there are besides."""
        fix = "  Fix: await handle.result() of each run that is started, and catch its error."
        named = [
            f"run {run_id!r} of graph {graph!r} failed and was never awaited: {why}\n{fix}"
            for run_id, graph, why in self.known.values()
        ]
        return [*named, f"{self._further} further runs failed and were never awaited.\n{fix}"] if self._further else named
