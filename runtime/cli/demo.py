"""``understudy demo``: the same three language-model calls made five ways, what follows, and a failure that is survived."""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Final, TypeVar, final

import attrs
import trio

from actors.errors import UnderstudyError
from runtime.app import Runtime, open_runtime
from runtime.cli import demo_report, demo_trio, study
from runtime.cli.demo_dspy import PlainDSPy
from runtime.cli.demo_graph import Intent
from runtime.cli.demo_trio import Happening
from runtime.cli.failed_run import describe
from runtime.cli.interrupts import run_until_interrupted
from runtime.cli.named_models import check_clients, make_client
from runtime.cli.terminal import ProgressLine, Style, printable
from runtime.cli.ticking import ticking
from runtime.cli.timeline import Measured, Timeline, join
from runtime.lm.client import LMClient
from runtime.lm.providers.translation import warm_up
from runtime.testing.models.process import LoopbackHandle, MonotonicClock, loopback_process

T = TypeVar("T")

INTENT: Final = Intent(study.TEXT, study.LABEL, study.NOW)


@final
@attrs.frozen
class Options:
    """What the command line asks for."""

    model: str | None = None
    """A real model, instead of the loopback provider."""
    api_base: str | None = None
    fast: bool = False
    json: bool = False


def run(options: Options) -> int:
    """Run the demo and return the exit code.

    Raises:
        WrongUsage: the model is unknown or has no key.
        KeyboardInterrupt: Ctrl-C.
    """
    try:
        if options.model is not None:
            client = make_client(options.model, options.api_base)
            return run_until_interrupted(partial(_on_a_provider, client, options), clock=MonotonicClock())
        with loopback_process(study.warm_up_scripts()) as handle:
            return run_until_interrupted(_Study(handle, options).run, clock=MonotonicClock())
    except UnderstudyError as error:
        print(printable(describe(error), sys.stderr), file=sys.stderr)
        return 1


@final
class _Screen:
    """Standard output for findings and standard error for progress."""

    def __init__(self, is_json: bool) -> None:
        self.style = Style.of(sys.stdout)
        self.progress = ProgressLine(sys.stderr, Style.of(sys.stderr))
        self._is_json = is_json

    def show(self, *blocks: list[str]) -> None:
        """Print `blocks`, an empty line after each; nothing when JSON was asked for."""
        if self._is_json:
            return
        self.progress.clear()
        for block in blocks:
            print(printable("\n".join([*block, ""]), sys.stdout), flush=True)

    def show_json(self, data: Mapping[str, Any]) -> None:
        """Print `data` when JSON was asked for."""
        self.progress.clear()
        if self._is_json:
            print(json.dumps(data, indent=2))

    async def during(self, text: str, work: Callable[[], Awaitable[T]]) -> T:
        """Await `work` and say meanwhile how long it takes."""
        self.progress.step(text)
        try:
            return await ticking(self.progress, lambda: text, work)
        finally:
            self.progress.clear()


@final
class _Study:
    """The demo on the loopback provider."""

    def __init__(self, handle: LoopbackHandle, options: Options) -> None:
        self._handle = handle
        self._options = options
        self._scale = study.FAST if options.fast else 1.0
        self._screen = _Screen(options.json)
        self._runs: dict[str, Timeline] = {}
        self._outputs: set[str] = set()

    async def run(self) -> int:
        screen, style = self._screen, self._screen.style
        screen.show(demo_report.introduction(style, self._scale))
        async with open_runtime(lms=demo_trio.clients(self._handle.api_base)) as runtime:
            ways, cold = await self._warm_up(runtime)
            screen.show([*demo_report.cold_start(style, cold), "", *demo_report.legend(style)])
            for key, way in ways.items():
                await self._measure(key, way)
            happenings = await self._fail(runtime)
        output = ", ".join(sorted(self._outputs))
        screen.show(
            demo_report.same_output(output, style),
            demo_report.failure(happenings, self._runs["e"].makespan_s, style),
            demo_report.concluded(self._runs, style),
        )
        screen.show_json(
            {
                "cold_start_s": cold,
                "variants": {key: timeline.to_json() for key, timeline in self._runs.items()},
                "output": output,
                "failure": [attrs.asdict(happening) for happening in happenings],
                "conclusion": demo_report.conclusion(self._runs),
            }
        )
        return 0 if len(self._outputs) == 1 and self._runs["e"].most_in_flight == study.OVERLAPPING else 1

    async def _warm_up(self, runtime: Runtime) -> tuple[dict[str, Callable[[], Awaitable[Measured]]], dict[str, float]]:
        """Pay for imports and first connections; the ways to run the study, and what each first time took."""
        cold: dict[str, float] = {}

        async def timed(name: str, work: Callable[[], Awaitable[T]]) -> T:
            began_s = trio.current_time()
            result = await self._screen.during(f"warming up: {name}", work)
            cold[name] = trio.current_time() - began_s
            return result

        async def load() -> PlainDSPy:
            await warm_up()  # LiteLLM, which DSPy would import at its first call
            return await _in_thread(partial(PlainDSPy, self._handle.api_base, INTENT))

        comparison = await timed("imports", load)
        ours = partial(demo_trio.measure, runtime, INTENT)
        ways: dict[str, Callable[[], Awaitable[Measured]]] = {
            "a": partial(_in_thread, comparison.one_after_another),
            "b": partial(_in_thread, comparison.async_calling_sync),
            "c": partial(_in_thread, comparison.threads),
            "d": partial(_in_thread, comparison.plain_asyncio),
            "e": ours,
        }
        await timed("synchronous DSPy", ways["c"])
        await timed("DSPy on asyncio", ways["d"])
        await timed("understudy", ours)
        await _in_thread(partial(self._handle.configure, study.scripts(self._scale)))
        return ways, cold

    async def _measure(self, key: str, way: Callable[[], Awaitable[Measured]]) -> None:
        await _in_thread(self._handle.clear)
        measured = await self._screen.during(f"running ({key})", way)  # its heading follows, with what was seen
        snapshot = await _in_thread(self._handle.snapshot)
        timeline = self._runs[key] = join(measured, snapshot.requests)
        self._outputs.add(measured.output)
        scale_s = study.sequence_s() * self._scale * 1.07
        self._screen.show(demo_report.variant(key, timeline, scale_s=scale_s, style=self._screen.style))

    async def _fail(self, runtime: Runtime) -> list[Happening]:
        await _in_thread(partial(self._handle.configure, study.failing_scripts(self._scale, demo_trio.FAILING)))
        return await self._screen.during("a failure", partial(demo_trio.fail_and_recover, runtime, INTENT))


async def _on_a_provider(client: LMClient, options: Options) -> int:
    """The study's graph on a real provider, with the user's key."""
    screen = _Screen(options.json)
    await screen.during("importing", partial(check_clients, [client]))
    async with open_runtime(lms={each.name: client for each in study.EXTRACTORS}) as runtime:
        measured = await screen.during(client.model, partial(demo_trio.measure, runtime, INTENT))
    timeline = join(measured)
    drawn = demo_report.variant("e", timeline, scale_s=timeline.makespan_s, style=screen.style)
    screen.show(drawn, demo_report.same_output(measured.output, screen.style)[1:])
    screen.show_json({"model": client.model, "variants": {"e": timeline.to_json()}, "output": measured.output})
    return 0


async def _in_thread(function: Callable[[], T]) -> T:
    """Run what blocks in a thread; when the demo is interrupted, the thread is left behind and ends with the process."""
    return await trio.to_thread.run_sync(function, abandon_on_cancel=True)
