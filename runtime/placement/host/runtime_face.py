"""The runtime as actors on a host see it: what they ask of it goes over the link, to the one that is open elsewhere."""

from __future__ import annotations

from collections.abc import Awaitable, Hashable, Mapping
from typing import Any, NoReturn, final

from actors.actor import ActorRef
from actors.errors import UsageError
from actors.lm import LM
from runtime.messages.modules import name_of
from runtime.placement.host.hosted_lm import HostedLM
from runtime.placement.host.remote_refs import RemoteRef, here, speaker
from runtime.placement.link import Hear


@final
class HostedRuntime:
    """What a host has of the runtime, as ``self.context.runtime``."""

    def whereis(self, name: str) -> ActorRef[Any] | None:
        """See ``Runtime.whereis``. On a host it gives a ref without looking: asking no one raises ``ActorStopped``."""
        return RemoteRef(name)

    def publish(self, message: Any, *, topic: Hashable | None = None) -> int:
        """See ``Runtime.publish``. On a host it returns 0: to how many it went is known in the runtime only."""
        me = speaker()
        body = me.written(message, "what is published")
        here(lambda: me.tell({"op": "publish", "topic": _topic(topic)}, body))
        return 0

    def subscribe(self, kind: type, ref: ActorRef[Any], *, topic: Hashable | None = None) -> None:
        """See ``Runtime.subscribe``."""
        self._subscription("subscribe", kind, ref, topic)

    def unsubscribe(self, kind: type, ref: ActorRef[Any], *, topic: Hashable | None = None) -> None:
        """See ``Runtime.unsubscribe``."""
        self._subscription("unsubscribe", kind, ref, topic)

    @staticmethod
    def _subscription(op: str, kind: type, ref: ActorRef[Any], topic: Hashable | None) -> None:
        me = speaker()
        head = {"op": op, "kind": name_of(kind), "to": ref.address, "topic": _topic(topic)}
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
            "  Fix: let an actor that isn't placed do it, and ask that; here are whereis, publish, subscribe, lm and lms."
        )


def _lm(name: str | None) -> HostedLM:
    me = speaker()
    if name not in me.models:
        raise UsageError(
            'this runtime has no default language model.\n  Fix: open_runtime(lm="openai/gpt-4o-mini"), for example.'
        )

    def ask(what: str, data: bytes = b"", *, hear: Hear | None = None) -> Awaitable[bytes]:
        return me.ask({"op": "lm", "what": what, "model": name}, data, hear=hear)

    return HostedLM(me.models[name], ask)


def _topic(topic: Hashable | None) -> str | int | float | bool | None:
    if topic is None or isinstance(topic, str | int | float | bool):
        return topic
    raise UsageError(f"topic={topic!r} was used on a host, from where it cannot travel.\n  Fix: use a text or a number.")
