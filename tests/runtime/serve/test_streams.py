"""The events of runs over HTTP."""

from typing import Any

import pytest
import trio

from actors import Graph, Run
from runtime.serve import Limits, Recording, Service
from runtime.serve.sse import SLICE_BYTES, frame, slices
from runtime.traces.kept_run import KeptEvent
from tests.runtime.serve.cast import Answer, Client, Many, Reply, counting, serving

SSE = {"accept": "text/event-stream"}


async def test_a_start_can_be_followed_as_it_goes(virtual_clock: Any) -> None:
    async with serving() as client:
        reply = await client.post("/v1/graphs/answers/runs", {"input": {"text": "a", "wait_s": 3}}, headers=SSE)

    assert reply.headers["content-type"].startswith("text/event-stream")
    assert reply.body.startswith(b"retry: 1000\n\n")
    assert [(seq, name) for seq, name, _ in reply.events()] == [
        (0, "run.started"),
        (1, "node.started"),
        (2, "node.finished"),
        (3, "run.finished"),
    ]
    assert reply.events()[-1][2]["elapsed_s"] == pytest.approx(3, abs=0.1)
    assert reply.is_whole


async def test_a_stream_is_taken_up_where_it_was_cut(virtual_clock: Any) -> None:
    async with serving(counting()) as client:
        run = (await client.post("/v1/graphs/counting/runs", {"input": {"n": 4}})).json()["id"]
        path = f"/v1/runs/{run}/events"

        cut = await client.get(path, headers=SSE, until=lambda reply: len(reply.events()) >= 4)
        rest = await client.get(path, headers={**SSE, "last-event-id": str(cut.events()[-1][0])})
        by_query = await client.get(f"{path}?after=8", headers=SSE)

    seqs = [seq for reply in (cut, rest) for seq, _, _ in reply.events()]
    assert seqs == list(range(10))
    assert [seq for seq, _, _ in by_query.events()] == [9]
    assert rest.events()[-1][1] == "run.finished"


async def test_a_reader_chooses_kinds(virtual_clock: Any) -> None:
    async with serving() as client:
        run = (await client.start("a")).json()["id"]
        reply = await client.get(f"/v1/runs/{run}/events?kinds=node.f,run.finished", headers=SSE)

    assert [name for _, name, _ in reply.events()] == ["node.finished", "run.finished"]


async def test_lines_give_what_there_is_without_waiting(virtual_clock: Any) -> None:
    async with serving() as client:
        run = (await client.start("a", wait=None, wait_s=60)).json()["id"]
        reply = await client.get(f"/v1/runs/{run}/events", headers={"accept": "application/jsonl"})

    assert len(reply.body.splitlines()) == 2
    assert reply.is_whole


async def test_a_quiet_stream_shows_that_it_lives(virtual_clock: Any) -> None:
    async with serving() as client:
        reply = await client.post("/v1/graphs/answers/runs", {"input": {"text": "a", "wait_s": 50}}, headers=SSE)

    assert reply.body.split(b"\n\n").count(b":") == 3


async def test_the_run_goes_on_when_its_reader_leaves(virtual_clock: Any) -> None:
    async with serving() as client:
        body = {"input": {"text": "a", "wait_s": 5}, "run_id": "r"}
        await client.post("/v1/graphs/answers/runs", body, headers=SSE, until=lambda reply: b"run.started" in reply.body)
        assert (await client.get("/v1/runs/r")).json()["status"] == "running"
        await trio.sleep(6)
        assert (await client.get("/v1/runs/r")).json()["status"] == "succeeded"


async def test_or_it_is_cancelled_with_its_reader_if_that_is_preferred(virtual_clock: Any) -> None:
    async with serving() as client:
        body = {"input": {"text": "a", "wait_s": 5}, "run_id": "r"}
        headers = {**SSE, "prefer": "cancel-on-disconnect"}
        await client.post("/v1/graphs/answers/runs", body, headers=headers, until=lambda reply: b"run.started" in reply.body)
        await trio.sleep(0.5)
        assert (await client.get("/v1/runs/r")).json()["status"] == "cancelled"


async def test_a_reader_that_takes_nothing_is_closed_and_the_run_never_waits(virtual_clock: Any) -> None:
    service = Service([counting()], limits=Limits(stall_s=20))
    async with service.lifespan():
        client = Client(service.app)
        run = (await client.post("/v1/graphs/counting/runs", {"input": {"n": 5}})).json()["id"]
        headers = [(b"host", b"localhost"), (b"accept", b"text/event-stream")]
        path = f"/v1/runs/{run}/events"
        scope = {"type": "http", "method": "GET", "path": path, "headers": headers, "query_string": b"", "scheme": "http"}

        async def receive() -> Any:
            await trio.sleep_forever()

        async def send(message: Any) -> None:
            if message["type"] == "http.response.body":
                await trio.sleep_forever()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(service.app, scope, receive, send)
            await trio.sleep(6)
            assert (await client.get(f"/v1/runs/{run}")).json()["status"] == "succeeded"
    assert 19 < trio.current_time() < 21


async def test_a_reader_behind_what_is_kept_learns_how_much_it_missed(virtual_clock: Any) -> None:
    async with serving(counting(), record=Recording(events_per_run=3)) as client:
        run = (await client.post("/v1/graphs/counting/runs", {"input": {"n": 4}}, headers={"prefer": "wait=60"})).json()["id"]
        reply = await client.get(f"/v1/runs/{run}/events", headers=SSE)

    assert [(seq, name) for seq, name, _ in reply.events()] == [
        (6, "events.missed"),
        (7, "node.started"),
        (8, "node.finished"),
        (9, "run.finished"),
    ]
    assert reply.events()[0][2]["count"] == 7


async def test_streams_of_a_caller_are_counted(virtual_clock: Any) -> None:
    async with serving(limits=Limits(streams_per_caller=2)) as client:
        run = (await client.start("a", wait=None, wait_s=60)).json()["id"]
        path = f"/v1/runs/{run}/events"
        async with trio.open_nursery() as nursery:
            for _ in range(2):
                nursery.start_soon(lambda: client.get(path, headers=SSE))
            await trio.sleep(1)
            assert (await client.get(path, headers=SSE)).problem == "too-many-streams"
            await trio.sleep(60)
        assert (await client.get(path, headers=SSE)).status == 200


async def test_a_run_whose_stream_is_one_too_many_is_cancelled_if_it_hangs_on_its_reader(virtual_clock: Any) -> None:
    async with serving(limits=Limits(streams_per_caller=1)) as client:
        run = (await client.start("a", wait=None, wait_s=60)).json()["id"]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: client.get(f"/v1/runs/{run}/events", headers=SSE))
            await trio.sleep(1)
            for run_id, prefer in (("stays", "wait=1"), ("goes", "cancel-on-disconnect")):
                body = {"input": {"text": "a", "wait_s": 600}, "run_id": run_id}
                reply = await client.post("/v1/graphs/answers/runs", body, headers={**SSE, "prefer": prefer})
                assert reply.problem == "too-many-streams"
            await trio.sleep(1)
            assert (await client.get("/v1/runs/stays")).json()["status"] == "running"
            assert (await client.get("/v1/runs/goes")).json()["status"] == "cancelled"
            nursery.cancel_scope.cancel()


async def test_an_unknown_form_is_a_406() -> None:
    async with serving() as client:
        run = (await client.start("a")).json()["id"]
        assert (await client.get(f"/v1/runs/{run}/events", headers={"accept": "text/html"})).problem == "not-acceptable"


@pytest.mark.slow
async def test_a_thousand_readers_see_every_event_once(virtual_clock: Any) -> None:
    async with serving(counting(), limits=Limits(streams_per_caller=2_000)) as client:
        run = (await client.post("/v1/graphs/counting/runs", {"input": {"n": 3}})).json()["id"]
        replies = [Reply() for _ in range(1_000)]

        async def read(reply: Reply) -> None:
            await client.get(f"/v1/runs/{run}/events", headers=SSE, reply=reply)

        async with trio.open_nursery() as nursery:
            for reply in replies:
                nursery.start_soon(read, reply)

    assert {tuple(seq for seq, _, _ in reply.events()) for reply in replies} == {tuple(range(8))}


async def test_all_of_a_short_run_goes_out_in_one_write(virtual_clock: Any) -> None:
    whole: list[bytes] = []

    def seen(reply: Reply) -> bool:
        whole.append(reply.body)
        return False

    async with serving() as client:
        body = {"input": {"text": "a", "wait_s": 0}}
        run = (await client.post("/v1/graphs/answers/runs", body, headers={"prefer": "wait=60"})).json()["id"]
        await client.get(f"/v1/runs/{run}/events", headers=SSE, until=seen)

    assert whole[0] == b""  # the headers
    assert whole[1].startswith(b"retry: 1000\n\nid: 0\n")
    assert b"run.finished" in whole[1]
    assert whole[2:] == [whole[1]]  # the end


def test_readers_share_the_text_of_an_event_until_it_is_written() -> None:
    text = b"x" * 1_000

    assert frame(3, "node.finished", text)[1] is text
    assert list(slices([text])) == [text]


async def test_a_client_that_left_while_its_stream_was_found_is_not_waited_for(virtual_clock: Any) -> None:
    """Servers tell a departure once; what answers the request may have heard it, when the stream begins to listen."""
    service = Service([counting()])
    async with service.lifespan():
        client = Client(service.app)
        run = (await client.post("/v1/graphs/counting/runs", {"input": {"n": 50}})).json()["id"]
        headers = [(b"host", b"localhost"), (b"accept", b"text/event-stream")]
        path = f"/v1/runs/{run}/events"
        scope = {"type": "http", "method": "GET", "path": path, "headers": headers, "query_string": b"", "scheme": "http"}
        departures = iter([{"type": "http.disconnect"}])
        sent: list[str] = []

        async def receive() -> Any:
            return next(departures, None) or await trio.sleep_forever()

        async def send(message: Any) -> None:
            sent.append(message["type"])

        begun = trio.current_time()
        await service.app(scope, receive, send)
        assert trio.current_time() - begun < 1
        assert sent[0] == "http.response.start"
        await client.post(f"/v1/runs/{run}/cancel", {})


async def test_an_error_while_a_stream_is_written_is_logged_and_ends_it(
    virtual_clock: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object, **__: object) -> bytes:
        raise ValueError("cannot be written")

    async with serving() as client:
        monkeypatch.setattr(KeptEvent, "text", fail)
        reply = await client.post("/v1/graphs/answers/runs", {"input": {"text": "a"}}, headers=SSE)
        assert (await client.get("/healthz")).status == 200

    assert (reply.status, reply.is_whole) == (200, False)
    assert "ValueError: cannot be written" in caplog.text


def test_what_waits_goes_out_in_slices() -> None:
    parts = [b"a" * 1_000] * 200 + [b"b" * 200_000] + [b"c"]

    written = list(slices(iter(parts)))

    assert b"".join(written) == b"".join(parts)
    assert max(map(len, written)) <= SLICE_BYTES
    assert len(written) < 10


async def test_content_can_be_kept_out_of_events_while_the_caller_gets_its_output() -> None:
    async with serving(record=Recording(content="none")) as client:
        run = (await client.start("hidden")).json()
        reply = await client.get(f"/v1/runs/{run['id']}/events", headers=SSE)

    assert run["output"] == {"text": "HIDDEN"}
    assert "hidden" not in reply.body.decode().lower()


def reporting() -> Graph[Many, Answer]:
    """A node that tells how far it is."""
    graph = Graph("reporting", input=Many, output=Answer)

    @graph.node
    async def work(many: Many, run: Run) -> Answer:
        for page in range(many.n):
            run.report(f"page {page + 1}", done=page + 1, of=many.n)
            await trio.sleep(1)
        return Answer("done")

    return graph


@pytest.mark.parametrize("content", ["full", "none"])
async def test_what_a_node_reports_is_streamed_while_it_works(content: Any, virtual_clock: Any) -> None:
    async with serving(reporting(), record=Recording(content=content)) as client:
        reply = await client.post("/v1/graphs/reporting/runs", {"input": {"n": 2}}, headers=SSE)

    reports = [told for _, name, told in reply.events() if name == "node.reported"]
    assert [(each["path"], each["done"], each["of"]) for each in reports] == [
        ("reporting/work/0", 1, 2),
        ("reporting/work/0", 2, 2),
    ]
    assert [round(each["elapsed_s"]) for each in reports] == [0, 1]
    assert ("page 2" in str(reports[1])) is (content == "full")


async def test_head_of_a_stream_is_its_headers_alone(virtual_clock: Any) -> None:
    async with serving(inspector=True) as client:
        await client.start("a", wait=None, wait_s=60)
        run = (await client.get("/v1/runs")).json()["runs"][0]["id"]
        begun = trio.current_time()
        replies = [await client.call("HEAD", path, headers=SSE) for path in (f"/v1/runs/{run}/events", "/inspector/api/changes")]

        assert trio.current_time() - begun < 1, "the run goes on for a minute"
    for reply in replies:
        assert (reply.status, reply.body, reply.is_whole) == (200, b"", True)
        assert reply.headers["content-type"].startswith("text/event-stream")
