// The runtime's HTTP API, as docs/http.md has it. Nothing else is ever asked.

const TOKEN = "devicemesh-token";
const PATIENCE_MS = 5000;
const KEPT = 64;

/** The runtime said no; `status` and `body` say how. */
export class RefusedError extends Error {
  constructor(status, body) {
    super(body.message ?? body.error ?? body.reason ?? `refused (${status})`);
    this.status = status;
    this.body = body;
  }
}

/** The runtime can't be reached, or does not answer in time. */
export class LostError extends Error {}

/** The runtime's clock: this machine's may be another. */
export const clock = {
  skewMs: 0,
  now: () => Date.now() + clock.skewMs,
  /** Set by an answer's `Date`, which is cut to the second. */
  set(header) {
    const told = Date.parse(header ?? "") + 500;
    if (!Number.isNaN(told) && Math.abs(told - clock.now()) > 1000) clock.skewMs = told - Date.now();
  },
};

/** The token of this tab; without one nothing is sent. */
export function setToken(token) {
  sessionStorage.setItem(TOKEN, token);
}

/** Whether this tab has one. */
export function hasToken() {
  return sessionStorage.getItem(TOKEN) !== null;
}

/** @type {Map<string, {tag: string, body: any}>} the last answers, by path: what has not changed is not sent again */
const known = new Map();

/** Ask. Raises RefusedError and LostError. */
export async function get(path) {
  const before = known.get(path);
  const answer = await send(path, { headers: before ? { "if-none-match": before.tag } : {} });
  if (answer.status === 304 && before) return before.body;
  const body = await read(answer);
  const tag = answer.headers.get("etag");
  known.delete(path);
  if (tag) known.set(path, { tag, body });
  if (known.size > KEPT) known.delete(known.keys().next().value);
  return body;
}

/** Write. `text` is JSON as it is sent, so that no digit is lost. Raises RefusedError and LostError. */
export async function write(method, path, text = null) {
  const headers = text === null ? {} : { "content-type": "application/json" };
  return read(await send(path, { method, headers, body: text }));
}

async function send(path, options) {
  const token = sessionStorage.getItem(TOKEN);
  const headers = { ...options.headers, ...(token ? { authorization: `Bearer ${token}` } : {}) };
  try {
    const signal = AbortSignal.timeout(options.method ? 60_000 : PATIENCE_MS);
    const answer = await fetch(path.slice(1), { ...options, headers, signal, cache: "no-store" });
    clock.set(answer.headers.get("date"));
    return answer;
  } catch (error) {
    throw new LostError(String(error));
  }
}

async function read(answer) {
  let body;
  try {
    body = parse(await answer.text());
  } catch (error) {
    throw new LostError(String(error));
  }
  if (!answer.ok) throw new RefusedError(answer.status, body);
  return body;
}

/** JSON to values; integers beyond 2^53 become BigInt where the browser shows us their digits. */
export function parse(text) {
  if (!/\d{16}/.test(text)) return JSON.parse(text);
  return JSON.parse(text, (_, value, context) => {
    const exact = typeof value === "number" && Number.isInteger(value) && !Number.isSafeInteger(value);
    return exact && /^-?\d+$/.test(context?.source ?? "") ? BigInt(context.source) : value;
  });
}

/** The path of a device. */
export function devicePath(namespace, name) {
  return `/api/v1/devices/${encodeURIComponent(namespace)}/${encodeURIComponent(name)}`;
}

/** The address of a device's page. */
export function deviceLink(namespace, name) {
  return `#/device/${encodeURIComponent(namespace)}/${encodeURIComponent(name)}`;
}
