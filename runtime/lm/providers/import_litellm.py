"""LiteLLM itself, imported late and quietly. The only module that knows where it is.

Importing it takes seconds: :func:`warm_up` does that in a thread. LiteLLM translates and prices; where it does, it opens no
connection, runs no event loop, retries nothing and logs nothing.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import importlib.util
import inspect
import logging
import os
import re
import warnings
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import trio

from actors.errors import UsageError

TRIED = ("1.106", "1.110")
"""The oldest and the newest series of litellm that the suite has passed on; pyproject.toml allows what lies between them."""

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
    """Whether it may be shown; text from providers, which LiteLLM prints to the terminal itself, then moves no cursor."""
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
    """litellm, imported with everything off that would go to the network or print on its own."""
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


_OF_CALLS = re.compile(
    rb"^[ \t]*(?:export[ \t]+)?((?:OPENAI|HOSTED_VLLM|LM_STUDIO|USE_LITELLM|LITELLM|SSL)_\w+|\w+_PROXY)[ \t]*=",
    re.MULTILINE | re.IGNORECASE,
)
"""Lines that set a variable on which calls depend."""


@functools.cache
def has_env_file() -> bool:
    """Whether importing litellm would set variables on which calls depend, out of a file ``.env`` above its own folder."""
    found = None if is_warm() else importlib.util.find_spec("litellm")
    if found is None or found.origin is None or os.environ.get("LITELLM_MODE", "DEV") != "DEV":
        return False
    path = next((above / ".env" for above in Path(found.origin).parents if (above / ".env").is_file()), None)
    names = [] if path is None else [name.decode() for name in _OF_CALLS.findall(path.read_bytes())]
    return any(name not in os.environ for name in names) or (bool(names) and "LITELLM_DEV_ENV_HOT_RELOAD" in os.environ)


@functools.cache
def part(name: str) -> Any:
    """One of litellm's modules, imported if it is not yet: providers' own parts, which a program may never need."""
    with quiet():
        return importlib.import_module(f"litellm.{name}")


def fitted(function: Callable[..., Any], /, **known: Any) -> Any:
    """What `function`, one of litellm's, gives for those of the arguments `known` that it takes.

    The parts of litellm that are called here aren't a published interface: a parameter comes with one release and goes with
    another. What LiteLLM itself hands to the function is offered, and each release takes of it what it knows.

    Raises:
        UsageError: it needs an argument that is not known here: the installed release has not been tried.
    """
    # By the plain function: a bound method is a new object for each call.
    takes, needs = _parameters(getattr(function, "__func__", function), hasattr(function, "__func__"))
    missing = needs - known.keys()
    if missing:
        raise untried(f"{getattr(function, '__qualname__', function)} needs {', '.join(sorted(missing))}")
    return function(**(known if takes is None else {name: known[name] for name in known if name in takes}))


@functools.lru_cache(maxsize=1024)
def _parameters(function: Callable[..., Any], is_bound: bool) -> tuple[frozenset[str] | None, frozenset[str]]:
    """The names that `function` takes, None for any, and those that it needs."""
    parameters = list(inspect.signature(function).parameters.values())[is_bound:]
    named = [each for each in parameters if each.kind not in {each.VAR_POSITIONAL, each.VAR_KEYWORD}]
    takes_any = any(each.kind is each.VAR_KEYWORD for each in parameters)
    needs = frozenset(each.name for each in named if each.default is each.empty)
    return None if takes_any else frozenset(each.name for each in named), needs


def untried(what: str) -> UsageError:
    """The error for an installed litellm that does not have what is called here; `what` is the difference."""
    installed = importlib.metadata.version("litellm")
    return UsageError(
        f"litellm {installed} is not a release that understudy works with (tried: {' to '.join(TRIED)}): {what}.\n"
        f"  Fix: pip install 'litellm>={TRIED[0]},<{_after(TRIED[-1])}'."
    )


def _after(series: str) -> str:
    major, minor = series.split(".")
    return f"{major}.{int(minor) + 1}"


def is_warm() -> bool:
    """Whether litellm is imported."""
    return load.cache_info().currsize > 0


async def warm_up() -> None:
    """Import litellm in a worker thread, once per process, so the event loop continues meanwhile. A checkpoint."""
    if is_warm():
        await trio.lowlevel.checkpoint()
    else:
        await trio.to_thread.run_sync(load)
