"""Who is let in, and what becomes of what should not be: no input is a 500, and nobody sees what is another's."""

import json
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio

from runtime.serve import AGUIFace, Face, Limits, MCPFace, OpenAIFace, Service
from runtime.serve.auth import Caller
from tests.runtime.serve.cast import Client, Keys, answers, serving

START = "/v1/graphs/answers/runs"


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with serving() as client:
        yield client


def all_endpoints(service: Service) -> list[tuple[str, str, Any]]:
    """Method, path and scope of every route, with names filled in."""
    given = {"{graph}": "answers", "{run}": "theirs", "{question}": "q", "{file:path}": "app.js", "{model}": "answers"}

    def filled(path: str) -> str:
        for name, value in given.items():
            path = path.replace(name, value)
        return path

    return [(each.method, filled(each.path), each.scope) for each in service._endpoints()]


def whole(keys: Keys) -> Service:
    """A service with everything that there is."""
    faces: list[Face] = [OpenAIFace(), MCPFace(), AGUIFace()]
    return Service([answers()], auth=keys.auth, faces=faces, operate=True)


async def test_without_a_key_every_route_but_the_open_ones_is_a_401() -> None:
    service = whole(Keys())
    async with service.lifespan():
        client = Client(service.app)
        statuses = {(method, path): (await client.call(method, path, {})).status for method, path, _ in all_endpoints(service)}

    is_open = {path for _, path, scope in all_endpoints(service) if scope is None}
    assert is_open == {"/healthz", "/readyz", "/openapi.json", "/inspector", "/inspector/", "/inspector/static/app.js"}
    assert {path for (_, path), status in statuses.items() if status != 401} == is_open
    assert {("POST", "/mcp"), ("POST", "/v1/responses"), ("POST", "/agui/answers")} < set(statuses)
    assert len(statuses) >= 30


async def test_head_of_every_route_ends(virtual_clock: Any) -> None:
    """Some of them follow something, and their GET ends when that does."""
    keys = Keys()
    service = whole(keys)
    async with service.lifespan():
        client = Client(service.app)
        await client.of(keys.ann).post(START, {"input": {"text": "a", "wait_s": 3_600}, "run_id": "theirs"})
        begun = trio.current_time()
        for method, path, _ in all_endpoints(service):
            if method == "GET":
                for accepted in ("*/*", "text/event-stream"):
                    reply = await client.of(keys.ann).call("HEAD", path, headers={"accept": accepted})
                    assert (reply.is_whole, reply.status < 500) == (True, True), path
        assert trio.current_time() - begun < 60


async def test_every_operation_has_an_id_of_its_own() -> None:
    document = whole(Keys()).openapi()

    ids = [operation["operationId"] for path in document["paths"].values() for operation in path.values()]
    assert len(ids) == len(set(ids))
    assert not any(each.startswith("_") for each in ids)


async def test_another_callers_run_is_not_there_on_any_route() -> None:
    keys = Keys()
    service = whole(keys)
    async with service.lifespan():
        client = Client(service.app)
        await client.of(keys.ann).start("a", run_id="theirs")
        paths = [(method, path) for method, path, scope in all_endpoints(service) if "theirs" in path and scope == "run"]
        replies = [await client.of(keys.ben).call(method, path, {}) for method, path in paths]
        never = [await client.of(keys.ben).call(m, p.replace("theirs", "never"), {}) for m, p in paths]
        listed = (await client.of(keys.ben).get("/v1/runs")).json()

    assert len(paths) >= 4
    assert {reply.status for reply in replies} == {404}
    assert [reply.body for reply in replies] == [reply.body for reply in never]
    assert listed == {"runs": []}


async def test_who_inspects_reads_all_and_changes_nothing() -> None:
    keys = Keys()
    async with serving(auth=keys.auth) as client:
        await client.of(keys.ann).start("a", run_id="theirs", wait=None)
        eve = client.of(keys.eve)

        assert (await eve.get("/v1/runs/theirs")).status == 200
        assert [run["id"] for run in (await eve.get("/v1/runs")).json()["runs"]] == ["theirs"]
        assert (await eve.post("/v1/runs/theirs/cancel")).problem == "forbidden"
        assert (await eve.start("a")).problem == "forbidden"


async def test_who_operates_cancels_what_others_have_started(virtual_clock: Any) -> None:
    keys = Keys()
    async with serving(auth=keys.auth) as client:
        await client.of(keys.ann).start("a", run_id="theirs", wait=None, wait_s=60)

        assert (await client.of(keys.oz).post("/v1/runs/theirs/cancel")).json()["status"] == "cancelled"


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Bearer ",
        "Basic dXNlcjpwYXNz",
        "Bearer usk_ann_" + "a" * 43,
        "Bearer é",
        "usk_ann_x",
        "Bearer " + "x" * 10_000,
    ],
    ids=lambda header: header[:20] or "none",
)
async def test_what_is_no_key_is_a_401(header: str) -> None:
    async with serving(auth=Keys().auth) as client:
        reply = await client.get("/v1/graphs", headers={"authorization": header})

    assert (reply.status, reply.problem) == (401, "unauthenticated")
    assert reply.headers["www-authenticate"].startswith("Bearer")


async def test_a_key_in_the_query_is_none() -> None:
    keys = Keys()
    async with serving(auth=keys.auth) as client:
        assert (await client.get(f"/v1/graphs?key={keys.ann}&access_token={keys.ann}")).status == 401


async def test_an_authenticator_of_ones_own_says_who_calls() -> None:
    async def by_header(scope: Any) -> Caller | None:
        names = [value.decode() for name, value in scope["headers"] if name == b"x-user"]
        return Caller(names[0], frozenset({"run"})) if names else None

    async with serving(auth=by_header) as client:
        assert (await client.get("/v1/graphs")).status == 401
        assert (await client.get("/v1/graphs", headers={"x-user": "ann"})).status == 200


# --- where from -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "", "[::2]", "a b", "0.0.0.0"]
)
async def test_a_host_that_is_not_ours_is_a_400_on_every_route(host: str) -> None:
    """A page of another site can point its own name at this machine; its browser then sends that name."""
    keys = Keys()
    service = whole(keys)
    async with service.lifespan():
        client = Client(service.app, keys.ann)
        for method, path, _ in all_endpoints(service):
            assert (await client.call(method, path, {}, headers={"host": host})).problem == "unknown-host"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:8321", "[::1]:8321", "LOCALHOST", "ours.example:443"])
async def test_hosts_of_ours_are_let_in(host: str) -> None:
    async with serving(hosts=["ours.example"]) as client:
        assert (await client.get("/healthz", headers={"host": host})).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"origin": "http://localhost:9", "host": "localhost:8321"},
    ],
    ids=str,
)
async def test_pages_of_other_sites_cannot_change_anything(client: Client, headers: Any) -> None:
    assert (await client.post(START, {"input": {"text": "a"}}, headers=headers)).problem == "forbidden"
    assert (await client.get("/v1/runs")).json()["runs"] == []


async def test_a_form_of_another_site_is_no_json(client: Client) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""):
        reply = await client.post(START, {"input": {"text": "a"}}, headers={"content-type": kind})
        assert (reply.status, reply.problem) == (415, "not-json")


async def test_origins_that_are_named_may_call_and_others_may_not() -> None:
    async with serving(cors=["https://ours.example"]) as client:
        ours = {"origin": "https://ours.example", "prefer": "wait=5", "sec-fetch-site": "cross-site"}
        reply = await client.post(START, {"input": {"text": "a"}}, headers=ours)
        asked = await client.call(
            "OPTIONS", START, headers={"origin": "https://evil.example", "access-control-request-method": "POST"}
        )

    assert (reply.status, reply.headers["access-control-allow-origin"]) == (200, "https://ours.example")
    assert "access-control-allow-credentials" not in reply.headers
    assert "access-control-allow-origin" not in asked.headers


# --- bodies -----------------------------------------------------------------------------------------------------------

BAD_JSON = {
    "nothing": b"",
    "random": bytes(random.Random(7).randbytes(500)),
    "NaN": b'{"input": {"text": "a", "wait_s": NaN}}',
    "infinity": b'{"input": {"text": "a", "wait_s": 1e999}}',
    "deep": b"[" * 100_000,
    "deep-and-closed": b"[" * 5_000 + b"]" * 5_000,
    "surrogate": b'{"input": {"text": "\\ud800"}}',
    "twice": b'{"input": {"text": "a"}, "input": {"text": "b"}}',
    "latin-1": '{"input": {"text": "é"}}'.encode("latin-1"),
    "utf-16": '{"input": {"text": "a"}}'.encode("utf-16"),
    "digits": b'{"input": {"text": "a", "wait_s": ' + b"9" * 10_000 + b"}}",
    "cut": b'{"input": {"text": "a"',
}


@pytest.mark.parametrize("body", BAD_JSON.values(), ids=BAD_JSON)
async def test_what_is_no_json_is_a_400(client: Client, body: bytes) -> None:
    reply = await client.post(START, raw=[body])

    assert (reply.status, reply.problem) == (400, "malformed-json")


WRONG: dict[str, tuple[Any, list[str]]] = {
    "list": ([], [""]),
    "null": (None, [""]),
    "no input": ({}, ["/input"]),
    "unknown": ({"input": {"text": "a"}, "extra": 1}, ["/extra"]),
    "text for number": ({"input": {"text": "a", "wait_s": "3"}}, ["/input/wait_s"]),
    "number for text": ({"input": {"text": 3}}, ["/input/text"]),
    "missing field": ({"input": {}}, ["/input/text"]),
    "unknown field": ({"input": {"text": "a", "n": 1}}, ["/input/n"]),
    "id": ({"input": {"text": "a"}, "run_id": "../x"}, ["/run_id"]),
    "long id": ({"input": {"text": "a"}, "run_id": "x" * 65}, ["/run_id"]),
    "labels": ({"input": {"text": "a"}, "labels": {"a": 1}}, ["/labels"]),
    "many labels": ({"input": {"text": "a"}, "labels": {str(n): "" for n in range(17)}}, ["/labels"]),
    "steps": ({"input": {"text": "a"}, "max_steps": 1.5}, ["/max_steps"]),
    "time": ({"input": {"text": "a"}, "timeout_s": 0}, ["/timeout_s"]),
    "true": ({"input": {"text": "a"}, "timeout_s": True}, ["/timeout_s"]),
    "budget": ({"input": {"text": "a"}, "budget": {"usd": -1, "tokens": "many"}}, ["/budget/usd", "/budget/tokens"]),
    "empty budget": ({"input": {"text": "a"}, "budget": {}}, ["/budget"]),
}


@pytest.mark.parametrize(("body", "pointers"), WRONG.values(), ids=WRONG)
async def test_every_place_that_is_wrong_is_named(client: Client, body: Any, pointers: list[str]) -> None:
    reply = await client.post(START, raw=[json.dumps(body).encode()])

    assert (reply.status, reply.problem) == (422, "input-invalid")
    assert [error["pointer"] for error in reply.json()["errors"]] == pointers


@pytest.mark.parametrize("declared", [True, False], ids=["declared", "in pieces"])
async def test_a_body_that_is_too_large_is_a_413(client: Client, declared: bool) -> None:
    pieces = [b"x" * 65_536] * 32
    headers = {"content-length": str(2 * 1024 * 1024)} if declared else {}

    reply = await client.post(START, raw=pieces, headers=headers)

    assert (reply.status, reply.problem) == (413, "body-too-large")


async def test_a_body_that_does_not_come_is_a_408(virtual_clock: Any) -> None:
    async with serving(limits=Limits(body_s=5)) as client:
        sent: list[Any] = []

        async def receive() -> Any:
            await trio.sleep_forever()

        async def send(message: Any) -> None:
            sent.append(message)

        headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
        scope = {"type": "http", "method": "POST", "path": START, "headers": headers, "query_string": b"", "scheme": "http"}
        await client.app(scope, receive, send)

    assert sent[0]["status"] == 408
    assert trio.current_time() == pytest.approx(5, abs=0.1)


async def test_random_requests_are_never_a_500(client: Client) -> None:
    """Methods, paths, queries and headers at random: whatever they are, the answer is 2xx or 4xx."""
    rng = random.Random(11)
    paths = [
        "/v1/graphs",
        "/v1/graphs/answers",
        START,
        "/v1/runs",
        "/v1/runs/x/events",
        "/v1/runs/x/trace",
        "/v1/%00",
        "//",
        "/v1/graphs/é/runs",
    ]
    queries = [
        "",
        "?limit=9",
        "?limit=%ff",
        "?label=:",
        "?kinds=,,",
        "?after=-1",
        "?after=99999999999999999999",
        "?as=html",
        "?cursor=",
    ]
    headers = [
        {},
        {"accept": "text/event-stream;q=x"},
        {"last-event-id": "é"},
        {"prefer": "wait=;;,wait=x"},
        {"idempotency-key": "\x00"},
        {"x-request-id": "a\nb"},
        {"content-length": "-1"},
        {"content-length": "9" * 5_000},
        {"range": "bytes=0-"},
    ]
    for _ in range(400):
        method = rng.choice(["GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE", "BREW"])
        body = rng.choice([b"", b"{}", rng.randbytes(30), b'{"input":{"text":"a"}}'])
        path = rng.choice(paths) + rng.choice(queries)
        reply = await client.call(method, path, raw=[body], headers=rng.choice(headers))
        assert reply.status < 500, (method, path, reply.body)


async def test_every_response_has_an_id_and_is_not_kept_by_caches(client: Client) -> None:
    given = await client.get("/v1/graphs", headers={"x-request-id": "abc-1"})
    forged = await client.get("/v1/graphs", headers={"x-request-id": "a b\x01"})

    assert given.headers["x-request-id"] == "abc-1"
    assert forged.headers["x-request-id"] != "a b\x01"
    assert (given.headers["cache-control"], given.headers["x-content-type-options"]) == ("no-store", "nosniff")


async def test_an_error_of_ours_is_a_500_that_says_nothing(client: Client, monkeypatch: Any, caplog: Any) -> None:
    def fail(*_: Any) -> Any:
        raise RuntimeError("/secret/path")

    monkeypatch.setattr("runtime.serve.live.Live.may_see", fail)
    await client.start("a", run_id="r")

    reply = await client.get("/v1/runs/r")

    assert (reply.status, reply.problem) == (500, "internal")
    assert b"secret" not in reply.body
    assert "/secret/path" in caplog.text


async def test_no_key_reaches_a_log(caplog: Any) -> None:
    keys = Keys()
    caplog.set_level(0)
    async with serving(auth=keys.auth) as client:
        await client.of(keys.ann).start("fail")
        await client.of(keys.ann[:-1]).start("a")

    assert keys.ann[8:] not in caplog.text
