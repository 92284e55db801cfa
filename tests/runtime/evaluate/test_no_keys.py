"""No key is in any file that an evaluation, a recording or a case leaves behind, wherever the key was."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from actors import LM, Graph, Redelivery
from actors.errors import LMError
from runtime import open_runtime
from runtime.cli.main import main
from runtime.evaluate import evaluate, exact
from runtime.evaluate.report import to_html, to_junit, to_text
from runtime.journal.sqlite import SqliteStore
from runtime.lm.client import LMClient
from runtime.lm.limits.retry import Retry
from tests.runtime.evaluate.grading import Sum, Total, rows
from tests.runtime.lm.recorder import Recorder, recording

CANARY = "c4nary"
KEYS = {
    "OPENAI_API_KEY": f"{CANARY}-of-the-environment",
    "AWS_SECRET_ACCESS_KEY": f"{CANARY}/of+amazon",
    "ANTHROPIC_API_KEY": f"{CANARY}-of-another",
}
HEADERS = {"x-api-key": f"{CANARY}-in-a-header", "authorization-of-the-gateway": f"Bearer {CANARY}-of-a-gateway"}
"""What the option ``extra_headers`` sends along."""


def asking() -> Graph[Sum, Total]:
    graph: Graph[Sum, Total] = Graph("asking", input=Sum, output=Total)

    @graph.node(redelivery=Redelivery(max_attempts=1))
    async def ask(given: Sum, lm: LM) -> Total:
        try:
            await lm.chat([{"role": "user", "content": f"{given.left} + {given.right}"}], extra_headers=HEADERS)
        except LMError as error:
            if given.left != 1:
                raise ValueError(f"it said {error}") from error
            raise
        return Total(given.left + given.right)

    return graph


async def leave_files(provider: Recorder, folder: Path) -> None:
    """An evaluation of which a run succeeds and two fail, with words of the provider that repeat all of its request."""
    graph = asking()
    lm = LMClient("openai/gpt-4o-mini", api_base=f"{provider.url}/v1", retry=Retry(max_attempts=1))
    store = SqliteStore(folder / "runs.db")
    async with open_runtime(lm=lm, record=folder / "cassettes", store=store, graphs=[graph]) as runtime:
        done = await evaluate(runtime, graph, rows(3), exact, out=folder / "results.jsonl", name="nightly", at_once=1)
        for run in (await runtime.stored()).items:
            (folder / f"{run.id}.case.jsonl").write_text((await runtime.history(run.id)).case(), encoding="utf-8")
            (folder / f"{run.id}.export.jsonl").write_text((await runtime.history(run.id)).export(), encoding="utf-8")
    assert len(done.failed) == 2
    for name, made in (("report.html", to_html(done)), ("junit.xml", to_junit(done)), ("report.txt", to_text(done))):
        (folder / name).write_text(made, encoding="utf-8")


def test_no_key_is_in_any_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, key in KEYS.items():
        monkeypatch.setenv(name, key)
    with recording() as provider:
        said = f"Wrong: authorization: Bearer {KEYS['OPENAI_API_KEY']} {HEADERS}"
        bad = (400, {"x-echo": said}, f'{{"error": {{"message": "{said}", "code": 400}}}}'.encode())
        provider.failures += [(200, {}, ANSWER), bad, bad]
        trio.run(leave_files, provider, tmp_path)
        sent = provider.seen[-1].headers
    with monkeypatch.context() as elsewhere:
        elsewhere.chdir(tmp_path)
        [run, *_] = sorted(path.name for path in tmp_path.glob("*.case.jsonl"))
        assert main(["trace", "capture", run.removesuffix(".case.jsonl"), "--store", "runs.db", "-o", "captured.jsonl"]) == 0

    assert sent["x-api-key"] == HEADERS["x-api-key"]
    assert CANARY in sent["authorization"]
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} >= {".db", ".html", ".json", ".jsonl", ".txt", ".xml"}
    assert "[redacted]" in (tmp_path / "results.jsonl").read_text()
    assert [path.name for path in files if CANARY.encode() in path.read_bytes()] == []


ANSWER = (
    b'{"id": "x", "object": "chat.completion", "model": "m", "choices": [{"index": 0, "message": {"role": "assistant",'
    b' "content": "ok"}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}}'
)
