"""Starting placed actors from a host: the runtime starts them, beside its own, or as children of the actor that asks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from actors.actor import ActorRef
from actors.placement_errors import NotPortable
from actors.portable import portable_name, why_not_named
from actors.words import repr_of
from runtime.core.spawning import spawned_spec
from runtime.placement.actor_codes import ActorCode
from runtime.placement.call_payloads import unpacked
from runtime.placement.host.remote_refs import HostAddresses, RemoteRef, speaker
from runtime.placement.portable_options import options_told

_ADDRESSES = HostAddresses()


async def spawn_there(
    factory: Any, args: tuple[Any, ...], name: str | None, options: Mapping[str, object], *, is_child: bool
) -> ActorRef[Any]:
    """Have the runtime start ``factory(*args)`` at the place in `options`; return once its lifespan was entered there.

    Raises:
        NotPortable: the runtime cannot find `factory` by name, or an argument cannot travel. And what ``spawn`` raises.
    """
    spawned_spec("spawned" if name is None else name, factory, args, options)  # for what is wrong with the call
    called = getattr(factory, "__origin__", factory)
    why = why_not_named(called)
    if why is not None and "<locals>" not in getattr(called, "__qualname__", ""):
        shown = getattr(factory, "__name__", repr_of(factory))
        raise NotPortable(
            f"spawn({shown}, place={options.get('place')!r}) on a host: the runtime finds what makes an actor by its name, and "
            f"{why}.\n  Fix: move it to the top level of a module that both import."
        )
    code = ActorCode(factory)
    told = options_told(options)
    data = code.all_written(args, _ADDRESSES, portable_name(called))
    head = {"op": "spawn", "factory": code.name, "name": name, "options": told, "child": is_child}
    answer, _ = unpacked(await speaker().ask(head, data))
    return RemoteRef(answer["address"])
