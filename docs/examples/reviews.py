import attrs

from actors import Graph


@attrs.frozen
class Review:
    text: str


@attrs.frozen
class Mood:
    word: str


@attrs.frozen
class Reply:
    text: str


graph = Graph("reviews", input=Review, output=Reply)


@graph.predict
async def mood(review: Review) -> Mood:
    """Name the writer's mood in one word."""
    ...


@graph.predict
async def reply(review: Review, mood: Mood) -> Reply:
    """Answer the writer in three sentences, in a tone that fits the mood."""
    ...
