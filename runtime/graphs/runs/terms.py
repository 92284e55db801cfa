"""On what terms a stored run was started: how many steps, which budgets, what labels. They hold in every life of it."""

from __future__ import annotations

import json
import math
import secrets
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast, final
from weakref import WeakKeyDictionary, WeakValueDictionary

import attrs
import trio

from actors.lm import Usage
from runtime.graphs.records.journaling import details_of, is_by_hand
from runtime.graphs.records.labels import labelled
from runtime.graphs.records.run_record import Spend
from runtime.graphs.runs.run import ActiveRun
from runtime.journal.records import Record
from runtime.lm.limits.budget import Budget, budgets_with, spending_all


@final
@attrs.frozen
class BudgetTerms:
    """What a budget allows, and the key by which the runs know each other that share it."""

    key: str
    max_tokens: float
    max_cost_usd: float
    shared_as: str | None = None
    """Under which name the store counts it."""


@final
@attrs.frozen
class Terms:
    """Those of one run, as its first record has them."""

    max_steps: float = math.inf
    labels: Mapping[str, str] = attrs.field(factory=dict[str, str])
    budgets: tuple[BudgetTerms, ...] = ()

    def written(self) -> str:
        """JSON for the path of the record; empty for the usual terms."""
        told: dict[str, Any] = {}
        if self.max_steps != math.inf:
            told["max_steps"] = self.max_steps
        if self.labels:
            told["labels"] = dict(self.labels)
        if self.budgets:
            told["budgets"] = [
                [each.key, _finite(each.max_tokens), _finite(each.max_cost_usd), *([each.shared_as] if each.shared_as else ())]
                for each in self.budgets
            ]
        return json.dumps(told) if told else ""

    def of_fork(self) -> Terms:
        """Those of a copy of the run, which spends from new budgets, and from those that all share."""
        return attrs.evolve(self, budgets=tuple(attrs.evolve(each, key=secrets.token_hex(8)) for each in self.budgets))


def read_terms(written: str) -> Terms:
    """What :meth:`Terms.written` has made `written` of."""
    found: Any = json.loads(written or "{}")
    if not isinstance(found, dict):  # the number of steps alone
        return Terms(float(found))
    told = cast("dict[str, Any]", found)
    limits = tuple(BudgetTerms(key, _or_inf(tokens), _or_inf(usd), *rest) for key, tokens, usd, *rest in told.get("budgets", ()))
    return Terms(_or_inf(told.get("max_steps")), told.get("labels", {}), limits)


def terms_of(records: Sequence[Record]) -> Terms:
    """The terms of a run: those of the last one who resumed it, else those of its start."""
    for record in reversed(records):
        given = details_of(record).get("terms") if is_by_hand(record) else None
        if given is not None:
            return read_terms(given)
    return read_terms(records[0].path)


def _finite(limit: float) -> float | None:
    return None if limit == math.inf else limit


def _or_inf(limit: float | None) -> float:
    return math.inf if limit is None else limit


@final
class Purse:
    """The budgets that stored runs of one runtime spend from.

    A run that comes back finds the budget that it was started with, if that is still here; else one with the same limits. Runs
    that shared one share it again. Either way it is charged what the run has used so far, once. A run with a budget that is new
    here begins when all runs that are due have been taken up: else it would spend what another has spent already.
    """

    def __init__(self, owner: Budget | None) -> None:
        """`owner` is the runtime's own, to which each run here is charged besides."""
        self._owner = owner
        self._by_key: WeakValueDictionary[str, Budget] = WeakValueDictionary()
        self._keys: WeakKeyDictionary[Budget, str] = WeakKeyDictionary()
        self._charged: WeakKeyDictionary[Budget, dict[str, Spend]] = WeakKeyDictionary()
        """What runs that have left memory had used by then."""
        self._unsettled: set[str] = set()
        """Budgets that are new here since the last sweep."""
        self._sweep: trio.Event | None = None
        """Set at the end of the sweep in progress, or of the next one; None: there are none."""

    def limits_here(self) -> tuple[BudgetTerms, ...]:
        """Those of the budgets that a run which is started now is charged to."""
        return tuple(self.limits_of(each) for each in budgets_with() if each is not self._owner)

    def limits_of(self, budget: Budget) -> BudgetTerms:
        """Those of `budget`, which is found by its key from now on."""
        key = self._keys.get(budget)
        if key is None:
            key = self._keys[budget] = secrets.token_hex(8)
            self._by_key[key] = budget
        return BudgetTerms(key, budget.max_tokens, budget.max_cost_usd, budget.shared_as)

    @contextmanager
    def on(self, terms: Terms, run_id: str, used: Spend) -> Generator[None]:
        """A run that is made in the block has `terms`; it had `used` so much before."""
        budgets = [self._budget(each, run_id, used) for each in terms.budgets]
        with labelled(terms.labels or None), spending_all(budgets_with(*budgets, self._owner)):
            yield

    def _budget(self, limits: BudgetTerms, run_id: str, used: Spend) -> Budget:
        budget = self._by_key.get(limits.key)
        if limits.shared_as is not None:  # the store has counted what the run has used
            if budget is None:
                budget = Budget(max_tokens=limits.max_tokens, max_cost_usd=limits.max_cost_usd, shared_as=limits.shared_as)
                self._keys[budget], self._by_key[limits.key] = limits.key, budget
            return budget
        if budget is None:
            budget = Budget(max_tokens=limits.max_tokens, max_cost_usd=limits.max_cost_usd)
            self._keys[budget], self._by_key[limits.key] = limits.key, budget
            self._unsettled.add(limits.key)
        known = self._charged.get(budget, {}).pop(run_id, Spend())
        prompt, completion = used.prompt_tokens - known.prompt_tokens, used.completion_tokens - known.completion_tokens
        budget.charge(Usage(max(0, prompt), max(0, completion), max(0.0, used.cost_usd - known.cost_usd)))
        return budget

    @contextmanager
    def swept(self) -> Generator[Callable[[], None]]:
        """In the block, runs that are due are taken up again and again; what it enters as is called when all have been."""

        def done() -> None:
            self._unsettled.clear()
            if self._sweep is not None:
                self._sweep.set()
            self._sweep = trio.Event()

        done()
        try:
            yield done
        finally:
            done()
            self._sweep = None

    async def settled(self, terms: Terms) -> None:
        """Wait until the budgets of a run with `terms`, which was taken up, are charged what the others have used."""
        if self._sweep is not None and any(each.key in self._unsettled for each in terms.budgets):
            await self._sweep.wait()

    def watch(self, run: ActiveRun, terms: Terms) -> None:
        """Remember what `run` has used when it leaves memory without being over."""
        if not terms.budgets:
            return
        budgets = [self._by_key[each.key] for each in terms.budgets]

        def left() -> None:
            for budget in budgets if run.is_evicted or run.is_handed_back else ():
                self._charged.setdefault(budget, {})[run.id] = run.spend

        run.when_over(left)
