"""What is published in all owners of a store: collected for a moment, announced together, and put into mailboxes over there.

At most once: what the store cannot take is a dead letter, and is not tried again. On channels the owners' own parts speak to one
another the same way; what becomes of words that the store did not take, they decide.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable
from functools import partial
from typing import Any, Final, TypeAlias, cast, final

import attrs
import trio

from actors.message_errors import MessageInvalid
from actors.placement_errors import MessageTooLarge, NotPortable
from actors.store_errors import NotStorable, RecordTooLarge, StoreDamaged, StoreError
from actors.words import repr_of, words_of
from runtime.core.bus import Bus
from runtime.core.cell import current_cell
from runtime.core.dead_letters import DeadReason
from runtime.core.envelope import Envelope
from runtime.core.services import Services
from runtime.journal.meeting import NewsStore
from runtime.messages.codec import MessageCodec
from runtime.messages.fields import message_kind
from runtime.messages.modules import name_of

GATHER_S: Final = 0.05
"""For how long messages are collected: the store is told 20 times a second at most."""
MAX_BYTES: Final = 2**20
"""What one message may have as JSON."""
MAX_WAITING: Final = 10_000
MAX_WAITING_BYTES: Final = 8 * 2**20
"""What may wait for the store; more than that are dead letters."""
RETRY_S: Final = 1.0
OTHERS: Final = "(other owners)"
"""The address of dead letters that no other owner was told, and of what came from one and cannot be read here."""


CHANNEL: Final = ":"
"""Begins what stands in place of a class, for words on a channel: no class has such a name."""

Dropped: TypeAlias = Callable[[DeadReason, Exception | None], None]
"""Told that something will not be announced, or perhaps was not."""


@final
@attrs.frozen
class _Waiting:
    told: str
    dropped: Dropped


@final
class Everywhere:
    """The part of one runtime's bus that other owners of its store hear, and that hears them."""

    def __init__(self, services: Services, bus: Bus) -> None:
        self._services = services
        self._bus = bus
        self._store: NewsStore | None = None
        self._waiting: list[_Waiting] = []
        self._bytes = 0
        self._has_any = trio.Event()
        self._codecs: dict[type, MessageCodec] = {}
        self._plain = MessageCodec([], MAX_BYTES)
        self._channels: dict[str, Callable[[str], None]] = {}

    def tasks(self, store: object) -> tuple[Callable[[], Any], ...]:
        """What is to run while `store` is open; nothing if it does not carry news."""
        if not isinstance(store, NewsStore):
            return ()
        self._store = store
        return self._send, self._receive

    # --- from here --------------------------------------------------------------------------------------------------------

    def publish(self, message: object, topic: Hashable | None) -> int:
        """See ``Runtime.publish`` with ``everywhere=True``.

        Raises:
            NotPortable: the message or the topic cannot go to another process. MessageTooLarge: it has too many bytes.
        """
        told = self._told(message, topic)  # also without a store: what works on a laptop works with many owners
        if self._store is not None:
            cell = current_cell.get()
            envelope = Envelope(message, None if cell is None else cell.address, None, self._services.now())
            self._put(_Waiting(told, partial(self._drop, envelope)))
        return self._bus.publish(message, topic)

    def say(self, channel: str, words: str, dropped: Dropped) -> None:
        """Have all other owners that listen to `channel` hear `words`."""
        self._put(_Waiting(json.dumps([CHANNEL, channel, words]), dropped))

    def listen(self, channel: str, hear: Callable[[str], None] | None) -> None:
        """Call `hear` with what other owners say on `channel`; None: no longer."""
        if hear is None:
            self._channels.pop(channel, None)
        else:
            self._channels[channel] = hear

    def _told(self, message: object, topic: Hashable | None) -> str:
        topic_told = _topic_told(topic)
        kind = type(message)
        try:
            if message_kind(kind) is None:
                data, name = self._plain.encode_value(message, "what is published everywhere"), ""
            else:
                data, name = self._codec(kind).encode(message), name_of(kind)
        except NotStorable as error:
            words = str(error).partition("\n")[0].replace("cannot be stored", "cannot go to another process")
            raise NotPortable(
                f"{words}\n  Fix: publish plain data, or a message whose fields have types with JSON; or not everywhere.",
                type=error.type,
                field=error.field,
            ) from error
        except RecordTooLarge as error:
            raise MessageTooLarge(
                str(error).replace("a record may have", "a message to other owners may have"),
                size=error.size or 0,
                limit=error.limit or 0,
            ) from error
        return f"[{json.dumps(name)},{topic_told},{json.dumps(data.decode())}]"

    def _codec(self, kind: type) -> MessageCodec:
        codec = self._codecs.get(kind)
        if codec is None:
            codec = self._codecs[kind] = MessageCodec([kind], MAX_BYTES)
        return codec

    def _put(self, waiting: _Waiting) -> None:
        if len(self._waiting) >= MAX_WAITING or self._bytes + len(waiting.told) > MAX_WAITING_BYTES:
            waiting.dropped(DeadReason.OVERFLOW, None)
            return
        self._waiting.append(waiting)
        self._bytes += len(waiting.told)
        self._has_any.set()

    def _drop(self, envelope: Envelope, reason: DeadReason, error: Exception | None) -> None:
        self._services.dead_letters.add(OTHERS, reason, envelope, error)

    async def _send(self) -> None:
        """Announce what has gathered, again and again."""
        while True:
            await self._has_any.wait()
            await trio.sleep(GATHER_S)
            await self.flush()

    async def flush(self) -> None:
        """Announce what has gathered, now: the last of it before the store is closed."""
        gathered, self._waiting, self._bytes, self._has_any = self._waiting, [], 0, trio.Event()
        if not gathered or self._store is None:
            return
        try:
            await self._store.announce(("[" + ",".join(each.told for each in gathered) + "]").encode())
        except StoreError as error:
            for each in gathered:
                each.dropped(DeadReason.FAILED, error)

    # --- from others ------------------------------------------------------------------------------------------------------

    async def _receive(self) -> None:
        """Put what others announce into the mailboxes of those who subscribed here."""
        assert self._store is not None, "it carries news"
        while True:
            try:
                news = await self._store.announced()
            except StoreError:  # the lease has ended, or the store is closed: then this task is, too
                await trio.sleep(RETRY_S)
                continue
            for each in news:
                self._hear_all(each)
                await trio.lowlevel.checkpoint()

    def _hear_all(self, news: bytes | StoreDamaged) -> None:
        """What another owner has announced together; one part that cannot be read takes no other with it."""
        if isinstance(news, StoreDamaged):
            self._unreadable(OTHERS, None, news)
            return
        try:
            read: object = json.loads(news)
            if not isinstance(read, list):
                raise MessageInvalid(f"what other owners announce is a list. Got: {repr_of(read)}.")
            parts = cast("list[object]", read)
        except (ValueError, RecursionError, MessageInvalid) as error:  # neither this release nor one that it knows has written it
            self._unreadable(OTHERS, news, error)
            return
        for part in parts:
            self._hear(part)

    def _hear(self, part: object) -> None:
        match part:
            case [str(name), (None | str() | int() | float()) as topic, str(text)]:
                self._hear_message(name, topic, text)
            case _:
                error = MessageInvalid(f"what an owner announces is a type, a topic and a message. Got: {repr_of(part)}.")
                self._unreadable(OTHERS, part, error)

    def _hear_message(self, name: str, topic: str | float | None, text: str) -> None:
        try:
            if name == CHANNEL:
                hear = self._channels.get(str(topic))
                if hear is not None:
                    hear(text)
                return
            if not name:
                message = self._plain.decode_value(text.encode())
            else:
                kind = self._kind(name)
                if kind is None:
                    return  # no one here has subscribed to it
                message = self._codec(kind).decode(text.encode())
        except Exception as error:  # noqa: BLE001 - of another version of the program; the classes of messages are foreign code
            self._unreadable(OTHERS if name in ("", CHANNEL) else name, text.encode(errors="replace"), error)
            return
        self._bus.publish(message, topic)

    def _unreadable(self, name: str, news: object, error: Exception) -> None:
        self._services.dead_letters.add(name, DeadReason.UNHANDLED, Envelope(news, None, None, self._services.now()), error)

    def _kind(self, name: str) -> type | None:
        """The class of that name among those that are subscribed to here, and those that are derived from them."""
        todo, seen = list(self._bus.kinds), set[type]()
        while todo:
            kind = todo.pop()
            if kind not in seen and kind is not object:
                seen.add(kind)
                if name_of(kind) == name and message_kind(kind) is not None:
                    return kind
                todo += kind.__subclasses__()
        return None


def _topic_told(topic: Hashable | None) -> str:
    """`topic` as JSON."""
    why = "the topic cannot go to another process"
    if topic is None or isinstance(topic, str | int | float):
        try:
            return json.dumps(topic)
        except ValueError as error:  # an int of thousands of digits
            why = f"{why}: {words_of(error)}"
    raise NotPortable(
        f"publish(…, topic={repr_of(topic)}, everywhere=True): {why}.\n  Fix: use a text or a number of an ordinary size."
    )
