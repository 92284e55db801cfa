"""What runs ask people, over HTTP: with a store and without."""

import json
from collections.abc import AsyncIterator
from typing import Any

import attrs
import pytest
import trio

from actors import Graph, Run
from runtime import open_runtime
from runtime.journal import MemoryStore
from runtime.serve import Recording, Service
from runtime.testing import ScriptedLM
from runtime.tools import tool
from tests.runtime.serve.cast import Client, Keys, Reply, serving


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


def letters(timeout_s: float | None = None) -> Graph[Order, Sent]:
    graph = Graph("letters", input=Order, output=Sent)

    @graph.node
    async def write(order: Order) -> Draft:
        return Draft(f"order {order.number}")

    @graph.human(to="ann", timeout_s=timeout_s)
    async def approve(draft: Draft) -> Approved | Rejected:
        """May this letter be sent?"""
        raise NotImplementedError

    @graph.node
    async def send(ok: Approved) -> Sent:
        return Sent(f"sent {ok.remark}")

    @graph.node
    async def drop(no: Rejected, run: Run) -> Sent:
        sure = await run.ask(Draft("really?"), Approved)
        return Sent(f"dropped: {no.why}, {sure.remark}")

    return graph


@pytest.fixture(params=[False, True], ids=["in memory", "stored"])
async def client(request: Any, virtual_clock: Any) -> AsyncIterator[Client]:
    options = {"store": MemoryStore()} if request.param else {}
    async with serving(letters(), **options) as client:
        yield client


async def start(client: Client, run_id: str = "r") -> None:
    reply = await client.post("/v1/graphs/letters/runs", {"input": {"number": 7}, "run_id": run_id})
    assert reply.status == 202
    await trio.sleep(1)


async def questions(client: Client, run_id: str = "r") -> list[Any]:
    reply = await client.get(f"/v1/runs/{run_id}/questions")
    assert reply.status == 200
    found: list[Any] = reply.json()["questions"]
    return found


async def answer(client: Client, value: object, run_id: str = "r") -> Reply:
    [question] = await questions(client, run_id)
    return await client.post(question["links"]["answer"], value)


async def test_a_question_says_what_is_asked_and_what_may_be_answered(client: Client) -> None:
    await start(client)

    [question] = await questions(client)

    assert (question["run"], question["node"], question["text"]) == ("r", "approve", "May this letter be sent?")
    assert (question["asks"], question["to"], question["due_at"]) == ({"text": "order 7"}, "ann", None)
    assert {"Approved", "Rejected"} <= set(question["answer_schema"]["$defs"])
    assert question["id"].startswith("r.")
    assert question["asked_at"].endswith("Z")


async def test_a_run_that_waits_for_a_person_says_so(client: Client) -> None:
    await start(client)

    run = (await client.get("/v1/runs/r")).json()
    listed = (await client.get("/v1/runs?status=waiting")).json()["runs"]

    assert run["status"] == "waiting"
    assert run["links"]["questions"] == "/v1/runs/r/questions"
    assert [each["id"] for each in listed] == ["r"]
    assert (await client.get("/v1/runs?status=running")).json()["runs"] == []


async def test_an_answer_lets_the_run_go_on(client: Client) -> None:
    await start(client)

    reply = await answer(client, {"Approved": {"remark": "well done"}})
    await trio.sleep(1)

    assert (reply.status, reply.json()["id"]) == (200, "r")
    assert (await client.get("/v1/runs/r")).json()["output"] == {"text": "sent well done"}
    assert await questions(client) == []


async def test_a_question_in_the_middle_of_a_node_is_answered_the_same_way(client: Client) -> None:
    await start(client)
    await answer(client, {"why": "no"})
    await trio.sleep(1)

    await answer(client, {"remark": "yes"})
    await trio.sleep(1)

    assert (await client.get("/v1/runs/r")).json()["output"] == {"text": "dropped: no, yes"}


@pytest.mark.parametrize(
    ("value", "pointer"),
    [({"Rejected": {"why": 3}}, "/why"), ({"Rejected": {}}, "/why"), ("yes", ""), (None, ""), ([], "")],
    ids=str,
)
async def test_what_is_no_answer_is_a_422_that_names_the_place(client: Client, value: Any, pointer: str) -> None:
    await start(client)
    [question] = await questions(client)

    reply = await client.post(question["links"]["answer"], raw=[json.dumps(value).encode()])

    assert (reply.status, reply.problem) == (422, "input-invalid")
    assert [each["pointer"] for each in reply.json()["errors"]] == [pointer]
    assert len(await questions(client)) == 1


async def test_a_second_answer_is_a_409_and_changes_nothing(client: Client) -> None:
    await start(client)
    [question] = await questions(client)

    first = await client.post(question["links"]["answer"], {"Approved": {"remark": "1"}})
    second = await client.post(question["links"]["answer"], {"Approved": {"remark": "2"}})
    await trio.sleep(1)

    assert (first.status, second.status, second.problem) == (200, 409, "already-answered")
    assert (await client.get("/v1/runs/r")).json()["output"] == {"text": "sent 1"}


async def test_of_two_answers_at_once_one_counts(client: Client) -> None:
    await start(client)
    [question] = await questions(client)
    statuses: list[int] = []

    async def give(number: int) -> None:
        statuses.append((await client.post(question["links"]["answer"], {"Approved": {"remark": str(number)}})).status)

    async with trio.open_nursery() as nursery:
        for number in range(5):
            nursery.start_soon(give, number)

    assert sorted(statuses) == [200, 409, 409, 409, 409]


@pytest.mark.parametrize("question", ["r.nothing", "nothing", "s.1", "r", "%00", "r.1.1"])
async def test_a_question_that_is_not_there_is_a_404(client: Client, question: str) -> None:
    await start(client)
    await start(client, "s")

    reply = await client.post(f"/v1/runs/r/questions/{question}/answer", {"Approved": {}})

    assert reply.status == 404


async def test_a_question_of_another_run_cannot_be_answered_through_ones_own(client: Client) -> None:
    await start(client)
    await start(client, "s")
    [question] = await questions(client, "s")

    reply = await client.post(f"/v1/runs/r/questions/{question['id']}/answer", {"Approved": {}})

    assert (reply.status, reply.problem) == (404, "no-such-question")
    assert len(await questions(client, "s")) == 1


async def test_a_cancelled_run_asks_nothing(client: Client) -> None:
    await start(client)
    [question] = await questions(client)
    await client.post("/v1/runs/r/cancel")

    reply = await client.post(question["links"]["answer"], {"Approved": {}})

    assert reply.status in (404, 409)
    assert await questions(client) == []


async def test_questions_and_answers_are_events_of_the_run(client: Client) -> None:
    await start(client)
    await answer(client, {"Approved": {"remark": "ok"}})
    await trio.sleep(1)

    events = (await client.get("/v1/runs/r/events?kinds=question.", headers={"accept": "text/event-stream"})).events()

    assert [name for _, name, _ in events] == ["question.asked", "question.answered"]
    assert events[0][2]["asks"] == {"text": "order 7"}
    assert (events[1][2]["answer"], events[1][2]["by"]) == ({"remark": "ok"}, "everybody")


async def test_a_run_that_has_left_memory_is_answered_all_the_same(virtual_clock: Any) -> None:
    async with serving(letters(timeout_s=600), store=MemoryStore(), evict_after_s=5) as client:
        await start(client)
        await trio.sleep(30)
        assert (await client.get("/v1/runs/r")).json()["status"] == "waiting"
        [question] = await questions(client)
        assert question["due_at"] > question["asked_at"]

        assert (await answer(client, {"Approved": {"remark": "late"}})).status == 200
        await trio.sleep(5)

        assert (await client.get("/v1/runs/r")).json()["output"] == {"text": "sent late"}


async def test_who_follows_a_run_that_has_left_memory_does_not_keep_the_server_from_ending(virtual_clock: Any) -> None:
    service = Service([letters(timeout_s=600)], store=MemoryStore(), evict_after_s=5)
    async with service.lifespan():
        client, reply = Client(service.app), Reply()
        await start(client)
        await trio.sleep(30)
        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:

                async def follow() -> None:
                    await client.get("/v1/runs/r/events", headers={"accept": "text/event-stream"}, reply=reply)

                nursery.start_soon(follow)
                await trio.sleep(1)
                assert reply.status == 200
                service.reject_runs()

    assert reply.is_whole
    assert "question.asked" in reply.body.decode()
    assert "run.finished" not in reply.body.decode()


async def test_strangers_learn_nothing_and_who_inspects_answers_nothing(virtual_clock: Any) -> None:
    keys = Keys()
    async with serving(letters(), auth=keys.auth, record=Recording(content="none")) as client:
        ann = client.of(keys.ann)
        await start(ann)
        [question] = await questions(ann)
        path = question["links"]["answer"]

        assert (await client.of(keys.ben).get("/v1/runs/r/questions")).problem == "no-such-run"
        assert (await client.of(keys.ben).post(path, {"Approved": {}})).problem == "no-such-run"
        assert (await client.of(keys.eve).post(path, {"Approved": {}})).problem == "forbidden"
        [seen] = await questions(client.of(keys.eve))
        assert (question["asks"], seen["asks"]) == ({"text": "order 7"}, None)
        assert (await client.of(keys.oz).post(path, {"Approved": {}})).status == 200


async def test_the_document_describes_questions() -> None:
    async with serving(letters()) as client:
        document = (await client.get("/openapi.json")).json()

    path = document["paths"]["/v1/runs/{run}/questions/{question}/answer"]["post"]
    assert path["requestBody"]["required"]
    assert "answer_schema" in document["components"]["schemas"]["Question"]["required"]


async def test_a_service_that_ends_leaves_stored_runs_to_the_next_process(virtual_clock: Any) -> None:
    store, graph = MemoryStore(), letters()
    async with serving(graph, store=store) as client:
        await start(client)
        [question] = await questions(client)

    async with open_runtime(store=store, graphs=[graph]) as runtime:
        assert [each.id for each in await runtime.questions("r")] == [question["id"]]
        await runtime.answer(question["id"], Approved("after all"))
        handle = await runtime.handle("r")
        assert await handle.result() == Sent("sent after all")


def paying(paid: list[str]) -> Graph[Order, Sent]:
    graph = Graph("paying", input=Order, output=Sent)

    @tool(approve=True)
    async def pay(to: str, amount: int = 5) -> str:
        """Pay somebody."""
        paid.append(f"{amount} to {to}")
        return "paid"

    @graph.predict(tools=[pay])
    async def decide(order: Order) -> Sent:
        """Pay what is ordered."""
        raise NotImplementedError

    return graph


@pytest.mark.parametrize("is_stored", [False, True])
@pytest.mark.parametrize(
    ("value", "paid"),
    [({"Approved": {}}, ["5 to Anna"]), ({"to": "Bob", "amount": 7}, ["7 to Bob"]), ({"Refused": {"reason": "twice"}}, [])],
)
async def test_a_call_of_a_tool_is_agreed_to_over_http(value: Any, paid: list[str], is_stored: bool, virtual_clock: Any) -> None:
    made: list[str] = []
    call = {"id": "1", "name": "pay", "arguments": {"to": "Anna"}}
    lm = ScriptedLM(
        [{"role": "assistant", "content": None, "tool_calls": [call]}, {"text": "done"}],
    )
    options = {"store": MemoryStore()} if is_stored else {}
    async with serving(paying(made), lm=lm, **options) as client:
        await client.post("/v1/graphs/paying/runs", {"input": {"number": 7}, "run_id": "r"})
        await trio.sleep(1)

        wrong = await answer(client, {"to": "Bob", "amount": "x"})
        reply = await answer(client, value)
        await trio.sleep(1)
        run = (await client.get("/v1/runs/r")).json()

    assert (wrong.status, reply.status, made) == (422, 200, paid)
    assert run["output"] == {"text": "done"}
