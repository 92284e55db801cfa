"""The inspector's page in Chromium, on a service in which much goes wrong."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import pytest
import trio
import trio.testing

from runtime.inspector.export import export_page
from runtime.traces import blame_of, trace_of
from tests.browser.faulty import HOSTILE
from tests.browser.hostile_names import ACTOR, AGENT, GRAPH, LABEL, NODE, RUN, SAID, TOOL, TOOL_HERE
from tests.runtime.traces.random_runs import random_run

playwright = pytest.importorskip("playwright.sync_api", reason="installed by `make browser`")
playwright.expect.set_options(timeout=30_000)  # milliseconds: a busy machine is no fault of the page
pytestmark = pytest.mark.browser
VIEWS = ("overview", "runs", "actors/crashing", "graphs", "letters", "models", "questions")
REPORT = (
    """addEventListener("securitypolicyviolation", (event) => console.error("CSP", event.violatedDirective, event.blockedURI))"""
)
FOREIGN = "main img, main script, main iframe, main b[onclick], main svg[onload], main a[href^=javascript]"
"""What the texts of ``hostile_names`` would become if they were read as HTML."""
BLAME = """async (events) => {
  const [{ timeline }, { blameOf }] = await Promise.all([import("./static/timeline.js"), import("./static/blame.js")]);
  const told = blameOf(timeline(events));
  return { ...told, path: told.path.map((each) => ({ ...each, bar: null })) };
}"""
CUT = """() => [...document.querySelectorAll("main td")]
  .filter((cell) => cell.scrollWidth > cell.clientWidth + 1 && cell.clientWidth < 300).map((cell) => cell.innerText)"""
DROP = """([text, name]) => {
  const data = new DataTransfer();
  data.items.add(new File([text], name));
  dispatchEvent(Object.assign(new DragEvent("drop", { bubbles: true, cancelable: true, dataTransfer: data })));
}"""
T = TypeVar("T")


def virtually(work: Callable[[], Awaitable[T]]) -> T:
    return trio.run(work, clock=trio.testing.MockClock(autojump_threshold=0))


def start(port: int, extras: int = 3, *more: str, module: str = "tests.browser.faulty") -> subprocess.Popen[str]:
    command = [sys.executable, "-m", module, str(port), str(extras), *more]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline().startswith("up")
    return process


def stop(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


@pytest.fixture
def port(unused_tcp_port_factory: Callable[[], int]) -> int:
    return unused_tcp_port_factory()


@pytest.fixture(scope="session")
def unused_tcp_port_factory() -> Callable[[], int]:
    import socket

    def find() -> int:
        with socket.socket() as bound:
            bound.bind(("127.0.0.1", 0))
            return int(bound.getsockname()[1])

    return find


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def page(browser: Any, port: int) -> Iterator[Any]:
    context = browser.new_context()
    page = context.new_page()
    page.add_init_script(REPORT)
    page.wrong = []
    page.foreign = []
    page.on("pageerror", lambda error: page.wrong.append(str(error)))
    page.on("console", lambda message: page.wrong.append(message.text) if message.type == "error" else None)
    page.on("dialog", lambda dialog: page.wrong.append("a dialog"))
    page.on("request", lambda each: page.foreign.append(each.url) if f"127.0.0.1:{port}/" not in each.url else None)
    yield page
    context.close()


@pytest.fixture
def service(port: int) -> Iterator[subprocess.Popen[str]]:
    process = start(port)
    yield process
    stop(process)


def test_every_view_shows_hostile_text_as_text_and_asks_no_other_origin(service: Any, page: Any, port: int) -> None:
    for view in VIEWS:
        page.goto(f"http://127.0.0.1:{port}/inspector/#/{view}")
        page.locator("main h1").wait_for()
        assert page.locator("main img, main script").count() == 0
    page.goto(f"http://127.0.0.1:{port}/inspector/#/actors/crashing")
    playwright.expect(page.locator("aside")).to_contain_text(HOSTILE[:-1])
    playwright.expect(page.locator("aside")).to_contain_text("\\u202e")

    assert page.wrong == []
    assert page.foreign == []


def test_names_of_graphs_nodes_actors_labels_and_tools_are_text_on_the_live_page(page: Any, port: int) -> None:
    """Of a faulty run that goes on here, not of one that was exported: another view, and other ways for the text to it."""
    process = start(port, module="tests.browser.hostile_names")
    shown = page.locator("main")
    for view, names in (
        (f"runs/{RUN}", (GRAPH, NODE, AGENT)),
        ("runs", (GRAPH, LABEL)),
        ("graphs", (GRAPH, NODE, AGENT)),
        ("actors", (ACTOR, GRAPH)),
        ("letters", (ACTOR, SAID)),
        ("overview", ()),
        ("models", ()),
    ):
        page.goto(f"http://127.0.0.1:{port}/inspector/#/{view}")
        page.locator("main h1").wait_for()
        for name in names:
            playwright.expect(shown).to_contain_text(name)
        assert page.locator(FOREIGN).count() == 0
    page.goto(f"http://127.0.0.1:{port}/inspector/#/runs/{RUN}")
    page.locator(".bar").last.click()
    playwright.expect(page.locator("aside")).to_contain_text(TOOL_HERE)
    playwright.expect(page.locator("aside")).to_contain_text(f"{TOOL}: {SAID}")
    for button in ("blame", "events"):
        page.get_by_role("button", name=button).click()
        playwright.expect(shown).to_contain_text(AGENT)

    assert page.locator(FOREIGN).count() == 0
    assert page.wrong == []
    assert page.foreign == []
    stop(process)


def test_what_an_address_a_search_and_the_name_of_a_file_say_is_text(service: Any, page: Any, port: int) -> None:
    where = f"http://127.0.0.1:{port}/inspector/"
    strange = quote(GRAPH + NODE, safe="")
    for view in ("actors", "runs", "graphs", "file", strange):
        page.goto(f"{where}#/{view}/{strange}?search={strange}&status={strange}&cursor={strange}&{strange}={strange}")
        page.wait_for_timeout(300)
        assert page.locator("img, main svg[onload], iframe").count() == 0
    page.goto(f"{where}#/actors")
    page.locator("main h1").wait_for()
    page.locator("#search").fill(GRAPH)
    page.locator("#search").press("Enter")
    playwright.expect(page.locator("main")).to_contain_text("No actors")
    page.evaluate(DROP, ["it is none", GRAPH])
    playwright.expect(page.locator("[role=alert]")).to_contain_text(GRAPH)
    page.evaluate(DROP, [json.dumps({"event": NODE, "node": GRAPH, "path": GRAPH, "elapsed_s": "x", "labels": GRAPH}), NODE])
    playwright.expect(page.locator("main h1")).to_contain_text(NODE)

    assert page.locator("img, main svg[onload], iframe").count() == 0
    assert [wrong for wrong in page.wrong if "status of 4" not in wrong] == []  # the browser tells of every 404
    assert page.foreign == []


def test_a_run_that_was_loaded_can_be_looked_at_while_the_network_is_away_and_the_page_comes_back(
    service: Any, page: Any, port: int
) -> None:
    page.goto(f"http://127.0.0.1:{port}/inspector/#/runs?status=failed")
    page.locator("tbody a").first.click()
    page.locator(".bar").first.wait_for()
    page.context.set_offline(True)
    stop(service)  # what is connected stays connected otherwise
    playwright.expect(page.locator("header .link")).to_have_text("offline", timeout=30_000)
    page.locator(".bar").first.click()
    playwright.expect(page.locator("aside")).to_contain_text("LookupError")
    page.get_by_role("button", name="blame").click()
    playwright.expect(page.locator("main table")).to_contain_text("the whole run")
    page.get_by_role("button", name="play").click()
    page.locator("nav a").filter(has_text="Actors").click()
    playwright.expect(page.locator("main")).to_contain_text("Loading")
    page.context.set_offline(False)
    again = start(port)

    playwright.expect(page.locator("header .link")).to_have_text("live", timeout=30_000)
    playwright.expect(page.locator("main")).to_contain_text("crashing")
    stop(again)


def test_a_run_has_a_timeline_a_replay_and_its_events(service: Any, page: Any, port: int) -> None:
    page.goto(f"http://127.0.0.1:{port}/inspector/#/runs?status=failed")
    page.locator("tbody a").first.click()
    page.locator(".bar").first.click()
    playwright.expect(page.locator("aside")).to_contain_text("LookupError")
    playwright.expect(page.locator("main > section > p").first).to_contain_text(", 1 attempt")
    playwright.expect(page.locator("main > section > .fault")).to_contain_text("draft: LookupError: no")
    page.locator("input[type=range]").fill("0")
    playwright.expect(page.locator("main h1")).not_to_contain_text("failed")
    page.get_by_role("button", name="events").click()
    page.locator("input[type=range]").fill("1000")
    playwright.expect(page.locator(".feed summary").first).to_contain_text(
        '{ "graph": "faulty", "input"'
    )  # not what its line says

    assert page.wrong == []


def test_a_question_is_answered_and_goes_away(service: Any, page: Any, port: int) -> None:
    page.goto(f"http://127.0.0.1:{port}/inspector/#/questions")
    page.get_by_role("button", name="Answer").click()

    playwright.expect(page.locator("main")).to_contain_text("Nobody is asked anything.")
    page.goto(f"http://127.0.0.1:{port}/inspector/#/runs?status=succeeded")
    playwright.expect(page.locator("tbody tr")).to_have_count(1)


def test_the_page_comes_back_after_the_service_was_restarted(page: Any, port: int) -> None:
    process = start(port)
    page.goto(f"http://127.0.0.1:{port}/inspector/#/actors")
    playwright.expect(page.locator("header .link")).to_have_text("live")
    stop(process)
    playwright.expect(page.locator("header .link")).to_have_text("offline")
    process = start(port)

    playwright.expect(page.locator("header .link")).to_have_text("live", timeout=15_000)
    stop(process)


def test_a_thousand_actors_are_shown_by_pages_and_searched(page: Any, port: int) -> None:
    process = start(port, 1_000)
    page.goto(f"http://127.0.0.1:{port}/inspector/#/actors")
    playwright.expect(page.locator("header")).to_contain_text(re.compile("1,00[0-9] actors"))
    playwright.expect(page.locator("tbody tr")).to_have_count(202)
    page.locator("#search").fill("quiet-999")
    page.wait_for_timeout(1_000)  # meanwhile the page is drawn again, several times
    playwright.expect(page.locator("#search")).to_have_value("quiet-999")
    page.locator("#search").press("Enter")

    playwright.expect(page.locator("tbody tr")).to_have_count(1)
    assert page.wrong == []
    stop(process)


def test_nothing_is_wider_than_a_small_screen(service: Any, page: Any, port: int) -> None:
    page.set_viewport_size({"width": 320, "height": 640})
    for view in VIEWS:
        page.goto(f"http://127.0.0.1:{port}/inspector/#/{view}")
        page.locator("main h1").wait_for()
        assert page.locator("main").bounding_box()["width"] <= 320
        tab = page.locator("nav a.on").bounding_box()
        assert 0 <= tab["x"] <= 320 - tab["width"], "which view this is cannot be seen"
        assert page.evaluate(CUT) == []


def test_a_run_that_asks_a_model_which_fails_shows_its_calls_its_text_and_what_to_blame(page: Any, port: int) -> None:
    process = start(port, 3, "0.5", "model")
    page.goto(f"http://127.0.0.1:{port}/inspector/#/runs/asked")
    playwright.expect(page.locator("main h1")).to_contain_text("succeeded")
    page.locator(".bar").last.click()
    playwright.expect(page.locator("aside")).to_contain_text("openai/m")
    playwright.expect(page.locator("aside")).to_contain_text(HOSTILE[:-1])
    page.get_by_role("button", name="blame").click()
    for cause in ("work", "retry", "backoff"):
        playwright.expect(page.locator("main table")).to_contain_text(cause)
    page.goto(f"http://127.0.0.1:{port}/inspector/#/models")
    playwright.expect(page.locator("main article")).to_contain_text("openai/m")

    assert page.locator("main img, main script").count() == 0
    assert page.wrong == []
    assert page.foreign == []
    stop(process)


def test_a_thousand_actors_that_change_four_times_a_second_are_followed(page: Any, port: int) -> None:
    process = start(port, 1_000, "4")
    page.goto(f"http://127.0.0.1:{port}/inspector/#/actors/quiet-7")
    handled = page.locator("aside dd").filter(has_text="handled")
    playwright.expect(handled).to_contain_text(re.compile("[1-9][0-9]* handled"))
    first = handled.inner_text()
    playwright.expect(handled).not_to_have_text(first)

    assert page.wrong == []
    stop(process)


def test_an_operator_restarts_an_actor(service: Any, page: Any, port: int) -> None:
    page.goto(f"http://127.0.0.1:{port}/inspector/#/actors/quiet-1")
    playwright.expect(page.locator("aside")).to_contain_text("incarnation 1")
    page.get_by_role("button", name="Restart", exact=True).click()
    page.get_by_role("button", name=re.compile("Restart, and drop")).click()

    playwright.expect(page.locator("aside")).to_contain_text("incarnation 2")
    assert page.wrong == []


def test_the_edges_of_a_graph_tell_how_many_messages_went_along_them(service: Any, page: Any, port: int) -> None:
    page.goto(f"http://127.0.0.1:{port}/inspector/#/graphs/faulty")

    playwright.expect(page.locator("svg .type").filter(has_text="Question 2")).to_have_count(1)
    playwright.expect(page.locator("svg .type").filter(has_text="Draft 1")).to_have_count(1)


# --- traces ---------------------------------------------------------------------------------------------------------------


def test_the_page_blames_what_python_does_to_the_microsecond_and_the_token(service: Any, page: Any, port: int) -> None:
    page.goto(f"http://127.0.0.1:{port}/inspector/")
    for seed in range(25):
        events = virtually(partial(random_run, seed)).events
        there = page.evaluate(BLAME, events)
        here = blame_of(trace_of(events))

        assert there["duration"] == here.duration_us
        assert [[each["node"], each["cause"], each["began"], each["ended"]] for each in there["path"]] == [
            [each.node, str(each.cause), each.began_us, each.ended_us] for each in here.path
        ]
        told = {(each["node"], each["cause"]): each for each in there["shares"]}
        assert told.keys() == {(share.node, str(share.cause)) for share in here.shares}
        for share in here.shares:
            each = told[share.node, str(share.cause)]
            assert (each["time"], each["requests"], each["prompt"], each["completion"]) == (
                share.time_us,
                share.requests,
                share.prompt_tokens,
                share.completion_tokens,
            )


def test_an_exported_run_is_shown_without_a_server_and_asks_for_nothing(page: Any, tmp_path: Path) -> None:
    events = virtually(partial(random_run, 4)).events
    events[0]["labels"] = {HOSTILE: HOSTILE}
    began = next(event for event in events if event["event"] == "node.started")
    tool = {**began, "event": "tool.called", "path": f"{began['path']}/tool/0", "tool": HOSTILE, "duration_s": 0.1}
    events.insert(events.index(began) + 1, {**tool, "error": {"type": HOSTILE, "message": HOSTILE}})
    events.insert(events.index(began) + 1, {**began, "event": "node.reported", "text": HOSTILE, "done": 3, "of": 12})
    for event in events:
        event.update({"node": HOSTILE} if "node" in event else {})
    events[0]["input"] = {"text": f"</script>{HOSTILE}"}
    path = tmp_path / "run.html"
    path.write_text(export_page(events), encoding="utf-8")
    page.context.set_offline(True)

    page.goto(path.as_uri())
    page.locator("main h1").wait_for()
    page.locator(".bar").first.click()
    playwright.expect(page.locator("aside dt").filter(has_text="tool")).to_have_count(1)
    playwright.expect(page.locator("aside dd").filter(has_text="(3 of 12)")).to_have_count(1)
    page.get_by_role("button", name="blame").click()
    playwright.expect(page.locator("main table")).to_contain_text("the whole run")
    page.get_by_role("button", name="events").click()

    assert page.locator("main img, main script").count() == 0
    assert page.wrong == []
    assert page.foreign == [path.as_uri()]


def test_a_file_of_events_that_is_dropped_onto_the_page_is_shown_and_one_that_is_none_is_told(
    service: Any, page: Any, port: int
) -> None:
    events = virtually(partial(random_run, 4)).events
    page.goto(f"http://127.0.0.1:{port}/inspector/")
    page.locator("main h1").wait_for()

    page.evaluate(DROP, ["it is none", "none.txt"])
    playwright.expect(page.locator("body")).to_contain_text("none.txt holds no events")
    page.evaluate(DROP, ["\n".join(map(json.dumps, events)), "run.jsonl"])

    playwright.expect(page.locator("main h1")).to_contain_text("run.jsonl")
    playwright.expect(page.locator("main .lane").first).to_be_visible()
    cut = "\n".join(map(json.dumps, events))[:-20]
    page.evaluate(DROP, [cut, "cut.jsonl"])
    playwright.expect(page.locator("main h1")).to_contain_text("cut.jsonl")
    page.evaluate(DROP, [json.dumps({**events[0], "v": 2}), "newer.jsonl"])
    playwright.expect(page.locator("[role=alert]")).to_contain_text(
        "newer.jsonl cannot be shown: a newer version has written it."
    )
    page.evaluate(DROP, ["\n".join([cut[: cut.rindex("\n")], json.dumps({**events[0], "run": "other"})]), "two.jsonl"])
    playwright.expect(page.locator("[role=alert]")).to_contain_text("two.jsonl holds 2 runs: this is the first.")
    playwright.expect(page.locator("main h1")).to_contain_text("two.jsonl")
    assert page.wrong == []


def test_all_nodes_of_a_run_of_ten_thousand_steps_are_drawn(page: Any, tmp_path: Path) -> None:
    told: dict[str, Any] = {"v": 1, "run": "r", "at": "2026-01-01T00:00:00Z", "elapsed_s": 0.0}
    events = [{**told, "seq": 0, "event": "run.started", "graph": "g", "input": {}, "labels": {}}]
    for step in range(10_000):
        node = {"node": f"n{step % 5}", "path": f"g/{step}/n{step % 5}/0", "attempt": 1}
        events.append({**told, **node, "seq": 2 * step + 1, "event": "node.started", "waited_s": 0.0, "elapsed_s": step / 100})
        events.append(
            {**told, **node, "seq": 2 * step + 2, "event": "node.finished", "output": {}, "elapsed_s": step / 100 + 0.009}
        )
    path = tmp_path / "run.html"
    path.write_text(export_page(events), encoding="utf-8")
    page.goto(path.as_uri())
    page.locator(".bar").first.wait_for()

    assert page.locator(".lane").count() == 5
    for lane in page.locator(".track").all():
        bars = [bar.bounding_box()["width"] for bar in lane.locator(".bar").all()]
        assert len(bars) < 20
        assert sum(bars) > 0.95 * lane.bounding_box()["width"]
    assert page.wrong == []
