// Elements without HTML: what devices say is text, wherever it comes to stand.

/**
 * An element.
 * @param {string} tag
 * @param {Record<string, any>} attributes `on...` are listeners; null and false leave an attribute out
 * @param {...(Node|string|null)} children strings become text
 * @returns {any}
 */
export function h(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/** The same of SVG. */
export function svg(tag, attributes = {}, ...children) {
  return filled(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function filled(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else set(node, name, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

/** Set an attribute, or remove it (null, undefined, false), where it is not so already. */
export function set(node, name, value) {
  if (value === null || value === undefined || value === false) {
    if (node.hasAttribute(name)) node.removeAttribute(name);
    return;
  }
  const text = value === true ? "" : String(value);
  if (node.getAttribute(name) !== text) node.setAttribute(name, text);
}

/** Set the text of a node where it is another. */
export function put(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/**
 * A table. Its roles are said, since on a narrow screen it is not laid out as one.
 * @param {string} caption for who does not see it
 * @param {string[]} titles
 * @param {string} kind a class
 */
export function table(caption, titles, kind) {
  const heads = titles.map((title) => h("th", { scope: "col", role: "columnheader" }, title));
  const body = h("tbody", { role: "rowgroup" });
  const head = h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, ...heads));
  const node = h("table", { class: kind, role: "table" }, h("caption", { class: "unseen" }, caption), head, body);
  return { node, body };
}

/** A row of cells; each with a class, by which the style knows it. */
export function row(cells, attributes = {}) {
  const nodes = Object.entries(cells).map(([kind, content]) =>
    h("td", { class: kind, role: "cell" }, ...[content].flat()),
  );
  return h("tr", { role: "row", ...attributes }, ...nodes);
}

/** Rows of a table body that stay what they are while their contents change: focus and selection stay, too. */
export class Rows {
  /**
   * @param {HTMLElement} body
   * @param {(item: any) => {node: HTMLElement, show: (item: any) => void}} make
   */
  constructor(body, make) {
    this.body = body;
    this.make = make;
    this.rows = new Map();
  }

  /** Show these, in this order. `key` names an item. */
  show(items, key) {
    const before = this.rows;
    this.rows = new Map();
    for (const item of items) {
      const found = before.get(key(item)) ?? this.make(item);
      found.show(item);
      this.rows.set(key(item), found);
    }
    const nodes = [...this.rows.values()].map((one) => one.node);
    const same = nodes.length === this.body.children.length;
    if (!same || nodes.some((node, at) => node !== this.body.children[at])) this.body.replaceChildren(...nodes);
  }
}
