"""The ``claude`` command as a language model: one process per call, which never outlives it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any, cast, final

import trio

from actors.checks import refuse
from actors.errors import LMError, LMReplyUnreadable, LMTimeout, LMUnavailable, UsageError
from actors.lm import ChatMessage, Completion, Usage
from runtime.lm.backends import DSPyBackend
from runtime.lm.failures import shorten

DEADLINE_S = 120.0
GRACE_S = 1.0
"""How long a process may take to end by itself once it has been told to."""


@final
class ClaudeCLIBackend(DSPyBackend):
    """The four coroutines by Anthropic's command line, with the account that it is logged in to.

    Args:
        model: as ``claude --model`` takes it.
        command: how to run it.
        deadline_s: seconds that one call may take.
        max_retries: how often an answer that does not fit is asked for again.
    """

    def __init__(
        self, model: str, *, command: Sequence[str] = ("claude",), deadline_s: float = DEADLINE_S, max_retries: int = 1
    ) -> None:
        super().__init__(ClaudeCLI(model, command=command, deadline_s=deadline_s), max_retries=max_retries)


@final
class ClaudeCLI:
    """Answers messages by running the command once per call, without tools, servers or a session that is kept."""

    def __init__(self, model: str, *, command: Sequence[str] = ("claude",), deadline_s: float = DEADLINE_S) -> None:
        if not deadline_s > 0:
            raise refuse(ClaudeCLI, "deadline_s", deadline_s, "a number > 0")
        self._model = model
        self._command = tuple(command)
        self._deadline_s = deadline_s

    @property
    def model(self) -> str:
        """The model's name, with the command's before it."""
        return f"claude-cli/{self._model}"

    async def chat(self, messages: Sequence[ChatMessage], /, **options: Any) -> Completion:
        """Run the command on `messages`. Its process is ended and waited for when the call is cancelled or takes too long.

        Raises:
            UsageError: an option is given; the command takes none.
            LMUnavailable: the command is not there, or failed.
            LMTimeout: it took longer than ``deadline_s``.
            LMReplyUnreadable: it printed no answer.
        """
        if options:
            raise UsageError(f"{self.model!r} does not take the option {next(iter(options))!r}.\n  Mend: leave it out.")
        system = "\n\n".join(str(message["content"]) for message in messages if message["role"] == "system")
        turns = [message for message in messages if message["role"] != "system"]
        prompt = "\n\n".join(
            f"{message['role']}: {message['content']}" if len(turns) > 1 else str(message["content"]) for message in turns
        )
        flags = ["-p", "--output-format", "json", "--model", self._model, "--tools", "", "--strict-mcp-config"]
        flags += ["--no-session-persistence", *(["--system-prompt", system] if system else [])]
        with trio.move_on_after(self._deadline_s):
            return self._answer(await self._run([*self._command, *flags], prompt.encode()))
        raise self._error(LMTimeout, f"no answer within {self._deadline_s:g} s", "raise deadline_s, or ask for less.")

    async def _run(self, command: list[str], prompt: bytes) -> subprocess.CompletedProcess[bytes]:
        try:
            # A session of its own: the command's own children end with it, and a Ctrl-C at the terminal is for us alone.
            return await trio.run_process(
                command,
                stdin=prompt,
                capture_stdout=True,
                capture_stderr=True,
                check=False,
                start_new_session=True,
                deliver_cancel=_end,
            )
        except OSError as error:
            found = self._error(LMUnavailable, f"{command[0]!r} cannot be run: {error}", "install it, or pass command=….")
            found.retryable = False
            raise found from error

    def _answer(self, run: subprocess.CompletedProcess[bytes]) -> Completion:
        said = run.stdout.decode("utf-8", "replace")
        if run.returncode != 0:
            words = shorten(run.stderr.decode("utf-8", "replace") or said)
            raise self._error(LMUnavailable, f"exit code {run.returncode}: {words}", "run the command by hand.")
        try:
            parsed: object = json.loads(said)
        except ValueError as error:
            raise self._error(LMReplyUnreadable, f"it printed no JSON: {shorten(said)!r}", "update the command.") from error
        fields: Mapping[str, Any] = cast("dict[str, Any]", parsed) if isinstance(parsed, dict) else {}
        text: object = fields.get("result")
        if fields.get("is_error") or not isinstance(text, str):
            raise self._error(LMReplyUnreadable, f"it printed no answer: {shorten(said)!r}", "run the command by hand.")
        counts: Mapping[str, int] = fields.get("usage") or {}
        usage = Usage(counts.get("input_tokens", 0), counts.get("output_tokens", 0), fields.get("total_cost_usd"))
        return Completion(text, self.model, usage=usage)

    def _error(self, kind: type[LMError], what: str, mend: str) -> LMError:
        return kind(f"{self.model!r}: {what.rstrip('.')}.\n  Mend: {mend}", model=self.model)


async def _end(process: trio.Process) -> None:
    """Tell the process and all that it has started to end, and end them if they do not."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
        await trio.sleep(GRACE_S)
        os.killpg(process.pid, signal.SIGKILL)
