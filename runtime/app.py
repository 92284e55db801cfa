"""The runtime as its host sees it: one object to open, to spawn and run things in, and to close."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import random
import warnings
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, final

import trio

from actors.errors import ActorStartFailed, DeclarationError, InternalError, UsageError
from actors.graphs.graph import Graph
from actors.lm import LM
from actors.mailbox import DeadLetterPolicy
from actors.restarts import RestartType
from actors.store_errors import StoreError
from actors.supervision import Supervision, supervisor_spec
from actors.words import repr_of
from runtime.core.events import Event
from runtime.core.foreign_errors import failure_in
from runtime.core.opening import explained
from runtime.core.services import Services
from runtime.core.session import Session
from runtime.core.watchdog import watching
from runtime.graphs.common_limits import CommonLimits
from runtime.graphs.engine import Engine
from runtime.graphs.keeper import Keeper, Keeping
from runtime.graphs.records.history import History
from runtime.graphs.records.run_events import AnyEvent
from runtime.graphs.records.supposing import WhatIf, supposed_of
from runtime.graphs.schedules import Scheduler
from runtime.journal.memory import MemoryStore
from runtime.journal.named_stores import store_of
from runtime.journal.retention import Retention
from runtime.journal.store import Store
from runtime.lm.limits.budget import Budget, check_budget
from runtime.lm.models import Connections, Models
from runtime.lm.predictors.loaded_predictors import Predictors
from runtime.parts.actors import RuntimeActors
from runtime.parts.cases import RuntimeCases
from runtime.parts.owners import RuntimeOwners
from runtime.parts.runs import RuntimeRuns
from runtime.parts.stored_runs import RuntimeStore
from runtime.parts.views import RuntimeViews, checked_kinds
from runtime.placement.placement import placement_of
from runtime.placement.places import Here, Place, SharedPlace
from runtime.record.cassettes import Cassettes

_LOG = logging.getLogger("understudy.runs")


@final
class Runtime(RuntimeActors, RuntimeRuns, RuntimeStore, RuntimeOwners, RuntimeCases, RuntimeViews):
    """Actors under a root supervisor, and graphs whose nodes are such actors. Made by :func:`open_runtime`."""

    async def what_if(
        self,
        case: History | str | Path,
        replace: Mapping[str, Any],
        *,
        graph: Graph[Any, Any] | None = None,
        budget: Budget | None = None,
    ) -> WhatIf:
        """Find out what would have become of a run, had some of it been different.

        Only what is replaced, and what depends on it, runs again, on this runtime's language models; the rest is out of the
        record. So it makes as many calls as these steps make, and no other. None of it is stored. What had failed, and does
        not depend on what is replaced, runs again, too: there is no result of it.

        Args:
            case: a case, or ``await runtime.history(run_id)`` of a stored run.
            replace: path of a step, or name of a node for all of its steps → what it makes instead (a message, or an exception
                that it fails with); or the model that it asks instead (an ``LM``, a model's name, or one of this runtime's
                ``lms``); or its prompt (``Prompt("…")``, or a text with spaces).
            graph: the case's graph; None: the one of that name which is deployed here.
            budget: what the calls may use.

        Raises:
            UsageError: no such step; or the graph is not deployed here. DeclarationError: what is given for one cannot be meant.
            StoreDamaged: the case isn't whole. RunUndecodable: a record cannot be read as its type any more.
        """
        history = case if isinstance(case, History) else History.of_export(await trio.Path(case).read_text(encoding="utf-8"))
        known = self._graph_of(history, graph)
        supposing = supposed_of(history, known, replace, self._models)
        default, named = self._models.made
        async with open_runtime(
            lm=default,
            lms={**named, **supposing.wanted},
            store=MemoryStore(),
            graphs=[known],
            take_up=False,
            predictors=self._predictors.folder,
            instruments=[supposing],
        ) as aside:
            with self._charging(budget):
                return await aside._suppose(history, supposing)
        raise InternalError("the block of what_if() did not return.")


@explained
@contextlib.asynccontextmanager
async def open_runtime(
    *,
    lm: str | LM | None = None,
    lms: Mapping[str, str | LM] | None = None,
    seed: int | None = None,
    store: str | Path | Store | None = None,
    graphs: Iterable[Graph[Any, Any]] = (),
    worker: str | None = None,
    take_up: bool = True,
    evict_after_s: float = 60.0,
    retention: Retention | None = None,
    instruments: Iterable[Callable[[AnyEvent], None]] = (),
    supervision: Supervision | None = None,
    watchdog_s: float | None = None,
    predictors: str | Path | None = None,
    warm_up: bool = False,
    budget: Budget | None = None,
    show_prompts: bool = False,
    record: str | os.PathLike[str] | Cassettes | None = None,
    dead_letters: DeadLetterPolicy | None = None,
    places: Mapping[str, Place | SharedPlace | Here] | None = None,
) -> AsyncGenerator[Runtime]:
    """Open a runtime inside any trio program, as an async context manager.

    Several may be open side by side; nothing is global. On leaving, everything it started has ended: after a normal body each
    actor finishes the current message within its ``shutdown_s``; after an exception or a cancellation all are cancelled,
    in reverse order of their start, and only their clean-up takes its time.

    Args:
        lm: the default language model: a name such as ``"openai/gpt-4o-mini"``, an ``LMClient``, or any ``LM``.
        lms: further ones by name, for the ``lm`` option of nodes.
        seed: decides every random choice (jitter, ids); None draws one from the system.
        store: where durable runs are kept: the path of a SQLite file, ``"postgresql://…"``, or a ``Store``. Runs that were left
            unfinished are taken up, as soon as their graph is deployed. None: runs end with their process.
        graphs: deployed before the block begins.
        worker: begins the name by which the store knows this process; the rest is drawn.
        take_up: False takes up none of the stored runs that are due, and starts none that are scheduled: other workers do. For a
            process that looks, answers, resumes or starts runs; these stay in memory until it ends.
        evict_after_s: a stored run that only waits for people, signals or a time leaves memory after so many seconds, and comes
            back when there is something for it; ``math.inf`` keeps it.
        retention: how long the store keeps runs that are over, ``Retention()`` for 30 and 90 days; None: until forgotten.
        instruments: called synchronously with every event, or with those of the classes in their attribute `kinds`; for logs and
            metrics. One with a method ``opened(runtime)`` is given the runtime first.
        supervision: of the root supervisor; the default restarts an actor up to 3 times within 5 s.
        watchdog_s: publish ``LoopBlocked``, with the actor and its stack, when code holds the event loop for longer than so many
            seconds of real time (0.25, say) without an ``await`` that waits; None does not watch.
        predictors: the folder that ``understudy compile`` wrote; predict nodes use what it has for them. It is read here and held
            against a graph's nodes when that is deployed.
        warm_up: do what :meth:`Runtime.warm_up` does before the block begins.
        show_prompts: let the events of runs say what language models are asked, as ``LMAsked``. Off by default, since prompts
            hold what users have written, and anyone who listens keeps them.
        record: a folder, or ``Cassettes``, where the calls of its language models are recorded and replayed, except for those of
            clients with their own; see ``runtime.record``.
        budget: what all runs, and all calls through clients that the runtime opens, may use of language models together.
        dead_letters: how many messages that reached no one are kept, and how much memory they may hold; None: the newest 1,000,
            in 8 MiB at most.
        places: where nodes run that say ``place="name"``: other processes, or ``Here()``. None is started before a graph that
            needs it is deployed; see ``runtime.placement``.

    Raises:
        DeclarationError: a file in `predictors` cannot be used, one of `places` isn't a place, or one of `instruments` cannot be
            called.
        StoreError: the store cannot be opened: ``StoreInUse``, ``StoreTooNew``, ``StoreUnavailable``.
        UsageError: entered outside of trio.
        RestartsExhausted: the root supervisor gave up; the body was cancelled.
    """
    _check_entry()
    kept_in = None if store is None else store_of(store)
    services = Services(
        random.Random(seed), trio.lowlevel.current_clock().current_time, dead_letter_policy=_checked(dead_letters)
    )
    services.shows_prompts, services.watchdog_s = show_prompts, watchdog_s
    cassettes = Cassettes.of(record)
    common = CommonLimits.of(kept_in)
    tape = None if cassettes is None else cassettes.tape()
    models = Models(lm, lms, services.rng, check_budget(budget), tape, common)
    trained = Predictors(predictors)
    listeners = tuple(instruments)
    for instrument in listeners:
        services.events.add_sink(instrument, _heard_by(instrument))
    session = Session(services, supervisor_spec("root", (), supervision))
    evict_after_s = _checked_wait(evict_after_s) if take_up else math.inf  # or no one here would bring them back
    engine = Engine(services, session.root, models, trained, evict_after_s, placement_of(places, services, session.root))
    scheduler = Scheduler(engine)
    services.facade = runtime = Runtime(services, session.root, models, trained, engine, scheduler)
    for instrument in listeners:
        opened: Callable[[Runtime], None] | None = getattr(instrument, "opened", None)
        if opened is not None:
            opened(runtime)
    abandoned: list[str] = []
    with watching(services, watchdog_s):
        try:
            async with trio.open_nursery() as nursery:
                try:
                    await session.start(nursery)
                    with session.body:
                        if kept_in is not None:
                            await _keep(runtime, engine, scheduler, kept_in, worker, retention, take_up=take_up, common=common)
                        await _prepare(runtime, models, warm_up=warm_up)
                        for graph in graphs:
                            await runtime.deploy(graph)
                        yield runtime
                except BaseException as error:  # noqa: BLE001 - raised again below, once the tree has ended
                    session.note(error)
                abandoned = engine.close()
                try:
                    await session.finish()
                except BaseException as error:  # noqa: BLE001 - raised below: out of the nursery it would come in a group
                    session.note(error)
        except BaseException as error:
            # The host has cancelled the nursery, and then what the body raised comes first; or it is a bug of ours.
            if session.error is None or failure_in(error) is not None:
                raise
    outcome = session.outcome
    if outcome is not None:
        raise outcome
    for words in abandoned:
        _LOG.warning(words)
        warnings.warn(words, ResourceWarning, stacklevel=4)  # at the block; Python itself shows this category in tests only


def _checked(dead_letters: object) -> DeadLetterPolicy | None:
    if dead_letters is None or isinstance(dead_letters, DeadLetterPolicy):
        return dead_letters
    raise DeclarationError(
        f"open_runtime(dead_letters={repr_of(dead_letters)}): expected a DeadLetterPolicy.\n"
        "  Fix: DeadLetterPolicy(keep=1000), say."
    )


def _heard_by(instrument: object) -> tuple[type[Event], ...]:
    if not callable(instrument):
        raise DeclarationError(
            f"open_runtime(instruments=[{repr_of(instrument)}]): this cannot be called.\n"
            "  Fix: a function of one event, or an object such as LogEvents()."
        )
    return checked_kinds(getattr(instrument, "kinds", None), "an instrument of open_runtime() with kinds = {}")


def _checked_wait(seconds: object) -> float:
    if not isinstance(seconds, int | float) or isinstance(seconds, bool) or not seconds >= 0:
        raise DeclarationError(
            f"open_runtime(evict_after_s={repr_of(seconds)}): expected a number of seconds >= 0.\n  Fix: leave it out for 60."
        )
    return float(seconds)


def _check_entry() -> None:
    if not trio.lowlevel.in_trio_run():
        raise UsageError(
            "open_runtime() was entered outside of trio.\n"
            "  Fix: trio.run(main); in an asyncio program use runtime.embed.asyncio.open_runtime_asyncio()."
        )


async def _keep(
    runtime: Runtime,
    engine: Engine,
    scheduler: Scheduler,
    store: Store,
    worker: str | None,
    retention: Retention | None,
    *,
    take_up: bool,
    common: CommonLimits | None = None,
) -> None:
    """Open the store, before anything else is started and so to be closed after it."""
    keeping = Keeping(store, worker, engine.publish, retention)
    taking_up = engine.keep(keeping)
    try:
        due = (taking_up.take_up, scheduler.run) if take_up else ()
        if common is not None:
            due = (*due, common.run)
            keeping.before_close.append(common.close)
        if engine.everywhere is not None:
            due = (*due, *engine.everywhere.tasks(store))
            keeping.before_close.append(engine.everywhere.flush)
        await runtime.spawn(Keeper, keeping, engine.outside.hear, *due, name="store", restart=RestartType.TEMPORARY)
    except ActorStartFailed as error:
        if isinstance(error.__cause__, StoreError):
            raise error.__cause__ from None
        raise


async def _prepare(runtime: Runtime, models: Models, *, warm_up: bool) -> None:
    if models.needs_transport:
        await runtime.spawn(Connections, models, name="connections")
    if warm_up:
        await runtime.warm_up()
