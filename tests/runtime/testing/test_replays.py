"""Journals as tests: an exported run must still be adopted whole, and end the same."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest
import trio

from actors import Graph, RunFailed, StoreDamaged, UsageError
from runtime import open_runtime
from runtime.journal.memory import MemoryStore
from runtime.testing import replays
from tests.runtime.graphs.test_adopting import A, Out, Q, Ran, diamond, nest

pytest_plugins = ("pytester",)


async def exported(graph: Graph[Any, Any], path: Path) -> Path:
    async with open_runtime(store=MemoryStore(), graphs=[graph]) as runtime:
        handle = await runtime.start(graph, Q("q"), run_id="it")
        with contextlib.suppress(RunFailed):
            await handle.result()
        written(path, (await runtime.history("it")).export())
    return path


def written(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


async def test_an_unchanged_graph_and_one_with_other_bodies_replay_and_run_nothing(autojump_clock, tmp_path):
    case, ran = await exported(diamond(Ran()), tmp_path / "case.jsonl"), Ran()

    assert replays(case, diamond(ran)).run.id == "it"
    replays(str(case), diamond(ran, change="body", version="7"))
    replays(await exported(nest(Ran()), tmp_path / "nest.jsonl"), nest(ran, change=True))

    assert ran == []


@pytest.mark.parametrize(
    ("change", "words"),
    [("inserted", "runs again: g/d/0"), ("third", "runs again: g/c/0"), ("renamed", "dropped: g/b/0")],
)
async def test_a_graph_that_would_run_something_again_does_not(autojump_clock, tmp_path, change, words):
    case = await exported(diamond(Ran()), tmp_path / "case.jsonl")

    with pytest.raises(AssertionError, match=words) as failed:
        replays(case, diamond(Ran(), change=change))
    assert str(case) in str(failed.value)


def failing(fails: bool) -> Graph[Q, Out]:
    graph = Graph("g", input=Q, output=Out)

    @graph.node
    async def a(q: Q) -> A:
        return A(q.t)

    if fails:

        @graph.node
        async def b(a: A) -> Out:
            raise OSError("no")

    else:

        @graph.node
        async def c(a: A) -> Out:
            return Out(a.t)

    return graph


async def test_a_run_that_failed_must_still_come_to_where_it_did(autojump_clock, tmp_path):
    case = await exported(failing(True), tmp_path / "case.jsonl")

    replays(case, failing(True))
    with pytest.raises(AssertionError, match="failed at g/b/0, and does not come there any more"):
        replays(case, failing(False))


async def test_a_journal_that_was_changed_by_hand_is_damaged(autojump_clock, tmp_path):
    case = await exported(diamond(Ran()), tmp_path / "case.jsonl")
    written(case, read(case).replace('"path": "succeeded"', '"path": "cancelled"'))

    with pytest.raises(StoreDamaged, match="record 7"):
        replays(case, diamond(Ran()))


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


async def test_what_is_no_export_or_of_another_graph_is_told(autojump_clock, tmp_path):
    case = await exported(diamond(Ran()), tmp_path / "case.jsonl")
    with pytest.raises(UsageError, match="of graph 'g', not 'other'"):
        replays(case, Graph("other", input=Q, output=Out))
    written(tmp_path / "no.jsonl", "{}\n")
    with pytest.raises(UsageError, match="isn't the export of a run"):
        replays(tmp_path / "no.jsonl", diamond(Ran()))


def test_pytest_replays_a_folder_of_journals(pytester):
    folder = pytester.mkdir("journals")
    trio.run(exported, diamond(Ran()), folder / "good.jsonl")
    trio.run(exported, nest(Ran()), folder / "bad.jsonl")
    (folder / "unknown.jsonl").write_text((folder / "good.jsonl").read_text().replace('"graph": "g"', '"graph": "h"'))
    pytester.makeconftest(
        "from tests.runtime.graphs.test_adopting import Ran, diamond\n"
        "def pytest_understudy_graphs():\n    return [diamond(Ran())]\n"
    )

    result = pytester.runpytest_inprocess("--understudy-journals=journals", "-p", "no:cacheprovider")

    result.assert_outcomes(passed=1, failed=2)

    text = result.stdout.str()
    assert "bad.jsonl: run 'it' cannot go on automatically" in text
    assert "no graph 'h' is known here" in text
