"""LiteLLM itself, imported late and quietly. The only module that knows where it is.

Importing it takes seconds: :func:`warm_up` does that in a thread. LiteLLM translates and prices; where it does, it opens no
connection, runs no event loop, retries nothing and logs nothing.
"""

from __future__ import annotations

import functools
import importlib
import logging
import os
import re
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import trio

_PARTS = (
    "main",
    "anthropic_beta_headers_manager",
    "litellm_core_utils.exception_mapping_utils",
    "litellm_core_utils.streaming_chunk_builder_utils",
    "llms.anthropic.chat.handler",
    "llms.vertex_ai.gemini.transformation",
    "llms.vertex_ai.gemini.vertex_and_google_ai_studio_gemini",
)
"""What its front door leaves to the first call."""


_TALKATIVE = ("LiteLLM", "botocore.auth")
"""Loggers whose details are whole requests and replies, with tokens in them."""


_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def _is_discreet(record: logging.LogRecord) -> bool:
    """Whether it may be shown; what providers say, which LiteLLM prints to the terminal by itself, then moves no cursor there."""
    if record.levelno <= logging.DEBUG:
        return False
    said = record.getMessage()
    if _CONTROLS.search(said):
        record.msg, record.args = _CONTROLS.sub("\N{REPLACEMENT CHARACTER}", said), ()
    return True


@contextmanager
def quiet() -> Generator[None]:
    """Without warnings about LiteLLM's own types: it imports its parts and builds its models at first use."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@functools.cache
def load() -> Any:
    """litellm, imported with everything off that would go to the network or print by itself."""
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    os.environ.setdefault("LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS", "True")
    with quiet():
        litellm: Any = importlib.import_module("litellm")  # Any: its own types are partial
        for name in _PARTS:
            part(name)
        litellm.ModelResponse(choices=[{"message": {"content": ""}}], usage=litellm.Usage())
        litellm.types.utils.ModelResponseStream(choices=[{"index": 0, "delta": {"content": ""}}])
    for name in _TALKATIVE:
        logging.getLogger(name).addFilter(_is_discreet)
    litellm.suppress_debug_info = True
    litellm.telemetry = False
    return litellm


@functools.cache
def part(name: str) -> Any:
    """One of litellm's modules, imported if it is not yet: providers' own parts, which a program may never need."""
    with quiet():
        return importlib.import_module(f"litellm.{name}")


def is_warm() -> bool:
    """Whether litellm is imported."""
    return load.cache_info().currsize > 0


async def warm_up() -> None:
    """Import litellm in a worker thread, once per process, so that the event loop goes on meanwhile. A checkpoint."""
    if is_warm():
        await trio.lowlevel.checkpoint()
    else:
        await trio.to_thread.run_sync(load)
