"""Against programs that stand in for the command."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from actors.errors import LMError, LMReplyUnreadable, LMTimeout, LMUnavailable, UsageError
from runtime.lm.claude_cli import ClaudeCLI, ClaudeCLIBackend

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
