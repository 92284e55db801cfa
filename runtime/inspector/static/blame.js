// Where the time and the money of a run went, by node and by cause. The same as runtime/traces/blame.py, which says what is meant.

const SLACK = 2000, ROUNDED = 2;
const FAILED_AS = { LMReplyUnreadable: "parse failure", LMTruncated: "truncation" };
const AGAIN = { unreadable: "parse failure", truncated: "truncation" };
const us = (s) => Math.round((s || 0) * 1e6);

/**
 * @typedef {{node: string, cause: string, time: number, requests: number, prompt: number, completion: number, usd: number}} Share
 * @typedef {{node: string, path: string, bar: object|null, cause: string, began: number, ended: number}} Piece
 * @param {import("./timeline.js").Timeline} told @returns {{shares: Share[], path: Piece[], duration: number}} times in microseconds
 */
export function blameOf(told) {
  const begin = us(told.begins), end = us(told.span);
  const bars = told.bars.map((bar) => ({
    bar, node: bar.node, path: bar.path, status: bar.status, error: bar.error, beganSeq: bar.beganSeq, endedSeq: bar.endedSeq === null ? Infinity : bar.endedSeq,
    delivered: Math.max(begin, us(bar.began) - us(bar.waited)), began: us(bar.began), ended: bar.ended === null ? end : us(bar.ended), backoff: us(bar.backoff),
    items: bar.items.map(([at, seq]) => [us(at), seq]), calls: bar.calls.map((call) => callOf(call, bar, end)), inside: [],
  }));
  const byPath = new Map(), outermost = [];
  for (const each of bars) byPath.set(each.path, [...(byPath.get(each.path) || []), each]);
  for (const each of bars) {
    const around = aroundOf(each, byPath);
    (around ? around.inside : outermost).push(each);
  }
  const asked = told.questions.map((each) => ({ path: each.path, from: us(each.began), to: each.answered ? us(each.answered.elapsed_s) : end }));
  const path = [...back(outermost, begin, end, null, asked)].reverse();
  const shares = new Map();
  const share = (node, cause) => {
    const key = JSON.stringify([node, cause]);
    if (!shares.has(key)) shares.set(key, { node, cause, time: 0, requests: 0, prompt: 0, completion: 0, usd: 0 });
    return shares.get(key);
  };
  for (const piece of path) share(piece.node, piece.cause).time += piece.ended - piece.began;
  for (const each of bars) {
    const causes = callCauses(each);
    for (const call of each.calls) for (const used of bill(call, causes.get(call.number))) add(share(each.node, used.cause), used);
  }
  const weight = (a, b) => b.time - a.time || b.usd - a.usd || b.prompt + b.completion - a.prompt - a.completion || (a.node < b.node ? -1 : a.node > b.node ? 1 : a.cause < b.cause ? -1 : 1);
  return { shares: [...shares.values()].sort(weight), path, duration: end - begin };
}

function callOf(call, bar, end) {
  return {
    number: call.call, began: us(call.began), ended: call.ended === null ? (bar.ended === null ? end : us(bar.ended)) : us(call.ended), isOver: call.ended !== null,
    again: call.again, error: call.error || null, requests: call.requests || 0, prompt: call.prompt_tokens || 0, completion: call.completion_tokens || 0, usd: call.cost_usd || 0,
    made: (call.made || []).map((each) => ({
      asked: us(each.asked_s), sent: each.sent_s === null || each.sent_s === undefined ? null : us(each.sent_s), ended: us(each.ended_s), error: each.error, isAnswered: each.is_answered,
      prompt: (each.usage || {}).prompt_tokens || 0, completion: (each.usage || {}).completion_tokens || 0, usd: (each.usage || {}).cost_usd || 0,
    })),
  };
}

function add(to, used) {
  for (const name of ["requests", "prompt", "completion", "usd"]) to[name] += used[name];
}

/** Whether `path` is that of a step of the graph for which the node of the step at `outer` stands. */
export const encloses = (outer, path) => path.startsWith(`${outer}/`) && !/^\d+$/.test(path.slice(outer.length + 1).split("/")[0]);

function aroundOf(each, byPath) {
  const parts = each.path.split("/");
  let found = null;
  for (let length = 1; length < parts.length; length++) {
    for (const outer of byPath.get(parts.slice(0, length).join("/")) || []) {
      if (encloses(outer.path, each.path) && outer.beganSeq < each.beganSeq && outer.endedSeq > each.beganSeq) found = outer;
    }
  }
  return found;
}

function* back(bars, begin, end, around, asked) {
  const wanted = [], unwanted = [];
  for (const each of bars) {
    (each.status === "cancelled" ? unwanted : wanted).push([each.ended, each.endedSeq, each]);
    for (const [at, seq] of each.items) wanted.push([at, seq, each]);
  }
  const lists = [wanted, unwanted].map((list) => list.map((each, index) => [...each, index]).sort((a, b) => a[0] - b[0] || (a[1] === b[1] ? a[3] - b[3] : a[1] - b[1])));
  const places = lists.map((list) => list.length);
  let at = end, seq = null;
  const came = ([out, outSeq, each]) => out <= at + SLACK && (seq === null || (outSeq < seq && each.beganSeq < seq));
  while (at > begin) {
    let latest = null;
    for (const which of [0, 1]) {
      while (places[which] && !came(lists[which][places[which] - 1])) places[which] -= 1;
      const last = places[which] && lists[which][places[which] - 1];
      if (last && (latest === null || (seq === null && last[0] > latest[0] + SLACK))) latest = last;
    }
    if (latest === null) return yield* between(around, begin, at, asked);
    const each = latest[2], output = at - latest[0] <= ROUNDED ? at : Math.min(latest[0], at);
    if (output < at) yield* between(around, Math.max(output, begin), at, asked);
    at = Math.min(at, Math.max(output, begin));
    const began = Math.min(at, Math.max(each.began, begin));
    yield* each.inside.length ? back(each.inside, began, at, each, asked) : own(each, began, at, asked);
    const delivered = Math.min(began, Math.max(each.delivered, begin)), held = Math.min(began, delivered + each.backoff);
    if (began > held) yield piece(each, "waiting", held, began);
    if (held > delivered) yield piece(each, "backoff", delivered, held);
    at = delivered;
    seq = each.beganSeq;
  }
}

const piece = (each, cause, began, ended) => ({ node: each.node, path: each.path, bar: each.bar, cause, began, ended });

function* between(around, begin, end, asked) {
  if (around) yield* own(around, begin, end, asked);
  else if (end > begin) yield { node: "", path: "", bar: null, cause: "runtime", began: begin, ended: end };
}

function* own(each, begin, end, asked) {
  if (end <= begin) return;
  const cause = causeOf(each);
  const spans = [...asked.filter((one) => one.path === each.path || encloses(each.path, one.path)).map((one) => [one.from, one.to, "person"]), ...callSpans(each)];
  const cuts = [...new Set([begin, end, ...spans.flatMap(([a, b]) => [a, b]).filter((cut) => begin < cut && cut < end)])].sort((a, b) => a - b);
  const merged = [];
  for (let index = 1; index < cuts.length; index++) {
    const [from, to] = [cuts[index - 1], cuts[index]];
    const causes = spans.filter(([a, b]) => a <= from && to <= b).map((span) => span[2]);
    const found = !causes.length || causes.includes("work") ? cause : causes[0], last = merged[merged.length - 1];
    if (last && last.cause === found) last.ended = to;
    else merged.push(piece(each, found, from, to));
  }
  yield* merged.reverse();
}

function causeOf(each) {
  if (each.error) return FAILED_AS[each.error.type] || "retry";
  return each.status === "cancelled" ? "cancelled" : "work";
}

const latest = (calls) => calls.reduce((a, b) => (a === null || b.ended > a.ended || (b.ended === a.ended && b.number > a.number) ? b : a), null);

function callCauses(each) {
  const cause = causeOf(each), isRead = cause === "parse failure" || cause === "truncation";
  const found = new Map(each.calls.map((call) => [call.number, isRead ? "retry" : cause]));
  const last = latest(each.calls.filter((call) => call.isOver));
  if (isRead && last) found.set(last.number, cause);
  for (const call of each.calls) {
    if (!AGAIN[call.again]) continue;
    const before = latest(each.calls.filter((other) => other !== call && other.isOver && other.ended <= call.began));
    if (before) found.set(before.number, AGAIN[call.again]);
  }
  for (const call of each.calls) if (call.error && found.get(call.number) === "work") found.set(call.number, "retry");
  return found;
}

const winnerOf = (call) => call.made.filter((each) => each.isAnswered).reduce((a, b) => (a === null || b.ended < a.ended ? b : a), null);

function* callSpans(each) {
  const causes = callCauses(each);
  for (const call of each.calls) {
    const cause = causes.get(call.number), end = call.ended, winner = winnerOf(call);
    if (!call.made.length) {
      yield [call.began, end, cause];
      continue;
    }
    let at = call.began;
    for (const request of [...call.made].sort((a, b) => a.asked - b.asked)) {
      const asked = Math.min(end, call.began + request.asked);
      if (asked > at) yield [at, asked, at === call.began ? "limit" : "backoff"];
      if (winner && request !== winner && request.ended > winner.asked) {
        const won = Math.min(end, call.began + winner.asked);
        if (won > asked) yield [asked, won, "hedge"];
        at = Math.max(at, won);
        continue;
      }
      let from = Math.max(at, asked);
      const sent = request.sent === null ? end : Math.min(end, call.began + request.sent), ended = Math.min(end, call.began + request.ended);
      if (sent > from) yield [from, sent, "limit"];
      from = Math.max(from, sent);
      if (ended > from) yield [from, ended, request === winner || !request.error ? cause : "retry"];
      at = Math.max(at, ended);
    }
    if (end > at) yield [at, end, cause];
  }
}

function* bill(call, cause) {
  const rest = { cause, requests: call.requests, prompt: call.prompt, completion: call.completion, usd: call.usd }, winner = winnerOf(call);
  for (const request of call.made) {
    if (request === winner) continue;
    const overlaps = call.made.some((each) => each !== request && each.asked < request.ended && request.asked < each.ended);
    const used = { cause: overlaps ? "hedge" : request.error ? "retry" : cause, requests: Math.min(rest.requests, 1), prompt: request.prompt, completion: request.completion, usd: request.usd };
    for (const name of ["requests", "prompt", "completion", "usd"]) rest[name] -= used[name];
    yield used;
  }
  yield rest;
}
