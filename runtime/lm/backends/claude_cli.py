"""The ``claude`` command as a language model: one process per call, which never outlives it."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any, cast, final

import attrs
import trio

from actors.argument_checks import rejected
from actors.errors import LMError, LMReplyUnreadable, LMTimeout, LMUnavailable, UsageError
from actors.lm import ChatMessage, Completion
from runtime.lm.backends.typed import DSPyBackend
from runtime.lm.limits.redaction import excerpt, raise_alone
from runtime.lm.providers.chunks import whole_characters
from runtime.lm.providers.reasons import told_reason
from runtime.lm.providers.sending import READ_ON_THE_LOOP_BYTES
from runtime.lm.providers.usage import count, usage_of

DEADLINE_S = 120.0
GRACE_S = 1.0
"""How long a process may take to end on its own once it has been told to."""
MAX_OUTPUT_BYTES = 16 * 1024 * 1024


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
            raise rejected(ClaudeCLI, "deadline_s", deadline_s, "a number > 0")
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
            LMReplyUnreadable: it printed no answer, or more than ``MAX_OUTPUT_BYTES``.
        """
        if options:
            raise UsageError(f"{self.model!r} does not take the option {next(iter(options))!r}.\n  Fix: leave it out.")
        system = "\n\n".join(str(message["content"]) for message in messages if message["role"] == "system")
        turns = [message for message in messages if message["role"] != "system"]
        prompt = "\n\n".join(
            f"{message['role']}: {message['content']}" if len(turns) > 1 else str(message["content"]) for message in turns
        )
        flags = ["-p", "--output-format", "json", "--model", self._model, "--tools", "", "--strict-mcp-config"]
        flags += ["--no-session-persistence", *(["--system-prompt", system] if system else [])]
        with trio.move_on_after(self._deadline_s):
            output = await self._run([*self._command, *flags], prompt.encode())
            if len(output.said) <= READ_ON_THE_LOOP_BYTES:
                return self._answer(output)
            return await trio.to_thread.run_sync(self._answer, output)
        raise self._error(LMTimeout, f"no answer within {self._deadline_s:g} s", "raise deadline_s, or ask for less.")

    async def _run(self, command: list[str], prompt: bytes) -> _Output:
        output = _Output()
        missing: OSError | None = None
        async with trio.open_nursery() as nursery:
            # its own session: the command's own children end with it, and a Ctrl-C at the terminal is for us alone.
            start = functools.partial(
                trio.run_process,
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                check=False,
                start_new_session=True,
                deliver_cancel=_end,
            )
            try:
                process: trio.Process = await nursery.start(start)
            except OSError as error:
                missing = error
            else:
                await _talk(process, prompt, output, nursery.cancel_scope)
        if missing is not None:
            refusal = self._error(LMUnavailable, f"{command[0]!r} cannot be run: {missing}", "install it, or pass command=….")
            refusal.retryable = False
            raise refusal from missing
        return output

    def _answer(self, run: _Output) -> Completion:
        said = run.said.decode("utf-8", "replace")
        if run.is_too_long:
            raise self._error(LMReplyUnreadable, f"it printed more than {MAX_OUTPUT_BYTES} bytes", "run the command by hand.")
        if run.returncode != 0:
            words = excerpt(bytes(run.complained) or said, ())
            raise self._error(LMUnavailable, f"exit code {run.returncode}: {words}", "run the command by hand.")
        try:
            parsed: object = json.loads(said)
        except (ValueError, RecursionError) as error:
            failure = self._error(LMReplyUnreadable, f"it printed no JSON: {excerpt(said, ())!r}", "update the command.")
            raise_alone(failure, error, ())
        fields: Mapping[str, Any] = cast("dict[str, Any]", parsed) if isinstance(parsed, dict) else {}
        text: object = fields.get("result")
        if fields.get("is_error") or not isinstance(text, str):
            raise self._error(LMReplyUnreadable, f"it printed no answer: {excerpt(said, ())!r}", "run the command by hand.")
        counts: object = fields.get("usage")
        told = {"prompt_tokens": count(counts, "input_tokens"), "completion_tokens": count(counts, "output_tokens")}
        cost_usd: object = fields.get("total_cost_usd")
        usage = usage_of(told, lambda: float(cost_usd) if isinstance(cost_usd, int | float) else None)
        reason = "length" if told_reason(fields) == "max_tokens" else "stop"
        return Completion(whole_characters(text), self.model, reason, usage, raw=fields)

    def _error(self, kind: type[LMError], what: str, fix: str) -> LMError:
        return kind(f"{self.model!r}: {what.rstrip('.')}.\n  Fix: {fix}", model=self.model)


@final
@attrs.define(eq=False)
class _Output:
    """What one process has printed."""

    said: bytearray = attrs.field(factory=bytearray)
    complained: bytearray = attrs.field(factory=bytearray)
    is_too_long: bool = False
    returncode: int | None = None


async def _talk(process: trio.Process, prompt: bytes, output: _Output, scope: trio.CancelScope) -> None:
    """Write the prompt, read what comes, and wait for the process; `scope` is cancelled when more comes than is read."""
    assert process.stdin is not None and process.stdout is not None and process.stderr is not None, "all three are pipes"
    stdin = process.stdin

    async def write() -> None:
        # A process that ends, or closes its input, without reading it tells why in another way.
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            async with stdin:
                await stdin.send_all(prompt)

    async def read(stream: trio.abc.ReceiveStream, into: bytearray) -> None:
        async with stream:
            while chunk := await stream.receive_some():
                into += chunk
                if len(into) > MAX_OUTPUT_BYTES:
                    output.is_too_long = True
                    scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(write)
        nursery.start_soon(read, process.stdout, output.said)
        nursery.start_soon(read, process.stderr, output.complained)
    output.returncode = await process.wait()


async def _end(process: trio.Process) -> None:
    """Tell the process and all that it has started to end, and end them if they do not."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
        await trio.sleep(GRACE_S)
        os.killpg(process.pid, signal.SIGKILL)
