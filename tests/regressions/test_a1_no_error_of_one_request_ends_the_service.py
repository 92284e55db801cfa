"""What a library raises is the failure of the node or actor that called it; what does end a runtime ends its host."""

from __future__ import annotations

import argparse
import asyncio
import signal
from pathlib import Path
from typing import Any, cast

import attrs
import pytest
import trio

from actors import (
    Actor,
    ActorFailed,
    Backoff,
    Directive,
    Graph,
    NodeFailed,
    Redelivery,
    RestartsExhausted,
    RunFailed,
    Supervision,
)
from runtime import open_runtime
from runtime.embed.asyncio import open_runtime_asyncio
from runtime.embed.portal import open_runtime_portal
from tests.runtime.cast import AT_ONCE, Echo
from tests.runtime.embed.servers import APPS, exchange, request, serving


@attrs.frozen
class In:
    v: int


@attrs.frozen
class Out:
    v: int


class Own(BaseException):
    """As trio's, gevent's, pytest's and others' are."""


class Fragile(Actor):
    def __init__(self, error: BaseException) -> None:
        self.error = error

    async def receive(self, message: object) -> None:
        raise self.error


GIVES_UP = Supervision(max_restarts=0, backoff=Backoff(first_s=0))


@pytest.mark.parametrize("kind", [asyncio.CancelledError, SystemExit, Own])
async def test_a1_a_node_that_raises_no_exception_fails_its_own_run_only(kind, autojump_clock):
    graph = Graph("g", input=In, output=Out)

    @graph.node
    async def node(given: In) -> Out:
        if given.v < 0:
            raise kind
        await trio.sleep(10)
        return Out(given.v)

    results = []
    async with open_runtime() as runtime, trio.open_nursery() as nursery:

        async def other():
            results.append(await runtime.run(graph, In(1)))

        nursery.start_soon(other)
        await trio.sleep(1)
        with pytest.raises(RunFailed) as caught:
            await runtime.run(graph, In(-1))

    assert results == [Out(1)]
    failure = caught.value.exceptions[0]
    assert isinstance(failure, NodeFailed)
    assert type(failure.__cause__) is kind
    assert str(failure).splitlines()[0] == f"node 'node' gave up after attempt {failure.attempt}: {kind.__name__}: "


async def test_a1_what_a_library_raises_is_tried_again_by_the_rules_of_its_node(autojump_clock):
    graph = Graph("g", input=In, output=Out)
    attempts = []

    @graph.node(redelivery=Redelivery(max_attempts=3, backoff=AT_ONCE))
    async def node(given: In) -> Out:
        attempts.append(given.v)
        if len(attempts) < 3:
            raise asyncio.CancelledError
        return Out(given.v)

    async with open_runtime() as runtime:
        assert await runtime.run(graph, In(1)) == Out(1)
    assert attempts == [1, 1, 1]


async def test_a1_argparse_in_an_actor_costs_that_message_only(autojump_clock, capsys):
    class Parses(Actor):
        async def receive(self, message: list[str]) -> int:
            parser = argparse.ArgumentParser()
            parser.add_argument("number", type=int)
            return int(parser.parse_args(message).number)

    async with open_runtime(supervision=Supervision(backoff=AT_ONCE)) as runtime:
        ref = await runtime.spawn(Parses)
        with pytest.raises(ActorFailed) as caught:
            await ref.ask(["x"])
        assert await ref.ask(["3"]) == 3

    assert isinstance(caught.value.__cause__, SystemExit)


async def test_a1_a_directive_can_be_given_for_what_a_library_raises(autojump_clock):
    resume = Supervision(on_error={asyncio.CancelledError: Directive.RESUME})
    async with open_runtime(supervision=resume) as runtime:
        ref = await runtime.spawn(Fragile, asyncio.CancelledError())
        with pytest.raises(ActorFailed):
            await ref.ask("go")

        assert (ref.statistics().incarnation, ref.statistics().restarts) == (1, 0)


async def test_a1_a_task_that_raises_generator_exit_ends_the_runtime_and_does_not_hang_it(autojump_clock):
    async def fail():
        raise GeneratorExit

    class Starts(Echo):
        async def receive(self, message):
            self.context.nursery.start_soon(fail)

    with trio.fail_after(10), pytest.raises(GeneratorExit):  # noqa: PT012 - it comes out of the end of the block
        async with open_runtime() as runtime:
            await (await runtime.spawn(Starts)).tell("go")
            await trio.sleep_forever()


# --- the hosts --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), GeneratorExit(), LookupError("lost")], ids=lambda error: type(error).__name__
)
def test_a1_the_block_of_an_asyncio_host_ends_with_its_runtime_and_other_runtimes_go_on(error):
    expected = RestartsExhausted if isinstance(error, Exception) else type(error)

    async def block():
        async with open_runtime_asyncio(supervision=GIVES_UP) as runtime:
            ref = await runtime.spawn(Fragile, error)
            await ref.tell("go")
            await asyncio.sleep(60)

    async def main():
        async with open_runtime_asyncio() as other:
            ref = await other.spawn(Echo)
            try:
                async with asyncio.timeout(30):
                    await block()
            except BaseException as ended:  # noqa: BLE001 - asyncio would end the loop with it
                return ended, await ref.ask("still here")
        raise AssertionError("the block did not end")

    ended, answer = asyncio.run(main())

    assert isinstance(ended, expected)
    assert answer == "still here"


def test_a1_an_asyncio_host_is_told_what_its_call_failed_with():
    class Broken:
        model = "broken"

        async def chat(self, *args, **options):
            raise asyncio.CancelledError

        predict = stream = make = decide = choose_type = fill = chat

    async def main():
        async with open_runtime_asyncio(lm=cast("Any", Broken())) as runtime:
            ref = await runtime.spawn(Echo)
            with pytest.raises(asyncio.CancelledError):
                await runtime.lm.chat([{"role": "user", "content": "hello"}])
            return await ref.ask("still here")

    assert asyncio.run(main()) == "still here"


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="a wait in the system cannot be ended there")
@pytest.mark.parametrize("error", [KeyboardInterrupt(), LookupError("lost")], ids=lambda error: type(error).__name__)
def test_a1_the_block_of_a_portal_ends_with_its_runtime(error):
    expected = RestartsExhausted if isinstance(error, Exception) else type(error)

    with pytest.raises(expected):  # noqa: PT012 - it comes out of the end of the block
        with open_runtime_portal(supervision=GIVES_UP) as runtime:
            runtime.spawn(Fragile, error).tell("go")
            signal.sigtimedwait([signal.SIGUSR1], 30)  # as a server waits, in the system
            pytest.fail("the block went on")


SERVERS = {
    "uvicorn": ("uvicorn", "--port", "{port}", "--no-access-log", f"{APPS}.fragile_app:"),
    "hypercorn-asyncio": ("hypercorn", "-k", "asyncio", "--bind", "127.0.0.1:{port}", f"{APPS}.fragile_app:"),
    "hypercorn-trio": ("hypercorn", "-k", "trio", "--bind", "127.0.0.1:{port}", f"{APPS}.fragile_app:"),
}


def serving_fragile(server: str, app: str, folder: Path):
    *command, module = SERVERS[server]
    return serving((*command, module + app), {}, folder)


@pytest.mark.slow
async def test_a1_a_server_answers_on_after_a_request_that_cancels_itself_or_exits(tmp_path):
    async with serving_fragile("uvicorn", "app", tmp_path) as server:
        codes = [(await exchange(server.port, request("GET", f"/wish/{kind}")))[0] for kind in ("cancelled", "exit", "fine")]

        assert codes == [500, 500, 200]
        server.process.send_signal(signal.SIGTERM)
        await server.wait()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("server", "app", "way"),
    [
        ("uvicorn", "app", "interrupt"),
        ("uvicorn", "wrapped", "exhaust"),
        ("hypercorn-asyncio", "app", "exhaust"),
        ("hypercorn-trio", "app", "exhaust"),
    ],
)
async def test_a1_a_server_ends_with_its_runtime_and_its_exit_code_shows_it(server, way, app, tmp_path):
    """Hypercorn's own code is 0 whatever its only worker ended with; that it ends is all that can be had of it."""
    async with serving_fragile(server, app, tmp_path) as up:
        await exchange(up.port, request("GET", f"/end/{way}"))

        with trio.fail_after(20):
            code = await up.wait()
        assert code != 0 or server != "uvicorn"
        expected = "KeyboardInterrupt" if way == "interrupt" else "RestartsExhausted"
        assert f"the runtime has ended, and the server stops with it: {expected}" in up.log.read_text()
