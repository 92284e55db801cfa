// What views are made of. Everything from the service becomes text nodes; nothing becomes markup.

import htm from "./vendor/htm.mjs";
import { Component, h, render } from "./vendor/preact.mjs";

export const html = htm.bind(h);
export { Component, render };

const HIDDEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/g;

/** Text as it is, with characters that cannot be seen, or that turn text around, as escapes. */
export const shown = (text) => String(text).replace(HIDDEN, (each) => `\\u${each.charCodeAt(0).toString(16).padStart(4, "0")}`);

export const json = (value) => (value === undefined ? "" : typeof value === "string" ? shown(value) : shown(JSON.stringify(value, null, 2)));

export function seconds(s) {
  if (s === null || s === undefined || Number.isNaN(s)) return "–";
  if (s < 0.001) return `${Math.round(s * 1e6)} µs`;
  if (s < 1) return `${Math.round(s * 1000)} ms`;
  if (s < 120) return `${s.toFixed(1)} s`;
  return s < 7200 ? `${Math.round(s / 60)} min` : `${(s / 3600).toFixed(1)} h`;
}

export const count = (n) => (n === null || n === undefined ? "∞" : Number(n).toLocaleString("en"));
/** "1 run", "2 runs". */
export const many = (n, noun) => `${count(n)} ${noun}${n === 1 ? "" : "s"}`;
export const usd = (n) => `$${Number(n || 0).toFixed(n && n < 0.01 ? 5 : 3)}`;
export const clock = (at) => new Date(typeof at === "number" ? at * 1000 : at).toLocaleTimeString();
export const go = (...parts) => `#/${parts.map(encodeURIComponent).join("/")}`;

export const Badge = ({ state }) => html`<span class=${`badge ${String(state).replace(/\W/g, "-")}`}>${shown(state).replace("_", " ")}</span>`;

/** A value; `short` is what of it is told in one line as long as the rest is folded away. */
export const Json = ({ value, open, short = value }) => {
  const text = json(value), line = json(short).replace(/\s+/g, " ");
  return text.length < 80 && !text.includes("\n")
    ? html`<code>${text}</code>`
    : html`<details open=${open}><summary><code>${line.length > 60 ? `${line.slice(0, 60)}…` : line}</code></summary><pre>${text}</pre></details>`;
};

export const Fault = ({ error }) =>
  error ? html`<span class="fault"><b>${shown(error.type)}</b>${error.message ? `: ${shown(error.message)}` : ""}
    ${(error.nodes || []).map((each) => html`<br />${shown(each.node)}: ${[(each.error || {}).type, (each.error || {}).message].filter(Boolean).map(shown).join(": ")}`)}</span>` : null;

export const Table = ({ heads, children, empty }) => html`<div class="scroll"><table>
  <thead><tr>${heads.map((head) => html`<th scope="col">${head}</th>`)}</tr></thead><tbody>${children}</tbody></table>
  ${[children].flat(Infinity).filter(Boolean).length ? null : html`<p class="empty">${empty}</p>`}</div>`;

export const Bar = ({ part, label }) => html`<span class="meter" title=${label}><span style=${{ width: `${Math.min(100, Math.max(0, part * 100))}%` }}></span></span>`;

export const Spark = ({ values }) => {
  const most = Math.max(1, ...values), width = 120, step = width / Math.max(1, values.length - 1);
  const points = values.map((value, at) => `${(at * step).toFixed(1)},${(23 - (22 * value) / most).toFixed(1)}`).join(" ");
  return html`<svg class="spark" viewBox="0 0 120 24" role="img" aria-label=${`latest ${values[values.length - 1] || 0}, most ${most}`}><polyline points=${points} /></svg>`;
};

export const Figure = ({ name, value, more, href }) => html`<a class="figure" href=${href}><span>${name}</span><b>${value}</b>${more ? html`<small>${more}</small>` : null}</a>`;
