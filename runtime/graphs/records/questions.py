"""Questions to people: what is asked, what an answer may be, and which questions of runs in memory are open.

A question costs no task and no frame. Its id is made of the run and of the place in it, so it is the same in every life.
"""

from __future__ import annotations

import functools
import itertools
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import blake2s
from typing import Any, Final, Protocol, final

import attrs
import trio

from actors.errors import UsageError
from actors.words import repr_of, type_names
from runtime.core.events import Audience, Event
from runtime.core.timekeeper import Timekeeper, Timer
from runtime.graphs.records.carried import Carried
from runtime.graphs.records.journaling import Journal
from runtime.graphs.records.resuming import Past
from runtime.graphs.records.run_events import QuestionAnswered, QuestionAsked
from runtime.graphs.records.scripted_answers import is_function, scripted_for
from runtime.graphs.records.stored_answers import (
    ANSWERED,
    TIMED_OUT,
    WITHDRAWN,
    PersonAnswer,
    answer_data,
    codec_for,
    is_object,
    question_data,
    read_one_of,
    remember,
    union_of,
)
from runtime.journal.records import RecordKind, digest_of
from runtime.journal.store import Posted, PostedKind, StoredQuestion
from runtime.messages import schemas
from runtime.messages.shapes import as_object
from runtime.messages.tags import tag_of

_LOG = logging.getLogger("understudy.journal")

MOST_REMEMBERED: Final = 10_000
"""How many questions are known to have been answered, though their runs may be over or not have taken that in."""
LONGEST_SLEEP_S: Final = 3_600.0
"""After so long the store's clock is looked at again: it may have been set meanwhile."""
NOBODY: Final = "None"
"""How a store writes that None may be the answer."""


@final
@attrs.frozen
class Question:
    """A person is asked, and has not answered."""

    id: str
    """The same in every life of the run."""
    run_id: str
    path: str
    """The place in the run, as in its trace."""
    asks: Any = attrs.field(repr=repr_of)
    """The message that is asked about; of a node with several parameters a dict by parameter. Where the classes are not loaded in
    this process, as JSON."""
    answers: tuple[type, ...]
    """The types that the answer may have; empty where they are not loaded in this process."""
    asked_at: datetime
    due_at: datetime | None = None
    to: str | None = None
    text: str = attrs.field(default="", repr=False)
    """The docstring of the node; what is asked in words."""
    node: str = ""
    may_be_none: bool = False
    """Whether None is an answer, too."""

    @property
    def schema(self) -> dict[str, Any] | None:
        """The JSON schema of the answer, for a form; None where the types are not loaded in this process."""
        if not self.answers:
            return None
        return schemas.schema_of(union_of(self.answers, or_none=self.may_be_none))

    def read(self, value: object) -> Any:
        """`value` as an answer: itself, or what a dict of its fields makes.

        Where several types have the same fields, ``{"Approved": {…}}`` tells which is meant.

        Raises:
            MessageInvalid: the dict makes none of :attr:`answers`; its ``problems`` name the fields.
            UsageError: it is neither an answer nor a dict.
        """
        if (value is None and self.may_be_none) or isinstance(value, self.answers):
            return value
        wanted = type_names(self.answers) + (" | None" if self.may_be_none else "")
        if not is_object(value):
            raise UsageError(
                f"question {self.id!r} at {self.path} is answered with {wanted}. Got: {repr_of(value)}.\n"
                "  Fix: give one of these, or a dict of its fields."
            )
        return read_one_of(self.answers, as_object(value))


class Asker(Protocol):
    """A run, as far as its questions need it."""

    journal: Journal | None
    past: Mapping[str, Past]
    carried: Carried
    audience: Audience
    wall_time: Callable[[], datetime]
    early: dict[str, Posted]
    taken_in: set[tuple[str, str]]
    times_asked: dict[str, int]

    @property
    def id(self) -> str:
        """Its id."""
        ...

    @property
    def outermost(self) -> Asker:
        """The run that this one is a part of, or itself."""
        ...

    @property
    def is_ending(self) -> bool:
        """Whether it is decided what it ends as."""
        ...

    def wants(self, kind: type[Event]) -> bool:
        """Whether making such an event is worth it."""
        ...

    def rests(self) -> None:
        """Something of it waits for a person from now on."""
        ...


Settle = Callable[[PersonAnswer], None]
"""Takes an answer."""


@final
@attrs.define(eq=False)
class Asking:
    """A question of a run that is in memory."""

    question: Question
    run: Asker
    key: str
    """The path of its records."""
    attempt: int
    settle: Settle
    when_open: Callable[[], None]
    due_s: float
    """Of a run without a store: when it is due on trio's clock."""
    timer: Timer | None = None
    is_withdrawn: bool = False

    @property
    def is_durable(self) -> bool:
        """Whether it is in a store, too."""
        return self.run.journal is not None


@final
@attrs.define(eq=False)
class AskedByNode:
    """What a node has asked people in the middle of its work on one message, by the path of the records."""

    asks: dict[str, Asking] = attrs.field(factory=dict[str, Asking])
    heard: dict[str, trio.Event] = attrs.field(factory=dict[str, trio.Event])
    answers: dict[str, PersonAnswer] = attrs.field(factory=dict[str, PersonAnswer])
    _attempt: int = 0
    _counts: dict[str, int] = attrs.field(factory=dict[str, int])

    def number(self, digest: str, attempt: int) -> int:
        """The how-manieth question of that digest this is in the attempt."""
        if attempt != self._attempt:
            self._attempt, self._counts = attempt, {}
        self._counts[digest] = self._counts.get(digest, 0) + 1
        return self._counts[digest]


@final
class Desk:
    """The open questions of all runs in memory of one runtime."""

    def __init__(self, timekeeper: Timekeeper) -> None:
        """No question is open."""
        self._timekeeper = timekeeper
        self.overdue: Callable[[Asking], None] | None = None
        """Called with a durable question whose time is up: only one of its worker and an answer may win."""
        self._numbers = itertools.count(1)
        self.open: dict[str, Asking] = {}
        """By id, in the order in which they were asked."""
        self._by_run: dict[str, dict[str, Asking]] = {}
        self._answered: dict[str, None] = {}

    def ask(
        self,
        run: Asker,
        key: str,
        *,
        node: str,
        path: str,
        attempt: int,
        text: str,
        asks: Any,
        answers: tuple[type, ...],
        may_be_none: bool,
        timeout_s: float | None,
        to: str | None,
        settle: Settle,
        when_open: Callable[[], None],
        shown_path: str = "",
        inputs: bytes = b"",
    ) -> Asking:
        """Ask a person; `settle` is called with the answer, or with none when the time is up.

        `key` is the place in the run. In a run with a journal the question is open once that is written, and the same one again
        if it was open in an earlier life; ``when_open`` is called then. `path` is that of the message at work, `shown_path`
        that of the part of it that asks.

        `inputs` is the digest of what is asked about, unless `key` tells that. A question about something else, or for another
        answer, is another one, though it is in the same place: the graph was changed, and the old one is struck out.

        Raises:
            NotStorable: `asks` cannot be stored, and the run is.
        """
        journal, now = run.journal, run.wall_time()
        names = (*map(tag_of, answers), *([NOBODY] if may_be_none else []))
        about = digest_of(b"\n".join((inputs, *(name.encode() for name in names)))) if inputs else b""
        known = run.past[path].asked.get(key) if path in run.past else None
        if journal is not None and known is not None and known.about and known.about != about:
            _strike_out(run, journal, key)
            known = None
        asked_s, due_s = now.timestamp(), None if timeout_s is None else now.timestamp() + timeout_s
        if known is not None:
            asked_s, due_s = known.at_s, known.due_s
        if journal is None:
            number = str(next(self._numbers))
        else:
            times_asked, whole = run.outermost.times_asked, journal.whole(key)
            times_asked[whole] = times_asked.get(whole, 0) + (known is None)
            number = id_in(run.id, whole, times_asked[whole])
        question = Question(
            id=f"{run.id}.{number}",
            run_id=run.id,
            path=shown_path or path,
            asks=asks,
            answers=answers,
            asked_at=datetime.fromtimestamp(asked_s, UTC),
            due_at=None if due_s is None else datetime.fromtimestamp(due_s, UTC),
            to=to,
            text=text,
            node=node,
            may_be_none=may_be_none,
        )
        due_at_s = math.inf if timeout_s is None else trio.current_time() + timeout_s
        asking = Asking(question, run, key, attempt, settle, when_open, due_at_s)
        remember(*answers)
        if journal is None or known is not None:
            self._open(asking, is_new=known is None)
            return asking
        data = question_data(node, text, due_s, to, asks)
        stored = StoredQuestion(question.id, run.id, question.path, data, names, question.asked_at, question.due_at, to)
        journal.append(RecordKind.ASKED, key, data, functools.partial(self._open, asking, is_new=True), about, question=stored)
        return asking

    def _open(self, asking: Asking, *, is_new: bool) -> None:
        if asking.is_withdrawn:
            return
        question, run = asking.question, asking.run
        self.open[question.id] = asking
        self._by_run.setdefault(question.run_id, {})[question.id] = asking
        asking.when_open()
        if is_new and run.wants(QuestionAsked):
            run.audience.publish(
                QuestionAsked(
                    run_id=run.id,
                    node=question.node,
                    path=question.path,
                    attempt=asking.attempt,
                    question=question.id,
                    asks=question.asks,
                    due_at=question.due_at,
                    to=question.to,
                )
            )
        item = run.outermost.early.pop(question.id, None)
        if item is not None:
            self.deliver_posted(asking, item)
            return
        if question.due_at is not None:
            self._watch(asking)
        scripted = scripted_for(run.carried, question.asks)
        if scripted is not None:
            value = scripted.value(question.asks) if is_function(scripted.value) else scripted.value
            trio.lowlevel.current_trio_token().run_sync_soon(self.deliver, asking, question.read(value), scripted.by)
        run.rests()

    def of_run(self, run_id: str) -> Sequence[Asking]:
        """The open questions of one run, in the order in which they were asked."""
        return tuple(self._by_run.get(run_id, {}).values())

    # --- the time ---------------------------------------------------------------------------------------------------------

    def _watch(self, asking: Asking) -> None:
        if self.open.get(asking.question.id) is not asking:
            return
        assert asking.question.due_at is not None, "only then it is watched"
        left = asking.due_s - trio.current_time()
        if asking.is_durable:
            left = (asking.question.due_at - asking.run.wall_time()) / timedelta(seconds=1)
        if left > 0:
            look = functools.partial(self._watch, asking)
            asking.timer = self._timekeeper.call_after(min(left, LONGEST_SLEEP_S), look)
        elif asking.is_durable:
            assert self.overdue is not None, "a runtime with a store has said what happens"
            self.overdue(asking)
        else:
            self.deliver(asking, None, None, is_late=True)

    # --- answers ----------------------------------------------------------------------------------------------------------

    def deliver_posted(self, asking: Asking, item: Posted) -> None:
        """Give an open question what was posted for it; without data: there was no answer in time.

        Raises:
            MessageInvalid: it isn't an answer.
        """
        if item.data is None:
            self.deliver(asking, None, None, is_late=True)
        else:
            value = codec_for(*asking.question.answers).decode(item.data)
            self.deliver(asking, asking.question.read(value), item.by)

    def deliver(self, asking: Asking, value: Any, by: str | None, *, is_late: bool = False) -> None:
        """Give an open question its answer; `is_late`: there was none in time. Answered before: no effect."""
        question, run = asking.question, asking.run
        if self.open.get(question.id) is not asking:
            return
        record = None
        self.remember(question.id)
        if run.journal is not None:
            answer = b"null" if is_late else codec_for(*question.answers).encode(value)
            record = answer_data(TIMED_OUT if is_late else ANSWERED, answer, by)
            run.outermost.taken_in.add((PostedKind.ANSWER.value, question.id))
        self._close(asking)
        if run.wants(QuestionAnswered):
            run.audience.publish(
                QuestionAnswered(
                    run_id=run.id,
                    node=question.node,
                    path=question.path,
                    attempt=asking.attempt,
                    question=question.id,
                    answer=value,
                    by=by,
                    timed_out=is_late,
                )
            )
        asking.settle(PersonAnswer(value, by, is_late, record, question.id))

    def remember(self, question: str) -> None:
        """A question has had its answer; the newest are remembered."""
        self._answered[question] = None
        if len(self._answered) > MOST_REMEMBERED:
            del self._answered[next(iter(self._answered))]

    def was_answered(self, question: str) -> bool:
        """Whether a question has had its answer here, as far as that is remembered."""
        return question in self._answered

    def withdraw(self, asking: Asking) -> None:
        """No one wants the answer any more. When a run ends, the store strikes out all its questions together."""
        if asking.is_withdrawn:
            return
        asking.is_withdrawn = True
        is_open = self._close(asking)
        journal = asking.run.journal
        if journal is not None and is_open and not asking.run.outermost.is_ending:
            asking.run.outermost.taken_in.add((PostedKind.ANSWER.value, asking.question.id))
            journal.append(RecordKind.ANSWERED, asking.key, answer_data(WITHDRAWN), answered=asking.question.id)

    def _close(self, asking: Asking) -> bool:
        if asking.timer is not None:
            asking.timer.cancel()
            asking.timer = None
        if self.open.get(asking.question.id) is not asking:
            return False
        del self.open[asking.question.id]
        own = self._by_run[asking.question.run_id]
        del own[asking.question.id]
        if not own:
            del self._by_run[asking.question.run_id]
        return True


def _strike_out(run: Asker, journal: Journal, key: str) -> None:
    """No one asks what an earlier life asked in this place. An answer that has come for it is none to what is asked now."""
    outermost, whole = run.outermost, journal.whole(key)
    question = question_id(run.id, whole, outermost.times_asked.get(whole, 1))
    outermost.taken_in.add((PostedKind.ANSWER.value, question))
    if outermost.early.pop(question, None) is not None:
        _LOG.warning(
            "question %s was answered, and the graph, which was changed, asks something else: it is asked again", question
        )
    journal.append(RecordKind.ANSWERED, key, answer_data(WITHDRAWN), answered=question)


def question_id(run_id: str, whole: str, times_asked: int) -> str:
    """The id of the question with records of the path `whole`."""
    return f"{run_id}.{id_in(run_id, whole, times_asked)}"


def id_in(run_id: str, whole: str, times_asked: int) -> str:
    """What tells the question with records of the path `whole` from others of its run.

    It is asked a second time if the run was adopted by a graph that asks it about something else.
    """
    again = f"\n{times_asked}" if times_asked > 1 else ""
    return blake2s(f"{run_id}\n{whole}{again}".encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
