"""Graphs and runs over HTTP."""

import base64
import json
from typing import Any

import attrs
import pytest
import trio

from actors import Graph
from actors.errors import DeclarationError
from runtime.journal import MemoryStore
from runtime.serve import Limits, Recording, Service
from tests.runtime.serve.cast import Answer, Client, Keys, Question, answers, serving


async def test_graphs_say_what_they_take_and_make() -> None:
    async with serving() as client:
        listed = (await client.get("/v1/graphs")).json()["graphs"]
        shown = (await client.get("/v1/graphs/answers")).json()

    assert [graph["name"] for graph in listed] == ["answers"]
    assert shown["description"] == "A question that somebody asks."
    assert shown["input"]["Question"]["required"] == ["text"]
    assert shown["output"]["Answer"]["properties"]["text"]["type"] == "string"
    assert [node["name"] for node in shown["nodes"]] == ["answer"]
    assert {"from": None, "to": "answer", "type": "Question"} in shown["edges"]
    assert shown["layout"]["boxes"]
    assert shown["links"] == {"self": "/v1/graphs/answers", "runs": "/v1/graphs/answers/runs"}


async def test_a_run_that_is_waited_for_is_the_answer() -> None:
    async with serving() as client:
        reply = await client.start("hello", labels={"customer": "7"})

    run = reply.json()
    assert reply.status == 200
    assert (run["status"], run["output"], run["labels"]) == ("succeeded", {"text": "HELLO"}, {"customer": "7"})
    assert reply.headers["x-run-id"] == run["id"]
    assert reply.headers["location"] == f"/v1/runs/{run['id']}"
    assert len(run["id"]) == 22


async def test_a_run_goes_on_when_nobody_waits(virtual_clock: Any) -> None:
    async with serving() as client:
        reply = await client.start("a", wait=None, wait_s=60)
        run = reply.json()["id"]
        assert (reply.status, reply.json()["status"]) == (202, "running")

        await trio.sleep(61)

        assert (await client.get(f"/v1/runs/{run}")).json()["output"] == {"text": "A"}


async def test_a_wait_that_is_too_short_leaves_the_run_alone(virtual_clock: Any) -> None:
    async with serving() as client:
        reply = await client.start("a", wait=5, wait_s=60)
        assert (reply.status, reply.headers["preference-applied"]) == (202, "wait=5")
        assert trio.current_time() == pytest.approx(5, abs=0.5)

        await trio.sleep(61)

        assert (await client.get(reply.headers["location"])).json()["status"] == "succeeded"


async def test_a_wait_that_is_no_number_is_passed_over(virtual_clock: Any) -> None:
    async with serving() as client:
        for value in ("\u00b2", "-1", "1.5", "nan", ""):
            reply = await client.post("/v1/graphs/answers/runs", {"input": {"text": "a"}}, headers={"prefer": f"wait={value}"})
            assert (reply.status, reply.headers.get("preference-applied")) == (202, None)


async def test_a_wait_is_bounded_by_the_service(virtual_clock: Any) -> None:
    async with serving(limits=Limits(wait_s=3)) as client:
        assert (await client.start("a", wait=1000, wait_s=60)).headers["preference-applied"] == "wait=3"
        assert trio.current_time() < 4


async def test_a_client_that_leaves_cancels_its_run_only_if_it_said_so(virtual_clock: Any) -> None:
    async with serving() as client:

        async def leave(prefer: str) -> str:
            with trio.move_on_after(1):
                body = {"input": {"text": "a", "wait_s": 60}, "run_id": f"r{len(prefer)}"}
                await client.post("/v1/graphs/answers/runs", body, headers={"prefer": prefer})
            await trio.sleep(1)
            return str((await client.get(f"/v1/runs/r{len(prefer)}")).json()["status"])

        assert await leave("wait=30") == "running"
        assert await leave("wait=30, cancel-on-disconnect") == "cancelled"


async def test_a_failed_run_is_an_answer_and_names_the_node() -> None:
    keys = Keys()
    async with serving(auth=keys.auth) as client:
        reply = await client.of(keys.ann).start("fail")

    run = reply.json()
    assert (reply.status, run["status"]) == (200, "failed")
    assert run["error"]["type"] == "urn:understudy:problem:run-failed"
    assert run["error"]["error"]["nodes"] == [
        {"node": "answer", "path": "answers/answer/0", "attempt": 1, "error": {"type": "Error"}}
    ]
    assert b"secret" not in reply.body
    assert b"LookupError" not in reply.body


async def test_who_may_inspect_reads_what_the_error_said() -> None:
    keys = Keys()
    async with serving(auth=keys.auth) as client:
        run = (await client.of(keys.ann).start("fail")).json()["id"]
        reply = await client.of(keys.eve).get(f"/v1/runs/{run}")

    assert reply.json()["error"]["error"]["nodes"][0]["error"] == {
        "type": "LookupError",
        "message": "the secret path /etc/passwd",
    }


@pytest.mark.parametrize(("text", "kind"), [("budget", "budget-exhausted"), ("busy", "model-overloaded")])
async def test_errors_of_models_have_their_own_problems(text: str, kind: str) -> None:
    async with serving() as client:
        run = (await client.start(text, wait=60)).json()

    assert run["error"]["type"] == f"urn:understudy:problem:{kind}"


async def test_bounds_of_a_start_hold(virtual_clock: Any) -> None:
    async with serving(limits=Limits(run_s=100)) as client:
        late = (await client.start("a", wait=60, wait_s=50, timeout_s=10)).json()
        too_long = (await client.start("a", wait=300, wait_s=500, timeout_s=400)).json()

    assert (late["status"], late["error"]["type"]) == ("cancelled", "urn:understudy:problem:deadline")
    assert (too_long["status"], too_long["error"]["status"]) == ("cancelled", 504)
    assert 109 < trio.current_time() < 112


async def test_a_run_is_cancelled_and_nothing_of_it_is_alive(virtual_clock: Any) -> None:
    async with serving() as client:
        run = (await client.start("a", wait=None, wait_s=60)).json()["id"]

        first = await client.post(f"/v1/runs/{run}/cancel")
        again = await client.post(f"/v1/runs/{run}/cancel")

        assert [(reply.status, reply.json()["status"]) for reply in (first, again)] == [(200, "cancelled")] * 2
        assert trio.current_time() < 1


async def test_a_run_that_waits_for_its_turn_is_queued_and_can_be_cancelled(virtual_clock: Any) -> None:
    graph = answers()
    service = Service([graph])
    service._options = {}  # it is deployed below, with a bound
    async with service.lifespan() as state:
        await state["understudy"].deploy(graph, max_runs=1)

        client = Client(service.app)
        await client.start("a", wait=None, wait_s=60)
        reply = await client.start("b", wait=None)
        run = reply.json()["id"]
        assert (reply.status, reply.json()["status"]) == (202, "queued")
        cancelled = await client.post(f"/v1/runs/{run}/cancel")
        assert cancelled.json()["status"] == "cancelled"


async def test_an_id_is_given_once() -> None:
    async with serving() as client:
        assert (await client.start("a", run_id="order-7")).json()["id"] == "order-7"
        assert (await client.start("a", run_id="order-7")).problem == "run-exists"


async def test_the_same_request_with_the_same_key_is_one_run() -> None:
    async with serving() as client:
        body = {"input": {"text": "a"}}
        headers = {"idempotency-key": "k1", "prefer": "wait=5"}
        first = await client.post("/v1/graphs/answers/runs", body, headers=headers)
        again = await client.post("/v1/graphs/answers/runs", body, headers=headers)
        other = await client.post("/v1/graphs/answers/runs", {"input": {"text": "b"}}, headers=headers)

    assert first.json()["id"] == again.json()["id"]
    assert (again.headers["idempotency-replayed"], "idempotency-replayed" in first.headers) == ("true", False)
    assert (other.status, other.problem) == (409, "idempotency-conflict")


async def test_a_key_of_one_caller_means_nothing_to_another() -> None:
    keys = Keys()
    async with serving(auth=keys.auth) as client:
        runs = [
            (
                await client.of(key).post("/v1/graphs/answers/runs", {"input": {"text": "a"}}, headers={"idempotency-key": "k"})
            ).json()["id"]
            for key in (keys.ann, keys.ben)
        ]

    assert runs[0] != runs[1]


async def test_runs_are_listed_newest_first_in_pages() -> None:
    async with serving() as client:
        for number in range(5):
            await client.start("a" if number % 2 else "fail", run_id=f"r{number}", labels={"n": str(number)})

        first = (await client.get("/v1/runs?limit=2")).json()
        second = (await client.get(f"/v1/runs?limit=2&cursor={first['cursor']}")).json()
        failed = (await client.get("/v1/runs?status=failed")).json()
        labelled = (await client.get("/v1/runs?label=n:3&graph=answers")).json()

    ids = [[run["id"] for run in page["runs"]] for page in (first, second, failed, labelled)]
    assert ids == [["r4", "r3"], ["r2", "r1"], ["r4", "r2", "r0"], ["r3"]]
    assert "cursor" not in failed


@pytest.mark.parametrize("query", ["limit=-1", "limit=x", "limit=501", "label=x", "cursor=none"])
async def test_a_query_that_means_nothing_is_a_400(query: str) -> None:
    async with serving() as client:
        assert (await client.get(f"/v1/runs?{query}")).problem == "bad-request"


async def test_what_is_not_kept_any_more_is_gone() -> None:
    async with serving(record=Recording(runs=1)) as client:
        run = (await client.start("a")).json()["id"]
        await client.start("b")

        assert (await client.get(f"/v1/runs/{run}")).problem == "run-forgotten"


async def test_a_trace_shows_attempts_and_opens_in_chrome() -> None:
    async with serving() as client:
        run = (await client.start("a")).json()["id"]
        told = (await client.get(f"/v1/runs/{run}/trace")).json()
        chrome = (await client.get(f"/v1/runs/{run}/trace?as=chrome")).json()

    assert [(each["node"], each["attempt"], each["status"]) for each in told["attempts"]] == [("answer", 1, "done")]
    assert [event["ph"] for event in chrome["traceEvents"]] == ["M", "b", "e"]


async def test_a_trace_is_one_file_of_html_to_keep() -> None:
    async with serving() as client:
        run = (await client.start("</script>")).json()["id"]
        answer = await client.get(f"/v1/runs/{run}/trace?as=html")

    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["content-disposition"] == f'attachment; filename="run-{run}.html"'
    assert "\\u003c/script\\u003e" in answer.body.decode()
    assert '"layout":' in answer.body.decode()


async def test_a_graph_of_several_inputs_is_told_which_one_it_gets() -> None:
    @attrs.frozen
    class Ask:
        text: str

    @attrs.frozen
    class Tell:
        text: str

    graph: Graph = Graph("either", input=Ask | Tell, output=Answer)

    @graph.node
    async def ask(message: Ask) -> Answer:
        return Answer("asked")

    @graph.node
    async def tell(message: Tell) -> Answer:
        return Answer("told")

    async with serving(graph) as client:
        start = "/v1/graphs/either/runs"
        unclear = await client.post(start, {"input": {"text": "a"}})
        named = await client.post(start, {"input": {"text": "a"}, "type": "Tell"}, headers={"prefer": "wait=5"})
        wrong = await client.post(start, {"input": {"text": "a"}, "type": "Other"})

    assert unclear.json()["errors"] == [{"pointer": "/type", "message": "expected one of: Ask, Tell; it fits several"}]
    assert named.json()["output"] == {"text": "told"}
    assert wrong.json()["errors"][0]["pointer"] == "/type"


async def test_limits_are_429_and_say_when_to_come_again(virtual_clock: Any) -> None:
    limits = Limits(runs_per_minute=3, runs_at_once_per_caller=2)
    async with serving(limits=limits) as client:
        for _ in range(2):
            await client.start("a", wait=None, wait_s=600)
        assert (await client.start("a", wait=None)).problem == "too-many-runs"
        await trio.sleep(700)
        assert [(await client.start("a")).status for _ in range(3)] == [200] * 3
        refused = await client.start("a")
        assert (refused.problem, refused.headers["retry-after"]) == ("rate-limited", "20")
        await trio.sleep(20)
        assert (await client.start("a")).status == 200


async def test_runs_that_others_started_are_kept_too() -> None:
    service = Service([answers()])
    async with service.lifespan() as state:
        runtime = state["understudy"]
        await runtime.run(service.graphs[0], Question("a"), run_id="inside")

        run = (await Client(service.app).get("/v1/runs/inside")).json()

    assert (run["status"], run["output"]) == ("succeeded", {"text": "A"})


async def test_while_it_drains_runs_end_and_new_ones_are_503(virtual_clock: Any) -> None:
    service = Service([answers()])

    client = Client(service.app)
    assert (await client.get("/readyz")).status == 503
    async with trio.open_nursery() as nursery:
        async with service.lifespan() as state:
            assert (await client.get("/readyz")).status == 200
            run = (await client.start("a", wait=None, wait_s=5)).json()["id"]

            async def look() -> None:
                await trio.sleep(1)
                assert (await client.get("/readyz")).status == 503
                assert (await client.get("/healthz")).status == 200
                refused = await client.start("b")
                assert (refused.problem, refused.headers["retry-after"]) == ("draining", "1")
                reply = await client.get(f"/v1/runs/{run}/events")
                assert [name for _, name, _ in reply.events()][-1] == "run.finished"

            nursery.start_soon(look)
            assert state["understudy"].is_ready
    assert 4.9 < trio.current_time() < 6


def test_two_graphs_of_one_name_are_refused() -> None:
    with pytest.raises(DeclarationError, match="two graphs are named 'answers'"):
        Service([answers(), answers()])


@pytest.mark.parametrize("options", [{"cors": ["*"]}, {"hosts": "example.org"}, {"hosts": ["*"]}], ids=str)
def test_nobody_is_let_in_by_accident(options: Any) -> None:
    with pytest.raises(DeclarationError):
        Service([answers()], **options)


def test_nothing_to_serve_is_refused() -> None:
    with pytest.raises(DeclarationError, match="nothing to serve"):
        Service([])


async def test_the_document_describes_every_route_and_every_graph() -> None:
    async with serving() as client:
        document = (await client.get("/openapi.json")).json()

    start = document["paths"]["/v1/graphs/answers/runs"]["post"]
    assert document["openapi"] == "3.1.0"
    assert start["requestBody"]["content"]["application/json"]["schema"]["properties"]["input"] == {
        "$ref": "#/components/schemas/answers.Question"
    }
    references = _references(document)
    assert len(references) > 20
    for reference in references:
        assert _found(document, reference), reference


def _references(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
        return own + [found for item in value.values() for found in _references(item)]
    return [found for item in value for found in _references(item)] if isinstance(value, list) else []


def _found(document: Any, reference: str) -> bool:
    for part in reference.removeprefix("#/").split("/"):
        if part not in document:
            return False
        document = document[part]
    return True


@pytest.mark.parametrize("query", ["status=flying", "status=", "limit=-1", "label=x", "cursor=none"])
async def test_a_query_that_cannot_be_meant_is_a_400(query: str) -> None:
    async with serving() as client:
        assert (await client.get(f"/v1/runs?{query}")).problem == "bad-request"


@pytest.mark.parametrize(("query", "header"), [("?after=-1", ""), ("?after=-1", "0"), ("", "x"), ("?after=0", "-2")])
async def test_a_place_in_a_stream_is_a_number_wherever_it_stands(query: str, header: str) -> None:
    async with serving() as client:
        await client.start("a", run_id="r")
        reply = await client.get(f"/v1/runs/r/events{query}", headers={"last-event-id": header})

    assert reply.problem == "bad-request"


def cursor(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    "text",
    [
        cursor([None, "0001-01-01T00:00:00+23:59", "r"]),
        cursor([None, "9999-12-31T23:59:59-23:59", "r"]),
        base64.urlsafe_b64encode(b"[" * 20_000).decode().rstrip("="),
        cursor([None, 3, "r"]),
        cursor(["9" * 5_000, "2026-11-28T18:41:53+00:00", "r"]),
        cursor({}),
        "%ff",
        "é",
    ],
    ids=lambda text: text[:30],
)
async def test_a_cursor_of_a_store_that_is_none_is_a_400(text: str) -> None:
    async with serving(store=MemoryStore()) as client:
        assert (await client.get(f"/v1/runs?cursor={text}")).problem == "bad-request"


async def test_metrics_are_shown_to_those_who_may_look_inside_and_are_those_of_this_service() -> None:
    async with serving() as client, serving() as other:
        run = (await client.start("a")).json()["id"]
        await client.get(f"/v1/runs/{run}/events")
        mine, others = await client.get("/metrics"), await other.get("/metrics")

    assert mine.status == 200
    assert mine.headers["content-type"].startswith("text/plain; version=")
    assert "understudy_runs" in mine.body.decode()
    assert 'graph="answers"' not in others.body.decode()
    async with serving(metrics=False) as client:
        assert (await client.get("/metrics")).status == 404


class CountsTasks(trio.abc.Instrument):
    """Counts the tasks that begin."""

    def __init__(self) -> None:
        self.count = 0

    def task_spawned(self, task: trio.lowlevel.Task) -> None:
        self.count += 1


async def test_a_run_that_is_waited_for_takes_no_task_beside_that_of_its_request() -> None:
    async with serving() as client:
        await client.start()  # what is made for the first one only
        counts = CountsTasks()
        trio.lowlevel.add_instrument(counts)
        replies = [await client.start() for _ in range(5)]
        trio.lowlevel.remove_instrument(counts)

    assert [reply.json()["output"] for reply in replies] == [{"text": "A"}] * 5
    assert counts.count == 0


async def test_a_run_without_a_task_of_its_own_ends_with_the_service() -> None:
    service = Service([answers()])
    with trio.CancelScope() as scope:
        async with service.lifespan():
            live = service.live
            run = (await Client(service.app).start("a", wait=None, wait_s=1_000.0)).json()
            scope.cancel()  # nobody drains
            await trio.lowlevel.checkpoint()

    record = live.recorder.get(run["id"])
    assert (run["status"], record is not None and record.status, live.launches) == ("running", "cancelled", {})


@pytest.mark.parametrize(("prefer", "status"), [("wait=30", "running"), ("wait=30, cancel-on-disconnect", "cancelled")])
@pytest.mark.parametrize("is_declared", [True, False])
async def test_who_hangs_up_while_it_waits_is_sent_nothing(
    virtual_clock: Any, prefer: str, status: str, *, is_declared: bool
) -> None:
    async with serving() as client:
        sent: list[Any] = []
        body = json.dumps({"input": {"text": "a", "wait_s": 60}, "run_id": "r"}).encode()
        parts = [
            {"type": "http.request", "body": body, "more_body": True},
            {
                "type": "http.request",
                "body": b"",
                "more_body": False,
            },  # as hypercorn sends it, behind what is declared
        ]

        async def receive() -> Any:
            if parts:
                return parts.pop(0)
            await trio.sleep(1)
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        headers = [(b"host", b"localhost"), (b"content-type", b"application/json"), (b"prefer", prefer.encode())]
        headers += [(b"content-length", str(len(body)).encode())] if is_declared else []
        path = "/v1/graphs/answers/runs"
        scope = {"type": "http", "method": "POST", "path": path, "query_string": b"", "headers": headers, "state": {}}
        await client.app(scope, receive, send)
        assert not sent
        assert trio.current_time() == pytest.approx(1)

        await trio.sleep(1)
        assert (await client.get("/v1/runs/r")).json()["status"] == status
