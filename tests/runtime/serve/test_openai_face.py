"""Graphs as models, to OpenAI's own client."""

from collections.abc import AsyncIterator
from typing import Any

import attrs
import openai
import pytest
import trio

from actors import LM, Graph
from runtime.serve import ChatFace, OpenAIFace, Service
from runtime.testing import ScriptedLM
from tests.patience import PATIENCE_S
from tests.runtime.serve.cast import Keys, Many, answers, serving
from tests.runtime.serve.listening import SERVERS, listening


@attrs.frozen
class Message:
    role: str
    content: str


@attrs.frozen
class Conversation:
    messages: list[Message]


@attrs.frozen
class Wish:
    text: str


@attrs.frozen
class Yes:
    count: int = 1


@attrs.frozen
class No:
    pass


@attrs.frozen
class Reply:
    text: str


def talking() -> Graph[Conversation, Reply]:
    graph = Graph("talking", input=Conversation, output=Reply)

    @graph.node
    async def talk(conversation: Conversation, lm: LM) -> Reply:
        text = ""
        messages = [{"role": each.role, "content": each.content} for each in conversation.messages]
        async with lm.stream(messages) as stream:
            async for delta in stream:
                text += getattr(delta, "text", "")
        return Reply(text)

    return graph


def ordering() -> Graph[Wish, Reply]:
    graph = Graph("ordering", input=Wish, output=Reply)

    @graph.human
    async def approve(wish: Wish) -> Yes | No:
        """Shall this be ordered?"""
        raise NotImplementedError

    @graph.node
    async def order(yes: Yes) -> Reply:
        return Reply(f"ordered {yes.count}")

    @graph.node
    async def forget(no: No) -> Reply:
        return Reply("forgotten")

    return graph


def counting() -> Graph[Many, Reply]:
    graph = Graph("counting", input=Many, output=Reply)

    @graph.node
    async def count(many: Many) -> Reply:
        return Reply(str(many.n))

    return graph


@attrs.frozen
class Up:
    address: str
    key: str

    def options(self) -> dict[str, Any]:
        return {"base_url": f"{self.address}/v1", "api_key": self.key, "max_retries": 0, "timeout": PATIENCE_S}


@pytest.fixture(params=SERVERS)
async def up(request: pytest.FixtureRequest) -> AsyncIterator[Up]:
    keys = Keys()
    graphs: list[Graph[Any, Any]] = [answers(), talking(), counting(), ordering()]
    service = Service(graphs, auth=keys.auth, faces=[OpenAIFace()], lm=ScriptedLM(["Hello there, Ann."] * 60, unused="ok"))
    async with listening(request.param, service) as address:
        yield Up(address, keys.ann)


def user(text: str) -> Any:
    return [{"role": "system", "content": "be kind"}, {"role": "user", "content": text}]


@pytest.mark.slow
async def test_the_synchronous_client_chats_streams_and_lists(up: Up) -> None:
    def talk() -> None:
        with openai.OpenAI(**up.options()) as client:
            assert [model.id for model in client.models.list()] == ["answers", "talking", "ordering"]
            assert client.models.retrieve("answers").owned_by == "understudy"
            answer = client.chat.completions.create(model="answers", messages=user("hi"), temperature=0.2)
            assert answer.choices[0].message.content == "HI"
            assert answer.choices[0].finish_reason == "stop"
            assert answer.usage is not None
            with client.chat.completions.create(
                model="talking", messages=user("hi"), stream=True, stream_options={"include_usage": True}
            ) as stream:
                chunks = list(stream)
            assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "Hello there, Ann."
            assert len(chunks) > 4
            assert chunks[-1].usage is not None
            assert chunks[-1].usage.total_tokens > 0

    await trio.to_thread.run_sync(talk)


@pytest.mark.slow
async def test_errors_are_the_clients_own_classes(up: Up) -> None:
    def fail() -> None:
        with openai.OpenAI(**up.options()) as client:
            chat: Any = client.chat.completions.create
            with pytest.raises(openai.NotFoundError) as missing:
                chat(model="none", messages=user("hi"))
            assert missing.value.code == "model_not_found"
            with pytest.raises(openai.BadRequestError) as wrong:
                chat(model="counting", messages=user("hi"))
            assert wrong.value.code == "unsupported_model"
            for option in (
                {"n": 2},
                {"tools": [{"type": "function", "function": {"name": "f"}}]},
                {"response_format": {"type": "json_object"}},
                {"logprobs": True},
            ):
                with pytest.raises(openai.BadRequestError) as unsupported:
                    chat(model="answers", messages=user("hi"), **option)
                assert (unsupported.value.code, unsupported.value.param) == ("unsupported_parameter", next(iter(option)))
            with pytest.raises(openai.RateLimitError) as spent:
                chat(model="answers", messages=user("budget"))
            assert spent.value.code == "insufficient_quota"
            with pytest.raises(openai.InternalServerError):
                chat(model="answers", messages=user("fail"))
            with pytest.raises(openai.APIError, match=r"Failed: node 'answer'"):
                list(chat(model="answers", messages=user("fail"), stream=True))
        with openai.OpenAI(**{**up.options(), "api_key": "usk_ann_no"}) as stranger:
            with pytest.raises(openai.AuthenticationError) as refused:
                stranger.models.list()
            assert refused.value.code == "invalid_api_key"

    await trio.to_thread.run_sync(fail)


@pytest.mark.slow
async def test_fifty_asynchronous_clients_at_once(up: Up) -> None:
    import asyncio

    async def talk() -> list[str | None]:
        async with openai.AsyncOpenAI(**up.options()) as client:

            async def chat(number: int) -> str | None:
                answer = await client.chat.completions.create(model="answers", messages=user(f"n{number}"))
                return answer.choices[0].message.content

            async def respond(number: int) -> str:
                async with client.responses.stream(model="answers", input=f"n{number}") as stream:
                    return (await stream.get_final_response()).output_text

            return list(await asyncio.gather(*((chat, respond)[number % 2](number) for number in range(50))))

    assert await trio.to_thread.run_sync(lambda: asyncio.run(talk())) == [f"N{number}" for number in range(50)]


@pytest.mark.slow
async def test_the_synchronous_client_gets_responses(up: Up) -> None:
    def talk() -> None:
        with openai.OpenAI(**up.options()) as client:
            whole = client.responses.create(model="answers", input="hi", instructions="be kind", temperature=0.1)
            assert (whole.output_text, whole.status, whole.model, whole.error) == ("HI", "completed", "answers", None)
            parts: Any = [{"role": "user", "content": [{"type": "input_text", "text": "a"}]}]
            listed = client.responses.create(model="answers", input=parts)
            assert listed.output_text == "A"

            events = list(client.responses.create(model="talking", input=user("hi"), stream=True))
            assert [event.sequence_number for event in events] == list(range(len(events)))
            kinds = [event.type.removeprefix("response.") for event in events]
            deltas = kinds.count("output_text.delta")
            assert deltas > 2
            assert kinds == [
                *("created", "in_progress", "output_item.added", "content_part.added"),
                *["output_text.delta"] * deltas,
                *("output_text.done", "content_part.done", "output_item.done", "completed"),
            ]
            assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == "Hello there, Ann."
            [*_, last] = events
            assert last.type == "response.completed"
            assert last.response.output_text == "Hello there, Ann."
            assert last.response.usage is not None
            assert last.response.usage.total_tokens > 0
            with client.responses.stream(model="talking", input="hi") as stream:
                assert stream.get_final_response().output_text == "Hello there, Ann."

    await trio.to_thread.run_sync(talk)


@pytest.mark.slow
@pytest.mark.parametrize("up", ["uvicorn"], indirect=True)
async def test_responses_that_fail_are_the_clients_own_errors(up: Up) -> None:
    def fail() -> None:
        with openai.OpenAI(**up.options()) as client:
            respond: Any = client.responses.create
            with pytest.raises(openai.NotFoundError):
                respond(model="none", input="hi")
            for option in (
                {"tools": [{"type": "web_search"}]},
                {"text": {"format": {"type": "json_object"}}},
                {"background": True},
                {"include": ["message.output_text.logprobs"]},
            ):
                with pytest.raises(openai.BadRequestError) as unsupported:
                    respond(model="answers", input="hi", **option)
                assert (unsupported.value.code, unsupported.value.param) == ("unsupported_parameter", next(iter(option)))
            with pytest.raises(openai.BadRequestError) as unknown:
                respond(model="answers", input="hi", previous_response_id="resp_none")
            assert unknown.value.code == "previous_response_not_found"
            with pytest.raises(openai.RateLimitError) as spent:
                respond(model="answers", input="budget")
            assert spent.value.code == "insufficient_quota"
            with pytest.raises(openai.RateLimitError):
                respond(model="answers", input="busy")
            with pytest.raises(openai.InternalServerError):
                respond(model="answers", input="fail")
            *_, last = respond(model="answers", input="fail", stream=True)
            assert (last.type, last.response.status) == ("response.failed", "failed")
            assert last.response.error.message.startswith("Failed: node 'answer'. Fix: ")

    await trio.to_thread.run_sync(fail)


@pytest.mark.slow
@pytest.mark.parametrize("up", ["hypercorn"], indirect=True)
async def test_a_response_asks_and_the_next_one_answers(up: Up) -> None:
    def talk() -> None:
        with openai.OpenAI(**up.options()) as client:
            asked = client.responses.create(model="ordering", input="bread")
            assert asked.output_text == 'Shall this be ordered?\n\n{"text": "bread"}'
            with pytest.raises(openai.BadRequestError, match="expected one of: Yes, No"):
                client.responses.create(model="ordering", input="perhaps", previous_response_id=asked.id)
            done = client.responses.create(model="ordering", input='{"Yes": {"count": 3}}', previous_response_id=asked.id)
            assert (done.output_text, done.previous_response_id) == ("ordered 3", asked.id)
            assert done.id != asked.id
            with pytest.raises(openai.BadRequestError, match="asks nothing"):
                client.responses.create(model="ordering", input="No", previous_response_id=asked.id)

            with client.responses.stream(model="ordering", input="cheese") as stream:
                first = stream.get_final_response()
            assert first.output_text.startswith("Shall this be ordered?")
            with client.responses.stream(model="ordering", input=" No ", previous_response_id=first.id) as stream:
                assert stream.get_final_response().output_text == "forgotten"

    await trio.to_thread.run_sync(talk)


async def test_what_another_callers_response_asks_is_not_there(virtual_clock: Any) -> None:
    keys = Keys()
    async with serving(ordering(), auth=keys.auth, faces=[OpenAIFace()]) as client:
        asked = (await client.of(keys.ann).post("/v1/responses", {"model": "ordering", "input": "bread"})).json()["id"]
        answer = {"model": "ordering", "input": "No", "previous_response_id": asked}
        theirs = await client.of(keys.ben).post("/v1/responses", answer)
        never = await client.of(keys.ben).post("/v1/responses", {**answer, "previous_response_id": "resp_never"})
        own = await client.of(keys.ann).post("/v1/responses", answer)

    assert (theirs.status, theirs.json()["error"]["code"]) == (400, "previous_response_not_found")
    assert theirs.json()["error"]["message"].replace(asked, "") == never.json()["error"]["message"].replace("resp_never", "")
    assert own.status == 200


async def test_a_client_that_leaves_cancels_the_run(virtual_clock: Any) -> None:
    graph = answers()

    def slowly(messages: list[dict[str, Any]]) -> Any:
        from tests.runtime.serve.cast import Question

        return Question("a", wait_s=60)

    async with serving(graph, faces=[OpenAIFace(ChatFace(graph, input=slowly))]) as client:
        for stream in (True, False):
            body = {"model": "answers", "messages": user("x"), "stream": stream}
            with trio.move_on_after(1):
                await client.post("/v1/chat/completions", body)
            with trio.move_on_after(1):
                await client.post("/v1/responses", {"model": "answers", "input": "x", "stream": stream})
        await trio.sleep(1)
        runs = (await client.get("/v1/runs")).json()["runs"]

    assert [run["status"] for run in runs] == ["cancelled"] * 4
    assert trio.current_time() < 8


@pytest.mark.parametrize(
    "body",
    [
        {},
        [],
        {"model": "answers"},
        {"model": "answers", "messages": []},
        {"model": "answers", "messages": "hi"},
        {"model": "answers", "messages": [1]},
        {"model": "answers", "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
        {"model": "answers", "messages": [{"role": "user", "content": 3}]},
        {"model": "answers", "messages": [{"role": "system", "content": "x"}]},
        {"model": 3, "messages": [{"role": "user", "content": "x"}]},
        {"model": "answers", "messages": [{"role": "user", "content": "x"}], "stream_options": 3},
    ],
    ids=str,
)
async def test_what_is_wrong_is_said_in_openais_form(body: Any) -> None:
    async with serving(faces=[OpenAIFace()]) as client:
        reply = await client.post("/v1/chat/completions", body)

    assert reply.status in (400, 404)
    assert set(reply.json()["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize(
    "body",
    [
        {},
        [],
        {"model": "answers"},
        {"model": "answers", "input": []},
        {"model": "answers", "input": 3},
        {"model": "answers", "input": [3]},
        {"model": "answers", "input": [{"content": "x"}]},
        {"model": "answers", "input": [{"type": "function_call_output", "call_id": "a", "output": "b"}]},
        {"model": "answers", "input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]},
        {"model": "answers", "input": [{"role": "assistant", "content": "x"}]},
        {"model": "answers", "input": "x", "instructions": 3},
        {"model": "answers", "input": "x", "previous_response_id": 3},
        {"model": "answers", "input": "x", "previous_response_id": "resp_"},
        {"model": {}, "input": "x"},
    ],
    ids=str,
)
async def test_a_response_that_cannot_be_made_is_refused_in_openais_form(body: Any) -> None:
    async with serving(faces=[OpenAIFace()]) as client:
        reply = await client.post("/v1/responses", body)

    assert reply.status in (400, 404)
    assert set(reply.json()["error"]) == {"message", "type", "param", "code"}


async def test_what_an_author_cannot_make_of_messages_is_a_400(caplog: Any) -> None:
    graph = answers()
    async with serving(graph, faces=[OpenAIFace(ChatFace(graph, input=lambda messages: messages[7]))]) as client:
        reply = await client.post("/v1/chat/completions", {"model": "answers", "messages": user("x")})

    assert (reply.status, reply.json()["error"]["param"]) == (400, "messages")
    assert "IndexError" in caplog.text
