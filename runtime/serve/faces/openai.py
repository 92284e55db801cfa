"""Graphs as models for clients of OpenAI's API: chat completions, responses and the list of models."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Sequence
from typing import Any, final

from actors.graphs.graph import Graph
from runtime.serve.auth import Caller
from runtime.serve.faces.openai_chat import complete
from runtime.serve.faces.openai_models import ChatFace, Models, error_told, status_of
from runtime.serve.faces.openai_responses import respond
from runtime.serve.live import Live
from runtime.serve.problems import Problem
from runtime.serve.routes import Answer, Endpoint, as_json
from runtime.serve.web import Request


@final
class OpenAIFace:
    """Serves graphs to clients of OpenAI's chat completions and responses: ``Service([graph], faces=[OpenAIFace()])``.

    A graph is a model if its one input type has a field ``messages``, or one required ``str`` field, which gets the user's last
    text; or if a :class:`ChatFace` says how. The answer is the output's one ``str`` field, else its JSON.
    """

    def __init__(self, *chats: ChatFace) -> None:
        self._models = Models(chats)

    def check(self, graphs: Sequence[Graph[Any, Any]]) -> None:
        """See ``Face``."""
        self._models.check(graphs)

    def endpoints(self) -> Sequence[Endpoint]:
        """See ``Face``."""
        return (
            Endpoint("POST", "/v1/chat/completions", "run", self._complete, "Chat with a graph, as with a model of OpenAI's"),
            Endpoint("POST", "/v1/responses", "run", self._respond, "Have a graph respond, as a model of OpenAI's"),
            Endpoint("GET", "/v1/models", "run", self._list, "List the graphs that are models"),
            Endpoint("GET", "/v1/models/{model}", "run", self._show, "Show a graph that is a model"),
        )

    @contextlib.asynccontextmanager
    async def running(self, live: Live) -> AsyncGenerator[None]:
        """See ``Face``."""
        del live
        yield

    def refuse(self, problem: Problem) -> Answer:
        """See ``Face``."""
        return as_json({"error": error_told(problem)}, status_of(problem), problem.headers)

    async def _complete(self, live: Live, caller: Caller, request: Request) -> Answer:
        return await complete(live, caller, request, self._models)

    async def _respond(self, live: Live, caller: Caller, request: Request) -> Answer:
        return await respond(live, caller, request, self._models)

    async def _list(self, live: Live, _: Caller, __: Request) -> Answer:
        models = [self._models.of(graph) for graph in live.graphs.values()]
        return as_json({"object": "list", "data": [model.told() for model in models if model is not None]})

    async def _show(self, live: Live, _: Caller, request: Request) -> Answer:
        return as_json(self._models.named(live, request.path_params["model"]).told())
