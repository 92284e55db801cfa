"""The graphs that people build most, in docs/examples/agents: each runs with a scripted model."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import attrs
import pytest

from actors import RunFailed
from runtime import open_runtime
from runtime.testing import ScriptedLM, answering, tool_answer

EXAMPLES = Path(__file__).parents[1] / "docs/examples"
FILES = {file.stem: file for file in (EXAMPLES / "react.py", *sorted((EXAMPLES / "agents").glob("*.py")))}


def example(name: str) -> ModuleType:
    known = sys.modules.get(f"agents_{name}")
    if known is not None:
        return known
    found = importlib.util.spec_from_file_location(f"agents_{name}", FILES[name])
    assert found is not None
    assert found.loader is not None
    module = sys.modules[f"agents_{name}"] = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


async def run(graph: Any, message: Any, script: Any, *, latency_s: float = 0.0, **options: Any) -> tuple[Any, ScriptedLM]:
    lm = ScriptedLM(script, latency_s=latency_s)
    async with open_runtime(lm=lm, lms={"large": lm}) as runtime:
        return await runtime.run(graph, message, **options), lm


def test_every_example_of_the_folder_is_tried_here() -> None:
    tried = {name.removeprefix("test_") for name in globals() if name.startswith("test_")}

    assert FILES.keys() <= tried


@pytest.mark.parametrize("file", FILES.values(), ids=lambda file: file.stem)
def test_an_example_has_neither_problems_nor_hints(file: Path) -> None:
    module = example(file.stem)

    graphs = [value for value in vars(module).values() if type(value).__name__ == "Graph"]

    assert graphs
    assert [[*graph.check(), *graph.hints()] for graph in graphs] == [[] for _ in graphs]


def test_the_page_that_compares_lengths_counts_every_example_right() -> None:
    page = (EXAMPLES.parent / "design/coming-from-langgraph.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)\.py` \| .* \| (\d+)[^|]* \| (\d+) \| ([\d.]+) \|$", page, re.MULTILINE)

    assert {name for name, *_ in rows} == FILES.keys()
    for name, there, here, ratio in rows:
        lines = [line.strip() for line in FILES[name].read_text(encoding="utf-8").splitlines()]
        assert sum(bool(line) and not line.startswith("#") for line in lines) == int(here), name
        assert float(ratio) == round(int(here) / int(there), 2) <= 0.7, name


def test_the_example_nearest_to_the_limit_is_below_it_without_what_sets_up_on_either_side() -> None:
    page = (EXAMPLES.parent / "design/coming-from-langgraph.md").read_text(encoding="utf-8")
    name, here, there, ratio = re.findall(r"on either side, `(\w+)\.py` has (\d+) lines to (\d+): ([\d.]+)\.", page)[0]
    sets_up = ("import ", "from ", "#", "async def main", "async with open_runtime", "if __name__", "trio.run(")
    lines = [line.strip() for line in FILES[name].read_text(encoding="utf-8").splitlines()]

    assert sum(bool(line) and not line.startswith(sets_up) for line in lines) == int(here)
    assert float(ratio) == round(int(here) / int(there), 2) <= 0.7


async def test_react() -> None:
    module = example("react")
    script = [tool_answer("weather", city="Oslo"), tool_answer("multiply", one=4, other=3), {"text": "12 degrees"}]

    output, lm = await run(module.graph, module.Question("How warm is it in Oslo, times three?"), script)

    assert output == module.Answer("12 degrees")
    assert [call.messages[-1]["content"] for call in lm.calls[1:]] == ["4 degrees, rain", "12.0"]


async def test_approval() -> None:
    module = example("approval")
    calls: Any = [tool_answer("book_hotel", name="Grand", nights=3), tool_answer("book_hotel", name="Inn", nights=1)]
    with answering(module.book_hotel, lambda call: attrs.evolve(call, nights=2)):
        output, lm = await run(module.graph, module.Request("Oslo"), [*calls, {"text": "Booked."}])

    assert output == module.Report("Booked.")
    assert [call.messages[-1]["content"].rpartition("\n")[2] for call in lm.calls[1:]] == [
        "booked 2 nights at Grand",
        "booked 1 nights at Inn",
    ]


async def test_router() -> None:
    module = example("router")
    script: Any = {
        "Find out what": [{"choice": "Technical"}, {"symptom": "black screen"}, {"choice": "Billing"}, {"account": "7"}],
        "what the customer can try": {"text": "Turn it off and on."},
    }

    lm = ScriptedLM(script)
    async with open_runtime(lm=lm) as runtime:
        mended = await runtime.run(module.graph, module.Request("My screen stays black."))
        billed = await runtime.run(module.graph, module.Request("What do I owe?"))

    assert mended == module.Reply("Turn it off and on.")
    assert billed == module.Reply("The account 7 owes nothing.")


async def test_agentic_rag() -> None:
    module = example("agentic_rag")
    nursery = "A nursery waits for all of its tasks."
    script = [
        {"text": "A lock.", "sources": []},
        {"is_supported": False, "better_question": "What waits for tasks?"},
        tool_answer("retrieve", words=["waits"]),
        {"text": "A nursery.", "sources": [nursery]},
        {"is_supported": True, "better_question": ""},
    ]

    output, lm = await run(module.graph, module.Question("What waits?"), script)

    assert output == module.Answer("A nursery.", [nursery])
    assert nursery in lm.calls[3].messages[-1]["content"]


async def test_supervisor() -> None:
    module = example("supervisor")
    script = {
        "Decide what": [
            {"choice": "Research"},
            {"what": "Oslo and Bergen"},
            {"choice": "Compute"},
            {"what": "717710 + 291940"},
            {"choice": "Answer"},
            {"text": "1,009,650"},
        ],
        "Find out": [tool_answer("search", query="Oslo Bergen"), {"text": "717,710 and 291,940"}],
        "Calculate": [tool_answer("add", numbers=[717710, 291940]), {"text": "1,009,650"}],
    }

    output, lm = await run(module.graph, module.Task("How many people?"), script, max_steps=20)

    assert output == module.Answer("1,009,650")
    assert "717,710 and 291,940" in lm.calls[-1].text


async def test_map_reduce(autojump_clock: object) -> None:
    module = example("map_reduce")
    script = {
        "Name three subjects": {"names": ["cat", "dog", "eel"]},
        "Tell a joke": lambda messages: {"text": f"A joke: {messages[-1]['content'].split()[5]}"},
        "Repeat the best": {"text": "the second"},
    }

    output, lm = await run(module.graph, module.Topic("animals"), script, latency_s=1)

    assert output == module.Best("the second")
    assert len(lm.calls) == 5
    assert lm.max_in_flight == 3


async def test_evaluator_optimizer() -> None:
    module = example("evaluator_optimizer")
    script = [
        {"text": "Cats."},
        {"is_funny": False, "feedback": "longer"},
        {"text": "Two cats walk into a bar."},
        {"is_funny": True, "feedback": ""},
    ]

    output, lm = await run(module.graph, module.Topic("cats"), script, max_steps=12)

    assert output == module.Final("Two cats walk into a bar.")
    assert "longer" in lm.calls[2].messages[-1]["content"]


async def test_evaluator_optimizer_that_is_never_content_ends() -> None:
    module = example("evaluator_optimizer")
    script = {"Write a joke": {"text": "Cats."}, "Grade the joke": {"is_funny": False, "feedback": "longer"}}

    with pytest.raises(Exception, match="more than 12 steps"):
        await run(module.graph, module.Topic("cats"), script, max_steps=12)


async def test_plan_and_execute() -> None:
    module = example("plan_and_execute")
    script = [
        {"steps": ["find the winner", "find the home town"]},
        tool_answer("search", query="winner"),
        {"text": "Jannik Sinner"},
        tool_answer("search", query="home town"),
        {"text": "Sexten"},
    ]

    output, lm = await run(module.graph, module.Goal("Where from?"), script, max_steps=30)

    assert output == module.Report(["Jannik Sinner", "Sexten"])
    assert "Jannik Sinner" in lm.calls[3].messages[1]["content"]


async def test_reflection() -> None:
    module = example("reflection")
    script = {
        "Write an essay": [{"text": "one"}, {"text": "two"}, {"text": "three"}],
        "Criticise": [{"text": "too short"}, {"text": "still too short"}],
    }

    output, lm = await run(module.graph, module.Assignment("The Little Prince"), script)

    assert output == module.Final("three")
    assert "still too short" in lm.calls[-1].messages[-1]["content"]


async def test_sql_agent() -> None:
    module = example("sql_agent")
    wrong = "SELECT land FROM sales"
    right = "SELECT country, SUM(amount) FROM sales GROUP BY country ORDER BY 2 DESC"
    script = [
        tool_answer("tables"),
        tool_answer("query", sql=wrong),
        tool_answer("query", sql=right),
        {"text": "Norway", "sql": right},
    ]

    output, lm = await run(module.graph, module.Question("Which country bought most?"), script)

    assert output == module.Answer("Norway", right)
    assert [call.messages[-1]["content"] for call in lm.calls[1:]] == [
        '["CREATE TABLE sales (name TEXT, country TEXT, amount INTEGER)"]',
        "Error: OperationalError: no such column: land",
        '[["Norway", 7], ["UK", 3]]',
    ]


async def test_sql_agent_cannot_write() -> None:
    module = example("sql_agent")
    script = [tool_answer("query", sql="DROP TABLE sales"), {"text": "no", "sql": ""}]

    _, lm = await run(module.graph, module.Question("Drop it."), script)

    assert "readonly database" in lm.calls[1].messages[-1]["content"]


async def test_long_document(autojump_clock: object) -> None:
    module = example("long_document")
    script = {"Note in two": {"text": "Families."}, "Sum up": {"text": "All of them."}}

    output, lm = await run(module.graph, module.Document("All happy families are alike. " * 1_000), script, latency_s=1)

    assert output == module.Summary("All of them.")
    assert len(lm.calls) == 16
    assert lm.max_in_flight == 8


async def test_subgraph() -> None:
    module = example("subgraph")
    script = [{"text": "Bonjour."}]
    asking = [tool_answer("translate", text="good morning", language="French"), {"text": "bonjour"}, {"text": "'bonjour'"}]

    published, _ = await run(module.publishing, module.Article("Good morning."), script)
    answered, lm = await run(module.helping, module.Question("French?"), asking)

    assert published == module.Published("Bonjour.")
    assert answered == module.Answer("'bonjour'")
    assert lm.calls[0].options["tools"][0]["function"]["description"] == "Translate a text."


async def test_react_that_cannot_stop_fails_with_what_there_is() -> None:
    module = example("react")
    script = {"": tool_answer("weather", city="Rome")}

    with pytest.raises(RunFailed) as caught:
        await run(module.graph, module.Question("?"), script)

    assert type(caught.value.exceptions[0].__cause__).__name__ == "RoundsExceeded"
