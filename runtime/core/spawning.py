"""How ``spawn`` makes an actor, for the runtime and for an actor's own children alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import attrs

from actors.actor import Actor, ActorRef, SpawnOptions
from actors.declared_fields import OF_AN_ACTOR, nearest
from actors.errors import DeclarationError
from actors.factories import check_factory
from actors.supervision import ChildSpec, spec_like
from actors.typevars import M
from runtime.core.actor_cell import ActorCell
from runtime.core.supervisor import SupervisorCell

_OPTIONS: Final = tuple(SpawnOptions.__annotations__)
_FIELDS: Final = attrs.fields_dict(ChildSpec)


async def spawn_under(
    supervisor: SupervisorCell,
    factory: Callable[..., Actor[M]],
    args: tuple[Any, ...],
    name: str | None,
    options: Mapping[str, Any],
) -> ActorRef[M]:
    """Start ``factory(*args)`` as a child of `supervisor`; return once its lifespan was entered.

    `options` are those of ``SpawnOptions``; one that is None takes the default that ``ChildSpec`` declares.

    Raises:
        DeclarationError: an option is unknown or of the wrong kind; or the factory can make no actor of `args`.
        ActorStartFailed: the factory or the lifespan raised. ChildAlreadyStarted: the name is taken.
    """
    child_id = name if name is not None else supervisor.children.free_name(_stem_of(factory))
    cell = await supervisor.start_child(spawned_spec(child_id, factory, args, options))
    assert isinstance(cell, ActorCell), "a ChildSpec makes an actor"
    return cell.ref


def spawned_spec(child_id: str, factory: Callable[..., Actor], args: tuple[Any, ...], options: Mapping[str, Any]) -> ChildSpec:
    """What a call of ``spawn`` declares.

    Raises:
        DeclarationError: see :func:`spawn_under`; in terms of the call that was written.
    """
    for option in options:
        if option not in _OPTIONS:
            raise _unknown(option, factory)
    given = {option: value for option, value in options.items() if value is not None}
    try:
        if given or type(child_id) is not str:
            return ChildSpec(child_id, factory, args, **given)
        return spec_like(None, child_id, factory, args)
    except DeclarationError:
        _reject(factory, args, given)
        raise


def _reject(factory: object, args: tuple[object, ...], given: Mapping[str, object]) -> None:
    """Raise what ``ChildSpec`` has raised, in terms of the call that was written."""
    check_factory(factory, args, "spawn")
    for option, value in given.items():
        _FIELDS[option].validator("spawn", _FIELDS[option], value)  # type: ignore[misc]  # each of them has one


def _unknown(option: str, factory: object) -> DeclarationError:
    known = ("name", *_OPTIONS)
    made = getattr(factory, "__init__", None) if isinstance(factory, type) else factory
    code = getattr(made, "__code__", None)
    if code is not None and option in code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]:
        shown = getattr(factory, "__name__", "factory")
        fix = f"spawn({shown}, …): its arguments go by position; or spawn(functools.partial({shown}, {option}=…))."
    else:
        fix = nearest(option, known, OF_AN_ACTOR)
    return DeclarationError(f"spawn({option}=…): it has no option {option!r}. Expected one of: {', '.join(known)}.\n  Fix: {fix}")


def _stem_of(factory: Callable[..., Actor]) -> str:
    """What the names of the actors that `factory` makes begin with."""
    return getattr(factory, "__name__", type(factory).__name__).strip("<>").lower()
