"""Restarts and further attempts: what calls for one, how long to wait before it, and which failed messages are worth one."""

from __future__ import annotations

import enum
import random
from collections.abc import Callable
from typing import Any, cast, final

import attrs

from actors.argument_checks import is_a, is_count, is_number, rejected
from actors.declared_fields import remembers_what_is_written, unwritten
from actors.errors import UnderstudyError
from actors.groups import is_fatal, leaves_of
from actors.placement_errors import RemoteError
from actors.words import add_note, attribute_of, said

RetryOn = type[BaseException] | tuple[type[BaseException], ...] | Callable[[BaseException], bool]

PROGRAMMING_ERRORS: tuple[type[BaseException], ...] = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    NameError,
    NotImplementedError,
    RecursionError,
    SyntaxError,
    TypeError,
    ValueError,
)
"""Errors that the same message would raise again: a bug in the code or in the message, not in the weather."""


@final
class RestartType(enum.Enum):
    """Which ends of a child call for another incarnation; the words are those of Erlang/OTP."""

    PERMANENT = "permanent"
    """Every end, a normal one too."""
    TRANSIENT = "transient"
    """Only a failure."""
    TEMPORARY = "temporary"
    """None; the supervisor forgets the child when it ends."""


@final
@attrs.frozen
class Backoff:
    """Growing delays: ``first_s``, ``first_s * factor``, … up to ``cap_s``; all in seconds.

    `jitter` lengthens a delay by up to that fraction; the cap comes last, so no delay exceeds ``cap_s``, and ``jitter=0`` is
    exact. After `reset_after_s` without a failure the delays start again.

    Source: AWS Builders' Library, "Timeouts, retries and backoff with jitter".
    """

    first_s: float = attrs.field(default=0.1, validator=is_number(least=0, finite=True))
    factor: float = attrs.field(default=2.0, validator=is_number(least=0, finite=True))
    cap_s: float = attrs.field(default=30.0, validator=is_number(least=0, finite=True))
    jitter: float = attrs.field(default=0.1, validator=is_number(least=0, finite=True))
    reset_after_s: float = attrs.field(default=60.0, validator=is_number(least=0))

    def delay_s(self, attempt: int, rng: random.Random) -> float:
        """Seconds to wait before attempt number `attempt`, where 0 is the first one after a failure.

        Returns: a float in [0, cap_s]; with ``first_s=0.5, factor=2, jitter=0``: 0.5, 1, 2, 4, …, cap_s.
        """
        try:
            delay = self.first_s * float(self.factor) ** attempt
        except OverflowError:
            return self.cap_s if self.first_s > 0 else 0.0
        if self.jitter:
            delay *= 1 + self.jitter * rng.random()
        return min(self.cap_s, delay)


_ASYNCIO_SAYS = ("no running event loop", "There is no current event loop", "Timeout should be used inside a task")


def is_worth_another_attempt(error: BaseException) -> bool:
    """The default of ``Redelivery.retry_on``.

    False for programming errors, for errors with ``retryable = False``, and for errors on which the language-model client
    has already spent its attempts (there is one retry owner). A group is worth it when every leaf is.
    """
    return all(_is_worth_another_attempt(leaf) for leaf in leaves_of(error))


def _is_worth_another_attempt(error: BaseException) -> bool:
    retryable = attribute_of(error, "retryable")
    if retryable is False or attribute_of(error, "spent") is True:
        return False
    if retryable is True or isinstance(error, UnderstudyError):
        return True
    return not isinstance(error, PROGRAMMING_ERRORS) and not wants_asyncio(error)


def wants_asyncio(error: BaseException) -> bool:
    """Whether code of asyncio's was called where asyncio does not run: a mistake in the program, though a ``RuntimeError``."""
    return type(error) is RuntimeError and str(error).startswith(_ASYNCIO_SAYS)


def _was_one_of(error: BaseException, kinds: type[BaseException] | tuple[type[BaseException], ...]) -> bool:
    """Whether `error` stands for one of another process whose class there is among `kinds`, by its name."""
    if not isinstance(error, RemoteError):
        return False
    names = {f"{kind.__module__}:{kind.__qualname__}" for kind in (kinds if isinstance(kinds, tuple) else (kinds,))}
    return error.kind in names or not names.isdisjoint(error.kinds)


def _chooses_errors(value: object) -> bool:
    if callable(value) and not isinstance(value, type):
        return True
    kinds = cast("tuple[object, ...]", value) if isinstance(value, tuple) else (value,)
    return all(isinstance(kind, type) and issubclass(kind, BaseException) for kind in kinds)


def _is_retry_on(owner: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if value is not None and not _chooses_errors(value):
        raise rejected(owner, attribute.name, value, "an exception type, a tuple of them, or a predicate of one error")


@final
@remembers_what_is_written
@attrs.frozen
class Redelivery:
    """What happens to the message that crashed its actor.

    `max_attempts` counts every delivery, the first included: 1 means that the message is not delivered again and its asker
    gets the error. A message waits out its own `backoff`, apart from the actor's, so others are served meanwhile; out of
    attempts it is a dead letter with its last error. `retry_on` (exception types, or a predicate of the error) defaults to
    :func:`is_worth_another_attempt`. On a node, what is not written is that node's default, which may be more than one attempt.
    """

    max_attempts: int = attrs.field(default=1, validator=is_count(least=1))
    backoff: Backoff = attrs.field(factory=Backoff, validator=is_a(Backoff))
    retry_on: RetryOn | None = attrs.field(default=None, validator=_is_retry_on)
    _written: frozenset[str] = unwritten()

    def wants(self, error: BaseException, attempt: int) -> bool:
        """Whether a message that failed its attempt number `attempt` (from 1) with `error` is delivered again."""
        if attempt >= self.max_attempts:
            return False
        if self.retry_on is None:
            return is_worth_another_attempt(error)
        if isinstance(self.retry_on, type) or not callable(self.retry_on):
            return isinstance(error, self.retry_on) or _was_one_of(error, self.retry_on)
        try:
            return bool(self.retry_on(error))
        except BaseException as broken:  # asked while an actor ends, where an error would end its supervisor
            if is_fatal(broken):
                raise
            add_note(error, f"Not delivered again: its retry_on raised {said(broken)}")
            return False
