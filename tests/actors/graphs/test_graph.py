"""Graphs as authors write them, the mistakes they make, and the exact words that they get back."""

# mypy: disable-error-code="empty-body"
# pyright: reportReturnType=false

from __future__ import annotations

import dataclasses
import pickle
from collections.abc import AsyncIterator
from typing import Annotated, Any, Optional

import attrs
import pydantic
import pytest

from actors.errors import DeclarationError, GraphInvalid, UsageError
from actors.graphs.graph import Graph
from actors.graphs.markers import Gather, Run
from actors.graphs.node import Kind
from actors.lm import LM
from actors.mailbox import MailboxSpec
from actors.restarts import Redelivery


@attrs.frozen
class Ask:
    text: str = ""


@attrs.frozen
class A:
    text: str = ""


@dataclasses.dataclass
class B:
    text: str = ""


class C(pydantic.BaseModel):
    text: str = ""


@attrs.frozen
class Out:
    text: str = ""


def new(**options) -> Graph:
    return Graph("g", input=Ask, output=Out, **options)


def codes(graph: Graph) -> list[tuple[str, str | None]]:
    return [(problem.code, problem.node) for problem in graph.check()]


def only(graph: Graph) -> tuple[str, str]:
    (problem,) = graph.check()
    return problem.message, problem.fix


def test_a_graph_of_all_three_kinds_of_message_types_has_no_problems():
    graph = new()

    @graph.predict(module="ChainOfThought", lm="large")
    async def one(ask: Ask) -> A:
        """Do it."""
        ...

    @graph.node
    def two(ask: Ask, run: Run) -> B:
        return B()

    @graph.node(name="three", concurrency=1, timeout_s=5)
    async def third(a: A, b: B, lm: LM) -> C:
        return C()

    @graph.node
    async def four(c: C) -> Out:
        return Out(c.text)

    assert graph.check() == []
    graph.check()
    assert list(graph.nodes) == ["one", "two", "three", "four"]
    assert [spec.kind for spec in graph.plan().nodes.values()] == [Kind.PREDICT, Kind.THREAD, Kind.FUNCTION, Kind.FUNCTION]
    assert graph.plan().nodes["one"].instruction == "Do it."


def test_a_node_stays_the_function_it_was():
    graph = new()

    @graph.node
    def shout(ask: Ask) -> Out:
        return Out(ask.text.upper())

    assert shout(Ask("a")) == Out("A")


def test_calling_a_predict_node_says_who_fills_it():
    graph = new()

    @graph.predict
    def fill(ask: Ask) -> Out:
        """Fill it."""
        ...

    with pytest.raises(
        UsageError, match=r"^'fill' is filled by a language model; it has no body to call \(.*test_graph.py:\d+\)\.\n  Fix: "
    ):
        fill(Ask())


def test_the_defaults_of_a_node():
    graph = new()
    graph.node(name="n")(_node)

    options = graph.nodes["n"].options

    assert options.concurrency == 64
    assert options.mailbox == MailboxSpec()
    assert options.redelivery == Redelivery(max_attempts=1)
    assert options.timeout_s is None


async def _node(ask: Ask) -> Out:
    raise NotImplementedError


NODE_OPTIONS = (
    "Expected one of: name, concurrency, mailbox, restart, redelivery, timeout_s, idle_timeout_s, late, fallback, repeatable, "
    "lm, effect, on_uncertain, place."
)
AN_LM = "the name of one of the runtime's lms, an LM, or None"
A_NAME = "a name is at least one printable character, without '/'"


@pytest.mark.parametrize(
    ("options", "what", "fix"),
    [
        ({"timeout": 3}, f"@graph.node has no option 'timeout'. {NODE_OPTIONS}", "write 'timeout_s'."),
        (
            {"module": "P"},
            f"@graph.node has no option 'module'. {NODE_OPTIONS}",
            "use @graph.predict(module=…), or leave 'module' out.",
        ),
        ({"zzz": 1}, f"@graph.node has no option 'zzz'. {NODE_OPTIONS}", "leave 'zzz' out."),
        (
            {"concurrency": 0},
            "NodeOptions(concurrency=0): expected a whole number >= 1.",
            "pass a whole number >= 1 as 'concurrency'.",
        ),
        (
            {"timeout_s": -1},
            "NodeOptions(timeout_s=-1): expected None or a number > 0.",
            "pass None or a number > 0 as 'timeout_s'.",
        ),
        ({"mailbox": 64}, "NodeOptions(mailbox=64): expected a MailboxSpec.", "mailbox=MailboxSpec(capacity=64)."),
        ({"lm": 3}, f"NodeOptions(lm=3): expected {AN_LM}.", f"pass {AN_LM} as 'lm'."),
        ({"name": "a/b"}, f"'a/b' cannot name an actor: {A_NAME}.", "'a-b', for example."),
        ({"name": "a\u202eb"}, f"'a\\u202eb' cannot name an actor: {A_NAME}.", "'a-b', for example."),
        ({"name": "<svg>\0</svg>"}, f"'<svg>\\x00</svg>' cannot name an actor: {A_NAME}.", "'<svg>-<-svg>', for example."),
    ],
)
def test_wrong_options_are_refused_at_the_decorator(options, what, fix):
    with pytest.raises(DeclarationError) as caught:
        new().node(**options)(_node)

    assert str(caught.value).endswith(f"): {what}\n  Fix: {fix}")
    assert str(caught.value).startswith(f"node {options.get('name', '_node')!r} (")


class AClass:
    def method(self, ask: Ask) -> Out: ...


@pytest.mark.parametrize(
    ("what", "message"),
    [
        (lambda ask: ask, "a lambda.\n  Fix: give it a name and annotations: async def name(message: A) -> B: …"),
        (print, "the built-in 'print'.\n  Fix: call it from an annotated function and decorate that."),
        (AClass().method, "the method 'AClass.method'.\n  Fix: decorate a function at the top level that calls the method."),
        ("name", "'name'.\n  Fix: options go by name: @graph.node(name='name')."),
        (3, "3.\n  Fix: decorate an 'async def' or a 'def'."),
    ],
)
def test_only_functions_and_classes_can_be_decorated(what, message):
    with pytest.raises(DeclarationError) as caught:
        new().node(what)

    assert str(caught.value) == f"@graph.node: expected a function or a message class. Got: {message}"


def test_a_name_is_given_once_and_a_function_is_decorated_once():
    graph = new()
    graph.node(_node)

    async def other(ask: Ask) -> Out:
        raise NotImplementedError

    with pytest.raises(
        DeclarationError, match=r"^node '_node' \(.*\): graph 'g' already has a node of that name \(.*\)\.\n  Fix: rename"
    ):
        graph.node(name="_node")(other)
    with pytest.raises(
        DeclarationError, match=r"^node 'again' \(.*\): the same function is already the node '_node' of graph 'g'\.\n"
    ):
        graph.node(name="again")(_node)


@pytest.mark.parametrize(("role", "types"), [("input", (str, Out)), ("output", (Ask, None)), ("input", (list[A], Out))])
def test_input_and_output_are_message_types(role, types):
    with pytest.raises(
        DeclarationError, match=rf"^Graph\('g', {role}=.*\): expected a message type .*\.\n  Fix: put @attrs.frozen on"
    ):
        Graph("g", input=types[0], output=types[1])


def test_all_problems_are_reported_at_once_and_the_error_survives_pickle():
    graph = new()

    @graph.node
    async def first(ask) -> Missing:  # type: ignore[name-defined]  # noqa: F821  # pyright: ignore
        raise NotImplementedError

    @graph.node
    async def last(a: A, text: str, *more: A): ...

    with pytest.raises(GraphInvalid) as caught:
        graph.plan()

    lines = str(caught.value).splitlines()
    assert lines[0] == "graph 'g' has 5 problems:"
    assert [line[2:4] for line in lines[1::2]] == ["1.", "2.", "3.", "4.", "5."]
    assert [problem.code for problem in caught.value.problems] == [
        "missing-annotation", "unresolved-annotation", "not-a-message", "unusable-parameter", "missing-annotation",
    ]  # fmt: skip
    assert list(caught.value.problems) == graph.check()
    assert all(problem.file == __file__ and problem.line for problem in caught.value.problems)
    assert all(problem.location and "test_graph.py:" in problem.location for problem in caught.value.problems)
    assert pickle.loads(pickle.dumps(caught.value)).problems == caught.value.problems


def test_an_unresolvable_name_is_named_with_node_file_and_line():
    graph = new()

    @graph.node
    async def first(ask: Ask) -> Missing | Out:  # type: ignore[name-defined]  # noqa: F821  # pyright: ignore
        raise NotImplementedError

    (problem,) = graph.check()

    line = first.__code__.co_firstlineno
    name = "the name 'Missing' in the annotation 'Missing | Out' is not defined where the node is."
    fix = "import or define 'Missing' before the graph is checked (an import under TYPE_CHECKING does not count)."
    place = f"node 'first' ({__file__}:{line})"
    assert str(problem) == f"{place}: return type: {name}\n    Fix: {fix} [unresolved-annotation]"


def test_types_that_nobody_takes_or_makes():
    graph = new()

    @graph.node
    async def first(ask: Ask) -> A | Out:
        raise NotImplementedError

    @graph.node
    async def last(b: B) -> Out:
        raise NotImplementedError

    assert codes(graph) == [("type-not-taken", "first"), ("type-not-made", "last")]


def test_two_classes_of_one_name_are_told_apart():
    graph = new()
    other = attrs.make_class("A", ["text"], frozen=True)

    @graph.node
    async def first(ask: Ask) -> A | Out:
        raise NotImplementedError

    async def last(a) -> Out:
        raise NotImplementedError

    last.__annotations__["a"] = other
    graph.node(last)

    assert graph.check()[1].message == (
        f"parameter 'a' takes A, which no node sends it. (A {__name__}.A is made, which is another class of that name.)"
    )


def test_input_that_nobody_takes_and_output_that_nobody_makes():
    graph = new()

    @graph.node
    async def loop(a: A) -> A | None: ...

    assert codes(graph) == [("input-not-taken", None), ("output-not-made", None), ("unreachable-node", "loop")]


def test_an_empty_graph():
    assert only(new()) == ("it has no nodes.", "decorate a function with @graph.node or @graph.predict.")


def test_a_join_of_alternatives_cannot_complete():
    graph = new()

    @graph.node
    async def choose(ask: Ask) -> A | B:
        raise NotImplementedError

    @graph.node
    async def join(a: A, b: B) -> Out:
        raise NotImplementedError

    assert only(graph) == (
        "it waits for 'a' (A) and 'b' (B), which are alternatives: a run makes one or the other.",
        "make one optional (b: B | None), or take either in one parameter (a: A | B).",
    )


def test_a_join_of_alternatives_in_a_loop_or_with_an_optional_one_is_fine():
    graph = new()

    @graph.node
    async def choose(ask: Ask) -> A | B:
        raise NotImplementedError

    @graph.node
    async def again(a: A) -> Ask:
        raise NotImplementedError

    @graph.node
    async def join(a: A, b: B) -> Out:
        raise NotImplementedError

    assert graph.check() == []

    graph = new()
    graph.node(choose)

    @graph.node
    async def optional(a: A, b: B | None) -> Out:
        raise NotImplementedError

    assert graph.check() == []


def test_a_join_of_items_of_two_fan_outs_cannot_complete():
    graph = new()

    @graph.node
    async def left(ask: Ask) -> list[A]:
        raise NotImplementedError

    @graph.node
    async def right(ask: Ask) -> AsyncIterator[B]:
        yield B()

    @graph.node
    async def join(a: A, b: B) -> Out:
        raise NotImplementedError

    assert codes(graph) == [("join-across-fan-outs", "join")]


def test_a_gather_needs_a_fan_out():
    graph = new()

    @graph.node
    async def one(ask: Ask) -> A:
        raise NotImplementedError

    @graph.node
    async def gather(items: list[A]) -> Out:
        raise NotImplementedError

    text, fix = only(graph)
    assert text.startswith("parameter 'items' gathers a list, but gets messages that 'one' makes outside of any fan-out (no node")
    assert fix == "let a node return list[…] to fan out, or take the message itself instead of a list."


def test_a_gather_from_a_fan_out_and_from_one_inside_of_it_is_ambiguous():
    graph = new()

    @graph.node
    async def outer(ask: Ask) -> list[A]:
        raise NotImplementedError

    @graph.node
    async def inner(a: A) -> list[B]:
        raise NotImplementedError

    @graph.node
    async def direct(a: A) -> C:
        raise NotImplementedError

    @graph.node
    async def deep(b: B) -> C:
        raise NotImplementedError

    @graph.node
    async def gather(cs: list[C]) -> Out:
        raise NotImplementedError

    assert ("gather-ambiguous", "gather") in codes(graph)


def test_the_output_type_that_a_node_takes_as_well_is_ambiguous_until_connected():
    graph = new()

    @graph.node
    async def write(ask: Ask) -> Out:
        raise NotImplementedError

    @graph.node
    async def review(draft: Out) -> Out | None: ...

    assert codes(graph) == [("ambiguous-output", "review")]

    graph.connect(write, review)
    graph.connect(review, review, when=lambda out: not out.text)

    assert graph.check() == []


def test_a_fan_out_of_the_output_is_ambiguous():
    graph = new()

    @graph.node
    async def many(ask: Ask) -> list[Out]:
        raise NotImplementedError

    assert codes(graph) == [("ambiguous-output", "many")]


def test_a_cycle_without_a_way_out():
    graph = new()

    @graph.node
    async def ping(ask: Ask) -> A:
        raise NotImplementedError

    @graph.node
    async def pong(a: A) -> Ask:
        raise NotImplementedError

    @graph.node
    async def end(ask: Ask) -> Out:
        raise NotImplementedError

    assert codes(graph) == []  # the same message that goes round also goes to `end`

    graph = new()
    graph.node(ping)
    graph.node(pong)

    assert codes(graph) == [("output-not-made", None), ("endless-loop", "ping")]


def test_predict_nodes_fill_one_message_and_have_no_body():
    graph = new()

    @graph.predict
    async def many(ask: Ask) -> list[A]:
        """Fill it."""
        return [A()]

    @graph.predict
    def fine(a: A) -> Out | None:
        """Only words."""
        ...

    @graph.predict
    def nothing(a: A) -> None:
        """Fill it."""
        ...

    assert codes(graph) == [("predict-return", "many"), ("predict-body", "many"), ("predict-return", "nothing")]
    assert [problem.message for problem in graph.check() if problem.code == "predict-return"] == [
        "the language model fills one message, and the return type is a list.",
        "the language model fills one message, and the return type is None.",
    ]


def test_a_positional_only_parameter_is_refused():
    graph = new()

    @graph.node
    async def work(ask: Ask, /) -> Out:
        raise NotImplementedError

    assert only(graph) == (
        "parameter 'ask': nodes are called by keyword, and it is positional only.",
        "remove the '/'.",
    )


def test_what_yields_is_annotated_as_a_stream_and_the_other_way_round():
    graph = new()

    @graph.node
    async def wrong(ask: Ask) -> list[A]:  # type: ignore[misc]
        yield A()

    @graph.node
    async def never(a: A) -> AsyncIterator[B]:
        raise NotImplementedError

    @graph.node
    def generator(b: B) -> Out:  # type: ignore[misc]
        yield Out()

    assert [code for code, _ in codes(graph)] == ["wrong-stream"] * 3


def test_connect_to_what_is_no_node_or_shares_no_type():
    graph = new()

    @graph.node
    async def end(ask: Ask) -> Out:
        raise NotImplementedError

    @graph.node
    async def log(ask: Ask) -> None: ...

    graph.connect(_node, end)
    graph.connect("edn", log)
    graph.connect(end, log)

    assert [problem.message.partition(": ")[2] for problem in graph.check()[1:]] == [
        "_node is not a node of the graph: 'end' and 'log'.",
        "'edn' is not a node of the graph: 'end' and 'log'.",
    ]
    assert graph.check()[0].message == "connect(end, log) has no effect: 'log' takes Ask, and 'end' makes Out."
    with pytest.raises(DeclarationError, match=r"^connect\(…, when=3\) \(.*\): expected a function of the message\.\n  Fix: "):
        graph.connect(end, log, when=3)  # type: ignore[arg-type]


def test_gather_takes_a_whole_number_and_goes_with_a_list():
    with pytest.raises(DeclarationError, match=r"^Gather\(first=0\): expected a whole number >= 1 or None\."):
        Gather(first=0)

    graph = new()

    @graph.node
    async def wrong(ask: Annotated[Ask, Gather(first=1)]) -> Out:
        raise NotImplementedError

    assert only(graph)[0] == "parameter 'ask': Gather declares how a list is gathered."


def test_the_plan_is_kept_until_the_graph_changes():
    graph = new()
    graph.node(_node)
    plan = graph.plan()

    assert graph.plan() is plan

    @graph.node
    async def more(ask: Ask) -> None: ...

    assert graph.plan() is not plan


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (3, {}, "Graph(3): expected a name first.\n  Fix: Graph('my-graph', input=A, output=B)."),
        (
            "g",
            {"supervision": 3},
            "Graph('g', supervision=3): expected a Supervision.\n  Fix: supervision=Supervision(max_restarts=10), for example.",
        ),
    ],
)
def test_a_graph_is_begun_with_a_name_and_supervision(name, options, message):
    with pytest.raises(DeclarationError) as caught:
        Graph(name, input=Ask, output=Out, **options)

    assert str(caught.value) == message


def test_an_input_that_is_not_defined_is_named():
    optional: Any = Optional
    with pytest.raises(
        DeclarationError, match=r"^Graph\('g', input=…\): the name 'Nope' in the annotation 'Nope' is not defined"
    ):
        Graph("g", input=optional["Nope"], output=Out)


def test_parameters_that_cannot_be():
    graph = new()

    @graph.node
    async def one(items: AsyncIterator[A]) -> Out:
        """A stream cannot be a parameter."""
        raise NotImplementedError

    @graph.node
    async def two(items: Annotated[list[A], Gather]) -> Out:
        """The class is no marker."""
        raise NotImplementedError

    @graph.node
    async def three(nothing: None) -> Out:
        """None is no message."""
        raise NotImplementedError

    @graph.node
    async def four(run: Run) -> Out:
        """Nothing would start it."""
        raise NotImplementedError

    assert [problem.message for problem in graph.check()][:4] == [
        "parameter 'items': a stream cannot be a parameter.",
        "parameter 'items': Gather is the marker's class, not a marker.",
        "parameter 'nothing': None is not a message.",
        "it takes no message, so nothing would ever start it.",
    ]


def test_a_class_without_attrs_is_told_what_it_lacks():
    graph = new()

    class Plain:
        pass

    @graph.node
    async def one(plain: Plain) -> Out:
        raise NotImplementedError

    text, fix = graph.check()[0].message, graph.check()[0].fix

    assert text.startswith(
        "parameter 'plain': Plain is neither a message type (attrs class, dataclass or pydantic model) nor inj"
    )
    assert fix == "put @attrs.frozen on the class Plain."


def test_repr_counts_the_nodes():
    graph = new()
    graph.node(_node)

    assert repr(graph) == "<Graph 'g': 1 node>"
