"""A conversation in a store: which messages were accepted, what came of each, and nothing else.

It is kept like a run, which one worker has at a time: a record for each accepted message, and one for its turn when that is over.
The runs of the messages are durable runs with ids made of the conversation's and their number. So the worker that opens it next
finds what was accepted and has no turn yet, and lets that go on, in order: the same id is the same run.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from hashlib import blake2s
from typing import Any, Final, final

import attrs
import trio

from actors.errors import ConversationBusy
from actors.graphs.conversations import Turn
from actors.store_errors import RunUndecodable
from actors.words import repr_of
from runtime.graphs.deployment import Deployment
from runtime.graphs.keeper import Keeping
from runtime.graphs.records.labels import labels_in, text_of
from runtime.journal.log import LogEntry, RunLog
from runtime.journal.records import Record, RecordKind
from runtime.journal.store import Existing, NewRun, Store, StoredRun, StoredStatus
from runtime.messages.codec import MessageCodec
from runtime.messages.problems import MessageInvalid

_SUFFIX: Final = "/conversation"
"""Ends the name under which the store lists conversations of a graph; no graph has a name with a slash."""
_LABEL: Final = "conversation"
"""The label that has the key."""
_RUN: Final = re.compile(r"(talk-[0-9a-f]{32})-([0-9]{1,18})")
_FIRST_WINDOW: Final = 64
"""Records that are read of the end of a conversation, besides some for each turn that is kept."""


def kept_as(graph: str) -> str:
    """The name under which the store lists the conversations of a graph."""
    return f"{graph}{_SUFFIX}"


def is_talk(stored: StoredRun) -> bool:
    """Whether it is a conversation, and not a run."""
    return stored.graph.endswith(_SUFFIX)


def talk_id(graph: str, key: str) -> str:
    """By which the store has a conversation."""
    told = f"{graph}\n{key}".encode("utf-8", "surrogatepass")
    return f"talk-{blake2s(told, digest_size=16).hexdigest()}"


@final
@attrs.frozen(eq=False)
class Accepted:
    """A message that has no turn yet."""

    number: int
    message: Any
    keep: int
    """How many turns its conversation keeps."""


@final
@attrs.define(eq=False)
class Said:
    """What records tell of a conversation."""

    turns: tuple[Turn, ...] = ()
    pending: dict[int, Accepted] = attrs.field(factory=dict[int, Accepted])
    last: int = 0
    """The number of the newest message."""
    is_whole: bool = True
    """Whether there can be nothing before these records that matters."""


async def read_talk(
    store: Store, talk: str, codec: MessageCodec, last_seq: int, keep: int | None, before: int | None = None
) -> Said:
    """What is stored of a conversation; with `before`, as it was when the turn of that message began.

    Raises:
        RunUndecodable: something of it cannot be read as its type any more. StoreError: the store failed.
    """
    window = _FIRST_WINDOW + 4 * (keep or 0)
    while True:
        after = max(0, last_seq - window)
        records = [record async for record in store.read(talk, after)]
        said = _told(talk, records, codec, keep, before)
        if after == 0 or said.is_whole:
            return said
        window *= 8


def _told(talk: str, records: Sequence[Record], codec: MessageCodec, keep: int | None, before: int | None) -> Said:
    said, single, lowest, newest, has_all = Said(), 0, None, 0, False
    try:
        for record in records:
            if record.kind is RecordKind.SIGNALLED:
                number = int(record.path)
                found: Any = codec.decode_value(record.data or b"null")
                said.pending[number] = Accepted(number, found["message"], found["keep"])
                said.last, lowest = number, number if lowest is None else lowest
            elif record.kind in (RecordKind.TURN, RecordKind.WITHDRAWN):
                number = int(record.path)
                if before is not None and number >= before and record.kind is RecordKind.TURN:
                    break
                accepted = said.pending.pop(number, None)
                said.last, newest = max(said.last, number), max(newest, number)
                if record.kind is RecordKind.TURN:
                    told: Any = codec.decode_value(record.data or b"[]")
                    if told["all"]:
                        said.turns, has_all = (), True
                    said.turns = (*said.turns, *(Turn(**each) for each in told["turns"]))[-_bound(keep, accepted) :]
                    single += 1
    except MessageInvalid as error:
        raise RunUndecodable(
            f"conversation {talk!r} cannot be read any more: {error.problems[0]}.\n"
            "  Fix: give the field back, or a default; or forget what was said.",
            run_id=talk,
            reason="undecodable",
        ) from error
    said.is_whole = (has_all or single >= (keep or 1)) and (lowest is None or newest >= lowest - 1)
    return said


def _bound(keep: int | None, accepted: Accepted | None) -> int:
    return keep or (0 if accepted is None else accepted.keep) or 1_000_000


async def turns_before(store: Store, run_id: str, codec: MessageCodec) -> tuple[Turn, ...]:
    """The turns before a run that is a message of a conversation; none for any other run."""
    found = _RUN.fullmatch(run_id)
    if found is None:
        return ()
    stored = await store.run(found[1])
    if stored is None:
        return ()
    number = int(found[2])
    said = await read_talk(store, found[1], codec, stored.last_seq, None, number)
    keep = said.pending[number].keep if number in said.pending else 1_000_000
    return said.turns[-keep:]


@final
class StoredTalk:
    """One conversation in the store, which this worker has."""

    def __init__(self, keeping: Keeping, log: RunLog, codec: MessageCodec, said: Said) -> None:
        self._keeping = keeping
        self._log = log
        self._codec = codec
        self.id = log.run_id
        self.last = said.last
        """The number of its newest message."""
        self.pending = said.pending
        """What was accepted and has no turn, by number, in order."""
        self.turns = said.turns
        """What was said when it was opened."""

    @classmethod
    async def opened(
        cls, keeping: Keeping, deployment: Deployment[Any, Any], key: str, keep: int, stored: StoredRun | None = None
    ) -> StoredTalk | None:
        """The conversation of `key`, created if there was none; None while another part of this process has it, or opens it.

        Raises:
            ConversationBusy: another worker has it. RunUndecodable: see :func:`read_talk`. StoreError: the store failed.
        """
        graph, store = deployment.graph, keeping.store
        talk = talk_id(graph.name, key)
        if stored is None:
            now_s = store.wall_time().timestamp()
            first = Record.of(talk, 1, RecordKind.STARTED, "", now_s, json.dumps({"key": key}).encode())
            label = text_of({_LABEL: key})
            new = NewRun(talk, kept_as(graph.name), graph.version, deployment.fingerprint, label=label)
            found = await store.create(new, first)
            stored = found.run
            if isinstance(found, Existing):
                taken = await store.take(talk)
                if taken is None:
                    _check_owner(keeping, await store.run(talk), key)
                    return None
                stored = taken
        try:
            said = await read_talk(store, talk, deployment.codec, stored.last_seq, keep)
        except BaseException:
            with trio.CancelScope(shield=True):
                await keeping.release(talk, stored.lives, StoredStatus.WAITING)
            raise
        return cls(keeping, keeping.open_log(talk, stored.last_seq, _nothing, stored.lives), deployment.codec, said)

    @property
    def is_lost(self) -> bool:
        """Whether nothing more of it is written here: it has to be opened again."""
        return self._log.error is not None

    def run_id(self, number: int) -> str:
        """The id of the run of a message."""
        return f"{self.id}-{number}"

    def accept(self, number: int, message: object, keep: int) -> LogEntry:
        """Write down that a message was accepted.

        Raises:
            NotStorable: it cannot be stored.
        """
        data = self._codec.encode_value({"keep": keep, "message": message}, "a message of a conversation")
        self.last = max(self.last, number)
        self.pending[number] = Accepted(number, message, keep)
        return self._log.append(RecordKind.SIGNALLED, str(number), data)

    def withdraw(self, number: int) -> None:
        """Write down that no one wants a message any more; no one waits for that."""
        if self.pending.pop(number, None) is not None:
            self._log.append(RecordKind.WITHDRAWN, str(number), None)

    async def note(self, number: int, turns: Iterable[Turn], *, is_all: bool = False) -> None:
        """Write down what came of a message, or, with `is_all`, what is kept in place of everything before; shielded.

        Raises:
            NotStorable: something that the author has made of the turns cannot be stored.
        """
        told = [{"message": each.message, "output": each.output, "error": each.error, "run_id": each.run_id} for each in turns]
        data = self._codec.encode_value({"all": is_all, "turns": told}, "a turn of a conversation")
        self.pending.pop(number, None)
        await self._log.append(RecordKind.TURN, str(number), data).wait()

    async def close(self) -> None:
        """Give it up, for anybody to open."""
        self._keeping.close_log(self._log)
        await self._keeping.release(self.id, self._log.life, StoredStatus.WAITING)

    async def erase(self) -> None:
        """Delete it with all its runs; it is closed then.

        Raises:
            StoreError: the store failed; some of it may be left, and the same call can be made again.
        """
        await self.close()
        store = self._keeping.store
        for number in range(1, self.last + 1):
            if number not in self.pending:
                await store.forget(self.run_id(number))
        await store.forget(self.id)


def _check_owner(keeping: Keeping, stored: StoredRun | None, key: str) -> None:
    if stored is None or stored.owner is None or stored.owner == keeping.worker:
        return
    raise ConversationBusy(
        f"the conversation {repr_of(key)} is another worker's until nothing was said in it for a while.\n"
        "  Fix: send the messages of one key to one worker; or try again."
    )


def _nothing(_: object) -> None:
    """The log itself has the reason."""


def key_of(stored: StoredRun) -> str:
    """Whose conversation it is."""
    return labels_in(stored.label)[_LABEL]
