"""The sentences of a run's errors: a value of an undeclared type, a run without output. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import cast

from actors.annotations import Many, is_message_type
from actors.errors import DeclarationError
from actors.node import Input, NodeSpec
from actors.plan import Plan


def wrong_input(plan: Plan, got: object) -> DeclarationError:
    """The error for a run that is started with something else than the graph's input."""
    what = f"the class {got.__name__} itself" if isinstance(got, type) else f"a {type(got).__name__}"
    return DeclarationError(
        f"graph {plan.name!r} takes {type_names(plan.input_types)} as its input. Got: {what}.\n"
        f"  Mend: run(graph, {plan.input_types[0].__name__}(…))."
    )


def no_output(plan: Plan, steps: int, left: Mapping[str, Sequence[frozenset[str]]]) -> str:
    """Why a run came to rest without output. `left`: join → for each time it was left waiting, the parameters that never came."""
    ended = f"graph {plan.name!r} came to rest after {steps} step{'' if steps == 1 else 's'}"
    lines = [f"{ended}, and nothing had made its output {type_names(plan.output_types)}."]
    for node in sorted(left, key=plan.order.__getitem__):
        lines += _waiting(plan.nodes[node], left[node])
    if left:
        lines.append("  Mend: let the missing ones be made on every way, or make them optional: parameter: Type | None.")
    else:
        lines.append("  Mend: every branch ended with None; let one of them return the output.")
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


def undeclared(spec: NodeSpec, got: object) -> DeclarationError:
    """The error for a value that the node's return annotation does not name."""
    what = "None" if got is None else f"a {type(got).__name__}"
    annotation = "None" if got is None else type(got).__name__
    mend = f"return what it declares, or add {annotation} to its return annotation."
    if got is not None and not is_message_type(type(got)):
        mend = "return a list." if spec.fan_out is Many.LIST else f"return one of its type: {spec.outputs[0].__name__}(…)."
    return DeclarationError(
        f"node {spec.name!r} ({spec.location}) returned {what}; it declares {_declared(spec)}.\n  Mend: {mend}"
    )


def gave_up(node: str, attempt: int, error: BaseException) -> str:
    """That `node` gives up on a message because of `error`."""
    said = f"node {node!r} gave up after attempt {attempt}: {type(error).__name__}: {error}"
    said += "".join(f"\n  {note}" for note in getattr(error, "__notes__", ()) if note.startswith("raised by the when"))
    if isinstance(error, RuntimeError) and str(error) == "no running event loop":  # asyncio's words
        said += "\n  Cause: the node calls asyncio, and nodes run on trio."
        said += (
            "\n  Mend: use trio's counterpart; or make the node a plain def, which runs in a thread, with asyncio.run() in it."
        )
    return said


def wrong_stand_in(plan: Plan, spec: NodeSpec, got: object) -> DeclarationError:
    """The error for a graph's fallback that returns something else than it declares."""
    assert spec.fallback is not None, "only a node with a fallback falls back"
    what = "None" if got is None else f"a {type(got).__name__}"
    outputs = type_names(plan.output_types)
    return DeclarationError(
        f"the fallback {spec.fallback.function.__name__} of graph {plan.name!r} returned {what} for node {spec.name!r}; the "
        f"graph's output is {outputs}.\n  Mend: return {outputs}{' or None' if spec.fallback.may_end else ''}."
    )


def items_of(spec: NodeSpec, returned: object) -> list[object] | None:
    """What a fan-out node returned, as the list of its items; None if it ended its branch.

    Raises:
        DeclarationError: it is no list.
    """
    if isinstance(returned, list):
        return list(cast("list[object]", returned))
    if returned is None and spec.may_end:
        return None
    raise undeclared(spec, returned)
