"""Supervision as data: which children, when they are restarted, how often, how soon, and when to give up.

The vocabulary and the semantics are Erlang/OTP's (``supervisor``, OTP 28), with delays between restarts.
"""

from __future__ import annotations

import enum
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, cast, final

import attrs

from actors.actor import Actor, ActorRef, Terminated
from actors.argument_checks import is_a, is_count, is_number, is_place, rejected
from actors.declared_fields import OF_AN_ACTOR, explains_its_fields, remembers_what_is_written, unwritten
from actors.errors import DeclarationError
from actors.factories import check_factory, is_actor
from actors.groups import leaves_of
from actors.mailbox import MailboxSpec
from actors.placement_errors import RemoteError
from actors.restarts import Backoff, Redelivery, RestartType
from actors.words import INTERRUPTS, kind_of, repr_of


@final
class Strategy(enum.Enum):
    """Which siblings are restarted along with a child that failed."""

    ONE_FOR_ONE = "one_for_one"
    """None: the one that failed is restarted alone."""
    ONE_FOR_ALL = "one_for_all"
    """All of them."""
    REST_FOR_ONE = "rest_for_one"
    """Those that were started after it."""


@final
class AutoShutdown(enum.Enum):
    """Whether a supervisor ends on its own when significant children have."""

    NEVER = "never"
    """No; and no child may be significant."""
    ANY_SIGNIFICANT = "any_significant"
    """As soon as one has."""
    ALL_SIGNIFICANT = "all_significant"
    """When the last of them has."""


@final
class Directive(enum.Enum):
    """What to do about a failure of one exception type."""

    RESTART = "restart"
    """End the incarnation; its restart type decides whether the next one is started."""
    RESUME = "resume"
    """Keep the incarnation and its state; only the message is lost."""
    STOP = "stop"
    """End the actor permanently, for any restart type."""
    ESCALATE = "escalate"
    """Fail the supervisor itself with this error."""


@final
class Exhausted(enum.Enum):
    """What a supervisor does when its restart budget is spent."""

    ESCALATE = "escalate"
    """Stop all children and fail, with ``RestartsExhausted``."""
    PARK = "park"
    """Wait ``backoff.cap_s`` seconds, then try again with a fresh budget: for outages."""


def _maps_errors(table: object) -> bool:
    return isinstance(table, Mapping) and all(
        isinstance(kind, type)
        and issubclass(kind, BaseException)
        and isinstance(directive, Directive)
        and not issubclass(kind, INTERRUPTS)
        for kind, directive in cast("Mapping[object, object]", table).items()
    )


def _is_on_error(owner: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if value is not None and not _maps_errors(value):
        raise rejected(owner, attribute.name, value, "a mapping from exception types to Directive")


@final
@remembers_what_is_written
@attrs.frozen
class Supervision:
    """How a supervisor treats the failures of its children.

    One budget per supervisor: every restart attempt counts, failed starts too, and a group restart counts once. More than
    `max_restarts` within `within_s` seconds (a sliding window, both ends included) is too many; then `exhausted` decides.
    """

    strategy: Strategy = attrs.field(default=Strategy.ONE_FOR_ONE, validator=is_a(Strategy))
    """Which children are restarted with the one that failed."""
    max_restarts: float = attrs.field(default=3, validator=is_count(unbounded=True))
    """A whole number of restarts, or ``math.inf``; 0 allows none."""
    within_s: float = attrs.field(default=5.0, validator=is_number(above=0, finite=True))
    """Seconds."""
    backoff: Backoff = attrs.field(factory=Backoff, validator=is_a(Backoff))
    """How long a restart waits."""
    auto_shutdown: AutoShutdown = attrs.field(default=AutoShutdown.NEVER, validator=is_a(AutoShutdown))
    """Whether the supervisor ends when significant children have ended on their own."""
    on_error: Mapping[type[BaseException], Directive] | None = attrs.field(default=None, validator=_is_on_error)
    """Looked up along the exception's classes, most specific first; an unlisted exception means ``RESTART``.

    ``KeyboardInterrupt`` and ``GeneratorExit`` are rejected: they end the runtime.
    """
    exhausted: Exhausted = attrs.field(default=Exhausted.ESCALATE, validator=is_a(Exhausted))
    """What happens when the budget is spent."""
    max_children: float = attrs.field(default=math.inf, validator=is_count(unbounded=True))
    """How many children it may know, or ``math.inf``: running, restarting and stopped ones, which a group restart would start."""
    _written: frozenset[str] = unwritten()

    def directive(self, error: BaseException) -> Directive:
        """What to do about `error`. For a group: the gravest directive of its leaves."""
        if not self.on_error:
            return Directive.RESTART
        found = {self._directive_of(leaf, self.on_error) for leaf in leaves_of(error)}
        return next(directive for directive in _BY_GRAVITY if directive in found)

    @staticmethod
    def _directive_of(error: BaseException, table: Mapping[type[BaseException], Directive]) -> Directive:
        if isinstance(error, RemoteError):  # of another process: its classes are known by their names
            named = {f"{kind.__module__}:{kind.__qualname__}": directive for kind, directive in table.items()}
            found = next((named[name] for name in (error.kind, *error.kinds) if name in named), None)
            if found is not None:
                return found
        return next((table[base] for base in type(error).__mro__ if base in table), Directive.RESTART)


_BY_GRAVITY = (Directive.ESCALATE, Directive.STOP, Directive.RESTART, Directive.RESUME)


def _is_id(owner: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if isinstance(value, str):
        return
    if callable(value):
        raise rejected(owner, attribute.name, value, "a name first", f"{_with_id(value)}.")
    raise rejected(owner, attribute.name, value, "a str")


def _with_id(factory: object) -> str:
    name: object = getattr(factory, "__name__", None)
    if isinstance(name, str):
        return f"ChildSpec({name.strip('<>').lower()!r}, {name})"
    if is_actor(factory):
        return f"ChildSpec({kind_of(factory).lower()!r}, {kind_of(factory)})"
    return f"ChildSpec('name', {repr_of(factory)})"


def _without_factory(args: tuple[object, ...]) -> str:
    return f"{_with_id(args[0])}." if args and callable(args[0]) else "ChildSpec('worker', Worker)."


def _as_tuple(values: Any) -> tuple[Any, ...]:
    if isinstance(values, str | bytes) or not hasattr(values, "__iter__"):
        raise DeclarationError(
            f"ChildSpec(args={repr_of(values)}): expected a tuple of the arguments.\n  Fix: args=({repr_of(values)},)."
        )
    return tuple(values)


@final
@explains_its_fields(_without_factory, OF_AN_ACTOR)
@attrs.frozen
class ChildSpec:
    """One child of a supervisor: how to make it, when to restart it, how long its stop may take.

    Raises:
        DeclarationError: a field is missing, unknown, of the wrong kind or out of range; the factory can make no actor of
            `args`; or the child is significant and permanent.
    """

    id: str = attrs.field(validator=_is_id)
    """Its name under the supervisor, and the last part of its address: printable, without ``/``."""
    factory: Callable[..., Actor] = attrs.field()
    """A class derived from ``Actor``, or a function that makes one; called with `args` for every incarnation."""
    args: tuple[Any, ...] = attrs.field(default=(), converter=_as_tuple)
    restart: RestartType = attrs.field(default=RestartType.PERMANENT, validator=is_a(RestartType))
    """After which ends it is started again."""
    shutdown_s: float = attrs.field(default=5.0, validator=is_number(least=0))
    """Seconds, or ``math.inf``, that a stop may take before the child is cancelled; 0 cancels immediately."""
    significant: bool = attrs.field(default=False, validator=is_a(bool))
    """Whether its end counts for the supervisor's ``auto_shutdown``."""
    mailbox: MailboxSpec = attrs.field(default=MailboxSpec(), validator=is_a(MailboxSpec))
    """How many messages may wait for it."""
    redelivery: Redelivery = attrs.field(default=Redelivery(), validator=is_a(Redelivery))
    """What happens to a message that crashed it."""
    idle_timeout_s: float | None = attrs.field(default=None, validator=attrs.validators.optional(is_number(above=0)))
    """How long the handling of one message may continue without ``self.context.heartbeat()``; then it is cancelled and the actor
    fails with ``ActorIdle``. None: no limit."""
    place: str | None = attrs.field(default=None, validator=is_place)
    """Where it lives: the name of one of ``open_runtime(places=…)``; None: in the process of the runtime."""

    def __attrs_post_init__(self) -> None:
        check_id(self.id)
        check_factory(self.factory, self.args, "ChildSpec", self.id)
        if self.significant and self.restart is RestartType.PERMANENT:
            raise DeclarationError(
                f"ChildSpec({self.id!r}): significant=True with restart=PERMANENT can never take effect, "
                "a permanent child does not end.\n  Fix: restart=RestartType.TRANSIENT or TEMPORARY, or significant=False."
            )


def spec_like(
    options: ChildSpec | None,
    id: str,  # noqa: A002 - the field's name
    factory: Callable[..., Actor],
    args: tuple[Any, ...],
) -> ChildSpec:
    """A child with the options of another spec (None: with the defaults), which need no check: only the rest is checked.

    Raises:
        DeclarationError: `id` isn't a name, or the factory can make no actor of `args`.
    """
    spec = object.__new__(ChildSpec)
    if options is None:
        for set_field, default in _DEFAULTS:
            set_field(spec, default)
    else:
        for field in _OPTIONAL:
            object.__setattr__(spec, field, getattr(options, field))
    _SET_ID(spec, id)
    _SET_FACTORY(spec, factory)
    _SET_ARGS(spec, args)
    check_id(id)
    check_factory(factory, args, "ChildSpec", id)
    return spec


_OPTIONAL: Final = tuple(field.name for field in attrs.fields(ChildSpec)[3:])
"""All fields but those three, none of whose defaults is made for each spec."""
# By the slots themselves: each actor that is spawned without options has its fields set so.
_DEFAULTS: Final = tuple((vars(ChildSpec)[field.name].__set__, field.default) for field in attrs.fields(ChildSpec)[3:])
_SET_ID, _SET_FACTORY, _SET_ARGS = (vars(ChildSpec)[name].__set__ for name in ("id", "factory", "args"))
_MAX_ID: Final = 200
"""Characters. A name stands in the address of every actor below it, and an address in every event and error."""


def check_id(child_id: str) -> None:
    """Reject names that would make an address ambiguous."""
    if len(child_id) > _MAX_ID:
        raise DeclarationError(
            f"{repr_of(child_id, 60)} cannot name an actor: it has {len(child_id)} characters, at most {_MAX_ID} are allowed.\n"
            "  Fix: name it by a key."
        )
    if not child_id or "/" in child_id or not child_id.isprintable():
        fit = "".join("-" if sign == "/" or not sign.isprintable() else sign for sign in child_id).strip() or "worker"
        raise DeclarationError(
            f"{child_id!r} cannot name an actor: a name is at least one printable character, without '/'.\n"
            f"  Fix: {fit!r}, for example."
        )


@final
@attrs.frozen
class SupervisorSpec:
    """A supervisor as a child of another; made by :func:`supervisor_spec`."""

    id: str = attrs.field(validator=is_a(str))
    children: tuple[ChildSpec | SupervisorSpec, ...] = attrs.field(validator=is_a(tuple))
    supervision: Supervision = attrs.field(factory=Supervision, validator=is_a(Supervision))
    restart: RestartType = attrs.field(default=RestartType.PERMANENT, validator=is_a(RestartType))
    shutdown_s: float = attrs.field(default=math.inf, validator=is_number(least=0))
    significant: bool = attrs.field(default=False, validator=is_a(bool))

    def __attrs_post_init__(self) -> None:
        check_id(self.id)
        check_children(self.children, self.supervision)


def supervisor_spec(
    id: str,  # noqa: A002 - the field's name
    children: Iterable[ChildSpec | SupervisorSpec] = (),
    supervision: Supervision | None = None,
    *,
    restart: RestartType = RestartType.PERMANENT,
    shutdown_s: float = math.inf,
    significant: bool = False,
) -> SupervisorSpec:
    """The spec of a supervisor that is itself a child: give it among the `children` of another.

    A supervisor's `shutdown_s` is unlimited by default, so its own children have their time.
    """
    return SupervisorSpec(id, _listed(children), supervision or Supervision(), restart, shutdown_s, significant)


def _listed(children: Any) -> tuple[Any, ...]:
    if isinstance(children, str) or not hasattr(children, "__iter__"):
        shown = f"ChildSpec({children.id!r}, …)" if isinstance(children, ChildSpec) else repr_of(children)
        raise DeclarationError(f"children: expected a list of specs. Got: {shown}.\n  Fix: put it in a list, [{shown}].")
    return tuple(children)


def check_children(children: Iterable[object], supervision: Supervision) -> None:
    """Reject lists that no supervisor could run: wrong kinds, equal ids, significance without automatic shutdown."""
    children = _listed(children)
    if len(children) > supervision.max_children:
        raise DeclarationError(
            f"children: {len(children)} are given, and max_children is {supervision.max_children:g}.\n"
            f"  Fix: Supervision(max_children={len(children)}), or fewer children."
        )
    seen: set[str] = set()
    for child in children:
        if not isinstance(child, ChildSpec | SupervisorSpec):
            raise DeclarationError(
                f"children: expected ChildSpec or supervisor_spec(…). Got: {repr_of(child)}.\n  Fix: {_with_id(child)}."
            )
        if child.id in seen:
            raise DeclarationError(f"children: the id {child.id!r} is given twice.\n  Fix: give each child its own id.")
        seen.add(child.id)
        if child.significant and supervision.auto_shutdown is AutoShutdown.NEVER:
            raise DeclarationError(
                f"children: {child.id!r} is significant but the supervisor's auto_shutdown is NEVER.\n"
                "  Fix: Supervision(auto_shutdown=AutoShutdown.ANY_SIGNIFICANT), or significant=False."
            )


@final
class ChildState(enum.StrEnum):
    """Where a child is between its start and its end; equal to its plain word."""

    RUNNING = "running"
    RESTARTING = "restarting"
    """It waits out a backoff, or is being started again."""
    STOPPED = "stopped"
    """It is known but does not run; ``restart_child`` starts it."""


@final
@attrs.frozen
class ChildInfo:
    """One row of ``which_children``."""

    id: str
    """As in its spec."""
    ref: ActorRef[Any] | SupervisorRef
    """What its messages, or its children's administration, go through; the same over restarts."""
    state: ChildState
    restart: RestartType
    significant: bool


@final
@attrs.frozen
class ChildCounts:
    """What ``count_children`` counts."""

    specs: int
    """Children known, whether they run or not."""
    active: int
    """Children that run now."""
    supervisors: int
    """Those known that are supervisors."""
    workers: int
    """Those known that are actors."""


class SupervisorRef(ABC):
    """The handle to a supervisor. It outlives the supervisor's own restarts; its calls are answered during a backoff too."""

    __slots__ = ()

    @property
    @abstractmethod
    def address(self) -> str:
        """The supervisor's name within its runtime."""

    @abstractmethod
    async def start_child(self, spec: ChildSpec | SupervisorSpec) -> ActorRef[Any] | SupervisorRef:
        """Start a child and return its ref once it runs.

        Raises:
            ChildAlreadyStarted: the id runs. ChildAlreadyPresent: the id is known but stopped, or being restarted.
            TooManyChildren: it has as many children as its ``max_children``.
            ActorStartFailed: the factory or the lifespan raised, or somebody stopped it while it started; nothing is kept.
        """

    @abstractmethod
    async def terminate_child(self, id: str) -> None:  # noqa: A002
        """Stop the child within its ``shutdown_s``; its spec is kept unless it is temporary. Stopped already: no effect.

        Raises:
            ChildNotFound: no such id.
        """

    @abstractmethod
    async def restart_child(self, id: str) -> ActorRef[Any] | SupervisorRef:  # noqa: A002
        """Start a stopped child again. Does not count against the restart budget.

        Raises:
            ChildNotFound, ChildRunning, ChildRestarting: it is not a stopped child.
            ActorStartFailed: it did not start; it remains stopped.
        """

    @abstractmethod
    async def delete_child(self, id: str) -> None:  # noqa: A002
        """Forget a stopped child.

        Raises:
            ChildNotFound, ChildRunning, ChildRestarting: it is not a stopped child.
        """

    @abstractmethod
    async def which_children(self) -> list[ChildInfo]:
        """All known children, newest first."""

    @abstractmethod
    async def ended(self) -> Terminated:
        """Wait until the supervisor is permanently gone, and return why; see ``ActorRef.ended``."""

    @abstractmethod
    async def count_children(self) -> ChildCounts:
        """How many children are known and how many run."""
