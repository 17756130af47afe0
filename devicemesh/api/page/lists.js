// Links, alarms, and the runtime itself.
import { deviceLink, get } from "./api.js";
import { h, put, row, Rows, set, table } from "./dom.js";
import { ago, count, withUnit } from "./format.js";

/** A page of a table that is searched. */
class List {
  constructor(title, made, makeRow) {
    this.title = title;
    this.words = "";
    const asked = () => {
      this.words = this.search.value.trim();
      this.poll().catch(() => {}); // what goes wrong, the next turn tells
    };
    this.search = h("input", { type: "search", placeholder: "search   /", "aria-label": `Search ${title.toLowerCase()}`, oninput: asked });
    this.counted = h("span", { role: "status" });
    this.note = h("p", { class: "note", hidden: true });
    this.rows = new Rows(made.body, makeRow);
    const bar = h("div", { class: "bar" }, this.search, this.counted);
    this.node = h("section", {}, h("h1", {}, title), bar, this.note, made.node);
  }

  /** The path with what is searched for. */
  query(path) {
    return this.words ? `${path}?${new URLSearchParams({ q: this.words })}` : path;
  }

  counts({ matched, total }, shown, none) {
    const rest = matched > shown ? `, the first ${count(shown)} are shown: search for the others` : "";
    put(this.counted, `${count(matched)} of ${count(total)}${rest}`);
    set(this.note, "hidden", matched > 0);
    put(this.note, total === 0 ? none : "Nothing is like this.");
  }

  tick() {
    for (const one of this.rows.rows.values()) one.tick?.();
  }

  fail(message) {
    set(this.note, "hidden", false);
    put(this.note, message);
  }

  key(event) {
    if (event.key !== "/") return;
    event.preventDefault();
    this.search.focus();
  }
}

export class Links extends List {
  constructor() {
    const titles = ["Link", "State", "Devices", "Requests/s", "Failed", "Answers in", "Overruns", "Last answer"];
    super("Links", table("Links", titles, "links"), linkRow);
  }

  async poll() {
    const found = await get(this.query("/api/v1/links"));
    this.counts(found, found.links.length, "No device is declared, so there is no link.");
    this.rows.show(found.links, (one) => `${one.protocol} ${one.link}`);
  }
}

function linkRow(link) {
  const about = h("span", { class: "about" }, link.protocol);
  const mark = h("span", { class: "mark", "aria-hidden": "true" });
  const word = h("span");
  const why = h("span", { class: "about" });
  const cells = Object.fromEntries(["devices", "rate", "failed", "answer", "overruns", "last"].map((n) => [n, h("span")]));
  const kinds = h("span", { class: "about" });
  let before = null;
  let now = link;
  const node = row({
    link: [link.link, about],
    state: [h("span", {}, mark, word), why],
    devices: [h("span", { class: "label" }, "devices "), cells.devices],
    rate: [h("span", { class: "label" }, "requests/s "), cells.rate],
    failures: [h("span", { class: "label" }, "failed "), cells.failed, kinds],
    answer: [h("span", { class: "label" }, "answers in "), cells.answer],
    overruns: [h("span", { class: "label" }, "overruns "), cells.overruns],
    last: [h("span", { class: "label" }, "last answer "), cells.last],
  });
  const tick = () => put(cells.last, ago(now.lastSuccess));
  const show = (found) => {
    now = found;
    const state = found.up ? "Ready" : "Offline";
    put(mark, found.up ? "●" : "○");
    set(mark, "class", `mark ${state}`);
    put(word, found.up ? "up" : "down");
    put(why, found.message);
    put(cells.devices, count(found.devices));
    put(cells.failed, count(found.requests.failed));
    put(kinds, Object.entries(found.errors).map(([kind, number]) => `${kind} ${count(number)}`).join(", "));
    const { mean, p95 } = found.answerSeconds;
    put(cells.answer, mean === null ? "–" : `${seconds(mean)}${p95 === null ? "" : `, 95 % below ${seconds(p95)}`}`);
    put(cells.overruns, count(found.overruns));
    const all = found.requests.ok + found.requests.failed;
    const at = performance.now();
    if (before !== null && at > before.at) put(cells.rate, ((all - before.all) / ((at - before.at) / 1000)).toFixed(1));
    if (before === null) put(cells.rate, "–");
    if (before === null || at - before.at > 3000) before = { all, at };
    tick();
  };
  return { node, show, tick };
}

function seconds(value) {
  return value < 1 ? `${Number((value * 1000).toPrecision(2))} ms` : `${Number(value.toPrecision(2))} s`;
}

/** A table for `alarmRow`. */
export function alarmTable(caption) {
  return table(caption, ["Severity", "Device", "Alarm", "What", "Value", "For"], "alarms");
}

const SEVERITIES = { critical: "▲", warning: "△", info: "·" };

export function alarmRow(alarm) {
  const mark = h("span", { class: "mark", "aria-hidden": "true" });
  const word = h("span");
  const value = h("span");
  const age = h("span");
  const device = h("a", { href: deviceLink(alarm.namespace, alarm.name) }, alarm.name);
  const state = h("span", { class: "about" });
  const node = row({
    severity: [mark, word],
    device,
    alarm: [alarm.alarm, state],
    what: alarm.property ?? alarm.source,
    value,
    age: [h("span", { class: "label" }, "for "), age],
  });
  let now = alarm;
  const tick = () => put(age, ago(now.time));
  const show = (found) => {
    now = found;
    put(mark, SEVERITIES[found.severity]);
    set(mark, "class", `mark ${found.severity}`);
    put(word, found.severity);
    put(state, found.state === "acknowledged" ? "acknowledged" : "");
    put(value, found.message ?? withUnit(found.value, found.unit));
    tick();
  };
  return { node, show, tick };
}

export class Alarms extends List {
  constructor() {
    super("Alarms", alarmTable("Active alarms"), alarmRow);
  }

  async poll() {
    const found = await get(this.query("/api/v1/alarms"));
    this.counts(found, found.alarms.length, "No alarm is active.");
    this.rows.show(found.alarms, (one) => [one.namespace, one.name, one.alarm, one.property ?? one.source].join(" "));
  }
}

export class System {
  title = "System";

  constructor() {
    this.list = h("dl");
    this.mappers = table("Mappers", ["Protocol", "Distribution", "Version"], "mappers");
    this.rows = new Rows(this.mappers.body, mapperRow);
    this.note = h("p", { class: "note", role: "status", hidden: true });
    this.node = h("section", {}, h("h1", {}, "System"), this.note, this.list, h("h2", {}, "Mappers"), this.mappers.node);
    this.entries = new Map();
  }

  async poll() {
    const found = await get("/api/v1/runtime");
    this.last = found;
    set(this.note, "hidden", true);
    this.rows.show(found.mappers, (one) => one.protocol);
    this.tick();
  }

  tick() {
    if (!this.last) return;
    for (const [title, text] of facts(this.last)) this.entry(title, text);
  }

  entry(title, text) {
    if (!this.entries.has(title)) {
      const node = h("dd");
      this.entries.set(title, node);
      this.list.append(h("div", {}, h("dt", {}, title), node));
    }
    put(this.entries.get(title), text);
  }

  fail(message) {
    set(this.note, "hidden", false);
    put(this.note, message);
  }
}

function* facts(now) {
  const { samples, sink, outbox, store, devices, links } = now;
  const dropped = Object.entries(samples.dropped).filter(([, number]) => number > 0);
  const lost = dropped.reduce((sum, [, number]) => sum + number, 0);
  const policies = dropped.map(([policy, number]) => `${policy} ${count(number)}`).join(", ");
  const under = samples.pending + samples.spooled;
  const share = ((100 * outbox.bytes) / outbox.capacityBytes).toFixed(1);
  yield ["Runtime", `DeviceMesh ${now.version} on Python ${now.python}, instance ${now.instance}`];
  yield ["Up for", ago(now.started)];
  yield ["Devices", Object.entries(devices).map(([state, number]) => `${state} ${count(number)}`).join(", ")];
  yield ["Links", `${count(links.up)} of ${count(links.total)} up`];
  yield [
    "Samples",
    `${count(samples.read)} read = ${count(samples.published)} published + ${count(lost)} dropped` +
      `${policies ? ` (${policies})` : ""} + ${count(under)} under way`,
  ];
  yield ["Broker", `${sink.up ? "● connected" : "○ not connected"}${sink.message ? `: ${sink.message}` : ""}, ${count(sink.accepted)} messages accepted, ${count(sink.refused)} refused`];
  yield [
    "Outbox",
    `${count(outbox.messages)} messages, ${count(outbox.bytes)} bytes of ${count(outbox.capacityBytes)} (${share} %)` +
      `${outbox.oldest ? `, the oldest ${ago(outbox.oldest)} old` : ""}`,
  ];
  yield ["Store", `${store.kind}, ${count(store.writes.ok)} status writes, ${count(store.writes.failed)} failed`];
  yield ["Event loop", `late by ${seconds(now.loopLagSeconds)}`];
  yield ["Bugs met", now.errors ? `${count(now.errors)}: see the log` : "none"];
}

function mapperRow() {
  const cells = { protocol: h("span"), distribution: h("span"), version: h("span") };
  const show = (found) => Object.entries(cells).forEach(([name, node]) => put(node, found[name] || "–"));
  return { node: row(cells), show };
}
