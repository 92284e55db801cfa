import attrs
from flask import Flask, Response, jsonify, request

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
app = Flask(__name__)


@app.post("/verdicts")
def verdict() -> Response:
    verdict = understudy().run(graph, Review(request.get_json()["text"]), timeout=30)
    return jsonify(stars=verdict.stars)
