"""The prompts of a graph's predict nodes as the language model gets them, for ``understudy graph describe``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from actors.errors import DeclarationError
from actors.graphs.node import Kind, NodeSpec
from actors.graphs.plan import Plan
from runtime.lm.dspy.import_dspy import library
from runtime.lm.predictors.signatures import module_of_node, signatures_of
from runtime.lm.tools.notation import TextNotation
from runtime.lm.tools.tool_schemas import schema_of


def prompts_page(plan: Plan) -> str:
    """A section of Markdown, with a placeholder in braces for each value of an input; empty when no node asks a model."""
    filled = [spec for spec in plan.nodes.values() if spec.kind is Kind.PREDICT]
    lines = [line for spec in filled for line in _of_node(spec)]
    return "\n".join(["## What the language model is told", *lines]) + "\n" if lines else ""


def _of_node(spec: NodeSpec) -> Iterator[str]:
    try:
        for signature in signatures_of(spec):
            module = module_of_node(spec, signature)
            for name, step in module.named_predictors():
                yield from ("", f"### `{spec.name}`: `{signature.purpose}`, step `{name}`")
                for message in _messages(step.signature):
                    yield from ("", *_shown(f"{message['role']}:", str(message["content"])))
        if spec.has_tools:
            yield from _tools(spec)
    except DeclarationError as error:  # the check says it, too
        yield from ("", f"### `{spec.name}`", "", str(error))


def _tools(spec: NodeSpec) -> Iterator[str]:
    """What goes with each of the prompts: in the request, or as text to models that cannot call tools."""
    schemas = [schema_of(tool) for tool in spec.tools]
    described = [json.dumps(schema.as_openai(), ensure_ascii=False) for schema in schemas]
    messages, _ = TextNotation().asked([], schemas, {})
    yield from ("", f"### `{spec.name}`: tools, with each of its prompts")
    for box in spec.toolboxes:
        yield from ("", f"Also what `{box.name}` offers when it is asked: {', '.join(f'`{pattern}`' for pattern in box.allow)}.")
    yield from ("", *_shown("tools of the request, one in a line:", "\n".join(described), "json"))
    for message in messages:
        heading = f"{message['role']}, before the prompt's own, for a model that cannot call tools; and no tools in the request:"
        yield from ("", *_shown(heading, str(message["content"])))


def _shown(heading: str, text: str, language: str = "text") -> Iterator[str]:
    yield from (heading, "", f"~~~{language}", *text.splitlines(), "~~~")


def _messages(signature: Any) -> list[Any]:
    dspy = library()
    inputs = {name: f"{{{name}}}" for name in signature.input_fields}
    messages: list[Any] = (dspy.settings.adapter or dspy.ChatAdapter()).format(signature, [], inputs)
    return messages
