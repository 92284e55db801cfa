// The views that are fed whole by the service: overview, runs, actors, graphs, dead letters, models, questions.

import { get, post } from "./client.js";
import { Badge, Bar, Component, Fault, Figure, Json, Spark, Table, clock, count, go, html, json, seconds, shown, usd } from "./parts.js";
import { Picture } from "./picture.js";

const rowsOf = (view) => (view.order || []).map((id) => view.rows[id]).filter(Boolean);

const Incident = ({ each }) => html`<li><time>${clock(each.at)}</time> <b>${shown(each.kind)}</b> ${each.address ? html`<a href=${go("actors", each.address)}>${shown(each.address)}</a>` : null}
  ${each.delay_s !== undefined ? ` in ${seconds(each.delay_s)}` : ""}${each.held_s ? ` for ${seconds(each.held_s)}` : ""}
  ${each.error ? html`<span class="fault">${shown(each.error)}</span>` : null}${each.stack ? html`<details><summary>stack</summary><pre>${shown(each.stack)}</pre></details>` : null}</li>`;

export const Overview = ({ view, rates }) => {
  const s = view.summary;
  const under = Object.values(s.runs || {}).reduce((a, b) => a + b, 0);
  return html`<section><h1>Overview</h1><div class="figures">
    <${Figure} name="runs in progress" value=${count(under)} more=${Object.entries({ ...s.runs, ...s.ended }).map(([name, n]) => `${n} ${name}`).join(", ") || "none yet"} href="#/runs" />
    <${Figure} name="messages a second" value=${rates.handled.toFixed(1)} more=${`${count(s.waiting)} wait in mailboxes`} href="#/actors" />
    <${Figure} name="actors" value=${count(s.actors)} more=${`${s.restarting} restarting, ${s.restarts} restarts`} href="#/actors" />
    <${Figure} name="dead letters" value=${count(s.letters)} href="#/letters" />
    <${Figure} name="model calls" value=${count(s.calls)} more=${`${s.calls_in_flight} in flight, ${count(s.tokens)} tokens`} href="#/models" />
    <${Figure} name="spend" value=${usd(s.cost_usd)} href="#/models" />
    <${Figure} name="event loop" value=${count(s.loop_blocks)} more="times blocked" href="#/overview" /></div>
    <h2>Slowest nodes</h2><${Table} heads=${["node", "95 %", "median", "waited 95 %", "done", "failed", "running"]} empty="No node has worked yet.">
    ${(view.slowest || []).map((each) => html`<tr><td><a href=${go("graphs", each.graph)}>${shown(each.graph)}/${shown(each.node)}</a></td><td>${seconds(each.took.p95_s)}</td>
      <td>${seconds(each.took.median_s)}</td><td>${seconds(each.waited.p95_s)}</td><td>${count(each.finished)}</td><td class=${each.failed ? "bad" : ""}>${count(each.failed + each.retried)}</td><td>${count(each.running)}</td></tr>`)}<//>
    <h2>What went wrong lately</h2><ul class="feed">${(view.incidents || []).map((each) => html`<${Incident} each=${each} />`)}</ul>
    ${(view.incidents || []).length ? null : html`<p class="empty">Nothing.</p>`}</section>`;
};

export const Runs = ({ view, query }) => html`<section><h1>Runs</h1><p class="filters">${["", "running", "waiting", "succeeded", "failed", "cancelled"].map((status) =>
    html`<a class=${(query.status || "") === status ? "on" : ""} href=${status ? `#/runs?status=${status}` : "#/runs"}>${status || "all"}</a>`)}</p>
  <${Table} heads=${["run", "graph", "status", "started", "took", "steps", "tokens", "cost"]} empty="No runs.">
  ${rowsOf(view).map((run) => html`<tr><td><a href=${go("runs", run.id)}>${shown(run.id)}</a>${Object.entries(run.labels || {}).map(([k, v]) => html` <small class="label">${shown(k)}: ${shown(v)}</small>`)}</td>
    <td><a href=${go("graphs", run.graph)}>${shown(run.graph)}</a></td><td><${Badge} state=${run.status} /></td><td>${run.started_at ? clock(run.started_at) : "–"}</td>
    <td>${run.ended_at ? seconds((Date.parse(run.ended_at) - Date.parse(run.started_at)) / 1000) : ""}</td><td>${run.steps}</td>
    <td>${count((run.spend || {}).prompt_tokens + (run.spend || {}).completion_tokens)}</td><td>${usd((run.spend || {}).cost_usd)}</td></tr>`)}<//>
  ${view.cursor ? html`<p><a href=${`#/runs?cursor=${encodeURIComponent(view.cursor)}${query.status ? `&status=${query.status}` : ""}`}>older runs</a></p>` : null}</section>`;

const restartBudget = (s) => (s.max_restarts === undefined ? "unlimited restarts" : `${s.restarts} of ${s.max_restarts} in ${s.within_s} s`);

/** Asks twice: what waits in the mailbox is lost. */
class RestartButton extends Component {
  render({ address, waiting }, { asked, told = "" }) {
    const restart = () => {
      this.setState({ asked: false, told: "Restarting…" });
      post("restart", { address }).then(() => this.setState({ told: "Restarted." }), (error) => this.setState({ told: error.message }));
    };
    return html`${asked ? html`<button onClick=${restart}>Restart, and drop ${count(waiting)} waiting</button> <button onClick=${() => this.setState({ asked: false })}>No</button>` : html`<button onClick=${() => this.setState({ asked: true, told: "" })}>Restart</button>`} <span role="status">${shown(told)}</span>`;
  }
}

export class Actors extends Component {
  constructor() {
    super();
    this.depths = [];
  }

  row(row, depth) {
    const { open, toggle, now, chosen } = this.props, mail = row.mailbox, left = row.until ? Math.max(0, row.until - now) : 0;
    const name = row.address.split("/").pop() || "root";
    return html`<tr class=${row.address === chosen ? "on" : ""}><td style=${{ paddingLeft: `${0.4 + depth * 1.1}rem` }}>
      ${row.children ? html`<button class="twist" aria-expanded=${open.has(row.address)} aria-label=${`children of ${name}`} onClick=${() => toggle(row.address)}>${open.has(row.address) ? "▾" : "▸"}</button>` : html`<span class="twist"></span>`}
      <a href=${go("actors", row.address)}>${shown(name)}</a>${row.children ? html` <small>${count(row.children)}</small>` : null}</td>
      <td><${Badge} state=${row.state} />${row.until ? html` <span class="countdown">${left.toFixed(1)} s</span>` : null}</td>
      <td>${mail ? html`${count(mail.depth)} <${Bar} part=${mail.depth / (mail.capacity || 64)} label=${`${mail.depth} of ${count(mail.capacity)}`} />` : restartBudget(row.supervisor || {})}</td>
      <td>${mail ? count(row.handled) : ""}</td><td class=${row.restarts ? "bad" : ""}>${row.restarts || ""}</td></tr>`;
  }

  rows(view, address, depth) {
    const list = view.lists[address];
    if (!list) return [];
    const made = rowsOf(list).flatMap((row) => [this.row(row, depth), ...(this.props.open.has(row.address) && !view.search ? this.rows(view, row.address, depth + 1) : [])]);
    if (list.total > list.order.length) made.push(html`<tr><td colspan="5" style=${{ paddingLeft: `${depth + 1}rem` }}><small>${count(list.order.length)} of ${count(list.total)} are shown; search for others</small></td></tr>`);
    return made;
  }

  render({ view, chosen, now }) {
    const one = view.chosen;
    if (one && one.mailbox) this.depths = this.of === chosen ? [...this.depths, one.mailbox.depth].slice(-80) : [one.mailbox.depth];
    this.of = chosen;
    return html`<section class="split"><div><h1>Actors</h1><${Table} heads=${["actor", "state", "mailbox", "handled", "restarts"]} empty="No actors.">
      ${view.search ? null : this.row(view.root, 0)}${this.rows(view, "", view.search ? 0 : 1)}<//></div>
      ${chosen === null ? null : html`<aside aria-label="chosen actor"><h2>${shown(chosen) || "root"}</h2>${!one ? html`<p class="empty">There is none of this address.</p>` : html`<dl>
        <dt>state</dt><dd><${Badge} state=${one.state} /> incarnation ${one.incarnation}</dd>
        ${one.until ? html`<dt>backing off</dt><dd class="countdown">${Math.max(0, one.until - now).toFixed(1)} s</dd>` : null}
        ${one.supervisor ? html`<dt>restarts of children</dt><dd>${shown(one.supervisor.strategy)}, ${restartBudget(one.supervisor)}</dd>` : null}
        ${this.props.about.operates && chosen !== "" ? html`<dt>operate</dt><dd><${RestartButton} key=${chosen} address=${chosen} waiting=${(one.mailbox || {}).depth || 0} /></dd>` : null}
        ${one.mailbox ? html`<dt>mailbox</dt><dd>${one.mailbox.depth} of ${count(one.mailbox.capacity)}, most ${one.mailbox.high_water}${one.mailbox.oldest ? `, oldest ${seconds(now - one.mailbox.oldest)}` : ""} <${Spark} values=${this.depths} /></dd>
          <dt>messages</dt><dd>${count(one.handled)} handled, ${one.failed} failed, ${one.mailbox.dropped} dropped, ${one.mailbox.blocked_senders} senders blocked</dd>` : null}
        ${one.error ? html`<dt>last error</dt><dd class="fault">${shown(one.error)}</dd>` : null}
        ${one.describe !== undefined ? html`<dt>says of itself</dt><dd><${Json} value=${one.describe} open=${true} /></dd>` : null}</dl>
        <ul class="feed">${(one.incidents || []).map((each) => html`<${Incident} each=${each} />`)}</ul>`}</aside>`}</section>`;
  }
}

/** How many messages went along an edge: those of the label's type that the box at its begin has made, or that runs began with. */
const sentBy = (view) => (from, type) => ((view.nodes || {})[from] ? view.nodes[from].made || {} : view.inputs || {})[type] || 0;

export class Graphs extends Component {
  componentDidMount() { this.load(); }
  componentDidUpdate() { this.load(); }
  load() {
    const { chosen } = this.props;
    if (!chosen || this.loaded === chosen) return;
    this.loaded = chosen;
    get(`graphs/${encodeURIComponent(chosen)}`).then((graph) => this.setState({ graph }), () => {});
  }

  render({ view, about, chosen }, { graph }) {
    const states = Object.create(null);
    for (const [name, each] of Object.entries(view.nodes || {})) {
      const actor = each.actor || {};
      states[name] = { count: each.started || 0, state: each.running ? "running" : actor.state === "backing_off" ? "retrying" : each.failed ? "failed" : each.finished ? "done" : "" };
    }
    return html`<section><h1>Graphs</h1><p class="filters">${about.graphs.map((each) => html`<a class=${each.name === chosen ? "on" : ""} href=${go("graphs", each.name)}>${shown(each.name)}</a>`)}</p>
      ${graph && graph.name === chosen ? html`<p>${shown(graph.description)}</p><${Picture} layout=${graph.layout} states=${states} sent=${sentBy(view)} />
      <${Table} heads=${["node", "running", "began", "done", "retried", "failed", "median", "95 %", "made"]} empty="">${Object.entries(view.nodes || {}).map(([name, each]) => html`<tr><td><a href=${go("actors", `${chosen}/${name}`)}>${shown(name)}</a></td>
        <td>${each.running || 0}</td><td>${each.started || 0}</td><td>${each.finished || 0}</td><td>${each.retried || 0}</td><td class=${each.failed ? "bad" : ""}>${each.failed || 0}</td><td>${seconds((each.took || {}).median_s)}</td><td>${seconds((each.took || {}).p95_s)}</td>
        <td>${Object.entries(each.made || {}).map(([type, n]) => `${n} ${shown(type)}`).join(", ")}</td></tr>`)}<//>` : null}</section>`;
  }
}

export const Letters = ({ view }) => html`<section><h1>Dead letters</h1><p>${count(view.total)} in all, ${count(view.kept)} kept.</p>
  <${Table} heads=${["at", "recipient", "reason", "message", "age", "attempts", "error"]} empty="Every message has reached its actor.">${rowsOf(view).map((each) => html`<tr><td>${clock(each.at)}</td>
    <td><a href=${go("actors", each.recipient)}>${shown(each.recipient)}</a>${each.sender ? html`<br /><small>from ${shown(each.sender)}</small>` : null}</td><td><${Badge} state=${each.reason} /></td>
    <td><b>${shown(each.type)}</b> <${Json} value=${each.message} /></td><td>${seconds(each.age_s)}</td><td>${each.attempts}</td><td><${Fault} error=${each.error} /></td></tr>`)}<//></section>`;

export const Models = ({ view, now }) => html`<section><h1>Models</h1><div class="cards">${rowsOf(view).map((each) => {
  const f = each.figures || {}, a = each.account || {};
  const part = (used, most, name) => (most === undefined || !each.is_client ? null : html`<dt>${name}</dt><dd>${count(used)} of ${count(most)} <${Bar} part=${used / most} label=${name} /></dd>`);
  return html`<article><h2>${shown(each.model)}</h2><p>${(each.names || []).map((name) => html`<small class="label">${shown(name)}</small> `)}
    ${a.is_broken ? html`<${Badge} state="broken" />` : null}${a.paused_until > now ? html`<${Badge} state="paused" /> <span class="countdown">${(a.paused_until - now).toFixed(1)} s</span>` : null}</p><dl>
    ${part(each.in_flight, each.max_connections, "in flight")}${part(each.requests_used, each.rpm, "requests a minute")}${part(each.tokens_used, each.tpm, "tokens a minute")}
    ${each.budget ? html`<dt>budget</dt><dd>${usd(each.budget.cost_usd)} of ${each.budget.max_cost_usd === undefined ? "∞" : usd(each.budget.max_cost_usd)}, ${count(each.budget.tokens)} of ${count(each.budget.max_tokens)} tokens</dd>` : null}
    ${a.limit !== undefined ? html`<dt>adaptive limit</dt><dd>${a.limit}, ${a.waiting} wait</dd>` : null}${a.failures_in_a_row ? html`<dt>failures in a row</dt><dd class="bad">${a.failures_in_a_row}</dd>` : null}
    <dt>calls</dt><dd>${count(f.calls || 0)}, ${f.failed || 0} failed${f.last_error ? ` (${shown(f.last_error)})` : ""}, ${f.from_cache || 0} from the cache</dd>
    <dt>tokens</dt><dd>${count(f.prompt_tokens || 0)} in, ${count(f.completion_tokens || 0)} out</dd><dt>spend</dt><dd>${usd(f.cost_usd)}</dd>
    <dt>took</dt><dd>median ${seconds((f.took || {}).median_s)}, 95 % ${seconds((f.took || {}).p95_s)}</dd>
    ${(each.fallbacks || []).length ? html`<dt>fallbacks</dt><dd>${each.fallbacks.map(shown).join(", ")}</dd>` : null}</dl></article>`;
})}</div>${rowsOf(view).length ? null : html`<p class="empty">This service has no language models.</p>`}</section>`;

class AnswerForm extends Component {
  render({ question }, { text = "", told = "" }) {
    const properties = (question.schema || {}).properties || {};
    const hint = JSON.stringify(Object.fromEntries(Object.entries(properties).map(([name, each]) => [name, each.type === "boolean" ? true : each.type === "string" ? "" : 0])), null, 2);
    const send = async () => {
      try {
        await post(`questions/${encodeURIComponent(question.id)}/answer`, JSON.parse(text || hint));
        this.setState({ told: "Answered." });
      } catch (error) {
        this.setState({ told: error.message });
      }
    };
    return html`<div class="answer"><label>Answer with ${question.answers.map(shown).join(" or ") || "JSON"}<textarea rows="4" value=${text || hint} onInput=${(event) => this.setState({ text: event.target.value })}></textarea></label>
      <button onClick=${send}>Answer</button> <span role="status">${shown(told)}</span></div>`;
  }
}

export const Questions = ({ view, about, now }) => html`<section><h1>Questions</h1>${about.operates ? null : html`<p>Read only: <code>understudy serve --operate</code> lets you answer here.</p>`}
  <div class="cards">${rowsOf(view).map((each) => html`<article key=${each.id}><h2>${shown(each.text || each.node)}</h2><p>Run <a href=${go("runs", each.run)}>${shown(each.run)}</a>, node ${shown(each.node)}${each.to ? `, for ${shown(each.to)}` : ""}${each.due ? `, due in ${seconds(Math.max(0, each.due - now))}` : ""}</p>
    <${Json} value=${each.asks} open=${true} />${about.operates ? html`<${AnswerForm} question=${each} />` : null}</article>`)}</div>
  ${rowsOf(view).length ? null : html`<p class="empty">Nobody is asked anything.</p>`}</section>`;
