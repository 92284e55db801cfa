"""How ``spawn`` makes an actor, for the runtime and for an actor's own children alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from actors.actor import Actor, ActorRef
from actors.backoff import Redelivery
from actors.mailbox import MailboxSpec
from actors.restart import RestartType
from actors.supervision import ChildSpec
from actors.typevars import M
from runtime.core.actor_cell import ActorCell
from runtime.core.supervisor import SupervisorCell


async def spawn_under(
    supervisor: SupervisorCell,
    factory: Callable[..., Actor[M]],
    args: tuple[Any, ...],
    name: str | None,
    *,
    restart: RestartType | None = None,
    mailbox: MailboxSpec | None = None,
    redelivery: Redelivery | None = None,
    shutdown_s: float | None = None,
    idle_timeout_s: float | None = None,
) -> ActorRef[M]:
    """Start ``factory(*args)`` as a child of `supervisor`; return once its lifespan was entered.

    An option that is None takes the default that ``ChildSpec`` declares.

    Raises:
        ActorStartFailed: the factory or the lifespan raised. ChildAlreadyStarted: the name is taken.
    """
    given = {
        "restart": restart,
        "mailbox": mailbox,
        "redelivery": redelivery,
        "shutdown_s": shutdown_s,
        "idle_timeout_s": idle_timeout_s,
    }
    options: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    child_id = name if name is not None else supervisor.roster.free_name(_stem_of(factory))
    cell = await supervisor.start_child(ChildSpec(child_id, factory, args, **options))
    assert isinstance(cell, ActorCell), "a ChildSpec makes an actor"
    return cell.ref


def _stem_of(factory: Callable[..., Actor]) -> str:
    """What the names of the actors that `factory` makes begin with."""
    return getattr(factory, "__name__", type(factory).__name__).strip("<>").lower()
