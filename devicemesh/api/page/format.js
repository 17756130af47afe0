// Values, qualities and times as people read them.
import { clock } from "./api.js";
import { h, put, set } from "./dom.js";

const GLYPHS = { Good: "●", Uncertain: "◐", Bad: "○" };
const STATES = { Ready: "●", Degraded: "◐", Offline: "○", Starting: "◌" };
const NONE = "–";
const LONG = 60;

/** A value as text; what is none is a dash. Integers keep all their digits. */
export function valueText(value) {
  if (value === null || value === undefined) return NONE;
  if (typeof value === "boolean") return String(value);
  if (typeof value === "number" && !Number.isInteger(value)) return String(Number(value.toPrecision(7)));
  return typeof value === "object" ? json(value) : String(value);
}

/** JSON, with integers of any size; equal values are equal texts. */
export function json(value) {
  if (typeof value === "bigint") return String(value);
  if (Array.isArray(value)) return `[${value.map(json).join(",")}]`;
  if (value === null || typeof value !== "object") return JSON.stringify(value);
  const names = Object.keys(value).sort();
  return `{${names.map((name) => `${JSON.stringify(name)}:${json(value[name])}`).join(",")}}`;
}

/** A value with its unit. */
export function withUnit(value, unit) {
  const text = valueText(value);
  return unit && text !== NONE ? `${text} ${unit}` : text;
}

/** A long text cut; the whole is for a title. */
export function short(text) {
  return text.length > LONG ? `${text.slice(0, LONG)}…` : text;
}

/** The severity in a quality: Good, Uncertain or Bad. */
export function severity(quality) {
  return quality.split(".")[0];
}

export function glyph(quality) {
  return GLYPHS[severity(quality)] ?? GLYPHS.Bad;
}

export function stateGlyph(state) {
  return STATES[state] ?? STATES.Offline;
}

/** A span of time: `0 s`, `3 min`, `2 h`, `5 d`. */
export function span(milliseconds) {
  const seconds = Math.max(0, Math.floor(milliseconds / 1000));
  if (seconds < 100) return `${seconds} s`;
  if (seconds < 6000) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 360000) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86400)} d`;
}

/** How long ago by the runtime's clock; a dash where it never was. */
export function ago(time) {
  return time ? span(clock.now() - Date.parse(time)) : NONE;
}

/** A time of day; with its date where it is not of the last day. */
export function moment(time) {
  const at = new Date(time);
  const old = Math.abs(clock.now() - at.getTime()) > 86400e3;
  return old ? at.toLocaleString() : at.toLocaleTimeString();
}

/** A number with its thousands apart. */
export function count(number) {
  return number.toLocaleString("en-US").replaceAll(",", "\u202f");
}

/** A value with unit, quality and age, never apart. */
export class Reading {
  constructor() {
    this.value = h("span", { class: "value" });
    this.unit = h("span", { class: "unit" });
    this.mark = h("span", { class: "mark" });
  }

  /** Show a property of a twin. */
  show(property) {
    const { value, quality } = property.reported;
    const text = severity(quality) === "Bad" ? NONE : valueText(value);
    put(this.value, short(text));
    put(this.unit, text === NONE ? "" : (property.unit ?? ""));
    put(this.mark, glyph(quality));
    set(this.value, "title", text.length > LONG ? text : null);
    set(this.mark, "title", quality);
    set(this.mark, "aria-label", quality);
    set(this.mark, "role", "img");
    set(this.mark, "class", `mark ${severity(quality)}`);
    set(this.value, "class", property.stale ? "value stale" : "value");
  }
}
