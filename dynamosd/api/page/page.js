// SPDX-License-Identifier: GPL-2.0-or-later
//
// Draws what the daemon's API says. It asks again and again while somebody may look, changes only
// what differs (so that focus and selection stay), and makes no markup of what it was told: all of
// it goes in as text.
"use strict";

const API = "api/v1alpha1/";
const POLL_MS = 3000;
const TIMEOUT_MS = 5000;
const TIMELINE_POLLS = 3; // its points are ten seconds apart
const STALE_SECONDS = 10;
const SPAN_SECONDS = 3600;
const SHOWN_RECORDS = 50;
const COLOURS = 6;
const SVG = "http://www.w3.org/2000/svg";

// ------------------------------------------------------------------------------- elements

const at = (id) => document.getElementById(id);

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) set(node, name, value);
  node.append(...children);
  return node;
}

const make = (tag, attributes = {}, ...children) =>
  fill(document.createElement(tag), attributes, children);

const draw = (tag, attributes = {}, ...children) =>
  fill(document.createElementNS(SVG, tag), attributes, children);

function set(node, name, value) {
  if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value);
}

function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

const drawn = new WeakMap();

// Let a node have one child per item. A child whose key is still there is the same as before.
function each(parent, items, keyOf, born, update) {
  const before = drawn.get(parent) ?? new Map();
  const keyed = new Map();
  for (const item of items) {
    let key = keyOf(item);
    while (keyed.has(key)) key += " again";
    keyed.set(key, item);
  }
  for (const [key, node] of before) {
    if (!keyed.has(key)) node.remove();
  }
  const now = new Map();
  let place = parent.firstChild;
  for (const [key, item] of keyed) {
    const node = before.get(key) ?? born(item);
    now.set(key, node);
    if (node === place) place = place.nextSibling;
    else parent.insertBefore(node, place);
    update(node, item);
  }
  drawn.set(parent, now);
}

// A table whose rows become blocks where it is narrow; the roles say what they are all the same.
function table(parent, label, heads, rows, none) {
  each(parent, rows.length ? ["table"] : ["none"], (key) => key, (key) => {
    if (key === "none") return make("p", {}, none);
    const head = make("tr", { role: "row" });
    for (const text of heads) head.append(make("th", { scope: "col", role: "columnheader" }, text));
    const body = make("tbody", { role: "rowgroup" });
    return make("table", { role: "table", "aria-label": label },
      make("thead", { role: "rowgroup" }, head), body);
  }, (node, key) => {
    if (key === "table") each(node.tBodies[0], rows, (row) => row.key, () => line(heads), cells);
  });
}

function line(heads) {
  const row = make("tr", { role: "row" }, make("th", { scope: "row", role: "rowheader" }));
  for (const text of heads.slice(1)) row.append(make("td", { role: "cell", "data-label": text }));
  return row;
}

function cells(node, row) {
  row.cells.forEach((text, place) => say(node.cells[place], text));
}

// ---------------------------------------------------------------------------------- words

const moment = (seconds) => new Date(seconds * 1000).toISOString().slice(11, 19);
const seconds = (text) => Date.parse(text) / 1000;

function lasting(count) {
  const whole = Math.max(0, Math.round(count));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
}

function until(time) {
  if (time === null || time === undefined) return "it is ended";
  const when = typeof time === "number" ? time : seconds(time);
  return `${new Date(when * 1000).toISOString().slice(0, 16).replace("T", " ")}`;
}

function figure(value) {
  if (value === null || value === undefined) return "no data";
  return Number(value.toPrecision(4)).toLocaleString("en");
}

const because = (reason) => (reason ? `: ${reason}` : "");

// Why there is no switch, unless the policy's state says it already.
const held = (it) => (it.suppressed && it.suppressed !== it.phase ? `, no switch (${it.suppressed})` : "");

function who(record) {
  const by = { manual: "by hand", exit: "when the daemon left", tripwire: "by the tripwire",
    lease: "for the lost lease", advice: "advice accepted", pin: "for the pin" };
  if (record.trigger !== "policy") return by[record.trigger] ?? record.trigger;
  return `policy ${record.policy}${record.rule ? `, rule ${record.rule}` : ""}`;
}

const WORDS = {
  switch: (it) => {
    const part = it.partial ? ` in part${it.scope ? ` (${it.scope})` : ""}` : "";
    const done = it.result === "ok" ? because(it.reason) : ` ${it.result}${because(it.error)}`;
    return `switched ${it.from} → ${it.to}${part} (${who(it)})${done}`;
  },
  decision: (it) => {
    const moves = it.current && it.current !== it.target;
    const wants = moves ? `${it.current} → ${it.target}` : it.target;
    return `policy ${it.policy} (${it.mode}) is ${it.phase}, wants ${wants}${held(it)}${because(it.reason)}`;
  },
  guardrail: (it) =>
    `guardrail ${it.guardrail} of policy ${it.policy}, ${it.edition}: ${it.verdict}${because(it.reason)}`,
  canary: (it) => `canary of policy ${it.policy}, ${it.edition}: ${it.event}${because(it.reason)}`,
  quarantine: (it) => it.result === "begun"
    ? `${it.edition} is in quarantine until ${until(it.until)}${because(it.reason)}`
    : `${it.edition} is no longer in quarantine`,
  pin: (it) => `${it.edition} is pinned${it.until ? ` until ${until(it.until)}` : ""}${because(it.reason)}`,
  unpin: (it) => `${it.edition} is no longer pinned${because(it.reason)}`,
  trouble: (it) => `policy ${it.policy}: ${it.reason}`,
  module_gone: (it) => `the kernel module is gone${because(it.reason)}`,
  module_back: () => "the kernel module is back",
  reload: () => "policies read again",
  reload_failed: (it) => `not reloaded, the last good policies stay: ${it.reason}`,
};

function words(record) {
  const text = (WORDS[record.kind] ?? ((it) => `${it.kind}${because(it.reason)}`))(record);
  return record.subsystem ? `${record.subsystem}: ${text}` : text;
}

function isWrong(record) {
  const kinds = ["trouble", "module_gone", "reload_failed"];
  return kinds.includes(record.kind) || (record.kind === "switch" && record.result !== "ok");
}

// ---------------------------------------------------------------------------------- bands

function bandsOf(subsystem, timeline, now) {
  const begin = now - SPAN_SECONDS;
  return subsystem.changes.map((change, place) => {
    const next = subsystem.changes[place + 1];
    const end = next ? next.time_seconds : Math.max(now, change.time_seconds);
    return { ...change, begin: Math.max(begin, change.time_seconds), end, is_last: !next,
      why: whyOf(subsystem.name, change, timeline.records) };
  }).filter((band) => band.end > begin || band.is_last);
}

// The switch that led to a change was recorded in the tick that saw it, or in the one before.
function whyOf(name, change, records) {
  const edition = change.partial ?? change.active;
  const found = records.filter((it) => it.kind === "switch" && it.result === "ok" &&
    it.subsystem === name && it.to === edition && Math.abs(it.time_seconds - change.time_seconds) < 3);
  return found.length ? `${who(found.at(-1))}${because(found.at(-1).reason)}` : "";
}

function editionOf(band) {
  if (band.active === null) return "not to be seen";
  if (!band.partial) return band.active;
  return `${band.active}, ${band.partial} in part${band.scope ? ` (${band.scope})` : ""}`;
}

function bandText(band) {
  const to = band.is_last ? "now" : moment(band.end);
  const long = lasting(band.end - band.begin);
  const why = band.why ? `, ${band.why}` : "";
  return `${editionOf(band)}, from ${moment(band.begin)} to ${to}, ${long}${why}`;
}

function colour(indexes, edition) {
  const index = indexes.get(edition);
  if (index === undefined) return "band-unknown";
  return `band-${index === 0 ? 0 : 1 + ((index - 1) % COLOURS)}`;
}

function bornSubsystem() {
  const id = `told-${Math.random().toString(36).slice(2)}`;
  const told = make("p", { class: "told note", id },
    "Point at one, or use the arrow keys, for when and why.");
  const svg = draw("svg", { class: "bands", role: "group", "aria-describedby": id });
  svg.addEventListener("keydown", (event) => walk(svg, event));
  for (const kind of ["focusin", "pointerover"]) {
    svg.addEventListener(kind, (event) => {
      const band = event.target.closest("g");
      if (band) say(told, band.getAttribute("aria-label"));
    });
  }
  const axis = make("div", { class: "axis", "aria-hidden": "true" });
  for (const text of ["−60 min", "−45", "−30", "−15", "now"]) axis.append(make("span", {}, text));
  return make("article", { class: "card" }, make("h3", { class: "name" }), make("p"),
    svg, axis, make("ul", { class: "legend" }), told,
    make("details", {}, make("summary"), make("div")));
}

// One stop for the tab key; arrows, Home and End go from band to band.
function walk(svg, event) {
  const bands = [...svg.children];
  const here = bands.indexOf(document.activeElement);
  const places = { ArrowLeft: here - 1, ArrowRight: here + 1, Home: 0, End: bands.length - 1 };
  const next = bands[places[event.key]];
  if (here < 0 || !next) return;
  event.preventDefault();
  for (const band of bands) set(band, "tabindex", band === next ? 0 : -1);
  next.focus();
}

function drawSubsystem(card, subsystem, known) {
  const [head, state, svg, , legend, , details] = card.children;
  const found = known.kernel.get(subsystem.name);
  const bands = bandsOf(subsystem, known.timeline, known.now);
  const indexes = new Map((found?.editions ?? []).map((it) => [it.name, it.index]));
  say(head, subsystem.name);
  say(state, stateOf(bands.at(-1), found, known.status.last_switches?.[subsystem.name]));
  set(svg, "aria-label", `Editions of ${subsystem.name} over the last hour, ${bands.length} in a row. ` +
    "The arrow keys go from one to the next.");
  drawBands(svg, bands, indexes, known.now);
  const seen = [...new Set(bands.flatMap((it) => [it.active, it.partial]).filter(Boolean))];
  each(legend, seen, (name) => name, (name) => make("li", {},
    make("span", { class: "swatch", "aria-hidden": "true" }), name), (node, name) =>
    set(node.firstChild, "class", `swatch ${colour(indexes, name)}`));
  say(details.firstChild, `Editions of ${subsystem.name} as a table`);
  const rows = bands.toReversed().map((it) => ({ key: String(it.time_seconds), cells: [
    editionOf(it), moment(it.begin), it.is_last ? "now" : moment(it.end),
    lasting(it.end - it.begin), it.why] }));
  table(details.lastChild, `Editions of ${subsystem.name}`, ["Edition", "From", "To", "For", "Why"],
    rows, "Nothing is known yet.");
}

function stateOf(band, found, last) {
  if (!found || !band) return "The kernel module does not show it now.";
  const counts = found.functions.flatMap((it) => it.editions);
  const inside = `${counts.reduce((sum, it) => sum + it.in_flight, 0)} in flight`;
  const by = last?.trigger === "policy" ? "by policy" : last && who(last);
  const since = last ? ` since ${until(last.time)} (${by}${because(last.reason)})` : "";
  return `${editionOf(band)} is active${since}; ${inside}.`;
}

function drawBands(svg, bands, indexes, now) {
  const width = svg.clientWidth;
  const begin = now - SPAN_SECONDS;
  each(svg, bands, (it) => String(it.time_seconds), () => draw("g", { role: "img", tabindex: -1 },
    draw("title"), draw("rect", { y: 0, height: "100%" }), draw("rect", { y: "55%", height: "45%" }),
    draw("text", { y: "50%", "dominant-baseline": "central" })), (node, band) => {
    const [title, whole, part, text] = node.children;
    const from = (band.begin - begin) / SPAN_SECONDS;
    const share = Math.max(0.001, (band.end - band.begin) / SPAN_SECONDS);
    const label = bandText(band);
    set(node, "aria-label", label);
    say(title, label);
    for (const rect of [whole, part]) {
      set(rect, "x", `${(100 * from).toFixed(3)}%`);
      set(rect, "width", `${(100 * share).toFixed(3)}%`);
    }
    set(whole, "class", colour(indexes, band.active));
    set(part, "class", colour(indexes, band.partial));
    set(part, "visibility", band.partial ? "visible" : "hidden");
    set(text, "x", `${(100 * from + 0.5).toFixed(3)}%`);
    set(text, "y", band.partial ? "28%" : "50%");
    // As wide as letters are at most; what has no room is in the title and in the table.
    const fits = band.active !== null && share * width > 10 * band.active.length + 12;
    say(text, fits ? band.active : "");
  });
  const nodes = [...svg.children];
  if (!nodes.some((node) => node.getAttribute("tabindex") === "0")) {
    nodes.at(-1)?.setAttribute("tabindex", 0);
  }
}

// --------------------------------------------------------------------------------- signals

// Lowest, highest and newest; of a signal that had no data, none.
function endsOf(signal) {
  const numbers = signal.values.filter((it) => it !== null);
  if (!numbers.length) return null;
  return { low: Math.min(...numbers), high: Math.max(...numbers), newest: figure(signal.values.at(-1)) };
}

function drawSignal(node, signal, times, now) {
  const [caption, svg, range] = node.children;
  const [value, name] = caption.children;
  const { low, high, newest } = endsOf(signal);
  say(name, signal.text);
  say(value, newest);
  set(node, "title", signal.about);
  set(svg, "aria-label",
    `${signal.text}: now ${newest}, over the last hour from ${figure(low)} to ${figure(high)}`);
  say(range.firstChild, `lowest ${figure(low)}`);
  say(range.lastChild, `highest ${figure(high)}`);
  set(svg.firstChild, "d", path(signal.values, times, now, Math.min(0, low), high));
}

function path(values, times, now, low, high) {
  let said = "";
  let last = null;
  const range = high > low ? high - low : 1;
  values.forEach((value, place) => {
    const time = times[place];
    if (value !== null && time >= now - SPAN_SECONDS) {
      const x = (360 * (time - now + SPAN_SECONDS) / SPAN_SECONDS).toFixed(1);
      const y = (97 - 94 * (value - low) / range).toFixed(1);
      const goes_on = last !== null && time - last < 2.5 * known.timeline.step_seconds;
      // A point with no neighbour is a dot: a line of no length with a round end.
      said += goes_on ? `L${x} ${y}` : `M${x} ${y}L${x} ${y}`;
    }
    last = value === null ? null : time;
  });
  return said;
}

const bornSignal = () => make("figure", {},
  make("figcaption", {}, make("span", { class: "now" }), make("span", { class: "name" })),
  draw("svg", { class: "chart", role: "img", viewBox: "0 0 360 100", preserveAspectRatio: "none" },
    draw("path", { "stroke-linecap": "round" })),
  make("div", { class: "range note", "aria-hidden": "true" }, make("span"), make("span")));

function drawSignals(timeline, now) {
  const left = timeline.left_out.signals;
  say(at("kept"), "Of the last hour: those that policies read, calls and threads in flight of each " +
    `function, and the host's.${left ? ` ${left} more are left out.` : ""}`);
  each(at("signals"), timeline.signals.filter(endsOf), (it) => it.text, bornSignal,
    (node, it) => drawSignal(node, it, timeline.times_seconds, now));
  const rows = timeline.signals.map((it) => {
    const ends = endsOf(it);
    return { key: it.text, cells: [it.text, ends?.newest ?? figure(null), figure(ends?.low),
      figure(ends?.high), it.about] };
  });
  table(at("signal-table"), "Signals", ["Signal", "Now", "Lowest", "Highest", "What it is"], rows,
    "There are none yet.");
}

// ---------------------------------------------------------------------------------- tables

function drawPolicies(policies) {
  const rows = policies.map((it) => {
    const moves = it.current && it.current !== it.target;
    const why = [it.reason, it.trouble].filter(Boolean).join("; ");
    return { key: it.name, cells: [it.name, it.subsystem, it.mode, (it.phase ?? "not asked yet") + held(it),
      moves ? `${it.current} → ${it.target}` : it.target ?? "", why] };
  });
  table(at("policies"), "Policies", ["Policy", "Subsystem", "Mode", "State", "Edition", "Why"], rows,
    "There is no policy: the daemon only measures.");
}

function drawHolds(status, subsystems) {
  const pinned = (status.pins ?? []).map((it) => {
    const why = [it.reason, it.trouble].filter(Boolean).join("; ");
    return [`${it.edition} of ${it.subsystem}`, "pinned", until(it.until), why];
  });
  const paused = (status.pauses ?? []).map((it) => {
    const about = it.policy ? `policy ${it.policy}` : `policies of ${it.subsystem}`;
    return [it.policy || it.subsystem ? about : "all policies", "paused", until(it.until), it.reason];
  });
  const held = (status.quarantines ?? []).map((it) =>
    [`${it.edition} of ${it.subsystem}`, "in quarantine", until(it.until), it.reason]);
  const tripped = subsystems.flatMap((one) => one.editions.filter((it) => it.quarantine).map((it) =>
    [`${it.name} of ${one.name}`, "in quarantine of the kernel module", "it is cleared", it.quarantine]));
  const rows = [...pinned, ...paused, ...held, ...tripped].map((found) =>
    ({ key: found.slice(0, 2).join(" "), cells: found.map((it) => it || "") }));
  table(at("holds"), "Pins, pauses and quarantines", ["What", "Is", "Until", "Why"], rows, "There are none.");
}

function drawRecords(records) {
  const list = at("decisions");
  const shown = records.slice(-SHOWN_RECORDS).toReversed();
  each(list, shown, (it) => `${it.time_seconds} ${it.kind} ${it.policy ?? it.subsystem ?? ""}`, (it) => {
    const time = make("time", { datetime: new Date(it.time_seconds * 1000).toISOString() },
      moment(it.time_seconds));
    const more = isWrong(it) ? " wrong" : "";
    return make("li", { class: `${it.kind === "switch" ? "switch" : "other"}${more}` }, time, words(it));
  }, () => {});
  // What was there when the page came is no news.
  set(list, "aria-live", "polite");
}

// ------------------------------------------------------------------------------ the daemon

const known = { status: null, kernel: new Map(), timeline: null, now: 0 };
const answers = { age: 0, at: 0, failure: "", polls: 0, signature: "" };
let timer = 0;

class Failure extends Error {}

async function ask(what) {
  const answer = await reach(what);
  if (!answer.ok) throw new Failure(`The daemon says: ${answer.found.detail ?? answer.status}.`);
  return [answer.found, answer.server];
}

async function reach(what) {
  try {
    const options = { cache: "no-store", signal: AbortSignal.timeout(TIMEOUT_MS) };
    const it = await fetch(API + what, options);
    const server = Date.parse(it.headers.get("Date")) / 1000;
    return { ok: it.ok, status: it.status, server, found: await it.json() };
  } catch {
    throw new Failure("The daemon does not answer.");
  }
}

async function look() {
  const [status, server] = await ask("status");
  const signature = JSON.stringify([status.last_switches, status.quarantines, status.pins, status.reloads,
    status.module, status.policies.map((it) => [it.action, it.target, it.phase, it.suppressed])]);
  const due = !known.timeline || answers.polls % TIMELINE_POLLS === 0 || signature !== answers.signature;
  const [subsystems, timeline] = await Promise.all([
    status.module ? ask("subsystems").then(([it]) => it.subsystems) : [],
    due ? ask("timeline").then(([it]) => it) : known.timeline,
  ]);
  known.status = status;
  known.kernel = new Map(subsystems.map((it) => [it.name, it]));
  known.timeline = timeline;
  known.now = seconds(status.updated);
  Object.assign(answers, { age: Math.max(0, server - known.now), at: performance.now(), failure: "",
    polls: answers.polls + 1, signature });
}

function show() {
  const { status, timeline, now } = known;
  at("main").hidden = false;
  say(at("version"), status.version ?? "");
  const since = timeline.since_seconds > now - SPAN_SECONDS + 60;
  say(at("span"), since ? `The last hour, known since ${moment(timeline.since_seconds)}.` : "The last hour.");
  each(at("subsystems"), timeline.subsystems.length ? timeline.subsystems : [null],
    (it) => (it ? `of ${it.name}` : "none"),
    (it) => (it ? bornSubsystem() : make("p", {}, "There are none.")),
    (node, it) => it && drawSubsystem(node, it, known));
  drawPolicies(status.policies);
  drawHolds(status, [...known.kernel.values()]);
  drawRecords(timeline.records);
  drawSignals(timeline, now);
}

function tell() {
  const node = at("state");
  if (!known.status) {
    if (!answers.failure) return;
    say(node, `${answers.failure} Nothing is known yet.`);
    set(node, "data-state", "stale");
    return;
  }
  const age = answers.age + (performance.now() - answers.at) / 1000;
  const of = `What is shown here is of ${moment(known.now)}, ${lasting(age)} ago.`;
  const loop = `The daemon answers, but its loop has not ticked for ${lasting(age)}. ${of}`;
  const stale = answers.failure ? `${answers.failure} ${of}` : age > STALE_SECONDS ? loop : "";
  const module = known.status.module ? "" : ", but the kernel module is gone";
  say(node, stale || `The loop ticks, last at ${moment(known.now)}${module}`);
  set(node, "data-state", stale || module ? "stale" : "fresh");
  document.title = stale ? "(stale) dynamosd" : "dynamosd";
}

async function poll() {
  clearTimeout(timer);
  timer = 0;
  try {
    await look();
    show();
  } catch (error) {
    if (!(error instanceof Failure)) console.error(error);
    answers.failure = error instanceof Failure ? error.message : `This page has failed: ${error.message}.`;
  }
  tell();
  if (!document.hidden && !timer) timer = setTimeout(poll, POLL_MS);
}

document.addEventListener("visibilitychange", () => {
  clearTimeout(timer);
  timer = 0;
  if (!document.hidden) poll();
});
window.addEventListener("resize", () => known.timeline && show());
setInterval(tell, 1000);
poll();
