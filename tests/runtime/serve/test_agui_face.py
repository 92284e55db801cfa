"""Graphs as agents of AG-UI: every event is one of the protocol's own types, and they come in the order that it wants."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio
from ag_ui import core
from pydantic import TypeAdapter

from actors.errors import DeclarationError
from runtime.serve import AGUIFace, ChatFace, Recording, Service
from runtime.testing import ScriptedLM, explore
from tests.runtime.serve.cast import Client, Keys, Question, Reply, answers, serving
from tests.runtime.serve.test_openai_face import counting, talking
from tests.runtime.serve.test_question_routes import letters

EVENTS: TypeAdapter[Any] = TypeAdapter(core.Event)


def asked(text: str | None = None, **more: Any) -> dict[str, Any]:
    messages = [] if text is None else [{"id": "m1", "role": "user", "content": text}]
    return {"threadId": "t", "runId": "r", "messages": messages, "tools": [], "context": [], "state": {}, **more}


def events_of(reply: Reply) -> list[Any]:
    """The events of a stream, each as the type that it is; steps, messages and runs that begin end."""
    assert (reply.status, reply.headers["content-type"]) == (200, "text/event-stream; charset=utf-8"), reply.body
    blocks = [block.removeprefix("data: ") for block in reply.body.decode("ascii").split("\n\n") if block.startswith("data: ")]
    events = [EVENTS.validate_python(json.loads(block)) for block in blocks]
    for event, block in zip(events, blocks, strict=True):
        assert not event.model_extra, block
    assert events[0].type == "RUN_STARTED"
    assert [event.type for event in events].count("RUN_STARTED") == 1
    open_steps: set[str] = set()
    open_messages: set[str] = set()
    for event in events[1:-1]:
        match event:
            case core.StepStartedEvent():
                assert event.step_name not in open_steps
                open_steps.add(event.step_name)
            case core.StepFinishedEvent():
                open_steps.remove(event.step_name)
            case core.TextMessageStartEvent():
                open_messages.add(event.message_id)
            case core.TextMessageContentEvent():
                assert event.message_id in open_messages
            case core.TextMessageEndEvent():
                open_messages.remove(event.message_id)
            case _:
                assert event.type not in ("RUN_FINISHED", "RUN_ERROR")
    assert events[-1].type == "RUN_ERROR" or not (open_steps or open_messages)
    return events


def text_of(events: list[Any]) -> str:
    return "".join(event.delta for event in events if isinstance(event, core.TextMessageContentEvent))


async def run(client: Client, graph: str, body: Any) -> list[Any]:
    return events_of(await client.post(f"/agui/{graph}", body))


async def test_a_run_is_told_in_steps_and_text() -> None:
    async with serving(talking(), faces=[AGUIFace()], lm=ScriptedLM(["Hello there, Ann."])) as client:
        events = await run(client, "talking", asked("hi"))

    assert [event.type.value for event in events if event.type != "TEXT_MESSAGE_CONTENT"] == [
        *("RUN_STARTED", "STEP_STARTED", "TEXT_MESSAGE_START", "STEP_FINISHED", "TEXT_MESSAGE_END", "RUN_FINISHED"),
    ]
    assert len(events) > 8
    assert text_of(events) == "Hello there, Ann."
    assert (events[0].thread_id, events[0].run_id, events[0].protocol_version) == ("t", "r", core.PROTOCOL_VERSION)
    assert (events[-1].outcome.type, events[-1].result) == ("success", {"text": "Hello there, Ann."})
    assert events[-1].usage[0].output_tokens > 0


async def test_any_graph_gets_its_input_from_the_forwarded_properties() -> None:
    async with serving(counting(), answers(), faces=[AGUIFace()]) as client:
        events = await run(client, "counting", asked(forwardedProps={"input": {"n": 3}}))
        assert text_of(events) == "3"
        assert text_of(await run(client, "answers", asked("hi"))) == "HI"

        for path, body, kind in (
            ("counting", asked("hi"), "bad-request"),
            ("counting", asked(forwardedProps={"input": {"n": "x"}}), "input-invalid"),
            ("answers", asked(), "bad-request"),
            ("answers", {"threadId": "t"}, "input-invalid"),
            ("answers", [], "input-invalid"),
            ("answers", asked(resume=[{"interruptId": "x", "status": "resolved"}]), "no-such-run"),
            ("none", asked("hi"), "no-such-graph"),
        ):
            assert (await client.post(f"/agui/{path}", body)).problem == kind, body


async def test_a_run_that_fails_is_an_error() -> None:
    async with serving(faces=[AGUIFace()]) as client:
        events = await run(client, "answers", asked("fail"))

    assert (events[-1].type, events[-1].code) == ("RUN_ERROR", "run-failed")
    assert events[-1].message.startswith("Failed: node 'answer'. Fix: look at the run")


async def test_a_question_to_a_person_is_an_interrupt(virtual_clock: Any) -> None:
    keys = Keys()
    async with serving(letters(), auth=keys.auth, faces=[AGUIFace()]) as client:
        ann = client.of(keys.ann)
        first = await run(ann, "letters", asked(forwardedProps={"input": {"number": 7}}))
        [interrupt] = first[-1].outcome.interrupts
        assert "May this letter be sent?" in interrupt.message
        assert "order 7" in interrupt.message
        assert {"Approved", "Rejected"} <= set(interrupt.response_schema["$defs"])

        def resume(payload: Any, status: str = "resolved") -> Any:
            return asked(runId="r2", resume=[{"interruptId": interrupt.id, "status": status, "payload": payload}])

        assert (await client.of(keys.ben).post("/agui/letters", resume({"Approved": {}}))).problem == "no-such-run"
        assert (await ann.post("/agui/letters", resume({"Approved": {"remark": 3}}))).problem == "input-invalid"
        second = await run(ann, "letters", resume({"Rejected": {"why": "long"}}))
        assert second[-1].type == "RUN_FINISHED", second
        [again] = second[-1].outcome.interrupts
        assert again.id != interrupt.id
        body = asked(runId="r3", resume=[{"interruptId": again.id, "status": "resolved", "payload": {"remark": "yes"}}])
        assert (await run(ann, "letters", body))[-1].result == {"text": "dropped: long, yes"}

        third = await run(ann, "letters", asked(forwardedProps={"input": {"number": 8}}))
        interrupt = third[-1].outcome.interrupts[0]
        assert (await run(ann, "letters", resume(None, "cancelled")))[-1].outcome.type == "cancelled"
        assert (await ann.get("/v1/runs")).json()["runs"][0]["status"] == "cancelled"


async def test_a_client_that_leaves_cancels_the_run(virtual_clock: Any) -> None:
    async with serving(faces=[AGUIFace()]) as client:
        with trio.move_on_after(1):
            await client.post("/agui/answers", asked(forwardedProps={"input": {"text": "a", "wait_s": 60}}))
        await trio.sleep(1)
        assert (await client.get("/v1/runs")).json()["runs"][0]["status"] == "cancelled"


def test_a_face_of_a_graph_that_is_not_served_is_rejected() -> None:
    with pytest.raises(DeclarationError, match="isn't served"):
        Service([answers()], faces=[AGUIFace(ChatFace(answers(), input=lambda messages: Question("a")))], record=Recording())


@explore(runs=20)
async def test_no_question_is_missed_whatever_comes_first() -> None:
    """A run that asks again at once may have done so before the stream of its answer begins."""
    async with serving(letters(), faces=[AGUIFace()]) as client:
        question = (await run(client, "letters", asked(forwardedProps={"input": {"number": 7}})))[-1].outcome.interrupts[0].id
        last: Any = None
        for payload in ({"Rejected": {"why": "long"}}, {"remark": "yes"}):
            body = asked(resume=[{"interruptId": question, "status": "resolved", "payload": payload}])
            last = (await run(client, "letters", body))[-1]
            question = last.outcome.interrupts[0].id if last.outcome.type == "interrupt" else ""
        assert last.result == {"text": "dropped: long, yes"}
