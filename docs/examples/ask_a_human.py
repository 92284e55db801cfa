"""People answer what runs ask: with a form on a web page, or with buttons in a chat."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from html import escape
from typing import Any
from urllib.parse import parse_qs

import attrs
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from actors import AlreadyAnswered, Graph, UnderstudyError
from runtime import Question, QuestionAsked, Runtime


@attrs.frozen
class Order:
    number: int


@attrs.frozen
class Draft:
    text: str


@attrs.frozen
class Approved:
    remark: str = ""


@attrs.frozen
class Rejected:
    why: str


@attrs.frozen
class Sent:
    text: str


graph = Graph("letters", input=Order, output=Sent)


@graph.node
async def write(order: Order) -> Draft:
    return Draft(f"Your order {order.number} is on its way.")


@graph.human(to="letters", timeout_s=7 * 86_400)
async def approve(draft: Draft) -> Approved | Rejected:
    """May this letter be sent?"""
    raise NotImplementedError


@graph.node
async def rewrite(no: Rejected) -> Draft:
    return Draft(f"Again: {no.why}")


@graph.node
async def send(ok: Approved) -> Sent:
    return Sent(ok.remark or "sent")


# --- a web form -----------------------------------------------------------------------------------------------------------


def form_of(question: Question) -> str:
    """One question, with a form for each type that the answer may have."""
    forms: list[str] = []
    for kind in question.answers:
        fields = "".join(f"<input name={f.name!r} placeholder={f.name!r}>" for f in attrs.fields(kind))
        button = f"<button name='kind' value='{kind.__name__}'>{kind.__name__}</button>"
        forms.append(f"<form method='post' action='/questions/{escape(question.id)}'>{fields}{button}</form>")
    return f"<h2>{escape(question.text)}</h2><p>{escape(str(question.asks))}</p>{''.join(forms)}"


def now_s() -> float:
    return datetime.now(UTC).timestamp()


def make_app(runtime: Runtime, secret: bytes, clock: Callable[[], float] = now_s) -> Starlette:
    """The pages; `secret` is the one that the chat signs its requests with."""

    async def show(_: Request) -> Response:
        questions = await runtime.questions()
        return HTMLResponse("".join(map(form_of, questions)) or "Nothing is asked.")

    async def submit(request: Request) -> Response:
        fields = {name: values[0] for name, values in parse_qs((await request.body()).decode()).items()}
        kind = fields.pop("kind", "")
        try:
            await runtime.answer(request.path_params["id"], {kind: fields}, by=request.headers.get("x-user"))
        except AlreadyAnswered:
            return PlainTextResponse("Somebody was quicker.", 409)
        except UnderstudyError as error:  # a field is missing, or has another type; there is no such question
            return PlainTextResponse(str(error), 422)
        return RedirectResponse("/questions", 303)

    async def pressed(request: Request) -> Response:
        """A button in the chat: the value that we have given it comes back, signed."""
        body = await request.body()
        if not is_signed(secret, request.headers, body, clock()):
            return PlainTextResponse("Not from the chat.", 401)
        payload = json.loads(parse_qs(body.decode())["payload"][0])
        chosen = json.loads(payload["actions"][0]["value"])
        try:
            await runtime.answer(chosen["question"], chosen["answer"], by=payload["user"]["username"])
        except AlreadyAnswered:
            return PlainTextResponse("Somebody was quicker.")
        return PlainTextResponse("Thank you.")

    return Starlette(
        routes=[
            Route("/questions", show),
            Route("/questions/{id}", submit, methods=["POST"]),
            Route("/chat", pressed, methods=["POST"]),
        ]
    )


# --- a chat ---------------------------------------------------------------------------------------------------------------


def is_signed(secret: bytes, headers: Any, body: bytes, at_s: float) -> bool:
    """Whether a request comes from the chat, and was not kept for later by somebody else: as Slack signs them."""
    sent = headers.get("x-slack-request-timestamp", "")
    if not sent.isdecimal() or abs(at_s - int(sent)) > 300:
        return False
    right = "v0=" + hmac.new(secret, b"v0:" + sent.encode() + b":" + body, hashlib.sha256).hexdigest()
    return hmac.compare_digest(right, headers.get("x-slack-signature", ""))


async def tell_the_chat(runtime: Runtime, post: Callable[[dict[str, Any]], Awaitable[None]]) -> None:
    """Post every question with a button for each choice, first those that are open already; for ever."""
    async with runtime.events(lambda event: isinstance(event, QuestionAsked)) as events:
        known: set[str] = set()
        for question in await runtime.questions():
            known.add(question.id)
            await post(buttons(question))
        async for event in events:
            if not isinstance(event, QuestionAsked) or event.question in known:
                continue
            for question in await runtime.questions(event.run_id):
                if question.id == event.question:
                    await post(buttons(question))


def buttons(question: Question) -> dict[str, Any]:
    """The message for the chat."""
    answers: dict[str, dict[str, Any]] = {
        "Approve": {"Approved": {}},
        "Reject": {"Rejected": {"why": "rejected in the chat"}},
    }
    return {
        "channel": question.to,
        "text": f"{question.text}\n{question.asks}",
        "buttons": [
            {"text": text, "value": json.dumps({"question": question.id, "answer": answer})} for text, answer in answers.items()
        ],
    }
