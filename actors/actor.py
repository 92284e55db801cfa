"""Actors as their author sees them: behaviour with private state, the ref others send to, the context it lives in.

Declarations only: the runtime makes refs, contexts and replies, and runs the behaviour. Nothing here starts a task.
"""

from __future__ import annotations

import contextlib
import enum
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable
from typing import Any, Generic, TypeVar, final, overload

import attrs

from actors.backoff import Redelivery
from actors.mailbox import MailboxSpec
from actors.restart import RestartType

M = TypeVar("M", contravariant=True)
R = TypeVar("R")


class Request(Generic[R]):
    """Base class for messages that are answered with an R: ``await ref.ask(request)`` is typed as R.

    >>> import attrs
    >>> @attrs.frozen
    ... class Total(Request[int]):
    ...     account: str
    """

    __slots__ = ()


class ActorRef(ABC, Generic[M]):
    """The handle others send to. It outlives restarts; two refs are equal when they name the same actor.

    The runtime makes refs; there is no public constructor.
    """

    __slots__ = ()

    @property
    @abstractmethod
    def address(self) -> str:
        """The actor's name within its runtime, for example ``"billing/ledger"``; the same over all incarnations."""

    @abstractmethod
    async def tell(self, message: M) -> None:
        """Put `message` into the mailbox; wait for room if its policy is ``BLOCK``.

        A checkpoint. Cancelled before it returns, the message was not sent. Messages of one sender arrive in the order in which
        they were sent; between senders no order is promised. Delivery is at most once, unless ``Redelivery`` says otherwise.
        A message to an actor that has stopped becomes a dead letter, in silence.

        Raises:
            MailboxFull: the mailbox is full and its policy is ``REJECT``.
        """

    @abstractmethod
    def tell_nowait(self, message: M) -> None:
        """Put `message` into the mailbox at once, or raise; never blocks.

        Raises:
            MailboxFull: there is no room and the policy is ``BLOCK`` or ``REJECT``.
        """

    @overload
    async def ask(self, message: Request[R], *, detach: bool = False) -> R: ...
    @overload
    async def ask(self, message: M, *, detach: bool = False) -> Any: ...
    @abstractmethod
    async def ask(self, message: Any, *, detach: bool = False) -> Any:
        """Send `message` and wait for what the actor's ``receive`` returns.

        An ask always ends: with the reply, with one of the errors below, or with the caller's own cancellation (put
        ``trio.fail_after`` around it). Cancelling it cancels its work: the message is withdrawn if it still waits, its handling
        is cancelled if it has begun, unless `detach` is true.

        Raises:
            ActorFailed: the actor raised while it handled the message; the cause is chained.
            ActorStopped: the actor has stopped for good.
            MailboxFull: the mailbox refused or dropped the message.
            AskCycle: the actor waits, directly or through others, for the caller.
        """


class Reply(ABC, Generic[R]):
    """The right to answer one ask later, taken with ``context.reply_later()``; used once."""

    __slots__ = ()

    @abstractmethod
    def send(self, value: R) -> None:
        """Answer with `value`. If the asker no longer waits, the value becomes a dead letter."""

    @abstractmethod
    def fail(self, error: Exception) -> None:
        """Let the ask end with ``ActorFailed`` caused by `error`; the actor goes on."""


@final
class StopReason(enum.Enum):
    """Why an actor is gone for good."""

    FINISHED = "finished"
    """It ended by itself and its restart type did not call for another incarnation."""
    STOPPED = "stopped"
    """Somebody stopped it, or its supervisor or runtime ended."""
    FAILED = "failed"
    """It failed and its supervisor did not restart it."""


@final
@attrs.frozen
class Terminated:
    """What a watcher receives, exactly once, when the watched actor is gone for good. Restarts are not the end."""

    ref: ActorRef[Any]
    reason: StopReason
    error: BaseException | None = None
    """The failure that ended it; None unless the reason is ``FAILED``."""


class ActorContext(ABC):
    """What an actor can ask of the runtime, as ``self.context``; it belongs to one incarnation."""

    __slots__ = ()

    @property
    @abstractmethod
    def ref(self) -> ActorRef[Any]:
        """This actor's own ref."""

    @property
    @abstractmethod
    def incarnation(self) -> int:
        """Which life of the actor this is, counted from 1."""

    @property
    @abstractmethod
    def runtime(self) -> Any:
        """The :class:`runtime.Runtime` that runs this actor."""

    @abstractmethod
    async def spawn(
        self,
        factory: Callable[..., Actor],
        *args: Any,
        name: str | None = None,
        restart: RestartType | None = None,
        mailbox: MailboxSpec | None = None,
        redelivery: Redelivery | None = None,
        shutdown_s: float | None = None,
    ) -> ActorRef[Any]:
        """Start a child actor; it stops with this incarnation. Options as in ``Runtime.spawn``.

        Raises:
            ActorStartFailed: the factory or the lifespan raised.
        """

    @abstractmethod
    def stop(self, ref: ActorRef[Any] | None = None) -> None:
        """Request that `ref` (default: this actor) stops after the message it is handling. Returns at once."""


class Actor(ABC):
    """State plus behaviour: one message at a time, nothing shared.

    Subclass it, keep state on ``self``, and start it with ``Runtime.spawn(factory, *args)``. When it raises, its supervisor
    leaves the lifespan, makes a **new** instance from the same factory and enters that one's lifespan: state starts afresh,
    address and mailbox stay.
    """

    context: ActorContext
    """Set by the runtime before the lifespan is entered; not to be used in ``__init__``."""

    @abstractmethod
    async def receive(self, message: Any) -> Any:
        """Handle one message; what it returns answers an ask, and is dropped for a tell.

        Called for one message at a time, in the order of the mailbox. An exception fails this incarnation: the asker gets
        ``ActorFailed``, the supervisor decides what next.
        """

    @contextlib.asynccontextmanager
    async def lifespan(self) -> AsyncGenerator[None]:
        """Hold what one incarnation needs: open before ``yield``, close after it.

        Entered before the first message; ``spawn`` returns once it was. Left after the last message of the incarnation, also on
        failure (which is raised at the ``yield``), shielded from cancellation for at most ``shutdown_s`` seconds.
        """
        yield
