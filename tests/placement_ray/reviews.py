"""A graph whose nodes run one after the other, so that its events have one order."""

from __future__ import annotations

import os
import sys

import attrs

from actors import LM, Actor, Graph


@attrs.frozen
class Review:
    text: str


@attrs.frozen
class Sentences:
    texts: tuple[str, ...]
    data: bytes


@attrs.frozen
class Mood:
    word: str


@attrs.frozen
class Reply:
    text: str
    to: tuple[str, ...]


graph = Graph("reviews", input=Review, output=Reply)


@graph.node(place="cpu")
def read(review: Review) -> Sentences:
    """Works in a thread of its host."""
    return Sentences(tuple(text.strip() for text in review.text.split(".") if text.strip()), review.text.encode())


@graph.predict
async def mood(sentences: Sentences) -> Mood:  # type: ignore[empty-body]  # the language model fills it
    """Name the writer's mood in one word."""
    ...


@graph.node(place="cpu")
async def reply(mood: Mood, sentences: Sentences, lm: LM) -> Reply:
    """Asks the language model of the runtime."""
    answer = await lm.chat([{"role": "user", "content": f"Answer somebody who is {mood.word}: {sentences.texts}"}])
    return Reply(answer.text, sentences.texts)


class Witness(Actor[str]):
    """Tells about the process that it is in."""

    async def receive(self, message: str) -> dict[str, str]:
        facts = {
            "pid": str(os.getpid()),
            "above": str(os.getppid()),
            "ray": str("ray" in sys.modules),
            "rays": str([each for each in sys.path if "site-packages/ray" in each]),
        }
        return facts if message == "all" else {message: os.environ.get(message, "unset")}
