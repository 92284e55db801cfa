// What a run did, from its events: a pure function, for live runs, replays, files and exported pages alike.

import { encloses } from "./blame.js";

/**
 * @typedef {{event: string, seq: number, at: string, elapsed_s: number, node?: string, path?: string, attempt?: number}} Event
 * @typedef {{node: string, path: string, attempt: number, delivered: number, began: number, ended: number|null, status: string,
 *   waited: number, backoff: number, beganSeq: number, endedSeq: number|null, items: [number, number][], error: object|null, output: unknown, calls: object[], tools: object[], report: object|null, text: string}} Bar
 * @typedef {{rows: {node: string, bars: Bar[]}[], bars: Bar[], begins: number, span: number, status: string, graph: string, input: unknown,
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
    rows: [], bars, begins: 0, span: 0, status: "queued", graph: "", input: null, output: null, error: null, labels: {},
    questions: [], notes: [], missed: 0,
  };
  const latest = new Map();
  let isFirst = true, lastEnd = -Infinity;
  const barOf = (event) => open.get(`${event.path} ${event.attempt}`) || latest.get(event.path) || null;
  const begin = (event, at, waited, backoff) => {
    const bar = {
      node: event.node, path: event.path, attempt: event.attempt, delivered: Math.max(told.begins, at - waited), began: at, ended: null, status: "running",
      waited, backoff, beganSeq: event.seq, endedSeq: null, items: [], error: null, output: undefined, calls: [], tools: [], report: null, text: "",
    };
    if (!rows.has(event.node)) rows.set(event.node, { node: event.node, bars: [] });
    rows.get(event.node).bars.push(bar);
    bars.push(bar);
    open.set(`${event.path} ${event.attempt}`, bar);
    latest.set(event.path, bar);
    return bar;
  };
  for (const event of events) {
    if (event.elapsed_s > until) break;
    const name = event.event || "";
    if (isFirst && name !== "events.missed") {
      told.begins = told.span = event.elapsed_s || 0;
      isFirst = false;
    }
    if (name !== "events.missed") told.span = Math.max(told.span, event.elapsed_s || 0);
    if (name === "node.started") {
      begin(event, event.elapsed_s, event.waited_s || 0, event.backoff_s || 0);
    } else if (ENDS[name]) {
      // A run that only a store knows tells when steps ended, and not when they began: with the end of what ended before.
      const bar = open.get(`${event.path} ${event.attempt}`) || (told.missed ? null : begin(event, Math.max(lastEnd, told.begins), 0, 0));
      lastEnd = event.elapsed_s;
      if (bar) {
        Object.assign(bar, { ended: event.elapsed_s, endedSeq: event.seq, status: ENDS[name], error: event.error || null, output: event.output });
        open.delete(`${event.path} ${event.attempt}`);
      }
    } else if (name === "node.emitted") {
      const bar = open.get(`${event.path} ${event.attempt}`);
      if (bar) bar.items.push([event.elapsed_s, event.seq]);
    } else if (name === "lm.started") {
      const call = { call: event.call, model: event.model, again: event.again, began: event.elapsed_s, ended: null };
      calls.set(event.call, call);
      const bar = open.get(`${event.path} ${event.attempt}`) || [...open.values()].find((each) => encloses(each.path, event.path || ""));
      if (bar) bar.calls.push(call);
    } else if (name === "lm.finished") {
      const call = calls.get(event.call);
      if (call) Object.assign(call, event, { began: call.began, again: call.again, ended: event.elapsed_s });
    } else if (name === "lm.delta" || name === "field.delta") {
      const bar = barOf(event), text = name === "field.delta" ? event.text : event.delta && event.delta.text;
      if (bar && typeof text === "string" && bar.text.length < MOST_TEXT) bar.text += text;
    } else if (name === "tool.called" || name === "node.reported") {
      const bar = open.get(`${event.path} ${event.attempt}`) || [...open.values()].find((each) => encloses(each.path, event.path || "")) || barOf(event);
      if (bar && name === "tool.called") bar.tools.push(event);
      else if (bar) bar.report = event;
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

const VERSION = 1;

/**
 * @param {string} text a file of JSON Lines, or a list of events; a last line that ends in the middle is left out
 * @returns {{events: Event[], others: number}} those of its first run, and how many other runs it holds
 */
export function eventsOf(text) {
  const trimmed = text.trim(), lines = trimmed.split("\n").filter((line) => line.trim());
  const read = (line, index) => {
    try {
      return JSON.parse(line);
    } catch (error) {
      if (index > 0 && index === lines.length - 1) return null; // its program was stopped, or still writes
      throw error;
    }
  };
  const found = (trimmed.startsWith("[") ? JSON.parse(trimmed) : lines.map(read)).filter((each) => each && typeof each.event === "string");
  if (found.some((each) => each.v > VERSION)) throw new RangeError("a newer version has written it");
  const runs = [...new Set(found.map((each) => each.run).filter(Boolean))];
  const events = found.filter((each) => !each.run || each.run === runs[0]);
  timeline(events); // throws where an event isn't what its name says
  return { events, others: Math.max(0, runs.length - 1) };
}
