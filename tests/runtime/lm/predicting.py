"""A graph whose nodes are optimised in tests, its training set, and a model that knows the answers."""

# mypy: disable-error-code="empty-body"

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import attrs
import dspy  # noqa: F401 - here, not in a test: an import in a thread would let the virtual clock jump

from actors import Graph
from actors.lm import ChatMessage


@attrs.frozen
class Question:
    text: str


@attrs.frozen
class Label:
    name: str


@attrs.frozen
class Refusal:
    reason: str


def labelling(name: str = "labels", *, instruction: str = "Name the label of the text.", module: Any = "Predict") -> Graph:
    """A graph of one predict node, ``label``."""
    graph = Graph(name, input=Question, output=Label)

    async def label(question: Question) -> Label:
        raise NotImplementedError

    label.__doc__ = instruction
    graph.predict(name="label", module=module)(label)
    return graph


def routing() -> Graph:
    """A graph whose node chooses between two types and nothing."""
    graph = Graph("routing", input=Question, output=Label | Refusal)

    @graph.predict
    async def route(question: Question) -> Label | Refusal | None:
        """Label the text, refuse, or do nothing."""
        ...

    return graph


def rows(count: int = 12, **more: object) -> list[dict[str, Any]]:
    """Rows of :func:`labelling`: the label of ``text 3`` is ``label 3``."""
    return [{"input": {"text": f"text {at}"}, "output": {"name": f"label {at}"}, **more} for at in range(count)]


def knowing(messages: Sequence[ChatMessage]) -> Any:
    """Answers a prompt of :func:`labelling` rightly, and prompts of optimisers with some words for each of their fields."""
    prompt = str(messages[-1]["content"])
    fields = [name for name in re.findall(r"`\[\[ ## (\w+) ## \]\]`", prompt) if name != "completed"]
    if not fields:
        return "```\nName the label, with care.\n```"
    found = re.findall(r"\[\[ ## text ## \]\]\ntext (\d+)", prompt)
    if fields[-1] == "name" and found:
        return {name: f"label {found[-1]}" if name == "name" else "by the number" for name in fields}
    return dict.fromkeys(fields, "Name the label, with care.")
