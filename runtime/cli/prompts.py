"""The prompts of a graph's predict nodes as the language model gets them, for ``understudy graph describe``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from actors.errors import DeclarationError
from actors.graphs.node import Kind, NodeSpec
from actors.graphs.plan import Plan
from runtime.lm.dspy.library import library
from runtime.lm.predictors.signatures import module_of_node, signatures_of


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
                    yield from ("", f"{message['role']}:", "", "~~~text", *str(message["content"]).splitlines(), "~~~")
    except DeclarationError as error:  # the check says it, too
        yield from ("", f"### `{spec.name}`", "", str(error))


def _messages(signature: Any) -> list[Any]:
    dspy = library()
    inputs = {name: f"{{{name}}}" for name in signature.input_fields}
    messages: list[Any] = (dspy.settings.adapter or dspy.ChatAdapter()).format(signature, [], inputs)
    return messages
