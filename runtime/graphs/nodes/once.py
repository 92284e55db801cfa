"""What a node does once however often it begins: ``run.once`` and ``run.sleep``.

In a run that is not durable, the one calls and the other sleeps, and nothing is kept.
"""

from __future__ import annotations

import functools
import inspect
import json
import math
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final, final

import trio

from actors.argument_checks import is_seconds
from actors.errors import UsageError
from actors.store_errors import RunUndecodable
from actors.words import repr_of
from runtime.core.worker_threads import run_in_thread
from runtime.graphs.nodes.attempt_journal import AttemptJournal
from runtime.graphs.nodes.leaving import Leaving
from runtime.graphs.records.recorded_errors import told_of_error
from runtime.graphs.records.rehearsing import CaseDiverged, Rehearsal
from runtime.journal.records import RecordKind
from runtime.messages.problems import MessageInvalid

_MOST_NAMED: Final = 200
"""Characters of a name."""


@final
class Once:
    """For one attempt at one message."""

    def __init__(
        self,
        journal: AttemptJournal | None,
        resting: Callable[[], AbstractContextManager[None]],
        leaving: Leaving | None = None,
    ) -> None:
        """That of an attempt with this `journal`; while it sleeps, it is `resting`.

        `leaving` lets the run leave memory meanwhile; None: it stays.
        """
        self._journal = journal
        self._resting = resting
        self._leaving = leaving
        self._times: Counter[str] = Counter()
        self._in_progress: set[str] = set()
        self._sleeps = 0

    def knows(self, name: str) -> bool:
        """Whether the next call of `name` has its result from earlier."""
        attempt = self._journal
        return attempt is not None and f"{name}:{self._times[name] + 1}" in attempt.journal.bought(attempt.path).done

    async def call(self, name: object, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        """See ``actors.Run.once``."""
        name = _checked_name(name)
        if not callable(function):
            raise UsageError(
                f"run.once({name!r}, {repr_of(function)}): expected a function.\n"
                f"  Fix: await run.once({name!r}, function, argument): the function itself, not what it returns."
            )
        if name in self._in_progress:
            raise UsageError(
                f"run.once({name!r}, …): a call of this name is in progress, and chance decides which of the two is the first.\n"
                f"  Fix: give each its own name, such as run.once(f'{name} {{number}}', …); or call one after the other."
            )
        self._in_progress.add(name)
        try:
            self._times[name] += 1
            return await self._do(f"{name}:{self._times[name]}", name, functools.partial(function, *args))
        finally:
            self._in_progress.discard(name)

    async def _do(self, key: str, name: str, call: Callable[[], Any]) -> Any:
        attempt = self._journal
        if attempt is None:
            return await call_of_once(call)
        journal, bought = attempt.journal, attempt.journal.bought(attempt.path)
        await trio.lowlevel.checkpoint()
        known = bought.done.get(key)
        place = f"{attempt.path}#{attempt.attempt}:{key}"
        if known is None and journal.rehearsal is not None:
            known = await self._rehearsed(journal.rehearsal, attempt, place)
            if known is not None:
                bought.done[key] = known
        if known is not None:
            try:
                return journal.codec.decode_value(known)
            except MessageInvalid as error:
                raise RunUndecodable(
                    f"what run.once({name!r}, …) has returned cannot be read any more: {error.problems[0]}.\n"
                    "  Fix: give the field back, or a default; or run the code that wrote it.",
                    run_id=journal.log.run_id,
                    reason="undecodable",
                ) from error
        await attempt.confirm()
        try:
            result = await call_of_once(call)
        except Exception as error:
            journal.append(RecordKind.RAISED, place, json.dumps(told_of_error(error)).encode())
            raise
        data = journal.codec.encode_value(result, f"what run.once({name!r}, …) returned")
        await attempt.written(RecordKind.ONCE, place, data)
        bought.done[key] = data
        return result

    async def _rehearsed(self, rehearsal: Rehearsal, attempt: AttemptJournal, place: str) -> bytes | None:
        """What it gave when the run was run before; what it raised then is raised again."""
        try:
            known = await rehearsal.once(attempt.journal.whole(place))
        except CaseDiverged:
            raise
        except Exception as error:
            attempt.journal.append(RecordKind.RAISED, place, json.dumps(told_of_error(error)).encode())
            raise
        if known is not None:
            await attempt.written(RecordKind.ONCE, place, known)
        return known

    async def sleep(self, seconds: object, begin_again: object = False) -> None:
        """See ``actors.Run.sleep``."""
        if not is_seconds(seconds) or seconds == math.inf:
            raise UsageError(
                f"run.sleep({repr_of(seconds)}): expected a finite number of seconds >= 0.\n  Fix: await run.sleep(60)."
            )
        if not isinstance(begin_again, bool):
            raise UsageError(
                f"run.sleep({seconds:g}, begin_again={repr_of(begin_again)}): expected True or False.\n"
                f"  Fix: await run.sleep({seconds:g}, begin_again=True)."
            )
        with self._resting():
            if self._journal is None:
                await trio.sleep(seconds)
                return
            left_s = await self._left(self._journal, seconds)
            with self._leaving.until(left_s) if begin_again and self._leaving is not None else nullcontext():
                await trio.sleep(left_s)

    async def _left(self, attempt: AttemptJournal, seconds: float) -> float:
        """How many of `seconds` are left, for a sleep that may have begun in an earlier life."""
        journal = attempt.journal
        now_s = journal.log.wall_time().timestamp()
        self._sleeps += 1
        key = f"{attempt.attempt}:{self._sleeps}"
        known = journal.bought(attempt.path).slept.get(key)
        if known is None:
            await attempt.written(RecordKind.SLEPT, f"{attempt.path}#{key}", str(now_s + seconds).encode())
            return max(0.0, seconds - (journal.log.wall_time().timestamp() - now_s))  # the store may have taken longer
        return min(seconds, max(0.0, float(known) - now_s))  # a clock that was put back makes no sleep longer


async def call_of_once(call: Callable[[], Any]) -> Any:
    """What `call` returns: a coroutine function is awaited, a plain one works in a thread."""
    plain: Any = call
    while isinstance(plain, functools.partial):
        plain = plain.func
    if inspect.iscoroutinefunction(plain) or inspect.iscoroutinefunction(getattr(plain, "__call__", None)):  # noqa: B004
        return await call()
    (returned,) = await run_in_thread(lambda: (call(),))  # in a tuple: trio says nothing of use of a coroutine
    return await returned if inspect.isawaitable(returned) else returned


def _checked_name(name: object) -> str:
    if not isinstance(name, str) or not name or len(name) > _MOST_NAMED or "#" in name or not name.isprintable():
        raise UsageError(
            f"run.once({repr_of(name, 60)}, …): expected a name of 1 to {_MOST_NAMED} printable characters without '#'.\n"
            "  Fix: name what is done: await run.once('charge', charge, order)."
        )
    return name
