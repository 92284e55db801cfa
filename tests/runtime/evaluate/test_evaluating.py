"""Graphs run on every row: what is counted, what is kept, and what is left behind."""

from __future__ import annotations

import csv
import math
import statistics
from fractions import Fraction
from pathlib import Path
from typing import Any

import attrs
import httpx
import pytest
import trio
from trio.testing import MockClock

from actors import LM, Graph
from actors.errors import DeclarationError, UsageError
from runtime import open_runtime
from runtime.evaluate import (
    Dataset,
    Evaluation,
    Metric,
    Progress,
    RowResult,
    Score,
    compare,
    compared,
    cost,
    evaluate,
    exact,
    latency,
    steps,
)
from runtime.evaluate.progress import RunningMean
from runtime.evaluate.report import to_html, to_text
from runtime.lm.limits.budget import Budget
from runtime.lm.limits.cache import MemoryCache
from runtime.lm.limits.retry import Retry
from runtime.testing.network import Exchange, VirtualNetwork
from tests.runtime.evaluate.grading import Sum, Total, adding, rows


async def test_every_row_is_run_and_judged(autojump_clock: MockClock) -> None:
    graph = adding(wrong=frozenset({3}), fails=frozenset({5}))
    told: list[Progress] = []

    async with open_runtime() as runtime:
        done = await evaluate(runtime, graph, rows(8), exact, told=told.append)

    assert done.mean() == 6 / 8
    assert [row.id for row in done.failed] == ["r5"]
    assert "ValueError: 5 is too much" in (done.failed[0].error or "")
    assert [row.id for row in done.results] == [f"r{at}" for at in range(8)]
    assert [row.latency_s for row in done.results] == list(range(8))
    assert (told[-1].done, told[-1].of, told[-1].mean) == (8, 8, 6 / 8)
    assert [row.id for row in done.worst(2)] == ["r5", "r3"]


async def test_only_so_many_runs_are_under_way(autojump_clock: MockClock) -> None:
    running, most = 0, 0
    graph = Graph("counted", input=Sum, output=Total)

    @graph.node
    async def add(given: Sum) -> Total:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await trio.sleep(1)
        running -= 1
        return Total(0)

    async with open_runtime() as runtime:
        await evaluate(runtime, graph, rows(20), [lambda *_: True], at_once=3)

    assert most == 3


async def test_repetitions_are_averaged_by_row(autojump_clock: MockClock) -> None:
    asked: list[int] = []

    def every_other(example: Any, output: Any, trace: Any) -> bool:
        asked.append(example.left)
        return asked.count(example.left) % 2 == 0

    async with open_runtime() as runtime:
        done = await evaluate(runtime, adding(), rows(3), every_other, repeats=4)

    assert done.scores() == {"r0": 0.5, "r1": 0.5, "r2": 0.5}
    assert len(done.results) == 12


async def test_a_metric_that_raises_is_a_low_score_with_its_reason(autojump_clock: MockClock) -> None:
    def picky(example: Any, output: Any, trace: Any) -> float:
        return float(1 / output.value)

    async with open_runtime() as runtime:
        done = await evaluate(runtime, adding(), [{"left": 0, "right": 0}], picky)

    assert done.mean() == 0
    assert done.results[0].reasons == {"picky": "the metric raised ZeroDivisionError: division by zero"}


@pytest.mark.parametrize("said", [None, "good", math.nan, [1]])
async def test_what_is_no_score_ends_the_evaluation(said: Any, autojump_clock: MockClock) -> None:
    async with open_runtime() as runtime:
        with pytest.raises(DeclarationError, match=r"metric 'wrong' gave .*: expected True or False, a finite"):
            await evaluate(runtime, adding(), rows(3), Metric("wrong", lambda *_: said))
        assert not runtime.runs()


async def test_a_graph_can_be_the_metric(autojump_clock: MockClock) -> None:
    import attrs

    @attrs.frozen
    class Question:
        expected: int
        output: Total
        left: int

    @attrs.frozen
    class Verdict:
        score: float
        reason: str

    judge = Graph("judge", input=Question, output=Verdict)

    @judge.node
    async def look(question: Question) -> Verdict:
        return Verdict(0.25, f"{question.left}: {question.output.value} for {question.expected}")

    async with open_runtime() as runtime:
        done = await evaluate(runtime, adding(), rows(2), [exact, judge])

    assert done.mean("judge") == 0.25
    assert done.results[1].reasons == {"judge": "1: 2 for 2"}
    with pytest.raises(UsageError, match=r"no metric 'other' was evaluated"):
        done.mean("other")


async def test_what_was_done_is_not_done_again(tmp_path: Path, autojump_clock: MockClock) -> None:
    out, made = tmp_path / "out" / "results.jsonl", []
    graph = Graph("adding", input=Sum, output=Total)

    @graph.node
    async def add(given: Sum) -> Total:
        made.append(given.left)
        await trio.sleep(given.left)
        return Total(given.left + given.right)

    async with open_runtime() as runtime:
        with trio.move_on_after(3.5):
            await evaluate(runtime, graph, rows(8), exact, out=out, at_once=2)
        assert not runtime.runs()
        before = Evaluation.load(out)
        with out.open("a") as file:
            file.write('{"id": "r7", "rep')  # cut in the middle by a crash
        begun = len(made)
        done = await evaluate(runtime, graph, rows(8), exact, out=out)

    assert {row.id for row in before.results} == {"r0", "r1", "r2"}
    assert sorted(made[begun:]) == [3, 4, 5, 6, 7]
    assert done.mean() == 1
    assert Evaluation.load(out).results == tuple(sorted(Evaluation.load(out).results, key=lambda row: row.id))
    assert {row.id for row in Evaluation.load(out).results} == {f"r{at}" for at in range(8)}


async def test_a_file_of_another_evaluation_is_left_alone(tmp_path: Path, autojump_clock: MockClock) -> None:
    out = tmp_path / "results.jsonl"
    async with open_runtime() as runtime:
        await evaluate(runtime, adding(), rows(2), exact, out=out)
        text = out.read_text()
        with pytest.raises(UsageError, match=r"holds an evaluation of graph 'adding' by exact, not of 'other' by exact"):
            await evaluate(runtime, adding("other"), rows(2), exact, out=out)
        assert out.read_text() == text
        out.write_text("hello\n")
        with pytest.raises(UsageError, match="isn't the file of an evaluation"):
            await evaluate(runtime, adding(), rows(2), exact, out=out)


async def test_a_row_whose_labels_or_input_have_changed_is_judged_again(tmp_path: Path, autojump_clock: MockClock) -> None:
    """Scores by a label that was wrong were kept for ever, and a changed row was counted twice by whoever loaded the file."""
    out, before = tmp_path / "results.jsonl", rows(3)
    before[1]["expected"] = 7
    async with open_runtime() as runtime:
        first = await evaluate(runtime, adding(), before, exact, out=out)
        second = await evaluate(runtime, adding(), rows(3), exact, out=out)
        changed = [*rows(2), {"id": "r2", "left": 5, "right": 5, "expected": 11}]
        third = await evaluate(runtime, adding(), changed, exact, out=out)
        assert Evaluation.load(out).scores() == third.scores()
        again = await evaluate(runtime, adding(), rows(3), exact, out=out)

    assert (first.mean(), second.mean(), third.mean(), again.mean()) == (2 / 3, 1, 2 / 3, 1)
    assert (first.kept, second.kept, third.kept, again.kept) == (0, 2, 2, 3)
    assert Evaluation.load(out).scores() == again.scores()
    assert len(Evaluation.every_line(out).results) == 5, "what was paid for stays"
    assert "kept     3 of 3 results are of an earlier evaluation, and were not made again\n" in to_text(again)
    assert [row.rows for row in (compared(first, second), compared(first, first))] == [2, 3]


async def test_a_metric_that_no_output_can_be_given_to_is_refused_before_a_run(autojump_clock: MockClock) -> None:
    def two(example: Any, output: Any) -> bool:
        return True

    async with open_runtime() as runtime:
        with pytest.raises(DeclarationError, match=r"metric 'two' cannot be called.*: too many positional(?s:.*)Fix: def two"):
            await evaluate(runtime, adding(), rows(3), two)


async def test_a_stored_evaluation_pays_for_no_run_twice(tmp_path: Path, virtual_clock: MockClock) -> None:
    made: list[int] = []
    graph = Graph("adding", input=Sum, output=Total)

    @graph.node
    async def add(given: Sum) -> Total:
        made.append(given.left)
        return Total(given.left + given.right)

    means: list[float] = []
    for _ in range(2):
        async with open_runtime(store=tmp_path / "runs.db", graphs=[graph]) as runtime:
            means.append((await evaluate(runtime, graph, rows(5), exact, name="nightly")).mean())

    assert sorted(made) == [0, 1, 2, 3, 4]
    assert means == [1, 1]


async def test_a_file_gives_back_what_was_written(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_runtime() as runtime:
        done = await evaluate(runtime, adding(fails=frozenset({1})), rows(3), Metric("m", lambda *_: Score(0.5, "half — ½")))
    path = tmp_path / "x.jsonl"
    path.write_text(done.to_text())

    assert Evaluation.load(path) == done


async def test_a_better_graph_is_found_before_the_last_row(autojump_clock: MockClock) -> None:
    bad = adding("bad", wrong=frozenset(range(0, 400, 2)))

    async with open_runtime() as runtime:
        better = await compare(runtime, bad, adding("good"), rows(400), exact, at_once=8)
        worse = await compare(runtime, adding("good"), bad, rows(400), exact, at_once=8)
        same = await compare(runtime, adding("a"), adding("b"), rows(30), exact)
        assert not runtime.runs()

    assert (better.verdict, worse.verdict, same.verdict) == ("better", "worse", "undecided")
    assert better.rows < 60
    assert better.saved == 400 - better.rows
    assert better.difference == pytest.approx(0.5, abs=0.25)
    assert better.interval[0] < better.difference < better.interval[1]
    assert same.saved == 0
    assert "better" in str(better)
    assert f"after {better.rows} of 400 rows, {better.saved} saved; wrong at most 5% of the time" in str(better)


async def test_a_comparison_tells_how_far_it_is(autojump_clock: MockClock) -> None:
    bad, told = adding("bad", wrong=frozenset(range(0, 400, 2))), list[Progress]()

    async with open_runtime() as runtime:
        found = await compare(runtime, bad, adding("good"), rows(400), exact, at_once=8, told=told.append)

    assert [now.done for now in told] == list(range(1, found.rows + 1))
    assert (told[-1].of, told[-1].is_difference, told[-1].left) == (400, True, found.saved)
    assert told[-1].mean == pytest.approx(found.difference)
    assert told[-1].interval == found.interval


def test_a_running_mean_is_that_of_the_rows_and_so_is_its_error() -> None:
    scores = {"a": [1.0, 0.0], "b": [1.0], "c": [0.25, 0.75, 0.5], "d": [0.0]}
    tally = RunningMean()
    for row, each in scores.items():
        for score in each:
            tally.add(row, score, 0.5)

    means = [statistics.fmean(each) for each in scores.values()]
    wide = 1.96 * statistics.stdev(means) / len(means) ** 0.5
    assert tally.mean == pytest.approx(statistics.fmean(means))
    assert tally.interval == pytest.approx((tally.mean - wide, tally.mean + wide))
    assert tally.cost_usd == 3.5


@pytest.mark.parametrize(
    "scores",
    [[1e16, 1e16 + 2, 1e16 + 4], [1e308, -1e308, 1e308], [1e-9, 3e-9, 2e-9], [1e16, 1.0, -1e16], [0.1] * 3, [1e300] * 7],
)
def test_a_running_mean_survives_large_and_close_scores(scores: list[float]) -> None:
    """A sum of them overflows, and a sum of their squares loses what is different."""
    tally = RunningMean()
    for at, score in enumerate(scores):
        tally.add(f"{at}", 0.0, 0.0)
        tally.add(f"{at}", score, 0.0)
    once = RunningMean()
    for at, score in enumerate(scores):
        once.add(f"{at}", score, 0.0)

    exact = [Fraction(score) for score in scores]
    mean = statistics.mean(exact)
    wide = 1.96 / len(scores) ** 0.5 * float(statistics.stdev(score / 10**300 for score in exact)) * 1e300
    close = 1e-15 * max(map(abs, scores))
    assert once.mean == pytest.approx(float(mean), rel=1e-12, abs=close)
    assert tally.mean == pytest.approx(float(mean / 2), rel=1e-12, abs=close)
    if len(set(scores)) == 1:
        assert math.isnan(once.interval[0])
        assert math.isnan(tally.interval[0])
    else:
        assert once.interval == pytest.approx((float(mean) - wide, float(mean) + wide), rel=1e-12, abs=close)


def test_the_mean_of_large_scores_is_no_overflow() -> None:
    """The sum of them is one, and the evaluation that was paid for ended with it."""
    scores = [1.5e308, 1.5e308, -1.5e308, 1.5e308]
    rows = tuple(RowResult(f"{at}", 0, "0", {"m": score}, slice="all") for at, score in enumerate(scores))
    done = Evaluation("large", ("m",), (*rows, RowResult("0", 1, "0", {"m": 1.5e308}, slice="all")))

    assert done.mean() == pytest.approx(0.75e308)
    [(mean, count)] = done.by_slice().values()
    assert (mean, count) == (done.mean(), 4)
    assert "m  7.5e+307 ± 7.5e+307\n" in to_text(done)
    assert "7.5e+307" in to_html(done)


async def test_what_the_file_holds_of_other_rows_is_no_part_of_the_progress(tmp_path: Path, autojump_clock: MockClock) -> None:
    out, told = tmp_path / "results.jsonl", list[Progress]()
    async with open_runtime() as runtime:
        await evaluate(runtime, adding(wrong=frozenset({0, 1, 2, 3})), rows(8), exact, out=out)
        some = rows(12)[4:]
        done = await evaluate(runtime, adding(), some, exact, out=out, told=told.append, at_once=1)

    assert (len(done.results), done.mean()) == (8, 1)
    assert [(now.done, now.of, now.kept) for now in told] == [(5, 8, 4), (6, 8, 4), (7, 8, 4), (8, 8, 4)]
    assert [now.mean for now in told] == [1, 1, 1, 1]
    assert told[0].left_s == told[0].elapsed_s * 3, "what was kept took no time"
    assert len(Evaluation.load(out).results) == 12, "and the file loses nothing"


async def test_the_order_of_ends_decides_nothing(autojump_clock: MockClock) -> None:
    """Right answers come late here: taken as they end, the wrong ones would decide."""
    slow = adding("slow", wrong=frozenset(range(20)))

    async with open_runtime() as runtime:
        one = await compare(runtime, adding("base"), slow, rows(40), exact, at_once=1)
        many = await compare(runtime, adding("base"), slow, rows(40), exact, at_once=40)

    assert (one.verdict, one.rows, one.difference) == (many.verdict, many.rows, many.difference)


async def test_a_score_out_of_its_range_is_named(autojump_clock: MockClock) -> None:
    async with open_runtime() as runtime:
        with pytest.raises(DeclarationError, match=r"metric 'value' gave \d+, which isn't between 0 and 1"):
            await compare(
                runtime, adding("a"), adding("b"), rows(9), Metric("value", lambda example, output, trace: output.value)
            )
        done = await compare(runtime, adding("a"), adding("b"), rows(3), Metric("value", lambda e, o, t: o.value, low=0, high=10))
        with pytest.raises(DeclarationError, match="they take different inputs"):
            await compare(runtime, adding("a"), Graph("other", input=Total, output=Total), rows(3), exact)
        with pytest.raises(DeclarationError, match="a probability between 0 and 1"):
            await compare(runtime, adding("a"), adding("b"), rows(3), exact, error=5)
        with pytest.raises(DeclarationError, match=r"compare\(expects=0\): expected a share of the metric's range(?s:.*)Fix: "):
            await compare(runtime, adding("a"), adding("b"), rows(3), exact, expects=0)

    assert done.difference == 0


async def test_two_evaluations_are_compared_row_by_row(autojump_clock: MockClock) -> None:
    async with open_runtime() as runtime:
        good = await evaluate(runtime, adding(), rows(40), exact)
        bad = await evaluate(runtime, adding(wrong=frozenset(range(12))), rows(50), exact)
        other = await evaluate(runtime, adding(), [{"id": "x", "left": 1, "right": 1, "expected": 2}], exact)

    worse, same = compared(good, bad), compared(good, good)

    assert (worse.verdict, worse.rows, worse.difference) == ("worse", 40, -12 / 40)
    assert worse.interval[1] < 0
    assert (same.verdict, same.difference) == ("undecided", 0)
    with pytest.raises(UsageError, match="no row in common"):
        compared(good, other)


def test_rows_are_typed_by_the_graph(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(
        '{"left": 1, "right": 2, "expected": 3, "slice": "small"}\n'
        '{"input": {"left": 10, "right": 2}, "id": "ten", "labels": {"expected": 12}}\n\n'
        '{"left": "1", "right": 2}\n'
        "nonsense\n"
        '{"id": "ten", "left": 1, "right": 1}\n'
        "[1]\n"
    )

    data = Dataset.load(path, adding())

    assert [(each.id, each.input, each.slice) for each in data] == [("1", Sum(1, 2), "small"), ("ten", Sum(10, 2), None)]
    assert [each.expected for each in data] == [3, 12]
    assert data[1].left == 10
    assert [str(each).partition(", ")[2].partition(":")[0] for each in data.bad] == ["line 4", "line 5", "line 6", "line 7"]
    assert "left" in data.bad[0].why
    assert "earlier row" in data.bad[2].why
    with pytest.raises(AttributeError, match=r"example '1' has no label or field 'answer'; it has expected"):
        _ = data[0].answer


def test_a_row_that_gives_a_name_twice_is_named(tmp_path: Path) -> None:
    """Python's own reader would take the last of both, and nobody would know."""
    lines, listed = tmp_path / "rows.jsonl", tmp_path / "rows.json"
    lines.write_text('{"left": 1, "right": 2}\n{"left": 1, "right": 2, "left": 3}\n' + "[" * 100_000 + "\n")
    listed.write_text('[{"left": 1, "left": 3}]')

    data = Dataset.load(lines, adding())

    assert [each.input for each in data] == [Sum(1, 2)]
    assert [str(each) for each in data.bad] == [
        f"{lines}, line 2: it isn't JSON: left: given twice",
        f"{lines}, line 3: it isn't JSON: it is nested too deeply",
    ]
    with pytest.raises(DeclarationError, match=r"isn't JSON: .*left: given twice"):
        Dataset.load(listed, adding())


def test_csv_and_lists_and_dspy_examples_are_rows(tmp_path: Path) -> None:
    table, listed = tmp_path / "rows.csv", tmp_path / "rows.json"
    table.write_text('left,right,expected\n1,2,3\nx,2,3\n4,5,"a, b"\n')
    listed.write_text('[{"left": 1, "right": 2}]')

    class Like:
        def toDict(self) -> dict[str, Any]:
            return {"left": 3, "right": 4, "expected": 7}

    data = Dataset.load(table, adding())

    assert [(each.input, each.expected) for each in data] == [(Sum(1, 2), "3"), (Sum(4, 5), "a, b")]
    assert [str(each) for each in data.bad] == [f"{table}, line 3: left: 'x' isn't JSON"]
    assert Dataset.load(listed, adding())[0].input == Sum(1, 2)
    assert Dataset.of([Like(), Sum(1, 1)], adding())[0].expected == 7


def test_a_cell_of_csv_is_the_number_that_it_is_compared_with(tmp_path: Path) -> None:
    """Texts only, it scored 0 for every right answer that wasn't a text."""

    @attrs.frozen
    class Named:
        name: str

    @attrs.frozen
    class Both:
        name: str
        value: int

    table = tmp_path / "rows.csv"
    table.write_text('left,right,expected\n1,2,3\n1,2,three\n1,2,"{""value"": 3}"\n')

    number, word, fields = Dataset.load(table, adding())

    assert exact(number, Total(3), ())
    assert not exact(number, Total(4), ())
    assert exact(number, Named("3"), ())
    assert exact(number, 3, ())
    assert not exact(word, Total(3), ())
    assert exact(word, Named("three"), ())
    assert exact(fields, Both("c", 3), ())
    assert not exact(fields, Both("c", 4), ())


def test_cells_that_are_missing_or_too_many_make_a_bad_row_and_no_label(tmp_path: Path) -> None:
    table, broken = tmp_path / "rows.csv", tmp_path / "broken.csv"
    table.write_text("left,right,expected\n1,2,3\n1,2\n1,2,3,4\n\n5,6,11\n")
    broken.write_text('left,right\n1,"2\n')

    data = Dataset.load(table, adding())

    assert [each.input for each in data] == [Sum(1, 2), Sum(5, 6)]
    assert [each.why for each in data.bad] == [f"it has {cells} cells, and the first line names 3" for cells in (2, 4)]
    with pytest.raises(DeclarationError, match=r"isn't CSV: unexpected end of data.\n  Fix: .*close each quotation mark"):
        Dataset.load(broken, adding())


def test_a_table_names_each_column_once_and_its_cells_may_be_long(tmp_path: Path) -> None:
    table = tmp_path / "rows.csv"
    table.write_text(f"left,right,note\n1,2,{'x' * 200_000}\n")
    limit = csv.field_size_limit()

    assert len(Dataset.load(table, adding())[0].note) == 200_000
    assert csv.field_size_limit() == limit
    table.write_text("left,right,right\n1,2,3\n")
    with pytest.raises(DeclarationError, match=r"isn't CSV: its first line names 'right' twice.\n  Fix: name each column once"):
        Dataset.load(table, adding())


def test_odd_labels_and_ids_make_bad_rows_or_none() -> None:
    given = {"left": 1, "right": 2}
    data = Dataset.of(
        [
            {"input": given, "labels": None, "id": None},
            {"input": given, "labels": ["expected"]},
            {**given, "id": None, "odd": {1, 2}},
        ],
        adding(),
    )

    assert [each.id for each in data] == ["1", "3"]
    assert [str(bad) for bad in data.bad] == ["row 2: labels: expected an object, got a list"]


def test_what_is_no_rows_is_rejected() -> None:
    class Splits(dict[str, list[Any]]):
        """As Hugging Face's ``DatasetDict``."""

    with pytest.raises(DeclarationError, match=r"Dataset.of\(Splits\): expected rows, got 'train'.\n  Fix: .*rows\['train'\]"):
        Dataset.of(Splits(train=rows(2)), adding())
    for wrong in (3, "cases.jsonl"):
        with pytest.raises(DeclarationError, match=r"expected rows.\n  Fix: .*Dataset.load"):
            Dataset.of(wrong, adding())  # type: ignore[arg-type]


def test_a_file_without_a_row_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "hello"}\n')

    with pytest.raises(
        DeclarationError, match=r"holds no row for graph 'adding', which takes Sum; .*line 1: .*; the row has 'text'"
    ):
        Dataset.load(path, adding())
    with pytest.raises(DeclarationError, match="cannot be read"):
        Dataset.load(tmp_path / "none.jsonl", adding())


async def test_what_was_spent_is_the_bill_of_the_provider(autojump_clock: MockClock) -> None:
    billed: list[tuple[int, int]] = []

    def answer(request: httpx.Request) -> Exchange:
        asked = len(request.content) // 7
        billed.append((asked, 3 + len(billed) % 5))
        choice = {"index": 0, "message": {"role": "assistant", "content": "3"}, "finish_reason": "stop"}
        usage = {"prompt_tokens": asked, "completion_tokens": billed[-1][1], "total_tokens": sum(billed[-1])}
        return Exchange.reply({"id": "x", "object": "chat.completion", "model": "m", "choices": [choice], "usage": usage})

    network = VirtualNetwork({"api.openai.com": answer})
    graph, judge = Graph("asking", input=Sum, output=Total), Graph("judge", input=Sum, output=Total)

    @graph.node
    async def ask(given: Sum, lm: LM) -> Total:
        said = await lm.chat([{"role": "user", "content": f"{given.left} + {given.right}"}])
        again = await lm.chat([{"role": "user", "content": f"Is it {said.text}?"}])
        return Total(int(again.text))

    @judge.node
    async def look(given: Sum, lm: LM) -> Total:
        await lm.chat([{"role": "user", "content": f"Is {given.left} right?"}])
        return Total(1)

    async with network.client("openai/gpt-4o-mini") as lm, open_runtime(lm=lm) as runtime:
        done = await evaluate(runtime, graph, rows(20), [exact, judge], repeats=2)

    runs, judging = done.spend, done.judging
    assert (runs.calls, judging.calls) == (80, 40)
    assert runs.prompt_tokens + judging.prompt_tokens == sum(prompt for prompt, _ in billed)
    assert runs.completion_tokens + judging.completion_tokens == sum(completion for _, completion in billed)
    assert runs.cost_usd + judging.cost_usd == pytest.approx(sum(p * 0.15e-6 + c * 0.6e-6 for p, c in billed))


async def test_an_evaluation_ends_when_its_budget_is_spent(autojump_clock: MockClock) -> None:
    network = VirtualNetwork()
    network.provider("api.openai.com", {"gpt-4o-mini": ["3"] * 100}, latency_s=1, unused="ok")
    graph = Graph("asking", input=Sum, output=Total)

    @graph.node
    async def ask(given: Sum, lm: LM) -> Total:
        said = await lm.chat([{"role": "user", "content": f"{given.left} + {given.right}"}], max_tokens=10)
        return Total(int(said.text))

    async with network.client("openai/gpt-4o-mini") as lm, open_runtime(lm=lm) as runtime:
        budget = Budget(max_tokens=100)
        done = await evaluate(runtime, graph, rows(50), exact, budget=budget, at_once=2)

    assert done.stopped == "the budget is spent"
    assert 1 < len(done.results) < 50
    assert not done.failed
    assert done.spend.prompt_tokens + done.spend.completion_tokens == budget.tokens <= 100


async def test_a_judge_that_is_left_goes_on_no_more_than_a_row(tmp_path: Path, virtual_clock: MockClock) -> None:
    judge = Graph("judge", input=Sum, output=Total)

    @judge.node
    async def look(given: Sum) -> Total:
        await trio.sleep(math.inf)
        return Total(1)

    async with open_runtime(store=tmp_path / "runs.db") as runtime:
        with trio.move_on_after(60):
            await evaluate(runtime, adding(), rows(3), judge)

        assert not runtime.runs()
        assert not (await runtime.stored()).items, "nothing that an evaluation without a name does is stored"


async def test_what_a_failing_judge_has_spent_is_counted(autojump_clock: MockClock) -> None:
    network = VirtualNetwork()
    network.provider("api.openai.com", {"gpt-4o-mini": ["3"] * 2})
    judge = Graph("judge", input=Sum, output=Total)

    @judge.node
    async def look(given: Sum, lm: LM) -> Total:
        await lm.chat([{"role": "user", "content": "well?"}])
        raise ValueError("no opinion")

    async with network.client("openai/gpt-4o-mini") as lm, open_runtime(lm=lm) as runtime:
        done = await evaluate(runtime, adding(), rows(2), judge)

    assert done.judging.calls == 2
    assert "no opinion" in done.results[0].reasons["judge"]


async def test_one_name_serves_two_graphs(tmp_path: Path, virtual_clock: MockClock) -> None:
    async with open_runtime(store=tmp_path / "runs.db") as runtime:
        one = await evaluate(runtime, adding("one"), rows(3), exact, name="nightly")
        two = await evaluate(runtime, adding("two", wrong=frozenset({1})), rows(3), exact, name="nightly")
        with pytest.raises(UsageError, match="cannot stand in it"):
            await evaluate(runtime, adding("one"), rows(3), exact, name="a/b")

    assert (one.mean(), two.mean()) == (1, 2 / 3)


async def test_a_file_that_cannot_be_written_keeps_what_it_holds(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "results.jsonl"
    async with open_runtime() as runtime:
        await evaluate(runtime, adding(), rows(2), exact, out=out)
        text = out.read_text()

        def full(*_: Any, **__: Any) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(Path, "write_text", full)
        with pytest.raises(UsageError, match=r"results.jsonl' cannot be written: No space left on device"):
            await evaluate(runtime, adding(), rows(4), exact, out=out)
        monkeypatch.undo()

    assert out.read_text() == text


async def test_a_row_that_cannot_be_kept_ends_the_evaluation(autojump_clock: MockClock) -> None:
    async with open_runtime() as runtime:
        with pytest.raises(UsageError, match=r"'/dev/full.* cannot be written"):
            await evaluate(runtime, adding(), rows(2), exact, out="/dev/full/results.jsonl")


async def test_a_comparison_whose_budget_is_spent_has_no_verdict_from_it(autojump_clock: MockClock) -> None:
    """The runs that a spent budget ends would count as wrong, and those of one side only."""
    network = VirtualNetwork()
    network.provider("api.openai.com", {"gpt-4o-mini": ["3"] * 200}, latency_s=1, unused="ok")
    asking = Graph("asking", input=Sum, output=Total)

    @asking.node
    async def ask(given: Sum, lm: LM) -> Total:
        await lm.chat([{"role": "user", "content": "?"}], max_tokens=10)
        return Total(given.left + given.right)

    async with network.client("openai/gpt-4o-mini") as lm, open_runtime(lm=lm) as runtime:
        some = await compare(runtime, adding(), asking, rows(60), exact, budget=Budget(max_tokens=60), at_once=2)
        none = await compare(runtime, adding(), asking, rows(60), exact, budget=Budget(max_tokens=1))

    assert (some.verdict, some.difference) == (none.verdict, none.difference) == ("undecided", 0)
    assert 0 < some.rows < 60
    assert none.rows == 0
    assert some.candidate is not None
    assert some.candidate.stopped == "the budget is spent"


async def test_cost_latency_and_steps_are_metrics_of_failed_runs_too(autojump_clock: MockClock) -> None:
    async with open_runtime() as runtime:
        done = await evaluate(runtime, adding(fails=frozenset({3})), rows(5), [latency, steps, cost, exact])
        slow = await compare(runtime, adding("base"), adding("same"), rows(5), latency.up_to(10))
        with pytest.raises(DeclarationError, match=r"'latency' has no highest value.*\n  Fix: latency.up_to"):
            await compare(runtime, adding("base"), adding("same"), rows(5), latency)

    assert [row.scores["latency"] for row in done.results] == [0, 1, 2, 3, 4]
    assert (done.mean("steps"), done.mean("cost"), done.mean("exact")) == (1, 0, 4 / 5)
    assert (slow.difference, slow.verdict) == (0, "undecided")
    faster = attrs.evolve(
        done, results=tuple(attrs.evolve(row, scores={"latency": row.scores["latency"] / 2}) for row in done.results)
    )
    assert compared(done, faster, latency).difference == pytest.approx(0.25)


async def test_what_was_spent_is_the_bill_with_retries_kept_answers_and_a_cancellation(
    tmp_path: Path, virtual_clock: MockClock
) -> None:
    """The second process takes up what the first one has paid for; no answer is in the sum twice, and none is missing."""
    bill: dict[int, tuple[int, int]] = {}
    network: VirtualNetwork

    def answer(request: httpx.Request) -> Exchange:
        number = len(network.requests)
        if number % 7 == 3:
            return Exchange.too_many(1)
        bill[number - 1] = (len(request.content), 3 + number % 5)
        choice = {"index": 0, "message": {"role": "assistant", "content": "3"}, "finish_reason": "stop"}
        usage = {"prompt_tokens": len(request.content), "completion_tokens": 3 + number % 5, "total_tokens": 0}
        body = {"id": "x", "object": "chat.completion", "model": "m", "choices": [choice], "usage": usage}
        return Exchange.reply(body, latency_s=1.0 + number % 3)

    network = VirtualNetwork({"api.openai.com": answer})
    graph = Graph("asking", input=Sum, output=Total)

    @graph.node
    async def ask(given: Sum, lm: LM) -> Total:
        await lm.chat([{"role": "user", "content": f"Is it {given.left % 4}?"}], temperature=0)  # known after a while
        return Total(int((await lm.chat([{"role": "user", "content": f"{given.left} + {given.right}"}], temperature=1)).text))

    done: Evaluation | None = None
    for patience_s in (4.5, math.inf):
        async with (
            network.client("openai/gpt-4o-mini", cache=MemoryCache(), retry=Retry(max_attempts=5)) as lm,
            open_runtime(lm=lm, store=tmp_path / "runs.db", graphs=[graph]) as runtime,
        ):
            with trio.move_on_after(patience_s):
                done = await evaluate(
                    runtime, graph, rows(12), exact, repeats=2, name="nightly", out=tmp_path / "out.jsonl", at_once=5
                )

    assert done is not None
    billed = [used for at, used in bill.items() if not network.requests[at].cancelled]
    assert len(billed) < len(bill), "some were cut short"
    spent = done.spend.prompt_tokens + done.spend.completion_tokens
    assert done.spend.estimated_tokens > 0, "a request that was cut short is counted by its length"
    assert spent - done.spend.estimated_tokens == sum(map(sum, billed))
