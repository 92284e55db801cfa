"""What every test may rely on: no network beyond this machine, no provider key, no cache of earlier runs."""

from __future__ import annotations

import gc
import os
import signal
import socket
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import hypothesis
import pytest
from trio.testing import MockClock

# Before anything imports dspy: its cache folder is fixed at import. Processes that tests start inherit both.
os.environ["DSPY_CACHEDIR"] = tempfile.mkdtemp(prefix="understudy-tests-")
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

# A shell starts background jobs with SIGINT ignored, and children inherit that: tests that interrupt would wait for ever.
signal.signal(signal.SIGINT, signal.default_int_handler)

# The same examples on every run, so that a red suite stays red; `--hypothesis-profile=explore` looks for new ones.
hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None, print_blob=True)
hypothesis.settings.register_profile("explore", max_examples=1000, deadline=None, print_blob=True)
hypothesis.settings.load_profile("repeatable")


def pytest_collection_finish() -> None:
    """Keep all that was imported out of later collections of garbage, of which some tests ask for many."""
    gc.collect()
    gc.freeze()


LOOPBACK = ("127.", "::1", "localhost")


@pytest.fixture(autouse=True)
def only_loopback(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A test that would leave this machine fails and says so, instead of passing or failing with the weather."""
    if request.node.get_closest_marker("network") is not None:
        yield
        return
    for name in [name for name in os.environ if name.endswith("_API_KEY") or name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    for name in (
        "CI",
        "BUILD_NUMBER",
    ):  # a pytest that a test starts would print each failure twice, as it does for build servers
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(socket.socket, "connect", guarded(socket.socket.connect))
    monkeypatch.setattr(socket.socket, "connect_ex", guarded(socket.socket.connect_ex))
    yield


@pytest.fixture
def autojump_clock() -> MockClock:
    """That of pytest-trio, but it rests when there is no deadline to jump to: a loop that only looks again keeps threads waiting.

    The first import of LiteLLM in a thread takes 35 s beside such a loop, and 7 s without.
    """
    clock = MockClock(autojump_threshold=0)
    jump = clock._autojump

    def jump_or_rest() -> None:
        before = clock.current_time()
        jump()
        if clock.current_time() == before:
            time.sleep(0.0002)  # let go of the interpreter's lock

    clock._autojump = jump_or_rest  # type: ignore[method-assign]  # shadows the method, as an explored run does in its turn
    return clock


def guarded(connect: Any) -> Any:
    def connect_to_loopback(sock: socket.socket, address: Any) -> Any:
        if sock.family in (socket.AF_INET, socket.AF_INET6) and not str(address[0]).startswith(LOOPBACK):
            pytest.fail(f"a test tried to connect to {address!r}: use the loopback provider, or mark it `network`")
        return connect(sock, address)

    return connect_to_loopback
