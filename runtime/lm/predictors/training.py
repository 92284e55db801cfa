"""From the rows of a training set to examples: what a node was given and what it should have made of it, as DSPy has them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast, final

import attrs

from actors.errors import DeclarationError
from actors.graphs.node import Kind, NodeSpec
from runtime.lm.dspy.choosing import name_among
from runtime.lm.dspy.import_dspy import library
from runtime.lm.predictors.signatures import CHOICE, NodeSignature, has_fields, purpose_of, shown_kinds, signatures_of
from runtime.messages import schemas
from runtime.messages.problems import MessageInvalid, lines_of

MAX_ROW_BYTES = 16 * 1024 * 1024
"""The longest line of a training set."""

FIELDS = ("node", "input", "inputs", "output", "type", "id", "slice")
Row = Mapping[str, Any]
"""``{"node": …, "input": {…}, "output": {…}, "type": …}``; see :func:`examples_of`."""


@final
@attrs.frozen(eq=False)
class Examples:
    """The examples of one signature of a node."""

    spec: NodeSpec
    signature: NodeSignature
    examples: list[Any]
    """``dspy.Example`` objects with the names of the signature's fields."""
    rows: list[int] = attrs.field(factory=list[int])
    """For each of them, the row that it was made of, from 0."""


@final
@attrs.frozen(eq=False)
class NodeRow:
    """A row with its values."""

    spec: NodeSpec
    at: int
    """Its place, from 0."""
    row: Row
    inputs: Mapping[str, object]
    """What the node is given, by parameter."""
    target: Any
    """What it should make: a message, or None."""


def read_rows(path: str | Path) -> list[Row]:
    """The rows of a file: JSON Lines, or one JSON list.

    Raises:
        DeclarationError: the file cannot be read, or a line of it isn't a JSON object; it names the first such line.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DeclarationError(f"training set {str(path)!r} cannot be read: {error}.\n  Fix: pass a text file.") from error
    if text.lstrip().startswith("["):
        return [_row(row, path, at) for at, row in enumerate(_parsed(text, path, 1), 1)]
    return [_row(_parsed(line, path, at), path, at) for at, line in enumerate(text.split("\n"), 1) if line.strip()]


def _parsed(text: str, path: str | Path, at: int) -> Any:
    try:
        if len(text) > MAX_ROW_BYTES:
            raise ValueError(f"more than {MAX_ROW_BYTES} characters")
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _bad_row(path, at, f"it isn't JSON: {error}") from error


def _row(row: object, path: str | Path, at: int) -> Row:
    if not isinstance(row, dict):
        raise _bad_row(path, at, f"expected an object, got {schemas.shorten(row)}")
    try:
        json.dumps(row, ensure_ascii=False).encode()
    except (UnicodeEncodeError, RecursionError) as error:
        raise _bad_row(path, at, "it is nested too deep, or has halves of characters, which no request can carry") from error
    return cast("Row", row)


def _bad_row(path: str | Path, at: int, what: str) -> DeclarationError:
    return DeclarationError(
        f"training set {str(path)!r}, row {at}: {what}.\n"
        '  Fix: write a row as {"node": …, "input": {…}, "output": {…}} on one line.'
    )


def examples_of(specs: Iterable[NodeSpec], rows: Sequence[Row]) -> list[Examples]:
    """The examples in `rows` for every signature of the predict nodes among `specs`, in the order of the nodes.

    A row has

    - ``"node"``: the node's name; it may be left out where there is one predict node only;
    - ``"input"``: the fields of its message; or ``"inputs"``: for each of its parameters the fields of its message, or a value;
    - ``"output"``: the fields of what it should return, or null for None;
    - ``"type"``: the name of the type that it should return, where there are several;
    - ``"id"`` and ``"slice"``, for reports.

    A row whose node has several return types is an example of the choice, and one of filling the type.

    Raises:
        DeclarationError: rows do not fit the nodes; it names them all.
    """
    nodes = {spec.name: spec for spec in specs if spec.kind is Kind.PREDICT}
    signatures = {name: signatures_of(spec) for name, spec in nodes.items()}
    made = {id(each): Examples(nodes[name], each, []) for name, found in signatures.items() for each in found}
    for each in _fitting(nodes, signatures, rows):
        for signature, example in _examples(each, signatures[each.spec.name]):
            made[id(signature)].examples.append(example)
            made[id(signature)].rows.append(each.at)
    return list(made.values())


def node_rows(specs: Iterable[NodeSpec], rows: Sequence[Row]) -> list[NodeRow]:
    """The `rows` with the messages of the predict nodes among `specs`. Rows and errors are those of :func:`examples_of`."""
    nodes = {spec.name: spec for spec in specs if spec.kind is Kind.PREDICT}
    return _fitting(nodes, {name: signatures_of(spec) for name, spec in nodes.items()}, rows)


def _fitting(
    nodes: Mapping[str, NodeSpec], signatures: Mapping[str, Sequence[NodeSignature]], rows: Sequence[Row]
) -> list[NodeRow]:
    found: list[NodeRow] = []
    problems: list[str] = []
    for at, row in enumerate(rows):
        try:
            spec = _node_of(row, nodes)
            found.append(NodeRow(spec, at, row, *_given_and_target(spec, signatures[spec.name], row)))
        except _Unfit as unfit:
            problems.append(f"  row {at + 1}: {unfit}")
    if problems:
        shown = [*problems[:20], *([f"  and {len(problems) - 20} more"] if len(problems) > 20 else [])]
        raise DeclarationError(
            "\n".join([f"{len(problems)} of the {len(rows)} rows do not fit the graph's nodes.", *shown])
            + "\n  Fix: correct the rows; their fields are those of the nodes' message types."
        )
    return found


class _Unfit(Exception):
    """Why a row fits no node."""


def _node_of(row: Row, nodes: Mapping[str, NodeSpec]) -> NodeSpec:
    unknown = sorted(set(row) - set(FIELDS))
    if unknown:
        raise _Unfit(f"{unknown[0]!r} isn't one of {', '.join(FIELDS)}")
    name = row.get("node")
    if name is None and len(nodes) == 1:
        return next(iter(nodes.values()))
    if not isinstance(name, str) or name not in nodes:
        raise _Unfit(f"node {name!r} isn't one of the graph's predict nodes: {', '.join(nodes) or 'it has none'}")
    return nodes[name]


def _examples(row: NodeRow, signatures: Sequence[NodeSignature]) -> list[tuple[NodeSignature, Any]]:
    spec, inputs, target = row.spec, row.inputs, row.target
    made: list[tuple[NodeSignature, Any]] = []
    for signature in signatures:
        if signature.key[0] != shown_kinds(inputs):
            continue
        if signature.purpose == CHOICE:
            kind = None if target is None else type(cast("object", target))
            made.append((signature, _example(signature, inputs, {"choice": name_among(kind, spec.outputs)})))
        elif target is not None and signature.purpose == purpose_of(spec, type(cast("object", target))):
            outputs = {wire: schemas.dump(getattr(target, field.attribute)) for wire, field in signature.plan.outputs.items()}
            made.append((signature, _example(signature, inputs, outputs)))
    return made


def _given_and_target(spec: NodeSpec, signatures: Sequence[NodeSignature], row: Row) -> tuple[dict[str, object], Any]:
    """What `row` gives the node, by parameter, and what it should make of it: a message, or None."""
    inputs, wrong = None, "its input fits no type"
    for kinds in dict.fromkeys(tuple(each.kinds.items()) for each in signatures):
        try:
            inputs = _inputs(spec, dict(kinds), row)
            break
        except _Unfit as unfit:
            wrong = str(unfit)
    if inputs is None:
        raise _Unfit(wrong)
    kind = _target(spec, row)
    return inputs, None if kind is None else _built(kind, row.get("output"), "output")


def _inputs(spec: NodeSpec, kinds: Mapping[str, type | None], row: Row) -> dict[str, object]:
    given: Any = row.get("inputs")
    if given is None and "input" in row and len(kinds) == 1:
        given = {next(iter(kinds)): row["input"]}
    if not isinstance(given, dict) or set(cast("dict[str, Any]", given)) != set(kinds):
        wanted = ", ".join(kinds)
        raise _Unfit(f"expected {'input, or ' if len(kinds) == 1 else ''}inputs with exactly {wanted} (node {spec.name!r})")
    values = cast("dict[str, Any]", given)
    return {name: values[name] if kind is None else _built(kind, values[name], name) for name, kind in kinds.items()}


def _target(spec: NodeSpec, row: Row) -> type | None:
    if "output" not in row:
        raise _Unfit("it has no output")
    if row["output"] is None:
        if not spec.may_end:
            raise _Unfit(f"its output is null, and node {spec.name!r} cannot return None")
        return None
    named = row.get("type")
    if named is None and len(spec.outputs) == 1:
        return spec.outputs[0]
    found = next((kind for kind in spec.outputs if named in (kind.__name__, purpose_of(spec, kind))), None)
    if found is None:
        raise _Unfit(f"type {named!r} isn't one of {', '.join(kind.__name__ for kind in spec.outputs)}")
    return found


def _built(kind: type, fields: object, place: str) -> Any:
    if not isinstance(fields, dict):
        raise _Unfit(f"{place}: expected the fields of {kind.__name__}, got {schemas.shorten(fields)}")
    try:
        return schemas.build(kind, cast("dict[str, Any]", fields) if has_fields(kind) else {})
    except MessageInvalid as error:
        raise _Unfit(f"{place} makes no {kind.__name__}: {'; '.join(lines_of(error.problems))}") from error


def _example(signature: NodeSignature, inputs: Mapping[str, object], outputs: Mapping[str, Any]) -> Any:
    shown = signature.plan.shown(inputs)
    return library().Example(**shown, **outputs).with_inputs(*shown)
