"""Every actor of the tests that can be placed lives on loopback hosts, when ``EVERY_ACTOR_PLACED`` is in the environment.

The link, the lives and what follows from them are the real ones. Values and errors go over it by reference: the actors of these
tests are given lists to note things in, and functions to call, which no other process could be sent.
"""

from __future__ import annotations

import json
import os
import typing
from typing import Any

import attrs
import pytest

import runtime.app
import runtime.placement.host.hosted_context
import runtime.placement.host.remote_refs
import runtime.placement.host.stage
import runtime.placement.placed_lives
from actors.actor import ActorRef
from actors.supervision import ChildSpec
from runtime.core.refs import LocalRef
from runtime.core.supervisor import SupervisorCell
from runtime.placement import link
from runtime.placement.actor_codes import ActorCode
from runtime.placement.host.remote_refs import RemoteRef, speaking
from runtime.placement.host.runtime_face import HostedRuntime
from runtime.placement.placement import Placement
from runtime.testing.loopback_hosts import LoopbackHosts

IS_WANTED = "EVERY_ACTOR_PLACED"
OURS = ("runtime.",)
_CHILDREN = "children live within the actor on its host, and are known only there"
_LOOKS_INSIDE = "it counts or names all that lives in the runtime, or reaches into a cell"
_STASH = "messages cannot be stashed on a host"
OTHERWISE = {
    "test_a_handler_that_swallows_its_cancellation_harms_nobody": "what it answers then is dropped on its host",
    "test_a_context_that_has_ended_does_nothing_more": "other words",
    "test_stashed_messages_come_back_in_order_before_what_waits": _STASH,
    "test_the_asker_of_a_stashed_message_waits_and_may_withdraw_it": _STASH,
    "test_PK_M07_the_stash_is_bounded": _STASH,
    "test_PK_M08_stashing_twice_is_an_error_and_the_stash_survives_a_restart": _STASH,
    "test_PK_ST3_what_is_stashed_at_the_stop_are_dead_letters": _STASH,
    "test_become_lasts_for_one_incarnation": _LOOKS_INSIDE,
    "test_PK_S11_children_stop_before_the_next_incarnation_and_before_the_lifespan_is_left": _CHILDREN,
    "test_children_that_exhaust_their_budget_fail_their_parent": _CHILDREN,
    "test_two_children_spawned_at_once": _LOOKS_INSIDE,
    "test_the_time_of_the_children_is_their_parents": _CHILDREN,
    "test_parent_names_what_supervises_the_actor": _CHILDREN,
    "test_OTP_016_sup_stop_infinity": _LOOKS_INSIDE,
    "test_OTP_029_count_children": _LOOKS_INSIDE,
    "test_OTP_060_067_arguments_of_a_temporary_child_are_not_retained": _LOOKS_INSIDE,
    "test_OTP_095_a_reply_does_not_wait_behind_the_askers_own_mailbox": "a host has no statistics of mailboxes",
    "test_a_cancelled_tell_was_not_sent_and_a_finished_one_was": _LOOKS_INSIDE,
    "test_PK_R01_round_robin": _LOOKS_INSIDE,
}
"""Tests that cannot hold for actors on hosts, and why."""


def is_wanted() -> bool:
    """Whether these tests are run with every actor placed."""
    return IS_WANTED in os.environ


class ByReference:
    """Hands values over as they are."""

    def __init__(self) -> None:
        self.kept: list[Any] = []

    def data(self, value: Any) -> bytes:
        """What stands for `value`."""
        self.kept.append(value)
        return json.dumps(len(self.kept) - 1).encode()

    def value(self, data: bytes) -> Any:
        """What `data` stands for."""
        return self.kept[json.loads(data)]


def place_every_actor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every runtime let its actors live on two hosts in its event loop."""
    kept = ByReference()
    adopt = SupervisorCell._adopt

    def placed(self: SupervisorCell, spec: Any) -> Any:
        is_here = not isinstance(self.services.facade, HostedRuntime)
        if isinstance(spec, ChildSpec) and spec.place is None and is_here and _is_theirs(spec.factory):
            spec = attrs.evolve(spec, place="loopback")
        return adopt(self, spec)

    def make(places: Any, services: Any, root: Any) -> Placement:
        hosts = LoopbackHosts(2, stuck_after_s=1e6, dead_after_s=1e6, cancel_grace_s=1e6)
        return Placement({"loopback": hosts, **(places or {})}, services, root)

    def code(self: ActorCode, factory: Any) -> None:
        self.factory = factory
        self.name = str(id(factory))

    def written(self: ActorCode, value: Any, what: str, addresses: Any) -> bytes:
        if isinstance(value, ActorRef):
            return b"r" + str(addresses.address_of(value)).encode()
        return kept.data(value)

    def read(self: ActorCode, data: bytes, addresses: Any) -> Any:
        return addresses.ref_at(data[1:].decode()) if data[:1] == b"r" else kept.value(data)

    monkeypatch.setattr(SupervisorCell, "_adopt", placed)
    monkeypatch.setattr(runtime.app, "placement_of", make)
    monkeypatch.setattr(ActorCode, "__init__", code)
    monkeypatch.setattr(ActorCode, "written", written)
    monkeypatch.setattr(ActorCode, "read", read)
    monkeypatch.setattr(ActorCode, "likeness", lambda _: {})
    monkeypatch.setattr(ActorCode, "all_written", lambda self, values, addresses, what: kept.data(list(values)))
    monkeypatch.setattr(ActorCode, "all_read", lambda self, data, addresses: [_over(each) for each in kept.value(data)])
    monkeypatch.setattr(LoopbackHosts, "problems", _remember)
    for module in (
        link,
        runtime.placement.placed_lives,
        runtime.placement.host.stage,
        runtime.placement.host.remote_refs,
        runtime.placement.host.hosted_context,
    ):
        for name, function in (("failure_data", lambda error, depth=5: kept.data(error)), ("failure_of", _failure_of(kept))):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, function)
    for name in ("ask", "tell", "tell_nowait", "ended"):
        monkeypatch.setattr(LocalRef, name, _over_the_link(getattr(LocalRef, name), name))


def _over_the_link(method: Any, name: str) -> Any:
    """The refs that the code of an actor knows without having been sent them are those of the test."""

    def call(self: LocalRef, *args: Any, **options: Any) -> Any:
        is_away = speaking.get() is not None and not isinstance(self.cell.services.facade, HostedRuntime)
        return getattr(RemoteRef(self.address), name)(*args, **options) if is_away else method(self, *args, **options)

    return call


def _failure_of(kept: ByReference) -> Any:
    return lambda data, where: kept.value(data)


def _remember(self: Any, spec: Any) -> Any:
    if isinstance(spec, ChildSpec):
        self._factories[str(id(spec.factory))] = spec.factory
    else:
        self._specs[spec.location, spec.name] = spec
    return ()


def _over(value: Any) -> Any:
    return RemoteRef(value.address) if isinstance(value, LocalRef) else value


def _is_theirs(factory: Any) -> bool:
    called = typing.get_origin(factory) or factory
    while hasattr(called, "func"):
        called = called.func
    return not str(getattr(called, "__module__", "runtime.")).startswith(OURS)
