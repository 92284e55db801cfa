"""What the documentation shows with curl: start, follow and take up a stream again, alone and in a FastAPI application."""

from __future__ import annotations

import json
import re
import shutil
import subprocess

import pytest
import trio
from fastapi import FastAPI

from runtime.serve import Service
from tests.patience import PATIENCE_S
from tests.runtime.serve.cast import Keys, answers
from tests.runtime.serve.listening import SERVERS, listening

CURL = shutil.which("curl")

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CURL is None, reason="curl is not installed")]


async def curl(*options: str) -> str:
    command = [str(CURL), "--silent", "--no-buffer", "--noproxy", "*", "--max-time", str(PATIENCE_S), *options]
    done = await trio.run_process(command, capture_stdout=True, stderr=subprocess.STDOUT)
    return done.stdout.decode()


def events(text: str) -> list[tuple[int, str]]:
    return [(int(seq), name) for seq, name in re.findall(r"^id: (\d+)\nevent: (\S+)$", text, re.MULTILINE)]


@pytest.mark.parametrize("server", [*SERVERS, "mounted"])
async def test_curl_starts_follows_and_takes_up_again(server: str) -> None:
    keys = Keys()
    service = Service([answers()], auth=keys.auth)
    app = None
    if server == "mounted":
        app = FastAPI(lifespan=service.lifespan)
        app.mount("/agents", service.routes)
    key = ("--header", f"Authorization: Bearer {keys.ann}")
    stream = ("--header", "Accept: text/event-stream")
    body = ("--header", "Content-Type: application/json", "--data", json.dumps({"input": {"text": "a"}, "run_id": "r"}))
    async with listening("uvicorn" if app is not None else server, service, app) as address:
        base = address + ("/agents" if app is not None else "")
        whole = events(await curl(*key, *stream, *body, f"{base}/v1/graphs/answers/runs"))
        again = events(await curl(*key, *stream, "--header", "Last-Event-ID: 1", f"{base}/v1/runs/r/events"))
        lines = await curl(*key, "--header", "Accept: application/jsonl", f"{base}/v1/runs/r/events?after=2")
        run = json.loads(await curl(*key, f"{base}/v1/runs/r"))
        refused = json.loads(await curl(f"{base}/v1/runs/r"))

    assert whole == [(0, "run.started"), (1, "node.started"), (2, "node.finished"), (3, "run.finished")]
    assert again == whole[2:]
    assert [json.loads(line)["event"] for line in lines.splitlines()] == ["run.finished"]
    assert (run["status"], run["output"]) == ("succeeded", {"text": "A"})
    assert run["links"]["events"] == base.removeprefix(address) + "/v1/runs/r/events"
    assert refused["type"] == "urn:understudy:problem:unauthenticated"
