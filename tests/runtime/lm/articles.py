"""A system whose nodes are types, for tests of the backends."""

from __future__ import annotations

import attrs


@attrs.frozen
class Review:
    """A reader's opinion."""

    stars: int
    words: str


@attrs.frozen
class ReviewFailed:
    """No opinion could be had."""

    reason: str


@attrs.frozen
class Article:
    text: str

    async def __call__(self) -> Review | ReviewFailed | None: ...


@attrs.frozen
class Draft:
    text: str

    async def __call__(self) -> Review:
        raise NotImplementedError


@attrs.frozen
class Silent:
    text: str

    async def __call__(self): ...


ARTICLE = Article("On trio.")
