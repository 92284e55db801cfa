"""What an actor can ask of the runtime, for one incarnation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

from actors.actor import Actor, ActorContext, ActorRef
from actors.backoff import Redelivery
from actors.errors import UsageError
from actors.mailbox import MailboxSpec
from actors.restart import RestartType
from actors.supervision import ChildSpec, supervisor_spec
from runtime.actor_cell import ActorCell, LocalRef
from runtime.supervisor import SupervisorCell


def child_spec(
    factory: Callable[..., Actor],
    args: tuple[Any, ...],
    *,
    name: str,
    restart: RestartType | None,
    mailbox: MailboxSpec | None,
    redelivery: Redelivery | None,
    shutdown_s: float | None,
) -> ChildSpec:
    """The spec of a spawned actor: what is None takes the default that ``ChildSpec`` declares."""
    given = {"restart": restart, "mailbox": mailbox, "redelivery": redelivery, "shutdown_s": shutdown_s}
    options: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    return ChildSpec(name, factory, args, **options)


def stem_of(factory: Callable[..., Actor]) -> str:
    """What the names of the actors that `factory` makes begin with."""
    return getattr(factory, "__name__", type(factory).__name__).strip("<>").lower()


@final
class LocalContext(ActorContext):
    """The context of an actor of this runtime."""

    __slots__ = ("_cell", "_incarnation")

    def __init__(self, cell: ActorCell) -> None:
        self._cell = cell
        self._incarnation = cell.incarnation

    @property
    def ref(self) -> ActorRef[Any]:
        """This actor's own ref."""
        return self._cell.ref

    @property
    def incarnation(self) -> int:
        """Which life of the actor this is, counted from 1."""
        return self._incarnation

    @property
    def runtime(self) -> Any:
        """The runtime that runs this actor."""
        return self._cell.kernel.facade

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
        """See ``ActorContext.spawn``."""
        brood = await self._brood()
        child_id = name if name is not None else brood.free_name(stem_of(factory))
        spec = child_spec(
            factory, args, name=child_id, restart=restart, mailbox=mailbox, redelivery=redelivery, shutdown_s=shutdown_s
        )
        cell = await brood.start_child(spec)
        assert isinstance(cell, ActorCell), "a ChildSpec makes an actor"
        return cell.ref

    async def _brood(self) -> SupervisorCell:
        cell = self._cell
        if cell.incarnation != self._incarnation or cell.task is None:
            raise UsageError(
                f"incarnation {self._incarnation} of {cell.address!r} has ended, so it starts no children.\n"
                "  Mend: keep no context beyond the actor's lifespan."
            )
        if cell.brood is None:
            brood = SupervisorCell(cell.kernel, cell.address, cell, supervisor_spec("children"), LocalContext)
            brood.registered = False
            cell.brood = brood
            brood.launch(cell.run_beside)
            await brood.wait_started()
        assert isinstance(cell.brood, SupervisorCell), "only this method makes a brood"
        return cell.brood

    def stop(self, ref: ActorRef[Any] | None = None) -> None:
        """See ``ActorContext.stop``."""
        if ref is None or ref is self._cell.ref:
            self._cell.finish()
        elif isinstance(ref, LocalRef):
            ref.cell.discard = True
            ref.cell.request_stop()
        else:
            raise UsageError(f"{ref!r} is no ref of this runtime.\n  Mend: pass what spawn() returned.")
