// A small plot of one property over the last minutes.
import { h, put, set, svg } from "./dom.js";
import { withUnit } from "./format.js";

const HEIGHT = 150;
const LEFT = 56;
const BOTTOM = 20;
const TOP = 8;
const SPANS_S = [60, 120, 300, 600];
export const KEPT_MS = SPANS_S.at(-1) * 1000;

/** A distance between lines that people like, so that there are about three. */
function step(range) {
  const rough = range / 3;
  const power = 10 ** Math.floor(Math.log10(rough));
  return [1, 2, 5, 10].map((n) => n * power).find((n) => n >= rough);
}

/** A line through [time in ms, number or null] pairs; null is a gap. */
export class Plot {
  constructor(name, unit) {
    this.unit = unit ?? "";
    this.points = [];
    this.grid = svg("g", { class: "grid" });
    this.line = svg("path", { class: "line" });
    this.cursor = svg("line", { class: "cursor", y1: TOP, y2: HEIGHT - BOTTOM, visibility: "hidden" });
    this.drawing = svg("svg", { height: HEIGHT, role: "img" }, this.grid, this.line, this.cursor);
    this.now = h("span", { class: "now" });
    const head = h("figcaption", {}, h("b", {}, name), unit ? ` ${unit} ` : " ", this.now);
    this.node = h("figure", { class: "plot" }, head, this.drawing);
    this.name = name;
    this.drawing.addEventListener("pointermove", (event) => this.point(event.offsetX));
    this.drawing.addEventListener("pointerleave", () => this.point(null));
    this.sized = new ResizeObserver(() => this.draw());
    this.sized.observe(this.node);
  }

  close() {
    this.sized.disconnect();
  }

  show(points) {
    this.points = points;
    this.draw();
  }

  draw() {
    this.width = Math.max(200, this.node.clientWidth - 2);
    set(this.drawing, "width", this.width);
    const values = this.points.map(([, value]) => value).filter((value) => value !== null);
    if (values.length === 0) {
      set(this.line, "d", "");
      this.grid.replaceChildren(svg("text", { x: LEFT, y: HEIGHT / 2 }, "no good value yet"));
      set(this.drawing, "aria-label", `${this.name}: no good value yet`);
      return;
    }
    this.scale(values);
    set(this.line, "d", this.path());
    this.grid.replaceChildren(...this.lines());
    const [least, most] = [Math.min(...values), Math.max(...values)].map((value) => withUnit(value, this.unit));
    set(this.drawing, "aria-label", `${this.name}, last ${this.seconds} s: ${least} to ${most}`);
    if (this.at === undefined) this.tell(null);
  }

  scale(values) {
    const [least, most] = [Math.min(...values), Math.max(...values)];
    const room = most > least ? (most - least) * 0.1 : Math.abs(most) * 0.01 || 1;
    this.low = least - room;
    this.high = most + room;
    this.end = this.points.at(-1)[0];
    const age = (this.end - this.points[0][0]) / 1000;
    this.seconds = SPANS_S.find((one) => one >= age) ?? SPANS_S.at(-1);
  }

  x(time) {
    const share = 1 - (this.end - time) / (this.seconds * 1000);
    return LEFT + share * (this.width - LEFT - 8);
  }

  y(value) {
    return TOP + (1 - (value - this.low) / (this.high - this.low)) * (HEIGHT - TOP - BOTTOM);
  }

  path() {
    let pen = "M";
    let drawn = "";
    for (const [time, value] of this.points) {
      if (value === null || this.x(time) < LEFT) {
        pen = "M";
        continue;
      }
      drawn += `${pen}${this.x(time).toFixed(1)} ${this.y(value).toFixed(1)}`;
      if (pen === "M") drawn += "h0.01"; // a lone point is seen, too
      pen = "L";
    }
    return drawn;
  }

  *lines() {
    const apart = step(this.high - this.low);
    const digits = Math.max(0, -Math.floor(Math.log10(apart)));
    for (let value = Math.ceil(this.low / apart) * apart; value <= this.high; value += apart) {
      const y = this.y(value).toFixed(1);
      yield svg("line", { x1: LEFT, x2: this.width - 8, y1: y, y2: y });
      const text = Math.abs(value) >= 1e6 ? value.toExponential(2) : value.toFixed(Math.min(digits, 6));
      yield svg("text", { x: LEFT - 6, y, "text-anchor": "end", "dominant-baseline": "middle" }, text);
    }
    for (const share of [0, 0.5, 1]) {
      const ago = Math.round(this.seconds * (1 - share));
      const anchor = ["start", "middle", "end"][share * 2];
      const x = LEFT + share * (this.width - LEFT - 8);
      yield svg("text", { x, y: HEIGHT - 5, "text-anchor": anchor }, ago ? `−${ago} s` : "now");
    }
  }

  /** Say the value under the pointer; null: it has left. */
  point(x) {
    if (x === null || this.points.length === 0 || this.end === undefined) {
      this.at = undefined;
      set(this.cursor, "visibility", "hidden");
      this.tell(null);
      return;
    }
    const near = (one) => Math.abs(this.x(one[0]) - x);
    this.at = this.points.reduce((best, one) => (near(one) < near(best) ? one : best));
    for (const side of ["x1", "x2"]) set(this.cursor, side, this.x(this.at[0]).toFixed(1));
    set(this.cursor, "visibility", "visible");
    this.tell(this.at);
  }

  tell(point) {
    const time = point ? `${new Date(point[0]).toLocaleTimeString()}  ` : "";
    const value = (point ?? this.points.at(-1))?.[1];
    put(this.now, value === undefined ? "" : `${time}${withUnit(value, this.unit)}`);
  }
}
