"""What code on a host gives to its runtime is looked at where it is given: the runtime could only say it elsewhere, or later."""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping
from typing import Any

from actors.actor import ActorRef
from actors.errors import UsageError
from actors.placement_errors import MessageTooLarge
from actors.words import repr_of
from runtime.core.refs import not_a_ref
from runtime.graphs.active_runs import check_max_steps, check_run_id
from runtime.graphs.deployed_graphs import check_graph
from runtime.graphs.everywhere import MAX_BYTES
from runtime.graphs.records.labels import labelled, labels_here
from runtime.graphs.reducer.wording import wrong_input
from runtime.placement.graph_codes import GraphCode, code_of
from runtime.placement.host.remote_refs import HostAddresses

_ADDRESSES = HostAddresses()


def checked_run(graph: Any, message: object, budget: object, run_id: object, max_steps: object) -> GraphCode:
    """How the graph of a run is told, that can be asked for.

    Raises:
        UsageError: it isn't a graph; or an option is of the wrong kind, or cannot be used from a host.
        GraphInvalid: it has problems. DeclarationError: the message isn't of its input type.
    """
    check_graph(graph)
    if budget is not None:
        raise UsageError(
            "budget= was used on a host; what a budget counts is in the process of the runtime.\n"
            "  Fix: leave it out; give the budget to open_runtime(), or to the run that this is part of."
        )
    if run_id is not None:
        check_run_id(run_id)
    check_max_steps(max_steps)
    code = code_of(graph)
    if not isinstance(message, code.plan.input_types):
        raise wrong_input(code.plan, message)
    return code


def checked_labels(labels: Mapping[str, str] | None) -> Mapping[str, str] | None:
    """`labels` as JSON has them.

    Raises:
        UsageError: they aren't short texts by short names, or too many.
    """
    with labelled(labels):
        return None if labels is None else dict(labels_here())


def checked_name(name: object) -> str:
    """The name of an actor.

    Raises:
        UsageError: it isn't a text.
    """
    if not isinstance(name, str):
        raise UsageError(f"whereis({repr_of(name)}) on a host: expected the address of an actor.\n  Fix: whereis('name').")
    return name


def checked_address(ref: object, call: str) -> str:
    """The address of an actor that the runtime knows.

    Raises:
        UsageError: `ref` is something else, or an actor that only this host knows.
    """
    if not isinstance(ref, ActorRef):
        raise not_a_ref(ref, "ref to an actor", "spawn()")
    try:
        return _ADDRESSES.address_of(ref)  # pyright: ignore[reportUnknownArgumentType]  # by isinstance
    except ValueError:
        fix = "self.context.stop(ref)" if call == "stop" else "give it the ref of an actor that was spawned with place=…"
        what = f"{call}() of the runtime on a host: {ref.address!r} lives within an actor on this host, and is known only here."
        raise UsageError(f"{what}\n  Fix: {fix}.") from None


def checked_topic(topic: Hashable | None) -> str | int | float | bool | None:
    """A topic that can travel.

    Raises:
        UsageError: it cannot.
    """
    if topic is None or isinstance(topic, str | int | float | bool):
        try:
            json.dumps(topic)
        except ValueError:  # an int of thousands of digits
            pass
        else:
            return topic
    raise UsageError(f"topic={repr_of(topic)} was used on a host, from where it cannot travel.\n  Fix: use a text or a number.")


def check_announced(body: bytes) -> None:
    """Raise for a message that is too large to be published everywhere.

    Raises:
        MessageTooLarge: it is.
    """
    if len(body) > MAX_BYTES:
        raise MessageTooLarge(
            f"what is published everywhere has {len(body):,} bytes, and may have {MAX_BYTES:,}.\n"
            "  Fix: publish where it can be fetched.",
            size=len(body),
            limit=MAX_BYTES,
        )
