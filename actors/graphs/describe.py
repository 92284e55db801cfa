"""The design page of a graph, as Markdown: picture, nodes, prompts, types, limits. Pure; the same graph, the same text."""

from __future__ import annotations

import dataclasses
import inspect
import math
from collections.abc import Iterator, Sequence
from pathlib import PurePath
from typing import Any

import attrs

from actors.errors import Problem
from actors.graphs.annotations import Many, description_of, shown
from actors.graphs.effects import Effect
from actors.graphs.finish import Finish
from actors.graphs.mermaid import draw
from actors.graphs.node import Input, Kind, NodeSpec
from actors.graphs.options import node_supervision
from actors.graphs.plan import Plan
from actors.graphs.toolboxes import Toolbox
from actors.graphs.tools import ToolSpec
from actors.supervision import Supervision
from actors.words import counted, type_names

_KINDS = {
    Kind.FUNCTION: "async function",
    Kind.THREAD: "function in a worker thread",
    Kind.PREDICT: "language model",
    Kind.HUMAN: "person",
    Kind.GRAPH: "graph",
    Kind.ACTOR: "actor",
}


def describe(
    plan: Plan, problems: Sequence[Problem], supervision: Supervision | None, finish: Finish = Finish.FIRST_OUTPUT
) -> str:
    """The page, ending with a newline."""
    sections = [
        _title(plan, finish),
        ["```mermaid", draw(plan), "```"],
        _problems(problems),
        _nodes(plan),
        _prompts(plan),
        _questions(plan),
        _tools(plan),
        _dependencies(plan),
        _recalled(plan),
        _types(plan),
        _limits(plan, supervision),
    ]
    return "\n\n".join("\n".join(lines) for lines in map(list, sections) if lines) + "\n"


def _title(plan: Plan, finish: Finish) -> Iterator[str]:
    loops = "" if not plan.components else f" It has {len(plan.components)} cycle{'s' if len(plan.components) > 1 else ''}."
    quiet = " A run ends when all of its branches have." if finish is Finish.WHEN_QUIET else ""
    yield f"# {plan.name}"
    yield ""
    nodes = counted(len(plan.nodes), "node")
    yield f"From `{type_names(plan.input_types)}` to `{type_names(plan.output_types)}` in {nodes}.{loops}{quiet}"


def _problems(problems: Sequence[Problem]) -> Iterator[str]:
    if problems:
        yield "## Problems"
        yield ""
        yield from (f"- {str(problem).replace(chr(10), ' ')}" for problem in problems)


def _nodes(plan: Plan) -> Iterator[str]:
    yield "## Nodes"
    yield ""
    yield "| node | kind | takes | makes | concurrency | attempts | time limits | where |"
    yield "|---|---|---|---|---|---|---|---|"
    for spec in plan.nodes.values():
        options = spec.options
        limits = [
            f"{seconds:g} s{label}" for seconds, label in ((options.timeout_s, ""), (options.idle_timeout_s, " idle")) if seconds
        ]
        cells = (
            f"`{spec.name}`",
            _kind(spec),
            " and ".join(_taken(entry, _is_named(plan, spec, entry)) for entry in spec.inputs),
            _made(spec),
            f"{options.concurrency}{' asks' if spec.kind is Kind.ACTOR else ''}",
            _attempts(spec),
            ", ".join(limits) or "none",
            _place(spec.location),
        )
        yield f"| {' | '.join(cells)} |"


def _kind(spec: NodeSpec) -> str:
    kind = _KINDS[spec.kind]
    if spec.message is not None:
        kind = f"message class, {kind}"
    if spec.is_on_demand:
        kind = f"{kind}, on demand"
    details: list[str] = []
    if spec.predict is not None:
        module = spec.predict.module
        details.append(f"`{module if isinstance(module, str) else getattr(module, '__name__', type(module).__name__)}`")
    if spec.human is not None and spec.human.to is not None:
        details.append(f"to {spec.human.to!r}")
    if isinstance(spec.options.lm, str):
        details.append(f"`lm={spec.options.lm!r}`")
    if spec.predict is not None and spec.predict.stream:
        details.append("streamed")
    return f"{kind} ({', '.join(details)})" if details else kind


def _attempts(spec: NodeSpec) -> str:
    is_once = spec.options.effect is Effect.ONCE
    attempts = "at most once" if is_once else str(spec.options.redelivery.max_attempts)
    if spec.fallback is None:
        return attempts
    whose = "the graph's " if spec.fallback.is_default else ""
    return f"{attempts}, then {whose}`{spec.fallback.function.__name__}`"


def _is_named(plan: Plan, spec: NodeSpec, entry: Input) -> bool:
    """Whether connections distinguish the parameter from others of its type, so its name matters."""
    return any(edge.named for edge in plan.into(spec.name, entry.name))


def _taken(entry: Input, is_named: bool) -> str:
    kinds = " or ".join(kind.__name__ for kind in entry.types)
    own = f"{entry.name}: " if is_named else ""
    if entry.gather is not None:
        first = f", the first {entry.gather.first}" if entry.gather.first is not None else ""
        if entry.gather.reduce is not None:
            first += f", folded by `{entry.gather.reduce.__name__}`"
        return f"`{own}list[{kinds}]`{first}"
    return f"`{own}{kinds}`{' (optional)' if entry.optional else ''}"


def _made(spec: NodeSpec) -> str:
    kinds = [*(kind.__name__ for kind in spec.outputs), *(["None"] if spec.may_end or spec.item_may_end else [])]
    shown = " or ".join(kinds) or "nothing"
    return (
        f"many `{shown}`, one by one{', the same at each attempt' if spec.options.repeatable else ''}"
        if spec.fan_out is Many.STREAM
        else f"many `{shown}`"
        if spec.fan_out is Many.LIST
        else f"`{shown}`"
    )


def _place(location: str) -> str:
    path, _, line = location.rpartition(":")
    return f"{PurePath(path).name}:{line}"


def _prompts(plan: Plan) -> Iterator[str]:
    filled = [spec for spec in plan.nodes.values() if spec.kind is Kind.PREDICT]
    if filled:
        yield "## Prompts"
    for spec in filled:
        yield ""
        choice = " It chooses the type first." if len(spec.outputs) > 1 or spec.may_end else ""
        yield f"`{spec.name}`, up to {spec.predict.parse_attempts if spec.predict else 1} answers until one can be read.{choice}"
        yield ""
        yield from (
            f"> {line}".rstrip() for line in (spec.instruction or "(no instruction: the names of the types say it)").splitlines()
        )


def _questions(plan: Plan) -> Iterator[str]:
    asked = [spec for spec in plan.nodes.values() if spec.kind is Kind.HUMAN]
    if asked:
        yield "## Questions"
    for spec in asked:
        yield ""
        yield f"`{spec.name}`, answered with {type_names(spec.outputs)}{' or None' if spec.may_end else ''}."
        yield ""
        yield from (f"> {line}".rstrip() for line in (spec.instruction or "(no question)").splitlines())


def _tools(plan: Plan) -> Iterator[str]:
    equipped = [spec for spec in plan.nodes.values() if spec.predict is not None and spec.has_tools]
    coded = [(spec, box) for spec in plan.nodes.values() for box in spec.given.values()]
    if equipped or coded:
        yield "## Tools"
    for spec, box in coded:
        yield ""
        yield f"The code of `{spec.name}` calls what `{box.name}` offers: {_patterns(box)}."
    for spec in equipped:
        assert spec.predict is not None, "chosen so"
        yield ""
        failing = "the model is told" if spec.predict.on_tool_error == "tell" else "the node fails"
        yield f"`{spec.name}` calls them in up to {counted(spec.predict.max_rounds, 'round')}; of a call that fails, {failing}:"
        yield ""
        for tool in spec.tools:
            first = tool.description.partition("\n")[0]
            limit = f", {tool.tool.timeout_s:g} s" if tool.tool.timeout_s is not None else ""
            approved = ", after a person has agreed" if tool.tool.approve is not False else ""
            fields = ", ".join(_arguments(tool))
            yield f"- `{tool.name}({fields})` ({_place(tool.tool.place)}{limit}{approved}){f': {first}' if first else ''}"
        for box in spec.toolboxes:
            yield f"- what `{box.name}` offers: {_patterns(box)}"


def _patterns(box: Toolbox) -> str:
    agreed = f"; a person has to agree to {', '.join(f'`{pattern}`' for pattern in box.approve)}" if box.approve else ""
    return f"{', '.join(f'`{pattern}`' for pattern in box.allow)}{agreed}"


def _arguments(tool: ToolSpec) -> Iterator[str]:
    if tool.arguments is None:
        yield from (tool.schema or {}).get("properties", {})
    else:
        yield from (f"{name}: {kind}" for name, kind in _fields(tool.arguments))


def _dependencies(plan: Plan) -> Iterator[str]:
    users: dict[str, dict[str, None]] = {}
    for spec in plan.nodes.values():
        for need in spec.all_needs:
            needs = [*(f"`{each.name}`" for each in need.needs.values()), *(f"`{type_names(k)}`" for k in need.inputs.values())]
            said = f"`{need.name}` ({need.supply.value}, {_place(need.location)})"
            said += f" needs {', '.join(needs)}" if needs else ""
            users.setdefault(said, {})[f"`{spec.name}`"] = None
    if users:
        yield "## Dependencies, each called once per run"
        yield ""
        yield from (f"- {said}; for {', '.join(names)}" for said, names in users.items())


def _recalled(plan: Plan) -> Iterator[str]:
    lines = [
        f"- `{spec.name}` gets the latest `{type_names(each.types)}`{', or None' if each.optional else ''}"
        for spec in plan.nodes.values()
        for each in spec.recalls
    ]
    if lines:
        yield "## Recalled on the way"
        yield ""
        yield from lines


def _types(plan: Plan) -> Iterator[str]:
    kinds = dict.fromkeys([*plan.input_types, *(k for s in plan.nodes.values() for e in s.inputs for k in e.types)])
    kinds.update(dict.fromkeys([*(k for s in plan.nodes.values() for k in s.outputs), *plan.output_types]))
    yield "## Types"
    yield ""
    for kind in kinds:
        first = description_of(kind).partition("\n")[0]
        fields = ", ".join(f"`{name}: {shown}`" for name, shown in _fields(kind))
        yield f"- `{kind.__name__}`{f' — {first}' if first else ''}: {fields or 'no fields'}"


def _fields(kind: type) -> Iterator[tuple[str, str]]:
    hints: dict[str, Any] = {}
    for base in reversed(kind.__mro__):
        hints.update(inspect.get_annotations(base))
    names: list[str] = list(getattr(kind, "model_fields", ()))
    if attrs.has(kind):
        names = [field.name for field in attrs.fields(kind)]
    elif dataclasses.is_dataclass(kind):
        names = [field.name for field in dataclasses.fields(kind)]
    for name in names:
        hint = hints.get(name, "Any")
        yield name, hint if isinstance(hint, str) else shown(hint)


def _limits(plan: Plan, supervision: Supervision | None) -> Iterator[str]:
    yield "## Supervision and limits"
    yield ""
    yield "- A node that crashes is restarted immediately and without a budget: the attempts of its messages are the bound."
    if supervision is not None:
        supervision = node_supervision(supervision)
        budget = "any number of" if supervision.max_restarts == math.inf else f"up to {supervision.max_restarts:g}"
        yield (
            f"- Actors that are nodes: {supervision.strategy.name}, {budget} restarts within {supervision.within_s:g} s, "
            f"then {supervision.exhausted.name}."
        )
    default = next(
        (spec.fallback for spec in plan.nodes.values() if spec.fallback is not None and spec.fallback.is_default), None
    )
    if default is not None:
        ends = ", and None ends the branch" if default.may_end else ""
        yield (
            "- A message that has had all its attempts at a node without its own fallback goes to the graph's, "
            f"`{default.function.__name__}`: what it returns is the output of the run{ends}."
        )
    sizes: dict[str, list[str]] = {}
    for spec in plan.nodes.values():
        box = spec.options.mailbox
        sizes.setdefault(f"{box.capacity:g} messages, {box.overflow.name} when full", []).append(f"`{spec.name}`")
    for size, names in sizes.items():
        yield f"- Mailbox of {', '.join(names)}: {size}."
    if plan.components:
        cycles = "; ".join(
            ", ".join(f"`{name}`" for name in sorted(group, key=plan.order.__getitem__)) for group in plan.components
        )
        yield f"- Messages within a cycle queue regardless of the capacity, and `max_steps` bounds a run: {cycles}."
