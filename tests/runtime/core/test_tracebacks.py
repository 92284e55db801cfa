"""What the tracebacks and messages of errors show of the author's code, and that they show nothing around it."""

from __future__ import annotations

import traceback
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from actors import Actor, ActorFailed, ActorStartFailed, DeclarationError, Graph, InternalError, NodeFailed, RunFailed
from runtime import open_runtime
from runtime.core.tracebacks import places_of, raised_at, trim

HERE = Path(__file__).name


class Boom(Exception):
    pass


@attrs.frozen
class Ask:
    text: str


@attrs.frozen
class Answer:
    text: str


def explode(what: object) -> Answer:
    raise Boom(f"bad {what}")


LINE = f"{__file__}:{explode.__code__.co_firstlineno + 1} in explode"


class Fragile(Actor):
    async def receive(self, message: Any) -> Any:
        return explode(message)


class Relay(Actor):
    def __init__(self, to: Any) -> None:
        self.to = to

    async def receive(self, message: Any) -> Any:
        return await self.to.ask(message)


def graph_of(node: Any) -> Graph:
    graph = Graph("g", input=Ask, output=Answer)
    graph.node(node)
    return graph


async def work(ask: Ask) -> Answer:
    return explode(ask.text)


def files_of(error: BaseException | None) -> list[str]:
    """The file of every frame in the traceback of `error`, outermost first."""
    assert error is not None
    return [Path(frame.filename).name for frame in traceback.extract_tb(error.__traceback__)]


async def test_an_ask_that_fails_names_the_line_and_has_the_frames_of_the_author_alone(autojump_clock):
    async with open_runtime() as runtime:
        ref = await runtime.spawn(Fragile, name="fragile")
        with pytest.raises(ActorFailed) as caught:
            await ref.ask("x")

    assert str(caught.value) == f"'fragile' failed while it handled a str message: Boom: bad x\n  at {LINE}"
    assert files_of(caught.value) == [HERE, "refs.py"]
    assert files_of(caught.value.__cause__) == [HERE, HERE]


async def test_a_failure_that_passes_several_actors_names_each_line_once_the_innermost_first(autojump_clock):
    async with open_runtime() as runtime:
        relay = await runtime.spawn(Relay, await runtime.spawn(Fragile))
        with pytest.raises(ActorFailed) as caught:
            await relay.ask("x")

    at = f"{__file__}:{Relay.receive.__code__.co_firstlineno + 1} in receive"
    assert str(caught.value).splitlines()[1:] == [f"  at {LINE}", f"  at {at}"]
    assert files_of(caught.value.__cause__) == [HERE]


async def test_a_run_that_fails_names_the_line_and_has_the_frames_of_the_author_alone(autojump_clock):
    async with open_runtime() as runtime:
        with pytest.raises(RunFailed) as caught:
            await runtime.run(graph_of(work), Ask("x"))

    [leaf] = caught.value.exceptions
    assert isinstance(leaf, NodeFailed)
    assert str(leaf) == f"node 'work' gave up after attempt 1: Boom: bad x\n  at {LINE}"
    assert files_of(caught.value) == [HERE, "runs.py"]
    assert files_of(leaf.__cause__) == [HERE, HERE]


async def test_a_start_that_fails_in_a_lifespan_names_the_line_and_has_the_frames_of_the_author_alone(autojump_clock):
    class Bad(Fragile):
        @asynccontextmanager
        async def lifespan(self):
            explode("start")
            yield

    async with open_runtime() as runtime:
        with pytest.raises(ActorStartFailed, match=r"Boom: bad start\n  at ") as caught:
            await runtime.spawn(Bad)

    assert f"\n  at {LINE}\n" in str(caught.value)
    assert files_of(caught.value) == [HERE, "actors.py"]
    assert files_of(caught.value.__cause__) == [HERE, HERE]


async def test_all_errors_of_a_nursery_are_named_and_trimmed_up_to_three(autojump_clock):
    class Many(Actor):
        async def receive(self, message: Any) -> None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.one)
                nursery.start_soon(self.two)

        async def one(self) -> None:
            explode(1)

        async def two(self) -> None:
            raise KeyError(2)

    async with open_runtime() as runtime:
        ref = await runtime.spawn(Many)
        with pytest.raises(ActorFailed) as caught:
            await ref.ask("x")

    assert len([line for line in str(caught.value).splitlines() if line.startswith("  at ")]) == 2
    group = caught.value.__cause__
    assert isinstance(group, BaseExceptionGroup)
    assert {file for error in group.exceptions for file in files_of(error)} == {HERE}


def code_of(source: str, module: str, file: str = "<string>", **names: Any) -> Any:
    """The function ``f`` that `source` makes, as code of `module` in `file`."""
    space: dict[str, Any] = {"__name__": module, **names}
    exec(compile(source, file, "exec"), space)
    return space["f"]


def raised_by(call: Any, *args: Any) -> Exception:
    """What ``call(*args)`` raises, without the frame of this function."""
    try:
        call(*args)
    except Exception as error:  # noqa: BLE001
        trace = error.__traceback__
        return error.with_traceback(trace.tb_next if trace is not None else None)
    raise AssertionError


def test_a_traceback_without_code_of_an_author_stays_whole():
    inner = code_of("def f(): raise KeyError('a bug of ours')", "runtime.core.inner")
    error = raised_by(code_of("def f(call): call()", "trio._somewhere"), inner)
    whole = error.__traceback__

    assert trim(error).__traceback__ is whole
    assert raised_at(error) == ""


@pytest.mark.parametrize(("error", "frames"), [(ValueError("x"), 2), (InternalError("x"), 2), (DeclarationError("x"), 1)])
def test_what_code_of_the_author_called_last_stays_unless_it_explains_itself(error, frames):
    ours = code_of("def f(error): raise error", "runtime.core.inner")

    assert len(files_of(trim(raised_by(code_of("def f(call, error): call(error)", "shop"), ours, error)))) == frames


def test_the_line_of_a_program_that_is_itself_installed_is_that_of_its_handler():
    folder = "/venv/lib/python3.11/site-packages"
    send = code_of("def f(): raise OSError('gone')", "client.wire", f"{folder}/client/wire.py")
    handler = code_of("def f(call): call()", "shop.nodes", f"{folder}/shop/nodes.py")

    assert [str(place) for place in places_of(raised_by(handler, send))] == [f"{folder}/shop/nodes.py:1 in f"]


async def test_the_result_of_a_task_that_failed_grows_no_traceback_with_each_wait(autojump_clock):
    async with open_runtime() as runtime:
        handle = await runtime.task(work, Ask("x"))
        lengths = []
        for _ in range(3):
            with pytest.raises(ActorFailed) as caught:
                await handle.result()
            lengths.append(len(files_of(caught.value)))

    assert lengths == [2, 2, 2]


async def test_an_error_that_lets_nothing_be_set_on_it_is_trimmed_all_the_same(autojump_clock):
    class Frozen(Exception):
        def __setattr__(self, name: str, value: object) -> None:
            raise AttributeError(name)

    class Bad(Actor):
        async def receive(self, message: Any) -> None:
            raise Frozen

    async with open_runtime() as runtime:
        ref = await runtime.spawn(Bad)
        with pytest.raises(ActorFailed) as caught:
            await ref.ask("x")

    assert files_of(caught.value.__cause__) == [HERE]


async def test_a_stack_as_deep_as_python_allows_is_trimmed_without_recursion(autojump_clock):
    class Deep(Actor):
        async def receive(self, message: Any) -> None:
            await self.receive(message)

    async with open_runtime() as runtime:
        ref = await runtime.spawn(Deep)
        with pytest.raises(ActorFailed, match="RecursionError") as caught:
            await ref.ask("x")

    assert set(files_of(caught.value.__cause__)) == {HERE}
