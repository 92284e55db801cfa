"""An exception or a message whose own methods raise is put into text all the same, and hangs nothing."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest
import trio

from actors import (
    ActorFailed,
    Backoff,
    Failure,
    Gather,
    Graph,
    Redelivery,
    RunFailed,
    StopReason,
    Supervision,
    Terminated,
    UsageError,
)
from actors.groups import bare, without
from actors.words import add_note, attribute_of, cut, kind_of, repr_of, said, words_of
from runtime import open_runtime
from runtime.cli.failed_run import describe
from runtime.core.dead_letters import DeadLetter, DeadReason
from runtime.core.events import ActorCrashed, ActorEnded
from runtime.graphs.records.run_events import RunFinished, RunStarted
from runtime.graphs.records.run_record import RunStatus
from runtime.testing.traces import event_line
from tests.runtime.cast import Echo

ROOT = Path(__file__).resolve().parents[2]


class Typo(Exception):
    def __str__(self):
        return f"{self.cod}"  # type: ignore[attr-defined]  # the typo that the test is about


class Recursive(Exception):
    def __str__(self):
        return str(self)

    __repr__ = __str__


class BadRepr(Exception):
    def __repr__(self):
        raise ZeroDivisionError("in it")


class NoRepr:
    def __repr__(self):
        raise ZeroDivisionError("in it")


class Text(str):
    def __format__(self, spec):
        raise ZeroDivisionError

    __str__ = __repr__ = __format__  # type: ignore[assignment]


class SaysText(Exception):
    def __str__(self):
        return Text("text")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (KeyError("name"), "KeyError: 'name'"),
        (LookupError(), "LookupError: "),
        (Typo(), "Typo: (no text: its __str__ raised AttributeError: 'Typo' object has no attribute 'cod')"),
        (SaysText(), "SaysText: text"),
        (ExceptionGroup("two", [Typo()]), "ExceptionGroup: two (1 sub-exception)"),
    ],
)
def test_a2_an_error_is_said_by_its_class_and_its_words(error, text):
    assert said(error) == text


def test_a2_text_without_end_and_of_any_size_is_cut():
    assert said(Recursive()).startswith("Recursive: (no text: its __str__ raised RecursionError: ")
    assert words_of(ValueError("x" * 1_000_000 + "end")).endswith("xend")
    assert len(words_of(ValueError("x" * 1_000_000))) < 4_100
    assert len(repr_of(["x" * 1_000_000])) < 500
    assert len(repr_of("x" * 10_000_000)) < 500
    assert repr_of(list(range(10**6))) == "a list of 1000000 items"
    assert cut("abcdefghi", 6) == "abcd … (3 characters left out) … hi"


def test_a2_a_value_is_shown_as_its_repr_or_with_what_its_repr_raised():
    assert repr_of({"a": (1, "b")}) == "{'a': (1, 'b')}"
    assert repr_of(NoRepr()) == "(no text: its __repr__ raised ZeroDivisionError: in it)"
    assert repr_of([NoRepr()]) == "(no text: its __repr__ raised ZeroDivisionError: in it)"


@pytest.mark.parametrize("error", [ValueError("x" * 1_000_000), BadRepr()], ids=["long", "broken"])
async def test_a2_what_carries_an_error_has_a_repr_of_bounded_size(error):
    output = ["x" * 1_000_000]
    carriers = [
        Terminated(None, StopReason.FAILED, error),
        Failure(error),
        ActorCrashed(address="a", incarnation=1, error=error),
        ActorEnded(address="a", incarnation=1, reason=StopReason.FAILED, error=error),
        RunStarted(run_id="r", graph="g", input=output),
        RunFinished(run_id="r", status=RunStatus.FAILED, output=output, error=error),
        DeadLetter("a", DeadReason.FAILED, output, None, 0.0, error=error),
    ]

    assert all(len(repr(carrier)) < 1_500 for carrier in carriers)


def test_a2_a_class_that_hides_its_name_is_named():
    class Meta(type):
        @property
        def __name__(cls):  # type: ignore[override]
            raise ZeroDivisionError

    class Hidden(metaclass=Meta):
        pass

    assert kind_of(Hidden()) == "Hidden"


def test_a2_what_cannot_be_asked_or_noted_is_let_be():
    class Closed(Exception):
        def __getattr__(self, name):
            raise KeyError(name)

        def __setattr__(self, name, value):
            raise AttributeError(name)

    error = Closed()
    add_note(error, "a note")

    assert attribute_of(error, "retryable") is None
    assert Redelivery(max_attempts=2).wants(error, 1)
    assert bare(error) is not None


def test_a2_a_group_that_cannot_be_split_is_judged_by_its_leaves():
    class Stubborn(ExceptionGroup[Exception]):
        def derive(self, excs):
            raise ZeroDivisionError

    value, lookup = ValueError(), LookupError()
    group = Stubborn("both", [value, lookup])
    left = without(group, ValueError)

    assert without(group, KeyError) is group
    assert isinstance(left, BaseExceptionGroup)
    assert left.exceptions == (lookup,)


# --- where it is used -------------------------------------------------------------------------------------------------


@attrs.frozen
class In:
    v: int

    def __repr__(self) -> str:
        raise ZeroDivisionError


@attrs.frozen
class Out:
    v: int


async def test_a2_a_run_whose_input_has_no_text_fails_in_time_and_is_described(autojump_clock):
    graph = Graph("g", input=In, output=Out)

    @graph.node(redelivery=Redelivery(max_attempts=1))
    async def node(given: In) -> Out:
        raise Typo

    with trio.fail_after(10), pytest.raises(RunFailed) as caught:
        async with open_runtime() as runtime:
            await runtime.run(graph, In(1))

    [what, place, given] = describe(caught.value).splitlines()
    assert place.endswith(" in node: raise Typo")
    assert given.startswith("  input: (no text: ")
    assert what == (
        "understudy: node 'node' failed (attempt 1): "
        "Typo: (no text: its __str__ raised AttributeError: 'Typo' object has no attribute 'cod')"
    )


async def test_a2_an_ask_and_its_events_survive_errors_without_a_text(autojump_clock):
    lines = []

    with trio.fail_after(10):
        async with open_runtime(
            instruments=[lambda event: lines.append(event_line(event))], supervision=Supervision(backoff=Backoff(first_s=0))
        ) as runtime:
            ref = await runtime.spawn(Echo, name="a")
            with pytest.raises(ActorFailed, match=r"Typo: \(no text: its __str__ raised AttributeError"):
                await ref.ask(Typo())
            assert isinstance(runtime.dead_letters[0].error, Typo)
            assert await ref.ask(1) == 1

    assert any("ActorCrashed address=a" in line for line in lines)


async def test_a2_what_is_no_ref_and_has_no_text_is_refused_in_words(autojump_clock):
    async with open_runtime() as runtime:
        with pytest.raises(UsageError, match=r"^\(no text: its __repr__ raised ZeroDivisionError: in it\) isn't a ref"):
            await runtime.stop(NoRepr())  # type: ignore[arg-type]
        with pytest.raises(UsageError, match=r"^expected a Graph\. Got: \(no text:"):
            await runtime.run(NoRepr(), 1)  # type: ignore[arg-type]


async def test_a2_a_ring_of_causes_out_of_a_module_ends_as_its_error(autojump_clock):
    from runtime.lm.dspy.bridge import _cause_of

    one, two = ValueError("one"), ValueError("two")
    one.__cause__, two.__cause__ = two, one

    assert _cause_of(one) is None


def test_a2_options_that_have_no_text_are_refused_in_words():
    with pytest.raises(Exception, match="no text"):
        Redelivery(max_attempts=NoRepr())  # type: ignore[arg-type]
    with pytest.raises(Exception, match="no text"):
        Gather(first=NoRepr())  # type: ignore[arg-type]


def bare_uses(path: Path) -> Iterator[str]:
    """Where a handler of just any exception puts it into text by itself."""
    for handler in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(handler, ast.ExceptHandler) or handler.name is None or handler.type is None:
            continue
        caught = {node.id for node in ast.walk(handler.type) if isinstance(node, ast.Name)}
        if not caught & {"Exception", "BaseException"}:
            continue
        for node in ast.walk(handler):
            match node:
                case (
                    ast.FormattedValue(value=ast.Name(id=handler.name))
                    | ast.Call(func=ast.Name(id="str" | "repr"), args=[ast.Name(id=handler.name)])
                ):
                    yield f"{path.relative_to(ROOT)}:{node.lineno}"


def test_a2_no_handler_of_any_exception_puts_it_into_text_by_itself():
    """Use ``said``, ``words_of`` or ``repr_of`` of ``actors.words``."""
    files = [path for package in ("actors", "runtime") for path in (ROOT / package).rglob("*.py")]

    assert [use for path in files if path.name != "words.py" for use in bare_uses(path)] == []
