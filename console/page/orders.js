// orders.js - the newest orders, a search among all, and one order's timeline.
import { ask, askAgain, badge, el, failure, field, lines, lookThrough, note, orderLink, say, section, shortType, statusName, table, time,
  update } from "./base.js";
import { watch } from "./live.js";

export const STATUSES = ["pending", "reserved", "rejected", "confirmed", "cancelled", "expired"];
const REFRESH_MS = 2000;
const TELL_MS = 10000;
/** How many are asked for at once. */
export const PARTS = { orders: 1000, events: 5000 };
const EVENTS_MAX = 10000; // that can be asked for

// ---- the newest, from the events of orders ----

const MOVES = { OrderPlaced: "PENDING", OrderReserved: "RESERVED", OrderRejected: "REJECTED", OrderConfirmed: "CONFIRMED",
  OrderCancelled: "CANCELLED", OrderExpired: "EXPIRED" };

/**
 * Makes rows of orders of events that come part by part, the newest part first (each in order of time). An order's status is what its
 * newest event says; it becomes a row when the event is there with which it was placed.
 */
export class Placed {
  constructor() {
    this.moved = new Map(); // what the newest event of each order made of it
    this.placed = new Set();
  }

  /** The rows that this part completes, the newest first. */
  add(events) {
    const rows = [];
    for (const event of [...events].reverse()) {
      const status = MOVES[shortType(event.type)];
      if (!status) continue;
      if (!this.moved.has(event.subject)) this.moved.set(event.subject, { status, changed: event.time });
      // One that was published again says the same later.
      if (status !== "PENDING" || event.attempt || this.placed.has(event.subject)) continue;
      const content = (event.data || {}).content || {};
      this.placed.add(event.subject);
      rows.push({ key: event.subject, id: event.subject, placed: event.time, customer: content.customer_id, lines: content.lines,
        ...this.moved.get(event.subject) });
    }
    return rows;
  }
}

const customerLink = (customer) => (customer ? el("a", { href: listAddress({ customer }) }, customer) : "–");

const COLUMNS = [
  { name: "Order", cell: (row) => orderLink(row.id) },
  { name: "Status", cell: (row) => badge(row.status) },
  { name: "Customer", cell: (row) => customerLink(row.customer) },
  { name: "Placed", cell: (row) => time(row.placed) },
  { name: "Changed", cell: (row) => time(row.changed), wide: true },
  { name: "Lines", cell: (row) => lines(row.lines), wide: true },
];

function newest(place) {
  let asked = 0;
  let running = false;
  let ended = false;
  let known = null;
  let untold = 0;
  let told = 0;

  /** Not more often than somebody can listen to. */
  function tell(added) {
    untold += added;
    if (untold === 0 || Date.now() - told < TELL_MS) return;
    say(untold === 1 ? "A new order" : `${untold} new orders`);
    told = Date.now();
    untold = 0;
  }
  async function refresh() {
    if (running || document.hidden) return;
    running = true;
    asked = Date.now();
    try {
      const answer = await askAgain("/api/events", { context: "order", count: 300 });
      if (ended) return;
      const rows = new Placed().add(answer.items).slice(0, 50);
      for (const row of rows) row.fresh = known !== null && !known.has(row.id);
      update(place, answer.said ? note("warn", answer.said) : null,
        table("Newest orders", COLUMNS, rows, "No order was placed, as far as the stream of events reaches."));
      known = new Set(rows.map((row) => row.id));
      tell(rows.filter((row) => row.fresh).length);
    } catch (error) {
      if (ended) return;
      update(place, failure(error));
    }
    running = false;
  }
  refresh();
  const unwatch = watch((point) => {
    const busy = point.placed > 0 || point.reserved > 0 || point.rejected > 0;
    if (Date.now() - asked >= (busy ? REFRESH_MS : 10000)) refresh();
  });
  return () => {
    ended = true;
    unwatch();
  };
}

// ---- a search ----

function listAddress(query) {
  const given = Object.entries(query).filter(([, value]) => value);
  return `#/orders?${new URLSearchParams(given)}`;
}

/**
 * The period of the form, [from, before) in unix ms. Its ends are times of the reader's own zone, the last minute belongs to it; what is
 * no time does not bound it.
 */
export function period(query) {
  const from = Date.parse(query.from || "");
  const to = Date.parse(query.to || "");
  const last = /T\d\d:\d\d$/.test(query.to || "") ? 60000 : 1;
  return [Number.isNaN(from) ? -Infinity : from, Number.isNaN(to) ? Infinity : to + last];
}

const fits = (query, status, at, [from, before]) =>
  at >= from && at < before && (!query.status || statusName(status).toLowerCase() === query.status.toLowerCase());

/** The parts of a customer's list, the newest order first. */
function ofCustomer(query) {
  const [from, before] = period(query);
  const all = !query.status && from === -Infinity && before === Infinity;
  let token = "";

  return async (wanted) => {
    const limit = all ? Math.min(wanted, PARTS.orders) : PARTS.orders;
    const answer = await ask("/api/orders", { customer: query.customer, limit, page_token: token });
    const listed = answer.items.filter((item) => item.order_id);
    const oldest = listed.length > 0 ? Date.parse(listed[listed.length - 1].create_time) : Infinity;
    if (answer.code !== 0) throw new Error(answer.said);
    token = (answer.items.find((item) => item.next_page_token) || {}).next_page_token || "";
    return {
      rows: listed.filter((item) => fits(query, item.status, Date.parse(item.create_time), [from, before])),
      looked: listed.length,
      done: token === "" || oldest < from,
    };
  };
}

/** The parts of what the streams of events hold, the newest first. reach.ms: how far back it was looked. */
function ofAll(query, reach) {
  const bounds = period(query);
  const placed = new Placed();
  let seen = new Set(); // of the millisecond at which the last part ended: the next one begins with it
  let until = "";
  let count = PARTS.events;

  return async () => {
    const answer = await ask("/api/events", { context: "order", count, until });
    const msOf = (event) => Number(event.stream_id.split("-")[0]);
    const name = (event) => `${event.partition || 0}/${event.stream_id}/${event.event_id}/${event.attempt || ""}`;
    const fresh = answer.items.filter((event) => !seen.has(name(event)));
    if (answer.code !== 0) throw new Error(answer.said);
    const done = answer.items.length < count;
    if (answer.items.length > 0) {
      const first = msOf(answer.items[0]);
      reach.ms = first;
      // A millisecond may have more events than come at once.
      const more = fresh.length === 0 && count < EVENTS_MAX;
      if (more) count = Math.min(2 * count, EVENTS_MAX);
      until = new Date(fresh.length > 0 || more ? first : first - 1).toISOString();
      seen = new Set(answer.items.filter((event) => msOf(event) === first).map(name));
    }
    const rows = placed.add(fresh);
    return {
      rows: rows.filter((row) => fits(query, row.status, Date.parse(row.placed), bounds)),
      looked: rows.length,
      done: done || reach.ms < bounds[0],
    };
  };
}

function search(place, query) {
  const enough = Number(query.limit) || 100;
  if (query.customer)
    return lookThrough(place, {
      next: ofCustomer(query), enough, noun: "order",
      show: (results, rows) => update(results, table("Orders", [
        { name: "Order", cell: (row) => orderLink(row.order_id) },
        { name: "Status", cell: (row) => badge(row.status) },
        { name: "Settled", cell: (row) => (row.settled ? "yes" : "no") },
        { name: "Placed", cell: (row) => time(row.create_time) },
        { name: "Changed", cell: (row) => time(row.update_time), wide: true },
        { name: "Lines", cell: (row) => lines(row.lines), wide: true },
        { name: "Reason", cell: (row) => row.status_reason, wide: true },
      ], rows, "No order fits.")),
    });
  const reach = { ms: null };
  return lookThrough(place, {
    next: ofAll(query, reach), enough, noun: "order",
    show: (results, rows) => update(results, table("Orders", COLUMNS, rows, "No order fits.")),
    remark: (done) => (!done || reach.ms === null ? ""
      : `Orders of all customers are looked for in the streams of events, which keep the newest: here back to ${new Date(reach.ms).toLocaleString()}. ` +
        "With a customer, all are looked through; the archive has those of all customers."),
  });
}

export function orders(main, query) {
  const results = el("div");
  const find = el("form", {
    class: "search",
    submit: (event) => {
      event.preventDefault();
      const id = new FormData(find).get("id").trim();
      if (id) location.hash = `#/order/${encodeURIComponent(id)}`;
    },
  },
  field("Order", el("input", { name: "id", placeholder: "ord_…", autocomplete: "off", spellcheck: "false", maxlength: 128 })),
  el("button", { type: "submit" }, "Show its timeline"));
  const choice = (value, text) => el("option", { value, selected: (query.status || "") === value }, text);
  const form = el("form", {
    class: "search",
    submit: (event) => {
      event.preventDefault();
      const given = Object.fromEntries([...new FormData(form)].map(([key, value]) => [key, value.trim()]));
      if (given.limit === "100") delete given.limit;
      location.hash = listAddress(given);
    },
  },
  field("Customer", el("input", { name: "customer", value: query.customer, autocomplete: "off", maxlength: 128 })),
  field("Status", el("select", { name: "status" }, choice("", "any"), STATUSES.map((one) => choice(one, one)))),
  field("Placed from", el("input", { name: "from", type: "datetime-local", value: query.from })),
  field("Placed until", el("input", { name: "to", type: "datetime-local", value: query.to })),
  field("At once", el("select", { name: "limit" }, ["100", "1000", "10000"].map((value) =>
    el("option", { value, selected: query.limit === value }, value)))),
  el("button", { type: "submit" }, "List"));
  const searched = query.customer || query.status || query.from || query.to;

  main.append(el("h1", {}, "Orders"), find, form,
    section(query.customer ? `Orders of ${query.customer}` : searched ? "Orders of all customers" : "Newest orders", results));
  return searched ? search(results, query) : newest(results);
}

// ---- one ----

export const labels = (order) => Object.entries(order.labels || {}).map(([key, value]) => `${key}=${value}`).join(" ");

export const returned = (order) => (order.returns || []).map((one) => `${lines(one.lines)}${one.reason ? ` (${one.reason})` : ""}`).join("; ");

export function facts(pairs) {
  return el("dl", { class: "facts" }, pairs.filter(([, value]) => value !== null && value !== "")
    .map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))));
}

export function happened(event, now) {
  const later = Date.parse(event.time) > now;
  return el("li", { "data-key": `${event.context} ${event.kind} ${event.time} ${event.stream_id || ""} ${event.text || ""}`, class: `${event.context}${later ? " later" : ""}${/dead|aside/.test(event.kind) ? " wrong" : ""}` },
    el("p", { class: "what" }, el("span", { class: "lane" }, event.context), " ", el("strong", {}, event.kind), " ", time(event.time),
      later ? " (not yet)" : ""),
    event.text ? el("p", { class: "text" }, event.text) : null,
    el("p", { class: "small" }, [event.version ? `version ${event.version}` : "", event.actor ? `by ${event.actor}` : "",
      event.stream_id ? `entry ${event.stream_id}` : ""].filter(Boolean).join(" · ")));
}

function timeline(explained) {
  const { order } = explained;
  const now = Date.now();
  return [
    el("div", { class: "cards" },
      el("div", { class: "card" }, el("h2", {}, "Why it is where it is"), el("p", {}, badge(order.status), " ", explained.because)),
      el("div", { class: "card" }, el("h2", {}, "What happens next"), el("p", {}, explained.next))),
    facts([["Customer", el("a", { href: listAddress({ customer: order.customer_id }) }, order.customer_id)],
      ["Lines", lines(order.lines)], ["Settled", order.settled ? "yes" : "no"], ["Version", String(order.version)],
      ["Reason", order.status_reason], ["Missing", (order.shortages || []).map((one) =>
        one.unknown ? `${one.sku}: no such SKU` : `${one.sku}: ${one.requested} wanted, ${one.available} there`).join("; ")],
      ["Came back", returned(order)],
      ["Placed", time(order.create_time)], ["Changed", time(order.update_time)],
      ["Held until", order.hold_expire_time ? time(order.hold_expire_time) : ""],
      ["Reservation", explained.reservation || "none"],
      ["Trace", explained.trace_id ? el("span", { class: "code" }, explained.trace_id) : ""],
      ["Partition", explained.partition === undefined ? "" : String(explained.partition)],
      ["Labels", labels(order)]]),
    (explained.parts || []).length === 0 ? null : section("Its stock in other partitions", table("Parts", [
      { name: "Partition", number: true, cell: (row) => String(row.partition) },
      { name: "What it has there", cell: (row) => row.text },
    ], explained.parts)),
    section("Timeline", el("ol", { class: "timeline" }, explained.events.map((event) => happened(event, now)))),
  ];
}

export function order(main, id) {
  const place = el("div");
  let ended = false;
  let timer = null;
  let status = null;

  async function refresh(how) {
    let again = true;
    try {
      const answer = await how("/api/order", { id });
      if (ended) return;
      const explained = answer.items[0];
      const now = statusName(explained.order.status);
      if (status !== null && status !== now) say(`The order is ${now} now.`);
      status = now;
      again = !explained.order.settled;
      update(place, answer.said ? note("warn", answer.said) : null, ...timeline(explained));
    } catch (error) {
      if (ended) return;
      again = error.status !== 404 && error.status !== 400;
      update(place, failure(error));
    }
    if (again) wait();
  }
  function wait() {
    timer = setTimeout(() => (document.hidden ? wait() : refresh(askAgain)), REFRESH_MS);
  }
  main.append(el("p", { class: "back" }, el("a", { href: "#/orders" }, "Orders")), el("h1", { class: "code" }, id), place);
  place.append(el("p", { role: "status" }, "Asking …"));
  refresh(ask);
  return () => {
    ended = true;
    clearTimeout(timer);
  };
}

