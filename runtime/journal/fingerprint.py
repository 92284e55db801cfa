"""The fingerprint of a graph: what decides where its messages go, and not bodies of nodes, prompts or language models."""

from __future__ import annotations

import json
from hashlib import blake2s
from typing import Any

from actors.graphs.markers import Gather
from actors.graphs.node import Kind, NodeSpec
from actors.graphs.plan import Plan
from actors.graphs.tools import ToolForm
from runtime.messages.fields import fields_of, message_kind
from runtime.messages.kinds import JsonForm, declared, field_types
from runtime.messages.modules import name_of
from runtime.messages.schemas import type_name


def fingerprint(plan: Plan) -> bytes:
    """Sixteen bytes that two plans share if a run of one can go on as a run of the other without a look at its records."""
    kinds: dict[str, Any] = {}

    def named(kind: type) -> str:
        name = name_of(kind)
        if name not in kinds:
            kinds[name] = None
            kinds[name] = _fields(kind)
        return name

    nodes = {
        name: {
            "kind": spec.kind.name,
            "takes": [
                [entry.name, [named(each) for each in entry.types], _gathered(entry.gather), entry.optional]
                for entry in spec.inputs
            ],
            "returns": [named(each) for each in spec.outputs],
            "many": spec.fan_out.name,
            "may_end": spec.may_end,
            "recalls": [[entry.name, [named(each) for each in entry.types]] for entry in spec.recalls],
            "inside": fingerprint(spec.embedded.plan()).hex() if spec.kind is Kind.GRAPH else None,
            "falls_back": spec.fallback is not None and spec.fallback.is_default,
            **_called(spec),
        }
        for name, spec in plan.nodes.items()
    }
    told = {
        "input": [named(kind) for kind in plan.input_types],
        "output": [named(kind) for kind in plan.output_types],
        "nodes": nodes,
        "connections": [[c.source, c.target, c.when is not None] for c in plan.connections],
        "types": kinds,
    }
    if plan.signal_types:
        told["signals"] = [named(kind) for kind in plan.signal_types]
    return blake2s(json.dumps(told, sort_keys=True, default=repr).encode(), digest_size=16).digest()


def _called(spec: NodeSpec) -> dict[str, Any]:
    """The graphs that a node calls as tools: their runs are recorded, too."""
    inside = {each.name: fingerprint(each.tool.what.plan()).hex() for each in spec.tools if each.tool.form is ToolForm.GRAPH}
    return {"calls": inside} if inside else {}


def _fields(kind: type) -> Any:
    if message_kind(kind) is None:
        return None
    form = declared(kind)
    if form.kind is JsonForm.ROOT:
        return type_name(form.parts[0])
    required = {field.name: field.required for field in fields_of(kind)}
    return [[name, type_name(annotation), required[name]] for name, annotation in field_types(form).items()]


def _gathered(gather: Gather | None) -> Any:
    return None if gather is None else [gather.first, gather.reduce is not None]
