"""How a run ended, as its last record has it: the output, or the errors in words."""

from __future__ import annotations

import json
from typing import Any, Final

from actors import errors
from actors.errors import NodeFailed, RunError, RunFailed, UnderstudyError
from actors.groups import leaves_of
from actors.words import kind_of, words_of
from runtime.graphs.records.journaling import details_of
from runtime.graphs.records.recorded_errors import error_of, told_of_error
from runtime.journal.records import Record
from runtime.messages.codec import MessageCodec

_MOST_LEAVES: Final = 100


def encoded_outcome(codec: MessageCodec, output: object, error: BaseException | None) -> bytes:
    """What a run made, or why it made nothing."""
    if error is None:
        return codec.encode(output)
    leaves = [leaf for leaf in leaves_of(error) if isinstance(leaf, NodeFailed)][:_MOST_LEAVES]
    told = {
        "error": kind_of(error),
        "message": error.message if isinstance(error, RunFailed) else words_of(error),
        "nodes": [_told_of(leaf) for leaf in leaves],
    }
    return json.dumps(told).encode()


def _told_of(leaf: NodeFailed) -> dict[str, Any]:
    told: dict[str, Any] = {"node": leaf.node, "path": leaf.path, "attempt": leaf.attempt, "message": words_of(leaf)}
    return told if leaf.__cause__ is None else {**told, "cause": told_of_error(leaf.__cause__)}


def recorded_error(record: Record) -> UnderstudyError:
    """The error with which a run ended, made again of its last record."""
    told = details_of(record)
    name, message = str(told.get("error")), str(told.get("message", ""))
    if name == "RunFailed":
        return RunFailed(message, [_node_failed(record.run, each) for each in told.get("nodes", ())])
    kind: Any = getattr(errors, name, None)
    if isinstance(kind, type) and issubclass(kind, RunError) and kind is not NodeFailed:
        return kind(message, run_id=record.run)
    return RunError(message, run_id=record.run)


def _node_failed(run_id: str, told: Any) -> NodeFailed:
    failure = NodeFailed(
        str(told["message"]), run_id=run_id, node=str(told["node"]), path=str(told["path"]), attempt=int(told["attempt"])
    )
    cause: Any = told.get("cause")
    if cause:
        failure.__cause__ = error_of({"error": cause} if isinstance(cause, str) else cause)  # the first releases had words alone
    return failure
