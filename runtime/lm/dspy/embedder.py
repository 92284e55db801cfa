"""The embeddings of a language model of ours as a ``dspy.Embedder``, for retrievers, ``KNN`` and optimisers."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, cast

from actors.errors import DeclarationError
from actors.lm import Embedder
from runtime.lm.dspy.dspy_calls import Home, on_trio
from runtime.lm.dspy.from_threads import Crossing
from runtime.lm.dspy.import_dspy import library


def trio_embedder(lm: Embedder, *, batch_size: int = 200, **options: Any) -> Any:
    """A ``dspy.Embedder`` whose vectors are ``await lm.embed(texts, **options)``, within the client's limits and budgets.

    ``await embedder.acall(texts)`` runs on trio. ``embedder(texts)`` works in a thread that trio started and in the threads that
    such a module starts, and comes back to the task of the run, as the language model does. Needs numpy, as DSPy's does. DSPy's
    cache is off.

    Args:
        lm: an ``LMClient``, or what a node gets; it has a coroutine ``embed``.
        batch_size: how many texts go into one request.
        options: of each call of ``embed``.

    Raises:
        DeclarationError: `lm` makes no embeddings.
    """
    if not isinstance(cast("object", lm), Embedder):
        raise DeclarationError(
            f"trio_embedder({type(lm).__name__}): expected something with a coroutine embed().\n"
            '  Fix: pass an LMClient of a model that makes embeddings, such as "openai/text-embedding-3-small".'
        )
    return _embedder_class()(lm, batch_size, options)


@functools.cache
def _embedder_class() -> Any:
    base: Any = library().Embedder

    class TrioEmbedder(base):  # type: ignore[misc]  # the base is known at run time only
        def __init__(self, lm: Embedder, batch_size: int, options: dict[str, Any]) -> None:
            base.__init__(self, self._vectors, batch_size, caching=False, **options)
            self.lm = lm
            self.home = Home.here()

        def _vectors(self, texts: Sequence[str], **options: Any) -> list[Any]:
            crossing = getattr(library().settings.lm, "crossing", None)
            call = functools.partial(self.lm.embed, texts, **options)
            return list(on_trio(crossing if isinstance(crossing, Crossing) else None, self.home, call).vectors)

        async def acall(self, inputs: Any, batch_size: int | None = None, caching: bool | None = None, **options: Any) -> Any:
            batches, _, merged, is_single = self._preprocess(inputs, batch_size, False, **options)
            vectors = [vector for batch in batches for vector in (await self.lm.embed(batch, **merged)).vectors]
            return self._postprocess(vectors, is_single)

    return TrioEmbedder
