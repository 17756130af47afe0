// Which page is shown, and when it asks: once a second, while somebody looks.
import { get, hasToken, LostError, RefusedError, setToken } from "./api.js";
import { h, put, set } from "./dom.js";
import { Device } from "./device.js";
import { Devices } from "./devices.js";
import { Alarms, Links, System } from "./lists.js";

const EVERY_MS = 1000;
const LOST_MS = 2000;
const ALARMS_EVERY = 5;
const main = document.getElementById("main");
const PAGES = { devices: Devices, device: Device, links: Links, alarms: Alarms, system: System };

let view = null; // {node, title, poll(), tick()}
let timer = 0;
let turns = 0;

/** The page that the address names, and its parameters. */
function address() {
  const [path, query] = location.hash.replace(/^#\/?/, "").split("?");
  const [page, ...parts] = path.split("/").map(decoded);
  const known = Object.hasOwn(PAGES, page) && (page !== "device" || parts.length === 2);
  return { page: known ? page : "devices", parts, query: new URLSearchParams(query ?? "") };
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text; // an address that somebody typed
  }
}

function route() {
  const { page, parts, query } = address();
  if (view?.takes?.(page, parts, query)) return;
  view?.close?.();
  document.querySelector("dialog")?.close();
  const first = view === null;
  view = new PAGES[page](parts, query);
  for (const link of document.querySelectorAll("nav a")) {
    const here = link.dataset.page === page || (page === "device" && link.dataset.page === "devices");
    set(link, "aria-current", here ? "page" : null);
  }
  document.title = `${view.title} · DeviceMesh`;
  main.replaceChildren(view.node);
  scrollTo(0, 0);
  if (!first) main.focus({ preventScroll: true }); // a screen reader goes on where the new page begins
  soon(0);
}

function soon(milliseconds) {
  clearTimeout(timer);
  timer = setTimeout(turn, milliseconds);
}

async function turn() {
  if (document.hidden) return; // until it is seen again
  const asked = view;
  const began = performance.now();
  try {
    await asked.poll();
    found(null);
    if (turns++ % ALARMS_EVERY === 0) badge((await get("/api/v1/alarms?limit=0")).total);
  } catch (error) {
    if (asked !== view) return; // a page that was left; the new one has its own turn
    if (error instanceof RefusedError && error.status === 401) {
      askToken();
      return;
    }
    if (error instanceof RefusedError && error.status < 500) {
      found(null);
      asked.fail?.(error.message);
    } else if (error instanceof LostError || error instanceof RefusedError) {
      found(error);
    } else {
      throw error;
    }
  } finally {
    if (asked === view && !main.querySelector(".token")) {
      const pause = document.body.classList.contains("lost") ? LOST_MS : EVERY_MS;
      soon(Math.max(100, pause - (performance.now() - began)));
    }
  }
}

/** Tell whether the runtime answers; `error` is null where it does. */
function found(error) {
  document.body.classList.toggle("lost", error !== null);
  const banner = document.getElementById("lost");
  set(banner, "hidden", error === null);
  put(banner, error === null ? "" : "connection lost: values below are old");
  put(document.getElementById("live"), error === null ? "live" : "no answer, trying again");
  if (error !== null) turns = 0;
}

function badge(total) {
  const node = document.getElementById("alarms");
  put(node, String(total));
  set(node, "hidden", total === 0);
  set(node, "aria-label", `${total} active`);
}

/** The runtime wants a token: it is asked for once, and kept in this tab. */
function askToken() {
  const input = h("input", { id: "token", type: "password", autocomplete: "off", required: true, pattern: "[ -~]+" });
  const form = h(
    "form",
    {
      class: "token",
      onsubmit: (event) => {
        event.preventDefault();
        setToken(input.value);
        view = null;
        route();
      },
    },
    h("h1", {}, "This runtime asks for a token"),
    h("p", { role: "status" }, hasToken() ? "That one was not right." : "It is what the setting api.token names."),
    h("label", { for: "token" }, "Token"),
    input,
    h("button", {}, "Go on"),
  );
  main.replaceChildren(form);
  input.focus();
}

addEventListener("hashchange", route);
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});
document.addEventListener("visibilitychange", () => document.hidden || soon(0));
document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("input, select, textarea, dialog");
  if (!typing && !event.ctrlKey && !event.metaKey && !event.altKey) view?.key?.(event);
});
setInterval(() => view?.tick?.(), EVERY_MS);
route();
