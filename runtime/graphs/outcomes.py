"""How a run ended, as its last record has it: the output, or the errors in words."""

from __future__ import annotations

import json
from typing import Any, Final

from actors import errors
from actors.errors import NodeFailed, RunError, RunFailed, UnderstudyError
from actors.groups import leaves_of
from actors.words import kind_of, words_of
from runtime.graphs.journaling import details_of
from runtime.graphs.recorded_errors import RecordedError
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
        "nodes": [
            {"node": leaf.node, "path": leaf.path, "attempt": leaf.attempt, "message": words_of(leaf), "cause": _cause(leaf)}
            for leaf in leaves
        ],
    }
    return json.dumps(told).encode()


def _cause(error: BaseException) -> str:
    return "" if error.__cause__ is None else f"{kind_of(error.__cause__)}: {words_of(error.__cause__)}"


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
    failure.__cause__ = RecordedError(str(told["cause"])) if told.get("cause") else None
    return failure
