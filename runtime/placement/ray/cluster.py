"""Hosts on other machines, which Ray places: a value, and what is opened of it while a runtime uses it."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import AsyncGenerator, Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast, final

import attrs
import trio

from actors.argument_checks import is_a, is_count, is_number, rejected
from actors.errors import Problem, UsageError
from actors.graphs.node import NodeSpec
from actors.graphs.placing import naming_problems
from actors.supervision import ChildSpec
from runtime.placement.ray.certificates import own_certificate
from runtime.placement.ray.dialled_hosts import OpenedCluster
from runtime.placement.ray.launching import COMMAND, launched
from runtime.placement.ray.reception import opened_reception


def _is_address(owner: object, attribute: attrs.Attribute[Any], value: object) -> None:
    """The address of the head, with its port: a cluster that Ray looks for on its own is another one some day."""
    if not isinstance(value, str) or "://" in value or parted(value)[1] == 0:
        raise rejected(
            owner, attribute.name, value, "'HOST:PORT' of the cluster's head", "address='ray-head:6379', as `ray start` was told."
        )


def _is_listen(owner: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if value is not None and (not isinstance(value, str) or not parted(value)[0]):
        raise rejected(owner, attribute.name, value, "'ADDRESS' or 'ADDRESS:PORT' of this machine", "listen='10.0.0.5:7000'.")


def _are_resources(owner: object, attribute: attrs.Attribute[Any], value: object) -> None:
    amounts = cast("Mapping[Any, Any]", value)
    if not isinstance(value, Mapping) or not all(
        isinstance(name, str) and name and type(amount) in (int, float) and amount > 0 for name, amount in amounts.items()
    ):
        raise rejected(owner, attribute.name, amounts, "a mapping from names to amounts above 0", "resources={'GPU': 1}.")
    if "CPU" in amounts:
        raise rejected(owner, attribute.name, amounts, "everything but CPUs", "num_cpus=….")


def _is_json(owner: object, attribute: attrs.Attribute[Any], value: object) -> None:
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        raise rejected(
            owner, attribute.name, value, "a mapping that JSON can hold", "runtime_env={'working_dir': '.'}."
        ) from None


def parted(address: str) -> tuple[str, int]:
    """Host and port of an address, 0 if it names none, and nothing if it is no address."""
    host, colon, port = address.rpartition(":")
    if not colon or address.endswith("]") or (":" in host and not host.startswith("[")):  # a bare address of IPv6
        host, port = address, "0"
    if not port.isdecimal() or int(port) > 65535:
        return "", 0
    return host.strip("[]"), int(port)


@final
@attrs.frozen
class RayHosts:
    """Processes on the nodes of a Ray cluster: ``places={"gpu": RayHosts(2, address="ray-head:6379", resources={"GPU": 1})}``.

    Ray places, starts and ends them, and counts what they need; messages do not go through it. This process's machine must be a
    node of the cluster, and its nodes must have your code and this version of understudy. Needs ``understudy[ray]``.

    A cluster that asks for no token runs the code of anybody who reaches it. It is not used, unless only this machine reaches it.
    """

    hosts: int = attrs.field(validator=is_count(least=1))
    """How many."""
    address: str = attrs.field(kw_only=True, validator=_is_address)
    """The address of the cluster's head, with its port."""
    resources: Mapping[str, float] = attrs.field(factory=dict[str, float], kw_only=True, validator=_are_resources)
    """What each host holds of its node, besides CPUs: ``"GPU"``, ``"memory"`` (bytes), and names that nodes were started with."""
    num_cpus: float = attrs.field(default=1, kw_only=True, validator=is_number(least=0, finite=True))
    """How many CPUs of its node each host holds, as Ray counts them."""
    listen: str | None = attrs.field(default=None, kw_only=True, validator=_is_listen)
    """Where this process takes the connections of its hosts; by default at the address that the cluster knows it by, and
    a free port."""
    runtime_env: Mapping[str, Any] | None = attrs.field(default=None, kw_only=True, validator=_is_json)
    """What Ray prepares on a node before a host starts there, as for ``ray.init``: ``{"working_dir": "."}`` brings your code."""
    token_path: str | Path | None = attrs.field(
        default=None, kw_only=True, validator=attrs.validators.optional(is_a(str, Path)), repr=False
    )
    """The file with the cluster's token, no matter what ``RAY_AUTH_TOKEN`` says; by default as Ray finds it."""
    tls: bool = attrs.field(default=True, kw_only=True, validator=is_a(bool))
    """Whether the connections of hosts are encrypted, with a certificate that this process makes for itself."""
    window: int = attrs.field(default=64, kw_only=True, validator=is_count(least=1))
    """How many calls may be out to one host."""
    start_timeout_s: float = attrs.field(default=300.0, kw_only=True, validator=is_number(above=0))
    """How many seconds a host may take to start, the wait for a node with room included; so long, what is to run here waits."""
    dead_after_s: float = attrs.field(default=10.0, kw_only=True, validator=is_number(above=0, finite=True))
    """After how many seconds without a sign of life of its guardian a host is lost."""
    stuck_after_s: float = attrs.field(default=60.0, kw_only=True, validator=is_number(above=0, finite=True))
    """After how many seconds without a sign of life of its event loop a host is killed: it is stopped, or a function holds it."""
    cancel_grace_s: float = attrs.field(default=5.0, kw_only=True, validator=is_number(least=0, finite=True))
    """How many seconds code that was cancelled may take to end before its host is killed."""

    def problems(self, spec: NodeSpec | ChildSpec, /) -> Iterable[Problem]:
        """See ``Place.problems``."""
        return naming_problems(spec)

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncGenerator[OpenedCluster]:
        """See ``SharedPlace.open``.

        Raises:
            UsageError: Ray isn't installed, or the cluster lets everybody in. PlaceUnavailable: it cannot be joined.
        """
        if os.name != "posix":
            raise UsageError("RayHosts() starts hosts from POSIX systems only.\n  Fix: places={…: Here()} on this system.")
        if find_spec("ray") is None:
            raise UsageError("RayHosts() needs Ray, which isn't installed.\n  Fix: pip install 'understudy[ray]'")
        async with opened_cluster(self, COMMAND) as opened:
            yield opened


@contextlib.asynccontextmanager
async def opened_cluster(hosts: RayHosts, command: Iterable[str]) -> AsyncGenerator[OpenedCluster]:
    """What starts the hosts, with `command` for the launcher.

    Raises:
        UsageError: the cluster is not used. PlaceUnavailable: it cannot be joined.
    """
    certificate = own_certificate() if hosts.tls else None
    token: dict[str, str | None] = {}
    if hosts.token_path is not None:  # a token in the environment would come before the path, and is another cluster's
        token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(hosts.token_path), "RAY_AUTH_TOKEN": None}
    failure: BaseException | None = None
    async with launched(tuple(command), token) as launching, trio.open_nursery() as nursery:
        nursery.start_soon(launching.carry)
        try:
            settings = attrs.asdict(hosts, filter=attrs.filters.include("address", "num_cpus", "resources", "runtime_env"))
            await launching.join(settings, hosts.start_timeout_s)
            host, port = (launching.address, 0) if hosts.listen is None else parted(hosts.listen)
            told = launching.address if host in ("0.0.0.0", "::") else host
            async with opened_reception(host, port, told, certificate) as reception:
                yield OpenedCluster(launching, reception, hosts.dead_after_s, hosts.start_timeout_s)
        except BaseException as error:  # noqa: BLE001 - raised below: the nursery would make a group of it
            failure = error
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure
