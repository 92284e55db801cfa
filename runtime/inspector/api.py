"""The views of the inspector, as JSON: what is served under ``/inspector/api``. None of them changes anything.

Rows that a view updates are objects by id, beside a list that says in which order they stand, so a patch names what has
changed and nothing else. Times are seconds since 1970; what counts down is told by when it is over.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

import attrs
import trio

from actors.actor import ActorStatistics
from actors.errors import ActorFailed, UsageError
from actors.mailbox import MailboxStatistics
from actors.supervision import SupervisorRef
from actors.words import cut
from runtime.core.dead_letters import DeadLetter
from runtime.core.inspection import Look
from runtime.graphs.records.questions import Question
from runtime.inspector.watch import PAGE, SLICE, Watch
from runtime.lm.statistics import ModelStatistics
from runtime.traces.event_json import dumps, error_told

MAX_CONTENT: Final = 20_000
"""Bytes of one message in a list; a longer one is cut."""
SLOWEST: Final = 20
"""Nodes in the overview."""
NEWEST: Final = 50
"""Incidents in the overview."""


async def overview(watch: Watch) -> dict[str, Any]:
    """What a service is doing: its figures, its slowest nodes, what went wrong lately."""
    nodes: list[dict[str, Any]] = [
        {"graph": graph, "node": node, **figures.told()}
        for (graph, node), figures in watch.tally.nodes.items()
        if figures.started
    ]
    nodes.sort(key=lambda each: each["took"].get("p95_s", 0.0), reverse=True)
    await trio.lowlevel.checkpoint()
    newest = itertools.islice(watch.incidents.newest_first(), NEWEST)
    return {
        "opened": watch.time(watch.opened_s),
        "slowest": nodes[:SLOWEST],
        "incidents": [incident.told(watch.time) for incident in newest],
        "models": {name: figures.told() for name, figures in watch.tally.models.items()},
    }


# --- actors -----------------------------------------------------------------------------------------------------------


async def actors(
    watch: Watch, under: Sequence[str] = ("",), *, chosen: str | None = None, search: str = "", skip: int = 0, limit: int = PAGE
) -> dict[str, Any]:
    """What is directly below each of the addresses `under`, at most `limit` of each; or all whose address holds `search`.

    `chosen` is one that is shown in full.
    """
    told: dict[str, Any] = {"root": row_told(watch, _look(watch, "")), "lists": {}, "search": search}
    if search:
        told["lists"][""] = _listed(watch, await _found(watch, search, skip, limit), None)
    else:
        for address in under:
            look = watch.runtime.look(address, skip=skip if address == under[0] else 0, limit=limit)
            if look is not None:
                told["lists"][address] = _listed(watch, look.below, look.children)
            await trio.lowlevel.checkpoint()
    told["chosen"] = None if chosen is None else actor_told(watch, chosen)
    return told


def _look(watch: Watch, address: str) -> Look:
    look = watch.runtime.look(address)
    assert look is not None, "the root is always there"
    return look


async def _found(watch: Watch, search: str, skip: int, limit: int) -> list[Look]:
    wanted, found, seen = search.lower(), list[Look](), 0
    for number, address in enumerate(watch.runtime.statistics().actors):
        if wanted in address.lower():
            seen += 1
            look = watch.runtime.look(address) if seen > skip else None
            if look is not None:
                found.append(look)
            if len(found) == limit:
                break
        if not number % SLICE:
            await trio.lowlevel.checkpoint()
    return found


def _listed(watch: Watch, looks: Sequence[Look], total: int | None) -> dict[str, Any]:
    rows = {look.address: row_told(watch, look) for look in looks}
    return {"order": list(rows), "rows": rows, "total": total}


def row_told(watch: Watch, look: Look) -> dict[str, Any]:
    """One actor or supervisor."""
    now_s = trio.current_time()
    told: dict[str, Any] = {
        "address": look.address,
        "kind": look.kind,
        "state": str(look.state),
        "incarnation": look.incarnation,
        "restarts": look.restarts,
        "children": look.children,
        "until": watch.time(now_s + look.backoff_left_s) if look.backoff_left_s else None,
    }
    if look.actor is not None:
        told |= _actor_told(watch, look.actor, now_s)
    if look.supervisor is not None:
        bounds = {"max_restarts": _number(look.supervisor.max_restarts), "within_s": look.supervisor.within_s}
        told["supervisor"] = {"strategy": str(look.supervisor.strategy.value), **bounds, "restarts": look.supervisor.restarts}
    if look.restarts or look.incarnation > 1:
        told["error"] = watch.incidents.last_error(look.address)
    return told


def _actor_told(watch: Watch, actor: ActorStatistics, now_s: float) -> dict[str, Any]:
    mail: MailboxStatistics = actor.mailbox
    return {
        "handled": actor.handled,
        "failed": actor.failed,
        "mailbox": {
            "depth": mail.depth,
            "capacity": _number(mail.capacity),
            "high_water": mail.high_water,
            "oldest": watch.time(now_s - mail.oldest_age_s) if mail.depth else None,
            "blocked_senders": mail.blocked_senders,
            "taken": mail.taken,
            "dropped": mail.dropped,
        },
    }


def actor_told(watch: Watch, address: str) -> dict[str, Any] | None:
    """One actor or supervisor in full, with what it says of itself; None when there is none."""
    look = watch.runtime.look(address)
    if look is None:
        return None
    told = row_told(watch, look)
    told["incidents"] = [incident.told(watch.time) for incident in watch.incidents.of(address)]
    ref = watch.runtime.whereis(address)
    if ref is not None and not isinstance(ref, SupervisorRef):
        try:
            state = watch.runtime.inspect(ref)
        except (ActorFailed, UsageError) as error:
            told["describe_error"] = cut(str(error), 2_000)
        else:
            if state is not None:
                told["describe"] = content_told(watch, state)
    return told


# --- the rest ---------------------------------------------------------------------------------------------------------


async def letters(watch: Watch, *, before: int | None = None, limit: int = PAGE) -> dict[str, Any]:
    """Dead letters, newest first: those with a number below `before`. Numbers count from 0 since the runtime opened."""
    kept = watch.runtime.dead_letters
    first = kept.total - len(kept)
    last = kept.total if before is None else max(first, min(before, kept.total))
    rows: dict[str, Any] = {}
    for number in range(last - 1, max(first, last - limit) - 1, -1):
        rows[str(number)] = letter_told(watch, number, kept[number - first])
        if not number % 50:
            await trio.lowlevel.checkpoint()
            if number < (first := kept.total - len(kept)):
                break  # those before it were dropped meanwhile
    return {"order": list(rows), "rows": rows, "total": kept.total, "kept": len(kept)}


def letter_told(watch: Watch, number: int, letter: DeadLetter) -> dict[str, Any]:
    """One dead letter."""
    return {
        "number": number,
        "at": watch.time(letter.at_s),
        "recipient": letter.recipient,
        "reason": str(letter.reason),
        "sender": letter.sender,
        "type": type(letter.message).__name__,
        "message": content_told(watch, letter.message),
        "age_s": round(letter.age_s, 3),
        "attempts": letter.attempts,
        "error": None if letter.error is None else error_told(letter.error, inside=True),
    }


async def models(watch: Watch) -> dict[str, Any]:
    """Language models: limits, breakers, calls and spend. What only a node has or was called otherwise comes last."""
    await trio.lowlevel.checkpoint()
    figures = {name: each.told() for name, each in watch.tally.models.items()}
    rows: dict[str, Any] = {}
    for model in watch.runtime.model_statistics():
        key = f"{'/'.join(model.names) or 'node'} {model.model}"
        rows[key] = {**_model_told(watch, model), "figures": figures.get(model.model)}
    known = {row["model"] for row in rows.values()}
    for name in figures:
        if name not in known:
            rows[f"called {name}"] = {"model": name, "names": [], "figures": figures[name]}
    return {"order": list(rows), "rows": rows}


def _model_told(watch: Watch, model: ModelStatistics) -> dict[str, Any]:
    told: dict[str, Any] = {"model": model.model, "names": list(model.names), "is_client": model.is_client}
    if not model.is_client:
        return told
    told |= {
        "is_open": model.is_open,
        "in_flight": model.in_flight,
        "max_connections": model.max_connections,
        "waiting": model.waiting,
        "rpm": _number(model.rpm),
        "tpm": _number(model.tpm),
        "requests_used": round(model.requests_used),
        "tokens_used": round(model.tokens_used),
        "fallbacks": list(model.fallbacks),
    }
    if model.account is not None:
        account = attrs.asdict(model.account)
        paused_s = account.pop("paused_s")
        account["limit"] = _number(account["limit"])
        account["paused_until"] = watch.time(trio.current_time() + paused_s) if paused_s else None
        told["account"] = account
    if model.budget is not None:
        budget = model.budget
        told["budget"] = {
            "tokens": budget.tokens,
            "max_tokens": _number(budget.max_tokens),
            "cost_usd": round(budget.cost_usd, 8),
            "max_cost_usd": _number(budget.max_cost_usd),
        }
    return told


async def questions(watch: Watch) -> dict[str, Any]:
    """What people are asked now, oldest first."""
    asked = await watch.runtime.questions()
    rows = {question.id: question_told(watch, question) for question in asked[:PAGE]}
    return {"order": list(rows), "rows": rows, "total": len(asked)}


def question_told(watch: Watch, question: Question) -> dict[str, Any]:
    """One question, with the schema of its answer."""
    return {
        "id": question.id,
        "run": question.run_id,
        "node": question.node,
        "path": question.path,
        "text": question.text,
        "to": question.to,
        "asks": content_told(watch, question.asks),
        "answers": [kind.__name__ for kind in question.answers],
        "may_be_none": question.may_be_none,
        "schema": question.schema,
        "asked": question.asked_at.timestamp(),
        "due": None if question.due_at is None else question.due_at.timestamp(),
    }


def graph_figures(watch: Watch, name: str) -> dict[str, Any]:
    """What the nodes of a graph have done, by node; and how many messages went along its edges."""
    graph = watch.graphs[name]
    nodes: dict[str, Any] = {}
    for spec in graph.plan().nodes.values():
        figures = watch.tally.nodes.get((name, spec.name))
        look = watch.runtime.look(f"{name}/{spec.name}")
        nodes[spec.name] = {
            **(figures.told() if figures is not None else {}),
            "actor": None if look is None else row_told(watch, look),
        }
    inputs = {kind: count for (of, kind), count in watch.tally.inputs.items() if of == name}
    return {"name": name, "nodes": nodes, "inputs": inputs}


def content_told(watch: Watch, value: object) -> Any:
    """A message as readers may see it; a very long one cut, as a text."""
    told = watch.encoder.content_told(value)
    text = dumps(told)
    return told if len(text) <= MAX_CONTENT else {"cut": text[:MAX_CONTENT].decode("ascii"), "bytes": len(text)}


def _number(value: float) -> float | None:
    """JSON has no infinity; None isn't a bound."""
    return None if math.isinf(value) else value


# --- what has changed ---------------------------------------------------------------------------------------------------


def patch(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON merge patch (RFC 7396) that makes `new` of `old`; in it, None removes a field."""
    changed: dict[str, Any] = {name: None for name in old if name not in new}
    for name, value in new.items():
        before = old.get(name)
        if isinstance(before, dict) and isinstance(value, dict):
            within = patch(cast("dict[str, Any]", before), cast("dict[str, Any]", value))
            if within:
                changed[name] = within
        elif before != value or name not in old:
            changed[name] = value
    return changed
