"""The metrics of a service, for Prometheus to scrape."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final, final

import trio

from runtime.serve.auth import Caller
from runtime.serve.live import Live
from runtime.serve.problem_documents import HttpProblem
from runtime.serve.routes import Answer, Endpoint
from runtime.serve.web import Request, Response

if TYPE_CHECKING:
    from runtime.telemetry.prometheus import PrometheusMetrics

PATH: Final = "/metrics"


def is_available() -> bool:
    """Whether the extra ``prometheus`` is installed."""
    return find_spec("prometheus_client") is not None


@final
class Metrics:
    """The instrument of the runtime that a service has now, and the route that shows what it has measured."""

    def __init__(self) -> None:
        self._instrument: PrometheusMetrics | None = None

    def made(self) -> PrometheusMetrics:
        """An instrument for a runtime that is about to be opened, with its own registry: two services do not meet."""
        from runtime.telemetry.prometheus import PrometheusMetrics  # noqa: PLC0415 - an extra

        self._instrument = PrometheusMetrics()
        return self._instrument

    def endpoints(self) -> Sequence[Endpoint]:
        """The route ``GET /metrics``."""
        return [Endpoint("GET", PATH, "inspect", self._show, "Metrics for Prometheus")]

    async def _show(self, _: Live, __: Caller, ___: Request) -> Answer:
        await trio.lowlevel.checkpoint()
        if self._instrument is None:
            raise HttpProblem("not-found")
        text, kind = self._instrument.exposition()
        return Response(text, headers={"Content-Type": kind})
