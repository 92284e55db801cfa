"""What is posted to stored runs, from any process that has the store: answers to their questions, and signals."""

from __future__ import annotations

import secrets
from typing import Any, Final

from actors.errors import UsageError
from actors.store_errors import AlreadyAnswered, UnknownRun
from actors.words import repr_of, type_names
from runtime.graphs.records.questions import NOBODY, Question
from runtime.graphs.records.stored_answers import codec_for, is_object, loaded, read_one_of, read_question
from runtime.journal.store import Posted, PostedKind, Store, StoredQuestion, StoredRun
from runtime.messages.shapes import as_object

MAX_KEY: Final = 200
"""Characters of the key of a signal."""


def question_of(stored: StoredQuestion) -> Question:
    """A question as the store has it; without the types of its answers where they are not loaded in this process."""
    told = read_question(stored.asks)
    kinds = [loaded(name) for name in stored.answers if name != NOBODY]
    answers = tuple(kind for kind in kinds if kind is not None)
    return Question(
        id=stored.id,
        run_id=stored.run,
        path=stored.path,
        asks=told["asks"],
        answers=answers if len(answers) == len(kinds) else (),
        asked_at=stored.asked,
        due_at=stored.due,
        to=stored.to,
        text=str(told.get("text", "")),
        node=str(told.get("node", "")),
        may_be_none=NOBODY in stored.answers,
    )


async def open_question(store: Store | None, question_id: str) -> StoredQuestion:
    """A question that waits for its answer.

    Raises:
        UnknownRun: there is no such question. AlreadyAnswered: it has its answer, or its time was up.
    """
    stored = None if store is None else await store.question(question_id)
    if stored is None:
        raise UnknownRun(f"no question {repr_of(question_id)} is open.\n  Fix: give the id of one of runtime.questions().")
    if stored.answered is not None:
        raise answered(question_id)
    return stored


async def post_answer(store: Store, question: Question, value: object, by: str | None) -> Any:
    """Post `value`, an answer or a dict of its fields; returns the answer when it is durable.

    Raises:
        MessageInvalid: the dict makes no answer. AlreadyAnswered: another was first.
        UsageError: it is none, or the types of the question's answers are not loaded in this process.
    """
    if not question.answers:
        raise UsageError(
            f"question {question.id!r} cannot be answered here: the types of its answers are not loaded in this process.\n"
            "  Fix: import the module that defines its graph, or deploy the graph."
        )
    answer = question.read(value)
    data = b"null" if answer is None else codec_for(*question.answers).encode(answer)
    if not await store.post(Posted(question.run_id, PostedKind.ANSWER, question.id, data, by)):
        raise answered(question.id)
    return answer


async def post_signal(store: Store, stored: StoredRun, signal: object, name: str) -> Posted | None:
    """Post `signal` to a run under that name; None: one of that name was posted before.

    Raises:
        UsageError: the run is over.
    """
    data = codec_for(type(signal)).encode(signal)
    if stored.status.is_over:
        if any((each.kind, each.key) == (PostedKind.SIGNAL, name) for each in await store.inbox(stored.id)):
            return None
        raise UsageError(
            f"run {stored.id!r} is over ({stored.status.value}), and takes no more signals.\n  Fix: start another run."
        )
    item = Posted(stored.id, PostedKind.SIGNAL, name, data)
    return item if await store.post(item) else None


def answered(question_id: str) -> AlreadyAnswered:
    """The error for a question that is no longer open."""
    return AlreadyAnswered(
        f"question {question_id!r} has its answer, or its time was up; the first counts.\n"
        "  Fix: nothing, if it is the same; look at the run with runtime.handle(run_id)."
    )


def checked_key(key: object) -> str:
    """`key` as the name of a signal; None makes one."""
    if key is None:
        return secrets.token_hex(8)
    if not isinstance(key, str) or not key.strip() or len(key) > MAX_KEY or not key.isprintable():
        raise UsageError(
            f"send(key={repr_of(key, 60)}): expected up to {MAX_KEY} printable characters, or None.\n"
            "  Fix: the id of the event at its source, say."
        )
    return key


def read_signal(graph: str, signal_types: tuple[type, ...], signal: object) -> Any:
    """`signal`, or what a dict of its fields makes, as one that `graph` takes."""
    if isinstance(signal, signal_types):
        return signal
    if is_object(signal) and signal_types:
        return read_one_of(signal_types, as_object(signal))
    raise UsageError(
        f"graph {graph!r} takes as signals: {type_names(signal_types) or 'none'}. Got: {repr_of(signal)}.\n"
        "  Fix: send an instance of one of these; they are declared with Graph(…, signals=…)."
    )
