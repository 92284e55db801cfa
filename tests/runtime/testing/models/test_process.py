"""The provider in a process of its own, in real time with tiny latencies, and the synchronous clients it is for."""

from __future__ import annotations

import http.client
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
import trio

from actors.errors import DeclarationError
from runtime.testing import Failure, LoopbackHandle, ModelScript, MonotonicClock, field_answer, loopback_process
from tests.patience import PATIENCE_S, first_line
from tests.runtime.testing.client import asking

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[4]
COMMAND = [sys.executable, "-W", "error", "-m", "runtime.testing.loopback"]


@pytest.fixture(scope="module")
def process() -> Iterator[LoopbackHandle]:
    with loopback_process() as handle:
        yield handle


@pytest.fixture
def handle(process: LoopbackHandle) -> LoopbackHandle:
    process.clear()
    process.limit(None)
    return process


def sdk(handle: LoopbackHandle) -> openai.OpenAI:
    return openai.OpenAI(base_url=handle.api_base, api_key="sk-x", max_retries=0)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def gone_within(pid: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while is_alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not is_alive(pid)


def test_the_openai_sdk_talks_to_it(handle: LoopbackHandle) -> None:
    handle.configure({"small": "Hello there."})

    with sdk(handle) as client:
        whole = client.chat.completions.create(model="small", messages=[{"role": "user", "content": "hi"}])
        stream = client.chat.completions.create(model="small", messages=[{"role": "user", "content": "hi"}], stream=True)
        streamed = "".join(chunk.choices[0].delta.content or "" for chunk in stream)

    assert (whole.choices[0].message.content, streamed) == ("Hello there.", "Hello there.")
    assert [record.headers["authorization"] for record in handle.snapshot().requests] == ["[redacted]"] * 2


def test_the_openai_sdk_understands_its_failures(handle: LoopbackHandle) -> None:
    handle.configure({"small": ModelScript("yes", failures=[Failure.status(429, retry_after_s=1.5), Failure.status(500)])})

    with sdk(handle) as client:
        with pytest.raises(openai.RateLimitError) as limited:
            client.chat.completions.create(model="small", messages=[{"role": "user", "content": "hi"}])
        with pytest.raises(openai.InternalServerError):
            client.chat.completions.create(model="small", messages=[{"role": "user", "content": "hi"}])

    assert limited.value.response.headers["retry-after"] == "1.5"


def test_its_times_line_up_with_this_processs_monotonic_clock(handle: LoopbackHandle) -> None:
    handle.configure({"small": "yes"}, latency_s=0.05)

    before = time.monotonic()
    with sdk(handle) as client:
        client.chat.completions.create(model="small", messages=[{"role": "user", "content": "hi"}])
    after = time.monotonic()

    snapshot = handle.snapshot()
    (record,) = snapshot.requests
    assert record.first_byte_s is not None
    assert record.ended_s is not None
    assert before <= record.arrived_s <= record.first_byte_s - 0.05 < record.ended_s <= after
    assert abs(snapshot.wall_offset_s - (time.time() - time.monotonic())) < 0.1
    assert before <= trio.run(current_time, clock=MonotonicClock()) <= time.monotonic()


async def current_time() -> float:
    return trio.current_time()


def test_threads_overlap_at_it_unless_it_is_limited(handle: LoopbackHandle) -> None:
    handle.configure({"*": "yes"}, latency_s=0.1)
    handle.limit(1)

    def ask(model: str) -> None:
        with sdk(handle) as client:
            client.chat.completions.create(model=model, messages=[{"role": "user", "content": "hi"}])

    threads = [threading.Thread(target=ask, args=[model]) for model in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)

    snapshot = handle.snapshot()
    first, second, third = snapshot.requests
    assert (snapshot.max_in_flight, snapshot.in_flight) == (3, 0)
    assert second.started_s == pytest.approx(first.ended_s, abs=0.05)
    assert third.started_s == pytest.approx(second.ended_s, abs=0.05)


def test_a_synchronous_dspy_module_parses_its_answer(handle: LoopbackHandle) -> None:
    import dspy

    handle.configure({"test": field_answer(filters=["year >= 2024"], query=None)})
    lm = dspy.LM("openai/test", api_base=handle.api_base, api_key="x", cache=False, num_retries=0)

    with dspy.context(lm=lm):
        prediction = dspy.Predict("intent -> filters: list[str], query: str | None")(intent="ideas since 2024")

    assert (prediction.filters, prediction.query) == (["year >= 2024"], None)
    assert "ideas since 2024" in str(handle.snapshot().requests[0].body["messages"])


def test_a_wrong_script_is_refused_and_changes_nothing(handle: LoopbackHandle) -> None:
    handle.configure({"small": "yes"})

    message = re.escape(
        "The script is not usable: ModelScript(latency_s=-1.0): expected a finite number >= 0.\n"
        "  Fix: pass a finite number >= 0 as 'latency_s'."
    )
    with pytest.raises(DeclarationError, match=f"^{message}$"):
        handle._call("POST", "/_script", {"models": {"small": {"answer": "no", "latency_s": -1.0}}})

    with sdk(handle) as client:
        whole = client.chat.completions.create(model="small", messages=[{"role": "user", "content": "hi"}])
    assert whole.choices[0].message.content == "yes"


def test_the_process_ends_with_its_block() -> None:
    with loopback_process({"small": "yes"}) as handle:
        assert is_alive(handle.pid)

    assert not is_alive(handle.pid)


def test_the_process_does_not_outlive_a_killed_parent() -> None:
    code = (
        "import os, signal, sys\n"
        "from runtime.testing import loopback_process\n"
        "with loopback_process() as handle:\n"
        "    sys.stdout.write(str(handle.pid)); sys.stdout.flush()\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )

    parent = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)

    assert parent.returncode == -signal.SIGKILL
    assert gone_within(int(parent.stdout), 5.0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_command_ends_without_a_word_on_a_signal(number: signal.Signals, tmp_path: Path) -> None:
    script = tmp_path / "script.json"
    script.write_text('{"models": {"small": {"answer": "late", "latency_s": 60.0}}}')
    command = subprocess.Popen(
        [*COMMAND, "--script", str(script)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )

    line = first_line(command)
    address = line.removeprefix("listening on http://").strip()
    connection = http.client.HTTPConnection(address)
    connection.request("POST", "/v1/chat/completions", body=str(asking("small")).replace("'", '"'))
    command.send_signal(number)
    rest, errors = command.communicate(timeout=PATIENCE_S)
    connection.close()

    assert re.fullmatch(r"listening on http://127\.0\.0\.1:\d+\n", line)
    assert (rest, errors, command.returncode) == ("", "", 0)


def test_the_command_says_what_is_wrong_with_its_script(tmp_path: Path) -> None:
    script = tmp_path / "script.json"
    script.write_text('{"models": {"small": {}}}')

    run = subprocess.run([*COMMAND, "--script", str(script)], cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)

    assert (run.stderr, run.returncode) == (
        "The script is not usable: a model's script needs 'answer' or 'answers'; it has [].\n",
        2,
    )
