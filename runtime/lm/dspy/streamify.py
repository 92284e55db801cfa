"""What ``dspy.streamify`` gives, on trio: the fields of an answer piece by piece, status messages, and the prediction.

``dspy.streamify(module, is_async_program=True)`` itself runs on trio over a ``TrioLM``, with two limits: its status messages need
asyncio, and it is an async generator with a task group inside, which trio cannot close immediately when its reader leaves early.
Here the same pieces come out of an ``async with`` block, which ends all of it.
"""

from __future__ import annotations

import contextlib
import functools
from collections import deque
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Self, final

import outcome
import trio

from actors.errors import UsageError
from actors.groups import failure_besides
from runtime.lm.dspy.bridge import Listening, module_of, run_module, title_of
from runtime.lm.dspy.dspy_calls import ChatLM
from runtime.lm.dspy.import_dspy import library, part, warm_up
from runtime.lm.dspy.unreadable import Care
from runtime.lm.limits.abilities import warmed_up

BUFFER = 16
"""How many pieces may wait for their reader; the provider's stream is read on when there is room."""


@final
class PredictionStream:
    """The pieces of one run of a module, as they come: ``async for piece in stream``, then :attr:`prediction`.

    A piece is a ``dspy.streaming.StreamResponse`` of a listener, a ``dspy.streaming.StatusMessage``, or, without listeners, a
    chunk of the provider's answer.
    """

    def __init__(self, pieces: trio.MemoryReceiveChannel[Any]) -> None:
        self._pieces = pieces
        self._result: outcome.Outcome[Any] | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        """The next piece.

        Raises:
            LMError: the run failed; see ``run_signature``.
        """
        try:
            return await self._pieces.receive()
        except trio.EndOfChannel:
            if isinstance(self._result, outcome.Error):
                raise self._result.error from None
            raise StopAsyncIteration from None

    @property
    def prediction(self) -> Any:
        """The module's result, when all pieces have come.

        Raises:
            UsageError: they have not.
        """
        if not isinstance(self._result, outcome.Value):
            raise UsageError("the prediction is not there yet.\n  Fix: read the stream to its end first.")
        return self._result.value

    def ended(self, result: outcome.Outcome[Any]) -> None:
        """Called once, by what runs the module."""
        self._result = result


@asynccontextmanager
async def open_prediction_stream(
    lm: ChatLM,
    signature: Any,
    inputs: Mapping[str, Any],
    *,
    listeners: Sequence[Any] = (),
    status: Any = None,
    parse_attempts: int = 1,
) -> AsyncGenerator[PredictionStream]:
    """Run a DSPy signature or module as ``run_signature`` does, and hand out what comes of it while it comes.

    Leaving the block early cancels the run, and closes the request at the provider.

    Args:
        lm: what answers; one without ``stream`` gives its answers whole.
        signature: see ``run_signature``.
        inputs: see ``run_signature``.
        listeners: ``dspy.streaming.StreamListener`` objects, each for one field.
        status: a ``dspy.streaming.StatusMessageProvider``; None: none are made.
        parse_attempts: see ``run_signature``; an answer that is asked for again streams to listeners with ``allow_reuse`` only.

    Raises:
        DeclarationError: `signature` isn't a signature.
        ValueError: DSPy's, when a listener's field is in no predictor of the module, or in several.
    """
    await warm_up()
    await warmed_up(lm)
    module = module_of(signature)
    failure: BaseException | None = None
    async with trio.open_nursery() as nursery:
        send, receive = trio.open_memory_channel[Any](BUFFER)
        stream = PredictionStream(receive)
        outlet = _Outlet(send, module, listeners)
        care = Care(parse_attempts, subject=title_of(signature))
        callbacks = [*library().settings.callbacks, *([_status_callback()(status, outlet)] if status is not None else [])]
        run = functools.partial(
            run_module,
            lm,
            module,
            inputs,
            care,
            Listening(settings={"send_stream": outlet, "stream_listeners": list(listeners), "callbacks": callbacks}),
        )
        nursery.start_soon(_work, run, stream, outlet)
        try:
            yield stream
        except BaseException as error:
            failure = failure_besides(error, trio.Cancelled)
            if failure is None:
                raise
        # Raised below, without the nursery's group around it.
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure


async def _work(run: Callable[[], Any], stream: PredictionStream, outlet: _Outlet) -> None:
    async with outlet.channel:
        try:
            prediction = await run()
            await outlet.finish()
        except BaseException as error:
            failure = failure_besides(error, trio.Cancelled)
            if failure is None:
                raise
            stream.ended(outcome.Error(failure))  # the reader's
        else:
            stream.ended(outcome.Value(prediction))


@final
class _Outlet:
    """What DSPy takes for the stream to send to: the chunks of answers and status messages go in, pieces come out."""

    def __init__(self, channel: trio.MemorySendChannel[Any], module: Any, listeners: Sequence[Any]) -> None:
        self.channel = channel
        self._listeners = list(listeners)
        find = part("streaming.streaming_listener").find_predictor_for_stream_listeners
        self._by_predictor: Mapping[int, list[Any]] = find(module, self._listeners) if self._listeners else {}
        self._token = trio.lowlevel.current_trio_token()
        self._waiting: deque[Any] = deque()

    async def send(self, chunk: Any) -> None:
        """Hand on one chunk; waits until there is room."""
        await self._flush()
        if not self._listeners:
            await self.channel.send(chunk)
        for listener in self._by_predictor.get(chunk.predict_id, ()):
            piece = listener.receive(chunk)
            if piece:
                await self.channel.send(piece)

    async def finish(self) -> None:
        """Hand on what listeners still hold back."""
        await self._flush()
        for listener in self._listeners:
            piece = listener.finalize()
            if piece:
                await self.channel.send(piece)

    async def _flush(self) -> None:
        while self._waiting:
            await self.channel.send(self._waiting.popleft())

    def say(self, message: Any) -> None:
        """Hand on a status message; it waits with those before it when there is no room. Called in any thread."""
        if trio.lowlevel.in_trio_run():
            self._put(message)
        else:
            trio.from_thread.run_sync(self._put, message, trio_token=self._token)

    def _put(self, message: Any) -> None:
        self._waiting.append(message)
        with contextlib.suppress(trio.WouldBlock):
            while self._waiting:
                self.channel.send_nowait(self._waiting[0])
                self._waiting.popleft()


@functools.cache
def _status_callback() -> Any:
    """A callback that tells what a ``StatusMessageProvider`` has to say, without asyncio."""
    base: Any = part("utils.callback").BaseCallback
    status_message: Any = part("streaming.messages").StatusMessage

    class Status(base):  # type: ignore[misc]  # the base is known at run time only
        def __init__(self, provider: Any, outlet: _Outlet) -> None:
            self._provider = provider
            self._outlet = outlet

        def _say(self, kind: str, *args: Any) -> None:
            text = getattr(self._provider, f"{kind}_status_message")(*args)
            if text:
                self._outlet.say(status_message(text))

        def on_tool_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
            if instance.name != "finish":
                self._say("tool_start", instance, inputs)

        def on_tool_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
            if outputs != "Completed.":
                self._say("tool_end", outputs)

        def on_module_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
            self._say("module_start", instance, inputs)

        def on_module_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
            self._say("module_end", outputs)

        def on_lm_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
            self._say("lm_start", instance, inputs)

        def on_lm_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
            self._say("lm_end", outputs)

    return Status
