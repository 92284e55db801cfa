"""What a reader of each page has before the first command of it: files, and what was typed until then."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Final

import attrs

from runtime.testing import ChatRequest, field_answer
from tests.reader import ROOT
from tests.test_docs import BLOCK as PYTHON
from tests.test_docs import script


@attrs.frozen
class Stage:
    """What a reader of a page has when it is read, besides what the page asks to save."""

    files: Mapping[str, str] = attrs.field(factory=dict[str, str])
    before: Mapping[str, str] = attrs.field(factory=dict[str, str])
    """Commands that a reader has typed, before the one that begins so."""
    answer: Callable[[ChatRequest], str] = lambda request: field_answer(text="Fine.")
    """What the models of the provider answer to a request."""
    figures: bool = False
    """Whether what is shown is about other data, so its figures differ."""
    is_in_order: bool = True
    """Whether lines come in the order of the page, and no others between them; what takes longest is first, and differs."""
    instead: Mapping[str, str] = attrs.field(factory=dict[str, str])
    """What stands on the page, and what this reader types."""


def page_code(name: str, *, count: int | None = None) -> str:
    """The first `count` Python blocks of a page in one file."""
    text = (ROOT / name).read_text(encoding="utf-8")
    if count is not None:
        ends = [block.end() for block in PYTHON.finditer(text)]
        text = text[: ends[count - 1]]
    return script(text)


ANSWERS: Final = (
    page_code("docs/how-to/mount-into-fastapi.md").partition("service =")[0].replace("from fastapi import FastAPI", "")
)
"""The graph that the pages on services have: a Question becomes an Answer."""
REVIEWS: Final = (ROOT / "docs/examples/reviews.py").read_text(encoding="utf-8")

LETTERS: Final = """
import os

import attrs

from actors import Effect, Graph


@attrs.frozen
class Order:
    number: int


@attrs.frozen
class Draft:
    text: str


@attrs.frozen
class Approved:
    by: str


@attrs.frozen
class Rejected:
    why: str


@attrs.frozen
class Payment:
    amount: int


@attrs.frozen
class Sent:
    text: str


graph = Graph("letters", input=Order, output=Sent, signals=Payment)


@graph.node
async def write(order: Order) -> Draft:
    return Draft(f"order {order.number}")


@graph.human
async def approve(draft: Draft) -> Approved | Rejected:
    '''May this letter be sent?'''
    ...


@graph.node
async def stop(no: Rejected) -> Sent:
    return Sent(no.why)


@graph.node
async def note(payment: Payment) -> None:
    pass


@graph.node(effect=Effect.ONCE)
async def send(draft: Draft, ok: Approved) -> Sent:
    if os.environ.get("POWER") == "cut":
        os._exit(9)
    return Sent(draft.text)
"""
BEGIN: Final = """
import sys

import trio

from runtime import QuestionAsked, open_runtime
from runtime.cli.loading import load_graph


async def main():
    graph = load_graph("letters.py:graph")
    async with open_runtime(store="runs.db", graphs=[graph]) as runtime:
        if sys.argv[1:] == ["on"]:
            while (await runtime.stored(graph)).items[0].status != "parked":
                await trio.sleep(0.01)
            return
        async with runtime.events(lambda event: isinstance(event, QuestionAsked)) as events:
            await runtime.start(graph, graph.input_types[0](7), run_id="order-7")
            async for event in events:
                return


trio.run(main)
"""
DOUBLE: Final = """
import attrs

from actors import Graph


@attrs.frozen
class Number:
    value: int


@attrs.frozen
class Double:
    value: int


def doubling(name, wrong):
    graph = Graph(name, input=Number, output=Double)

    @graph.node
    async def double(number: Number) -> Double:
        return Double(number.value * 2 + (number.value % 100 in wrong))

    return graph


graph, new, old = doubling("answers", range(WRONG)), doubling("new", ()), doubling("old", range(40))
"""
CASES: Final = "".join(json.dumps({"input": {"value": at}, "expected": at * 2}) + "\n" for at in range(200))
CLOSE: Final = "def close(example, output, trace):\n    return 1.0 - 0.5 * (output.value != example.expected)\n"
LABEL: Final = page_code("docs/how-to/compile-predictors.md").partition("rows = [")[0].partition("import tempfile")[2]
LABELLED: Final = "".join(json.dumps({"input": {"text": f"it broke {at}"}, "output": {"name": "bug"}}) + "\n" for at in range(60))
ASKING: Final = """
import attrs

from actors import Graph


@attrs.frozen
class Intent:
    text: str
    label: str = "Idea"
    now: str = ""


@attrs.frozen
class Answer:
    text: str


graph = Graph("answers", input=Intent, output=Answer)


@graph.predict
async def answer(intent: Intent) -> Answer:
    '''Answer.'''
    ...
"""
SLOW: Final = """
import attrs

from actors import Graph


@attrs.frozen
class Review:
    text: str


@attrs.frozen
class Topic:
    name: str


@attrs.frozen
class Opinion:
    text: str


@attrs.frozen
class Reply:
    text: str


graph = Graph("reviews", input=Review, output=Reply)


@graph.node
async def read(review: Review) -> Opinion:
    return Opinion(review.text.strip())


@graph.predict(parse_attempts=1)
async def ask(opinion: Opinion) -> Topic:
    '''Name what the review is about.'''
    ...


@graph.predict
async def write(opinion: Opinion, topic: Topic) -> Reply:
    '''Answer the review.'''
    ...
"""
ASK_ORDER_7: Final = """
at="localhost:8321/v1"
curl -s $at/graphs/letters/runs -H "Authorization: Bearer $KEY" --json '{"input": {"number": 7}, "run_id": "order-7"}'
until curl -s $at/runs/order-7/questions -H "Authorization: Bearer $KEY" | grep May; do sleep 0.05; done
"""
WRITE_KEYS: Final = "understudy keys new me --scopes run --file keys"
TEA: Final = "We are sorry that your tea came cold, and sorrier that it did so twice. The next pot is on us."


def better_with_demonstrations(request: ChatRequest) -> str:
    """What a model answers that is wrong about each fifth report, unless it is shown how."""
    is_shown = len(request.messages) > 2
    return field_answer(name="bug" if is_shown or not re.search(r"broke \d*[05]\b", request.text) else "wish")


def unreadable_at_first() -> Callable[[ChatRequest], str]:
    """Answers of a model, the first of which misses a field."""
    answers = iter(["I see.", field_answer(name="tea"), field_answer(text="Thank you.")])
    return lambda request: next(answers)


WRITTEN: Final = (
    LETTERS.replace("number: int", "wish: str").replace("order.number", "order.wish").replace("by: str", 'by: str = ""')
)
STAGES: Final[Mapping[str, Stage]] = {
    "README.md": Stage(answer=lambda request: field_answer(word="sour", text=TEA, filters={}, reasoning="It is.", query="trio")),
    "docs/how-to/demo.md": Stage(answer=lambda request: field_answer(filters={}, reasoning="It is.", query="trio")),
    "docs/how-to/run-on-a-provider.md": Stage(answer=lambda request: field_answer(filters={}, reasoning="It is.", query="trio")),
    "docs/how-to/behind-nginx.md": Stage({"graphs.py": ANSWERS}, {"understudy serve": WRITE_KEYS}),
    "docs/how-to/inspector.md": Stage({"graphs.py": ANSWERS}),
    "docs/how-to/mcp-client.md": Stage({"graphs.py": page_code("docs/how-to/mcp-client.md", count=1)}),
    "docs/how-to/mount-into-fastapi.md": Stage({"graphs.py": page_code("docs/how-to/mount-into-fastapi.md", count=1)}),
    "docs/how-to/look-at-a-graph.md": Stage({"graphs.py": REVIEWS}),
    "docs/how-to/cassettes.md": Stage({"test_nothing.py": "def test_nothing():\n    pass\n"}),
    "docs/how-to/compare-prompts.md": Stage(
        {
            "graphs.py": DOUBLE.replace("WRONG", "0"),
            "worse.py": DOUBLE.replace("WRONG", "0, 6"),  # of another size: Python tells files of the same second by that
            "cases.jsonl": CASES,
            "metrics.py": CLOSE,
        },
        {"understudy evaluate graphs.py:graph --data cases.jsonl --against": "cp worse.py graphs.py; mkdir old new"},
        figures=True,
    ),
    "docs/how-to/compile-predictors.md": Stage(
        {"graphs.py": LABEL, "rows.jsonl": LABELLED, "test.jsonl": LABELLED},
        answer=better_with_demonstrations,
        figures=True,
    ),
    "docs/how-to/embed-fastapi.md": Stage({"service.py": page_code("docs/how-to/embed-fastapi.md", count=1)}),
    "docs/how-to/embed-trio.md": Stage({"service.py": page_code("docs/how-to/embed-trio.md")}),
    "docs/how-to/find-what-is-slow.md": Stage({"graphs.py": SLOW}, answer=unreadable_at_first(), figures=True, is_in_order=False),
    "docs/how-to/incident-to-test.md": Stage(
        {"letters.py": LETTERS, "begin.py": BEGIN}, {"understudy runs list": "python begin.py; mkdir -p tests/incidents"}
    ),
    "docs/how-to/run-a-graph.md": Stage({"graphs.py": ASKING, "question.json": '{"text": "trio"}'}),
    "docs/how-to/serve-a-graph.md": Stage(
        {"graphs.py": page_code("docs/how-to/serve-a-graph.md", count=1), "letters.py": LETTERS},
        {"understudy serve graphs.py:graph --host": WRITE_KEYS, "curl -s localhost:8321/v1/runs/order-7/questions ": ASK_ORDER_7},
        instead={
            "graph --model": "graph letters.py:graph --model",
            "--host": "--check --host",
            "/answers/runs\n": "/answers/runs\n…\n",
        },
    ),
    "docs/how-to/stored-runs.md": Stage(
        {"letters.py": LETTERS, "begin.py": BEGIN},
        {
            "understudy runs list": "python begin.py",
            "understudy runs answer": "rm -f runs.db*; python begin.py",
            "understudy runs resume": "POWER=cut python begin.py on; python begin.py on",
        },
    ),
    "docs/tutorial/first-graph.md": Stage({"report.py": page_code("docs/tutorial/first-graph.md")}),
}
