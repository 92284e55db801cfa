// The page: which view is open, what feeds it, and the keys. Its state is in the address, so that every view has a link.

import { get, setToken, takeToken, watch } from "./client.js";
import { Component, go, html, many, render, shown, usd } from "./parts.js";
import { Run } from "./run.js";
import { eventsOf } from "./timeline.js";
import { Actors, Graphs, Letters, Models, Overview, Questions, Runs } from "./views.js";

const TABS = [["overview", "Overview"], ["runs", "Runs"], ["actors", "Actors"], ["graphs", "Graphs"], ["letters", "Dead letters"], ["models", "Models"], ["questions", "Questions"]];

/** `#/actors/a%2Fb?search=x` → `{name, id, query}` */
export function place(hash) {
  const [path, search = ""] = hash.replace(/^#\/?/, "").split("?");
  const [name = "", id = null] = path.split("/").map((part) => { try { return decodeURIComponent(part); } catch { return part; } });
  const found = TABS.some(([each]) => each === name) || name === "file" ? name : "overview";
  return { name: found, id, query: Object.fromEntries(new URLSearchParams(search)) };
}

class App extends Component {
  constructor() {
    super();
    this.state = { place: place(location.hash), view: null, about: null, link: "connecting", open: new Set([""]), needsKey: false, typed: null, now: 0, events: embedded() };
    this.samples = [];
  }

  componentDidMount() {
    if (this.state.events) return;
    addEventListener("hashchange", () => this.setState({ place: place(location.hash), view: null, typed: null }, () => this.feed()));
    addEventListener("keydown", (event) => this.key(event));
    addEventListener("dragover", (event) => event.preventDefault());
    addEventListener("drop", (event) => this.drop(event));
    document.addEventListener("visibilitychange", () => this.feed());
    this.timer = setInterval(() => this.setState({ now: Date.now() / 1000 + (this.offset || 0) }), 200);
    this.begin();
  }

  async begin() {
    try {
      const about = await get("about");
      this.setState({ about, needsKey: false }, () => this.feed());
    } catch (error) {
      if (error.status === 401 || error.status === 403) this.setState({ needsKey: true, told: error.message });
      else setTimeout(() => this.begin(), 1000);
      this.setState({ link: error.status ? "refused" : "offline" });
    }
  }

  feed() {
    if (this.close) this.close();
    this.close = null;
    if (!this.state.about || document.hidden) return;
    const { place: at, open } = this.state, query = new URLSearchParams();
    const graph = at.id || (this.state.about.graphs[0] || {}).name;
    query.set("view", at.name === "graphs" ? "graph" : at.name === "file" || (at.name === "runs" && at.id) ? "summary" : at.name);
    if (at.name === "graphs") query.set("graph", graph);
    if (at.name === "runs") for (const [name, value] of Object.entries(at.query)) query.set(name, value);
    if (at.name === "actors") {
      if (at.query.search) query.set("search", at.query.search);
      if (at.id !== null) query.set("chosen", at.id);
      for (const address of open) query.append("under", address);
    }
    this.close = watch(query, (view, now) => {
      this.offset = now - Date.now() / 1000;
      this.samples = [...this.samples, [now, view.summary.handled]].slice(-40);
      this.setState({ view, link: "live", now });
    }, (link, error) => this.setState({ link, ...(error && error.status === 401 ? { needsKey: true } : {}) }));
  }

  rates() {
    const [first, last] = [this.samples[0], this.samples[this.samples.length - 1]];
    return { handled: first && last[0] > first[0] ? Math.max(0, (last[1] - first[1]) / (last[0] - first[0])) : 0 };
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|TEXTAREA)$/.test(event.target.tagName)) return;
    const tab = TABS[Number(event.key) - 1];
    if (tab) location.hash = `#/${tab[0]}`;
    else if (event.key === "/") { event.preventDefault(); document.getElementById("search").focus(); }
    else if (event.key === "Escape" && this.state.place.id !== null) location.hash = `#/${this.state.place.name}`;
  }

  async drop(event) {
    event.preventDefault();
    const [file] = event.dataTransfer.files;
    if (!file) return;
    let dropped = [], others = 0, why = "";
    try {
      ({ events: dropped, others } = eventsOf(await file.text()));
    } catch (error) {
      if (error instanceof RangeError) why = `: ${error.message}`;
    }
    if (!dropped.length) return this.setState({ notice: why ? `${file.name} cannot be shown${why}.` : `${file.name} holds no events.` });
    this.drops = (this.drops || 0) + 1;
    this.setState({ dropped, notice: others ? `${file.name} holds ${many(others + 1, "run")}: this is the first.` : "" }, () => { location.hash = go("file", file.name); });
  }

  toggle(address) {
    const open = new Set(this.state.open);
    if (!open.delete(address)) open.add(address);
    this.setState({ open }, () => this.feed());
  }

  body() {
    const { place: at, view, about, now, open, dropped } = this.state;
    if (at.name === "file" && dropped) return html`<${Run} key=${this.drops} id=${at.id} events=${dropped} />`;
    if (!about) return html`<p class="empty">Connecting…</p>`;
    if (at.name === "runs" && at.id) return html`<${Run} key=${at.id} id=${at.id} about=${about} />`;
    if (!view) return html`<p class="empty">Loading…</p>`;
    const props = { view, about, now, query: at.query, chosen: at.id };
    switch (at.name) {
      case "runs": return html`<${Runs} ...${props} />`;
      case "actors": return view.root ? html`<${Actors} ...${props} open=${open} toggle=${(address) => this.toggle(address)} />` : null;
      case "graphs": return html`<${Graphs} ...${props} chosen=${at.id || (about.graphs[0] || {}).name} />`;
      case "letters": return html`<${Letters} ...${props} />`;
      case "models": return html`<${Models} ...${props} />`;
      case "questions": return html`<${Questions} ...${props} />`;
      default: return html`<${Overview} ...${props} rates=${this.rates()} />`;
    }
  }

  render(_, { place: at, view, about, link, needsKey, told, notice, typed, events }) {
    if (events) return html`<main><${Run} id=${(events[0] || {}).run || ""} events=${events} graph=${data("graph")} /></main>`;
    const s = (view || about || {}).summary;
    return html`<header><div class="head"><b>understudy</b>${s ? html`<span>${many(s.graphs, "graph")} · ${many(Object.values(s.runs || {}).reduce((a, b) => a + b, 0), "run")} in progress · ${many(s.actors, "actor")} · ${s.restarting} restarting · ${many(s.letters, "dead letter")} · ${usd(s.cost_usd)}</span>` : null}<span class=${`link ${link}`} role="status">${link}</span><span class="label">${about && about.operates ? "may operate" : "read only"}</span></div>
      <nav aria-label="views">${TABS.map(([name, title], index) => html`<a href=${`#/${name}`} class=${at.name === name ? "on" : ""} aria-current=${at.name === name ? "page" : null} title=${`key ${index + 1}`}>${title}</a>`)}
      <input id="search" type="search" placeholder="search actors  /" aria-label="search actors" value=${typed === null ? at.query.search || "" : typed} onInput=${(event) => this.setState({ typed: event.target.value })} onChange=${(event) => { location.hash = event.target.value ? `#/actors?search=${encodeURIComponent(event.target.value)}` : "#/actors"; }} /></nav></header>
      ${notice ? html`<p class="notice" role="alert">${shown(notice)} <button onClick=${() => this.setState({ notice: "" })}>✕</button></p>` : null}
      <main>${needsKey ? html`<section><h1>A key, please</h1><p>This service is shown to callers with the scope <code>inspect</code>. ${shown(told || "")}</p>
        <input type="password" id="key" aria-label="key" placeholder="usk_…" /> <button onClick=${() => { setToken(document.getElementById("key").value); this.begin(); }}>Look</button></section>` : this.body()}</main>`;
  }
}

/** What a page has inside that was written by `understudy trace -o FILE.html`. */
function data(name) {
  const element = document.getElementById(name);
  return element && element.type === "application/json" ? JSON.parse(element.textContent) : null;
}

function embedded() {
  const found = data("events");
  return found && found.filter((each) => each && typeof each.event === "string");
}

takeToken();
render(html`<${App} />`, document.getElementById("app"));
