// What a run did, from its events: a pure function, for live runs, replays, files and exported pages alike.

/**
 * @typedef {{event: string, seq: number, at: string, elapsed_s: number, node?: string, path?: string, attempt?: number}} Event
 * @typedef {{node: string, path: string, attempt: number, delivered: number, began: number, ended: number|null, status: string,
 *   error: object|null, output: unknown, calls: object[], tools: object[], text: string}} Bar
 * @typedef {{rows: {node: string, bars: Bar[]}[], bars: Bar[], span: number, status: string, graph: string, input: unknown,
 *   output: unknown, error: object|null, labels: object, questions: object[], notes: object[], missed: number, models: object}} Timeline
 */

const ENDS = {
  "node.finished": "done", "node.retrying": "retrying", "node.fell_back": "fell back",
  "node.gave_up": "failed", "node.cancelled": "cancelled",
};
const MOST_TEXT = 4000;

/** @param {Event[]} events @param {number} [until] seconds: later events are left out @returns {Timeline} */
export function timeline(events, until = Infinity) {
  const rows = new Map(), open = new Map(), calls = new Map(), asked = new Map(), bars = [];
  const told = {
    rows: [], bars, span: 0, status: "queued", graph: "", input: null, output: null, error: null, labels: {},
    questions: [], notes: [], missed: 0,
  };
  const latest = new Map();
  const barOf = (event) => open.get(`${event.path} ${event.attempt}`) || latest.get(event.path) || null;
  for (const event of events) {
    if (event.elapsed_s > until) break;
    told.span = Math.max(told.span, event.elapsed_s || 0);
    const name = event.event || "";
    if (name === "node.started") {
      const bar = {
        node: event.node, path: event.path, attempt: event.attempt, delivered: Math.max(0, event.elapsed_s - (event.waited_s || 0)),
        began: event.elapsed_s, ended: null, status: "running", error: null, output: undefined, calls: [], tools: [], text: "",
      };
      if (!rows.has(event.node)) rows.set(event.node, { node: event.node, bars: [] });
      rows.get(event.node).bars.push(bar);
      bars.push(bar);
      open.set(`${event.path} ${event.attempt}`, bar);
      latest.set(event.path, bar);
    } else if (ENDS[name]) {
      const bar = barOf(event);
      if (bar) {
        Object.assign(bar, { ended: event.elapsed_s, status: ENDS[name], error: event.error || null, output: event.output });
        open.delete(`${event.path} ${event.attempt}`);
      }
    } else if (name === "lm.started") {
      const call = { call: event.call, model: event.model, began: event.elapsed_s, ended: null };
      calls.set(event.call, call);
      const bar = barOf(event);
      if (bar) bar.calls.push(call);
    } else if (name === "lm.finished") {
      const call = calls.get(event.call);
      if (call) Object.assign(call, event, { began: call.began, ended: event.elapsed_s });
    } else if (name === "lm.delta" || name === "field.delta") {
      const bar = barOf(event), text = name === "field.delta" ? event.text : event.delta && event.delta.text;
      if (bar && typeof text === "string" && bar.text.length < MOST_TEXT) bar.text += text;
    } else if (name === "tool.called") {
      const bar = [...open.values()].find((each) => (event.path || "").startsWith(each.path)) || barOf(event);
      if (bar) bar.tools.push(event);
    } else if (name === "question.asked") asked.set(event.question, { ...event, began: event.elapsed_s, answered: null });
    else if (name === "question.answered") {
      if (asked.has(event.question)) asked.get(event.question).answered = event;
    } else if (name === "run.started" || name === "run.resumed") {
      Object.assign(told, { status: "running", graph: event.graph, input: event.input, labels: event.labels || {} });
    } else if (name === "run.parked") told.status = "parked";
    else if (name === "run.finished") Object.assign(told, { status: event.status, output: event.output, error: event.error || null });
    else if (name === "events.missed") told.missed += event.count || 0;
    else told.notes.push(event);
  }
  if (["succeeded", "failed", "cancelled"].includes(told.status)) {
    for (const bar of open.values()) Object.assign(bar, { ended: told.span, status: "cancelled" });
  }
  told.rows = [...rows.values()];
  told.questions = [...asked.values()];
  return told;
}

/**
 * The chain of attempts that the end waited for, last first: before each one the attempt whose end delivered its message, or the
 * attempt before it. What is on it is what would have to be faster for the run to be.
 * @param {Bar[]} bars @returns {Set<Bar>}
 */
export function criticalPath(bars) {
  const done = bars.filter((bar) => bar.ended !== null && bar.status !== "cancelled").sort((a, b) => a.ended - b.ended);
  const chain = new Set();
  let bar = done[done.length - 1];
  while (bar && !chain.has(bar)) {
    chain.add(bar);
    const { path, attempt, delivered } = bar;
    const earlier = attempt > 1 && done.find((each) => each.path === path && each.attempt === attempt - 1);
    bar = earlier || done.findLast((each) => each.ended <= delivered + 0.002 && each.began < bar.began && !chain.has(each));
  }
  return chain;
}

/** Where each node of a run is. @param {Timeline} told @returns {Object<string, {state: string, count: number}>} */
export function nodeStates(told) {
  const found = Object.create(null);
  for (const row of told.rows) {
    const last = row.bars[row.bars.length - 1];
    const running = row.bars.some((bar) => bar.ended === null);
    found[row.node] = { state: running ? "running" : last.status, count: row.bars.length };
  }
  for (const question of told.questions) {
    if (!question.answered) found[question.node] = { state: "asked", count: (found[question.node] || { count: 1 }).count };
  }
  return found;
}

/** @param {string} text a file of JSON Lines, or a list of events @returns {Event[]} */
export function eventsOf(text) {
  const trimmed = text.trim();
  const found = trimmed.startsWith("[") ? JSON.parse(trimmed) : trimmed.split("\n").filter(Boolean).map((line) => JSON.parse(line));
  return found.filter((each) => each && typeof each.event === "string");
}
