"""Graphs as models for clients of OpenAI's API: chat completions, responses and the list of models."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Sequence
from typing import Any, final

from actors.graphs.graph import Graph
from runtime.serve.auth import Caller
from runtime.serve.faces.openai_chat import complete
from runtime.serve.faces.openai_models import ChatFace, ServedModels, error_told, status_of
from runtime.serve.faces.openai_responses import respond
from runtime.serve.live import Live
from runtime.serve.problem_documents import HttpProblem
from runtime.serve.routes import Answer, Endpoint, as_json
from runtime.serve.web import Request


@final
class OpenAIFace:
    """Serves graphs to clients of OpenAI's chat completions and responses: ``Service([graph], faces=[OpenAIFace()])``.

    A graph is a model if its one input type has a field ``messages``, or one required ``str`` field, which gets the user's last
    text; or if a :class:`ChatFace` tells how. The answer is the output's one ``str`` field, else its JSON.
    """

    def __init__(self, *chats: ChatFace) -> None:
        self._models = ServedModels(chats)

    def check(self, graphs: Sequence[Graph[Any, Any]]) -> None:
        """See ``Face``."""
        self._models.check(graphs)

    def endpoints(self) -> Sequence[Endpoint]:
        """See ``Face``."""
        chat = {"messages": {"type": "array", "items": {"type": "object"}, "minItems": 1}}
        response = {"input": {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "object"}, "minItems": 1}]}}
        return (
            Endpoint("POST", "/v1/chat/completions", "run", self._chat, "Chat with a graph", _asking(chat), True),
            Endpoint("POST", "/v1/responses", "run", self._respond, "Have a graph respond", _asking(response), True),
            Endpoint("GET", "/v1/models", "run", self._list_models, "List the graphs that are models", None, True),
            Endpoint("GET", "/v1/models/{model}", "run", self._show_model, "Show a graph that is a model", None, True),
        )

    @contextlib.asynccontextmanager
    async def running(self, live: Live) -> AsyncGenerator[None]:
        """See ``Face``."""
        del live
        yield

    def reject(self, problem: HttpProblem) -> Answer:
        """See ``Face``."""
        return as_json({"error": error_told(problem)}, status_of(problem), problem.headers)

    async def _chat(self, live: Live, caller: Caller, request: Request) -> Answer:
        return await complete(live, caller, request, self._models)

    async def _respond(self, live: Live, caller: Caller, request: Request) -> Answer:
        return await respond(live, caller, request, self._models)

    async def _list_models(self, live: Live, _: Caller, __: Request) -> Answer:
        models = [self._models.of(graph) for graph in live.graphs.values()]
        return as_json({"object": "list", "data": [model.told() for model in models if model is not None]})

    async def _show_model(self, live: Live, _: Caller, request: Request) -> Answer:
        return as_json(self._models.named(live, request.path_params["model"]).told())


def _asking(fields: dict[str, Any]) -> dict[str, Any]:
    """The schema of a request; options of sampling and the like may stand in it too."""
    properties = {"model": {"type": "string"}, "stream": {"type": ["boolean", "null"]}, **fields}
    return {"type": "object", "properties": properties, "required": ["model", *fields]}
