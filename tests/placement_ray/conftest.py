"""One cluster for all tests: a head, and two nodes of two CPUs each."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import attrs
import pytest

from tests.patience import first_line

ROOT = Path(__file__).resolve().parents[2]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if find_spec("ray") is None:
        here = [item for item in items if item.path.is_relative_to(Path(__file__).parent)]
        for item in here:
            item.add_marker(pytest.mark.skip(reason="needs the extra ray: `make test-ray`"))


@attrs.frozen
class TestCluster:
    __test__ = False
    address: str
    gcs: int
    """The process of the head that everything asks."""
    raylets: tuple[int, ...]
    """The processes of the nodes, in their order."""
    process: subprocess.Popen[str]
    token: Path | None = None

    def add_node(self) -> int:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        raylet: int = json.loads(first_line(self.process))["raylet"]
        return raylet


@contextlib.contextmanager
def started_cluster(environment: Mapping[str, str], token: Path | None = None, port: int = 0) -> Iterator[TestCluster]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.placement_ray.cluster_process"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
        text=True,
        start_new_session=True,  # a signal to the tests' group must not keep it from ending what it has started
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process.stdin, process.stdout:
        process.stdin.write(json.dumps({"environment": dict(environment), "port": port}) + "\n")
        process.stdin.flush()
        said: dict[str, Any] = json.loads(first_line(process))
        yield TestCluster(said["address"], said["gcs"], tuple(said["raylets"]), process, token)
        process.stdin.close()
        process.wait(60)


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestCluster]:
    """It asks for a token."""
    os.environ["RAY_DEDUP_LOGS"] = "0"
    token = tmp_path_factory.mktemp("ray") / "token"
    token.write_text("0123456789abcdef" * 4)
    with started_cluster({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}, token) as started:
        yield started
