// One device: its state in a sentence, its twin, plots, commands, alarms and conditions.
import { devicePath, get, RefusedError } from "./api.js";
import { lastList } from "./devices.js";
import { alarmRow, alarmTable } from "./lists.js";
import { h, put, row, Rows, set, table } from "./dom.js";
import { ago, moment, Reading, severity, stateGlyph, withUnit } from "./format.js";
import { KEPT_MS, Plot } from "./plot.js";
import { runCommand, takeBack, writeProperty } from "./write.js";

const LEARN_EVERY = 30;
const TITLES = ["Property", "Reported", "Quality", "Age", "Desired", "Applied", "Plot", ""];

export class Device {
  /** @param {string[]} parts namespace and name */
  constructor([namespace, name]) {
    this.title = name;
    this.turns = 0;
    this.path = devicePath(namespace, name);
    this.alarmsPath = `/api/v1/alarms?name=${encodeURIComponent(`${namespace}/${name}`)}`;
    this.specs = new Map(); // of the model, by property
    this.histories = new Map(); // [time, value] pairs, by property
    this.plots = new Map();
    this.mark = h("span", { class: "mark", "aria-hidden": "true" });
    this.sentence = h("span");
    this.about = h("p", { class: "about" });
    this.note = h("p", { class: "note", role: "status", hidden: true });
    this.twin = table(`Properties of ${name}`, TITLES, "twin");
    this.rows = new Rows(this.twin.body, (property) => this.row(property));
    this.drawings = h("div", { class: "plots" });
    this.commands = h("div", { class: "bar" });
    this.commandsPart = h("section", { hidden: true }, h("h2", {}, "Commands"), this.commands);
    this.alarms = alarmTable("Alarms of this device");
    this.alarmRows = new Rows(this.alarms.body, alarmRow);
    this.quiet = h("p", { class: "about" }, "none");
    this.conditions = table("Conditions", ["Condition", "Status", "Reason", "Message"], "conditions");
    this.conditionRows = new Rows(this.conditions.body, conditionRow);
    this.node = h(
      "article",
      {},
      h("p", { class: "back" }, h("a", { href: lastList.address }, "‹ Devices")),
      h("h1", {}, name),
      h("p", { class: "sentence" }, this.mark, this.sentence),
      this.about,
      this.note,
      this.twin.node,
      this.drawings,
      this.commandsPart,
      h("h2", {}, "Alarms"),
      this.alarms.node,
      this.quiet,
      h("h2", {}, "Conditions"),
      this.conditions.node,
    );
  }

  /** The same page; another device is another one. */
  takes(page, [namespace, name]) {
    return page === "device" && devicePath(namespace, name) === this.path;
  }

  async poll() {
    const [twin, alarms] = await Promise.all([get(this.path), get(this.alarmsPath)]);
    if (twin.model && this.turns++ % LEARN_EVERY === 0) await this.learn(twin);
    this.show(twin, alarms.alarms);
  }

  /** What the model says: what may be written, and which commands there are. */
  async learn(twin) {
    const path = `/api/v1/models/${encodeURIComponent(twin.namespace)}/${encodeURIComponent(twin.model)}`;
    try {
      const model = await get(path);
      if (model === this.model) return;
      this.model = model;
      this.specs = new Map(model.properties.map((spec) => [spec.name, spec]));
      const buttons = model.commands.map((one) =>
        h("button", { type: "button", title: one.description, onclick: () => runCommand(this.last, one) }, `${one.name}…`),
      );
      this.commands.replaceChildren(...buttons);
      set(this.commandsPart, "hidden", buttons.length === 0);
    } catch (error) {
      if (!(error instanceof RefusedError)) throw error; // without its model a twin is shown all the same
    }
  }

  show(twin, alarms) {
    const first = this.last === undefined;
    this.last = twin;
    this.node.classList.remove("lost");
    set(this.note, "hidden", true);
    set(this.mark, "class", `mark ${twin.status.state}`);
    put(this.mark, stateGlyph(twin.status.state));
    const labels = Object.entries(twin.labels).map(([name, value]) => `${name}=${value}`);
    put(this.about, [`model ${twin.model || "–"}`, twin.protocol, twin.link, ...labels].filter(Boolean).join(" · "));
    for (const property of twin.properties) this.remember(property);
    if (first) this.choose(twin.properties.find((one) => this.plottable(one.name))?.name);
    this.rows.show(twin.properties, (property) => property.name);
    this.alarmRows.show(alarms, (one) => `${one.alarm} ${one.property ?? one.source}`);
    set(this.alarms.node, "hidden", alarms.length === 0);
    set(this.quiet, "hidden", alarms.length > 0);
    this.conditionRows.show(twin.conditions, (one) => one.type);
    for (const [name, plot] of this.plots) plot.show(this.histories.get(name) ?? []);
    this.tick();
  }

  tick() {
    const twin = this.last;
    if (!twin) return;
    put(this.sentence, sentence(twin));
    for (const one of this.rows.rows.values()) one.tick();
    for (const one of this.alarmRows.rows.values()) one.tick();
  }

  /** What went by since this page was opened, for the plots. */
  remember({ name, reported }) {
    if (!this.plottable(name) || !reported.time) return;
    const history = this.histories.get(name) ?? [];
    this.histories.set(name, history);
    const time = Date.parse(reported.time);
    if (history.length && time <= history.at(-1)[0]) return;
    const good = severity(reported.quality) !== "Bad" && reported.value !== null;
    history.push([time, good ? Number(reported.value) : null]);
    while (history[0][0] < time - KEPT_MS) history.shift();
  }

  plottable(name) {
    const type = this.specs.get(name)?.type ?? "";
    return /int|float|bool/.test(type);
  }

  /** Plot a property, or no longer. */
  choose(name) {
    if (name === undefined) return;
    const plot = this.plots.get(name);
    if (plot) {
      plot.close();
      plot.node.remove();
      this.plots.delete(name);
      return;
    }
    const made = new Plot(name, this.last.properties.find((one) => one.name === name)?.unit);
    this.plots.set(name, made);
    this.drawings.append(made.node);
    made.show(this.histories.get(name) ?? []);
  }

  row(property) {
    let now = property;
    const { name } = property;
    const reading = new Reading();
    const small = h("span", { class: "small" });
    const quality = h("span", { class: "mark" });
    const age = h("span");
    const desired = h("span");
    const applied = h("span");
    const plot = h("input", { type: "checkbox", "aria-label": `Plot ${name}`, title: "plot", onchange: () => this.choose(name) });
    const write = h("button", { type: "button", "aria-label": `Write… ${name}`, onclick: () => writeProperty(this.last, now, this.specs.get(name)) }, "Write…");
    const back = h("button", { type: "button", class: "plain", "aria-label": `take back ${name}`, onclick: () => takeBack(this.last, now) }, "take back");
    const node = row({
      name,
      reported: [h("span", { class: "reading" }, reading.value, reading.unit), small],
      quality,
      age,
      desired: [h("span", { class: "label" }, "desired "), desired],
      outcome: applied,
      drawn: plot,
      actions: [write, back],
    });
    const tick = () => {
      const bad = severity(now.reported.quality) === "Bad";
      const old = bad ? "–" : ago(now.reported.time);
      put(age, old);
      put(small, bad ? `${reading.mark.textContent} ${now.reported.quality}` : `${reading.mark.textContent} ${old}`);
    };
    const show = (found) => {
      now = found;
      reading.show(found);
      put(quality, `${reading.mark.textContent} ${found.reported.quality}${found.stale ? ", stale" : ""}`);
      set(quality, "class", reading.mark.className);
      put(desired, found.desired ? withUnit(found.desired.value, found.unit) : "–");
      set(node, "class", found.desired ? "has-desired" : null);
      put(applied, appliedText(found.desired));
      set(applied, "class", found.desired ? found.desired.state : null);
      const spec = this.specs.get(name);
      set(write, "hidden", !spec || spec.access === "ReadOnly");
      set(back, "hidden", !found.desired);
      set(plot.parentNode, "class", this.plottable(name) ? "drawn" : "drawn none");
      plot.checked = this.plots.has(name);
      tick();
    };
    return { node, show, tick };
  }

  fail(message) {
    this.node.classList.add("lost");
    set(this.note, "hidden", false);
    put(this.note, message);
  }

  close() {
    for (const plot of this.plots.values()) plot.close();
  }
}

/** `Offline for 2 min: no answer from 10.0.0.5:502, next in 8 s`. */
function sentence({ status, lastSeen }) {
  const since = status.since ? ` for ${ago(status.since)}` : "";
  const why = status.message || (status.reason ? words(status.reason) : "");
  const seen = status.state === "Ready" ? "" : lastSeen ? `. Last seen ${ago(lastSeen)} ago` : "";
  return `${status.state}${since}${why ? `: ${why}` : ""}${seen}`;
}

/** `SubscribedAndPolling` as people write it. */
function words(reason) {
  return reason.replace(/(?<=[a-z])(?=[A-Z])/g, " ").toLowerCase();
}

function appliedText(desired) {
  if (!desired) return "";
  if (desired.state === "applied") return `applied ${moment(desired.appliedAt)}`;
  return desired.message ? `${desired.state}: ${desired.message}` : desired.state;
}

function conditionRow() {
  const cells = { type: h("span"), status: h("span"), reason: h("span"), message: h("span") };
  const show = (found) => Object.entries(cells).forEach(([name, node]) => put(node, found[name]));
  return { node: row(cells), show };
}
