"""What the clients of language models are asked to do, and what a client must bring along to be measured."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Literal, final

import attrs

from runtime.testing.models.answers import field_answer
from runtime.testing.models.provider_script import ModelScript, ScriptLike

Job = Literal["chat", "stream", "predict"]
"""A whole answer; one in pieces, read to its end; one that DSPy asks for and reads."""

JOBS: tuple[Job, ...] = ("chat", "stream", "predict")
MODEL, PREDICTED, SLOW = "m", "predicted", "slow"
ANSWER = "Good day to you."
MODELS: Mapping[str, ScriptLike] = {
    MODEL: ANSWER,
    PREDICTED: field_answer(text=ANSWER),
    SLOW: ModelScript(field_answer(text=ANSWER), latency_s=0.5),
}
"""What the provider serves; 50 ms unless it says otherwise."""
LATENCY_S = 0.05
SLOW_S = 0.5
INSTRUCTION = "Greet whoever asks."
MESSAGES = [{"role": "user", "content": "Hello"}]
CONNECTIONS = 1000
BODY = json.dumps({"model": MODEL, "messages": MESSAGES}).encode()
STREAM_BODY = json.dumps({"model": MODEL, "messages": MESSAGES, "stream": True}).encode()
HEADERS = {"content-type": "application/json", "authorization": "Bearer k"}

Call = Callable[[], Awaitable[object]]
Open = Callable[[str], AbstractAsyncContextManager[Call]]
"""By the provider's base URL: a client that is open, as the call to measure."""


@final
@attrs.frozen(kw_only=True)
class LMPeer:
    """One client: how it does each job. A job that it cannot do has no row."""

    name: str
    loop: Literal["trio", "asyncio"]
    jobs: Mapping[Job, Open]
    widest: int = CONNECTIONS
    """The most calls at once that it is asked for; above it the machine would be taken for minutes."""
    max_rounds: int = 99
    """How often it is measured at most, where a round takes long."""


def chunk_text(line: str) -> str:
    """The text in one line of a stream of OpenAI's; every client without a parser of its own reads it like this."""
    if not line.startswith("data: ") or line == "data: [DONE]":
        return ""
    choices = json.loads(line[6:])["choices"]
    return (choices[0]["delta"].get("content") or "") if choices else ""
