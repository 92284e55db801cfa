"""Trained predictors at work: loaded from a folder, held against the nodes' signatures, picked when a node runs, and counted."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, final

import attrs

from actors.errors import DeclarationError
from actors.graphs.node import Kind, NodeSpec
from runtime.lm.dspy.import_dspy import library
from runtime.lm.dspy.trained import Trained
from runtime.lm.predictors.files import Signature, StoredNode, StoredPredictor, read_folder
from runtime.lm.predictors.signatures import CHOICE, Kinds, NodeSignature, module_of_node, purpose_of, shown_kinds, signatures_of
from runtime.messages import schemas

DEMO_MARK = "augmented"
"""What DSPy adds to a demonstration that a run made, and not a row of the training set."""


@final
@attrs.frozen
class PredictorCounts:
    """How often one node picked a predictor."""

    optimized: int = 0
    """A trained one."""
    naive: int = 0
    """None, because there is none for what the node was given and filled."""


@final
@attrs.frozen
class PredictorStatistics:
    """How the predict nodes of a runtime's graphs have been run so far."""

    nodes: Mapping[str, PredictorCounts]
    """By ``graph/node``; one is counted each time that a node begins to fill a type, however many answers that takes."""
    unknown_files: tuple[str, ...] = ()
    """Files in the folder that belong to no node of the graphs deployed so far."""

    @property
    def optimized(self) -> int:
        """The sum for all nodes."""
        return sum(counts.optimized for counts in self.nodes.values())

    @property
    def naive(self) -> int:
        """The sum for all nodes."""
        return sum(counts.naive for counts in self.nodes.values())


@final
class NodePredictors:
    """The trained predictors of one node, and the counts."""

    def __init__(self, spec: NodeSpec, trained: Mapping[tuple[Kinds, str], Trained]) -> None:
        self._spec = spec
        self._trained = trained
        self.optimized = 0
        self.naive = 0

    def for_choice(self, inputs: Mapping[str, object]) -> Trained | None:
        """What is to choose among the node's return types; not counted."""
        return self._trained.get((shown_kinds(inputs), CHOICE)) if self._trained else None

    def for_filling(self, inputs: Mapping[str, object], output: type) -> Trained | None:
        """What is to fill `output`; counted."""
        found = self._trained.get((shown_kinds(inputs), purpose_of(self._spec, output))) if self._trained else None
        if found is None:
            self.naive += 1
        else:
            self.optimized += 1
        return found


@final
class Predictors:
    """The predictors of one runtime.

    Args:
        folder: what ``understudy compile`` wrote; None: there are none, and every pick is a naive one.

    Raises:
        DeclarationError: there is no such folder, or a file in it isn't a predictor.
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        self.folder = folder
        self._stored: dict[tuple[str, str], StoredNode] = {}
        self._strange: list[Path] = []
        self._nodes: dict[tuple[str, str], NodePredictors] = {}
        self._graphs: dict[str, None] = {}
        if folder is not None:
            nodes, self._strange = read_folder(folder)
            self._stored = {(node.graph, node.node): node for node in nodes}

    def of_graph(self, graph: str, specs: Iterable[NodeSpec]) -> dict[str, NodePredictors]:
        """The predictors of a graph's predict nodes, by node; dspy must be loaded if there are any.

        A file of a node that the graph does not have is warned of.

        Raises:
            DeclarationError: one does not fit its node's signature any more; it names all of those, and what has changed.
        """
        problems: list[str] = []
        made: dict[str, NodePredictors] = {}
        for spec in specs:
            if spec.kind is not Kind.PREDICT:
                continue
            stored = self._stored.get((graph, spec.name))
            trained = {} if stored is None else _fitted(spec, stored, problems)
            known = self._nodes.get((graph, spec.name))
            made[spec.name] = NodePredictors(spec, trained)
            if known is not None:
                made[spec.name].optimized, made[spec.name].naive = known.optimized, known.naive
        if problems:
            raise DeclarationError(
                "\n".join([f"the predictors of graph {graph!r} do not fit its nodes.", *problems])
                + "\n  Fix: compile them again with `understudy compile`, or delete the files."
            )
        self._graphs[graph] = None
        self._nodes.update({(graph, name): node for name, node in made.items()})
        unknown = [str(stored.path) for (owner, name), stored in self._stored.items() if owner == graph and name not in made]
        if unknown:
            warnings.warn(
                f"no predict node of graph {graph!r} has a name that fits {', '.join(unknown)}; not used.",
                RuntimeWarning,
                stacklevel=2,
            )
        return made

    def statistics(self) -> PredictorStatistics:
        """One look at the counts."""
        counts = {f"{graph}/{name}": PredictorCounts(node.optimized, node.naive) for (graph, name), node in self._nodes.items()}
        unknown = [stored.path for key, stored in self._stored.items() if key[0] in self._graphs and key not in self._nodes]
        return PredictorStatistics(counts, tuple(sorted(map(str, [*self._strange, *unknown]))))


def _fitted(spec: NodeSpec, stored: StoredNode, problems: list[str]) -> dict[tuple[Kinds, str], Trained]:
    signatures = signatures_of(spec)
    by_fingerprint = {(each.purpose, each.described.fingerprint): each for each in signatures}
    made: dict[tuple[Kinds, str], Trained] = {}
    for predictor in stored.predictors:
        signature = by_fingerprint.get((predictor.purpose, predictor.signature.fingerprint))
        if signature is None:
            problems.append(f"  node {spec.name!r} ({spec.location}), {stored.path}: {_changed(predictor, signatures)}")
            continue
        wrong = _misfit(spec, signature, predictor.trained)
        if wrong is None:
            made[signature.key] = predictor.trained
        else:
            problems.append(f"  node {spec.name!r} ({spec.location}), {stored.path}: {predictor.purpose}: {wrong}")
    return made


def _changed(predictor: StoredPredictor, signatures: Sequence[NodeSignature]) -> str:
    """What is not any more as it was when `predictor` was trained."""
    alike = [each.described for each in signatures if each.purpose == predictor.purpose]
    if not alike:
        purposes = ", ".join(dict.fromkeys(each.purpose for each in signatures)) or "nothing"
        return f"it was trained for {predictor.purpose}; the node fills {purposes}"
    was = predictor.signature
    now = min(alike, key=lambda each: len(_differences(was, each)))
    told = _differences(was, now) or ["its fingerprint is not that of its signature"]
    return f"{predictor.purpose}: {'; '.join(told)}"


def _differences(was: Signature, now: Signature) -> list[str]:
    told: list[str] = []
    for name in ("module", "instruction", "output"):
        before, after = getattr(was, name), getattr(now, name)
        if before != after:
            told.append(f"{name} was {schemas.shorten(before)} and is {schemas.shorten(after)}")
    for name in dict.fromkeys([*was.inputs, *now.inputs]):
        before, after = was.inputs.get(name, "missing"), now.inputs.get(name, "missing")
        if before != after:
            told.append(f"input {name!r} was {schemas.shorten(before)} and is {schemas.shorten(after)}")
    return told


def _misfit(spec: NodeSpec, signature: NodeSignature, trained: Trained) -> str | None:
    """Why `trained` cannot be given to the node's module; None when it can."""
    module = module_of_node(spec, signature)
    try:
        trained.given_to(module, library().Example)
    except DeclarationError as error:
        return str(error).partition("\n")[0]
    for name, step in module.named_predictors():
        fields: Mapping[str, Any] = step.signature.fields
        for at, demo in enumerate(trained.steps[name].demos):
            for key, value in demo.items():
                wrong = _wrong_value(fields, key, value)
                if wrong is not None:
                    return f"step {name!r}, demonstration {at}, {key!r}: {wrong}"
    return None


def _wrong_value(fields: Mapping[str, Any], key: str, value: object) -> str | None:
    if key == DEMO_MARK:
        return None if isinstance(value, bool) else f"got {schemas.shorten(value)}, expected true or false"
    if key not in fields:
        return f"no such field; the step has {', '.join(fields)}"
    return schemas.misfit(fields[key].annotation, value)
