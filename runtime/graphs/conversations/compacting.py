"""How a conversation that has become long is made shorter: by a function of its author's, or by a graph that sums it up."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, final

from actors.argument_checks import rejected
from actors.graphs.conversations import TooLong, Turn
from actors.graphs.graph import Graph
from actors.groups import leaves_of
from actors.words import said, type_names
from runtime.core.foreign_errors import failure_in
from runtime.graphs.engine import Engine
from runtime.graphs.runs.run import ActiveRun
from runtime.lm.tools.tool_schemas import result_text
from runtime.messages.fields import fields_of

_LOG = logging.getLogger("understudy.runs")
_MOST_SAID = 500
"""Characters of an error that the log has."""

Compact = Callable[[list[Turn]], Awaitable[list[Turn]]]
"""Makes fewer turns of many."""


@final
class Compactor:
    """Makes the turns of one conversation fewer."""

    def __init__(self, engine: Engine, compact: Compact | Graph[TooLong, Any] | None) -> None:
        """Without one, the oldest are forgotten.

        Raises:
            DeclarationError: it is neither an async function nor a graph that takes ``TooLong``.
        """
        expected = "an async function of a list[Turn], or a graph that takes TooLong"
        if isinstance(compact, Graph):
            if TooLong not in compact.input_types:
                raise rejected(
                    "conversation", "compact", compact, f"{expected}; this one takes {type_names(compact.input_types)}"
                )
        elif compact is not None and not _is_async(compact):
            raise rejected("conversation", "compact", compact, expected)
        self._engine = engine
        self._compact = compact

    async def fewer(self, turns: Sequence[Turn], keep: int) -> tuple[Turn, ...] | None:
        """At most `keep` of more `turns`; None if nothing but forgetting the oldest is left.

        That it fails is logged, and not raised: the sender of the last message has an answer to it.
        """
        compact = self._compact
        if compact is None:
            return None
        try:
            made = await self._summed_up(compact, turns, keep) if isinstance(compact, Graph) else await compact(list(turns))
        except BaseException as error:
            failure = failure_in(error)
            if failure is None:
                raise
            first = said(next(iter(leaves_of(failure))), _MOST_SAID)
            _LOG.warning("a conversation could not be made shorter, and its oldest turns are forgotten: %s", first)
            return None
        return tuple(made)[-keep:]

    async def _summed_up(self, graph: Graph[TooLong, Any], turns: Sequence[Turn], keep: int) -> list[Turn]:
        """One turn in place of the older half, and those that follow it: not each message is to cost a summary."""
        newest = turns[len(turns) - keep // 2 :]
        older = tuple(turns[: len(turns) - keep // 2])

        def begun(run: ActiveRun) -> None:
            run.turns_before = older

        made = await self._engine.run(graph, TooLong(len(older)), float("inf"), begun=begun)
        return [Turn(_text_of(made)), *newest]


def _is_async(compact: object) -> bool:
    return inspect.iscoroutinefunction(compact) or inspect.iscoroutinefunction(getattr(compact, "__call__", None))  # noqa: B004


def _text_of(message: object) -> str:
    """What a turn says in place of others: a text, since nodes and stores know no type of it."""
    values = [getattr(message, field.attribute) for field in fields_of(type(message))]
    return values[0] if len(values) == 1 and isinstance(values[0], str) else result_text(message)
