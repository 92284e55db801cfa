"""What a language model is asked can be looked at: before a run, in its events, and on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest

from actors import Graph
from actors.lm import LM
from runtime import LMAsked, open_runtime
from runtime.cli.main import main
from runtime.testing import ScriptedLM, open_loopback

GRAPH = '''
import attrs
from actors import Graph

@attrs.frozen
class In:
    text: str

@attrs.frozen
class Out:
    answer: str

graph = Graph("g", input=In, output=Out)

@graph.predict(module="ChainOfThought")
async def fill(message: In) -> Out:
    """Answer in one word."""
    ...
'''


@attrs.frozen
class In:
    text: str


@attrs.frozen
class Mid:
    text: str


@attrs.frozen
class Out:
    text: str


graph = Graph("prompts", input=In, output=Out)


@graph.node
async def ask(message: In, lm: LM) -> Mid:
    parts = [{"type": "text", "text": message.text}, {"type": "image_url", "image_url": {"url": "data:,"}}]
    return Mid((await lm.chat([{"role": "user", "content": parts}])).text)


@graph.predict
async def fill(mid: Mid) -> Out:  # type: ignore[empty-body]
    """Answer in one word."""
    ...


async def asked(text: str, **options: Any) -> list[LMAsked]:
    async with open_runtime(lm=ScriptedLM(["said", {"text": "ok"}]), **options) as runtime:
        async with runtime.stream(graph, In(text)) as events:
            return [event async for event in events if isinstance(event, LMAsked)]


async def test_e6_events_carry_the_prompts_of_every_call_when_they_are_wanted() -> None:
    first, second = await asked("hello", show_prompts=True)

    assert (first.node, first.model, [(each.role, each.text) for each in first.prompt]) == (
        "ask",
        "scripted",
        [("user", "hello\n[image_url]")],
    )
    assert [each.role for each in second.prompt] == ["system", "user"]
    assert "Answer in one word." in second.prompt[0].text
    assert "said" in second.prompt[1].text


async def test_e6_nobody_gets_prompts_who_has_not_asked_for_them() -> None:
    assert await asked("hello") == []


async def test_e6_a_prompt_in_an_event_is_bounded_and_shows_no_key() -> None:
    key = "sk-" + "a1B2" * 10
    first, _ = await asked(f"{key} {'x' * 1_000_000}", show_prompts=True)

    [message] = first.prompt
    assert len(message.text) < 21_000
    assert message.text.endswith(" more characters)")
    assert key not in message.text
    assert "hello" not in repr((await asked("hello", show_prompts=True))[0])


async def test_e6_a_nested_graph_shows_its_prompts_as_well() -> None:
    outer = Graph("outer", input=In, output=Out)
    outer.add(graph)

    async with open_runtime(lm=ScriptedLM(["said", {"text": "ok"}]), show_prompts=True) as runtime:
        async with runtime.stream(outer, In("hello")) as events:
            found = [event async for event in events if isinstance(event, LMAsked)]

    assert len(found) == 2


@pytest.mark.slow
def test_e6_the_description_of_a_graph_shows_the_prompt_of_each_predict_node(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "g.py").write_text(GRAPH)

    assert main(["graph", "describe", f"{tmp_path}/g.py:graph"]) == 0

    told = capsys.readouterr().out.split("## What the language model is told")[1]
    assert "### `fill`: `Out`" in told
    assert "Answer in one word." in told
    assert "[[ ## text ## ]]\n{text}" in told
    assert "[[ ## reasoning ## ]]" in told


@pytest.mark.slow
def test_e6_the_command_line_shows_the_prompts_of_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "g.py").write_text(GRAPH)
    import threading

    import trio

    ready: list[str] = []
    begun, over = threading.Event(), threading.Event()

    async def serve() -> None:
        answer = "[[ ## reasoning ## ]]\nr\n\n[[ ## answer ## ]]\nyes\n\n[[ ## completed ## ]]"
        async with open_loopback({"*": answer}) as provider:
            ready.append(provider.api_base)
            begun.set()
            await trio.to_thread.run_sync(over.wait)

    server = threading.Thread(target=trio.run, args=(serve,))
    server.start()
    begun.wait(20)
    try:
        options = ["--model", "openai/m", "--api-base", ready[0], "-q", "--show-prompts", "--input", '{"text": "hello"}']
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("OPENAI_API_KEY", "k" * 12)
            assert main(["run", f"{tmp_path}/g.py:graph", *options]) == 0
    finally:
        over.set()
        server.join(20)

    out, err = capsys.readouterr()
    assert '"answer": "yes"' in out
    assert "--- fill (" in err
    assert "[system]" in err
    assert "Answer in one word." in err
    assert "hello" in err
