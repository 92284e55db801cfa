"""What a person looks at, and what a build server reads: one HTML page without a network, lines of text, and JUnit's XML."""

from __future__ import annotations

import math
from collections.abc import Sequence
from xml.etree import ElementTree as ET

from runtime.evaluate.charts import bars, histogram, markup, plain, points, timeline
from runtime.evaluate.comparing import Comparison
from runtime.evaluate.figures import figure, mean_of, with_error
from runtime.evaluate.results import RAISED, Evaluation, RowResult

WORST = 10
STYLE = """
:root { color-scheme: light dark; --ink: #1c2733; --dim: #5b6875; --paper: #fff; --line: #d4dae0; --bar: #2f6f9f; --bad: #b3402e }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e3e8ed; --dim: #95a1ad; --paper: #14191f; --line: #36414c; --bar: #6aaede; --bad: #e5806d } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 60rem; margin: 2rem auto;
  padding: 0 1rem; overflow-wrap: anywhere }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin-top: 2rem }
table { border-collapse: collapse; display: block; overflow-x: auto } th, td { text-align: left; padding: .25rem .9rem .25rem 0;
  border-bottom: 1px solid var(--line); vertical-align: top }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
pre { white-space: pre-wrap; overflow-wrap: anywhere; margin: 0; font: 13px/1.4 ui-monospace, monospace }
svg { max-width: 100%; height: auto; font: 13px system-ui, sans-serif; fill: var(--ink); display: block }
.dim { fill: var(--dim); color: var(--dim) }
.bar, circle { fill: var(--bar) } circle { fill-opacity: .55 }
.bad { fill: var(--bad); color: var(--bad) } .axis { stroke: var(--line) } .verdict { font-size: 1.1rem }
details { border-bottom: 1px solid var(--line); padding: .4rem 0 } summary { cursor: pointer }
"""


def to_text(done: Evaluation, comparison: Comparison | None = None) -> str:
    """A table for a terminal."""
    lines = [f"{_on_a_line(done.graph)}: {_counts(done)}"]
    width = max(map(len, done.metrics))
    for name in done.metrics:
        lines.append(f"  {name:<{width}}  {' '.join(with_error(done.scores(name).values()))}".rstrip())
        lines += [
            f"  {'':<{width}}  {figure(mean)}  {_on_a_line(part)} ({count})"
            for part, (mean, count) in done.by_slice(name).items()
        ]
    lines.append(f"  latency  median {_seconds(done.latency_s())}, 95 % within {_seconds(done.latency_s(0.95))}")
    lines.append(f"  spent    {_spent(done)}")
    lines += [f"  {_on_a_line(line)}" for line in _raised(done)]
    lines += [f"  left out {_on_a_line(str(bad))}" for bad in done.bad]
    if done.stopped is not None:
        lines.append(f"  stopped  {done.stopped}")
    if done.kept:
        lines.append(f"  kept     {_kept(done)}")
    if comparison is not None:
        lines.append(f"  {comparison}")
        lines += [f"  {line}" for line in _sides(comparison)]
    return "\n".join(lines) + "\n"


def _on_a_line(text: str) -> str:
    """`text`, a stranger's, as a terminal may be given it: it fakes no line, and moves no cursor."""
    return plain(" ".join(text.split()))


def to_html(done: Evaluation, comparison: Comparison | None = None) -> str:
    """One page with its plots, that needs nothing else and runs no script."""
    first = done.metrics[0]
    body = [f"<h1>{markup(done.graph)}</h1>"]
    if comparison is not None:
        body.append(f'<p class="verdict">{markup(str(comparison))}</p>')
        body += [f"<p>{markup(line)}</p>" for line in _sides(comparison)]
    body.append(f"<p>{_counts(done)}. {markup(_spent(done))}.</p>")
    body += [f"<p>{markup(line)}.</p>" for line in _raised(done)]
    if done.kept:
        body.append(f"<p>{_kept(done)}.</p>")
    if done.stopped is not None:
        body.append(f"<p>It stopped early: {markup(done.stopped)}.</p>")
    body.append(_table(done))
    slices = done.by_slice()
    if slices:
        body += [f"<h2>{markup(first)} by slice</h2>", bars(slices, max(1.0, *(mean for mean, _ in slices.values())))]
    costs = [(row.spend.cost_usd, row.scores[first], _title(row)) for row in done.results]
    if any(cost for cost, _, _ in costs):
        body += [f"<h2>{markup(first)} against cost</h2>", points(costs, first)]
    body += ["<h2>Latency</h2>", histogram([row.latency_s for row in done.results if row.latency_s is not None], "s")]
    body += ["<h2>Worst rows</h2>", *(_row(row, done.metrics) for row in done.worst(WORST))]
    if done.bad:
        body += ["<h2>Rows left out</h2>", "<ul>", *(f"<li>{markup(str(bad))}</li>" for bad in done.bad), "</ul>"]
    csp = "default-src 'none'; style-src 'unsafe-inline'"
    head = (
        f'<meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{csp}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{markup(done.graph)}: evaluation</title><style>{STYLE}</style>"
    )
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(body)}</body></html>\n'


def _counts(done: Evaluation) -> str:
    rows, runs = len(done.scores()), len(done.results)
    return f"{rows} row{'s' * (rows != 1)}, {runs} run{'s' * (runs != 1)}, {len(done.failed)} failed"


def _kept(done: Evaluation) -> str:
    return f"{done.kept} of {len(done.results)} results are of an earlier evaluation, and were not made again"


def _raised(done: Evaluation) -> list[str]:
    """Metrics that raised, which is seldom about an output: each with the first of its errors."""
    lines: list[str] = []
    for name in done.metrics:
        whys = [why for row in done.results if (why := row.reasons.get(name, "")).startswith(RAISED)]
        if whys:
            first = whys[0].removeprefix(RAISED).strip().partition("\n")[0]
            lines.append(f"{name} raised for {len(whys)} of {len(done.results)} runs: {first}")
    return lines


def _sides(comparison: Comparison) -> list[str]:
    """What both sides have scored on the rows that were compared."""
    sides = [side for side in (comparison.baseline, comparison.candidate) if side is not None and side.results]
    if len(sides) < 2:
        return []
    before, after = (side.scores(comparison.metric) for side in sides)
    same = [identity for identity in after if identity in before]
    means = [mean_of([scores[identity] for identity in same]) for scores in (before, after)] if same else []
    return [", ".join(f"{side.graph} {figure(mean)}" for side, mean in zip(sides, means, strict=False))] if means else []


def _title(row: RowResult) -> str:
    return row.id if row.repeat == 0 else f"{row.id} ({row.repeat + 1})"


def _table(done: Evaluation) -> str:
    rows = [(name, *with_error(done.scores(name).values())) for name in done.metrics]
    rows.append(("latency, median", _seconds(done.latency_s()), ""))
    rows.append(("latency, 95 % within", _seconds(done.latency_s(0.95)), ""))
    cells = "".join(
        f'<tr><td>{markup(name)}</td><td class="number">{value}</td><td class="dim">{more}</td></tr>'
        for name, value, more in rows
    )
    return f'<table><tr><th></th><th class="number">mean</th><th>standard error</th></tr>{cells}</table>'


def _row(row: RowResult, metrics: Sequence[str]) -> str:
    scores = ", ".join(f"{name} {row.scores[name]:.3g}" for name in metrics)
    failed = '<span class="bad">failed</span>, ' if row.error is not None else ""
    told = f"<summary>{markup(_title(row))}: {failed}{markup(scores)}, {_seconds(row.latency_s)}</summary>"
    pairs = [("input", row.input), ("output", row.output), ("error", row.error or ""), *row.reasons.items()]
    cells = "".join(f"<tr><td>{markup(name)}</td><td><pre>{markup(text)}</pre></td></tr>" for name, text in pairs if text)
    return f"<details>{told}<table>{cells}</table>{timeline(row.timeline)}</details>"


def to_junit(done: Evaluation, needs: float = 0.5, metric: str | None = None) -> str:
    """A test case for each run, which fails when it has no output or scores less than `needs`."""
    name = metric or done.metrics[0]
    cases = [row for row in done.results if row.error is None]
    low = [row for row in cases if row.scores[name] < needs]
    suite = ET.Element(
        "testsuite", name=plain(done.graph), tests=str(len(done.results)), failures=str(len(low)), errors=str(len(done.failed))
    )
    for row in done.results:
        title = plain(_title(row))
        case = ET.SubElement(suite, "testcase", classname=plain(done.graph), name=title, time=f"{row.latency_s or 0:.3f}")
        if row.error is not None:
            ET.SubElement(case, "error", message=plain(row.error.partition("\n")[0])).text = plain(row.error)
        elif row.scores[name] < needs:
            why = f"{name} {row.scores[name]:.3g}, less than {needs:g}"
            reason = row.reasons.get(name, "")
            ET.SubElement(case, "failure", message=why).text = plain(f"{reason}\ninput: {row.input}\noutput: {row.output}")
    return ET.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


def _seconds(value: float | None) -> str:
    return "unknown" if value is None or math.isnan(value) else f"{value:.3g} s"


def _calls(count: int) -> str:
    return "1 call" if count == 1 else f"{count} calls"


def _spent(done: Evaluation) -> str:
    runs, judges = done.spend, done.judging
    told = f"${runs.cost_usd:.4f}, {runs.prompt_tokens + runs.completion_tokens} tokens in {_calls(runs.calls)}"
    if judges.calls:
        tokens = judges.prompt_tokens + judges.completion_tokens
        told += f"; judging: ${judges.cost_usd:.4f}, {tokens} tokens in {_calls(judges.calls)}"
    return told
