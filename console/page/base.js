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

let onRefused = () => {};

/** Calls `listener` when the console says that nobody is signed in any more. */
export function onSignedOut(listener) {
  onRefused = listener;
}

async function read(request) {
  let answer, body;
  try {
    answer = await request;
    body = await answer.json();
  } catch {
    throw new Refusal(0, "The console does not answer.");
  }
  if (answer.status === 401) onRefused();
  if (!answer.ok) throw new Refusal(answer.status, body.error || `status ${answer.status}`);
  return body;
}

function get(path, parameters, headers) {
  const given = Object.entries(parameters).filter(([, value]) => value);
  const query = new URLSearchParams(given).toString();
  return read(fetch(path + (query ? `?${query}` : ""), { headers, credentials: "same-origin" }));
}

/** GET, because somebody wants it. Parameters without a value are left out. */
export const ask = (path, parameters = {}) => get(path, parameters, {});

/** The same, by the page itself: it keeps nobody signed in. */
export const askAgain = (path, parameters = {}) => get(path, parameters, { "Tandem-Refresh": "1" });

/** Why the console refuses a stream of events; "": it does not (any more). */
export async function whyRefused(path) {
  const answer = await fetch(path, { headers: { "Tandem-Refresh": "1" }, credentials: "same-origin" });
  if (answer.ok) {
    await answer.body.cancel();
    return "";
  }
  if (answer.status === 401) onRefused();
  return (await answer.json()).error || "";
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
const ASKS = 10; // parts that are looked through before somebody must say that it is to go on

/** Adds the next rows to a table's frame. */
function grow(frame) {
  const { rows, line, shown } = frame.list;
  frame.querySelector("tbody").append(...rows.slice(shown, shown + ROWS).map(line));
  frame.list.shown = Math.min(shown + ROWS, rows.length);
}

/**
 * A table that scrolls within its frame. `columns`: { name, cell: (row) => node or text, number, wide }; a wide one is
 * left out on phones. row.key: what row it is, when the table is shown again.
 */
export function table(label, columns, rows, nothing = "There is nothing.") {
  if (rows.length === 0) return el("p", { class: "nothing" }, nothing);
  const kind = (column) => [column.number ? "number" : "", column.wide ? "wide" : ""].join(" ").trim() || null;
  const head = el("tr", {}, columns.map((column) => el("th", { scope: "col", class: kind(column) }, column.name)));
  const line = (row) => el("tr", { class: row.fresh ? "new" : null, "data-key": row.key }, columns.map((column) => {
    const content = column.cell(row);
    return el("td", { class: kind(column) }, content === "" || content === undefined ? "–" : content);
  }));
  const body = el("tbody", {}, rows.slice(0, ROWS).map(line));
  const frame = el("div", { class: "frame", role: "region", "aria-label": label, tabindex: "0" },
    el("table", { "aria-rowcount": rows.length + 1 }, el("thead", {}, head), body));
  // Ten thousand rows at once would take the browser many seconds: the next ones come when their place is scrolled to.
  frame.list = { rows, line, shown: Math.min(ROWS, rows.length) };
  frame.addEventListener("scroll", () => {
    if (frame.list.shown < frame.list.rows.length && frame.scrollTop + frame.clientHeight >= frame.scrollHeight - 600) grow(frame);
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

const present = (children) => children.flat().filter((child) => child !== null && child !== undefined);

/** Replaces what is in `parent`: what somebody asked for. */
export function fill(parent, ...children) {
  parent.replaceChildren(...present(children));
}

const keyOf = (node) => (node.getAttribute ? node.getAttribute("data-key") : null);

/** Whether `fresh` shows the same thing as `old`, perhaps changed. */
function sameKind(old, fresh) {
  return old.nodeName === fresh.nodeName && keyOf(old) === keyOf(fresh) && !old.list === !fresh.list;
}

function morphChildren(old, children) {
  const wanted = new Set(children.map(keyOf));
  const keyed = new Map();
  for (const child of [...old.children]) {
    const key = keyOf(child);
    if (key === null) continue;
    if (wanted.has(key)) keyed.set(key, child);
    else child.remove();
  }
  let at = old.firstChild;
  for (const child of children) {
    const key = keyOf(child);
    const here = key !== null ? keyed.get(key) : at;
    keyed.delete(key);
    if (here && sameKind(here, child)) {
      if (here !== at) old.insertBefore(here, at);
      morph(here, child);
      at = here.nextSibling;
    } else {
      old.insertBefore(child, at);
    }
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}

function morph(old, fresh) {
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
    return;
  }
  for (const { name } of [...old.attributes]) if (!fresh.hasAttribute(name)) old.removeAttribute(name);
  for (const { name, value } of fresh.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  if (fresh.list) {
    while (fresh.list.shown < Math.min(old.list.shown, fresh.list.rows.length)) grow(fresh);
    old.list = fresh.list;
  }
  morphChildren(old, [...fresh.childNodes]);
}

/**
 * Makes what is in `parent` like `children`: what the page shows anew by itself. Elements that stay are the same elements, so
 * focus, selection and the place of a screen reader are not lost. They keep their listeners: not for children with others.
 */
export function update(parent, ...children) {
  const focused = document.activeElement;
  morphChildren(parent, present(children).map((child) => (typeof child === "string" ? document.createTextNode(child) : child)));
  if (document.activeElement !== focused && parent.contains(focused)) focused.focus({ preventScroll: true });
}

/** Does what a button begins, and which cannot be begun twice. The focus stays on the button, or on `after` where it is gone. */
export async function during(button, work, after = null) {
  const focused = document.activeElement === button;
  button.disabled = true;
  try {
    await work();
  } finally {
    button.disabled = false;
    const place = button.isConnected && !button.hidden ? button : after;
    if (focused && place && document.activeElement === document.body) place.focus();
  }
}

/**
 * Asks on and on, until `enough` rows fit, there is nothing more, or so much was looked through that somebody must say that it
 * is to go on. next(): { rows, looked, done } of the next part. show(rows) draws. Returns what ends it.
 */
export function lookThrough(place, { next, enough, noun, show, remark = () => "" }) {
  const state = el("p", { role: "status", tabindex: "-1" });
  const progress = el("p", { class: "small" });
  const wrong = el("div");
  const results = el("div");
  const more = el("button", { type: "button", hidden: true, click: () => during(more, look, state) }, "Go on");
  const rows = [];
  let looked = 0;
  let ended = false;
  const count = (value) => `${value} ${noun}${value === 1 ? "" : "s"}`;

  async function look() {
    const target = rows.length + enough;
    let done = false;
    wrong.replaceChildren();
    state.textContent = "Looking …";
    try {
      for (let asked = 0; !done && rows.length < target && asked < ASKS; asked += 1) {
        const part = await next(target - rows.length);
        if (ended) return;
        rows.push(...part.rows);
        looked += part.looked;
        done = part.done;
        progress.textContent = `Looked through ${count(looked)} …`;
      }
      state.textContent = count(rows.length) + (looked > rows.length ? `; looked through ${looked}` : "") +
        (done ? "" : `, and there ${rows.length < target ? "may be" : "are"} more`);
    } catch (error) {
      if (ended) return;
      state.textContent = rows.length > 0 ? count(rows.length) : "";
      fill(wrong, failure(error)); // "Go on" asks again
    }
    if (rows.length > 0 || done) show(results, rows);
    progress.textContent = remark(done);
    more.hidden = done;
  }
  place.append(state, wrong, results, progress, more);
  look();
  return () => {
    ended = true;
  };
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
    let sending = false;
    let done = false;
    const shown = () => box.open && form.isConnected;
    function end() {
      if (form.isConnected) box.replaceChildren();
      resolve(done);
    }
    const form = el("form", {
      submit: async (event) => {
        event.preventDefault();
        wrong.replaceChildren();
        if (sending) return;
        sending = true;
        await during(send, async () => {
          try {
            await act(new FormData(form));
            done = true;
          } catch (error) {
            wrong.replaceChildren(note("bad", error.message || String(error)));
            if (!shown()) say(error.message || String(error));
          }
        });
        sending = false;
        if (!shown()) end(); // it was closed meanwhile: what was sent was done, or not
        else if (done) box.close();
      },
    },
    el("h2", { id: "dialog-title" }, title), ...content, wrong,
    el("div", { class: "actions" }, el("button", { type: "button", click: () => box.close() }, "Cancel"), send));
    box.replaceChildren(form);
    box.addEventListener("close", () => {
      if (!sending) end();
    }, { once: true });
    box.showModal();
  });
}
