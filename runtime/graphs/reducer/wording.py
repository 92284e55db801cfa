"""The sentences of a run's errors: a value of an undeclared type, a run without output. Pure."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import cast

from actors.argument_checks import unawaited
from actors.errors import DeclarationError, StreamBroken
from actors.graphs.annotations import Many, is_message_type
from actors.graphs.node import Input, Kind, NodeSpec
from actors.graphs.plan import Plan
from actors.restarts import wants_asyncio
from actors.words import attribute_of, repr_of, said, with_article


def wrong_input(plan: Plan, got: object) -> DeclarationError:
    """The error for a run that is started with something else than the graph's input."""
    what = f"the class {got.__name__} itself" if isinstance(got, type) else with_article(type(got).__name__)
    call = unawaited(got)
    example = f"{plan.input_types[0].__name__}(…)" if call is None else call
    return DeclarationError(
        f"graph {plan.name!r} takes {type_names(plan.input_types)} as its input. Got: {what}.\n  Fix: run(graph, {example})."
    )


def no_output(
    plan: Plan,
    steps: int,
    left: Mapping[str, Sequence[frozenset[str]]],
    lost: Mapping[tuple[str | None, str], int] = MappingProxyType({}),
    empty: Mapping[str, int] = MappingProxyType({}),
) -> str:
    """Why a run came to rest without output.

    Args:
        plan: the plan of its graph.
        steps: how many it took.
        left: join → for each time it was left waiting, the parameters that never came.
        lost: source (None: the graph's input) and type of the messages that no condition sent anywhere → how many.
        empty: node whose fan-out had no item, and which nothing gathers → how often.
    """
    ended = f"graph {plan.name!r} came to rest after {steps} step{'' if steps == 1 else 's'}"
    lines = [f"{ended}, and nothing had made its output {type_names(plan.output_types)}."]
    for node in sorted(left, key=plan.order.__getitem__):
        lines += _waiting(plan.nodes[node], left[node])
    for (source, kind), count in sorted(lost.items(), key=lambda pair: (plan.order.get(pair[0][0] or "", -1), pair[0][1])):
        whose = f"{source!r} made" if source is not None else "the run began with"
        times = f" ({count} times)" if count > 1 else ""
        conditions = [c for c in plan.connections if c.source == source and c.when is not None]
        listed = ", ".join(f"connect({c.source}, {c.target}, when=…) ({c.location})" for c in conditions)
        lines.append(f"  {whose} a {kind}{times} that went nowhere: every condition was false: {listed}.")
    for node, count in sorted(empty.items()):
        times = f" ({count} times)" if count > 1 else ""
        lines.append(f"  {node!r} returned no items{times}, so nothing behind it was started, and nothing gathers them.")
    if left:
        lines.append("  Fix: let the missing ones be made on every way, or make them optional: parameter: Type | None.")
    elif lost:
        lines.append("  Fix: let the conditions cover every message, or connect a node without when=, for the rest.")
    elif empty:
        node = min(empty)
        kinds = type_names(plan.nodes[node].outputs)
        lines.append(f"  Fix: gather them, since a parameter list[{kinds}] gets an empty list too; or return at least one item.")
    else:
        lines.append("  Fix: every branch ended with None; let one of them return the output.")
    return "\n".join(lines)


def _waiting(spec: NodeSpec, left: Sequence[frozenset[str]]) -> Iterator[str]:
    for missing in sorted(set(left), key=sorted):
        count = left.count(missing)
        arrived = [_shown(entry) for entry in spec.inputs if entry.name not in missing]
        never = [_shown(entry) for entry in spec.inputs if entry.name in missing]
        times = f" ({count} times)" if count > 1 else ""
        yield (
            f"  {spec.name!r} was left waiting{times}: it had {', '.join(arrived) or 'nothing'}; never came: {', '.join(never)}."
        )


def _shown(entry: Input) -> str:
    kinds = type_names(entry.types)
    return f"{entry.name}: {f'list[{kinds}]' if entry.gather is not None else kinds}"


def type_names(kinds: tuple[type, ...]) -> str:
    """``A | B``."""
    return " | ".join(kind.__name__ for kind in kinds)


def _declared(spec: NodeSpec) -> str:
    kinds = [kind.__name__ for kind in spec.outputs]
    if spec.fan_out is Many.ONE:
        return " | ".join([*kinds, *(["None"] if spec.may_end else [])])
    items = " | ".join([*kinds, *(["None"] if spec.item_may_end else [])])
    shown = f"{'list' if spec.fan_out is Many.LIST else 'AsyncIterator'}[{items}]"
    return f"{shown} | None" if spec.may_end else shown


def undeclared(spec: NodeSpec, got: object, index: int | None = None) -> DeclarationError:
    """The error for a value that the node's return annotation does not name; `index`: which item of a list or stream it is."""
    kind = type(got).__name__
    what = "None" if got is None else f"the class {got.__name__} itself" if isinstance(got, type) else with_article(kind)
    example = f"{spec.outputs[0].__name__}(…)" if spec.outputs else "None"
    is_thread = spec.kind is Kind.THREAD
    if inspect.iscoroutine(got):
        got.close()  # else Python warns that it was never awaited
        name = got.__qualname__
        fix = f"make the node 'async def', and {'await ' + name}(…)." if is_thread else f"await it: return await {name}(…)."
    elif inspect.isawaitable(got):
        fix = "await it: return await …."
    elif inspect.isasyncgen(got) or inspect.isgenerator(got):
        each = "async for" if inspect.isasyncgen(got) else "for"
        fix = f"make the node an async generator, and yield its items: {each} item in …: yield item."
    elif isinstance(got, type):
        fix = f"make an instance of it: {got.__name__}(…)."
    elif got is not None and is_message_type(type(got)):
        fix = f"return what it declares, or add {kind} to its return annotation."
    elif index is not None:
        fix = (
            "leave it out, or add None to the items: list[… | None]."
            if got is None
            else f"let every item be one of its type: {example}."
        )
    elif spec.fan_out is Many.LIST and got is not None:
        fix = "return a list."
    elif got is None:
        fix = "return what it declares, or add None to its return annotation."
    else:
        fix = f"return one of its type: {example}."
    item = "" if index is None else f" as item {index}" if spec.fan_out is Many.STREAM else f" as item {index} of its list"
    verb = "yielded" if spec.fan_out is Many.STREAM and index is not None else "returned"
    return DeclarationError(
        f"node {spec.name!r} ({spec.location}) {verb} {what}{item}; it declares {_declared(spec)}.\n  Fix: {fix}"
    )


MOST_SAID = 2_000
"""Characters of a foreign error that the error of its node repeats; the whole of it is the cause."""


def gave_up(node: str, attempt: int, error: BaseException, place: str = "") -> str:
    """That `node` gives up on a message because of `error`; `place`: the lines that show where that was raised."""
    text = f"node {node!r} gave up after attempt {attempt}: {said(error, MOST_SAID)}{place}"
    notes: object = attribute_of(error, "__notes__", ())
    if isinstance(notes, list):
        text += "".join(
            f"\n  {note}"
            for note in cast("list[object]", notes)
            if isinstance(note, str) and note.startswith("raised by the when")
        )
    if wants_asyncio(error):
        text += "\n  Cause: the node calls asyncio, and nodes run on trio."
        text += "\n  Fix: use trio's counterpart; or make the node a plain def, which runs in a thread, with asyncio.run() in it."
    return text


def stream_broken(spec: NodeSpec, path: str, emitted: int, error: BaseException, run_id: str) -> StreamBroken:
    """The error of a generator that failed after nodes had begun to work on its items."""
    items = "item" if emitted == 1 else "items"
    return StreamBroken(
        f"node {spec.name!r} ({spec.location}) failed with {type(error).__name__} after {emitted} {items}, and nodes have begun "
        "to work on them. It is not run again: another attempt might yield other items.\n"
        "  Fix: @graph.node(repeatable=True), if every attempt yields the same items in the same order; otherwise return "
        "list[…], or write redelivery=Redelivery(max_attempts=1).",
        run_id=run_id,
        node=spec.name,
        path=path,
        emitted=emitted,
    )


def wrong_signal(plan: Plan, got: object) -> DeclarationError:
    """The error for a signal that the graph does not declare."""
    declared = type_names(plan.signal_types) or "none"
    return DeclarationError(
        f"graph {plan.name!r} takes as signals: {declared}. Got: {repr_of(got)}.\n"
        f"  Fix: send one of these, or declare it: Graph({plan.name!r}, …, signals={type(got).__name__})."
    )


def wrong_stand_in(plan: Plan, spec: NodeSpec, got: object) -> DeclarationError:
    """The error for a graph's fallback that returns something else than it declares."""
    assert spec.fallback is not None, "only a node with a fallback falls back"
    what = "None" if got is None else f"a {type(got).__name__}"
    outputs = type_names(plan.output_types)
    return DeclarationError(
        f"the fallback {spec.fallback.function.__name__} of graph {plan.name!r} returned {what} for node {spec.name!r}; the "
        f"graph's output is {outputs}.\n  Fix: return {outputs}{' or None' if spec.fallback.may_end else ''}."
    )


def items_of(spec: NodeSpec, returned: object) -> list[object] | None:
    """What a fan-out node returned, as the list of its items; None if it ended its branch.

    Raises:
        DeclarationError: it isn't a list.
    """
    if isinstance(returned, list):
        return list(cast("list[object]", returned))
    if returned is None and spec.may_end:
        return None
    raise undeclared(spec, returned)


def check_made(spec: NodeSpec, made: object, index: int | None = None) -> None:
    """Reject what a node does not declare: what it returned, or its item number `index`.

    Raises:
        DeclarationError: the value isn't of a declared type.
    """
    one_by_one = index is None and spec.fan_out is not Many.ONE
    nothing = spec.may_end if spec.fan_out is Many.ONE else spec.item_may_end
    for at, value in enumerate(items_of(spec, made) or ()) if one_by_one else [(index, made)]:
        if not isinstance(value, spec.outputs) and not (value is None and nothing):
            raise undeclared(spec, value, at)
