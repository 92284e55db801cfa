"""Actors as their author sees them: behaviour with private state, the ref others send to, the context it lives in.

Declarations only: the runtime makes refs, contexts and replies, and runs the behaviour. Nothing here starts a task.
"""

from __future__ import annotations

import contextlib
import enum
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Callable, Hashable
from typing import TYPE_CHECKING, Any, Generic, Protocol, Self, TypedDict, TypeVar, Unpack, final, overload

import attrs

from actors.argument_checks import rejected
from actors.mailbox import MailboxSpec, MailboxStatistics
from actors.restarts import Redelivery, RestartType
from actors.typevars import M
from actors.words import repr_of

R = TypeVar("R")
A = TypeVar("A", covariant=True)
Q = TypeVar("Q", covariant=True)


class Asked(Protocol[Q, A]):
    """A message of type Q that is answered with an A: what ``ask`` takes, to type checkers. Each :class:`Request` is one.

    A parameter of type ``Request[A]`` would take the requests of other actors as well.
    """

    def _asked(self) -> tuple[Q, A]: ...


class Request(Generic[R]):
    """Base class for messages that are answered with an R: ``await ref.ask(request)`` is typed as R.

    >>> import attrs
    >>> @attrs.frozen
    ... class Total(Request[int]):
    ...     account: str
    """

    __slots__ = ()

    if TYPE_CHECKING:

        def _asked(self) -> tuple[Self, R]: ...


@final
class ActorState(enum.StrEnum):
    """Where an actor or a supervisor is; equal to its plain word."""

    NEW = "new"
    STARTING = "starting"
    """Its lifespan is being entered."""
    RUNNING = "running"
    STOPPING = "stopping"
    """It finishes its message and leaves its lifespan, because somebody asked it to."""
    BACKING_OFF = "backing_off"
    """The incarnation failed or ended; the next one starts after a delay, or with its group."""
    STOPPED = "stopped"
    """No incarnation, and none to come unless somebody starts it again."""


@final
@attrs.frozen
class ActorStatistics:
    """One look at an actor."""

    address: str
    """The actor's name within its runtime."""
    state: ActorState
    incarnation: int
    """Lives so far, the present one included; 0 before the first start."""
    restarts: int
    """How often it was started again after its first start."""
    handled: int
    """Messages handled to their end without failure."""
    failed: int
    """Deliveries that crashed the actor."""
    backoff_left_s: float
    """Seconds until the next incarnation; 0.0 unless it waits for one."""
    mailbox: MailboxStatistics
    """What waits for it."""


def _is_failure(owner: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if not isinstance(value, Exception):
        raise rejected(owner, attribute.name, value, "an Exception")


@final
@attrs.frozen
class Failure:
    """What ``receive`` returns to answer an ask with an error without failing itself: ``return Failure(OutOfStock(item))``.

    The asker gets ``ActorFailed``, with `error` as its cause. The actor keeps its state and continues; nothing is restarted and
    no attempt is made again. Where no caller waits for an answer, the message becomes a dead letter with the error.
    """

    error: Exception = attrs.field(validator=_is_failure, repr=repr_of)


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
        they were sent; between senders no order is promised. Delivery is at most once, unless ``Redelivery`` allows more.
        A message to an actor that has stopped becomes a dead letter, in silence.

        Raises:
            MailboxFull: the mailbox is full and its policy is ``REJECT``.
        """

    @abstractmethod
    def tell_nowait(self, message: M) -> None:
        """Put `message` into the mailbox immediately, or raise; never blocks.

        Raises:
            MailboxFull: there is no room and the policy is ``BLOCK`` or ``REJECT``.
        """

    @overload
    async def ask(self, message: Asked[M, R], *, detach: bool = False) -> R: ...
    @overload
    async def ask(self, message: M, *, detach: bool = False) -> Any: ...
    @abstractmethod
    async def ask(self, message: Any, *, detach: bool = False) -> Any:
        """Send `message` and wait for what the actor's ``receive`` returns.

        An ask always ends: with the reply, with one of the errors below, or with the caller's own cancellation (put
        ``trio.fail_after`` around it). Cancelling it cancels its work: the message is withdrawn if it still waits, its handling
        is cancelled if it has begun, unless `detach` is true.

        Raises:
            ActorFailed: the actor raised while it handled the message, or answered with a failure; the cause is chained.
            Unhandled: its ``receive`` does not know such a message.
            ActorStopped: the actor has stopped permanently.
            MailboxFull: the mailbox rejected or dropped the message.
            AskCycle: the actor waits, directly or through others, for the caller.
        """

    @abstractmethod
    async def ended(self) -> Terminated:
        """Wait until the actor is permanently gone, and return why; immediately if it is gone already. A restart is not the end.

        For hosts, and for tasks in general; an actor that has other messages to handle meanwhile calls ``context.watch``.

        Raises:
            UsageError: the caller runs inside that actor or below it, so the end could never be seen.
            AskCycle: the actor waits, directly or through others, for the caller.
        """

    @abstractmethod
    def statistics(self) -> ActorStatistics:
        """One look at the actor: its state, its restarts, its mailbox. Never blocks."""


class Reply(ABC, Generic[R]):
    """The right to answer one ask later, taken with ``context.reply_later()``; used once."""

    __slots__ = ()

    @property
    @abstractmethod
    def wanted(self) -> bool:
        """Whether the asker still waits: False once it was cancelled or answered, and for a message that was told, not asked."""

    @abstractmethod
    def send(self, value: R) -> None:
        """Answer with `value`. If the asker no longer waits, the value becomes a dead letter."""

    @abstractmethod
    def fail(self, error: Exception) -> None:
        """Let the ask end with ``ActorFailed`` caused by `error`; the actor continues."""


@final
class StopReason(enum.StrEnum):
    """Why an actor is permanently gone; equal to its plain word."""

    FINISHED = "finished"
    """It ended on its own and its restart type did not call for another incarnation."""
    STOPPED = "stopped"
    """Somebody stopped it, or its supervisor or runtime ended."""
    FAILED = "failed"
    """It failed and its supervisor did not restart it."""


@final
@attrs.frozen
class Terminated:
    """What a watcher receives, exactly once, when the watched actor is permanently gone. Restarts are not the end."""

    ref: Any
    """The ``ActorRef`` or ``SupervisorRef`` that was watched."""
    reason: StopReason
    error: BaseException | None = attrs.field(default=None, repr=repr_of)
    """The failure that ended it; None unless the reason is ``FAILED``."""


class ActorNursery(ABC):
    """Tasks that belong to one incarnation of an actor, as ``self.context.nursery``."""

    __slots__ = ()

    @abstractmethod
    def start_soon(self, function: Callable[..., Awaitable[Any]], *args: Any) -> None:
        """Run ``function(*args)`` as a task beside the handler; returns immediately.

        A task that raises fails the incarnation with that error. When the incarnation ends, for any reason, its tasks are
        cancelled and waited for before its lifespan is left. What a task asks does not count as the handler's waiting.
        """


class SpawnOptions(TypedDict, total=False):
    """The options of ``spawn``: fields of :class:`ChildSpec`, which documents them. None stands for its default."""

    restart: RestartType | None
    mailbox: MailboxSpec | None
    redelivery: Redelivery | None
    shutdown_s: float | None
    idle_timeout_s: float | None
    place: str | None


class ActorContext(ABC):
    """What an actor can ask of the runtime, as ``self.context``; it belongs to one incarnation.

    What is asked for here ends with the incarnation: children, tasks, timers, watches, the present handler, the stash.
    """

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
    def fence(self) -> int:
        """Which start of a host this is, for an actor that lives on one; it grows. 0 in the runtime's own process.

        For the actor of a key of ``Sharded(…, everywhere=True)`` it is that of the key's shard, wherever it lives, and grows from
        one owner of the store to the next. For conditional writes outside: a table that keeps the highest fence it has seen, and
        rejects a lower one, takes nothing from a host, or an owner, that was given up and has not noticed yet.
        """
        return 0

    @property
    @abstractmethod
    def parent(self) -> Any:
        """The ref of what supervises this actor: an ``ActorRef`` or a ``SupervisorRef``; None under the root."""

    @property
    @abstractmethod
    def runtime(self) -> Any:
        """The :class:`runtime.Runtime` that runs this actor."""

    @abstractmethod
    async def spawn(
        self,
        factory: Callable[..., Actor[M]],
        *args: Any,
        name: str | None = None,
        **options: Unpack[SpawnOptions],
    ) -> ActorRef[M]:
        """Start a child actor; it stops with this incarnation. `name` is its id (default: made from the factory's name).

        Raises:
            ActorStartFailed: the factory or the lifespan raised.
        """

    @abstractmethod
    def stop(self, ref: ActorRef[Any] | None = None) -> None:
        """Request that `ref` (default: this actor) stops after the message it is handling. Returns immediately.

        An actor that stops itself has ended normally, so a ``PERMANENT`` one is restarted; a stop of another actor is permanent.
        """

    @abstractmethod
    def watch(self, ref: Any) -> None:
        """Let this actor receive one :class:`Terminated` when `ref` is permanently gone, ahead of the messages that wait.

        Exactly one, however often it is watched; immediately if it is gone already; none for a restart.
        """

    @abstractmethod
    def unwatch(self, ref: Any) -> None:
        """Undo :meth:`watch`; a :class:`Terminated` that is already queued is not received either."""

    @abstractmethod
    def schedule_once(self, delay_s: float, message: Any, key: Hashable | None = None) -> None:
        """Send `message` to this actor after `delay_s` seconds. A timer of the same `key` is replaced.

        The message goes in beyond the mailbox's capacity. It is not received once the timer was cancelled or replaced, even if
        it was queued before.
        """

    @abstractmethod
    def schedule_every(self, interval_s: float, message: Any, key: Hashable | None = None) -> None:
        """Send `message` to this actor every `interval_s` seconds, at a fixed rate, first after one interval.

        While one still waits in the mailbox no second is added.
        """

    @abstractmethod
    def cancel(self, key: Hashable) -> bool:
        """Cancel the timer of that `key`; whether a message would still have come."""

    @abstractmethod
    def stash(self) -> None:
        """Set the current message aside, to be handled after :meth:`unstash_all`; its asker keeps waiting.

        Stashed messages are put back when the incarnation ends, so a restart does not lose them.

        Raises:
            MailboxFull: as many as the mailbox may hold are stashed already.
            UsageError: there is no current message, or it is stashed or promised a later reply already.
        """

    @abstractmethod
    def unstash_all(self) -> None:
        """Put the stashed messages back into the mailbox, ahead of what waits there, in the order in which they came."""

    @abstractmethod
    def become(self, handler: Callable[[Any], Awaitable[Any]]) -> None:
        """Handle the following messages with ``await handler(message)`` instead of ``receive``."""

    @abstractmethod
    def heartbeat(self) -> None:
        """Report that this actor is alive: the ``idle_timeout_s`` of the current message starts again. Without one: no effect."""

    @abstractmethod
    def fail(self, error: Exception) -> None:
        """Answer the current message with `error`: its ask ends with ``ActorFailed`` caused by it, and this actor continues.

        What the handler returns afterwards is not sent. ``return Failure(error)`` does the same at the end of the handler. Where
        no caller waits for an answer, the message becomes a dead letter with the error.

        Raises:
            UsageError: there is no current message, or it is stashed or answered already.
            DeclarationError: `error` isn't an ``Exception``.
        """

    @abstractmethod
    def unhandled(self, message: Any) -> None:
        """Report that this actor doesn't know messages like the current one: in the last case of a ``match``.

        It becomes a dead letter with the reason ``unhandled``, and its asker, if there is one, gets ``Unhandled``. The actor goes
        on. ``return await super().receive(message)`` does the same.

        Raises:
            UsageError: there is no current message, or it is stashed or answered already.
        """

    @property
    @abstractmethod
    def nursery(self) -> ActorNursery:
        """Where this incarnation starts its own tasks."""

    @abstractmethod
    def reply_later(self) -> Reply[Any]:
        """Take the right to answer the current message; what the handler returns is not sent then.

        If the incarnation ends first, the ask ends with ``ActorFailed`` or ``ActorStopped``.

        Raises:
            UsageError: there is no current message, or it is stashed or promised a later reply already.
        """


class Actor(ABC, Generic[M]):
    """State plus behaviour: one message at a time, nothing shared.

    Subclass it, keep state on ``self``, and start it with ``Runtime.spawn(factory, *args)``. When it raises, its supervisor
    leaves the lifespan, makes a **new** instance from the same factory and enters that one's lifespan: state starts afresh,
    address and mailbox stay.

    ``class Ledger(Actor[Deposit | Total])`` tells which messages it takes, and a type checker rejects others at its ref. A bare
    ``Actor`` takes any. Nothing is compared at run time.
    """

    context: ActorContext
    """Set by the runtime before the lifespan is entered; not to be used in ``__init__``."""

    @abstractmethod
    async def receive(self, message: M) -> Any:
        """Handle one message; what it returns answers an ask, and is dropped for a tell.

        Called for one message at a time, in the order of the mailbox. An exception fails this incarnation: the asker gets
        ``ActorFailed``, the supervisor decides what next. ``return Failure(error)`` answers with an error and fails nothing.

        This one knows no message: ``await super().receive(message)`` is for those that a subclass does not know either (see
        ``ActorContext.unhandled``). None as the answer to a ``Request[R]`` whose R has no None counts as not handled too.
        """
        self.context.unhandled(message)

    def describe(self) -> Any:
        """What ``runtime.inspect(ref)`` shows of this actor's state; nothing unless a subclass overrides it.

        Called on the event loop between two steps of the handler, so it only looks: it does not wait and changes nothing. It
        should return values that stay what they are, copies rather than the lists that the actor keeps changing.
        """
        return None

    @contextlib.asynccontextmanager
    async def lifespan(self) -> AsyncGenerator[None]:
        """Hold what one incarnation needs: open before ``yield``, close after it.

        Entered before the first message; ``spawn`` returns once it was. Left after the last message of the incarnation, after
        its tasks and children have ended, also on failure: that is raised at the ``yield``, and cannot be suppressed there.
        Leaving is shielded from cancellation for at most ``shutdown_s`` seconds.
        """
        yield
