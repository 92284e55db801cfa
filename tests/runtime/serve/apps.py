"""Applications that the tests start under real servers."""

from __future__ import annotations

import os

from fastapi import FastAPI

from runtime.serve import Service
from tests.runtime.serve.cast import answers, counting
from tests.runtime.serve.test_question_routes import letters

graph = answers()
letters_graph = letters()
service = Service([graph])
app = service.app

stored_graph = counting(0.1)
stored = Service([stored_graph], store=os.environ.get("STORE_OF_RUNS")).app
"""With a store, where one is named."""

mounted_service = Service([answers()])
mounted = FastAPI(lifespan=mounted_service.lifespan)
mounted.mount("/agents", mounted_service.routes)


@mounted.get("/own")
async def own() -> str:
    return os.environ.get("HOME", "")
