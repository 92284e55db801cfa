"""The study without this framework: four ways in which plain DSPy makes the same three calls, for comparison.

This is the one place besides the bridge that uses DSPy, because what it compares with is DSPy as its users call it. Everything
here blocks; the demo calls it in a worker thread. Times are ``time.monotonic`` seconds.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any, final

import attrs

from runtime.cli import demo_graph, study
from runtime.cli.timeline import Measured


@final
@attrs.define(eq=False)
class _Notes:
    """What one run noted so far; each node writes its own keys, so threads do not meet."""

    began_s: float = attrs.field(factory=time.monotonic)
    nodes: dict[str, tuple[float, float]] = attrs.field(factory=dict[str, tuple[float, float]])
    answers: dict[str, Any] = attrs.field(factory=dict[str, Any])

    def note(self, name: str, started_s: float, prediction: Any) -> None:
        self.nodes[name] = (started_s, time.monotonic())
        self.answers[name] = prediction

    def finish(self, intent: demo_graph.Intent) -> Measured:
        time_, other, vector = (self.answers[each.name] for each in study.EXTRACTORS)
        made = demo_graph.cypher(intent, time_.filters, other.filters, vector.query)
        return Measured(self.began_s, time.monotonic(), self.nodes, demo_graph.shown(made))


@final
class PlainDSPy:
    """The three extractors as DSPy modules, and four ways to run them. Not for use by two threads at the same time."""

    def __init__(self, api_base: str, intent: demo_graph.Intent) -> None:
        """Import DSPy, which takes seconds the first time, and make the modules."""
        os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
        self._dspy: Any = importlib.import_module("dspy")  # Any: dspy ships no types
        self._intent = intent
        self._inputs = attrs.asdict(intent)
        self._loop = asyncio.Runner()
        self._modules = {
            "time": self._dspy.Predict(self._signature("filters: dict[str, str]", demo_graph.time_filters)),
            "other": self._dspy.Predict(self._signature("filters: dict[str, str]", demo_graph.other_filters)),
            "vector": self._dspy.ChainOfThought(self._signature("query: str | None", demo_graph.vector_query)),
        }
        settings = {"api_base": api_base, "api_key": "none", "cache": False, "num_retries": 0}
        self._lms = {name: self._dspy.LM(f"openai/{name}", **settings) for name in self._modules}

    def close(self) -> None:
        """Close the event loop of the asyncio variants."""
        self._loop.close()

    def one_after_another(self) -> Measured:
        """Synchronous calls in a row."""
        notes = _Notes()
        for name in self._modules:
            self._call(name, notes, time.monotonic())
        return notes.finish(self._intent)

    def async_calling_sync(self) -> Measured:
        """``async def`` nodes, gathered, that call the synchronous API: each call holds the event loop until it is done."""

        async def node(name: str, notes: _Notes) -> None:
            started_s = time.monotonic()
            await asyncio.sleep(0)  # any node awaits something; so all three begin
            self._call(name, notes, started_s)

        return self._gather(node)

    def threads(self) -> Measured:
        """Synchronous calls, each in its own thread."""
        notes = _Notes()
        errors: list[Exception] = []

        def node(name: str) -> None:
            try:
                self._call(name, notes, time.monotonic())
            except Exception as error:  # noqa: BLE001 - raised again below; a thread would only print it
                errors.append(error)

        # Daemons, unlike those of an executor: an interrupted demo does not wait for them.
        threads = [threading.Thread(target=node, args=[name], daemon=True) for name in self._modules]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if errors:
            raise errors[0]
        return notes.finish(self._intent)

    def plain_asyncio(self) -> Measured:
        """``async def`` nodes, gathered, that await ``acall``."""

        async def node(name: str, notes: _Notes) -> None:
            started_s = time.monotonic()
            with self._dspy.context(lm=self._lms[name]):
                prediction = await self._modules[name].acall(**self._inputs)
            notes.note(name, started_s, prediction)

        return self._gather(node)

    def _signature(self, output: str, node: Callable[..., Any]) -> Any:
        return self._dspy.Signature(f"text: str, label: str, now: str -> {output}", node.__doc__)

    def _call(self, name: str, notes: _Notes, started_s: float) -> None:
        with self._dspy.context(lm=self._lms[name]):
            prediction = self._modules[name](**self._inputs)
        notes.note(name, started_s, prediction)

    def _gather(self, node: Callable[[str, _Notes], Coroutine[Any, Any, None]]) -> Measured:
        async def run() -> Measured:
            notes = _Notes()
            await asyncio.gather(*(node(name, notes) for name in self._modules))
            return notes.finish(self._intent)

        return self._loop.run(run())
