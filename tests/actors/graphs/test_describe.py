"""The design page of a graph: all that an author has declared, in one text."""

# mypy: disable-error-code="empty-body"
# pyright: reportReturnType=false

from __future__ import annotations

from typing import Annotated

import attrs
import pydantic

from actors.actor import Actor
from actors.errors import NodeFailed
from actors.graphs.graph import Graph
from actors.graphs.markers import Dep, Gather, Recall
from actors.lm import LM
from actors.mailbox import MailboxSpec, Overflow
from actors.supervision import Strategy, Supervision


@attrs.frozen
class Ask:
    """What is asked.

    More of it.
    """

    text: str
    tags: list[str]


class Part(pydantic.BaseModel):
    number: int


@attrs.frozen
class Out:
    pass


def town(ask: Ask) -> str:
    raise NotImplementedError


async def sky(town: Annotated[str, Dep(town)]) -> str:
    raise NotImplementedError


async def instead(ask: Ask, error: Exception) -> list[Part]:
    raise NotImplementedError


def declared() -> Graph:
    graph = Graph("page", input=Ask, output=Out, supervision=Supervision(strategy=Strategy.ONE_FOR_ALL, max_restarts=2))

    @graph.node(timeout_s=5, idle_timeout_s=1.5, fallback=instead, mailbox=MailboxSpec(capacity=2, overflow=Overflow.REJECT))
    async def split(ask: Ask) -> list[Part]:
        raise NotImplementedError

    @graph.predict(module="ChainOfThought", lm="large")
    async def work(part: Part) -> Part | Out:
        """Say what it is.

        In one word.
        """
        ...

    @graph.node
    def gather(parts: Annotated[list[Part], Gather(first=2)], sky: Annotated[str, Dep(sky)], lm: LM) -> Out:
        raise NotImplementedError

    return graph


def test_the_page_holds_the_picture_nodes_prompts_dependencies_types_and_limits():
    page = declared().describe()

    headings = [line for line in page.splitlines() if line.startswith("#")]
    assert headings == [
        "# page",
        "## Nodes",
        "## Prompts",
        "## Dependencies, each called once per run",
        "## Types",
        "## Supervision and limits",
    ]
    assert declared().mermaid() in page
    assert "From `Ask` to `Out` in 3 nodes. It has 1 cycle." in page


def test_the_rows_of_the_nodes():
    rows = [line.rpartition(" | ")[0] for line in declared().describe().splitlines() if line.startswith("| `")]

    assert rows == [
        "| `split` | async function | `Ask` | many `Part` | 64 | 1, then `instead` | 5 s, 1.5 s idle",
        "| `work` | language model (`ChainOfThought`, `lm='large'`) | `Part` | `Part or Out` | 64 | 3 | none",
        "| `gather` | function in a worker thread | `list[Part]`, the first 2 | `Out` | 64 | 1 | none",
    ]


def test_prompts_dependencies_types_and_limits_in_words():
    lines = declared().describe().splitlines()

    assert "`work`, up to 2 answers until one can be read. It chooses the type first." in lines
    assert [line for line in lines if line.startswith(">")] == ["> Say what it is.", ">", "> In one word."]
    assert [line.partition(",")[0] for line in lines if line.startswith(("- `sky`", "- `town`"))] == [
        "- `sky` (async",
        "- `town` (thread",
    ]
    assert "- `Ask` — What is asked.: `text: str`, `tags: list[str]`" in lines
    assert "- `Part`: `number: int`" in lines
    assert "- `Out`: no fields" in lines
    assert "- Actors that are nodes: ONE_FOR_ALL, up to 2 restarts within 5 s, then ESCALATE." in lines
    assert "- Mailbox of `split`: 2 messages, REJECT when full." in lines
    assert "- Messages within a cycle queue regardless of the capacity, and `max_steps` bounds a run: `work`." in lines


def test_the_same_graph_gives_the_same_page():
    graph = declared()

    assert graph.describe() == graph.describe()


def test_problems_are_a_section_of_the_page():
    graph = declared()
    graph.connect("work", "nowhere")

    page = graph.describe()

    assert "## Problems\n\n- connect() at " in page
    assert page.index("## Problems") < page.index("## Nodes")


@attrs.frozen
class Sum:
    number: int


def add(total: Sum, part: Part) -> Sum:
    raise NotImplementedError


async def apologise(failure: NodeFailed) -> Out | None: ...


class Clerk(Actor):
    async def receive(self, message: Sum) -> Out: ...


def everything() -> Graph:
    graph = Graph("all", input=Ask, output=Out, fallback=apologise)

    @graph.predict(lm="small", stream=True)
    async def topic(ask: Ask, town: Annotated[str, Dep(town)]) -> Part:
        """Fill it."""
        ...

    @graph.node(lm="large", fallback=instead)
    async def split(ask: Ask, topic: Annotated[Part, Dep(topic)], lm: LM) -> list[Part]:
        raise NotImplementedError

    @graph.node
    async def total(
        total: Annotated[Sum, Gather(first=2, reduce=add, initial=Sum(0))],
        topic: Annotated[Part, Dep(topic)],
        ask: Annotated[Ask, Recall()],
        old: Annotated[Out | Sum | None, Recall()],
    ) -> Sum:
        raise NotImplementedError

    graph.connect(total, "Clerk")
    graph.add(Clerk)
    return graph


def test_folds_dependencies_on_nodes_streams_and_the_fallback_of_the_graph_are_told():
    lines = everything().describe().splitlines()

    assert [line.rpartition(" | ")[0] for line in lines if line.startswith("| `")] == [
        "| `topic` | language model, on demand (`Predict`, `lm='small'`, streamed) | `Ask` | `Part` | 64 | 3 | none",
        "| `split` | async function (`lm='large'`) | `Ask` | many `Part` | 64 | 1, then `instead` | none",
        (
            "| `total` | async function | `list[Part]`, the first 2, folded by `add` | `Sum` | 64 "
            "| 1, then the graph's `apologise` | none"
        ),
        "| `Clerk` | actor | `Sum` | `Out` | 64 asks | 1, then the graph's `apologise` | none",
    ]
    assert (
        "- A message that has had all its attempts at a node without its own fallback goes to the graph's, `apologise`: "
        "what it returns is the output of the run, and None ends the branch."
    ) in lines


def test_dependencies_say_for_which_nodes_they_are_and_recalled_types_to_which_they_come():
    lines = everything().describe().splitlines()

    dependencies = lines.index("## Dependencies, each called once per run")
    assert [line.rpartition("; ")[2] for line in lines[dependencies + 2 : dependencies + 4]] == [
        "for `topic`",
        "for `split`, `total`",
    ]
    recalled = lines.index("## Recalled on the way")
    assert lines[recalled + 2 : recalled + 5] == [
        "- `total` gets the latest `Ask`",
        "- `total` gets the latest `Out | Sum`, or None",
        "",
    ]
