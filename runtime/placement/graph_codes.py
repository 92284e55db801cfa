"""A graph that is run from a host: what it is called, where it stands in its module, and how its messages travel.

Both sides make this of their own graph, and compare: neither takes the name of a type from the other.
"""

from __future__ import annotations

import sys
import weakref
from typing import Any, Final, final

from actors.graphs.graph import Graph
from actors.message_errors import MessageInvalid
from actors.placement_errors import NotPortable
from actors.store_errors import NotStorable, RecordTooLarge
from runtime.graphs.adopting import codec_of
from runtime.journal.fingerprint import fingerprint
from runtime.messages.references import Addresses, with_addresses
from runtime.placement.call_payloads import not_portable, too_large

_CODES: Final[weakref.WeakKeyDictionary[Graph, GraphCode]] = weakref.WeakKeyDictionary()


def code_of(graph: Graph) -> GraphCode:
    """That of `graph`, made once unless nodes were added since.

    Raises:
        GraphInvalid: the graph has problems.
    """
    plan = graph.plan()
    code = _CODES.get(graph)
    if code is None or code.plan is not plan:
        code = _CODES[graph] = GraphCode(graph)
    return code


@final
class GraphCode:
    """How one graph and its messages are told."""

    def __init__(self, graph: Graph) -> None:
        self.plan = graph.plan()
        self.name = graph.name
        self.digest = fingerprint(self.plan).hex()
        self.home = _home_of(graph)
        """``module:name`` under which a module has it; empty if none does."""
        self._codec = codec_of(self.plan)

    def written(self, message: object, addresses: Addresses) -> bytes:
        """A message of the graph as bytes.

        Raises:
            NotPortable: no JSON gives an equal value. MessageTooLarge: it has too many bytes.
        """
        what = f"a message of graph {self.name!r}"
        try:
            with with_addresses(addresses):
                return self._codec.encode(message)
        except NotStorable as error:
            raise not_portable(error, what) from error
        except RecordTooLarge as error:
            raise too_large(error) from error

    def read(self, data: bytes, addresses: Addresses) -> Any:
        """What :meth:`written` made `data` of."""
        try:
            with with_addresses(addresses):
                return self._codec.decode(data)
        except MessageInvalid as error:
            raise NotPortable(
                f"a message of graph {self.name!r} cannot be read here: {error.problems[0]}.\n"
                "  Fix: install the same version of your code where the runtime and its hosts run."
            ) from error


def _home_of(graph: Graph) -> str:
    """The module of one of its nodes, or of its messages, has it under some name."""
    functions = (declaration.function for declaration in graph.nodes.values())
    modules = [each.__module__ for each in (*functions, *graph.input_types, *graph.output_types)]
    for module in dict.fromkeys(modules):
        for name, value in list(vars(sys.modules.get(module, weakref)).items()):
            if value is graph:
                return f"{module}:{name}"
    return ""
