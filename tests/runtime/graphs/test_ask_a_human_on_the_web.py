"""The example of the documentation: a web form and a chat's buttons answer what runs ask."""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest
import trio
import trio.testing

from docs.examples.ask_a_human import Approved, Draft, Order, Sent, graph, make_app, tell_the_chat
from runtime import Runtime, open_runtime
from runtime.journal.memory import MemoryStore
from runtime.testing import answering
from tests.runtime.graphs.test_humans import asked

SECRET = b"a secret"


def client_of(runtime: Runtime) -> httpx.AsyncClient:
    app: Any = make_app(runtime, SECRET, clock=lambda: 1_000.0)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://test")


def signed(payload: dict[str, Any], at: int = 1_000, secret: bytes = SECRET) -> dict[str, Any]:
    body = urlencode({"payload": json.dumps(payload)}).encode()
    name = "v0=" + hmac.new(secret, f"v0:{at}:".encode() + body, hashlib.sha256).hexdigest()
    return {"content": body, "headers": {"x-slack-request-timestamp": str(at), "x-slack-signature": name}}


async def test_a_person_answers_with_a_form(autojump_clock):
    async with open_runtime(store=MemoryStore()) as runtime, client_of(runtime) as client:
        assert "Nothing" in (await client.get("/questions")).text
        handle = await runtime.start(graph, Order(7), run_id="it")
        [question] = await asked(runtime)
        page = (await client.get("/questions")).text
        assert "May this letter be sent?" in page
        assert "Your order 7" in page

        wrong = await client.post(f"/questions/{question.id}", content=urlencode({"kind": "Rejected"}))
        assert (wrong.status_code, "why" in wrong.text) == (422, True)
        right = await client.post(f"/questions/{question.id}", content=urlencode({"kind": "Rejected", "why": "too dry"}))
        assert right.status_code == 303
        again = await client.post(f"/questions/{question.id}", content=urlencode({"kind": "Approved"}))
        assert again.status_code == 409

        [question] = await asked(runtime)
        assert question.asks == Draft("Again: too dry")
        await client.post(f"/questions/{question.id}", content=urlencode({"kind": "Approved", "remark": "fine"}))
        assert await handle.result() == Sent("fine")


async def test_a_person_presses_a_button_in_a_chat(autojump_clock):
    posted: list[dict[str, Any]] = []

    async def post(message: dict[str, Any]) -> None:
        posted.append(message)

    async with open_runtime(store=MemoryStore()) as runtime, client_of(runtime) as client, trio.open_nursery() as nursery:
        nursery.start_soon(tell_the_chat, runtime, post)
        await trio.testing.wait_all_tasks_blocked()
        handle = await runtime.start(graph, Order(7), run_id="it")
        await asked(runtime)
        await trio.sleep(1)
        [message] = posted
        assert message["channel"] == "letters"
        approve = {"actions": [{"value": message["buttons"][0]["value"]}], "user": {"username": "anna"}}

        assert (await client.post("/chat", **signed(approve, secret=b"another"))).status_code == 401
        assert (await client.post("/chat", **signed(approve, at=1))).status_code == 401
        assert (await client.post("/chat", **signed(approve))).text == "Thank you."
        assert (await client.post("/chat", **signed(approve))).text == "Somebody was quicker."
        assert await handle.result() == Sent("sent")
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("store", [None, "memory"])
async def test_in_a_test_the_answers_are_ready(store, autojump_clock):
    with answering(Draft, lambda draft: Approved(draft.text)):
        async with open_runtime(store=None if store is None else MemoryStore()) as runtime:
            assert await runtime.run(graph, Order(3), run_id="it") == Sent("Your order 3 is on its way.")
            with answering(Draft, {"Approved": {"remark": "inner"}}, by="test"):
                assert await runtime.run(graph, Order(3), run_id="another") == Sent("inner")
