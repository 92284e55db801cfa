"""The runtime as actors on a host see it: what they ask of it goes over the link, to the one that is open elsewhere."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Hashable, Mapping
from typing import Any, Final, NoReturn, Unpack, cast, final

from actors.actor import Actor, ActorRef, SpawnOptions
from actors.argument_checks import COROUTINE
from actors.errors import UsageError
from actors.graphs.graph import Graph
from actors.lm import LM
from actors.typevars import In, M, Out
from runtime.core.bus import subscribed_kind
from runtime.core.refs import not_awaited
from runtime.graphs.active_runs import check_deadline
from runtime.messages.modules import name_of
from runtime.placement.call_payloads import unpacked
from runtime.placement.graph_codes import GraphCode
from runtime.placement.host.call_checks import (
    check_announced,
    checked_address,
    checked_labels,
    checked_name,
    checked_run,
    checked_topic,
)
from runtime.placement.host.hosted_lm import HostedLM
from runtime.placement.host.remote_refs import HostAddresses, RemoteRef, Speaker, here, speaker
from runtime.placement.host.spawning_there import spawn_there
from runtime.placement.link import Hear

_ADDRESSES: Final = HostAddresses()


@final
class HostedRuntime:
    """What a host has of the runtime, as ``self.context.runtime``."""

    def whereis(self, name: str) -> ActorRef[Any] | None:
        """See ``Runtime.whereis``. On a host it gives a ref without looking: asking no one raises ``ActorStopped``."""
        return RemoteRef(checked_name(name))

    async def spawn(
        self,
        factory: Callable[..., Actor[M]],
        *args: Any,
        name: str | None = None,
        **options: Unpack[SpawnOptions],
    ) -> ActorRef[M]:
        """See ``Runtime.spawn``. On a host: the runtime starts it at its `place`; without one, see ``ActorContext.spawn``.

        Raises:
            NotPortable: the runtime cannot find `factory` by name, or an argument cannot travel.
            UsageError: it has no place, and who spawns it is no actor.
        """
        if options.get("place") is None:
            return await _spawn_here(factory, args, name, options)
        return await spawn_there(factory, args, name, options, is_child=False)

    async def stop(self, ref: ActorRef[Any]) -> None:
        """See ``Runtime.stop``."""
        await speaker().ask({"op": "stop actor", "to": checked_address(ref, "stop")})

    async def run(
        self,
        graph: Graph[In, Out],
        message: In,
        *,
        max_steps: float = math.inf,
        budget: object = None,
        run_id: str | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> Out:
        """See ``Runtime.run``: the runtime runs it, and cancelling the call cancels it there. It takes no `budget`.

        Raises:
            NotPortable: the message cannot travel. UsageError: the runtime does not have this graph; an option is wrong.
        """
        code = checked_run(graph, message, budget, run_id, max_steps)
        options = {"max_steps": max_steps, "run_id": run_id, "labels": checked_labels(labels)}
        data = await _asked("run", code, message, options)
        return cast("Out", code.read(data, _ADDRESSES))

    async def start(
        self,
        graph: Graph[In, Out],
        message: In,
        run_id: str | None = None,
        *,
        max_steps: float = math.inf,
        budget: object = None,
        deadline_s: float | None = None,
        durable: bool = True,
        here: bool = True,
        labels: Mapping[str, str] | None = None,
    ) -> HostedHandle:
        """See ``Runtime.start``: the run is the runtime's, and goes on when this host is lost. It takes no `budget`.

        Raises:
            NotPortable: the message cannot travel. UsageError: the runtime does not have this graph; an option is wrong.
        """
        code = checked_run(graph, message, budget, run_id, max_steps)
        check_deadline(deadline_s)
        options = {
            "run_id": run_id,
            "max_steps": max_steps,
            "deadline_s": deadline_s,
            "durable": bool(durable),
            "here": bool(here),
            "labels": checked_labels(labels),
        }
        answer, _ = unpacked(await _asked("start run", code, message, options))
        return HostedHandle(answer["run"], code, speaker())

    def publish(self, message: Any, *, topic: Hashable | None = None, everywhere: bool = False) -> int:
        """See ``Runtime.publish``. On a host it returns 0: to how many it went is known in the runtime only.

        Raises:
            UsageError: the topic cannot travel. NotPortable: the message cannot. MessageTooLarge: it has too many bytes.
        """
        me = speaker()
        if type(message) is COROUTINE:
            raise not_awaited(message, "message")
        head = {"op": "publish", "topic": checked_topic(topic), "everywhere": bool(everywhere)}
        body = me.written(message, "what is published")
        if everywhere:
            check_announced(body)
        here(lambda: me.tell(head, body))
        return 0

    def subscribe(self, kind: type, ref: ActorRef[Any], *, topic: Hashable | None = None) -> None:
        """See ``Runtime.subscribe``.

        Raises:
            UsageError: an argument is wrong. NotPortable: `kind` is none of the types that the actor deals with.
        """
        self._subscription("subscribe", kind, ref, topic)

    def unsubscribe(self, kind: type, ref: ActorRef[Any], *, topic: Hashable | None = None) -> None:
        """See ``Runtime.unsubscribe``."""
        self._subscription("unsubscribe", kind, ref, topic)

    @staticmethod
    def _subscription(op: str, kind: type, ref: ActorRef[Any], topic: Hashable | None) -> None:
        me = speaker()
        name = name_of(subscribed_kind(kind, topic))
        me.check_type(name)
        head = {"op": op, "kind": name, "to": checked_address(ref, op), "topic": checked_topic(topic)}
        here(lambda: me.tell(head))

    @property
    def lm(self) -> LM:
        """See ``Runtime.lm``: the calls are made by the runtime."""
        return _lm(None)

    @property
    def lms(self) -> Mapping[str, LM]:
        """See ``Runtime.lms``."""
        return {name: _lm(name) for name in speaker().models if name is not None}

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("_"):
            raise AttributeError(name)
        raise UsageError(
            f"runtime.{name} was used on a host, which does not have it.\n"
            "  Fix: let an actor that isn't placed do it, and ask that; here are whereis, spawn, stop, run, start, publish, "
            "subscribe, unsubscribe, lm and lms."
        )


@final
class HostedHandle:
    """A run that was started from a host. What else a handle has is in the runtime; see ``runtime.graphs.handle``."""

    def __init__(self, run_id: str, code: GraphCode, me: Speaker) -> None:
        self.id: Final = run_id
        """See ``RunHandle.id``."""
        self.graph: Final = code.name
        """See ``RunHandle.graph``."""
        self._code = code
        self._me = me

    async def result(self) -> Any:
        """See ``RunHandle.result``.

        Raises:
            UsageError: it is not kept any more: the actor has started very many runs since.
        """
        return self._code.read(await self._me.ask({"op": "result", "run": self.id}), _ADDRESSES)

    async def cancel(self) -> None:
        """See ``RunHandle.cancel``."""
        await self._me.ask({"op": "cancel run", "run": self.id})

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("_"):
            raise AttributeError(name)
        raise UsageError(
            f"{name} of the handle of run {self.id!r} was used on a host, which does not have it.\n"
            "  Fix: use it where the runtime is open; here are id, graph, result and cancel."
        )

    def __repr__(self) -> str:
        return f"<HostedHandle {self.id!r}>"


async def _asked(op: str, code: GraphCode, message: object, options: Mapping[str, object]) -> bytes:
    head = {"op": op, "graph": code.name, "home": code.home, "digest": code.digest, "options": dict(options)}
    return await speaker().ask(head, code.written(message, _ADDRESSES))


async def _spawn_here(
    factory: Callable[..., Actor[M]], args: tuple[Any, ...], name: str | None, options: SpawnOptions
) -> ActorRef[M]:
    spawner = speaker().spawner
    if spawner is None:
        raise UsageError(
            f"runtime.spawn({getattr(factory, '__name__', 'factory')}) on a host, without a place, and not in an actor.\n"
            "  Fix: spawn(…, place=…)."
        )
    return await spawner.spawn(factory, *args, name=name, **options)


def _lm(name: str | None) -> HostedLM:
    me = speaker()
    if name not in me.models:
        raise UsageError(
            'this runtime has no default language model.\n  Fix: open_runtime(lm="openai/gpt-4o-mini"), for example.'
        )

    def ask(what: str, data: bytes = b"", *, hear: Hear | None = None) -> Awaitable[bytes]:
        return me.ask({"op": "lm", "what": what, "model": name}, data, hear=hear)

    return HostedLM(me.models[name], ask)
