"""What the parts of a runtime are made of."""

from __future__ import annotations

import contextlib

from runtime.core.bus import Bus
from runtime.core.refs import LocalRef, Recipient, not_a_ref
from runtime.core.services import Services
from runtime.core.supervisor import SupervisorCell
from runtime.graphs.conversations.conversations import Conversations
from runtime.graphs.engine import Engine
from runtime.graphs.everywhere import Everywhere
from runtime.graphs.fellow_owners import FellowOwners
from runtime.graphs.schedules import Scheduler
from runtime.lm.limits.budget import Budget, budgets_with, check_budget, spending_all
from runtime.lm.models import Models
from runtime.lm.predictors.loaded_predictors import Predictors


class RuntimeParts:
    """What everything that a runtime does goes through."""

    def __init__(
        self,
        services: Services,
        root: SupervisorCell,
        models: Models,
        predictors: Predictors,
        engine: Engine,
        scheduler: Scheduler,
    ) -> None:
        self._services = services
        self._predictors = predictors
        self._bus = Bus(services)
        self._everywhere = engine.everywhere = Everywhere(services, self._bus)
        services.fellows = FellowOwners(engine.names, self._everywhere)
        self._root = root
        self._models = models
        self._engine = engine
        self._scheduler = scheduler
        self._conversations = Conversations(root, engine, lambda: self._charging(None))

    def _charging(self, budget: Budget | None) -> contextlib.AbstractContextManager[None]:
        owner = self._models.budget
        if check_budget(budget) is None and owner is None:
            return contextlib.nullcontext()
        return spending_all(budgets_with(owner, budget))

    def _mailed(self, ref: object) -> Recipient:
        if not isinstance(ref, LocalRef) or ref.cell.services is not self._services:
            raise not_a_ref(ref, "ref to an actor of this runtime", "spawn()")
        return ref.cell
