"""What nodes that a language model or a person fills must be, and what a node with code must not be: empty."""

from __future__ import annotations

import functools
import inspect
from collections import Counter

from actors.graphs.annotations import (
    Many,
    Shape,
    description_of,
)
from actors.graphs.bodies import has_no_body, is_empty
from actors.graphs.node import NodeDeclaration
from actors.graphs.parameters import Parameters, Report


def instruction_of(declaration: NodeDeclaration) -> str:
    """What the model or the person is told: the docstring of the function, or else of the class."""
    own = inspect.cleandoc(declaration.function.__doc__ or "")
    return own or (description_of(declaration.message) if declaration.message is not None else "")


def check_human(declaration: NodeDeclaration, found: Parameters, returned: Shape | None, report: Report) -> None:
    """A person fills one message, is asked in words, and nothing runs meanwhile."""
    if returned is not None and (not returned.types or returned.many is not Many.ONE):
        report(
            "human-return",
            "a person fills one message, and the return type is " + ("a list." if returned.many is not Many.ONE else "None."),
            "return a message type that holds the list as a field, and let a @graph.node fan it out."
            if returned.many is not Many.ONE
            else "name the message types to choose among; what only ends its branch asks no one.",
        )
    if not has_no_body(declaration.function):  # type: ignore[arg-type]  # mypy binds a function held in a field
        report(
            "human-body",
            "it has a body, which would never run: a person fills the return type.",
            "leave only the docstring and '...' (or 'raise NotImplementedError'), or use @graph.node and ask with run.ask(…).",
        )
    elif not instruction_of(declaration):
        where = "the class or its __call__" if declaration.message is not None else "the function"
        report("human-question", "it has no question.", f"write a docstring for {where}: it is what the person is asked.")
    for name in (*found.injected, *found.needs, *found.given):
        report(
            "human-parameter",
            f"parameter {name!r} takes no message, and nothing runs while the person is asked.",
            "take messages, or recall one: Annotated[A, Recall()]; compute the rest in the node before it.",
        )
    for name, count in _doubled(returned):
        report(
            "human-same-name",
            f"the person would choose among {count} types of the one name {name!r}.",
            f"rename one of the classes {name}.",
        )


def check_predict(declaration: NodeDeclaration, found: Parameters, returned: Shape | None, report: Report) -> None:
    """A language model fills one message, by an instruction, and with a module that can be made."""
    for name in found.given:
        report(
            "predict-tools",
            f"parameter {name!r} gets tools for code, and this node has none: the language model fills it.",
            "leave it out, and write @graph.predict(tools=[…]) with the toolbox.",
        )
    if returned is not None and (not returned.types or returned.many is not Many.ONE):
        report(
            "predict-return",
            "the language model fills one message, and the return type is "
            + ("a list." if returned.many is not Many.ONE else "None."),
            "return a message type that holds the list as a field, and let a @graph.node fan it out."
            if returned.many is not Many.ONE
            else "name the message types to choose among; what only ends its branch needs no language model.",
        )
    if not has_no_body(declaration.function):  # type: ignore[arg-type]  # mypy binds a function held in a field
        report(
            "predict-body",
            "it has a body, which would never run: the language model fills the return type.",
            "leave only the docstring and '...' (or 'raise NotImplementedError'), or use @graph.node and call the model through "
            "an LM parameter.",
        )
    module = declaration.predict.module if declaration.predict is not None else ""
    if not isinstance(module, str | type):
        got = "a functools.partial" if isinstance(module, functools.partial) else f"a {type(module).__name__}"
        report(
            "predict-module",
            f"module=… is {got}; expected the name of a DSPy module, or a dspy.Module class.",
            "derive a class whose constructor takes the signature: class Mine(dspy.ReAct): def __init__(self, signature): "
            "super().__init__(signature, tools=[…]); and pass module=Mine.",
        )
    if has_no_body(declaration.function) and not instruction_of(declaration):  # type: ignore[arg-type]
        where = "the class or its __call__" if declaration.message is not None else "the function"
        report(
            "predict-instruction",
            "it has no instruction: the language model would be told nothing but the names of the types.",
            f"write a docstring for {where} that tells the model what to do: it is the prompt.",
        )
    for name, count in _doubled(returned):
        report(
            "predict-same-name",
            f"the language model would choose among {count} types of the one name {name!r}: it answers with a name.",
            f"rename one of the classes {name}.",
        )


def check_body(declaration: NodeDeclaration, returned: Shape, report: Report) -> None:
    """Nothing under ``@graph.node`` is sent to a language model, so an empty body there returns None."""
    if declaration.embedded is not None or returned.optional or returned.many is Many.STREAM:
        return
    if not is_empty(declaration.function):  # type: ignore[arg-type]  # mypy binds a function held in a field
        return
    decorated = "class" if declaration.message is not None else "function"
    kinds = " | ".join(kind.__name__ for kind in returned.types)
    shown = f"list[{kinds}]" if returned.many is Many.LIST else kinds
    report(
        "empty-body",
        "its body is empty ('...', 'pass' and 'return None' are the same to Python), so it would return None, and it declares "
        f"{shown}.",
        f"write the body; or put @graph.predict above the {decorated}, and a language model fills {shown}."
        if returned.many is Many.ONE
        else "write the body.",
    )


def _doubled(returned: Shape | None) -> list[tuple[str, int]]:
    names = Counter(kind.__name__ for kind in (returned.types if returned is not None else ()))
    return [(name, count) for name, count in names.items() if count > 1]
