"""The language models that the command line names: made, and looked at before anything runs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from actors.errors import DeclarationError, LMAuthFailed
from actors.graphs.graph import Graph
from actors.graphs.node import Kind, NodeSpec
from runtime.cli.terminal import one_line
from runtime.cli.wrong_usage import WrongUsage
from runtime.lm.client import LMClient


def make_client(model: str, api_base: str | None = None) -> LMClient:
    """A client for `model`.

    Raises:
        WrongUsage: the name or the address is wrong.
    """
    try:
        return LMClient(model, api_base=api_base)
    except DeclarationError as error:
        raise WrongUsage(_for_a_command_line(error)) from error


def make_clients(
    graphs: Iterable[Graph], default: str | None, named: Mapping[str, str], api_base: str | None
) -> tuple[LMClient | None, dict[str, LMClient]]:
    """The clients of the models that the nodes of `graphs` need: the default one, and those by name.

    Raises:
        WrongUsage: as :func:`choose_models` and :func:`make_client`.
    """
    nodes = [spec for graph in graphs for spec in graph.plan().nodes.values()]
    chosen, models = choose_models(nodes, default, named)
    clients = {name: make_client(model, api_base) for name, model in models.items()}
    return None if chosen is None else make_client(chosen, api_base), clients


async def check_clients(clients: Iterable[LMClient]) -> None:
    """Find out, before a run begins, whether each provider is known and has its key.

    Raises:
        WrongUsage: one is not, or has none.
    """
    for client in {client.model: client for client in clients}.values():
        try:
            async with client:
                pass
        except (DeclarationError, LMAuthFailed) as error:
            raise WrongUsage(_for_a_command_line(error)) from error


def choose_models(nodes: Iterable[NodeSpec], default: str | None, named: Mapping[str, str]) -> tuple[str | None, dict[str, str]]:
    """The default model and the models by name that `nodes` need; a name that is not in `named` gets the default.

    Raises:
        WrongUsage: a node needs one that was not given, or one was given that no node asks for.
    """
    wants = [(spec, spec.options.lm) for spec in _with_nested(nodes) if spec.wants_lm]
    asked = dict.fromkeys(lm for _, lm in wants if isinstance(lm, str))
    unknown = [name for name in named if name not in asked]
    if unknown:
        names = ", ".join(map(repr, asked)) or "none"
        raise WrongUsage(f"--lm {unknown[0]}=…: no node asks for a language model of that name; asked for: {names}")
    for spec, lm in wants:
        if lm is None and default is None:
            raise WrongUsage(f"node {spec.name!r} needs a language model: give --model, such as --model openai/gpt-4o-mini")
        if isinstance(lm, str) and lm not in named and default is None:
            raise WrongUsage(f"node {spec.name!r} asks for the language model {lm!r}: give --lm {lm}=MODEL, or --model for all")
    return default, {name: named.get(name) or default or "" for name in asked}


def _for_a_command_line(error: Exception) -> str:
    """What is wrong with a model, without the words for programs that make an ``LMClient`` themselves."""
    text = one_line(str(error)).replace("LMClient(api_base=…)", "--api-base")
    text = re.sub(r"^LMClient\((.*?)\): ", r"model \1: ", text)
    text = re.sub(r", or pass LMClient\(.*?\)", "", text)
    return text.replace("; the key goes into api_key", "").replace(" with api_base", " with --api-base")


def _with_nested(nodes: Iterable[NodeSpec]) -> Iterator[NodeSpec]:
    """Also the nodes of graphs that are nodes."""
    for spec in nodes:
        yield spec
        if spec.kind is Kind.GRAPH:
            yield from _with_nested(spec.embedded.sketch().nodes.values())
