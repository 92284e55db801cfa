"""What a runtime tells about itself to the tools of an operator: logs, spans, metrics. Each part is an instrument.

``logs.py``, ``tracing.py`` (spans), ``meters.py`` and ``prometheus.py`` (metrics); the names of attributes are in ``genai.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runtime.telemetry.logs import LogEvents as LogEvents

if TYPE_CHECKING:
    from runtime.telemetry.meters import GenAIMetrics as GenAIMetrics
    from runtime.telemetry.prometheus import PrometheusMetrics as PrometheusMetrics
    from runtime.telemetry.tracing import Tracing as Tracing


def __getattr__(name: str) -> Any:
    """``Tracing``, ``GenAIMetrics`` and ``PrometheusMetrics``, each with the library that it needs."""
    try:
        if name == "GenAIMetrics":
            from runtime.telemetry.meters import GenAIMetrics  # noqa: PLC0415 - opentelemetry is an extra

            return GenAIMetrics
        if name == "Tracing":
            from runtime.telemetry.tracing import Tracing  # noqa: PLC0415 - opentelemetry is an extra

            return Tracing
        if name == "PrometheusMetrics":
            from runtime.telemetry.prometheus import PrometheusMetrics  # noqa: PLC0415 - prometheus_client is an extra

            return PrometheusMetrics
    except ImportError as error:
        extra, library = ("prometheus", "prometheus_client") if name == "PrometheusMetrics" else ("otel", "opentelemetry")
        raise ImportError(f"{name} needs {library}.\n  Fix: pip install 'understudy[{extra}]'", name=error.name) from error
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
