"""Every error this project raises, split by whose move it is.

::

    UnderstudyError
    ├── DeclarationError            fix what you declared
    │   └── GraphInvalid            …all problems of one graph together
    ├── UsageError (RuntimeError)   fix the call
    │   ├── AskCycle                an ask that could only wait for itself
    │   └── RuntimeDraining         the runtime is being shut down, and takes no more runs
    ├── ActorError                  the far side could not serve
    │   ├── ActorFailed             it raised while it handled your message, or answered with a failure (the cause is chained)
    │   │   └── Unhandled           its receive() has no answer to such a message
    │   ├── ActorStopped            it stopped permanently, before or while it held your message
    │   ├── ActorStartFailed        it never entered its lifespan (the cause is chained)
    │   ├── ActorIdle               its handler gave no sign of life for its idle_timeout_s
    │   ├── MailboxFull             its mailbox rejected your message
    │   └── RestartsExhausted       its supervisor gave up on restarting
    ├── SupervisionError            an administrative call that the supervisor rejected
    │   ├── TooManyChildren         it has as many children as its max_children
    │   ├── ChildNotFound           no such id
    │   ├── ChildAlreadyStarted     the id runs (opposite: ChildAlreadyPresent)
    │   ├── ChildAlreadyPresent     the id is known but stopped, or being restarted
    │   ├── ChildRunning            stop it first
    │   └── ChildRestarting         it waits out its backoff; terminate it first
    ├── RunError                    one run of a graph
    │   ├── RunFailed (ExceptionGroup)  its leaves are NodeFailed
    │   ├── NodeFailed              one node gave up on one message (the cause is chained)
    │   ├── NodeTimedOut            one attempt took longer than the node's timeout_s
    │   ├── StreamBroken            a generator failed after nodes had begun with its items; it is not run again
    │   ├── DepError                what a node depends on could not be had (the cause is chained)
    │   ├── RecallError             what a node recalls was never made on the way to it
    │   ├── NoOutput                the run ended and nothing made the output
    │   ├── RunCancelled            somebody cancelled it through its handle
    │   ├── StepsExceeded           it made more steps than ``max_steps``
    │   ├── RoundsExceeded          an agent calls tools and does not answer
    │   └── ToolTimedOut            a call of a tool took longer than its ``timeout_s``
    ├── ConversationBusy            another message of the conversation is worked on
    ├── ToolFailed                  a server of tools says that a call has failed
    │   └── ToolRefused             a person has not agreed to a call
    ├── ToolServerLost              a server of tools has ended, or cannot be reached
    ├── LMError                     one call to a language model
    │   ├── LMRateLimited           429 or overload: wait ``retry_after_s``
    │   ├── LMUnavailable           the provider or the way to it is broken
    │   ├── LMTimeout               no answer within the deadline
    │   ├── LMAuthFailed            the key is wrong or lacks a right
    │   ├── LMBadRequest            the request is wrong (opposite: LMUnavailable)
    │   ├── LMContextTooLong        …because the prompt does not fit the model
    │   ├── LMRefused               the model or its guard declined to answer
    │   ├── LMBudgetExhausted       a budget does not cover the call, or no more of its answer
    │   ├── LMReplyUnreadable       an answer came that cannot be read
    │   └── LMTruncated             an answer came that stops in the middle
    ├── MessageInvalid              a value does not make a message (in ``actors.message_errors``)
    └── InternalError               a bug of ours: please report it

Every class survives ``pickle``: the message is the only positional argument of an error, the rest are attributes.
``retryable`` tells whether the same call may succeed later without any change.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Self, final

import attrs

TROUBLESHOOTING: Final = "how-to/troubleshooting.html"
"""The page that has every class of errors and every code of a problem; tests compare it with what there is."""


class UnderstudyError(Exception):
    """Base of every error that this project raises."""

    retryable: bool | None = None
    """True: the same call may succeed later. False: it cannot. None: unknown, treat as an ordinary failure."""

    @property
    def page(self) -> str:
        """Where the documentation explains this class, and how to fix it: a page below its root, and the place on it."""
        ours = next(kind for kind in type(self).__mro__ if kind.__module__.partition(".")[0] == "actors")
        return f"{TROUBLESHOOTING}#{ours.__name__.lower()}"


class DeclarationError(UnderstudyError):
    """Something declared (an actor, a child, a graph, an option) is wrong; opposite: :class:`UsageError`."""

    retryable: bool | None = False


class UsageError(UnderstudyError, RuntimeError):
    """A call came at the wrong time, from the wrong place or with the wrong value; opposite: :class:`DeclarationError`."""

    retryable: bool | None = False


class InternalError(UnderstudyError):
    """The runtime met a state that its design rules out. Please report it with the message."""

    retryable: bool | None = False


@final
@attrs.frozen
class Problem:
    """One thing wrong with a graph: where it is and how to fix it."""

    code: str
    """Stable short name, for example ``"unreachable-node"``."""
    node: str | None
    """The node at fault, or None for the graph itself."""
    message: str
    """What is wrong, with the values."""
    fix: str
    """What to write instead."""
    location: str | None = None
    """``file.py:line`` of the node, when it is known."""

    @property
    def page(self) -> str:
        """Where the documentation explains this code: a page below its root, and the place on it."""
        return f"{TROUBLESHOOTING}#{self.code}"

    @property
    def file(self) -> str | None:
        """The file of the node, when it is known."""
        return self.location.rpartition(":")[0] if self.location else None

    @property
    def line(self) -> int | None:
        """The line of the node, decorators included, counted from 1, when it is known."""
        return int(self.location.rpartition(":")[2]) if self.location else None

    def __str__(self) -> str:
        place = f" ({self.location})" if self.location else ""
        subject = f"node {self.node!r}{place}: " if self.node else ""
        return f"{subject}{self.message}\n    Fix: {self.fix} [{self.code}]"


class GraphInvalid(DeclarationError):
    """A graph cannot run. ``problems`` holds everything that is wrong with it, not only the first thing."""

    def __init__(self, message: str, *, problems: Sequence[Problem] = ()) -> None:
        super().__init__(message)
        self.problems: tuple[Problem, ...] = tuple(problems)


# --- actors ---------------------------------------------------------------------------------------------------------


class AskCycle(UsageError):
    """A wait would close a ring of actors, nodes and runs that wait for each other; ``cycle`` names them, first and last alike.

    An ask, or a wait for the result of a run. The same would happen again, so it is not worth another attempt.
    """

    retryable: bool | None = False

    def __init__(self, message: str, *, cycle: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.cycle: tuple[str, ...] = tuple(cycle)


class RuntimeDraining(UsageError):
    """The runtime is being shut down, and takes no more runs; those that it has go on. Another runtime may take the run."""

    retryable: bool | None = True


class ActorError(UnderstudyError):
    """An actor could not serve a message. ``address`` is whose."""

    def __init__(self, message: str, *, address: str | None = None) -> None:
        super().__init__(message)
        self.address = address


class ActorFailed(ActorError):
    """The actor raised while it handled your message; ``__cause__`` is what it raised. It may already be running again.

    An actor that answers with a ``Failure``, or with ``context.fail(error)``, fails the ask alone and continues.
    """


class Unhandled(ActorFailed):
    """The actor continues, but its ``receive`` has no answer to a message of this kind; it is a dead letter too."""

    retryable: bool | None = False


class ActorStopped(ActorError):
    """The actor stopped permanently before it answered, or had stopped before you asked; opposite: :class:`ActorFailed`."""

    retryable: bool | None = False


class ActorStartFailed(ActorError):
    """The actor was never running: its factory or lifespan raised; ``__cause__`` is what it raised."""


class ActorIdle(ActorError):
    """What an actor fails with whose handler gave no sign of life for its ``idle_timeout_s``; it was cancelled before."""


class MailboxFull(ActorError):
    """The mailbox rejected the message; the sender still has it. The sender must slow down, or the mailbox must be larger."""

    retryable: bool | None = True


class RestartsExhausted(ActorError):
    """A supervisor counted more restarts than ``max_restarts`` within ``within_s``; ``__cause__`` is the last failure.

    ``path`` has the addresses of the supervisors that gave up one after the other, the innermost first, the one named in the
    message last.
    """

    def __init__(self, message: str, *, address: str | None = None, path: Sequence[str] = ()) -> None:
        super().__init__(message, address=address)
        self.path: tuple[str, ...] = tuple(path)


class SupervisionError(UnderstudyError):
    """A supervisor rejected an administrative call; ``child_id`` is the child it was about."""

    def __init__(self, message: str, *, child_id: str | None = None) -> None:
        super().__init__(message)
        self.child_id = child_id


class TooManyChildren(SupervisionError):
    """The supervisor knows as many children as its ``max_children`` allows, stopped ones included."""

    retryable: bool | None = True


class ChildNotFound(SupervisionError):
    """The supervisor has no child of that id."""


class ChildAlreadyStarted(SupervisionError):
    """A child of that id is running, or starts for the first time; opposite: :class:`ChildAlreadyPresent`."""


class ChildAlreadyPresent(SupervisionError):
    """A child of that id is known but does not run: it is stopped (``restart_child`` or ``delete_child`` it), or being restarted.

    Opposite: :class:`ChildAlreadyStarted`.
    """


class ChildRunning(SupervisionError):
    """The child runs: ``terminate_child`` it first; opposite: :class:`ChildRestarting`."""


class ChildRestarting(SupervisionError):
    """The child waits out a backoff: it will start on its own, or ``terminate_child`` it first.

    Opposite: :class:`ChildRunning`.
    """


# --- runs of a graph ------------------------------------------------------------------------------------------------


class RunError(UnderstudyError):
    """One run of a graph did not give its output. ``run_id`` is which, ``trace`` what it had done until it ended.

    The trace is that of ``RunHandle.trace``: a ``Step`` for each message, in the order of delivery. Every error that ends a run
    has it, and so has every error of this family with which a node failed.
    """

    trace: tuple[Any, ...] = ()

    def __init__(self, message: str, *, run_id: str | None = None) -> None:
        super().__init__(message)
        self.run_id = run_id


class NodeFailed(RunError):
    """A node gave up on one message; ``__cause__`` is the last error."""

    spent = True
    """It has had its attempts: a node that runs another graph does not make them again."""

    def __init__(
        self,
        message: str,
        *,
        run_id: str | None = None,
        node: str = "",
        path: str = "",
        attempt: int = 1,
        input: Any = None,  # noqa: A002 - the word of the design
        trace: Sequence[Any] = (),
    ) -> None:
        super().__init__(message, run_id=run_id)
        self.node = node
        self.path = path
        self.attempt = attempt
        self.input = input
        self.trace = tuple(trace)


class RunFailed(RunError, ExceptionGroup[Exception]):
    """A run failed. A group: each leaf is a :class:`NodeFailed` with node path, attempt, input, trace and cause.

    The trace of a leaf ends when its node gave up, that of the group with the run.
    """

    def __new__(cls, message: str, exceptions: Sequence[Exception]) -> Self:
        """Make the group."""
        return super().__new__(cls, message, exceptions)

    def __init__(self, message: str, exceptions: Sequence[Exception]) -> None:
        ExceptionGroup.__init__(self, message, exceptions)
        self.run_id = next((leaf.run_id for leaf in exceptions if isinstance(leaf, RunError)), None)

    def derive(self, excs: Sequence[Exception]) -> Self:  # type: ignore[override]  # its leaves are errors of runs only
        """A group of the same class with other leaves (``split`` and ``subgroup`` use this)."""
        derived = type(self)(self.message, excs)
        derived.trace = self.trace
        return derived


class NodeTimedOut(RunError):
    """One attempt of a node took longer than its ``timeout_s``; the attempt has ended when this is raised."""

    retryable: bool | None = True


class StreamBroken(RunError):
    """An async generator failed after nodes had begun to work on its items, so it is not run again; ``__cause__`` is its error.

    ``emitted`` is how many items it had yielded. A generator whose attempts all yield the same is declared ``repeatable=True``.
    """

    retryable: bool | None = False

    def __init__(self, message: str, *, run_id: str | None = None, node: str = "", path: str = "", emitted: int = 0) -> None:
        super().__init__(message, run_id=run_id)
        self.node = node
        self.path = path
        self.emitted = emitted


class DepError(RunError):
    """A dependency of a node failed; ``__cause__`` is what it raised. As retryable as that."""

    def __init__(self, message: str, *, run_id: str | None = None, node: str = "", parameter: str = "") -> None:
        super().__init__(message, run_id=run_id)
        self.node = node
        self.parameter = parameter


class RecallError(RunError):
    """Nothing of the type that a node recalls led to the message; opposite: ``Annotated[T | None, Recall()]`` gives None."""

    retryable: bool | None = False

    def __init__(self, message: str, *, run_id: str | None = None, node: str = "", parameter: str = "") -> None:
        super().__init__(message, run_id=run_id)
        self.node = node
        self.parameter = parameter


class NoOutput(RunError):
    """A run came to rest and nothing had made the output type; the message names the joins left waiting."""

    retryable: bool | None = False


class RunCancelled(RunError):
    """The run was cancelled through its handle, by a stop of its graph, or by the end of the runtime."""

    retryable: bool | None = False


class StepsExceeded(RunError):
    """The run made more steps than ``max_steps``: most likely a cycle that never returns None or the output."""

    retryable: bool | None = False


class RoundsExceeded(RunError):
    """A node with tools called them in ``max_rounds`` rounds, and wants to call more instead of an answer.

    ``messages`` is what there is: what the model asked for and what came of it, in the form of ``lm.chat``.
    """

    retryable: bool | None = False

    def __init__(
        self, message: str, *, run_id: str | None = None, rounds: int = 0, messages: Sequence[Mapping[str, Any]] = ()
    ) -> None:
        super().__init__(message, run_id=run_id)
        self.rounds = rounds
        self.messages = tuple(messages)


class ToolTimedOut(RunError):
    """One call of a tool took longer than the tool's ``timeout_s``; it has ended when this is raised, or told to the model."""

    retryable: bool | None = True


class ConversationBusy(UnderstudyError):
    """A conversation with ``Policy.REJECT`` works on another message."""

    retryable: bool | None = True


class ToolFailed(UnderstudyError):
    """A server of tools says that a call has failed; its words are the message."""

    def __init__(self, message: str, *, tool: str = "") -> None:
        super().__init__(message)
        self.tool = tool


class ToolRefused(ToolFailed):
    """A person has not agreed to a call of a tool with ``approve=``; it was not made, and the model is always told."""

    retryable: bool | None = False


class ToolServerLost(UnderstudyError):
    """A server of tools has ended while it worked on a call, or cannot be reached. Supervision starts it again."""

    retryable: bool | None = True

    def __init__(self, message: str, *, toolbox: str = "") -> None:
        super().__init__(message)
        self.toolbox = toolbox


# --- language models ------------------------------------------------------------------------------------------------


class LMError(UnderstudyError):
    """A language-model call failed.

    ``attempt`` is the number of HTTP requests the call made. ``spent`` is True when the one retry owner has used up its
    attempts on it: nothing above it tries again. ``retry_after_s`` is for how many seconds the provider asks its clients to stay
    away; None when the provider gives no time.
    """

    def __init__(
        self,
        message: str,
        *,
        model: str | None = None,
        attempt: int = 1,
        status: int | None = None,
        spent: bool = False,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.model = model
        self.attempt = attempt
        self.status = status
        self.spent = spent
        self.retry_after_s = retry_after_s


class LMRateLimited(LMError):
    """The provider asks for patience (429, or 529 and similar); opposite: :class:`LMUnavailable`, which asks for nothing."""

    retryable: bool | None = True


class LMUnavailable(LMError):
    """The provider answered 5xx, or the way to it broke (DNS, TLS, connect, disconnect)."""

    retryable: bool | None = True


class LMTimeout(LMError):
    """No answer within the call's own deadline; the request was cancelled at the server."""

    retryable: bool | None = True


class LMAuthFailed(LMError):
    """The key is missing or wrong, or may not use this model (401, 403)."""

    retryable: bool | None = False


class LMBadRequest(LMError):
    """The provider rejects the request as wrong (400, 404, 422); sending it again changes nothing."""

    retryable: bool | None = False


class LMContextTooLong(LMBadRequest):
    """The prompt does not fit into the model's context."""


class LMRefused(LMError):
    """The model, or a guard before it, declined to answer."""

    retryable: bool | None = False


class LMBudgetExhausted(LMError):
    """A budget does not cover the call. Nothing was sent, or the answer was cut when it had come to more than what was left."""

    retryable: bool | None = False


class LMReplyUnreadable(LMError):
    """An answer came and could not be read: no JSON, cut short, or fields that do not fit the asked types."""

    retryable: bool | None = True


class LMTruncated(LMError):
    """The answer stops in the middle: it reached the longest length allowed, so what it holds is not all that was meant.

    Sending the same request again changes little. A higher ``max_tokens`` or less reasoning does; ``truncated="widen"`` asks so.
    """

    retryable: bool | None = False
    completion: Any = None
    """The answer as far as it came, a ``Completion``."""
