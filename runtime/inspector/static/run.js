// One run: its timeline with waiting, attempts and calls, its critical path, its events, and its replay.

import { download, follow, get, post } from "./client.js";
import { Badge, Bar, Component, Fault, Json, Table, count, go, html, many, seconds, shown, usd } from "./parts.js";
import { Picture } from "./picture.js";
import { blameOf } from "./blame.js";
import { nodeStates, timeline } from "./timeline.js";

const MOST_BARS = 400;
const MOST_DRAWN = 2000;
const STEPS = 600;
const MOST_BLAMED = 5000;

const ALL = "the whole run";
const sum = (shares, name) => shares.reduce((total, each) => total + each[name], 0);

/** What the run had to wait for, and what it paid for; the parts are the whole. */
const Blame = ({ blame }) => {
  if (!blame) return html`<p class="empty">There are too many attempts to look at them here: <code>understudy trace --blame</code> does.</p>`;
  const whole = { node: ALL, cause: "" };
  for (const name of ["time", "requests", "prompt", "completion", "usd"]) whole[name] = sum(blame.shares, name);
  return html`<p class="stack" role="img" aria-label="the critical path by cause">${blame.path.slice(0, 400).map((each) => html`<span class=${`cause ${each.cause.replace(/\W/g, "-")}`}
      title=${`${shown(each.path) || "between nodes"}: ${each.cause}, ${seconds((each.ended - each.began) / 1e6)}`} style=${{ width: `${(100 * (each.ended - each.began)) / Math.max(blame.duration, 1)}%` }}></span>`)}</p>
    <${Table} heads=${["node", "cause", "time", "of the run", "requests", "tokens", "cost"]} empty="Nothing has happened yet.">${[...blame.shares, whole].map((each) => html`<tr>
      <td>${shown(each.node) || "between nodes"}</td><td>${each.cause ? html`<span class=${`cause key ${each.cause.replace(/\W/g, "-")}`}></span> ${each.cause}` : ""}</td><td>${each.time ? seconds(each.time / 1e6) : ""}</td>
      <td>${each.time ? html`<${Bar} part=${each.time / blame.duration} label=${`${Math.round((100 * each.time) / blame.duration)} %`} />` : ""}</td><td>${each.requests || ""}</td>
      <td>${each.prompt || each.completion ? `${count(each.prompt)} + ${count(each.completion)}` : ""}</td><td>${each.usd ? usd(each.usd) : ""}</td></tr>`)}<//>`;
};

const MOST_LANES = 8;

/** Where the bars of one node lie that are at the same time: each in the first line that is free. @returns {[Map<object, number>, number]} */
function linesOf(bars, span) {
  const free = [], lines = new Map();
  for (const bar of bars) {
    let line = free.findIndex((at) => at <= bar.began + 1e-9);
    if (line < 0) line = free.length < MOST_LANES ? free.length : MOST_LANES - 1;
    free[line] = Math.max(free[line] || 0, bar.ended === null ? span : bar.ended);
    lines.set(bar, line);
  }
  return [lines, Math.max(1, free.length)];
}

/** Of a run with very many bars, those beside one another as one where no one could tell them apart: `many` says how many it is. */
function merged(bars, lines, span) {
  const short = span / STEPS, latest = new Map(), found = [];
  for (const bar of bars) {
    const line = lines.get(bar), last = latest.get(line), isShort = bar.ended !== null && bar.ended - bar.began <= short;
    if (last && isShort && last.isShort && last.status === bar.status && bar.began - last.ended <= short) {
      last.ended = Math.max(last.ended, bar.ended);
      last.many += 1;
    } else {
      const one = { ...bar, bar, line, isShort, many: 1 };
      latest.set(line, one);
      found.push(one);
    }
  }
  return found;
}

/** What of an event its line does not show anyway. */
const restOf = ({ v, seq, event, at, elapsed_s, run, node, path, ...rest }) => rest;

/** How far an attempt has told that it is. */
const reportOf = ({ report }) => `${shown(report.text)}${report.done === null ? "" : ` (${report.done}${report.of === null ? "" : ` of ${report.of}`})`}`;

export class Run extends Component {
  constructor(props) {
    super(props);
    this.events = props.events ? [...props.events] : [];
    this.state = { until: Infinity, playing: false, speed: 1, chosen: null, tab: "timeline", cancelled: "", graph: props.graph };
  }

  componentDidMount() {
    if (this.props.events) return;
    this.close = follow(`runs/${encodeURIComponent(this.props.id)}/events`, {
      resumes: true,
      onState: (told, error) => this.setState({ stream: told, refused: error }),
      onFrame: (frame) => {
        this.events.push({ event: frame.event, ...JSON.parse(frame.data) });
        if (!this.due) this.due = setTimeout(() => { this.due = null; this.setState({}); }, 100);
      },
    });
  }

  componentDidUpdate() {
    const { graph } = timeline(this.events);
    if (!graph || this.loaded || this.props.events) return;
    this.loaded = true;
    get(`graphs/${encodeURIComponent(graph)}`).then((layout) => this.setState({ graph: layout }), () => {});
  }

  componentWillUnmount() {
    if (this.close) this.close();
    clearInterval(this.timer);
    clearTimeout(this.due);
  }

  play(span) {
    clearInterval(this.timer);
    if (this.state.playing) return this.setState({ playing: false });
    let at = this.state.until >= span ? 0 : this.state.until;
    this.setState({ playing: true, until: at });
    this.timer = setInterval(() => {
      at += 0.05 * this.state.speed;
      if (at >= span) clearInterval(this.timer);
      this.setState({ until: at >= span ? Infinity : at, playing: at < span });
    }, 50);
  }

  render({ id, about, events }, { until, playing, speed, chosen, tab, graph, stream, refused, cancelled }) {
    if (refused) return html`<section><h1>Run ${shown(id)}</h1><p class="fault">${shown(refused.message)}</p></section>`;
    const whole = timeline(this.events), told = until === Infinity ? whole : timeline(this.events, until);
    const span = Math.max(whole.span, 0.000001), blame = ["timeline", "blame"].includes(tab) && told.bars.length <= MOST_BLAMED ? blameOf(told) : null, critical = new Set(blame ? blame.path.map((each) => each.bar) : []), place = (at) => `${(100 * Math.min(at, span)) / span}%`;
    const picked = chosen && told.bars.find((bar) => `${bar.path} ${bar.attempt}` === chosen);
    const cancel = () => post(`runs/${encodeURIComponent(id)}/cancel`, {}).then(() => this.setState({ cancelled: "Cancelled." }), (error) => this.setState({ cancelled: error.message }));
    const save = () => download(`runs/${encodeURIComponent(id)}/trace?as=html`, `run-${id.replace(/[^\w.-]/g, "_")}.html`).catch((error) => this.setState({ cancelled: error.message }));
    const isLarge = told.bars.length > MOST_BARS;
    let left = MOST_DRAWN;
    return html`<section><h1>Run ${shown(id)} <${Badge} state=${told.status} /></h1>
      <p>${told.graph ? html`${events ? shown(told.graph) : html`<a href=${go("graphs", told.graph)}>${shown(told.graph)}</a>`}, ` : ""}${seconds(whole.span)}, ${many(told.bars.length, "attempt")}${told.missed ? `, not kept any more: ${many(told.missed, "event")}` : ""}
        ${Object.entries(told.labels).map(([k, v]) => html` <small class="label">${shown(k)}: ${shown(v)}</small>`)}
        ${about && about.operates && ["running", "waiting", "queued"].includes(whole.status) ? html` <button onClick=${cancel}>Cancel the run</button>` : null} <span role="status">${shown(cancelled)}</span></p>
      <p class="filters">${["timeline", "blame", ...(graph || !events ? ["picture"] : []), "events"].map((each) => html`<button class=${tab === each ? "on" : ""} onClick=${() => this.setState({ tab: each })}>${each}</button>`)}
        ${events ? null : html`<button title="a page with this run inside" onClick=${save}>trace.html ⤓</button>`}
        <span class="replay"><button aria-label=${playing ? "pause" : "play"} onClick=${() => this.play(span)}>${playing ? "▮▮" : "▶"}</button>
        <button onClick=${() => this.setState({ speed: speed >= 8 ? 1 : speed * 2 })}>×${speed}</button>
        <input type="range" aria-label="time" min="0" max="1000" value=${until === Infinity ? 1000 : (1000 * until) / span} onInput=${(event) => { const at = Number(event.target.value); this.setState({ until: at >= 1000 ? Infinity : (at / 1000) * span }); }} /></span></p>
      ${tab === "timeline" ? html`<div class="timeline" role="list">${told.rows.map((row) => {
          const [lines, height] = linesOf(row.bars, told.span), top = (bar) => `${0.2 + 1.2 * bar.line}rem`;
          const drawn = isLarge ? merged(row.bars, lines, span) : row.bars.map((bar) => ({ ...bar, bar, line: lines.get(bar), many: 1 }));
          return html`<div class="lane" role="listitem"><span class="lane-name" title=${shown(row.node)}>${shown(row.node)}</span><div class="track" style=${{ height: `${0.3 + 1.2 * height}rem` }}>
        ${drawn.map((bar) => (left-- > 0 ? html`<span key=${`w${bar.path} ${bar.attempt}`} class="waiting" style=${{ top: top(bar), left: place(bar.delivered), width: place(bar.began - bar.delivered) }}></span>
          <button key=${`${bar.path} ${bar.attempt}`} class=${`bar ${bar.status.replace(/\W/g, "-")} ${critical.has(bar.bar) ? "critical" : ""}`} style=${{ top: top(bar), left: place(bar.began), width: place((bar.ended === null ? told.span : bar.ended) - bar.began) }}
            aria-label=${`${shown(bar.path)} attempt ${bar.attempt}: ${bar.status}${critical.has(bar.bar) ? ", on the critical path" : ""}${bar.many > 1 ? `, and ${many(bar.many - 1, "attempt")} after it` : ""}`} onClick=${() => this.setState({ chosen: `${bar.path} ${bar.attempt}` })}></button>` : null))}</div></div>`;
        })}
        <p class="legend"><span class="key waiting"></span> waits <span class="key done"></span> works <span class="key retrying"></span> failed attempt <span class="key failed"></span> gave up <span class="key critical"></span> critical path${isLarge ? html`<br />Attempts too short to be told apart are drawn as one${left < 0 ? `, and the last ${count(-left)} bars not at all` : ""}.` : ""}</p></div>` : null}
      ${tab === "blame" ? html`<${Blame} blame=${blame} />` : null}
      ${tab === "picture" ? (graph ? html`<${Picture} layout=${graph.layout} states=${nodeStates(told)} />` : html`<p class="empty">The picture is not there.</p>`) : null}
      ${tab === "events" ? html`<ol class="feed">${this.events.filter((each) => each.elapsed_s <= until).slice(-500).map((each) => html`<li><time>${seconds(Math.max(0, each.elapsed_s))}</time> <b>${shown(each.event)}</b> ${each.node ? shown(each.path || each.node) : ""} <${Json} value=${each} short=${restOf(each)} /></li>`)}</ol>` : null}
      ${picked ? html`<aside aria-label="chosen attempt"><h2>${shown(picked.path)}, attempt ${picked.attempt} <${Badge} state=${picked.status} /></h2><dl><dt>waited</dt><dd>${seconds(picked.began - picked.delivered)}</dd>
        <dt>took</dt><dd>${picked.ended === null ? "–" : seconds(picked.ended - picked.began)}</dd>${picked.error ? html`<dt>error</dt><dd><${Fault} error=${picked.error} /></dd>` : null}
        ${picked.calls.map((call) => html`<dt>call</dt><dd>${shown(call.model)} ${call.ended === null ? "…" : `${call.prompt_tokens}+${call.completion_tokens} tokens, ${usd(call.cost_usd)}, ${seconds(call.duration_s)}${call.first_token_s ? `, first ${seconds(call.first_token_s)}` : ""}`} <${Fault} error=${call.error} /></dd>`)}
        ${picked.tools.map((tool) => html`<dt>tool</dt><dd>${shown(tool.tool)} ${seconds(tool.duration_s)} <${Fault} error=${tool.error} /></dd>`)}
        ${picked.report ? html`<dt>reports</dt><dd>${reportOf(picked)}</dd>` : null}
        ${picked.text ? html`<dt>streamed</dt><dd><pre>${shown(picked.text)}</pre></dd>` : null}${picked.output !== undefined ? html`<dt>output</dt><dd><${Json} value=${picked.output} open=${true} /></dd>` : null}</dl></aside>` : null}
      ${told.bars.filter((bar) => bar.ended === null && bar.report).map((bar) => html`<p key=${bar.path} class="report">${shown(bar.path)}: ${reportOf(bar)}</p>`)}
      ${told.questions.filter((each) => !each.answered).map((each) => html`<p>A person is asked at ${shown(each.path)}: <a href="#/questions">questions</a></p>`)}
      <h2>Input</h2><${Json} value=${told.input} open=${true} />${told.error ? html`<h2>Error</h2><${Fault} error=${told.error} />` : null}
      ${told.status === "succeeded" ? html`<h2>Output</h2><${Json} value=${told.output} open=${true} />` : null}
      ${stream === "offline" ? html`<p class="empty">The service is away.</p>` : null}</section>`;
  }
}
