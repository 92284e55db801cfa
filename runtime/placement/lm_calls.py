"""Calls of language models that hosts make: the model, its key, its limits and its socket are the runtime's."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final, cast

from actors.errors import InternalError, UsageError
from actors.lm import LM, Completion, Delta, Embedder, Embeddings, ReasoningDelta, TextDelta, ToolCallDelta
from actors.placement_errors import NotPortable
from runtime.graphs.records.recorded_answers import decode_answer, encode_answer
from runtime.graphs.records.run_record import Spend
from runtime.lm.limits.abilities import PassesAbilities, warmed_up

Piece = Callable[[bytes], None]
"""Sends a piece of a streamed answer to the host."""
ABILITIES: Final = ("supports_function_calling", "supports_reasoning", "supports_response_schema")


async def answer_lm(lm: LM, head: Mapping[str, Any], data: bytes, piece: Piece) -> bytes:
    """Make the call that a host wants of `lm`; the answer as bytes.

    Raises:
        LMError: the call failed.
    """
    asked: Any = json.loads(data) if data else None
    match head["what"]:
        case "chat":
            return _told(await lm.chat(asked["messages"], **asked["options"]))
        case "stream":
            async with lm.stream(asked["messages"], **asked["options"]) as stream:
                async for delta in stream:
                    piece(delta_data(delta))
                return _told(stream.completion)
        case "embed":
            if not isinstance(lm, Embedder):
                raise UsageError(
                    f"the language model {lm.model!r} makes no embeddings.\n"
                    "  Fix: open_runtime(lms={…}) with an LMClient of a model that does."
                )
            return _told(await lm.embed(asked["messages"], **asked["options"]))
        case "abilities":
            await warmed_up(lm)
            return json.dumps(_abilities(lm)).encode()
        case other:
            raise InternalError(f"a host wants {other!r} of a language model, which this release does not know")


def _abilities(lm: Any) -> dict[str, Any]:
    passed = cast("Any", _Passing(lm))
    truncated = getattr(lm, "truncated", None)
    return {
        **{name: getattr(passed, name) for name in ABILITIES},
        "supported_params": sorted(passed.supported_params),
        "truncated": truncated if isinstance(truncated, str) else None,
    }


class _Passing(PassesAbilities):
    def __init__(self, lm: Any) -> None:
        self._lm = lm


def _told(answer: Completion | Embeddings) -> bytes:
    data = encode_answer(answer, Spend())
    if data is None:
        raise NotPortable(
            "the answer of a language model cannot go to another process: it has no JSON.\n"
            "  Fix: call the model in a node that isn't placed, and send what it says.",
            type=type(answer).__name__,
        )
    return data


def read_answer(data: bytes) -> Completion | Embeddings:
    """The answer that a host was given."""
    return decode_answer(data)


def asked_data(messages: Any, options: Mapping[str, Any]) -> bytes:
    """What a host asks a model.

    Raises:
        NotPortable: it has no JSON.
    """
    try:
        return json.dumps({"messages": list(messages), "options": dict(options)}, default=_plain).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise NotPortable(
            f"what a language model is asked cannot go to another process: {error}.\n"
            "  Fix: messages and options of text, numbers, lists and dicts."
        ) from error


def _plain(value: object) -> Any:
    if isinstance(value, Mapping):
        return dict(cast("Mapping[str, Any]", value))
    if isinstance(value, tuple | frozenset | set):
        return list(cast("tuple[Any, ...]", value))
    raise TypeError(f"a {type(value).__name__} has no JSON")


def delta_data(delta: Delta) -> bytes:
    """A piece of a streamed answer as bytes."""
    told: list[Any]
    if isinstance(delta, ToolCallDelta):
        told = ["tool", delta.index, delta.id, delta.name, delta.arguments]
    else:
        told = ["text" if isinstance(delta, TextDelta) else "reasoning", delta.text]
    return json.dumps(told).encode()


def delta_of(data: bytes) -> Delta:
    """What :func:`delta_data` made `data` of."""
    kind, *fields = json.loads(data)
    if kind == "tool":
        return ToolCallDelta(*fields)
    return TextDelta(*fields) if kind == "text" else ReasoningDelta(*fields)
