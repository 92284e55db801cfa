"""What would have become of a run, had a step made something else: only what depends on that step runs again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, final

import attrs

from actors.errors import DeclarationError, UsageError
from actors.graphs.graph import Graph
from actors.graphs.node import Kind, NodeSpec
from actors.lm import LM
from actors.words import repr_of
from runtime.graphs.records.history import History
from runtime.graphs.records.journaling import FRAME_END
from runtime.graphs.records.recorded_answers import spend_of
from runtime.graphs.records.rehearsing import Known
from runtime.graphs.records.resuming import check
from runtime.graphs.records.run_events import NodeStarted
from runtime.graphs.records.run_record import Spend
from runtime.journal.records import RecordKind

_MOST_LISTED: Final = 20


@final
@attrs.frozen
class WhatIf:
    """What would have become of a run."""

    output: Any
    """None if it ends with an error."""
    error: BaseException | None
    ran: tuple[str, ...]
    """The paths of the steps that have run, in the order in which they began; everything else came out of the record."""
    spend: Spend
    """What these have used of language models."""
    history: History = attrs.field(repr=False)
    """All that is recorded of it, what was kept included: a case, in its turn."""


@final
@attrs.frozen
class Prompt:
    """Another instruction for a predict node, in ``Runtime.what_if(case, replace={"node": Prompt("…")})``."""

    text: str


@final
class Supposing:
    """What is supposed of nodes, and of single steps by their paths; a ``Rehearsal``.

    Args:
        paths: of the recorded steps that it is about.
        answers: what these make, without running. An exception is what they fail with.
        models: what these ask instead.
        prompts: what these are told instead.
    """

    kinds = (NodeStarted,)
    """As an instrument, it hears which steps run."""

    def __init__(
        self, paths: Sequence[str], answers: Mapping[str, Any], models: Mapping[str, str | LM], prompts: Mapping[str, str]
    ) -> None:
        self.paths = paths
        """Of the recorded steps that it is about."""
        self.wanted = {f"{name} instead": model for name, model in models.items()}
        """The models that the runtime needs besides, by the names that it is to give them."""
        self.ran: dict[str, None] = {}
        """The paths of the steps that have run, in the order in which they began."""
        self._answers = answers
        self._replaced = tuple(models)
        self._models: dict[str, LM] = {}
        self._prompts = prompts

    def choose(self, models: Mapping[str, LM]) -> None:
        """Take the models that it wanted out of those of the runtime."""
        self._models = {name: models[f"{name} instead"] for name in self._replaced}

    def __call__(self, event: Any) -> None:
        """A step runs."""
        if not any(name in self._answers for name in (event.path, event.node)):
            self.ran[event.path] = None

    def call(self, place: str, digest: str) -> Known | None:
        """See ``Rehearsal.call``."""
        return None

    async def once(self, place: str) -> bytes | None:
        """See ``Rehearsal.once``."""
        return None

    async def attempt(self, place: str, number: int, spec: NodeSpec, perform: Callable[[], Awaitable[Any]]) -> Any:
        """See ``Rehearsal.attempt``."""
        for name in (_path_of(place), spec.name):
            if name in self._answers:
                answer = self._answers[name]
                if isinstance(answer, Exception):
                    raise answer
                return answer
        return await perform()

    async def emitted(self, place: str, index: int) -> None:
        """See ``Rehearsal.emitted``."""

    def lm(self, place: str, spec: NodeSpec) -> LM | None:
        """See ``Rehearsal.lm``."""
        return self._models.get(_path_of(place), self._models.get(spec.name))

    def instruction(self, place: str, spec: NodeSpec) -> str:
        """See ``Rehearsal.instruction``."""
        return self._prompts.get(_path_of(place), self._prompts.get(spec.name, spec.instruction))


def supposed_of(case: History, graph: Graph[Any, Any], replace: Mapping[str, Any], models: Mapping[str, LM]) -> Supposing:
    """What `replace` says of steps of `case`; `models` are the runtime's named ones. See ``Runtime.what_if``.

    Raises:
        UsageError: there is no such step. DeclarationError: what is given cannot be meant. StoreDamaged: `case` isn't whole.
    """
    check(case.run.id, case.records, case.run.last_seq)
    return Supposing(_steps_named(case, replace), *_sorted_out(graph, replace, models))


def _steps_named(case: History, names: Mapping[str, Any]) -> list[str]:
    """The paths of the recorded steps that are called `names`, or are of nodes that are.

    Raises:
        UsageError: a name is neither a step nor the node of one.
    """
    steps = {_path_of(step.path): step.node for step in case.steps}
    found: dict[str, None] = {}
    for name in names:
        those = [path for path, node in steps.items() if name in (path, node.partition("@")[0])]
        if not those:
            known = ", ".join([*dict.fromkeys(node.partition("@")[0] for node in steps.values()), *steps][:_MOST_LISTED])
            raise UsageError(
                f"what_if(replace={{{name!r}: …}}): the case has no such step, and none of such a node. It has: {known}.\n"
                "  Fix: name a node, or a step by its path, as handle.trace and the history have it."
            )
        found.update(dict.fromkeys(those))
    return list(found)


def _sorted_out(
    graph: Graph[Any, Any], replace: Mapping[str, Any], named: Mapping[str, LM]
) -> tuple[dict[str, Any], dict[str, str | LM], dict[str, str]]:
    """The answers, the models and the prompts in `replace`; `named` are the runtime's models.

    Raises:
        DeclarationError: a text is neither a model nor a prompt, or it is for a node that asks no model.
    """
    answers, models, prompts = dict[str, Any](), dict[str, str | LM](), dict[str, str]()
    for name, given in replace.items():
        if isinstance(given, Prompt):
            prompts[name] = given.text
        elif isinstance(given, str) and given in named:
            models[name] = named[given]
        elif isinstance(given, str) and "/" in given and not any(map(str.isspace, given)):
            models[name] = given
        elif isinstance(given, str) and any(map(str.isspace, given)):
            prompts[name] = given
        elif isinstance(given, str):
            raise DeclarationError(
                f"what_if(replace={{{name!r}: {given!r}}}): this is neither a model's name nor a prompt.\n"
                "  Fix: a name such as 'openai/gpt-4o', one of the runtime's lms, or Prompt('…')."
            )
        elif isinstance(given, LM) and not isinstance(given, type):
            models[name] = given
        else:
            answers[name] = given
    for name in (*models, *prompts):
        spec = _spec_of(graph, name)
        if spec is not None and (not spec.wants_lm or (name in prompts and spec.kind is not Kind.PREDICT)):
            what = "prompt" if name in prompts else "language model"
            raise DeclarationError(
                f"what_if(replace={{{name!r}: {repr_of(replace[name])}}}): node {spec.name!r} ({spec.location}) has no {what}.\n"
                "  Fix: replace what it makes: a message of its return type."
            )
    return answers, models, prompts


def spent_after_fork(history: History) -> Spend:
    """What a fork has used itself."""
    at = next((index for index, record in enumerate(history.records) if record.kind is RecordKind.FORKED), -1)
    return spend_of(history.records[at + 1 :])


def _spec_of(graph: Graph[Any, Any], name: str) -> NodeSpec | None:
    node = name.split("/")[-2].partition("@")[0] if name.count("/") > 1 else name
    left, seen = [graph], list[Graph[Any, Any]]()
    while left:
        each = left.pop()
        if each in seen:
            continue
        seen.append(each)
        nodes = each.plan().nodes
        if node in nodes:
            return nodes[node]
        left += [spec.embedded for spec in nodes.values() if spec.kind is Kind.GRAPH]
    return None


def _path_of(place: str) -> str:
    return place.rpartition(FRAME_END)[2]
