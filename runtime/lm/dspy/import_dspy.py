"""The one place where dspy is imported: lazily, by the first use, and only a release that has what the bridge relies on.

What that is stands in :data:`HOOKS`. A release without one of them, or of a series that has not been tried, is rejected with
words at the first use: it would otherwise fail in the middle of a call, or worse, go past the client unseen.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import os
import sys
import types
from collections.abc import Mapping
from typing import Any

import trio

from actors.errors import UsageError

SERIES = ("3.4",)
"""The releases of dspy that the bridge has been tried on, by major and minor number."""

HOOKS: Mapping[str, tuple[str, ...]] = {
    "dspy:Adapter.__call__": ("self", "lm", "lm_kwargs", "signature", "demos", "inputs"),
    "dspy:Adapter.acall": ("self", "lm", "lm_kwargs", "signature", "demos", "inputs"),
    "dspy:Adapter.format": ("self", "signature", "demos", "inputs"),
    "dspy:Adapter.parse": ("self", "signature", "completion"),
    "dspy:ChatAdapter.__init__": ("use_json_adapter_fallback",),
    "dspy:ChatAdapter.format_field_with_value": ("self", "fields_with_values"),
    "dspy:ChatAdapter.format_system_message": ("self", "signature"),
    "dspy:ChatAdapter.format_user_message_content": ("self", "signature", "inputs", "prefix", "suffix", "main_request"),
    "dspy:ChatAdapter.user_message_output_requirements": ("self", "signature"),
    "dspy:AdapterParseError.__init__": ("adapter_name", "signature", "lm_response", "message", "parsed_result"),
    "dspy:ContextWindowExceededError.__init__": ("model", "message"),
    "dspy:BaseLM.__init__": ("self", "model", "cache", "callbacks", "num_retries"),
    "dspy:BaseLM.__call__": ("self", "prompt", "messages"),
    "dspy:BaseLM.acall": ("self", "prompt", "messages"),
    "dspy:BaseLM._process_lm_response": ("self", "response", "prompt", "messages"),
    "dspy:BaseLM.copy": ("self",),
    "dspy:BaseLM.update_history": ("self", "entry"),
    "dspy:Embedder.__init__": ("self", "model", "batch_size", "caching"),
    "dspy:Embedder._postprocess": ("self", "embeddings_list", "is_single_input"),
    "dspy:Embedder._preprocess": ("self", "inputs", "batch_size", "caching"),
    "dspy:BaseLM.supports_function_calling": (),
    "dspy:BaseLM.supports_reasoning": (),
    "dspy:BaseLM.supports_response_schema": (),
    "dspy:BaseLM.supported_params": (),
    "dspy:Example.with_inputs": (),
    "dspy:Module.acall": (),
    "dspy:Module.named_predictors": ("self",),
    "dspy:Predict.aforward": (),
    "dspy:Predict.forward": (),
    "dspy:Signature": (),
    "dspy:configure_cache": ("enable_disk_cache",),
    "dspy:context": (),
    "dspy:streamify": ("program", "stream_listeners", "is_async_program"),
    "dspy:BootstrapFewShot.__init__": ("metric", "max_bootstrapped_demos", "max_labeled_demos", "max_rounds"),
    "dspy:BootstrapFewShot.compile": ("student", "trainset"),
    "dspy:MIPROv2.__init__": ("metric", "prompt_model", "task_model", "auto", "num_candidates", "num_threads", "seed"),
    "dspy:MIPROv2.compile": ("student", "trainset", "valset", "num_trials", "minibatch"),
    "dspy:GEPA.__init__": ("metric", "max_metric_calls", "reflection_lm", "num_threads", "seed"),
    "dspy:GEPA.compile": ("student", "trainset", "valset"),
    "dspy.adapters.utils:format_field_value": ("field_info", "value"),
    "dspy.clients.lm15_boundary:request_kwargs": ("request", "model_type"),
    "dspy.clients.lm15_boundary:response_value": ("response", "model_type", "request"),
    "dspy.lm15:ContextLengthError": (),
    "dspy.dsp.utils.settings:main_thread_config": (),
    "dspy.streaming.messages:StatusMessage": (),
    "dspy.streaming.streaming_listener:StreamListener.finalize": ("self",),
    "dspy.streaming.streaming_listener:StreamListener.receive": ("self", "chunk"),
    "dspy.streaming.streaming_listener:find_predictor_for_stream_listeners": ("program", "stream_listeners"),
    "dspy.utils.callback:BaseCallback": (),
    "dspy.utils.callback:with_callbacks": (),
    "dspy.clients.engines.streaming:EngineChunk": (),
    "dspy.clients.call_result:attributes": (),
}
"""Every name of dspy's that the bridge calls, overrides or reads, with the parameters that it needs there."""

SETTINGS = (
    "adapter",
    "callbacks",
    "caller_modules",
    "disable_history",
    "lm",
    "max_history_size",
    "send_stream",
    "stream_listeners",
    "trace",
    "usage_tracker",
    "warn_on_type_mismatch",
)
"""The settings that the bridge reads or sets."""


@functools.cache
def library() -> Any:
    """The module ``dspy``, imported at the first call.

    Raises:
        UsageError: the installed release is not one that the bridge has been tried on, or lacks what it relies on.
    """
    # LiteLLM, which DSPy loads for some of its own clients, asks the network for a price list unless this is set.
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    dspy = importlib.import_module("dspy")
    check_release(dspy.__version__, missing_hooks())
    _keep_off_the_disk(dspy)
    return dspy


def _keep_off_the_disk(dspy: Any) -> None:
    """Let DSPy's own cache be in memory, unless the program has made one before.

    DSPy makes one when something first asks for it, an embedder say: sixteen databases under the home directory, each with a
    connection per thread that nothing closes. The client has its own caches. ``dspy.configure_cache(…)`` turns it on, at any
    time.
    """
    if "cache" not in vars(dspy):
        dspy.configure_cache(enable_disk_cache=False)


def part(name: str) -> Any:
    """The module ``dspy.<name>``."""
    library()
    return importlib.import_module(f"dspy.{name}")


def is_loaded() -> bool:
    """Whether dspy is imported to its end."""
    # The last lines of its __init__ define `context`: a module without it is still being imported by another thread.
    return "context" in vars(sys.modules.get("dspy", types.ModuleType("absent")))


async def warm_up() -> None:
    """Import dspy in a worker thread, so the second or so it takes does not hold the event loop; immediately when it is loaded.

    ``run_signature`` and ``fill`` call it. ``Runtime.warm_up()`` does it before the first run, to spare that run the wait.
    """
    if not is_loaded():
        await trio.to_thread.run_sync(library)


def check_release(version: str, missing: list[str]) -> None:
    """Reject a dspy that the bridge does not fit.

    Raises:
        UsageError: `version` is of no series in :data:`SERIES`, or `missing` is not empty.
    """
    if version.startswith(tuple(f"{series}." for series in SERIES)) and not missing:
        return
    lacks = f"; it lacks {', '.join(missing)}" if missing else ""
    raise UsageError(
        f"dspy {version} is not one that understudy works with (tried: {', '.join(SERIES)}){lacks}.\n"
        f"  Fix: pip install 'dspy>={SERIES[0]},<{_after(SERIES[-1])}'."
    )


def missing_hooks(hooks: Mapping[str, tuple[str, ...]] = HOOKS) -> list[str]:
    """What of `hooks` the installed dspy does not have: names, and parameters as ``name(parameter)``."""
    missing: list[str] = []
    for hook, wanted in hooks.items():
        module, _, path = hook.partition(":")
        try:
            found: Any = functools.reduce(getattr, path.split("."), importlib.import_module(module))
        except (ImportError, AttributeError):
            missing.append(f"{module}.{path}")
            continue
        known = set(inspect.signature(found).parameters) if wanted else set[str]()
        missing += [f"{module}.{path}({name})" for name in wanted if name not in known]
    config: Any = getattr(importlib.import_module("dspy.dsp.utils.settings"), "main_thread_config", {})
    return missing + [f"dspy.settings.{name}" for name in SETTINGS if name not in config]


def _after(series: str) -> str:
    major, minor = series.split(".")
    return f"{major}.{int(minor) + 1}"
