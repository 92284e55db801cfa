"""What data calls the classes of a program that was started from its file."""

from __future__ import annotations

import subprocess
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import attrs
import pytest

from runtime.messages.modules import modules_called, name_of
from runtime.messages.tags import Types

PROGRAM = '''
from __future__ import annotations

import sys

import attrs
import trio

from actors import Graph
from runtime import open_runtime


@attrs.frozen
class Order:
    number: int


@attrs.frozen
class Approved:
    by: str


@attrs.frozen
class Sent:
    text: str


graph = Graph("letters", input=Order, output=Sent)


@graph.human
async def approve(order: Order) -> Approved:
    """May it be sent?"""
    raise NotImplementedError


@graph.node
async def send(ok: Approved) -> Sent:
    return Sent(f"sent, says {ok.by}")


async def main(step: str) -> None:
    async with open_runtime(store="runs.db", graphs=[graph]) as runtime:
        if step == "start":
            await runtime.start(graph, Order(7), run_id="order-7")
        else:
            [question] = await runtime.questions()
            assert question.asks == Order(7), question.asks
            await runtime.answer(question.id, Approved(step))
        if step != "start":
            print(await (await runtime.handle("order-7")).result())


if __name__ == "__main__":
    trio.run(main, sys.argv[1])
'''
IMPORTED = "import sys, trio, letters; trio.run(letters.main, sys.argv[1])"


def started(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={"PYTHONPATH": f"{Path(__file__).parents[3]}:{folder}"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("first", "then"),
    [
        (["letters.py"], ["-c", IMPORTED]),
        pytest.param(["-c", IMPORTED], ["-m", "letters"], marks=pytest.mark.chaos),
        (["-m", "letters"], ["letters.py"]),
    ],
    ids=["a file, then a module", "a module, then python -m", "python -m, then a file"],
)
def test_a_run_of_a_program_goes_on_wherever_its_file_is_imported(first: list[str], then: list[str], tmp_path: Path) -> None:
    (tmp_path / "letters.py").write_text(PROGRAM)

    started(tmp_path, *first, "start")

    assert started(tmp_path, *then, "anna") == "Sent(text='sent, says anna')\n"


@attrs.frozen
class Here:
    n: int


class Inner:
    @attrs.frozen
    class Here:
        n: int


def test_data_of_a_program_that_did_not_say_its_name_is_still_read() -> None:
    assert Types([Here]).find("__main__:Here") is Here
    assert Types([Here]).find("__main__:Inner.Here") is None
    assert Types([Here]).find("elsewhere:Here") is None
    assert Types([Here, Inner.Here]).find("__main__:Here") is Here


def test_two_classes_that_may_be_meant_are_none() -> None:
    one, two = (attrs.make_class("Same", ["n"]) for _ in range(2))

    assert Types([one, two]).find("__main__:Same") is None


def test_a_program_without_a_file_keeps_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = attrs.make_class("Cell", ["n"])
    kind.__module__ = "__main__"
    program = ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", program)

    assert name_of(kind) == "__main__:Cell"

    program.__file__ = "/somewhere/letters.py"
    assert name_of(kind) == "letters:Cell"
    program.__spec__ = ModuleSpec("post.letters", None)
    assert name_of(kind) == "post.letters:Cell"
    assert modules_called("post.letters") == [program]
