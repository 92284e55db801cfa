"""How a node asks a person in the middle of its work: its frame waits, and the answer outlives the process."""

from __future__ import annotations

from hashlib import blake2s
from typing import Any, get_args

import trio

from actors.errors import NodeTimedOut, UsageError
from actors.graphs.annotations import is_message_type
from actors.words import repr_of
from runtime.graphs.records.questions import AskedByNode
from runtime.graphs.records.stored_answers import ANSWERED, PersonAnswer, codec_for, message_data, read_answer
from runtime.graphs.runs.run import ActiveDelivery
from runtime.journal.records import RecordKind
from runtime.messages.tags import tag_of


def overdue(node: str, timeout_s: float | None, run_id: str) -> NodeTimedOut:
    """The error for a question that no one has answered in time."""
    within = "" if timeout_s is None else f" within timeout_s={timeout_s:g}"
    return NodeTimedOut(
        f"no one has answered the question of node {node!r}{within}.\n"
        "  Fix: give people more time, or write what happens then: fallback=function.",
        run_id=run_id,
    )


async def ask(
    active: ActiveDelivery,
    question: object,
    answer: Any,
    timeout_s: float | None = None,
    *,
    text: str = "",
    to: str | None = None,
    place: str = "",
) -> Any:
    """Ask a person about `question` in the middle of the work on a message, and wait; returns an `answer`, a type or a union.

    `place` is the path of the part of the work that asks, such as a call of a tool: equal questions of two are two.

    Asked again with an equal question, in a later attempt at the message or in a later life of the run, it is the same question:
    what was answered is not asked again. Cancelled, the question stays open as long as the message is at work.

    Raises:
        NodeTimedOut: there was no answer within `timeout_s` seconds, by the store's clock, counted from the first time.
        NotStorable: the run is stored, and `question` cannot be.
        UsageError: `question` isn't a message, or `answer` isn't a message type.
    """
    answers = _types(answer)
    if not is_message_type(type(question)):
        raise UsageError(
            f"run.ask({repr_of(question)}): a question is a message, such as an attrs class or a dataclass.\n"
            "  Fix: @attrs.frozen class MayISend: text: str; and await run.ask(MayISend('…'), Approved)."
        )
    run, path = active.run, active.delivery.path
    told = message_data(question) + "|".join(map(tag_of, answers)).encode() + place.encode()
    digest = blake2s(told, digest_size=6).hexdigest()
    talk = active.talk = active.talk or AskedByNode()
    part = "ask" if active.error is None else "fallback"
    key = f"{path}#{part}:{digest}:{talk.number(digest, active.step.attempt)}"
    known = run.past[path].answers.get(key) if path in run.past else None
    if known is not None and key not in talk.answers:
        how, data = read_answer(known.data)
        value = codec_for(*answers).decode(data) if how == ANSWERED else None
        talk.answers[key] = PersonAnswer(value, None, how != ANSWERED, None, "")
    if key not in talk.answers:
        await _answered(active, talk, question, answers, key, timeout_s, text, to, place)
    else:
        await trio.lowlevel.checkpoint()
    found = talk.answers[key]
    if found.is_late:
        raise overdue(active.node, timeout_s, run.id)
    return found.value


async def _answered(
    active: ActiveDelivery,
    talk: AskedByNode,
    question: object,
    answers: tuple[type, ...],
    key: str,
    timeout_s: float | None,
    text: str,
    to: str | None,
    place: str,
) -> None:
    """Wait until the question has its answer, or none in time."""
    run = active.run
    heard = talk.heard.setdefault(key, trio.Event())
    if key not in talk.asks:
        assert run.desk is not None, "a runtime has a desk"

        def settled(answer: PersonAnswer) -> None:
            def follow() -> None:
                talk.answers[key] = answer
                heard.set()

            if run.journal is None:
                follow()
            else:
                run.journal.append(RecordKind.ANSWERED, key, answer.record, follow, answered=answer.question)

        talk.asks[key] = run.desk.ask(
            run,
            key,
            node=active.node,
            path=active.delivery.path,
            shown_path=place or active.delivery.path,
            attempt=active.step.attempt,
            text=text,
            asks=question,
            answers=answers,
            may_be_none=False,
            timeout_s=timeout_s,
            to=to,
            settle=settled,
            when_open=_nothing,
        )
    await heard.wait()


def _types(answer: Any) -> tuple[type, ...]:
    kinds: tuple[Any, ...] = (answer,) if isinstance(answer, type) else get_args(answer)
    if not kinds or not all(is_message_type(kind) for kind in kinds):
        raise UsageError(
            f"run.ask(…, {repr_of(answer)}): an answer is a message type, or a union of several.\n"
            "  Fix: await run.ask(question, Approved | Rejected)."
        )
    return kinds


def _nothing() -> None:
    pass
