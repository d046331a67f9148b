// base.js - what all views use: elements, asking the console, text for people, tables, dialogs.
// Text from outside only ever becomes text nodes and attributes, never HTML.

/** An element: el("td", { class: "number" }, "5"). Attributes of null are left out; functions become listeners. */
export function el(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(key, value);
    else if (value === true) element.setAttribute(key, "");
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(key, value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

export const byId = (id) => document.getElementById(id);

/** Tells people who listen to the page, and shows nothing. */
export function say(text) {
  byId("said").textContent = text;
}

// ---- asking ----

/** An answer that is an error. status 0: the console does not answer. */
export class Refusal extends Error {
  constructor(status, text) {
    super(text);
    this.status = status;
  }
}

async function read(request) {
  let answer, body;
  try {
    answer = await request;
    body = await answer.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refusal(0, "The console does not answer.");
  }
  if (!answer.ok) throw new Refusal(answer.status, body.error || `status ${answer.status}`);
  return body;
}

/** GET. Parameters without a value are left out. */
export function ask(path, parameters = {}, signal = undefined) {
  const given = Object.entries(parameters).filter(([, value]) => value);
  const query = new URLSearchParams(given).toString();
  return read(fetch(path + (query ? `?${query}` : ""), { signal, credentials: "same-origin" }));
}

/** POST: what changes something. */
export function change(path, fields) {
  const body = JSON.stringify(fields);
  const headers = { "Content-Type": "application/json" };
  return read(fetch(path, { method: "POST", headers, body, credentials: "same-origin" }));
}

// ---- text for people ----

const numbers = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const small = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });

export function number(value) {
  if (value === null || value === undefined) return "–";
  return Math.abs(value) < 10 && !Number.isInteger(value) ? small.format(value) : numbers.format(value);
}

/** "850 ms", "12.3 s", "4 min", "2.1 h", "3.4 d". */
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds === 0) return "0 s";
  if (seconds < 0.01) return `${(seconds * 1000).toFixed(1)} ms`;
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 100) return `${seconds.toFixed(1)} s`;
  if (seconds < 6000) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172800) return `${(seconds / 3600).toFixed(1)} h`;
  return `${(seconds / 86400).toFixed(1)} d`;
}

/** "850 KiB", "1.5 GiB". */
export function bytes(value) {
  if (value === null || value === undefined) return "–";
  let unit = 0;
  let left = value;
  for (; left >= 1000 && unit < 4; unit += 1) left /= 1024;
  return `${left < 10 && unit > 0 ? left.toFixed(1) : Math.round(left)} ${["bytes", "KiB", "MiB", "GiB", "TiB"][unit]}`;
}

/** A time of RFC 3339 in the reader's own zone, with the exact one to hover over. */
export function time(text) {
  if (!text) return el("span", {}, "–");
  const date = new Date(text);
  if (Number.isNaN(date.getTime())) return el("span", {}, text);
  const two = (value, digits = 2) => String(value).padStart(digits, "0");
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  const clock = `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}.${two(date.getMilliseconds(), 3)}`;
  return el("time", { datetime: date.toISOString(), title: date.toISOString() }, `${day} ${clock}`);
}

export function ago(ms) {
  return ms === null || ms === undefined ? "never" : `${duration(ms / 1000)} ago`;
}

/** "RESERVED" for "ORDER_STATUS_RESERVED". */
export const statusName = (status) => (status || "").replace("ORDER_STATUS_", "");

export function badge(status) {
  const name = statusName(status) || "?";
  return el("span", { class: `badge ${name.toLowerCase().replace(/[^a-z]/g, "")}` }, name);
}

export const shortType = (type) => (type || "–").split(".").pop();

export function orderLink(id) {
  return el("a", { class: "code", href: `#/order/${encodeURIComponent(id)}` }, id);
}

export function lines(list) {
  return (list || []).map((line) => `${line.sku}=${line.quantity}`).join(" ");
}

// ---- parts of views ----

/** A note: "bad", "warn", "info" or "good". */
export function note(kind, ...children) {
  const signs = { bad: "Bad:", warn: "Look:", good: "Good:", info: "" };
  const sign = signs[kind] ? el("strong", {}, `${signs[kind]} `) : null;
  return el("p", { class: `note ${kind}`, role: kind === "bad" ? "alert" : null }, sign, ...children);
}

/** What went wrong, for people. */
export function failure(error) {
  return note("bad", error.message || String(error));
}

const ROWS = 200;

/**
 * A table that scrolls within its frame. `columns`: { name, cell: (row) => node or text, number, wide }; a wide one is
 * left out on phones.
 */
export function table(label, columns, rows, nothing = "There is nothing.") {
  if (rows.length === 0) return el("p", { class: "nothing" }, nothing);
  const kind = (column) => [column.number ? "number" : "", column.wide ? "wide" : ""].join(" ").trim() || null;
  const head = el("tr", {}, columns.map((column) => el("th", { scope: "col", class: kind(column) }, column.name)));
  const line = (row) => el("tr", row.attributes || {}, columns.map((column) => {
    const content = column.cell(row);
    return el("td", { class: kind(column) }, content === "" || content === undefined ? "–" : content);
  }));
  const body = el("tbody", {}, rows.slice(0, ROWS).map(line));
  const frame = el("div", { class: "frame", role: "region", "aria-label": label, tabindex: "0" },
    el("table", { "aria-rowcount": rows.length + 1 }, el("thead", {}, head), body));
  // Ten thousand rows at once would take the browser many seconds: the next ones come when their place is scrolled to.
  let shown = Math.min(ROWS, rows.length);
  frame.addEventListener("scroll", () => {
    if (shown === rows.length || frame.scrollTop + frame.clientHeight < frame.scrollHeight - 600) return;
    body.append(...rows.slice(shown, shown + ROWS).map(line));
    shown = Math.min(shown + ROWS, rows.length);
  });
  return frame;
}

export function section(title, ...children) {
  return el("section", {}, el("h2", {}, title), ...children);
}

/** A field of a form, with its label. */
export function field(label, input) {
  const id = `field-${input.name}`;
  input.id = id;
  return el("div", { class: "field" }, el("label", { for: id }, label), input);
}

/** Replaces what is in `parent`, but not while somebody reads it by keyboard: the focus stays where it is. */
export function fill(parent, ...children) {
  const focused = document.activeElement;
  const inside = parent.contains(focused) && focused !== parent;
  const label = inside ? focused.getAttribute("aria-label") || focused.textContent : null;
  const scrolled = [...parent.querySelectorAll(".frame")].map((frame) => [frame.scrollLeft, frame.scrollTop]);
  parent.replaceChildren(...children.flat().filter((child) => child !== null && child !== undefined));
  parent.querySelectorAll(".frame").forEach((frame, i) => {
    if (scrolled[i]) [frame.scrollLeft, frame.scrollTop] = scrolled[i];
  });
  if (!inside) return;
  const again = [...parent.querySelectorAll("a, button, input, select, [tabindex]")];
  const same = again.find((one) => (one.getAttribute("aria-label") || one.textContent) === label);
  if (same) same.focus({ preventScroll: true });
}

/**
 * Asks in a dialog, which keeps the focus until it is closed. `content`: what stands in the form; `act`: async, called
 * when it is sent, throws a Refusal to stay open. Resolves to whether it was done.
 */
export function dialog(title, content, action, act, danger = false) {
  const box = byId("dialog");
  const wrong = el("div", { role: "alert" });
  const send = el("button", { type: "submit", class: danger ? "danger" : "main" }, action);
  return new Promise((resolve) => {
    let done = false;
    const form = el("form", {
      submit: async (event) => {
        event.preventDefault();
        wrong.replaceChildren();
        send.disabled = true;
        try {
          await act(new FormData(form));
          done = true;
          box.close();
        } catch (error) {
          wrong.replaceChildren(note("bad", error.message || String(error)));
        } finally {
          send.disabled = false;
        }
      },
    },
    el("h2", { id: "dialog-title" }, title), ...content, wrong,
    el("div", { class: "actions" }, el("button", { type: "button", click: () => box.close() }, "Cancel"), send));
    box.replaceChildren(form);
    box.addEventListener("close", () => {
      box.replaceChildren();
      resolve(done);
    }, { once: true });
    box.showModal();
  });
}
