"""Graphs as models, to OpenAI's own client."""

from collections.abc import AsyncIterator
from typing import Any

import attrs
import openai
import pytest
import trio

from actors import LM, Graph
from runtime.serve import ChatFace, OpenAIFace, Service, serve
from runtime.testing import ScriptedLM
from tests.patience import PATIENCE_S
from tests.runtime.serve.cast import Keys, Many, answers, serving


@attrs.frozen
class Message:
    role: str
    content: str


@attrs.frozen
class Conversation:
    messages: list[Message]


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


@pytest.fixture
async def up() -> AsyncIterator[Up]:
    keys = Keys()
    graphs: list[Graph[Any, Any]] = [answers(), talking(), counting()]
    service = Service(graphs, auth=keys.auth, faces=[OpenAIFace()], lm=ScriptedLM(["Hello there, Ann."] * 60, unused="ok"))
    async with trio.open_nursery() as nursery:
        address = await nursery.start(lambda task_status: serve(service, port=0, task_status=task_status))
        yield Up(address, keys.ann)
        nursery.cancel_scope.cancel()


def user(text: str) -> Any:
    return [{"role": "system", "content": "be kind"}, {"role": "user", "content": text}]


@pytest.mark.slow
async def test_the_synchronous_client_chats_streams_and_lists(up: Up) -> None:
    def talk() -> None:
        with openai.OpenAI(**up.options()) as client:
            assert [model.id for model in client.models.list()] == ["answers", "talking"]
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
            made = [client.chat.completions.create(model="answers", messages=user(f"n{number}")) for number in range(50)]
            return [answer.choices[0].message.content for answer in await asyncio.gather(*made)]

    assert await trio.to_thread.run_sync(lambda: asyncio.run(talk())) == [f"N{number}" for number in range(50)]


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
        await trio.sleep(1)
        runs = (await client.get("/v1/runs")).json()["runs"]

    assert [run["status"] for run in runs] == ["cancelled", "cancelled"]
    assert trio.current_time() < 5


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
