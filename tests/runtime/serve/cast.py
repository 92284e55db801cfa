"""The graphs that the tests of the service serve, and a client of ASGI applications that can hang up."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from typing import Any

import attrs
import trio

from actors import Graph
from actors.errors import LMBudgetExhausted, LMRateLimited
from runtime.serve import APIKeys, Service
from runtime.serve.keys import new_key


@attrs.frozen
class Question:
    """A question that somebody asks."""

    text: str
    wait_s: float = 0.0


@attrs.frozen
class Answer:
    text: str


@attrs.frozen
class Many:
    n: int


def answers() -> Graph[Question, Answer]:
    graph = Graph("answers", input=Question, output=Answer)

    @graph.node
    async def answer(question: Question) -> Answer:
        """Answers."""
        if question.wait_s:
            await trio.sleep(question.wait_s)
        match question.text:
            case "fail":
                raise LookupError("the secret path /etc/passwd")
            case "budget":
                raise LMBudgetExhausted("spent")
            case "busy":
                raise LMRateLimited("busy", retry_after_s=7)
            case text:
                return Answer(text.upper())

    return graph


def counting(step_s: float = 1.0) -> Graph[Many, Answer]:
    """One step after another."""
    graph = Graph("counting", input=Many, output=Answer)

    @graph.node
    async def count(many: Many) -> Many | Answer:
        await trio.sleep(step_s)
        return Many(many.n - 1) if many.n > 1 else Answer("done")

    return graph


class Keys:
    """Three callers, their keys and an authenticator."""

    def __init__(self) -> None:
        self.ann, ann = new_key("ann", ["run"])
        self.ben, ben = new_key("ben", ["run"])
        self.eve, eve = new_key("eve", ["inspect"])
        self.oz, oz = new_key("oz", ["operate", "inspect"])
        self.auth = APIKeys([ann, ben, eve, oz])


@attrs.define(eq=False)
class Reply:
    """A response, whole or as far as it came."""

    status: int = 0
    headers: dict[str, str] = attrs.field(factory=dict)
    body: bytes = b""
    is_whole: bool = False

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def problem(self) -> str:
        """The kind of a problem document."""
        assert self.headers["content-type"] == "application/problem+json", (self.status, self.body)
        document = self.json()
        assert document["status"] == self.status
        return str(document["type"]).removeprefix("urn:understudy:problem:")

    def events(self) -> list[tuple[int, str, Any]]:
        """Of a stream: number, name and data of each."""
        found = []
        for block in self.body.decode("ascii").split("\n\n"):
            fields = {line.partition(": ")[0]: line.partition(": ")[2] for line in block.split("\n") if not line.startswith(":")}
            if "data" in fields:
                found.append((int(fields["id"]), fields["event"], json.loads(fields["data"])))
        return found


@attrs.define(eq=False)
class Client:
    """Calls an ASGI application."""

    app: Any
    key: str | None = None
    prefix: str = ""

    async def call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        headers: Mapping[str, str] | None = None,
        raw: Iterable[bytes] | None = None,
        until: Callable[[Reply], bool] | None = None,
        reply: Reply | None = None,
    ) -> Reply:
        """Send a request; `raw` are the parts of its body; `until` says when the client hangs up."""
        parts = list(raw) if raw is not None else [json.dumps(body).encode() if body is not None else b""]
        path, _, query = path.partition("?")
        given = {
            "host": "localhost",
            "content-type": "application/json",
            **({"authorization": f"Bearer {self.key}"} if self.key else {}),
        }
        given |= {name.lower(): value for name, value in (headers or {}).items()}
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": self.prefix + path,
            "raw_path": (self.prefix + path).encode(),
            "root_path": "",
            "query_string": query.encode(),
            "headers": [(name.encode(), value.encode("latin-1")) for name, value in given.items() if value != ""],
            "client": ("127.0.0.1", 1),
            "server": ("localhost", 80),
            "state": {},
        }
        reply = reply if reply is not None else Reply()
        left = trio.Event()

        async def receive() -> dict[str, Any]:
            if parts:
                return {"type": "http.request", "body": parts.pop(0), "more_body": bool(parts)}
            await left.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            assert reply is not None
            await trio.lowlevel.checkpoint()
            if message["type"] == "http.response.start":
                reply.status = message["status"]
                reply.headers = {name.decode().lower(): value.decode("latin-1") for name, value in message["headers"]}
            else:
                reply.body += message.get("body", b"")
                reply.is_whole = not message.get("more_body", False)
            if until is not None and until(reply):
                left.set()

        await self.app(scope, receive, send)
        return reply

    async def get(self, path: str, **options: Any) -> Reply:
        return await self.call("GET", path, **options)

    async def post(self, path: str, body: object = None, **options: Any) -> Reply:
        return await self.call("POST", path, body, **options)

    async def start(self, text: str = "a", *, wait: int | None = 10, **body: Any) -> Reply:
        """Start a run of ``answers``."""
        headers = {} if wait is None else {"prefer": f"wait={wait}"}
        given = {"text": text, **({"wait_s": body.pop("wait_s")} if "wait_s" in body else {})}
        return await self.post("/v1/graphs/answers/runs", {"input": given, **body}, headers=headers)

    def of(self, key: str) -> Client:
        return attrs.evolve(self, key=key)


@contextlib.asynccontextmanager
async def serving(*graphs: Graph, **options: Any) -> AsyncGenerator[Client]:
    """A client of a service that is up."""
    service = Service(graphs or (answers(),), **options)
    async with service.lifespan():
        yield Client(service.app)
