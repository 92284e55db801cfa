"""A whole answer that is handed out as a stream: from the cache, for example."""

from __future__ import annotations

from collections import deque
from typing import Self, final

import trio

from actors.lm import Completion, Delta
from runtime.lm.providers.streaming import incomplete, pieces_of


@final
class KeptStream:
    """`completion` as the pieces of a stream, immediately; satisfies ``actors.lm.LMStream``."""

    def __init__(self, completion: Completion) -> None:
        self._completion = completion
        self._pieces = deque(pieces_of(completion))

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Delta:
        """The next piece; a checkpoint."""
        await trio.lowlevel.checkpoint()
        if not self._pieces:
            raise StopAsyncIteration
        return self._pieces.popleft()

    @property
    def completion(self) -> Completion:
        """The whole answer. Raises UsageError before its last piece has been taken."""
        if self._pieces:
            raise incomplete()
        return self._completion
