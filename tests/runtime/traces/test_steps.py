"""What is read out of the events of runs, and the forms in which it is written."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from typing import Any

import pytest
import trio

from actors import LM, Graph, Redelivery
from runtime import open_runtime
from runtime.inspector.export import export_page
from runtime.testing import ScriptedLM
from runtime.traces.chrome import chrome_trace
from runtime.traces.steps import trace_of
from runtime.traces.trace_svg import draw_trace
from tests.runtime.traces.cast import Answer, Half, Question, recorded, traced

HOSTILE = "</script><img src=x onerror=alert(1)><!--\u2028\u202e"


def retrying() -> Graph[Question, Answer]:
    graph = Graph("retrying", input=Question, output=Answer)
    tries: list[int] = []

    @graph.node(redelivery=Redelivery(max_attempts=2))
    async def halve(question: Question) -> Half:
        tries.append(question.n)
        await trio.sleep(1)
        if len(tries) == 1:
            raise OSError(HOSTILE)
        return Half(question.n)

    @graph.node
    async def ask(half: Half, lm: LM) -> Answer:
        return Answer((await lm.chat([{"role": "user", "content": HOSTILE}])).text)

    return graph


async def events_of_a_run() -> list[dict[str, Any]]:
    async with open_runtime(lm=ScriptedLM([HOSTILE], latency_s=2), seed=1) as runtime:
        return await recorded(runtime, retrying(), Question(4))


async def test_attempts_with_their_waiting_and_calls_are_read_out_of_events(autojump_clock: Any) -> None:
    trace = trace_of(await events_of_a_run())

    assert (trace.graph, trace.status, trace.duration_us) == ("retrying", "succeeded", trace.ended_us)
    assert [(each.node, each.attempt, each.status) for each in trace.attempts] == [
        ("halve", 1, "retrying"),
        ("halve", 2, "done"),
        ("ask", 1, "done"),
    ]
    first, second, ask = trace.attempts
    assert second.before is first
    assert second.delivered_us == first.ended_us == 1_000_000
    assert ask.delivered_us == second.ended_us
    [call] = ask.calls
    assert (call.began_us, call.ended_us) == (ask.began_us, ask.ended_us)
    assert call.ended_us == call.began_us + 2_000_000


async def test_the_steps_of_a_nested_graph_are_inside_its_node_and_those_of_a_list_beside_it(autojump_clock: Any) -> None:
    inner = Graph("inner", input=Half, output=Answer)
    outer = Graph("outer", input=Question, output=Answer)

    @inner.node
    async def last(half: Half) -> Answer:
        return Answer(str(half.n))

    @outer.node
    async def split(question: Question) -> list[Half]:
        return [Half(n) for n in range(question.n)]

    outer.add(inner)
    async with open_runtime() as runtime:
        trace = await traced(runtime, outer, Question(2))

    paths = {attempt.node: attempt for attempt in trace.attempts}
    assert not paths["split"].encloses(paths["inner"].path)
    assert paths["inner"].encloses(paths["last"].path)


async def test_the_form_for_chrome_has_a_row_for_each_node_and_model_and_ends_for_all_begins(autojump_clock: Any) -> None:
    told = chrome_trace(trace_of(await events_of_a_run()))

    rows = [event["args"]["name"] for event in told["traceEvents"] if event["ph"] == "M"]
    assert rows == ["halve", "ask", "model scripted"]
    begun = {event["id"]: event for event in told["traceEvents"] if event["ph"] == "b"}
    ended = {event["id"]: event for event in told["traceEvents"] if event["ph"] == "e"}
    assert begun.keys() == ended.keys()
    assert all(ended[each]["ts"] >= begun[each]["ts"] and ended[each]["name"] == begun[each]["name"] for each in begun)


async def test_the_picture_is_xml_whose_texts_are_texts(autojump_clock: Any) -> None:
    events = await events_of_a_run()
    for event in events:
        if event.get("node") == "ask":
            event["node"] = HOSTILE

    drawn = ET.fromstring(draw_trace(trace_of(events)))

    assert {element.tag.rpartition("}")[2] for element in drawn.iter()} <= {"svg", "title", "rect", "text", "line"}
    assert sum("attempt" in (element.text or "") for element in drawn.iter() if element.tag.endswith("title")) == 3


async def test_the_page_holds_its_events_and_no_markup_of_theirs(autojump_clock: Any) -> None:
    events = await events_of_a_run()

    page = export_page(events, graph={"name": HOSTILE})

    assert "<img" not in page
    assert page.count("</script>") == 3  # events, graph, program
    [inside] = re.findall(r'<script type="application/json" id="events">(.*?)</script>', page, re.DOTALL)
    assert json.loads(inside) == events
    assert not re.findall(r"""(?:src|href)=["'](?!data:,)""", page.partition("<script")[0])


def test_the_page_lets_nothing_run_but_its_own_program_and_asks_no_network() -> None:
    page = export_page([])

    [policy] = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    parts = dict(part.strip().split(" ", 1) for part in policy.replace("&#x27;", "'").split(";"))
    assert parts["default-src"] == "'none'"
    assert "connect-src" not in parts
    assert re.fullmatch(r"'sha256-[A-Za-z0-9+/]{43}='", parts["script-src"])


def test_a_run_that_goes_on_and_one_whose_first_events_are_gone_are_shown_as_far_as_they_are_known() -> None:
    step = {"v": 1, "node": "a", "path": "g/a/0", "attempt": 1, "run": "r"}
    trace = trace_of(
        [
            {"v": 1, "event": "events.missed", "count": 7},
            {**step, "seq": 7, "event": "node.finished", "elapsed_s": 1.0},
            {**step, "path": "g/a/1", "seq": 8, "event": "node.started", "elapsed_s": 1.0, "waited_s": 0.25},
            {**step, "seq": 9, "event": "node.reported", "path": "g/a/1", "elapsed_s": 3.5},
        ]
    )

    assert (trace.missed, trace.is_over, trace.duration_us) == (7, False, 2_500_000)
    [attempt] = trace.attempts
    assert (attempt.status, attempt.ended_us, trace.end_of(attempt)) == ("running", None, 3_500_000)


@pytest.mark.parametrize("status", ["failed", "cancelled"])
def test_what_was_in_progress_when_a_run_ended_has_ended_with_it(status: str) -> None:
    step = {"v": 1, "run": "r", "node": "a", "path": "g/a/0", "attempt": 1}
    trace = trace_of(
        [
            {"v": 1, "run": "r", "seq": 0, "event": "run.started", "elapsed_s": 0.0, "graph": "g"},
            {**step, "seq": 1, "event": "node.started", "elapsed_s": 0.0},
            {"v": 1, "run": "r", "seq": 2, "event": "run.finished", "elapsed_s": 2.0, "status": status},
        ]
    )

    assert (trace.attempts[0].status, trace.attempts[0].ended_us) == ("cancelled", 2_000_000)


def test_a_run_that_only_a_store_knows_has_steps_that_begin_with_the_end_of_the_one_before() -> None:
    step = {"v": 1, "run": "r", "event": "node.finished", "attempt": 1}
    trace = trace_of(
        [
            {"v": 1, "run": "r", "seq": 0, "event": "run.started", "elapsed_s": -0.5, "graph": "g"},
            {**step, "seq": 1, "elapsed_s": 1.0, "node": "a", "path": "g/a/0"},
            {**step, "seq": 2, "elapsed_s": 1.25, "node": "b", "path": "g/b/0"},
            {"v": 1, "run": "r", "seq": 3, "event": "run.finished", "elapsed_s": 1.25, "status": "succeeded"},
        ]
    )

    assert [(each.node, each.began_us, each.ended_us) for each in trace.attempts] == [
        ("a", -500_000, 1_000_000),
        ("b", 1_000_000, 1_250_000),
    ]
