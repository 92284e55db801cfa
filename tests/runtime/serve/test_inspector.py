"""What the inspector shows over HTTP, to whom, and that it changes nothing unless it is told to."""

import hashlib
import itertools
import json
from typing import Any

import attrs
import pytest
import trio

from actors import Actor, Graph
from runtime.inspector import api
from runtime.inspector.api import patch
from runtime.inspector.page import POLICY, files
from runtime.inspector.watch import Watch
from runtime.journal.memory import MemoryStore
from runtime.serve import Service
from tests.runtime.serve.cast import Client, Keys, Reply, answers, serving

API = "/inspector/api"


class Quiet(Actor[Any]):
    async def receive(self, message: Any) -> None:
        pass


async def test_the_page_has_the_strict_policy_and_all_of_its_files() -> None:
    async with serving() as client:
        page = await client.get("/inspector/")
        script = await client.get("/inspector/static/vendor/preact.mjs")
        again = await client.get("/inspector/static/app.js", headers={"if-none-match": files()["app.js"].tag})
        strange = [await client.get(f"/inspector/static/{path}") for path in ("../page.py", "nothing.js", "%2e%2e/page.py")]

    assert page.headers["content-security-policy"] == POLICY
    assert page.headers["referrer-policy"] == "no-referrer"
    assert b"://" not in page.body
    assert script.headers["content-type"].startswith("text/javascript")
    assert again.status == 304
    assert [reply.status for reply in strange] == [404, 404, 404]


@pytest.mark.parametrize(
    ("name", "digest"),
    [
        ("vendor/preact.mjs", "bdcbd9abdf2c77c5c45326eab42191e949222d479d0d5f69467387a77040cb55"),  # preact 11.2.0
        ("vendor/htm.mjs", "ab33dd3f38059b9be4d5f5350128eefb2356639c4e0bbe9d9e8b3ba75847e9e4"),  # htm 3.1.1
    ],
)
def test_what_is_vendored_is_what_was_published(name: str, digest: str) -> None:
    assert hashlib.sha256(files()[name].content).hexdigest() == digest
    assert files()[name.replace(".mjs", ".LICENSE")].content


async def test_the_data_wants_the_scope_to_inspect() -> None:
    keys = Keys()
    async with serving(auth=keys.auth) as client:
        statuses = {key: (await client.of(key).get(f"{API}/overview")).status for key in (keys.ann, keys.eve)}
        nobody = await client.get(f"{API}/overview")

    assert statuses == {keys.ann: 403, keys.eve: 200}
    assert nobody.status == 401


async def test_the_overview_counts_runs_and_shows_what_has_crashed() -> None:
    async with serving() as client:
        await client.start("a")
        await client.start("fail")
        told = (await client.get(f"{API}/overview")).json()

    assert told["summary"]["ended"] == {"succeeded": 1, "failed": 1}
    assert [(each["node"], each["started"], each["finished"], each["failed"]) for each in told["slowest"]] == [
        ("answer", 2, 1, 1)
    ]
    assert "LookupError: the secret path /etc/passwd" in [each.get("error") for each in told["incidents"]]


async def test_actors_are_paged_searched_and_shown_in_full() -> None:
    service = Service([answers()])
    async with service.lifespan():
        for number in range(5):
            await service.live.runtime.spawn(Quiet, name=f"quiet-{number}")
        client = Client(service.app)
        page = (await client.get(f"{API}/actors?limit=2&skip=1")).json()
        found = (await client.get(f"{API}/actors?search=quiet-3")).json()
        one = (await client.get(f"{API}/actors?chosen=quiet-3")).json()["chosen"]

    assert page["lists"][""]["order"] == ["quiet-0", "quiet-1"]
    assert page["lists"][""]["total"] == 6
    assert found["lists"][""]["order"] == ["quiet-3"]
    assert (one["state"], one["mailbox"]["capacity"], one["incidents"]) == ("running", 64, [])


async def test_dead_letters_come_newest_first_and_by_pages() -> None:
    async with serving() as client:
        for _ in range(3):
            await client.start("fail")
        newest = (await client.get(f"{API}/letters?limit=2")).json()
        older = (await client.get(f"{API}/letters?before={newest['order'][-1]}")).json()

    assert (newest["order"], older["order"]) == (["2", "1"], ["0"])
    assert newest["rows"]["2"]["message"] == {"text": "fail", "wait_s": 0.0}


async def test_a_view_is_sent_whole_and_then_what_changes(autojump_clock: Any) -> None:
    service = Service([answers()])
    async with service.lifespan():
        client = Client(service.app)
        reply = Reply()
        seen = 0

        def enough(reply: Reply) -> bool:
            nonlocal seen
            seen = reply.body.count(b"event: ")
            if seen == 1 and not service.live.launches:
                service.live.runtime.dead_letters._total += 1
            return seen == 2

        await client.get(f"{API}/changes?view=letters", until=enough, reply=reply)

    [(_, first, whole), (_, second, changed)] = reply.events()[:2]
    assert (first, second) == ("view", "patch")
    assert whole["view"]["summary"]["letters"] == 0
    assert changed["view"]["summary"] == {"letters": changed["view"]["total"]}


async def test_a_query_that_cannot_be_meant_is_a_problem_and_no_broken_stream() -> None:
    async with serving() as client:
        replies = [await client.get(f"{API}/changes?view={query}") for query in ("runs&label=x", "runs&limit=x", "nothing")]

    assert [reply.status for reply in replies] == [400, 400, 404]


async def test_a_view_that_takes_long_is_made_less_often(autojump_clock: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[float] = []

    async def slow(_: Any) -> dict[str, Any]:
        await trio.sleep(1)
        made.append(trio.current_time())
        return {"number": len(made)}

    monkeypatch.setattr(api, "overview", slow)
    async with serving() as client:
        await client.get(f"{API}/changes?view=overview", until=lambda reply: reply.body.count(b"event: ") == 3)

    assert [round(later - earlier) for earlier, later in itertools.pairwise(made)] == [21, 21]


async def test_the_line_at_the_top_rests_for_thirty_times_as_long_as_it_takes(
    autojump_clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the view of 10,000 actors under it that is less than 5 % of a core; `make load` measures it."""
    made: list[float] = []
    summed = Watch._summed

    async def slow(watch: Watch) -> dict[str, Any]:
        await trio.sleep(1)
        made.append(trio.current_time())
        return await summed(watch)

    monkeypatch.setattr(Watch, "_summed", slow)
    async with serving() as client, trio.open_nursery() as nursery:
        for _ in range(3):  # who look at the same time look at the same one

            async def look() -> None:
                await client.get(f"{API}/changes?view=overview", until=lambda _: len(made) == 3)

            nursery.start_soon(look)

    assert [round(later - earlier) for earlier, later in itertools.pairwise(made)] == [31, 31]


async def test_the_stream_of_changes_ends_when_the_service_stops_and_its_runs_are_over(autojump_clock: Any) -> None:
    """A server waits for its responses: a page that somebody leaves open would keep it from ending."""
    service = Service([answers()])
    async with service.lifespan():
        client = Client(service.app)
        await client.start("a", wait=None, wait_s=7)
        reply = Reply()
        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:

                async def look() -> None:
                    await client.get(f"{API}/changes?view=overview", reply=reply)
                    assert trio.current_time() - began >= 7, "it showed the last run to its end"

                began = trio.current_time()
                nursery.start_soon(look)
                await trio.sleep(1)
                service.reject_runs()

    assert reply.is_whole


async def test_it_reads_only_unless_it_may_operate() -> None:
    keys = Keys()
    async with serving(auth=keys.auth) as client:
        assert (await client.of(keys.oz).post(f"{API}/runs/x/cancel", {})).status in (404, 405)
    async with serving(auth=keys.auth, operate=True) as client:
        assert (await client.of(keys.eve).post(f"{API}/runs/x/cancel", {})).problem == "forbidden"
        assert (await client.of(keys.oz).post(f"{API}/runs/x/cancel", {})).problem == "no-such-run"


async def test_runs_of_an_earlier_process_are_listed_and_traced_from_the_store() -> None:
    store = MemoryStore()
    async with serving(store=store) as client:
        await client.start("a", run_id="r")
    async with serving(store=store) as client:
        listed = (await client.get(f"{API}/runs")).json()
        trace = (await client.get(f"{API}/runs/r/trace")).json()
        page = await client.get(f"{API}/runs/r/trace?as=html")

    assert listed["order"] == ["r"]
    assert (listed["rows"]["r"]["graph"], listed["rows"]["r"]["status"]) == ("answers", "succeeded")
    assert [(each["node"], each["status"]) for each in trace["attempts"]] == [("answer", "done")]
    assert page.status == 200


async def test_an_actor_is_restarted_by_who_operates_and_by_no_one_else() -> None:
    class Counting(Actor[str]):
        """Counts its lives."""

        async def receive(self, message: str) -> None:
            """Do nothing."""

    keys = Keys()
    service = Service([answers()], auth=keys.auth, operate=True)
    async with service.lifespan():
        client = Client(service.app)
        ref = await service.live.runtime.spawn(Counting, name="counting")
        bodies: list[Any] = [{}, [], {"address": "none"}]
        denied = await client.of(keys.eve).post(f"{API}/restart", {"address": "counting"})
        wrong = [await client.of(keys.oz).post(f"{API}/restart", body) for body in bodies]
        done = await client.of(keys.oz).post(f"{API}/restart", {"address": "counting"})
        look = service.live.runtime.look("counting")
        ref.tell_nowait("x")

    assert denied.problem == "forbidden"
    assert [each.problem for each in wrong] == ["bad-request", "bad-request", "not-found"]
    assert done.status == 200
    assert look is not None
    assert (look.incarnation, look.restarts, str(look.state)) == (2, 0, "running")


@attrs.frozen
class Draft:
    text: str


@attrs.frozen
class Verdict:
    good: bool


async def test_a_question_is_shown_and_answered_by_who_operates() -> None:
    graph = Graph("reviews", input=Draft, output=Verdict)

    @graph.human
    async def review(draft: Draft) -> Verdict:  # type: ignore[empty-body]
        """Is it good?"""
        ...

    async with serving(graph, operate=True) as client:
        await client.post("/v1/graphs/reviews/runs", {"input": {"text": "a"}, "run_id": "r"})
        told = (await client.get(f"{API}/questions")).json()
        [question] = told["order"]
        wrong = await client.post(f"{API}/questions/{question}/answer", {"good": "yes"})
        right = await client.post(f"{API}/questions/{question}/answer", {"good": True})
        run = await client.get("/v1/runs/r")

    assert told["rows"][question]["text"] == "Is it good?"
    assert wrong.problem == "input-invalid"
    assert right.status == 200
    assert run.json()["status"] in ("running", "succeeded")


async def test_a_service_without_the_inspector_has_none_of_its_routes() -> None:
    async with serving(inspector=False) as client:
        assert {(await client.get(path)).status for path in ("/inspector/", f"{API}/overview")} == {404}


def test_a_patch_names_what_has_changed_and_nothing_else() -> None:
    old: dict[str, Any] = {"a": {"b": 1, "c": 2}, "d": [1], "e": 3}
    new: dict[str, Any] = {"a": {"b": 1, "c": 4}, "d": [1, 2]}

    assert patch(old, new) == {"a": {"c": 4}, "d": [1, 2], "e": None}
    assert json.dumps(patch(new, new)) == "{}"
