import json

import attrs
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, JsonResponse
from django.urls import path

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


def verdict(request: HttpRequest) -> JsonResponse:
    review = Review(json.loads(request.body)["text"])
    return JsonResponse({"stars": understudy().run(graph, review, timeout=30).stars})


urlpatterns = [path("verdicts", verdict)]

settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="only for this example")
application = get_wsgi_application()
