"""Classes that are message and handler in one: what they declare, where their messages go, what is refused."""

# mypy: disable-error-code="empty-body"
# pyright: reportReturnType=false

from __future__ import annotations

import dataclasses

import attrs
import pydantic
import pytest

from actors.errors import DeclarationError
from actors.graphs.dependencies import Injected
from actors.graphs.graph import Graph
from actors.graphs.markers import Run
from actors.graphs.node import Kind
from actors.lm import LM
from runtime.graphs.reducer.routing import RoutingTable


@attrs.frozen
class Ask:
    text: str = ""


@attrs.frozen
class Out:
    text: str = ""


def new() -> Graph:
    return Graph("g", input=Ask, output=Out)


def test_attrs_dataclass_and_pydantic_classes_are_nodes_beside_functions():
    graph = new()

    @graph.node
    async def begin(ask: Ask) -> First:
        raise NotImplementedError

    @graph.predict
    @attrs.frozen
    class First:
        """Decide it."""

        text: str

        async def __call__(self) -> Second | Third: ...

    @graph.node
    @dataclasses.dataclass
    class Second:
        text: str

        async def __call__(self, lm: LM, run: Run) -> Third:
            return Third(text=self.text)

    @graph.node
    class Third(pydantic.BaseModel):
        text: str

        def __call__(self) -> Out | None:
            return Out(self.text)

    assert graph.check() == []
    assert [(spec.name, spec.kind) for spec in graph.plan().nodes.values()] == [
        ("begin", Kind.FUNCTION),
        ("First", Kind.PREDICT),
        ("Second", Kind.FUNCTION),
        ("Third", Kind.THREAD),
    ]
    assert graph.plan().nodes["Second"].injected == {"lm": Injected.LM, "run": Injected.RUN}


def test_a_class_works_on_one_message_at_a_time_unless_told_otherwise():
    graph = new()

    @graph.predict
    @attrs.frozen
    class One:
        """Decide it."""

        async def __call__(self) -> Out: ...

    @graph.predict(concurrency=8, module="ChainOfThought", name="eight")
    @attrs.frozen
    class Many:
        """Decide it."""

        async def __call__(self) -> Out: ...

    one, many = graph.nodes["One"], graph.nodes["eight"]
    assert (one.options.concurrency, many.options.concurrency) == (1, 8)
    assert many.predict is not None
    assert many.predict.module == "ChainOfThought"


def test_the_instruction_is_the_docstring_of_the_call_or_else_of_the_class():
    graph = new()

    @graph.predict
    @attrs.frozen
    class Told:
        """What it is."""

        async def __call__(self) -> Untold:
            """What to do."""
            ...

    @graph.predict
    @dataclasses.dataclass
    class Untold:
        """Say it."""

        text: str

        async def __call__(self) -> Silent: ...

    @graph.predict
    @dataclasses.dataclass
    class Silent:
        text: str

        async def __call__(self) -> Out: ...

    specs = graph._compile()[0].nodes
    assert [spec.instruction for spec in specs.values()] == ["What to do.", "Say it.", ""]


def test_a_subclass_that_is_a_node_gets_its_own_messages_and_others_go_to_the_base():
    @attrs.frozen
    class Plain:
        async def __call__(self) -> Out:
            raise NotImplementedError

    @attrs.frozen
    class Own(Plain):
        async def __call__(self) -> Out:
            raise NotImplementedError

    @attrs.frozen
    class Other(Plain):
        pass

    graph = new()

    @graph.node
    async def begin(ask: Ask) -> Own | Other:
        raise NotImplementedError

    graph.node(Plain)
    graph.node(Own)
    routing = RoutingTable(graph.plan())

    assert [to.spec.name for to in routing.route("begin", Own()).destinations] == ["Own"]
    assert [to.spec.name for to in routing.route("begin", Other()).destinations] == ["Plain"]


def test_classes_are_connected_like_functions():
    graph = new()

    @graph.predict
    @attrs.frozen
    class Begin:
        """Decide it."""

        async def __call__(self) -> Out: ...

    @graph.node
    async def start(ask: Ask) -> Begin:
        raise NotImplementedError

    graph.connect(start, Begin)
    assert [(edge.source, edge.target) for edge in graph.plan().edges] == [(None, "start"), ("Begin", None), ("start", "Begin")]


class NoMessage:
    async def __call__(self) -> Out: ...


@attrs.frozen
class NoCall:
    text: str = ""


@attrs.frozen
class WithBody:
    async def __call__(self) -> Out:
        return Out()


NO_MESSAGE = """@graph.node: the class 'NoMessage' isn't a message type (attrs class, dataclass or pydantic model).
  Fix: put @graph.node above @attrs.frozen, so it decorates the finished class."""
NO_CALL = """@graph.node: the class 'NoCall' has no method __call__, so there is nothing to run.
  Fix: add 'async def __call__(self) -> A | None: …', with a body under @graph.node, and with '...' under @graph.predict."""
NO_CHOICE = "  Fix: use @graph.predict(module=…), or leave 'module' out."


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [(NoMessage, {}, NO_MESSAGE), (NoCall, {}, NO_CALL), (WithBody, {"module": "Predict"}, NO_CHOICE)],
)
def test_a_class_that_cannot_be_a_node_is_told_why(kind, options, message):
    with pytest.raises(DeclarationError) as caught:
        new().node(**options)(kind)

    assert str(caught.value).endswith(message)


def test_a_class_is_a_node_once():
    graph = new()
    graph.node(WithBody)

    with pytest.raises(DeclarationError) as caught:
        graph.node(name="again")(WithBody)

    assert str(caught.value).endswith(
        "the same class is already the node 'WithBody' of graph 'g'.\n  Fix: remove one decorator, or define a subclass."
    )


def test_a_class_with_a_body_has_nothing_for_a_language_model_to_fill():
    graph = Graph("g", input=WithBody, output=Out)
    graph.predict(WithBody)

    assert [problem.code for problem in graph.check()] == ["predict-body"]


def test_a_class_that_returns_nothing_ends_its_branch_and_needs_no_language_model():
    graph = new()

    @graph.node
    async def begin(ask: Ask) -> list[Last | Final]:
        raise NotImplementedError

    @graph.node
    @attrs.frozen
    class Last:
        async def __call__(self) -> None: ...

    @graph.predict
    @attrs.frozen
    class Final:
        """Decide it."""

        async def __call__(self) -> Note: ...

    @attrs.frozen
    class Note:
        pass

    @graph.node
    async def end(notes: list[Note]) -> Out:
        raise NotImplementedError

    assert graph.check() == []
    assert graph.plan().nodes["Last"].kind is Kind.FUNCTION
