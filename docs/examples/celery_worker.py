import os
from typing import Any

import attrs
from celery import Celery
from celery.signals import worker_process_shutdown

from actors import Graph
from runtime.embed.portal import runtime_per_process


@attrs.frozen
class Review:
    text: str


@attrs.frozen
class Verdict:
    stars: int


graph = Graph("reviews", input=Review, output=Verdict)


@graph.predict
async def rate(review: Review) -> Verdict:
    """Say how many of five stars the review would give."""
    ...


understudy = runtime_per_process(lm="openai/gpt-4o-mini")  # opens nothing yet: workers are forked after this line
app = Celery("reviews", broker=os.environ.get("BROKER", "memory://"), backend=os.environ.get("BACKEND", "cache+memory://"))


@app.task
def verdict(text: str) -> int:
    stars: int = understudy().run(graph, Review(text), timeout=30).stars
    return stars


@worker_process_shutdown.connect
def close_runtime(**_: Any) -> None:  # Celery ends its processes without running their exit handlers
    understudy.close(grace_s=10)
