"""The examples of docs/how-to/embed-*.md under the servers that they are for, forked workers and all."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from runtime.testing import LoopbackHandle, ModelScript, field_answer, loopback_process
from tests.runtime.embed.servers import ROOT, serving

pytestmark = pytest.mark.slow

EXAMPLES = ROOT / "docs" / "examples"
GUNICORN = ("gunicorn", "--workers", "2", "--threads", "4", "--preload", "--bind", "127.0.0.1:{port}")


@pytest.fixture
def provider() -> Iterator[LoopbackHandle]:
    with loopback_process({"gpt-4o-mini": ModelScript(field_answer(stars=4), latency_s=0.3)}) as handle:
        yield handle


def environment(provider: LoopbackHandle, folder: Path) -> dict[str, str]:
    return {"OPENAI_BASE_URL": provider.api_base, "OPENAI_API_KEY": "none", "HOME": str(folder)}


@pytest.mark.parametrize(
    ("app", "answer"),
    [("flask_service:app", '{"stars":4}\n'), pytest.param("django_service", '{"stars": 4}', marks=pytest.mark.chaos)],
)
async def test_a_wsgi_service_answers_from_forked_workers_and_ends_in_order(
    app: str, answer: str, provider: LoopbackHandle, tmp_path: Path
) -> None:
    answers: list[tuple[int, str]] = []

    async with serving((*GUNICORN, app), environment(provider, tmp_path), tmp_path, EXAMPLES) as server:

        async def ask() -> None:
            answers.append(await server.post("/verdicts", {"text": "Quick and quiet."}))

        async with trio.open_nursery() as nursery:
            for _ in range(12):
                nursery.start_soon(ask)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await trio.sleep(0.15)
            server.process.send_signal(signal.SIGTERM)
        code = await server.wait()

    assert answers == [(200, answer)] * 13
    assert code == 0
    assert server.log.read_text().count("Traceback") == 0
    assert not any(record.cancelled_by_client for record in provider.snapshot().requests)


CLIENT = """
import celery_worker
results = [celery_worker.verdict.delay("Quick and quiet.") for _ in range(6)]
print([result.get(timeout=240) for result in results])
"""

CONFIGURATION = """
broker_transport_options = {"data_folder_in": "queue", "data_folder_out": "queue", "control_folder": "control"}
"""


@pytest.mark.chaos
def test_a_celery_worker_answers_from_forked_processes_and_ends_in_order(provider: LoopbackHandle, tmp_path: Path) -> None:
    """Over Celery's broker of files: its broker in memory does not reach another process."""
    for folder in ("queue", "control", "results"):
        (tmp_path / folder).mkdir()
    (tmp_path / "celeryconfig.py").write_text(CONFIGURATION)
    whole = {
        **os.environ,
        **environment(provider, tmp_path),
        "PYTHONPATH": os.pathsep.join(map(str, (ROOT, EXAMPLES, tmp_path))),
        "BROKER": "filesystem://",
        "BACKEND": f"file://{tmp_path / 'results'}",
    }
    command = [
        sys.executable,
        "-m",
        "celery",
        "-A",
        "celery_worker",
        "--config",
        "celeryconfig",
        "worker",
        "-c",
        "2",
        "-l",
        "INFO",
    ]
    with (tmp_path / "worker.log").open("wb") as log:
        worker = subprocess.Popen(command, cwd=tmp_path, env=whole, stdout=log, stderr=subprocess.STDOUT)
    try:
        client = [sys.executable, "-c", f"import os; os.environ['CELERY_CONFIG_MODULE'] = 'celeryconfig'\n{CLIENT}"]
        said = subprocess.run(client, cwd=tmp_path, env=whole, capture_output=True, text=True, timeout=240, check=False)
        worker.send_signal(signal.SIGTERM)
        code = worker.wait(30)
    finally:
        worker.kill()
        worker.wait(30)

    log_text = (tmp_path / "worker.log").read_text()
    assert said.stdout == "[4, 4, 4, 4, 4, 4]\n", said.stderr + log_text
    assert code == 0, log_text
    assert log_text.count("Traceback") == 0, log_text


IN_ONE_PROCESS = """
import celery_worker
from celery.contrib.testing.worker import start_worker

with start_worker(celery_worker.app, pool="threads", concurrency=4, perform_ping_check=False):
    results = [celery_worker.verdict.delay("Quick and quiet.") for _ in range(6)]
    print([result.get(timeout=240) for result in results])
celery_worker.understudy.close(grace_s=10)
"""


def test_a_celery_worker_in_threads_answers_over_the_broker_in_memory(provider: LoopbackHandle, tmp_path: Path) -> None:
    whole = {
        **os.environ,
        **environment(provider, tmp_path),
        "PYTHONPATH": os.pathsep.join(map(str, (ROOT, EXAMPLES))),
        "BROKER": "memory://",
        "BACKEND": "cache+memory://",
    }
    command = [sys.executable, "-c", IN_ONE_PROCESS]
    said = subprocess.run(command, cwd=tmp_path, env=whole, capture_output=True, text=True, timeout=240, check=False)

    assert said.stdout == "[4, 4, 4, 4, 4, 4]\n", said.stderr
    assert said.returncode == 0, said.stderr
    assert "Traceback" not in said.stderr
    assert len(provider.snapshot().requests) == 6
