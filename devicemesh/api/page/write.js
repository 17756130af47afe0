// Dialogs that change something: what is now and what will be, a yes, and what became of it.
import { devicePath, get, LostError, parse, write } from "./api.js";
import { h, put, set } from "./dom.js";
import { json, withUnit } from "./format.js";

const FOLLOW_MS = 250;
const PATIENCE_MS = 15000;
const READ_MS = 10000;

/**
 * A dialog with a form; it is gone when it is closed.
 * @param {string} title
 * @param {Node[]} content
 * @param {string} yes what the button says
 * @param {(say: (text: string, kind: string) => void) => Promise<boolean>} act true: it is done, only closing is left
 */
function ask(title, content, yes, act) {
  const told = h("p", { class: "told", role: "status" });
  const button = h("button", { class: "yes" }, yes);
  const close = h("button", { type: "button", class: "plain", onclick: () => dialog.close() }, "Cancel");
  const say = (text, kind) => {
    put(told, text);
    set(told, "class", `told ${kind}`);
  };
  const submit = async (event) => {
    event.preventDefault();
    set(button, "disabled", true);
    const done = await act(say).catch((error) => {
      say(error instanceof LostError ? "connection lost: it may have been done all the same" : error.message, "bad");
      return false;
    });
    set(button, "disabled", null);
    set(button, "hidden", done);
    if (done) put(close, "Close");
    if (done) close.focus();
  };
  const form = h("form", { onsubmit: submit }, h("h2", { id: "asked" }, title), ...content, told, h("menu", {}, close, button));
  const dialog = h("dialog", { "aria-labelledby": "asked", onclose: () => dialog.remove() }, form);
  document.body.append(dialog);
  dialog.showModal();
  return { button, say };
}

/** `0 to 3000 rpm`; empty where anything goes. */
export function rangeText({ minimum, maximum, unit }) {
  const [low, high] = [minimum, maximum].map((limit) => (limit === null ? "" : withUnit(limit, unit)));
  if (low && high) return `${withUnit(minimum, null)} to ${high}`;
  return low ? `at least ${low}` : high ? `at most ${high}` : "";
}

const TEXTS = { string: "text", bytes: "bytes, as base64", json: "JSON", bool: "" };

/** A field for a value of a type. `read` gives its JSON text, or raises an Error that says what is wrong. */
function editor(spec, given) {
  const { type } = spec;
  const attributes = { id: `new-${spec.name}`, name: spec.name, autocomplete: "off", spellcheck: "false" };
  let node;
  if (type === "bool") {
    node = h("select", attributes, h("option", { value: "true" }, "true"), h("option", { value: "false" }, "false"));
    node.value = given === true ? "false" : "true";
  } else {
    node = h(type === "json" ? "textarea" : "input", { ...attributes, inputmode: type in TEXTS ? null : "decimal" });
    node.value = given === null || given === undefined ? "" : type === "json" ? json(given) : String(given);
  }
  return { node, read: () => readValue(node.value, spec) };
}

function readValue(text, { type, minimum, maximum, unit, name }) {
  if (type === "bool") return text;
  if (type === "string" || type === "bytes") return JSON.stringify(text);
  if (type === "json") {
    try {
      parse(text);
    } catch {
      throw new Error(`${name}: this is no JSON`);
    }
    return text;
  }
  const typed = text.trim().replace("−", "-");
  if (typed === "" || Number.isNaN(Number(typed)) || !Number.isFinite(Number(typed))) throw new Error(`${name}: a number is needed`);
  if (minimum !== null && Number(typed) < minimum) throw new Error(`${name}: at least ${withUnit(minimum, unit)}`);
  if (maximum !== null && Number(typed) > maximum) throw new Error(`${name}: at most ${withUnit(maximum, unit)}`);
  if (type.startsWith("float")) return String(Number(typed));
  if (!/^[+-]?\d+$/.test(typed)) throw new Error(`${name}: a whole number is needed`);
  return String(BigInt(typed.replace("+", "")));
}

/** What a value will be, for the button; the type of the field decides how it is shown. */
function shown(text, { unit }) {
  const value = withUnit(parse(text), unit);
  return value.length > 30 ? `${value.slice(0, 30)}…` : value;
}

/**
 * Write a property: ask, send, and follow it to the read-back.
 * @param {any} twin @param {any} property of the twin @param {any} spec of the model
 */
export function writeProperty(twin, property, spec) {
  const { value } = property.reported;
  const now = withUnit(value, property.unit);
  const field = editor(spec, property.desired?.value ?? value);
  const range = rangeText(spec);
  const wanted = h("b", {}, "…");
  const note = [spec.type, TEXTS[spec.type], range].filter(Boolean).join(", ");
  const content = [
    h("p", { class: "change" }, h("span", {}, now), " → ", wanted),
    h("label", { for: field.node.id }, `New value${property.unit ? ` in ${property.unit}` : ""}`),
    field.node,
    h("p", { class: "about" }, note),
  ];
  const { button } = ask(`Write ${property.name} of ${twin.name}`, content, "Write", async (say) => {
    const text = field.read();
    say("sent", "");
    return follow(twin, property.name, text, say);
  });
  const update = () => {
    let text = "";
    try {
      text = shown(field.read(), spec);
    } catch {
      // the form says what is wrong once it is sent
    }
    put(wanted, text || "…");
    put(button, text ? `Write ${text}` : "Write");
  };
  field.node.addEventListener("input", update);
  update();
  field.node.focus();
  field.node.select?.();
}

async function follow(twin, name, text, say) {
  const path = devicePath(twin.namespace, twin.name);
  const wanted = json(parse(text));
  const is = (desired) => desired !== undefined && json(desired.value) === wanted;
  const began = performance.now();
  const first = (await get(path)).properties.find((one) => one.name === name);
  if (is(first?.desired)) {
    // the same value is wanted already: as such it would not be written again, and that is what was asked for
    await write("DELETE", `${path}/desired/${encodeURIComponent(name)}`);
    await watched(path, name, (desired) => desired === undefined);
  }
  await write("PUT", `${path}/desired/${encodeURIComponent(name)}`, text);
  say("accepted, on its way to the device", "");
  const { property, now, timely } = await watched(path, name, (desired) => is(desired) && desired.state !== "waiting");
  if (timely) {
    const tookMs = performance.now() - began;
    const tell = (reported) => told({ ...property, reported }, tookMs, say);
    if ((property.reported?.value ?? null) === null) {
      // what refused its reads is asked again after some seconds: then the dialog says what it reads, if it is still there
      const late = watched(path, name, (_, reported) => (reported?.value ?? null) !== null, READ_MS);
      late.then((read) => read.timely && tell(read.property.reported)).catch(() => {});
    }
    return tell(property.reported);
  }
  const condition = now.conditions.find((one) => one.type === "DesiredApplied");
  say(`still waiting: ${condition?.message || now.status.message}. It is written once the device answers.`, "uncertain");
  return true;
}

/** Look at a property until its desired value is as it should be, for some time. */
async function watched(path, name, enough, patienceMs = PATIENCE_MS) {
  const began = performance.now();
  for (;;) {
    const now = await get(path);
    const property = now.properties.find((one) => one.name === name);
    const timely = enough(property?.desired, property?.reported);
    if (timely || performance.now() - began > patienceMs) return { property, now, timely };
    await new Promise((resolve) => setTimeout(resolve, FOLLOW_MS));
  }
}

function told(property, tookMs, say) {
  const { state, message } = property.desired;
  if (state === "applied") {
    const back = property.reported?.value ?? null;
    const text = back === null ? "written" : `written, read back ${withUnit(back, property.unit)}`;
    say(`${text}, in ${tookMs < 1000 ? `${Math.round(tookMs)} ms` : `${(tookMs / 1000).toFixed(1)} s`}`, "good");
    return true;
  }
  say(`${state}: ${message}`, "bad");
  return false;
}

/** Want nothing of a property any more. */
export function takeBack(twin, property) {
  const text = `${withUnit(property.desired.value, property.unit)} is wanted no more. Nothing is written to the device.`;
  ask(`Take back ${property.name} of ${twin.name}`, [h("p", {}, text)], "Take back", async (say) => {
    await write("DELETE", `${devicePath(twin.namespace, twin.name)}/desired/${encodeURIComponent(property.name)}`);
    say("taken back", "good");
    return true;
  });
}

/** Do a command, once. */
export function runCommand(twin, command) {
  const fields = command.arguments.map((spec) => ({ spec, ...editor(spec, spec.default) }));
  const does = command.writes.map((one) => `${one.property} = ${json(one.value)}`).join(", ");
  const content = [
    h("p", {}, command.description ?? (does ? `Writes ${does}.` : "Is done once, now or not at all.")),
    ...fields.flatMap(({ spec, node }) => [
      h("label", { for: node.id }, `${spec.name}${spec.unit ? ` in ${spec.unit}` : ""}`),
      node,
      h("p", { class: "about" }, [spec.type, TEXTS[spec.type], rangeText(spec), spec.description].filter(Boolean).join(", ")),
    ]),
  ];
  ask(`Run ${command.name} on ${twin.name}`, content, `Run ${command.name}`, async (say) => {
    const parts = fields.map(({ spec, read }) => `${JSON.stringify(spec.name)}:${read()}`);
    say("sent", "");
    const path = `${devicePath(twin.namespace, twin.name)}/commands/${encodeURIComponent(command.name)}`;
    const { result } = await write("POST", path, `{${parts.join(",")}}`);
    const rest = Object.entries(result ?? {}).map(([name, value]) => `${name} ${json(value)}`);
    say(["done", ...rest].join(", "), "good");
    return true;
  });
}
