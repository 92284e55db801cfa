"""Calls of language models as metrics of OpenTelemetry, by the names of the conventions for generative AI."""

from __future__ import annotations

from typing import Any, Final, final

from opentelemetry import metrics

from runtime.core.events import Event
from runtime.graphs.records.run_events import LMCalled, LMCallStarted, RunFinished
from runtime.telemetry import genai

_TOKENS: Final = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864)
_SECONDS: Final = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
"""Both are the buckets that the conventions ask for."""


@final
class GenAIMetrics:
    """An instrument that measures calls of language models: ``open_runtime(instruments=[GenAIMetrics()])``.

    Two histograms: ``gen_ai.client.token.usage`` and ``gen_ai.client.operation.duration`` in seconds, by operation, provider,
    models and class of error. Both names are under development. Actors, mailboxes and runs are metrics of Prometheus; see
    ``PrometheusMetrics``.

    Args:
        meter_provider: OpenTelemetry's; None takes the global one.
    """

    kinds: tuple[type[Event], ...] = (LMCallStarted, LMCalled, RunFinished)
    """The classes of events that it is called with."""

    def __init__(self, meter_provider: metrics.MeterProvider | None = None) -> None:
        meter = metrics.get_meter("understudy", meter_provider=meter_provider)
        self._tokens = meter.create_histogram(
            genai.TOKEN_USAGE, "{token}", "Tokens of a call.", explicit_bucket_boundaries_advisory=_TOKENS
        )
        self._seconds = meter.create_histogram(
            genai.OPERATION_DURATION, "s", "How long a call took.", explicit_bucket_boundaries_advisory=_SECONDS
        )
        self._operations: dict[str, dict[int, str]] = {}
        """The operations of the calls in progress, by run and number."""

    def __call__(self, event: Event) -> None:
        """Measure a call that has ended."""
        match event:
            case LMCallStarted():
                name = genai.EMBEDDINGS if event.operation == "embed" else genai.CHAT
                self._operations.setdefault(event.run_id, {})[event.call] = name
            case LMCalled():
                self._measure(event, self._operations.get(event.run_id, {}).pop(event.call, genai.CHAT))
            case RunFinished():
                self._operations.pop(event.run_id, None)
            case _:
                pass

    def _measure(self, event: LMCalled, operation: str) -> None:
        about: dict[str, Any] = {genai.OPERATION_NAME: operation, genai.REQUEST_MODEL: event.model}
        if event.provider is not None:
            about[genai.PROVIDER_NAME] = event.provider
        if event.response_model is not None:
            about[genai.RESPONSE_MODEL] = event.response_model
        if event.prompt_tokens:
            self._tokens.record(event.prompt_tokens, {**about, genai.TOKEN_TYPE: "input"})
        if event.completion_tokens:
            self._tokens.record(event.completion_tokens, {**about, genai.TOKEN_TYPE: "output"})
        if event.error is not None:
            about[genai.ERROR_TYPE] = type(event.error).__qualname__
        self._seconds.record(event.duration_s, about)
