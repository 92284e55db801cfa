"""A recorded run in an explored test: first as it was, then as it might have been."""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, final

from actors.graphs.graph import Graph
from actors.lm import LM
from runtime.graphs.records.history import History
from runtime.testing.cases.rerun import rerun


@final
class CaseRun:
    """What a parameter named ``case`` of an ``@explore(start=…)`` test gets."""

    def __init__(self, history: History, chance: random.Random | None, opened: Any) -> None:
        """`chance` None runs it as it was; `opened` opens the runtime of the simulation."""
        self.history = history
        """What is recorded of the run."""
        self._chance = chance
        self._opened = opened

    @property
    def is_as_recorded(self) -> bool:
        """Whether this is the first of the explored runs, in which everything ends in the recorded order."""
        return self._chance is None

    async def run(
        self,
        graph: Graph[Any, Any],
        *,
        lm: str | LM | None = None,
        lms: Mapping[str, str | LM] | None = None,
        taken: Collection[str] = (),
        predictors: str | Path | None = None,
    ) -> Any:
        """Run it in `graph` and return the output; the options are those of ``replays``.

        Raises:
            RunFailed, RunError: what the run ends with. UsageError: it is a run of another graph.
        """
        made = await rerun(
            self.history,
            graph,
            lm=lm,
            lms=lms,
            taken=taken,
            chance=self._chance,
            opened=self._opened,
            predictors=predictors,
        )
        if made.error is not None:
            raise made.error
        return made.output
