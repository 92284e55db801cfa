"""Against programs that stand in for the command."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from actors.errors import LMError, LMReplyUnreadable, LMTimeout, LMUnavailable, UsageError
from runtime.lm.backends.claude_cli import ClaudeCLI, ClaudeCLIBackend

HELLO = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]
ANSWER = {"type": "result", "is_error": False, "result": "Good day.", "usage": {"input_tokens": 3, "output_tokens": 2}}
STUBBORN = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
open("pid.part", "w").write(str(os.getpid()))
os.rename("pid.part", "pid")
time.sleep(60)
"""


@attrs.frozen
class Review:
    stars: int


def command(folder: Path, code: str) -> tuple[str, ...]:
    program = folder / "command.py"
    program.write_text(f"import os, sys\nos.chdir({str(folder)!r})\n{code}")
    return (sys.executable, str(program))


def printing(folder: Path, answer: Any) -> tuple[str, ...]:
    return command(folder, f"open('seen', 'w').write(repr((sys.argv[1:], sys.stdin.read())))\nprint({json.dumps(answer)!r})")


async def pid_of(folder: Path) -> int:
    with trio.fail_after(10):
        while not await trio.Path(folder / "pid").exists():  # noqa: ASYNC110 - another process writes it
            await trio.sleep(0.01)
    return int(await trio.Path(folder / "pid").read_text())


async def test_the_command_is_run_on_the_prompt_and_its_result_is_the_answer(tmp_path: Path):
    completion = await ClaudeCLI("haiku", command=printing(tmp_path, ANSWER)).chat(HELLO)

    arguments, prompt = eval((tmp_path / "seen").read_text())
    assert (completion.text, completion.model, completion.usage.total_tokens) == ("Good day.", "claude-cli/haiku", 5)
    assert prompt == "Hello"
    assert arguments[arguments.index("--system-prompt") + 1] == "Be brief."
    assert arguments[arguments.index("--model") + 1] == "haiku"


async def test_the_four_coroutines_work_over_it(tmp_path: Path):
    answer = {**ANSWER, "result": "[[ ## stars ## ]]\n4\n\n[[ ## completed ## ]]"}

    made = await ClaudeCLIBackend("haiku", command=printing(tmp_path, answer)).make(Review(1), Review)

    assert made == Review(4)


@pytest.mark.parametrize(
    ("code", "kind", "words"),
    [
        ("sys.exit('Not logged in.')", LMUnavailable, "exit code 1: Not logged in."),
        ("print('oops')", LMReplyUnreadable, "it printed no JSON: 'oops'."),
        ("print('[]')", LMReplyUnreadable, "it printed no answer: '[]'."),
        ('print(\'{"is_error": true, "result": "no"}\')', LMReplyUnreadable, "it printed no answer"),
    ],
)
async def test_what_is_no_answer_is_an_error(code: str, kind: type[LMError], words: str, tmp_path: Path):
    with pytest.raises(kind) as caught:
        await ClaudeCLI("haiku", command=command(tmp_path, code)).chat(HELLO)

    assert str(caught.value).startswith(f"'claude-cli/haiku': {words}")


async def test_a_command_that_is_not_there_is_named():
    with pytest.raises(LMUnavailable, match="'no-such-command' cannot be run") as caught:
        await ClaudeCLI("haiku", command=["no-such-command"]).chat(HELLO)

    assert caught.value.retryable is False


async def test_options_are_refused():
    with pytest.raises(UsageError, match="does not take the option 'temperature'"):
        await ClaudeCLI("haiku").chat(HELLO, temperature=0)


@pytest.mark.slow
async def test_a_process_that_takes_too_long_is_ended_and_waited_for(tmp_path: Path):
    lm = ClaudeCLI("haiku", command=command(tmp_path, STUBBORN), deadline_s=2.0)

    with pytest.raises(LMTimeout, match=r"no answer within 2 s"):
        await lm.chat(HELLO)

    with pytest.raises(ProcessLookupError):
        os.kill(await pid_of(tmp_path), 0)


@pytest.mark.slow
async def test_a_cancelled_call_leaves_no_process(tmp_path: Path):
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ClaudeCLI("haiku", command=command(tmp_path, STUBBORN)).chat, HELLO)
        pid = await pid_of(tmp_path)
        nursery.cancel_scope.cancel()

    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


# --- a command that misbehaves ----------------------------------------------------------------------------------------

FAKE = """
import json, os, signal, subprocess, sys, time

def answer(text, **more):
    usage = {"input_tokens": 3, "output_tokens": 2, "cache_read_input_tokens": 0}
    print(json.dumps({"type": "result", "subtype": "success", "is_error": False, "result": text, "session_id": "s",
                      "total_cost_usd": 0.01, "num_turns": 1, "usage": usage, **more}))

def pid():
    with open("pid.part", "w") as file:
        file.write(str(os.getpid()))
    os.rename("pid.part", "pid")

how = os.environ["FAKE_CLAUDE"]
if how == "answers":
    answer("echo: " + sys.stdin.read())
elif how == "says what is wrong in its result":
    answer("Credit balance is too low", is_error=True, subtype="error_during_execution")
    sys.exit(1)
elif how == "prints bytes that are no text":
    sys.stdout.buffer.write(b"\\xff\\xfe\\x00" * 5)
elif how == "prints without end":
    while True:
        sys.stdout.write("x" * 65536)
elif how == "closes its input unread":
    os.close(0)
    answer("did not read")
elif how == "hangs before it reads":
    pid()
    time.sleep(60)
elif how == "hangs in the middle of its answer":
    sys.stdout.write('{"type": "result", ')
    sys.stdout.flush()
    pid()
    time.sleep(60)
elif how == "leaves a child":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
    child = subprocess.Popen([sys.executable, "-c", stubborn])
    with open("child", "w") as file:
        file.write(str(child.pid))
    pid()
    time.sleep(60)
"""


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., ClaudeCLI]:
    def make(how: str, deadline_s: float = 30.0) -> ClaudeCLI:
        monkeypatch.setenv("FAKE_CLAUDE", how)
        return ClaudeCLI("haiku", command=command(tmp_path, FAKE), deadline_s=deadline_s)

    return make


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and that its new parent has not yet waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


async def test_an_answer_like_the_real_ones_is_read_with_its_price(fake: Callable[..., ClaudeCLI]):
    completion = await fake("answers").chat(HELLO)

    assert (completion.text, completion.usage.cost_usd, completion.attempts) == ("echo: Hello", 0.01, 1)


async def test_a_long_prompt_that_is_not_read_does_not_hang(fake: Callable[..., ClaudeCLI]):
    completion = await fake("closes its input unread").chat([{"role": "user", "content": "x" * 1_000_000}])

    assert completion.text == "did not read"


@pytest.mark.parametrize(
    ("how", "kind", "words"),
    [
        ("says what is wrong in its result", LMUnavailable, "exit code 1: "),
        ("prints bytes that are no text", LMReplyUnreadable, "it printed no JSON: "),
        ("prints without end", LMReplyUnreadable, "it printed more than 16777216 bytes"),
    ],
)
async def test_whatever_it_prints_is_an_error_and_not_a_hang(
    how: str, kind: type[LMError], words: str, fake: Callable[..., ClaudeCLI]
):
    with trio.fail_after(25), pytest.raises(kind) as caught:
        await fake(how).chat(HELLO)

    assert str(caught.value).startswith(f"'claude-cli/haiku': {words}")


@pytest.mark.slow
@pytest.mark.parametrize("how", ["hangs before it reads", "hangs in the middle of its answer"])
async def test_one_that_hangs_is_ended_and_waited_for(how: str, fake: Callable[..., ClaudeCLI], tmp_path: Path):
    with pytest.raises(LMTimeout, match=r"no answer within 2 s"):
        await fake(how, deadline_s=2.0).chat(HELLO)

    with pytest.raises(ProcessLookupError):
        os.kill(await pid_of(tmp_path), 0)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes in /proc")
async def test_what_it_has_started_ends_with_it(fake: Callable[..., ClaudeCLI], tmp_path: Path):
    async with trio.open_nursery() as nursery:
        nursery.start_soon(fake("leaves a child").chat, HELLO)
        pid = await pid_of(tmp_path)
        nursery.cancel_scope.cancel()

    assert not is_alive(pid)
    child = int((tmp_path / "child").read_text())
    with trio.fail_after(10):
        while is_alive(child):  # noqa: ASYNC110 - killed with its group, and reaped by whoever inherits it
            await trio.sleep(0.01)
