"""How a host finds the code of a node: by importing the module that the runtime names, and reading the function there."""

from __future__ import annotations

import importlib
import types
from typing import Any

from actors.errors import UsageError
from actors.graphs.annotations import NameLookup
from actors.graphs.dependencies import ORIGINAL
from actors.graphs.node import NodeDeclaration, NodeSpec
from actors.graphs.options import NodeOptions
from actors.graphs.signature import resolve


def imported_node(name: str, node: str) -> NodeSpec:
    """The node `node`, whose function, or class with ``__call__``, is called ``module:name``.

    Raises:
        ImportError: there is no such module. UsageError: nothing in it can be that node.
    """
    module, _, path = name.partition(":")
    found: Any = importlib.import_module(module)
    for part in path.split("."):
        found = getattr(found, part, None)
    found = getattr(found, ORIGINAL, found)
    message = found if isinstance(found, type) else None
    function: Any = getattr(found, "__call__", None) if message is not None else found  # noqa: B004 - of the class itself
    if not isinstance(function, types.FunctionType):
        raise UsageError(
            f"node {node!r} is {name} where the runtime runs, and here that isn't a function or a class with __call__.\n"
            "  Fix: install the same version of your code where the runtime and its hosts run."
        )
    declaration = NodeDeclaration(node, function, NodeOptions(), None, NameLookup(function.__globals__), message)
    resolved = resolve(declaration, {})
    if resolved.problems:
        raise UsageError(f"node {node!r} ({name}) cannot be read here: {resolved.problems[0]}")
    return resolved.spec
