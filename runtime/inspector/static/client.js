// Talks to the service: JSON, and event streams by fetch, because EventSource cannot send a key.

import { merged } from "./merge.js";

const HOME = new URL("./", location.href.split("#")[0]);
const KEY = "understudy.token";

/** Takes the key of `#token=…` out of the address, for this tab alone. */
export function takeToken() {
  const found = /[#&]token=([^&]+)/.exec(location.hash);
  if (!found) return;
  sessionStorage.setItem(KEY, decodeURIComponent(found[1]));
  history.replaceState(null, "", location.pathname + location.search + "#/overview");
}

export const setToken = (token) => sessionStorage.setItem(KEY, token);

function headers(more) {
  const token = sessionStorage.getItem(KEY);
  return token ? { ...more, Authorization: `Bearer ${token}` } : more;
}

export class Refused extends Error {
  /** @param {number} status @param {string} message */
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function checked(response) {
  if (response.ok) return response;
  const text = await response.text();
  let detail = response.statusText;
  try {
    const problem = JSON.parse(text);
    detail = [problem.detail || problem.title, ...(problem.errors || []).map((each) => `${each.pointer}: ${each.message}`), problem.fix ? `Fix: ${problem.fix}` : ""].join(" ").trim();
  } catch { /* no problem document */ }
  throw new Refused(response.status, detail);
}

export async function get(path) {
  return (await checked(await fetch(new URL(`api/${path}`, HOME), { headers: headers({}), cache: "no-store" }))).json();
}

export async function post(path, body) {
  const all = headers({ "Content-Type": "application/json" });
  return (await checked(await fetch(new URL(`api/${path}`, HOME), { method: "POST", headers: all, body: JSON.stringify(body) }))).json();
}

/** Saves what the service gives as a file. */
export async function download(path, name) {
  const blob = await (await checked(await fetch(new URL(`api/${path}`, HOME), { headers: headers({}), cache: "no-store" }))).blob();
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

/** Splits a stream into its events. @param {string} waiting */
export function framesIn(waiting) {
  const blocks = waiting.split("\n\n");
  const rest = blocks.pop();
  const frames = [];
  for (const block of blocks) {
    const frame = { id: "", event: "message", data: "" };
    for (const line of block.split("\n")) {
      const at = line.indexOf(":");
      if (at > 0) frame[line.slice(0, at)] = line.slice(at + 1).replace(/^ /, "");
    }
    if (frame.data) frames.push(frame);
  }
  return [frames, rest];
}

/**
 * Follows a stream until it is closed; begins again when it is cut, after what was seen last if `resumes`.
 * @returns {() => void} closes it
 */
export function follow(path, { onFrame, onState, resumes = false }) {
  const aborted = new AbortController();
  let last = null, wait = 250;
  (async () => {
    while (!aborted.signal.aborted) {
      try {
        const more = { Accept: "text/event-stream", ...(resumes && last !== null ? { "Last-Event-ID": last } : {}) };
        const init = { headers: headers(more), signal: aborted.signal, cache: "no-store" };
        const response = await checked(await fetch(new URL(`api/${path}`, HOME), init));
        onState("live");
        wait = 250;
        const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
        let rest = "";
        for (;;) {
          const { done, value } = await reader.read();
          if (done) break;
          let frames;
          [frames, rest] = framesIn(rest + value);
          for (const frame of frames) {
            last = frame.id;
            onFrame(frame);
          }
        }
        if (resumes) return onState("ended");
      } catch (error) {
        if (aborted.signal.aborted) return;
        if (error instanceof Refused && error.status < 500 && error.status !== 429) return onState("refused", error);
      }
      onState("offline");
      await new Promise((resolve) => setTimeout(resolve, wait));
      wait = Math.min(5000, wait * 2);
    }
  })();
  return () => aborted.abort();
}

/** Follows a view: `onView(view, now)` gets it whole each time. @returns {() => void} */
export function watch(query, onView, onState) {
  let view = null;
  return follow(`changes?${query}`, {
    onState,
    onFrame: (frame) => {
      const told = JSON.parse(frame.data);
      view = merged(frame.event === "patch" ? view : null, told.view);
      onView(view, told.now);
    },
  });
}
