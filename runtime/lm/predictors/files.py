"""Trained predictors as JSON files, one for each node: ``FOLDER/GRAPH/NODE.json``. Nothing in them is code.

A file may come from anywhere. It is read only up to :data:`MAX_FILE_BYTES`, has the fields named here and no others, and every
value is of the type that stands here; whether it fits a node's signature, ``runtime.lm.predictors.loaded_predictors`` finds out.
"""

from __future__ import annotations

import json
import math
import os
import re
import stat
import urllib.parse
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn, cast, final

import attrs

from actors.errors import DeclarationError
from runtime.lm.dspy.trained import Trained, TrainedStep

FORMAT = 1
MAX_FILE_BYTES = 4 * 1024 * 1024
MAX_FILES = 10_000
MAX_DEMOS = 256
"""Demonstrations of one step."""
MAX_DEPTH = 64
"""How deep the values of a demonstration may be nested."""
_HALVES = re.compile("[\ud800-\udfff]")


@final
@attrs.frozen
class Signature:
    """What a predictor was trained for, in words that are compared and shown: see ``runtime.lm.predictors.loaded_predictors``."""

    module: str
    instruction: str
    inputs: Mapping[str, str]
    output: str
    fingerprint: str


@final
@attrs.frozen
class StoredPredictor:
    """One trained module of a node: what fills one of its return types, or chooses among them."""

    purpose: str
    """The name of the type that it fills, or ``"choice"``."""
    signature: Signature
    trained: Trained


@final
@attrs.frozen
class StoredEvaluation:
    """How a node did before and after, on the same rows."""

    data: str
    """``"training set"`` or ``"test set"``."""
    metric: str
    rows: int
    before: float
    """The mean score without what was trained."""
    after: float
    difference: float
    """The mean of the differences, as shares of the metric's range."""
    interval: tuple[float, float]
    """Where that lies with probability 1 - `error`."""
    error: float
    verdict: str
    """``"better"``, ``"worse"`` or ``"undecided"``: what was trained, beside what was not."""
    cost_usd: float
    """What these runs have cost."""
    tokens: int


@final
@attrs.frozen
class StoredNode:
    """The predictors of one node."""

    graph: str
    node: str
    predictors: tuple[StoredPredictor, ...]
    evaluation: StoredEvaluation | None = None
    path: Path | None = attrs.field(default=None, eq=False)
    """Where it was read from."""


class UnreadableFile(Exception):
    """Why a file is rejected."""


def file_of(folder: Path, graph: str, node: str) -> Path:
    """Where the predictors of a node are."""
    return folder / _quoted(graph) / f"{_quoted(node)}.json"


def _quoted(name: str) -> str:
    quoted = urllib.parse.quote(name, safe=" ")
    return quoted if quoted.strip(".") else quoted.replace(".", "%2E")


def write_node(folder: Path, node: StoredNode) -> Path:
    """Write the file of a node, whole or not at all; makes the folders. Returns its path."""
    path = file_of(folder, node.graph, node.node)
    path.parent.mkdir(parents=True, exist_ok=True)
    content: dict[str, Any] = {"format": FORMAT, "graph": node.graph, "node": node.node}
    if node.evaluation is not None:
        content["evaluation"] = attrs.asdict(node.evaluation)
    content["predictors"] = [_shown(each) for each in node.predictors]
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        partial.write_text(json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def _shown(predictor: StoredPredictor) -> dict[str, Any]:
    steps = {
        name: {"instructions": step.instructions, "demos": [dict(demo) for demo in step.demos]}
        for name, step in predictor.trained.steps.items()
    }
    return {"for": predictor.purpose, "signature": attrs.asdict(predictor.signature), "steps": steps}


def read_folder(folder: str | Path) -> tuple[list[StoredNode], list[Path]]:
    """The nodes in `folder`, in the order of their paths, and the files in it that belong to no predictor by their place or name.

    Raises:
        DeclarationError: there is no such folder, or a file is not what :func:`write_node` writes; it names all of those.
    """
    root = Path(folder)
    if not root.is_dir():
        why = "it isn't a folder" if root.exists() else "there is no such folder"
        raise DeclarationError(f"predictors={str(folder)!r}: {why}.\n  Fix: pass the folder that `understudy compile -o` wrote.")
    nodes: list[StoredNode] = []
    strange: list[Path] = []
    problems: list[str] = []
    for path in _files_in(root):
        if path.suffix != ".json" or path.parent.parent != root:
            strange.append(path)
            continue
        try:
            nodes.append(read_node(path))
        except UnreadableFile as error:
            problems.append(f"  {path}: {error}")
    if problems:
        raise DeclarationError(
            "\n".join([f"predictors={str(folder)!r}: {len(problems)} of the files cannot be used.", *problems])
            + "\n  Fix: compile them again with `understudy compile`, or delete them."
        )
    return nodes, strange


def _files_in(root: Path) -> list[Path]:
    found: list[Path] = []
    for folder, names, files in os.walk(root):
        names.sort()
        # A linked folder is not gone into: it is named among the files that belong to no predictor, and not passed over unseen.
        linked = [name for name in names if (Path(folder) / name).is_symlink()]
        found += [Path(folder) / name for name in sorted([*files, *linked])]
        if len(found) > MAX_FILES:
            raise DeclarationError(
                f"predictors={str(root)!r}: more than {MAX_FILES} files.\n"
                "  Fix: pass the folder that `understudy compile -o` wrote, with nothing else in it."
            )
    return found


def read_node(path: Path) -> StoredNode:
    """The predictors in the file `path`.

    Raises:
        Unreadable: it is not what :func:`write_node` writes.
    """
    fields = _object(_parsed(path), "the file", None)
    evaluated = fields.pop("evaluation", None)
    _object(fields, "the file", ("format", "graph", "node", "predictors"))
    if type(fields["format"]) is not int or fields["format"] != FORMAT:
        raise UnreadableFile(f"format {fields['format']!r}, expected {FORMAT}")
    graph, node = _text(fields["graph"], "graph"), _text(fields["node"], "node")
    if path.name != file_of(Path(), graph, node).name or path.parent.name != file_of(Path(), graph, node).parent.name:
        raise UnreadableFile(f"it states node {node!r} of graph {graph!r}, whose file would be elsewhere")
    predictors = tuple(_predictor(each, f"predictors[{at}]") for at, each in enumerate(_list(fields["predictors"], "predictors")))
    return StoredNode(graph, node, predictors, None if evaluated is None else _evaluation(evaluated), path)


def _parsed(path: Path) -> object:
    try:
        # Opened without waiting, or a named pipe in the folder would hold the start forever.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise UnreadableFile("it isn't a regular file")
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise UnreadableFile(f"it cannot be read: {error.strerror}") from error
    if len(content) > MAX_FILE_BYTES:
        raise UnreadableFile(f"it is larger than {MAX_FILE_BYTES} bytes")
    try:
        parsed: object = json.loads(content.decode("utf-8"), parse_constant=_no_constant, object_pairs_hook=_without_doubles)
    except (ValueError, RecursionError) as error:
        raise UnreadableFile(f"it isn't JSON: {error}") from error
    return parsed


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} isn't a JSON number")


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise ValueError("an object has the same name twice")
    return made


def _evaluation(value: object) -> StoredEvaluation:
    fields = _object(value, "evaluation", tuple(field.name for field in attrs.fields(StoredEvaluation)))
    given: dict[str, Any] = {name: _text(fields[name], f"evaluation.{name}") for name in ("data", "metric", "verdict")}
    given |= {name: int(_number(fields[name], f"evaluation.{name}")) for name in ("rows", "tokens")}
    numbers = ("before", "after", "difference", "error", "cost_usd")
    given |= {name: _number(fields[name], f"evaluation.{name}") for name in numbers}
    ends = [_number(end, "evaluation.interval") for end in _list(fields["interval"], "evaluation.interval")]
    if len(ends) != 2:
        raise UnreadableFile(f"evaluation.interval: expected two numbers, got {len(ends)}")
    return StoredEvaluation(**given, interval=(ends[0], ends[1]))


def _number(value: object, place: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise UnreadableFile(f"{place}: expected a number, got {type(value).__name__}")
    return float(value)


def _predictor(value: object, place: str) -> StoredPredictor:
    fields = _object(value, place, ("for", "signature", "steps"))
    purpose = _text(fields["for"], f"{place}.for")
    signed = _object(fields["signature"], f"{place}.signature", ("module", "instruction", "inputs", "output", "fingerprint"))
    inputs = _object(signed["inputs"], f"{place}.signature.inputs", None)
    signature = Signature(
        _text(signed["module"], f"{place}.signature.module"),
        _text(signed["instruction"], f"{place}.signature.instruction"),
        {name: _text(shape, f"{place}.signature.inputs.{name}") for name, shape in inputs.items()},
        _text(signed["output"], f"{place}.signature.output"),
        _text(signed["fingerprint"], f"{place}.signature.fingerprint"),
    )
    steps = _object(fields["steps"], f"{place}.steps", None)
    return StoredPredictor(
        purpose, signature, Trained({name: _step(each, f"{place}.steps[{name!r}]") for name, each in steps.items()})
    )


def _step(value: object, place: str) -> TrainedStep:
    fields = _object(value, place, ("instructions", "demos"))
    demos = _list(fields["demos"], f"{place}.demos")
    if len(demos) > MAX_DEMOS:
        raise UnreadableFile(f"{place}.demos: {len(demos)} demonstrations, at most {MAX_DEMOS}")
    made: list[Mapping[str, Any]] = []
    for at, demo in enumerate(demos):
        shown = _object(demo, f"{place}.demos[{at}]", None)
        if not _is_plain(shown, MAX_DEPTH):
            raise UnreadableFile(
                f"{place}.demos[{at}]: nested deeper than {MAX_DEPTH}, or a number or a text that JSON cannot carry"
            )
        made.append(shown)
    return TrainedStep(_text(fields["instructions"], f"{place}.instructions"), tuple(made))


def _is_plain(value: object, depth: int) -> bool:
    if depth < 0:
        return False
    if isinstance(value, str):
        return not _HALVES.search(value)
    if isinstance(value, dict):
        fields = cast("dict[str, object]", value)
        return all(_is_plain(name, depth) and _is_plain(item, depth - 1) for name, item in fields.items())
    if isinstance(value, list):
        return all(_is_plain(item, depth - 1) for item in cast("list[object]", value))
    return not isinstance(value, float) or math.isfinite(value)


def _object(value: object, place: str, names: tuple[str, ...] | None) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UnreadableFile(f"{place}: expected an object, got {type(value).__name__}")
    fields = cast("dict[str, Any]", value)
    if names is not None and set(fields) != set(names):
        odd = sorted(set(fields) ^ set(names))
        raise UnreadableFile(
            f"{place}: expected exactly {', '.join(names)}; {odd[0]!r} is {'missing' if odd[0] in names else 'none'}"
        )
    return fields


def _list(value: object, place: str) -> list[object]:
    if not isinstance(value, list):
        raise UnreadableFile(f"{place}: expected a list, got {type(value).__name__}")
    return cast("list[object]", value)


def _text(value: object, place: str) -> str:
    if not isinstance(value, str):
        raise UnreadableFile(f"{place}: expected a text, got {type(value).__name__}")
    if _HALVES.search(value):
        raise UnreadableFile(f"{place}: it has halves of characters, which no request can carry")
    return value
