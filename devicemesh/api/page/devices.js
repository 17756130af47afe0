// All devices, or those that are looked for.
import { deviceLink, get } from "./api.js";
import { h, put, row, Rows, set, table } from "./dom.js";
import { ago, count, Reading, stateGlyph } from "./format.js";

const SHOWN = 4;
const LIMIT = 50;
const CHIPS = { "": "All", true: "Ready", false: "Not ready" };

/** Where the list was left, for who comes back from a device. */
export const lastList = { address: "#/" };

export class Devices {
  title = "Devices";

  /** @param {string[]} _ @param {URLSearchParams} query */
  constructor(_, query) {
    this.starts = [""]; // where each page up to this one begins
    this.next = null;
    this.search = h("input", {
      type: "search",
      placeholder: "name, label, protocol, model   /",
      "aria-label": "Search devices",
      oninput: () => this.filter(),
    });
    this.chips = Object.entries(CHIPS).map(([ready, word]) => {
      const label = h("span", {}, word);
      const node = h("button", { type: "button", class: "chip", onclick: () => this.choose(ready) }, label);
      return { ready, word, label, node };
    });
    this.counted = h("span", { role: "status" });
    this.clear = h("button", { type: "button", class: "plain", hidden: true, onclick: () => this.reset() }, "clear");
    this.note = h("p", { class: "note", hidden: true });
    const { node, body } = table("Devices", ["Device", "State", "Values", "Age"], "devices");
    this.body = body;
    this.rows = new Rows(body, makeRow);
    this.before = h("button", { type: "button", class: "plain", onclick: () => this.turn(-1) }, "‹ previous");
    this.after = h("button", { type: "button", class: "plain", onclick: () => this.turn(1) }, "next ›");
    this.range = h("span");
    this.pager = h("nav", { class: "pager", hidden: true, "aria-label": "Pages of the list" }, this.before, this.range, this.after);
    const chips = h("div", { class: "chips", role: "group", "aria-label": "State" }, ...this.chips.map((c) => c.node));
    const bar = h("div", { class: "bar" }, this.search, chips, this.counted, this.clear);
    this.node = h("section", {}, h("h1", { class: "unseen" }, "Devices"), bar, this.note, node, this.pager);
    this.takes("devices", [], query);
  }

  /** Go on with another filter; false where this is another page. */
  takes(page, _, query) {
    if (page !== "devices") return false;
    const words = query.get("q") ?? "";
    const ready = query.get("ready") ?? "";
    const same = this.words === words && this.ready === ready;
    this.words = words;
    this.ready = ready in CHIPS ? ready : "";
    lastList.address = location.hash || "#/";
    if (document.activeElement !== this.search) this.search.value = words;
    if (!same) this.starts = [""];
    if (!same && this.asked) this.soon();
    return true;
  }

  /** The filter is in the address: it can be kept, sent, and gone back to. */
  filter() {
    const query = new URLSearchParams();
    if (this.search.value.trim()) query.set("q", this.search.value.trim());
    if (this.ready) query.set("ready", this.ready);
    const address = query.size ? `#/?${query}` : "#/";
    history.replaceState(null, "", address);
    this.takes("devices", [], query);
  }

  choose(ready) {
    this.ready = ready;
    this.filter();
  }

  reset() {
    this.search.value = "";
    this.choose("");
    this.search.focus();
  }

  turn(step) {
    if (step > 0 && this.next) this.starts.push(this.next);
    if (step < 0 && this.starts.length > 1) this.starts.pop();
    this.soon();
    scrollTo(0, 0);
  }

  soon() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.poll().catch(() => {}), 150); // what goes wrong, the next turn tells
  }

  async poll() {
    const query = new URLSearchParams({ brief: String(SHOWN), limit: String(LIMIT) });
    if (this.words) query.set("q", this.words);
    if (this.ready) query.set("ready", this.ready);
    const start = this.starts.at(-1);
    if (start) query.set("continue", start);
    const asked = `${query}`;
    this.asked = asked;
    const found = await get(`/api/v1/devices?${query}`);
    if (this.asked !== asked) return; // another was typed meanwhile
    if (found.devices.length === 0 && this.starts.length > 1) this.starts.pop();
    this.show(found);
  }

  show(found) {
    const counts = { "": found.ready + found.notReady, true: found.ready, false: found.notReady };
    for (const chip of this.chips) {
      put(chip.label, `${chip.word} ${count(counts[chip.ready])}`);
      set(chip.node, "aria-pressed", chip.ready === this.ready ? "true" : "false");
    }
    put(this.counted, `${count(found.matched)} of ${count(found.total)}`);
    set(this.clear, "hidden", !this.words && !this.ready);
    this.next = found.continue;
    const first = (this.starts.length - 1) * LIMIT;
    put(this.range, `${count(first + 1)} to ${count(first + found.devices.length)}`);
    set(this.pager, "hidden", found.continue === null && this.starts.length === 1);
    set(this.before, "disabled", this.starts.length === 1);
    set(this.after, "disabled", found.continue === null);
    this.rows.show(found.devices, (device) => `${device.namespace}/${device.name}`);
    this.say(found);
  }

  say(found) {
    set(this.note, "hidden", found.matched > 0);
    if (found.matched > 0) return;
    const none = "No device is declared here. Try: devicemesh apply -f FILE";
    put(this.note, found.total === 0 ? none : "Nothing is like this. The search looks at name, labels, protocol and model.");
  }

  fail(message) {
    set(this.note, "hidden", false);
    put(this.note, message);
  }

  tick() {
    for (const one of this.rows.rows.values()) one.tick();
  }

  close() {
    clearTimeout(this.timer);
  }

  key(event) {
    if (event.key === "/") {
      event.preventDefault();
      this.search.focus();
      this.search.select();
    }
    const step = { j: 1, k: -1 }[event.key];
    if (!step) return;
    const links = [...this.body.querySelectorAll("a")];
    const at = links.indexOf(document.activeElement);
    links[Math.min(Math.max(at + step, 0), links.length - 1)]?.focus();
  }
}

/** A device in the list. */
function makeRow(device) {
  const link = h("a", { href: deviceLink(device.namespace, device.name) }, device.name);
  const about = h("span", { class: "about" });
  const mark = h("span", { class: "mark", "aria-hidden": "true" });
  const word = h("span", { class: "word" });
  const why = h("span", { class: "about" });
  const values = h("ul", { class: "values" });
  const age = h("span");
  const shown = new Rows(values, makeValue);
  const node = row(
    { device: [link, about], state: [h("span", {}, mark, word), why], "all-values": values, age: [h("span", { class: "label" }, "seen "), age] },
    { onclick: (event) => event.target.closest("a") || getSelection().toString() || link.click() },
  );
  let now = device;
  return {
    node,
    tick: () => put(age, now.status.state === "Starting" && !now.lastSeen ? "–" : ago(now.lastSeen)),
    show(found) {
      now = found;
      const { state, reason, message } = found.status;
      put(about, described(found));
      put(mark, stateGlyph(state));
      set(mark, "class", `mark ${state}`);
      put(word, state);
      put(why, reason);
      set(why, "title", message || null);
      shown.show(found.properties, (property) => property.name);
      this.tick();
    },
  };
}

function described(device) {
  const labels = Object.entries(device.labels).map(([name, value]) => `${name}=${value}`);
  const where = device.namespace === "default" ? [] : [device.namespace];
  return [...where, device.model, device.protocol, ...labels].filter(Boolean).join(" · ");
}

function makeValue(property) {
  const reading = new Reading();
  const name = h("span", { class: "name" }, property.name);
  const node = h("li", {}, name, h("span", { class: "reading" }, reading.value, reading.unit, reading.mark));
  return { node, show: (found) => reading.show(found) };
}
