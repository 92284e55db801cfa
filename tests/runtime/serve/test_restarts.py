"""Runs of a store over several lives of the service: one sequence of events, whoever is asked for it and when."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import attrs
import pytest
import trio

from actors import Graph
from actors.store_errors import StoreUnavailable
from runtime.journal import MemoryStore
from runtime.journal.store import StoredRun
from runtime.journal.told_events import ToldEvent
from runtime.serve import Service
from runtime.testing.stores.passing import PassingStore
from runtime.testing.stores.troubled import FlakyStore
from tests.runtime.serve.cast import Answer, Client, Keys, Many, answers, counting

SSE = {"accept": "text/event-stream"}
LINES = {"accept": "application/jsonl"}


@attrs.frozen
class Draft:
    text: str


@attrs.frozen
class Approved:
    text: str


def asking() -> Graph[Draft, Approved]:
    graph = Graph("asking", input=Draft, output=Approved)

    @graph.human
    async def approve(draft: Draft) -> Approved:
        """May this be sent?"""
        raise NotImplementedError

    return graph


class Lives:
    """A service over one store in memory, killed and started again."""

    def __init__(self, *graphs: Graph, **options: Any) -> None:
        self._graphs = graphs or (counting(),)
        self._options = options
        self.store = MemoryStore()

    @contextlib.asynccontextmanager
    async def life(self, *, crashes: bool = True, store: Any = None) -> AsyncGenerator[Client]:
        """A client of the service while this life lasts; it ends as if the process were killed."""
        self.store = own = self.store.beside()
        service = Service(self._graphs, store=own if store is None else store(own), **self._options)
        async with trio.open_nursery() as nursery:
            up, down = trio.Event(), trio.Event()

            async def live() -> None:
                with contextlib.suppress(Exception):  # whatever a dying process says is not heard
                    async with service.lifespan():
                        up.set()
                        await down.wait()

            nursery.start_soon(live)
            await up.wait()
            yield Client(service.app)
            if crashes:
                own.crash()
                nursery.cancel_scope.cancel()
            down.set()


def once(events: list[tuple[int, str, Any]]) -> None:
    """Each number once, each end of a step once, one end of the run, which is last."""
    assert [seq for seq, _, _ in events] == list(range(len(events)))
    ends = [data["path"] for _, name, data in events if name == "node.finished"]
    assert len(ends) == len(set(ends))
    assert [name for _, name, _ in events].count("run.finished") == 1
    assert events[-1][1] == "run.finished"


async def lines(client: Client, run: str, query: str = "") -> list[bytes]:
    return (await client.get(f"/v1/runs/{run}/events{query}", headers=LINES)).body.splitlines()


@pytest.mark.parametrize("read", range(1, 9))
async def test_a_follower_goes_on_after_a_crash_and_sees_each_event_once(virtual_clock: Any, read: int) -> None:
    lives = Lives()
    async with lives.life() as client:
        run = (await client.post("/v1/graphs/counting/runs", {"input": {"n": 4}})).json()["id"]
        path = f"/v1/runs/{run}/events"
        cut = await client.get(path, headers=SSE, until=lambda reply: len(reply.events()) >= read)
        seen = cut.events()[:read]
    async with lives.life() as client:
        rest = await client.get(path, headers={**SSE, "last-event-id": str(seen[-1][0])})
        events = seen + rest.events()
        again = (await client.get(path, headers=SSE)).events()
        by_query = [(await client.get(f"{path}?after={seq}", headers=SSE)).events() for seq, _, _ in events]

    once(events)
    assert "run.resumed" in [name for _, name, _ in events]
    assert again == events
    assert by_query == [events[seq + 1 :] for seq in range(len(events))]
    async with lives.life() as client:  # and in a process that has never had the run
        assert (await client.get(path, headers=SSE)).events() == events
        assert [json.loads(line) for line in await lines(client, run)] == [data for _, _, data in events]


async def test_followers_of_three_lives_see_one_sequence(virtual_clock: Any) -> None:
    lives = Lives()
    async with lives.life() as client:
        run = (await client.post("/v1/graphs/counting/runs", {"input": {"n": 6}})).json()["id"]
        path = f"/v1/runs/{run}/events"
        await trio.sleep(1.5)  # nobody follows it
    async with lives.life() as client:
        cut = await client.get(path, headers=SSE, until=lambda reply: len(reply.events()) >= 5)
        early = await lines(client, run, "?after=1")
        await trio.sleep(1.5)
    async with lives.life() as client:
        late = await client.get(path, headers={**SSE, "last-event-id": str(cut.events()[4][0])})
        whole = (await client.get(path, headers=SSE)).events()

    once(whole)
    assert cut.events()[:5] + late.events() == whole
    assert [json.loads(line) for line in early] == [data for _, _, data in whole][2 : 2 + len(early)]


async def test_runs_of_earlier_processes_are_listed_and_shown_with_owner_and_labels(virtual_clock: Any) -> None:
    keys = Keys()
    lives = Lives(answers(), auth=keys.auth)
    async with lives.life() as client:
        ann, ben = client.of(keys.ann), client.of(keys.ben)
        before = [
            (await ann.start(text, run_id=f"a{n}", labels={"n": f"{n}"})).json() for n, text in enumerate(("a", "fail", "c"))
        ]
        await ben.start("b", run_id="b")
        traced = (await ann.get("/v1/runs/a0/trace")).json()
        followed = (await ann.get("/v1/runs/a0/events", headers=SSE)).events()
        sent = await ann.get("/v1/runs/a1/events", headers=LINES)
        inside = await client.of(keys.eve).get("/v1/runs/a1/events", headers=LINES)
    async with lives.life() as client:
        ann, ben, eve = client.of(keys.ann), client.of(keys.ben), client.of(keys.eve)
        after = [(await ann.get(f"/v1/runs/a{n}")).json() for n in range(3)]
        own = [run["id"] for run in (await ann.get("/v1/runs")).json()["runs"]]
        everybodys = [run["id"] for run in (await eve.get("/v1/runs")).json()["runs"]]
        labelled = [run["id"] for run in (await ann.get("/v1/runs?label=n:2")).json()["runs"]]
        failed = [run["id"] for run in (await eve.get("/v1/runs?status=failed")).json()["runs"]]
        foreign = await ben.get("/v1/runs/a0")

        assert own == ["a2", "a1", "a0"]
        assert everybodys == ["b", "a2", "a1", "a0"]
        assert (labelled, failed) == (["a2"], ["a1"])
        assert foreign.problem == "no-such-run"
        assert (await ben.get("/v1/runs/a0/events", headers=SSE)).problem == "no-such-run"
        assert [run["labels"] for run in after] == [{"n": f"{n}"} for n in range(3)]
        for name in ("id", "graph", "status", "output", "spend", "steps", "links"):
            assert [run.get(name) for run in after] == [run.get(name) for run in before], name
        assert after[1]["error"]["type"] == before[1]["error"]["type"]
        assert (await ann.get("/v1/runs/a0/trace")).json() == traced
        assert (await ann.get("/v1/runs/a0/events", headers=SSE)).events() == followed
        assert (await ann.get("/v1/runs/a1/events", headers=LINES)).body == sent.body
        assert (await eve.get("/v1/runs/a1/events", headers=LINES)).body == inside.body
        assert b"understudy." not in sent.body + inside.body
        assert (await ann.start("x", run_id="a0")).problem == "run-exists"


async def test_pages_of_a_list_hold_each_run_once_whoever_has_it(virtual_clock: Any) -> None:
    lives = Lives(answers(), counting())
    async with lives.life() as client:
        for n in range(4):
            await client.start("a", run_id=f"r{n}")
    async with lives.life() as client:
        for n in range(4, 7):
            await client.start("a", run_id=f"r{n}")
        await client.start("a", run_id="slow", wait=None, wait_s=100)
        pages: list[list[str]] = []
        query = "limit=3"
        while query:
            told = (await client.get(f"/v1/runs?{query}")).json()
            pages.append([run["id"] for run in told["runs"]])
            query = f"limit=3&cursor={told['cursor']}" if "cursor" in told else ""
        running = (await client.get("/v1/runs?status=running")).json()["runs"]
        nonsense = [await client.get(f"/v1/runs?cursor={cursor}") for cursor in ("x", "bnVsbA", "WzEsMiwzXQ", "é")]

    assert pages == [["slow", "r6", "r5"], ["r4", "r3", "r2"], ["r1", "r0"]]
    assert [run["id"] for run in running] == ["slow"]
    assert [reply.problem for reply in nonsense] == ["bad-request"] * 4


async def test_a_run_that_nobody_followed_is_told_from_its_journal(virtual_clock: Any) -> None:
    lives = Lives()
    async with lives.life() as client:
        run = (await client.post("/v1/graphs/counting/runs", {"input": {"n": 2}}, headers={"prefer": "wait=9"})).json()["id"]
    async with lives.life() as client:
        events = (await client.get(f"/v1/runs/{run}/events", headers=SSE)).events()
        trace = (await client.get(f"/v1/runs/{run}/trace")).json()

    once(events)
    assert [name for _, name, _ in events] == ["run.started", "node.finished", "node.finished", "run.finished"]
    assert [data["output"] for _, name, data in events if name == "node.finished"] == [{"n": 1}, {"text": "done"}]
    assert trace["status"] == "succeeded"
    assert [(each["node"], each["status"]) for each in trace["attempts"]] == [("count", "done")] * 2


async def test_a_follower_of_a_run_that_waits_for_a_person_sees_it_go_on(virtual_clock: Any) -> None:
    lives = Lives(asking())
    async with lives.life() as client:
        run = (await client.post("/v1/graphs/asking/runs", {"input": {"text": "d"}})).json()["id"]
        path = f"/v1/runs/{run}/events"
        cut = await client.get(path, headers=SSE, until=lambda reply: b"question.asked" in reply.body)
    async with lives.life() as client, trio.open_nursery() as nursery:
        last = cut.events()[-1][0]
        assert (await client.get(f"/v1/runs/{run}")).json()["status"] == "waiting"

        async def answer() -> None:
            await trio.sleep(20)
            [question] = (await client.get(f"/v1/runs/{run}/questions")).json()["questions"]
            done = await client.post(f"{question['links']['answer']}", {"text": "yes"})
            assert done.status == 200, done.body

        nursery.start_soon(answer)
        rest = await client.get(path, headers={**SSE, "last-event-id": str(last)})

    events = cut.events() + rest.events()
    once(events)
    names = [name for _, name, _ in events]
    assert (names.count("question.asked"), names.count("question.answered")) == (1, 1)


async def test_items_that_a_generator_yields_again_are_told_once(virtual_clock: Any) -> None:
    graph = Graph("items", input=Many, output=Answer)

    @graph.node(repeatable=True)
    async def items(many: Many) -> AsyncIterator[Draft]:
        for n in range(many.n):
            await trio.sleep(1)
            yield Draft(str(n))

    @graph.node
    async def each(draft: Draft) -> Approved:
        return Approved(draft.text)

    @graph.node
    async def gather(all_: list[Approved]) -> Answer:
        return Answer(str(len(all_)))

    lives = Lives(graph)
    async with lives.life() as client:
        run = (await client.post("/v1/graphs/items/runs", {"input": {"n": 4}})).json()["id"]
        path = f"/v1/runs/{run}/events"
        cut = await client.get(path, headers=SSE, until=lambda reply: reply.body.count(b"event: node.emitted") >= 2)
    async with lives.life() as client:
        rest = await client.get(path, headers={**SSE, "last-event-id": str(cut.events()[-1][0])})

    events = cut.events() + rest.events()
    once(events)
    assert [data["index"] for _, name, data in events if name == "node.emitted"] == [0, 1, 2, 3]


async def test_an_idempotency_key_holds_over_restarts(virtual_clock: Any) -> None:
    keys = Keys()
    lives = Lives(answers(), auth=keys.auth)
    body: Any = {"input": {"text": "a"}}
    path, headers = "/v1/graphs/answers/runs", {"idempotency-key": "k-1", "prefer": "wait=9"}
    async with lives.life() as client:
        first = await client.of(keys.ann).post(path, body, headers=headers)
    async with lives.life() as client:
        ann = client.of(keys.ann)
        second = await ann.post(path, body, headers=headers)
        other = await ann.post(path, {"input": {"text": "b"}}, headers=headers)
        bounds = await ann.post(path, {**body, "max_steps": 3}, headers=headers)
        bens = await client.of(keys.ben).post(path, body, headers=headers)
        named = await ann.post(path, {**body, "run_id": "mine"}, headers={"idempotency-key": "k-2"})
    async with lives.life() as client:
        renamed = await client.of(keys.ann).post(path, {**body, "run_id": "mine"}, headers={"idempotency-key": "k-2"})
        stolen = await client.of(keys.ben).post(path, {**body, "run_id": "mine"}, headers={"idempotency-key": "k-2"})
        listed = (await client.of(keys.eve).get("/v1/runs")).json()["runs"]

    assert (first.status, second.status) == (200, 200)
    assert second.headers["idempotency-replayed"] == "true"
    assert "idempotency-replayed" not in first.headers
    assert second.json()["id"] == first.json()["id"] != bens.json()["id"]
    assert second.json()["output"] == first.json()["output"]
    assert (other.problem, bounds.problem) == ("idempotency-conflict", "idempotency-conflict")
    assert (named.status, renamed.headers["idempotency-replayed"], renamed.json()["id"]) == (202, "true", "mine")
    assert stolen.problem == "run-exists"
    assert len(listed) == 3


async def test_a_run_of_an_earlier_process_can_be_cancelled(virtual_clock: Any) -> None:
    lives = Lives(asking())
    async with lives.life() as client:
        run = (await client.post("/v1/graphs/asking/runs", {"input": {"text": "d"}})).json()["id"]
        await trio.sleep(1)
    async with lives.life() as client:
        reply = await client.post(f"/v1/runs/{run}/cancel", {})
        events = (await client.get(f"/v1/runs/{run}/events", headers=SSE)).events()

    assert (reply.status, reply.json()["status"]) == (200, "cancelled")
    once(events)


async def test_labels_of_the_service_itself_cannot_be_given(virtual_clock: Any) -> None:
    lives = Lives(answers())
    async with lives.life() as client:
        forged = await client.start("a", labels={"understudy.owner": "ann"})

    assert forged.problem == "input-invalid"
    assert forged.json()["errors"][0]["pointer"] == "/labels/understudy.owner"


# --- the store ----------------------------------------------------------------------------------------------------------------


class AwayStore(PassingStore):
    """Keeps nothing of what readers are told while it is away, and answers no questions."""

    def __init__(self, store: Any) -> None:
        super().__init__(store)
        self.is_away = False

    async def tell(self, run: str, rows: Any) -> bool:
        if self.is_away:
            await trio.lowlevel.checkpoint()
            raise StoreUnavailable("away, as the test wants")
        return await super().tell(run, rows)

    async def run(self, run: str) -> StoredRun | None:
        if self.is_away:
            await trio.lowlevel.checkpoint()
            raise StoreUnavailable("away, as the test wants")
        return await super().run(run)


async def test_nothing_is_sent_that_cannot_be_kept(virtual_clock: Any) -> None:
    lives, stores = Lives(), []

    def away(store: Any) -> AwayStore:
        stores.append(AwayStore(store))
        return stores[-1]

    async with lives.life(store=away) as client, trio.open_nursery() as nursery:
        run = (await client.post("/v1/graphs/counting/runs", {"input": {"n": 4}})).json()["id"]
        path = f"/v1/runs/{run}/events"
        stores[0].is_away = True
        replies: list[Any] = []

        async def follow() -> None:
            replies.append(await client.get(path, headers=SSE))

        nursery.start_soon(follow)
        await trio.sleep(2.5)
        assert (await client.get(path, headers=LINES)).problem == "store-failed"
        assert (await client.get("/v1/runs/unknown")).problem == "store-failed"
        assert (await client.get("/readyz")).status == 503
        assert (await client.get("/healthz")).status == 200
        assert replies == []
        stores[0].is_away = False
        await trio.sleep(1.5)
        assert (await client.get("/readyz")).status == 200

    once(replies[0].events())
    assert b"\n:\n" in replies[0].body  # so that the connection stayed


class SlowStore(PassingStore):
    """Takes a second to answer."""

    async def run(self, run: str) -> StoredRun | None:
        await trio.sleep(1)
        return await super().run(run)


async def test_probes_that_come_while_another_asks_the_store_are_told_what_was_so_before(virtual_clock: Any) -> None:
    lives, stores = Lives(), []

    def slow(store: Any) -> Any:
        stores.append(AwayStore(SlowStore(store)))
        return stores[-1]

    async with lives.life(store=slow) as client:

        async def probes(count: int) -> list[int]:
            found: list[int] = []

            async def probe() -> None:
                found.append((await client.get("/readyz")).status)

            async with trio.open_nursery() as nursery:
                for _ in range(count):
                    nursery.start_soon(probe)
            return found

        assert await probes(5) == [200] * 5
        stores[0].is_away = True
        await trio.sleep(3)
        with trio.move_on_after(0):
            await client.get("/readyz")
        assert await probes(1) == [503]
        stores[0].is_away = False
        await trio.sleep(3)
        assert sorted(await probes(5)) == [200, 503, 503, 503, 503]
        assert await probes(1) == [200]


async def test_another_event_under_a_number_ends_a_stream_and_what_was_sent_first_holds(virtual_clock: Any) -> None:
    lives = Lives()
    async with lives.life() as client:
        run = (await client.post("/v1/graphs/counting/runs", {"input": {"n": 2}}, headers={"prefer": "wait=9"})).json()["id"]
        text = json.dumps({"v": 1, "seq": 0, "event": "run.started", "at": "2026-11-28T18:00:00.000000Z", "elapsed_s": 0})
        assert await lives.store.tell(run, [ToldEvent(0, "run.started", text.encode())])  # as another process might have
        path = f"/v1/runs/{run}/events"
        cut = await client.get(path, headers=SSE)
        whole = await client.get(path, headers=SSE)

    assert (cut.events(), cut.is_whole) == ([], True)
    assert whole.events()[0][2] == json.loads(text)
    once(whole.events())


async def test_a_service_whose_store_cannot_write_is_not_ready(virtual_clock: Any) -> None:
    lives = Lives()
    failing = True
    async with lives.life(store=lambda store: FlakyStore(store, lambda _: failing)) as client:
        body = {"input": {"n": 1}}
        await client.post("/v1/graphs/counting/runs", body, headers={"prefer": "wait=5"})
        assert (await client.get("/readyz")).status == 503
        failing = False
        await trio.sleep(60)
        assert (await client.get("/readyz")).status == 200


async def test_a_follower_of_a_run_that_another_server_takes_over_sees_every_step(
    virtual_clock: Any,
) -> None:
    """What a server has read of a run that is another's is what readers were sent; when nobody has it, its journal tells more."""
    lives, events = Lives(), list[tuple[int, str, Any]]()
    async with lives.life(crashes=False) as other:

        async def ask_on() -> None:
            events.extend((await other.get(path, headers={**SSE, "last-event-id": str(events[-1][0])})).events())

        async with lives.life() as one:
            run = (await one.post("/v1/graphs/counting/runs", {"input": {"n": 6}})).json()["id"]
            path = f"/v1/runs/{run}/events"
            events += (await one.get(path, headers=SSE, until=lambda reply: len(reply.events()) >= 4)).events()
            await trio.sleep(2)  # nobody is sent how further steps end
            await ask_on()
        while events[-1][1] != "run.finished":
            await ask_on()
            await trio.sleep(0.05)
        again = (await other.get(path, headers=SSE)).events()

    once(events)
    assert [name for _, name, _ in events].count("node.finished") == 6
    assert again == events


@pytest.mark.parametrize("lives_before", [0, 1])
async def test_a_run_at_work_of_which_another_server_has_sent_an_event_is_told_to_its_end(
    virtual_clock: Any, lives_before: int
) -> None:
    """The other one had read it while no one had it: what that has sent holds, and the rest is numbered behind it."""
    lives, events, run = Lives(), list[tuple[int, str, Any]](), "r"
    path, body = f"/v1/runs/{run}/events", {"input": {"n": 6}, "run_id": run}
    for _ in range(lives_before):
        async with lives.life() as client:
            await client.post("/v1/graphs/counting/runs", body)
            await trio.sleep(1.5)
    async with lives.life(crashes=False) as client:
        if not lives_before:
            await client.post("/v1/graphs/counting/runs", body)
        events += (await client.get(path, headers=SSE, until=lambda reply: len(reply.events()) >= 3)).events()
        last = await lives.store.told(run)
        told = {"v": 1, "seq": len(last), "event": "node.reported", "at": "2026-11-28T18:00:00.000000Z", "elapsed_s": 0}
        told |= {"node": "count", "path": "counting/count/0", "attempt": 1, "text": "as another server has sent it"}
        assert await lives.store.tell(run, [ToldEvent(len(last), "node.reported", json.dumps(told).encode())])
        await trio.sleep(1.5)  # and more happens that no one is sent
        with trio.fail_after(100):
            while events[-1][1] != "run.finished":
                events += (await client.get(path, headers={**SSE, "last-event-id": str(events[-1][0])})).events()
                await trio.sleep(0.05)
        again = (await client.get(path, headers=SSE)).events()
        status = (await client.get(f"/v1/runs/{run}")).json()["status"]

    once(events)
    assert [name for _, name, _ in events].count("node.finished") == 6
    assert [name for _, name, _ in events].count("node.reported") == 1
    assert again == events
    assert status == "succeeded"
